"""The command line of ``compkit tune``."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from compkit.config import RunConfig
from compkit.data.store import open_store
from compkit.errors import CompkitError
from compkit.inputs import require_utf8
from compkit.root import RUNS_HELP, runs_at
from compkit.training.command import parse

_SETTINGS = "any setting of compkit train (--training.steps 100) is what trials begin from"


def run_command(argv: Sequence[str]) -> None:
    """Parse the command line of ``compkit tune`` and search.

    Raises
    ------
    CompkitError
        For any bad input.
    """
    require_utf8(argv, "a study")
    parser = _parser()
    own, rest = parser.parse_known_args(list(argv))
    from compkit.tuning.space import SIDE, print_space, read_space

    if own.space:
        side = open_store(own.data).size if own.data else SIDE
        print_space(read_space(own.narrow, _base(rest), side), side)
        return
    for name in ("data", "study"):
        if getattr(own, name) is None:
            raise CompkitError(f"--{name} is missing: `compkit tune --help` tells what it takes")
    if min(own.trials, own.halving) < 1 or own.retrain < 0:
        raise CompkitError("--trials and --halving must be at least 1, and --retrain not negative")
    base = _base(rest)
    from compkit.tuning.job import tune

    with runs_at(own.runs):
        tune(
            base,
            own.data,
            own.study,
            read_space(own.narrow, base, open_store(own.data).size),
            trials=own.trials,
            storage=own.storage,
            sampler=own.sampler,
            retrain=own.retrain,
            hold_out=own.hold_out,
            halving=own.halving,
        )


def _base(rest: Sequence[str]) -> RunConfig:
    """Return the configuration that the rest of the command line gives."""
    return parse([*rest, "--data", "-", "--run", "-"])[1]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="compkit tune",
        description="Search settings by their out-of-fold score. The same command goes on with a "
        f"study, also beside other workers; {_SETTINGS}.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "--space", action="store_true",
        help="print what is searched, on images like those of --data, and stop",
    )  # fmt: skip
    parser.add_argument(
        "--narrow", type=Path, metavar="FILE",
        help="YAML that narrows, widens, fixes or adds parts of the space",
    )  # fmt: skip
    parser.add_argument("--data", help="as for compkit train")
    parser.add_argument("--study", help="name of the study, under runs/")
    parser.add_argument("--runs", metavar="DIR", help=RUNS_HELP)
    parser.add_argument(
        "--trials", type=int, default=50, help="of all workers, in the lowest rung (default: 50)"
    )
    parser.add_argument(
        "--storage",
        help="a database's URL or a journal file ending in .log (default: runs/STUDY/study.db)",
    )
    parser.add_argument(
        "--sampler", default="tpe", choices=["tpe", "cmaes", "random", "grid"],
        help="how trials are chosen (default: tpe); on a grid, none is stopped early",
    )  # fmt: skip
    parser.add_argument(
        "--retrain", type=int, default=3,
        help="train so many of the best, and the configuration that trials begin from, again with "
        "another seed (default: 3)",
    )  # fmt: skip
    parser.add_argument(
        "--hold-out", type=int, metavar="FOLD",
        help="a fold by which nothing is chosen: the best is scored on it at the end",
    )  # fmt: skip
    parser.add_argument(
        "--halving", type=int, default=1, metavar="RUNGS",
        help="train most trials for less, by fewer epochs and, of large images, smaller ones: in "
        "each rung for a third of the next one's work, to which its best third goes up "
        "(default: 1, all in full)",
    )  # fmt: skip
    return parser
