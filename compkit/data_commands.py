"""Commands on data: ``phantom``, ``data``, ``folds`` and ``baseline``."""

from __future__ import annotations

import argparse
from pathlib import Path

from compkit.display import print_table
from compkit.entry import DATA_HELP, add_command, add_out


def add_data_commands(commands: argparse._SubParsersAction) -> None:
    """Add them to the command line."""
    p = add_command(commands, "phantom", "write the built-in competition as files", _phantom)
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

    p = add_command(commands, "data", "look at a competition's data")
    actions = p.add_subparsers(title="actions", required=True, metavar="ACTION")
    p = add_command(
        actions, "describe", "print statistics of images and regions, and draw them",
        "compkit.describe.job:describe", "data out",
    )  # fmt: skip
    p.add_argument("--data", required=True, help=DATA_HELP)
    p.add_argument("--out", type=Path, help="a folder for the pictures, and the numbers as JSON")
    p = add_command(
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

    p = add_command(actions, "import", "cut slices from CT volumes with organ masks", _import)
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

    p = add_command(commands, "folds", "split the labelled images for cross-validation", _folds)
    p.add_argument("--data", required=True, help=DATA_HELP)
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
    p.add_argument(
        "--similar",
        action="store_true",
        help="with groups, keep near-duplicates in one fold, too",
    )
    how.add_argument("--random", action="store_true", help="part near-duplicates (scores too high)")

    p = add_command(
        commands, "baseline", "write the submission of a method that is not trained here"
    )
    methods = p.add_subparsers(title="methods", required=True, metavar="METHOD")
    p = add_command(
        methods, "watershed", "the organisers' baseline",
        "compkit.baselines.submission:submit_watershed", "data out tune overwrite",
    )  # fmt: skip
    p.add_argument("--data", required=True, help=DATA_HELP)
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
    folds = make_folds(open_store(a.data), a.k, a.seed, not a.random, a.groups, similar=a.similar)
    folds.write(a.out, a.overwrite)
    told = "{fold} {images} {groups} {regions:.1f} {coverage:.1%}"
    print_table(
        f"{a.out}: {folds.k} folds, seed {a.seed}",
        ["fold", "images", "groups", "regions an image", "pixels labelled"],
        [told.format(**row).split() for row in folds.summary()],
    )
    for doubt in folds.doubts():
        say(doubt)
