"""What is kept of a run that was trained for docs/results.md, as a line of JSON each."""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from compkit.competition.phantom import PhantomSettings, PhantomSource
from compkit.config import RunConfig
from compkit.config.files import to_plain
from compkit.ensemble.build import open_mixture
from compkit.ensemble.decoder import Decoder, out_of_fold_regions, tune_decoder
from compkit.ensemble.mixture import Mixture
from compkit.ensemble.model import Model
from compkit.metrics.rand import METRICS
from compkit.run import open_run, read_fitted
from compkit.schema import checked
from compkit.submission.report import Report, report_of

#: Digits after the point of a score in a record.
_DIGITS = 4


@dataclass(frozen=True)
class Record:
    """One system on one data set: a run, or the mean of several.

    Attributes
    ----------
    variant, seed, data
        What was trained, on which data (the locator without its folder).
    digest
        Of the data (`compkit.data.store.Store.content`).
    settings
        Where the configuration differs from the defaults, by dotted name; of the first run.
    runs
        What it is the mean of.
    groups
        Of each labelled image: those of one group belong together.
    scores, other
        By metric, one value a labelled image, out of fold; decoders tuned on other folds for the
        first metric, and for the second.
    sizes
        Mean IoU of true regions by class of their size, out of fold.
    test
        By metric, one value a test image; None where its truth is not known.
    best, last
        Mean over fits of the highest and the last epoch's score of the fold that validates.
    seconds, steps
        Of fitting one network, mean over fits; optimiser steps.
    decode
        Milliseconds to cut one image into regions, median.
    machine, date
        Where and when.
    """

    variant: str
    seed: int
    data: str
    digest: str
    settings: dict[str, Any]
    runs: list[str]
    groups: list[str]
    scores: dict[str, list[float]]
    other: dict[str, list[float]]
    sizes: dict[str, float]
    test: dict[str, list[float]] | None
    best: float
    last: float
    seconds: float
    steps: int
    decode: float
    machine: str
    date: str


def read_records(paths: Iterable[Path]) -> list[Record]:
    """Read files of records; of two of the same system, the later stands."""
    found = {}
    for path in paths:
        for line in path.read_text().splitlines():
            one = checked(Record, json.loads(line), str(path), "correct it")
            found[one.data, one.variant, one.seed] = one
    return list(found.values())


def record(variant: str, seed: int, data: str, runs: Sequence[str]) -> str:
    """Return the record of finished runs as a line of JSON."""
    mixture, decoder = open_mixture(list(runs))
    opened = [open_run(run) for run in runs]
    fits = [read_fitted(run.part(*part)) for run in opened for part in run.parts()]
    config = opened[0].config
    report = report_of(mixture.images, out_of_fold_regions(mixture, decoder))
    one = Record(
        variant=variant,
        seed=seed,
        data=Path(data).name,
        digest=mixture.store.content,
        settings=_settings(config),
        runs=list(runs),
        groups=opened[0].folds.group[mixture.store.labelled].tolist(),
        scores=_scores(report),
        other=_rounded(tune_decoder(mixture, METRICS[1]).image_scores),
        sizes={name: round(iou, _DIGITS) for name, (_, iou) in report.by_size.items()},
        test=_test(mixture, decoder, data),
        best=round(float(np.mean([fit.best_score for fit in fits])), _DIGITS),
        last=round(float(np.mean([fit.score for fit in fits])), _DIGITS),
        seconds=round(float(np.mean([fit.seconds for fit in fits])), 1),
        steps=config.training.steps,
        decode=round(1000 * _decode_seconds(mixture, decoder), 2),
        machine=_machine(),
        date=time.strftime("%Y-%m-%d"),
    )
    return json.dumps(asdict(one))


def _settings(config: RunConfig) -> dict[str, Any]:
    """Return the settings that are not the defaults, by dotted name."""
    mine, default = _flat(to_plain(config)), _flat(to_plain(RunConfig()))
    return {key: value for key, value in mine.items() if default.get(key) != value}


def _flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, dict) and key not in ("terms", "slot_terms"):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat


def _scores(report: Report) -> dict[str, list[float]]:
    chosen = (*METRICS, "pixel_dice")
    return _rounded({name: report.scores[name].tolist() for name in chosen})


def _rounded(scores: dict[str, list[float]]) -> dict[str, list[float]]:
    return {name: [round(one, _DIGITS) for one in values] for name, values in scores.items()}


def _test(mixture: Mixture, decoder: Decoder, data: str) -> dict[str, list[float]] | None:
    truth = _truth(data)
    if truth is None:
        return None
    networks = [(m.run.config, m.checkpoints(m.networks)) for m in mixture.members]
    found = Model("test", networks, decoder.params).regions(mixture.store.test_images, len(truth))
    regions = (labels for _, labels in found)
    return _scores(report_of(mixture.store.test, zip(truth, regions, strict=True)))


def _truth(data: str) -> Sequence[np.ndarray] | None:
    """Return the test's label maps: of a phantom drawn, else of a file beside the images."""
    if data.startswith("phantom"):
        return list(PhantomSource(PhantomSettings.parse(data)).draw("test"))
    path = Path(data) / "Y_test.csv"
    if not path.is_file():
        return None
    from compkit.competition.table import read_table  # here: a GPU may have to do without polars

    return list(read_table(path).labels)


def _decode_seconds(mixture: Mixture, decoder: Decoder) -> float:
    size = mixture.store.size
    seconds = []
    for image in mixture.images[:20]:
        maps = mixture.out_of_fold(image)
        start = time.perf_counter()
        mixture.head.decode(maps, decoder.params, (size, size))
        seconds.append(time.perf_counter() - start)
    return float(np.median(seconds))


def _machine() -> str:
    gpu = f"{torch.cuda.get_device_name()}, " if torch.cuda.is_available() else ""
    return f"{gpu}{os.cpu_count()} cores, {platform.machine()}"
