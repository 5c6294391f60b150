"""The command ``compkit``; each command imports what it needs when it runs."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from functools import partial
from importlib import import_module
from pathlib import Path
from pkgutil import resolve_name

from compkit import __version__, plugins
from compkit.display import print_line
from compkit.entry import Parser, guarded
from compkit.errors import CompkitError
from compkit.registry import Registry
from compkit.root import RAY_HELP, RUNS_HELP, runs_at

_DATA = "a folder with a competition's data, or phantom:size=128,labelled=40,... (built in)"
_MOVED = (
    "where the data lie now, if not where the runs were trained; or another test, alone or beside "
    "the same training data"
)

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
    _add_data_commands(commands)
    for name, (_, text) in _WITH_SETTINGS.items():
        _add(commands, name, text)
    _add_run_commands(commands)
    _add_submission_commands(commands)
    _add_others(commands, asked)
    return parser


def _add(
    commands: argparse._SubParsersAction,
    name: str,
    text: str,
    calls: Callable[[argparse.Namespace], None] | str = "",
    takes: str = "",
) -> argparse.ArgumentParser:
    """Add a command and what it calls: a function, or with some arguments a ``"module:name"``."""
    p = commands.add_parser(
        name, help=text, description=text, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    p.set_defaults(command=partial(_call, calls, takes) if isinstance(calls, str) else calls)
    return p


def _call(function: str, takes: str, arguments: argparse.Namespace) -> None:
    resolve_name(function)(*(getattr(arguments, name) for name in takes.split()))


def add_out(p: argparse.ArgumentParser, text: str) -> None:
    """Add what every command has that writes a submission."""
    p.add_argument("--out", type=Path, required=True, help=text)
    p.add_argument("--overwrite", action="store_true", help="replace files that are not compkit's")


def _add_data_commands(commands: argparse._SubParsersAction) -> None:
    p = _add(commands, "phantom", "write the built-in competition as files", _phantom)
    p.add_argument("--out", type=Path, required=True, help="the folder to make")
    p.add_argument("--size", type=int, default=512, help="side of the images, pixels")
    p.add_argument("--labelled", type=int, default=400, help="labelled training images")
    p.add_argument("--unlabelled", type=int, default=1600, help="unlabelled training images")
    p.add_argument("--test", type=int, default=500, help="test images")
    p.add_argument("--seed", type=int, default=0, help="another seed gives other patients")
    p.add_argument(
        "--layout", default="raidium", choices=("raidium", "dsb2018", "isbi2012", "folder", "coco"),
        help="of which competition's files",
    )  # fmt: skip
    p.add_argument(
        "--volumes", type=int, metavar="N",
        help="write N CT volumes of other patients instead, with organ masks, for data import",
    )  # fmt: skip

    p = _add(commands, "data", "look at a competition's data")
    actions = p.add_subparsers(title="actions", required=True, metavar="ACTION")
    p = _add(
        actions, "describe", "print statistics of images and regions, and draw them",
        "compkit.describe.job:describe", "data out",
    )  # fmt: skip
    p.add_argument("--data", required=True, help=_DATA)
    p.add_argument("--out", type=Path, help="a folder for the pictures, and the numbers as JSON")
    p = _add(
        actions, "init", "look at a folder, and write a first competition.yaml into it",
        "compkit.competition.guess:init", "data out",
    )  # fmt: skip
    p.add_argument("--data", type=Path, required=True, help="the folder")
    p.add_argument(
        "--out",
        type=Path,
        metavar="YAML",
        help="write it here; --data takes it then, not the folder",
    )

    p = _add(actions, "import", "cut slices from CT volumes with organ masks", _import)
    p.add_argument("folder", type=Path, metavar="DIR", help="volumes, a folder each")
    p.add_argument("--out", type=Path, required=True, help="the folder to make")
    p.add_argument("--like", metavar="DATA", help="a competition whose looks are imitated")
    p.add_argument("--slices", type=int, default=40, help="of a volume, at most")
    p.add_argument("--classes", type=Path, metavar="FILE", help="a YAML: organ: new name, or null")
    p.add_argument(
        "--organs", default="all", choices=("all", "shown"),
        help="all, or those alone that the labels of --like show, as far as they can be told",
    )  # fmt: skip
    p.add_argument(
        "--unsure", default="missing", choices=("missing", "all"),
        help="cases in which a body outside organs is marked as what nobody looked at: those that "
        "lack the file of an organ, or all",
    )  # fmt: skip
    p.add_argument("--size", type=int, help="side of the slices, pixels")
    p.add_argument("--spacing", type=float, help="width of a pixel, mm")
    p.add_argument("--window", type=float, nargs=2, metavar="HU", help="what is black, and white")
    p.add_argument(
        "--planes", type=float, nargs=3, metavar="SHARE", help="axial, coronal and sagittal"
    )
    p.add_argument("--turn", help="from how a radiologist looks at them: vflip, rot90, ...")
    p.add_argument("--seed", type=int, default=0, help="of the choice of slices")

    p = _add(commands, "folds", "split the labelled images for cross-validation", _folds)
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
    how.add_argument("--random", action="store_true", help="part near-duplicates (scores too high)")

    p = _add(commands, "baseline", "write the submission of a method that is not trained here")
    methods = p.add_subparsers(title="methods", required=True, metavar="METHOD")
    p = _add(
        methods, "watershed", "the organisers' baseline",
        "compkit.baselines.submission:submit_watershed", "data out tune overwrite",
    )  # fmt: skip
    p.add_argument("--data", required=True, help=_DATA)
    add_out(p, "the submission to write")
    p.add_argument("--tune", action="store_true", help="tune it first, and say what that buys")


def _phantom(a: argparse.Namespace) -> None:
    from compkit.competition.phantom import PhantomSettings, write_phantom, write_volumes

    if a.volumes is not None:
        write_volumes(a.out, a.volumes, a.size, a.seed)
        return
    settings = PhantomSettings(a.size, a.labelled, a.unlabelled, a.test, a.seed)
    write_phantom(settings, a.out, a.layout)


def _import(a: argparse.Namespace) -> None:
    from compkit.volumes.job import Import, import_volumes
    from compkit.volumes.slices import settled

    look = settled(a.size, a.spacing, a.window, a.planes, a.turn)
    import_volumes(
        a.folder, a.out, Import(a.slices, a.classes, a.unsure, a.like, look, a.organs, a.seed)
    )


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


def _add_run_commands(commands: argparse._SubParsersAction) -> None:
    p = _add(
        commands, "ensemble", "average the members of trained runs, and say what each brings",
        "compkit.ensemble.build:build", "name names encoder partial data overwrite",
    )  # fmt: skip
    p.add_argument("--name", required=True, help="of the ensemble, as runs/NAME")
    _add_members(p, "a run of compkit train, whose encoders are members; again for more runs")
    p.add_argument("--partial", action="store_true", help="take members that lack folds, too")
    p.add_argument("--overwrite", action="store_true", help="replace an ensemble of other members")

    for name, text, calls in (
        ("submit", "ensemble trained runs into a submission", "compkit.api:submit"),
        ("oof", "write the out-of-fold regions of labelled images, as a submission",
         "compkit.submission.submit:write_out_of_fold"),
    ):  # fmt: skip
        p = _add(commands, name, text, calls, "names out data encoder overwrite")
        _add_members(p, "a run of compkit train, or an ensemble; again for the mean of several")
        add_out(p, "the submission to write, in submissions/")

    p = _add(
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


def _add_members(p: argparse.ArgumentParser, text: str) -> None:
    p.add_argument("--run", dest="names", action="append", required=True, metavar="NAME", help=text)
    p.add_argument("--encoder", help="take the members of this encoder alone")
    p.add_argument("--data", help=_MOVED)
    _add_places(p)


def _add_places(p: argparse.ArgumentParser) -> None:
    p.add_argument("--runs", type=Path, metavar="DIR", help=RUNS_HELP)
    p.add_argument("--ray", metavar="WHERE", help=RAY_HELP)


def _add_submission_commands(commands: argparse._SubParsersAction) -> None:
    p = _add(
        commands, "blend", "combine finished submissions by what they agree on",
        "compkit.blend.job:blend", "inputs out metric weights data overwrite",
    )  # fmt: skip
    p.add_argument("inputs", type=Path, nargs="+", metavar="SUBMISSION", help="two or more")
    add_out(p, "the submission to write, in submissions/")
    metrics = "agree by this one, or by adjusted_foreground or plain_foreground"
    p.add_argument("--metric", default="adjusted_all", help=metrics)
    p.add_argument("--data", help="tells the highest id allowed; else what the inputs hold does")
    p.add_argument("--weights", type=float, nargs="+", metavar="W", help="a number an input")

    p = _add(
        commands, "check", "check that a file is a submission for a competition",
        "compkit.submission.check:check", "submission data",
    )  # fmt: skip
    p.add_argument("submission", type=Path, help="the file to check")
    p.add_argument("--data", required=True, help=_DATA)

    p = _add(
        commands, "score", "score submissions as the leaderboard would",
        "compkit.submission.report:score", "submissions truth json metrics data",
    )  # fmt: skip
    p.add_argument("submissions", type=Path, nargs="+", metavar="SUBMISSION", help="what to score")
    p.add_argument("--truth", type=Path, required=True, help="true labels, as a submission")
    p.add_argument("--data", help=f"{_DATA}, where submissions are no tables of pixels")
    p.add_argument(
        "--metric", dest="metrics", action="append", default=[], metavar="NAME",
        help="score by this one too, which a plugin or package adds; give it again for more",
    )  # fmt: skip
    p.add_argument("--json", action="store_true", help="print everything, per image too, as JSON")

    p = _add(
        commands, "ledger", "show all submissions, and what their public scores tell",
        "compkit.leaderboard.standings:show", "ledger",
    )  # fmt: skip
    where = "the ledger of the submissions"
    p.add_argument("--ledger", type=Path, default=Path("submissions/ledger.csv"), help=where)
    actions = p.add_subparsers(title="instead of showing", metavar="set")
    p = _add(actions, "set", "record what the platform said of a submission", _ledger_set)
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
            p = _add(commands, name, text)
            if fill is not None and name == asked:
                with registry.blaming(name, "cannot be added"):
                    fill(p)


if __name__ == "__main__":
    sys.exit(main())
