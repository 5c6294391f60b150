"""Seconds to weigh many members on many images: `compkit ensemble` on made-up maps.

    python benchmarks/selection.py --members 12 --images 200 --size 256

Maps are the truth of phantoms under smooth noise of each member's own. Nothing is trained.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from contextlib import chdir
from dataclasses import replace
from pathlib import Path

import numpy as np
from scipy.ndimage import gaussian_filter

from compkit.config import FoldsConfig, RunConfig
from compkit.display import print_table
from compkit.ensemble.build import build
from compkit.files import read_json, write_json
from compkit.inference.maps import Origin, write_maps
from compkit.progress import track
from compkit.run import FITTED, ROOT, Run, start_run


def main() -> None:
    """Make the members, weigh them, print how long it took."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--members", type=int, default=12)
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--head", default="boundary")
    a = parser.parse_args()
    config = RunConfig(encoders=("resnet18",), head=a.head, folds=FoldsConfig(k=5))
    data = f"phantom:size={a.size},labelled={a.images},unlabelled=0,test=1"
    with tempfile.TemporaryDirectory() as folder, chdir(folder):
        os.environ["COMPKIT_CACHE"] = str(Path(folder) / "cache")
        names = [f"m{number}" for number in range(a.members)]
        for number, name in enumerate(track(names, "making members", a.members)):
            noisy(start_run(name, replace(config, seed=number), data), 0.5 + 0.1 * number)
        start = time.perf_counter()
        build("best", names)
        seconds = time.perf_counter() - start
        report = read_json(ROOT / "best" / "ensemble.json")["out_of_fold"]
    rows = [[name, f"{found['score']:.4f}"] for name, found in report.items()]
    print_table(f"weighed in {seconds / 60:.1f} min on {os.cpu_count()} cores", ["", "score"], rows)


def noisy(run: Run, strength: float) -> None:
    """Write out-of-fold maps of a run: perfect ones under noise."""
    rng, head = np.random.default_rng(run.config.seed), run.head()
    for encoder, fold in run.parts():
        chosen = run.folds.valid_indices(fold)
        maps = []
        for index in chosen:
            ideal = head.ideal(run.store.labels_of(int(index)).astype(np.int32))
            noise = gaussian_filter(rng.normal(size=ideal.shape), (0, 3, 3))
            maps.append(np.clip(0.15 + 0.7 * ideal + strength * noise / noise.std() / 4, 0, 1))
        part = run.part(encoder, fold)
        images = [run.store.train[int(index)] for index in chosen]
        inference, digest = run.config.inference, "0" * 64  # there is no network
        made = Origin(digest, run.store.content, inference.views, inference.tile)
        write_maps(part / "oof", images, head.maps, maps, made)
        checkpoints = {f"{inference.checkpoint}.ckpt": digest}
        write_json(part / FITTED, {"score": 0.0, "checkpoints": checkpoints})


if __name__ == "__main__":
    main()
