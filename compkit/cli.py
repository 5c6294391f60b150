"""The command ``compkit``; each command imports what it needs when it runs."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

from compkit import __version__, plugins
from compkit.data_commands import add_data_commands
from compkit.display import print_line
from compkit.entry import DATA_HELP, Parser, add_command, add_out, guarded
from compkit.errors import CompkitError
from compkit.registry import Registry
from compkit.root import RAY_HELP, RUNS_HELP, runs_at

_MOVED = "where the data lie now, if not where the runs were trained"
_MOVED_OR_TEST = f"{_MOVED}; or another test, alone or beside the same training data"

#: Commands that take every setting of a run, which their own modules parse; and what they do.
_WITH_SETTINGS = {
    "train": ("compkit.training.command", "train a run: every fold × encoder"),
    "tune": ("compkit.tuning.command", "search the settings of a run by their out-of-fold score"),
}

#: Commands of the package in research/, which may not be installed; and what they do.
_RESEARCH = {
    "pretrain": "train encoders on all images, without labels",
    "sam": "write the masks of Segment Anything as a submission",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    return guarded(lambda: _run(sys.argv[1:] if argv is None else argv))


def _run(argv: Sequence[str]) -> None:
    words = _without_plugins(argv)
    asked = next((word for word in words if not word.startswith("-")), None)
    parser = _parser(asked)
    if words and words[0] in _WITH_SETTINGS:
        import_module(_WITH_SETTINGS[words[0]][0]).run_command(words[1:])
        return
    arguments = parser.parse_args(words)
    from compkit.cluster import on_ray  # here, since help answers at once

    with runs_at(getattr(arguments, "runs", None)), on_ray(getattr(arguments, "ray", None)):
        arguments.command(arguments)


def _without_plugins(argv: Sequence[str]) -> list[str]:
    """Return a command line without its plugins, which are imported; help is given without them."""
    words, files = plugins.parted(argv)
    try:
        for file in files:
            plugins.add(file)
        plugins.load()
    except CompkitError as error:
        if not {"-h", "--help", "--version"} & set(words):
            raise
        print_line(f"without plugins, since {error}\n")
        plugins.clear()
    return words


def _parser(asked: str | None = None) -> argparse.ArgumentParser:
    parser = Parser(
        prog="compkit",
        allow_abbrev=False,  # as plugins are taken by their whole option
        description="Segmentation competitions whose labels are regions without names. "
        "`compkit COMMAND --help` tells what a command takes.",
    )
    parser.add_argument("--version", action="version", version=f"compkit {__version__}")
    parser.add_argument("--plugin", metavar="FILE.py", help=plugins.HELP)
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    add_data_commands(commands)
    for name, (_, text) in _WITH_SETTINGS.items():
        add_command(commands, name, text)
    _add_run_commands(commands)
    _add_submission_commands(commands)
    _add_others(commands, asked)
    return parser


def _add_run_commands(commands: argparse._SubParsersAction) -> None:
    p = add_command(
        commands, "ensemble", "average the members of trained runs, and say what each brings",
        "compkit.ensemble.build:build", "name names encoder partial data overwrite",
    )  # fmt: skip
    p.add_argument("--name", required=True, help="of the ensemble, as runs/NAME")
    _add_members(
        p, "a run of compkit train, whose encoders are members; again for more runs", _MOVED
    )
    p.add_argument("--partial", action="store_true", help="take members that lack folds, too")
    p.add_argument("--overwrite", action="store_true", help="replace an ensemble of other members")

    for name, text, calls in (
        ("submit", "ensemble trained runs into a submission", "compkit.api:submit"),
        ("oof", "write the out-of-fold regions of labelled images, as a submission",
         "compkit.submission.submit:write_out_of_fold"),
    ):  # fmt: skip
        p = add_command(commands, name, text, calls, "names out data encoder overwrite")
        text = "a run of compkit train, or an ensemble; again for the mean of several"
        _add_members(p, text, _MOVED_OR_TEST if name == "submit" else _MOVED)
        add_out(p, "the submission to write, in submissions/")

    p = add_command(
        commands, "predict", "write label maps of any folder of images, as PNGs",
        "compkit.ensemble.folder:predict_folder", "run images out overlay overwrite",
    )  # fmt: skip
    p.add_argument(
        "--run", required=True, metavar="NAME",
        help="a run of compkit train or an ensemble, by name or directory; or one .ckpt file",
    )  # fmt: skip
    p.add_argument("--images", type=Path, required=True, metavar="DIR", help="PNG, JPEG or TIFF")
    p.add_argument("--out", type=Path, required=True, metavar="DIR", help="the folder to write to")
    p.add_argument("--overlay", action="store_true", help="draw regions' outlines into overlay/")
    p.add_argument("--overwrite", action="store_true", help="replace files that are not compkit's")
    _add_places(p)


def _add_members(p: argparse.ArgumentParser, text: str, data: str) -> None:
    p.add_argument("--run", dest="names", action="append", required=True, metavar="NAME", help=text)
    p.add_argument("--encoder", help="take the members of this encoder alone")
    p.add_argument("--data", help=data)
    _add_places(p)


def _add_places(p: argparse.ArgumentParser) -> None:
    p.add_argument("--runs", type=Path, metavar="DIR", help=RUNS_HELP)
    p.add_argument("--ray", metavar="WHERE", help=RAY_HELP)


def _add_submission_commands(commands: argparse._SubParsersAction) -> None:
    p = add_command(
        commands, "blend", "combine finished submissions by what they agree on",
        "compkit.blend.job:blend", "inputs out metric weights data overwrite",
    )  # fmt: skip
    p.add_argument("inputs", type=Path, nargs="+", metavar="SUBMISSION", help="two or more")
    add_out(p, "the submission to write, in submissions/")
    metrics = "what they agree by: adjusted_all, adjusted_foreground or plain_foreground"
    p.add_argument("--metric", default="adjusted_all", help=metrics)
    p.add_argument("--data", help="tells the highest id allowed; else what the inputs hold does")
    p.add_argument("--weights", type=float, nargs="+", metavar="W", help="a number an input")

    p = add_command(
        commands, "check", "check that a file is a submission for a competition",
        "compkit.submission.check:check", "submission data",
    )  # fmt: skip
    p.add_argument("submission", type=Path, help="the file to check")
    p.add_argument("--data", required=True, help=DATA_HELP)

    p = add_command(
        commands, "score", "score submissions as the leaderboard would",
        "compkit.submission.report:score", "submissions truths json metrics data",
    )  # fmt: skip
    p.add_argument("submissions", type=Path, nargs="+", metavar="SUBMISSION", help="what to score")
    p.add_argument(
        "--truth", dest="truths", action="append", type=Path, required=True, metavar="FILE",
        help="true labels, as a submission; give it again for other annotators, whose mean is told",
    )  # fmt: skip
    p.add_argument("--data", help=f"{DATA_HELP}, where submissions are no tables of pixels")
    p.add_argument(
        "--metric", dest="metrics", action="append", default=[], metavar="NAME",
        help="score by this one too, of docs/scores.md or added; give it again for more",
    )  # fmt: skip
    p.add_argument("--json", action="store_true", help="print everything, per image too, as JSON")

    p = add_command(
        commands, "ledger", "show all submissions, and what their public scores tell",
        "compkit.leaderboard.standings:show", "ledger",
    )  # fmt: skip
    where = "the ledger of the submissions"
    p.add_argument("--ledger", type=Path, default=Path("submissions/ledger.csv"), help=where)
    actions = p.add_subparsers(title="in place of showing", metavar="ACTION")
    p = add_command(actions, "set", "record what the platform said of a submission", _ledger_set)
    p.add_argument("id", metavar="ID", help="its number in the ledger, or its file name")
    p.add_argument("--public", type=float, help="its public score")
    p.add_argument("--private", type=float, help="its private score")
    p.add_argument("--ledger", type=Path, default=argparse.SUPPRESS, help=where)


def _ledger_set(a: argparse.Namespace) -> None:
    from compkit.leaderboard.ledger import set_scores

    scores = {name: value for name in ("public", "private") if (value := vars(a)[name]) is not None}
    print_line(f"{a.ledger}: {set_scores(a.ledger, a.id, scores)}")


def _add_others(commands: argparse._SubParsersAction, asked: str | None) -> None:
    """Add what packages and plugins add; only the command that is asked for is imported."""
    own = dict.fromkeys(commands.choices, "compkit.cli:main")
    registry = Registry("compkit.commands", "command", own)
    if asked in _RESEARCH and asked not in registry.names():
        way = "run pip install ./research in the folder of compkit"
        raise CompkitError(f"compkit {asked} comes with the package of research/: {way}")
    fill = registry.get(asked) if asked is not None else None
    for name in registry.names():
        if name not in own:
            text = _RESEARCH.get(name, f"from {registry.origin(name)}").replace("%", "%%")
            p = add_command(commands, name, text)
            if fill is not None and name == asked:
                with registry.blaming(name, "cannot be added"):
                    fill(p)
                if p.get_default("command") is None:
                    wanted = "a function, by parser.set_defaults(command=…),"
                    registry.refuse(name, "command", None, wanted)


if __name__ == "__main__":
    sys.exit(main())
