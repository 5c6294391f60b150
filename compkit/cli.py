"""The command ``compkit``; each command imports what it needs when it runs."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

from compkit import __version__, plugins
from compkit.display import print_line
from compkit.entry import guarded
from compkit.errors import CompkitError
from compkit.registry import Registry
from compkit.root import RUNS_HELP, runs_at

_DATA = "a folder in the challenge's layout, or phantom:size=128,labelled=40,... (embedded)"

#: Commands that take every setting of a run, which their own modules parse; and what they do.
_WITH_SETTINGS = {
    "train": ("compkit.training.command", "train a run: every fold × encoder"),
    "tune": ("compkit.tuning.command", "search the settings of a run by their out-of-fold score"),
}

#: Commands of the package in research/, which may not be installed.
_RESEARCH = ("pretrain", "sam")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    return guarded(lambda: _run(sys.argv[1:] if argv is None else argv))


def _run(argv: Sequence[str]) -> None:
    words = plugins.take(argv)
    asked = next((word for word in words if not word.startswith("-")), None)
    parser = _parser(asked)
    if words and words[0] in _WITH_SETTINGS:
        import_module(_WITH_SETTINGS[words[0]][0]).run_command(words[1:])
        return
    arguments = parser.parse_args(words)
    with runs_at(getattr(arguments, "runs", None)):
        arguments.command(arguments)


def _parser(asked: str | None = None) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="compkit",
        allow_abbrev=False,  # as plugins are taken by their whole option
        description="Segmentation competitions whose labels are regions without names. "
        "`compkit COMMAND --help` tells what a command takes.",
    )
    parser.add_argument("--version", action="version", version=f"compkit {__version__}")
    parser.add_argument("--plugin", metavar="FILE.py", help=plugins.HELP)
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    _add_phantom(commands)
    _add_data(commands)
    _add_folds(commands)
    _add_baseline(commands)
    for name, (_, text) in _WITH_SETTINGS.items():
        _add(commands, name, text)
    _add_ensemble(commands)
    _add_submit(commands)
    _add_predict(commands)
    _add_oof(commands)
    _add_blend(commands)
    _add_check(commands)
    _add_score(commands)
    _add_ledger(commands)
    _add_others(commands, asked)
    return parser


def _add(commands: argparse._SubParsersAction, name: str, text: str) -> argparse.ArgumentParser:
    return commands.add_parser(
        name, help=text, description=text, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )


def _add_runs(p: argparse.ArgumentParser) -> None:
    p.add_argument("--runs", type=Path, metavar="DIR", help=RUNS_HELP)


def add_out(p: argparse.ArgumentParser, text: str) -> None:
    """Add what every command has that writes a submission."""
    p.add_argument("--out", type=Path, required=True, help=text)
    p.add_argument(
        "--overwrite", action="store_true",
        help="replace a file there, and where its manifest belongs, even if compkit did not write "
        "it or it was edited",
    )  # fmt: skip


def _add_phantom(commands: argparse._SubParsersAction) -> None:
    p = _add(commands, "phantom", "write the embedded competition in the challenge's layout")
    p.add_argument("--out", type=Path, required=True, help="the folder to make")
    p.add_argument("--size", type=int, default=512, help="side of the images, pixels")
    p.add_argument("--labelled", type=int, default=400, help="labelled training images")
    p.add_argument("--unlabelled", type=int, default=1600, help="unlabelled training images")
    p.add_argument("--test", type=int, default=500, help="test images")
    p.add_argument("--seed", type=int, default=0, help="another seed gives other patients")
    p.set_defaults(command=_phantom)


def _phantom(a: argparse.Namespace) -> None:
    from compkit.competition.phantom import PhantomSettings, write_phantom

    settings = PhantomSettings(a.size, a.labelled, a.unlabelled, a.test, a.seed)
    write_phantom(settings, a.out)


def _add_data(commands: argparse._SubParsersAction) -> None:
    p = _add(commands, "data", "look at a competition's data")
    actions = p.add_subparsers(title="actions", required=True, metavar="ACTION")
    d = _add(actions, "describe", "print statistics of images and regions, and draw them")
    d.add_argument("--data", required=True, help=_DATA)
    d.add_argument("--out", type=Path, help="a folder for the pictures, and the numbers as JSON")
    d.set_defaults(command=_describe)


def _describe(a: argparse.Namespace) -> None:
    from compkit.describe.job import describe

    describe(a.data, a.out)


def _add_folds(commands: argparse._SubParsersAction) -> None:
    p = _add(commands, "folds", "split the labelled images for cross-validation")
    p.add_argument("--data", required=True, help=_DATA)
    p.add_argument("--out", type=Path, required=True, help="the CSV to write, in folds/")
    p.add_argument("--k", type=int, default=5, help="number of folds")
    p.add_argument("--seed", type=int, default=0, help="seed of the split")
    p.add_argument("--overwrite", action="store_true", help="replace the CSV if it exists")
    how = p.add_mutually_exclusive_group()
    how.add_argument(
        "--groups", type=Path, metavar="FILE",
        help="a CSV with the columns image and group (or patient): what stays in one fold, instead "
        "of near-duplicates found by similarity",
    )  # fmt: skip
    how.add_argument(
        "--random",
        action="store_true",
        help="let near-duplicate slices fall on both sides (overstates scores)",
    )
    p.set_defaults(command=_folds)


def _folds(a: argparse.Namespace) -> None:
    from compkit.data.store import open_store
    from compkit.folds import make_folds
    from compkit.folds.table import claim_folds
    from compkit.progress import say

    claim_folds(a.out, a.overwrite, a.groups)
    folds = make_folds(open_store(a.data), a.k, a.seed, grouped=not a.random, groups=a.groups)
    folds.write(a.out, a.overwrite)
    print_line(f"{a.out}: {' '.join(f'{key}={value}' for key, value in folds.made.items())}")
    print_line("fold  images  groups  regions  coverage")
    line = "{fold:4}  {images:6}  {groups:6}  {regions:7.1f}  {coverage:8.3f}"
    for row in folds.summary():
        print_line(line.format(**row))
    for doubt in folds.doubts():
        say(doubt)


def _add_baseline(commands: argparse._SubParsersAction) -> None:
    p = _add(commands, "baseline", "write the submission of a method that is not trained here")
    methods = p.add_subparsers(title="methods", required=True, metavar="METHOD")
    w = _add(methods, "watershed", "the organisers' baseline")
    w.add_argument("--data", required=True, help=_DATA)
    add_out(w, "the CSV to write")
    w.add_argument(
        "--tune", action="store_true",
        help="tune its parameters on the labelled images first, and say what that buys out of fold",
    )  # fmt: skip
    w.set_defaults(command=_watershed)


def _watershed(a: argparse.Namespace) -> None:
    from compkit.baselines.submission import submit_watershed

    submit_watershed(a.data, a.out, a.tune, a.overwrite)


def _add_ensemble(commands: argparse._SubParsersAction) -> None:
    p = _add(commands, "ensemble", "average the members of trained runs, and say what each brings")
    p.add_argument("--name", required=True, help="of the ensemble, as runs/NAME")
    p.add_argument(
        "--run", dest="names", action="append", required=True, metavar="NAME",
        help="a run of compkit train, whose encoders are members; give it again for more runs",
    )  # fmt: skip
    p.add_argument("--encoder", help="take the members of this encoder alone")
    p.add_argument("--partial", action="store_true", help="take members that lack folds, too")
    p.add_argument("--overwrite", action="store_true", help="replace an ensemble of other members")
    p.add_argument(
        "--data", help="where the data lie now, if not where the runs were trained; or the same "
        "training data beside another test",
    )  # fmt: skip
    _add_runs(p)
    p.set_defaults(command=_ensemble)


def _ensemble(a: argparse.Namespace) -> None:
    from compkit.ensemble.build import build

    build(a.name, a.names, a.encoder, a.partial, a.data, a.overwrite)


def _add_submit(commands: argparse._SubParsersAction) -> None:
    p = _add(commands, "submit", "ensemble trained runs into a submission")
    _add_members(p)
    p.set_defaults(command=_submit)


def _add_members(p: argparse.ArgumentParser) -> None:
    p.add_argument(
        "--run", dest="names", action="append", required=True, metavar="NAME",
        help="a run of compkit train, or an ensemble; give it again for the mean of several runs",
    )  # fmt: skip
    add_out(p, "the CSV to write, in submissions/")
    p.add_argument("--encoder", help="take the members of this encoder alone")
    p.add_argument(
        "--data", help="where the data lie now, if not where the runs were trained; or the same "
        "training data beside another test",
    )  # fmt: skip
    _add_runs(p)


def _submit(a: argparse.Namespace) -> None:
    from compkit.api import submit

    submit(a.names, a.out, a.data, a.encoder, a.overwrite)


def _add_predict(commands: argparse._SubParsersAction) -> None:
    p = _add(commands, "predict", "write label maps of any folder of images, as PNGs")
    p.add_argument(
        "--run", required=True, metavar="NAME",
        help="a run of compkit train or an ensemble, by name or directory; or one .ckpt file",
    )  # fmt: skip
    p.add_argument("--images", type=Path, required=True, metavar="DIR", help="PNG, JPEG or TIFF")
    p.add_argument("--out", type=Path, required=True, metavar="DIR", help="the folder to write to")
    p.add_argument("--overlay", action="store_true", help="draw regions' outlines into overlay/")
    p.add_argument("--overwrite", action="store_true", help="replace files that are not compkit's")
    _add_runs(p)
    p.set_defaults(command=_predict)


def _predict(a: argparse.Namespace) -> None:
    from compkit.ensemble.folder import predict_folder

    predict_folder(a.run, a.images, a.out, a.overlay, a.overwrite)


def _add_oof(commands: argparse._SubParsersAction) -> None:
    p = _add(commands, "oof", "write the out-of-fold regions of labelled images, as a CSV")
    _add_members(p)
    p.set_defaults(command=_oof)


def _oof(a: argparse.Namespace) -> None:
    from compkit.submission.submit import write_out_of_fold

    write_out_of_fold(a.names, a.out, data=a.data, encoder=a.encoder, overwrite=a.overwrite)


def _add_blend(commands: argparse._SubParsersAction) -> None:
    p = _add(commands, "blend", "combine finished submissions by what they agree on")
    p.add_argument("inputs", type=Path, nargs="+", metavar="SUBMISSION", help="two CSVs or more")
    add_out(p, "the CSV to write, in submissions/")
    p.add_argument(
        "--metric", default="adjusted_all",
        help="agree by this: adjusted_all, adjusted_foreground or plain_foreground",
    )  # fmt: skip
    p.add_argument(
        "--data", help="the competition's data, to tell the highest id that a submission may hold; "
        "else the inputs' manifests do, or their type of integers",
    )  # fmt: skip
    p.add_argument("--weights", type=float, nargs="+", metavar="W", help="a number an input")
    p.set_defaults(command=_blend)


def _blend(a: argparse.Namespace) -> None:
    from compkit.blend.job import blend

    blend(a.inputs, a.out, a.metric, a.weights, a.data, a.overwrite)


def _add_check(commands: argparse._SubParsersAction) -> None:
    p = _add(commands, "check", "check that a file is a submission for a competition")
    p.add_argument("submission", type=Path, help="the CSV to check")
    p.add_argument("--data", required=True, help=_DATA)
    p.set_defaults(command=_check)


def _check(a: argparse.Namespace) -> None:
    from compkit.competition import competition_of
    from compkit.submission.check import background_only, check_submission

    competition = competition_of(a.data)
    source = competition.source(a.data)
    size = source.image("test", 0).shape[0]
    table = check_submission(a.submission, source.test, size, competition.rules.max_label)
    count, side = len(table.images), table.labels.shape[1]
    print_line(f"{a.submission}: a sound submission of {count} images of {side}×{side}")
    if bare := background_only(table.labels):
        print_line(bare)


def _add_score(commands: argparse._SubParsersAction) -> None:
    p = _add(commands, "score", "score submissions as the leaderboard would")
    p.add_argument("submissions", type=Path, nargs="+", metavar="SUBMISSION", help="CSVs to score")
    p.add_argument("--truth", type=Path, required=True, help="the CSV of true labels")
    p.add_argument(
        "--metric", dest="metrics", action="append", default=[], metavar="NAME",
        help="score by this one too, which a plugin or package adds; give it again for more",
    )  # fmt: skip
    p.add_argument("--json", action="store_true", help="print everything, per image too, as JSON")
    p.set_defaults(command=_score)


def _score(a: argparse.Namespace) -> None:
    from compkit.submission.report import score

    score(a.submissions, a.truth, a.json, a.metrics)


def _add_ledger(commands: argparse._SubParsersAction) -> None:
    p = _add(commands, "ledger", "show all submissions, and what their public scores tell")
    where = "the ledger of the submissions"
    p.add_argument("--ledger", type=Path, default=Path("submissions/ledger.csv"), help=where)
    p.set_defaults(command=_ledger)
    actions = p.add_subparsers(title="instead of showing", metavar="set")
    s = _add(actions, "set", "record what the platform said of a submission")
    s.add_argument("id", metavar="ID", help="its number in the ledger, or its file name")
    s.add_argument("--public", type=float, help="its public score")
    s.add_argument("--private", type=float, help="its private score")
    s.add_argument("--ledger", type=Path, default=argparse.SUPPRESS, help=where)
    s.set_defaults(command=_ledger_set)


def _ledger(a: argparse.Namespace) -> None:
    from compkit.leaderboard.standings import show

    show(a.ledger)


def _ledger_set(a: argparse.Namespace) -> None:
    from compkit.leaderboard.ledger import set_scores

    given = {"public": a.public, "private": a.private}
    known = {name: score for name, score in given.items() if score is not None}
    print_line(f"{a.ledger}: {set_scores(a.ledger, a.id, known)}")


def _add_others(commands: argparse._SubParsersAction, asked: str | None) -> None:
    """Add what packages and plugins add; only the command that is asked for is imported."""
    own = dict.fromkeys(commands.choices, "compkit.cli:main")
    registry = Registry("compkit.commands", "command", own)
    if asked in _RESEARCH and asked not in registry.names():
        raise CompkitError(
            f"compkit {asked} comes with the package of research/: run pip install ./research in "
            "the folder of compkit"
        )
    fill = registry.get(asked) if asked is not None else None
    for name in registry.names():
        if name not in own:
            p = _add(commands, name, f"from {registry.origin(name)}".replace("%", "%%"))
            if fill is not None and name == asked:
                fill(p)


if __name__ == "__main__":
    sys.exit(main())
