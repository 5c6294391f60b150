"""What a random split overstates, compared with one that keeps near-duplicate slices together.

    python benchmarks/leak.py --data DIR --config configs/ct-mini.yaml [--truth Y_test.csv]

Trains the same configuration under both splits (runs leak-random and leak-grouped) and prints their
out-of-fold scores; with the true test labels, also what each then scores on the test.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

from compkit.competition.table import read_table
from compkit.display import print_table
from compkit.ensemble.build import open_mixture
from compkit.intervals import resampling, shown
from compkit.submission.report import score_maps
from compkit.submission.submit import submit

METRIC = "adjusted_all"
TRAIN = Path(__file__).parents[1] / "train.py"


def main() -> None:
    """Train twice, print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--data", required=True)
    parser.add_argument("--config", required=True)
    parser.add_argument("--truth", type=Path)
    arguments, settings = parser.parse_known_args()
    rows = []
    for split, grouped in (("random", "false"), ("grouped", "true")):
        run = f"leak-{split}"
        command = [sys.executable, str(TRAIN), "--config", arguments.config, "--run", run]
        command += ["--data", arguments.data, "--folds.grouped", grouped, *settings]
        subprocess.run(command, check=True)
        _, decoder = open_mixture([run])
        over = resampling(decoder.images, decoder.image_groups)
        cells = [split, f"{decoder.scores[METRIC]:.4f}", f"{shown(decoder.interval)}, {over}"]
        if arguments.truth is not None:
            cells += _test_score(run, arguments.truth, decoder.scores[METRIC])
        rows.append(cells)
    columns = ["split", "out-of-fold", "95 %"]
    if arguments.truth is not None:
        columns += ["test", "out-of-fold − test", "ratio of errors, test / out-of-fold"]
    print_table(f"{METRIC}, {arguments.data}", columns, rows)


def _test_score(run: str, truth: Path, expected: float) -> list[str]:
    out = Path("submissions") / f"{run}.csv"
    submit([run], out)
    reached = score_maps(read_table(truth).by_name, read_table(out).by_name, str(out)).means[METRIC]
    return [f"{reached:.4f}", f"{expected - reached:+.4f}", f"{(1 - reached) / (1 - expected):.2f}"]


if __name__ == "__main__":
    main()
