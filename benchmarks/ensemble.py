"""What ways of ensembling are worth out of fold, with and without test-time augmentation.

    python benchmarks/ensemble.py --run a --run b --run c

Every encoder of every run is a member. All maps are decoded with the head's default parameters, so
nothing has been tuned on the images. The consensus is of the members' own label maps, as if each
had been submitted. `error` is that of the mean of maps, 1 for it; differences from it are paired,
with half of the 95 % interval, which resamples groups of images.
"""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from compkit.blend.consensus import find_consensus
from compkit.config.files import save
from compkit.display import print_table
from compkit.ensemble.decoder import default_scores
from compkit.ensemble.mixture import Member, Mixture, members_of
from compkit.files import replacing_directory
from compkit.inference.members import write_maps_of
from compkit.intervals import resampling, shown
from compkit.metrics.bootstrap import interval
from compkit.metrics.named import image_scores
from compkit.parallel import each_image
from compkit.root import runs_root
from compkit.run import Run, open_run

MEAN = "mean of maps"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--run", dest="runs", action="append", required=True)
    a = parser.parse_args()
    runs = [open_run(name) for name in a.runs]
    plain = [without_tta(run) for run in runs]
    tables = {"": systems(members_of(runs)), ", no TTA": systems(members_of(plain))}
    best = tables[""][MEAN]
    groups = runs[0].folds.group[runs[0].store.labelled]
    rows = []
    for suffix, found in tables.items():
        for name, scores in found.items():
            rows.append([
                name + suffix,
                f"{scores.mean():.4f} ({shown(interval(scores, groups), '.3f')})",
                f"{(scores - best).mean():+.4f} ± {_half(scores - best, groups)}",
                f"{(1 - scores.mean()) / (1 - best.mean()):.3f}",
            ])  # fmt: skip
    count = len(members_of(runs))
    over = resampling(len(best), groups)
    title = f"{count} members, {len(best)} images out of fold; 95 %: {over}"
    print_table(title, ["system", runs[0].ranking, "over the mean of maps", "error"], rows)


def _half(gains: np.ndarray, groups: np.ndarray) -> str:
    low, high = interval(gains, groups)
    return "n/a" if np.isnan(low) else f"{(high - low) / 2:.4f}"


def systems(members: list[Member]) -> dict[str, np.ndarray]:
    """Return each system's score of every image."""
    whole = Mixture(members)
    images = list(whole.images)
    return {
        **{member.name: default_scores(Mixture([member]), images) for member in members},
        MEAN: default_scores(whole, images),
        "consensus of label maps": consensus(members, images),
    }


def consensus(members: list[Member], images: list[str]) -> np.ndarray:
    """Return the score of every image under the consensus of the members' regions."""
    run = members[0].run
    size = (run.store.size, run.store.size)
    truths = [run.store.labels_of(run.store.train.index(image)) for image in images]
    heads = [Mixture([member]) for member in members]

    def jobs() -> Iterator[tuple[np.ndarray, np.ndarray, str]]:
        for image, truth in zip(images, truths, strict=True):
            decoded = [
                one.head.decode(one.out_of_fold(image), one.head.defaults, size) for one in heads
            ]
            yield truth, np.stack(decoded), run.ranking

    pixels = len(images) * len(members) * size[0] * size[1]
    return np.array(list(each_image(agreed, jobs(), "consensus", len(images), pixels)))


def agreed(truth: np.ndarray, labels: np.ndarray, metric: str) -> float:
    """Return the score of one image's consensus."""
    return image_scores(truth, find_consensus(labels, np.ones(len(labels)), metric).labels)[metric]


def without_tta(run: Run) -> Run:
    """Return a copy of a run, kept beside it, whose maps are of the plain images alone."""
    name = f"{run.name}-no-tta"
    if not (runs_root() / name).exists():
        with replacing_directory(runs_root() / name) as copy:
            shutil.copytree(run.directory, copy, dirs_exist_ok=True)
            config = replace(
                run.config, inference=replace(run.config.inference, views=("identity",))
            )
            save(config, copy / "config.yaml")
    plain = open_run(name)
    for encoder, fold in plain.parts():
        write_maps_of(plain, encoder, fold)
    return plain


if __name__ == "__main__":
    main()
