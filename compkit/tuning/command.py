"""The command line of ``compkit tune``."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import yaml

from compkit.cluster import on_ray
from compkit.config import RunConfig
from compkit.display import print_text
from compkit.entry import Parser
from compkit.errors import CompkitError
from compkit.inputs import require_utf8
from compkit.root import RAY_HELP, RUNS_HELP, runs_at
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
    own, rest = _parser().parse_known_args(list(argv))
    from compkit.tuning.space import read_space

    options = vars(own)
    narrow, only_print, runs, ray = (options.pop(n) for n in ("narrow", "space", "runs", "ray"))
    space = read_space(narrow, _base(rest))
    if only_print:
        text = yaml.safe_dump(space.plain(), sort_keys=False, default_flow_style=None, width=100)
        print_text(text)
        return
    for name in ("data", "study"):
        if options[name] is None:
            raise CompkitError(f"--{name} is missing: `compkit tune --help` tells what it takes")
    if own.trials < 1 or own.retrain < 0:
        raise CompkitError("--trials must be at least 1, and --retrain not negative")
    from compkit.tuning.job import tune

    with runs_at(runs), on_ray(ray):
        tune(options.pop("data"), options.pop("study"), space, **options)


def _base(rest: Sequence[str]) -> RunConfig:
    """Return the configuration that the rest of the command line gives."""
    return parse([*rest, "--data", "-", "--run", "-"])[1]


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="compkit tune",
        description="Search settings by their out-of-fold score. The same command goes on with a "
        f"study, also beside other workers; {_SETTINGS}.",
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("--space", action="store_true", help="print what is searched, and stop")
    add("--narrow", type=Path, metavar="FILE",
        help="YAML that narrows, widens, fixes or adds parts of the space")  # fmt: skip
    add("--data", help="as for compkit train")
    add("--study", help="name of the study, under runs/")
    add("--runs", metavar="DIR", help=RUNS_HELP)
    add("--ray", metavar="WHERE", help=RAY_HELP)
    add("--trials", type=int, default=50,
        help="of all workers, the configuration itself included (default: 50)")  # fmt: skip
    add(
        "--storage",
        help="a database's URL or a journal file ending in .log (default: runs/STUDY/study.db)",
    )
    add("--sampler", default="tpe", choices=["tpe", "random", "grid"],
        help="how trials are chosen (default: tpe)")  # fmt: skip
    add("--pruner", default="wilcoxon", choices=["wilcoxon", "halving", "hyperband", "none"],
        help="when a trial is stopped early: behind the best one on the folds that are done, "
        "beyond chance (wilcoxon, the default); not among the best third at an epoch (halving, "
        "hyperband); never (none)")  # fmt: skip
    add("--retrain", type=int, default=3,
        help="train so many of the best, and the configuration that trials begin from, again with "
        "another seed (default: 3)")  # fmt: skip
    add("--hold-out", type=int, metavar="FOLD",
        help="a fold by which nothing is chosen: the best is scored on it at the end")  # fmt: skip
    return parser
