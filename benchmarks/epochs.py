"""How much too good a score is where the best epoch was chosen on the very fold that it is of.

    python benchmarks/epochs.py --data DIR --config configs/demo.yaml [--seeds 2] [--SETTING VALUE]

DIR must hold the truth of the test, as `compkit phantom --out DIR` writes it. Each seed is a run,
trained once and predicted from its last epochs and its best ones; `all seeds` is the mean of their
networks. Printed are scores out of fold and of the test, and what choosing epochs gained on each:
the gain out of fold that the test does not confirm is optimism.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

from compkit.competition.table import read_table
from compkit.display import print_table
from compkit.ensemble.build import open_mixture
from compkit.submission.report import score_maps
from compkit.submission.submit import submit

METRIC = "adjusted_all"
TRAIN = Path(__file__).parents[1] / "train.py"


def main() -> None:
    """Train every seed, predict each twice, print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--data", required=True)
    parser.add_argument("--config", required=True)
    parser.add_argument("--seeds", type=int, default=2)
    arguments, settings = parser.parse_known_args()
    runs = [f"epochs-{seed}" for seed in range(arguments.seeds)]
    systems = {run: [run] for run in runs} | {"all seeds": runs}
    truth = Path(arguments.data) / "Y_test.csv"
    scores: dict[str, dict[str, tuple[float, float]]] = {}
    for kept in ("last", "best"):
        for seed, run in enumerate(runs):
            command = [sys.executable, str(TRAIN), "--config", arguments.config, "--run", run]
            command += ["--data", arguments.data, "--seed", str(seed), *settings]
            subprocess.run([*command, "--inference.checkpoint", kept], check=True)
        scores[kept] = {name: _scores(names, truth) for name, names in systems.items()}
    rows = []
    for name in systems:
        (last, last_test), (best, best_test) = scores["last"][name], scores["best"][name]
        numbers = (last, best, best - last, last_test, best_test, best_test - last_test)
        optimism = (best - last) - (best_test - last_test)
        rows.append([name, *(f"{number:.4f}" for number in numbers), f"{optimism:+.4f}"])
    columns = ["last", "best", "gain", "test, last", "test, best", "gain", "optimism"]
    print_table(f"{METRIC} out of fold and of the test", ["run", *columns], rows)


def _scores(runs: list[str], truth: Path) -> tuple[float, float]:
    """Return what a mean of runs scores out of fold and on the test."""
    _, decoder = open_mixture(runs)
    out = Path("submissions") / "epochs.csv"
    submit(runs, out, overwrite=True)
    report = score_maps(read_table(truth).by_name, read_table(out).by_name, str(out))
    return decoder.scores[METRIC], report.means[METRIC]


if __name__ == "__main__":
    main()
