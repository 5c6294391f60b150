"""From trained runs to a checked submission with its manifest and its row in the ledger."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np

from compkit.competition.table import write_table
from compkit.crossfit import written
from compkit.ensemble.build import open_mixture
from compkit.ensemble.decoder import Decoder, out_of_fold_regions
from compkit.ensemble.mixture import Mixture
from compkit.folds import ALL
from compkit.folds.table import doubts_about
from compkit.intervals import low_high, resampling, shown
from compkit.progress import say, track
from compkit.regions import keep_largest
from compkit.submission.publish import claim, claim_table, publish


def submit(
    names: Sequence[str],
    out: Path,
    data: str | None = None,
    encoder: str | None = None,
    overwrite: bool = False,
) -> None:
    """Ensemble the runs on the test images and write a submission (see `compkit.api.submit`).

    Raises
    ------
    CompkitError
        If a run is unfinished, members do not fit together, or `out` is not ours to write to.
    """
    claim(out, overwrite)
    mixture, decoder = open_mixture(names, data, encoder)
    store = mixture.store
    rules = store.competition.rules
    if any(member.run.has_other_test for member in mixture.members):
        say(f"another test than when training began: its {len(store.test)} images are predicted, "
            f"and {out} is for them")  # fmt: skip
    labels = _regions(mixture, decoder, rules.max_label)
    members = [
        {"member": m.name, "folds": m.folds, "all_images": ALL in m.networks}
        for m in mixture.members
    ]
    doubts = doubts_about(m.run.folds for m in mixture.members)
    networks = sum(len(member.networks) for member in mixture.members)
    about = {
        "data": store.content,
        "test": store.test_content,
        "members": members,
        "views": {m.run.name: list(m.run.config.inference.views) for m in mixture.members},
        "decoder": {"head": decoder.head, "params": decoder.params},
        "out_of_fold": written(asdict(decoder)),
        "doubts": doubts,
    }
    scores = decoder.scores | low_high(decoder.interval)
    made_of = "+".join(names)
    publish(
        out, store.test, labels, rules.max_label, made_of, networks, scores, about,
        overwrite=overwrite,
    )  # fmt: skip
    score = decoder.scores[decoder.ranking]
    say(f"{out}: {len(store.test)} images from {networks} members; out-of-fold "
        f"{decoder.ranking} {score:.4f} (95 % {shown(decoder.interval)}, "
        f"{resampling(decoder.images, decoder.image_groups)})")  # fmt: skip
    for doubt in doubts:
        say(f"this score is in doubt: {doubt}")


def write_out_of_fold(
    names: Sequence[str],
    out: Path,
    data: str | None = None,
    encoder: str | None = None,
    overwrite: bool = False,
) -> None:
    """Write the regions of the labelled images, from networks and parameters that saw none of them.

    In the submission's format, so `compkit score` takes it. Arguments and errors are those of
    `submit`.
    """
    claim_table(out, overwrite)
    mixture, decoder = open_mixture(names, data, encoder)
    most = mixture.store.competition.rules.max_label
    pairs = track(out_of_fold_regions(mixture, decoder), "decoding", len(mixture.images))
    labels = np.stack([keep_largest(regions, most)[0] for _, regions in pairs])
    write_table(out, mixture.images, labels, max_label=most, overwrite=overwrite)
    say(f"{out}: {len(labels)} labelled images, each predicted without having seen it")


def _regions(mixture: Mixture, decoder: Decoder, max_label: int) -> np.ndarray:
    store, labels, cut = mixture.store, [], 0
    for image in track(store.test, "decoding", len(store.test)):
        maps = mixture.test(image)
        regions = mixture.head.decode(maps, decoder.params, (store.size, store.size))
        kept, dropped = keep_largest(regions, max_label)
        labels.append(kept.astype(np.uint16 if max_label > 255 else np.uint8))
        cut += dropped > 0
    if cut:
        say(f"{cut} images had more than {max_label} regions: their smallest became background")
    return np.stack(labels)
