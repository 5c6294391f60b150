"""From trained runs to a checked submission with its manifest and its row in the ledger."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from compkit.crossfit import written
from compkit.ensemble.build import data_of, open_mixture
from compkit.ensemble.decoder import out_of_fold_regions
from compkit.ensemble.model import Model
from compkit.files import replacing
from compkit.folds import ALL
from compkit.folds.table import doubts_about
from compkit.intervals import resampling, shown
from compkit.pixels import fitted
from compkit.progress import say
from compkit.submission.forms import Form, form_at
from compkit.submission.publish import (
    at_most,
    claim,
    claim_labels,
    publish,
)


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
        If a run is unfinished, runs do not fit together, or `out` is not ours to write to.
    """
    claim(out, form := _form(names, data), overwrite)
    mixture, decoder = open_mixture(names, data, encoder)
    store, sources = mixture.store, mixture.members
    limit, shapes = store.competition.rules.max_label, dict(store.shapes("test"))
    form.require(shapes)
    if any(source.run.has_other_test for source in sources):
        say(f"another test than when training began: its {len(store.test)} images are predicted, "
            f"and {out} is for them")  # fmt: skip
    networks = [(source.run.config, source.checkpoints(source.networks)) for source in sources]
    model = Model("+".join(names), networks, decoder.params)
    images = (  # a test alone may be grey where training has colours
        fitted(image, model.pixels.channels, model.pixels.bits, f"the test image {name}")
        for name, image in zip(store.test, store.test_images, strict=True)
    )
    found = model.regions(images, len(store.test))
    labels = at_most(limit, (regions for _, regions in found))
    doubts = doubts_about(source.run.folds for source in sources)
    about = {
        "data": store.content,
        "test": store.test_content,
        "members": [
            {"member": source.name, "folds": source.folds, "all_images": ALL in source.networks}
            for source in sources
        ],
        "views": {source.run.name: list(source.run.config.inference.views) for source in sources},
        "decoder": {"head": decoder.head, "params": decoder.params},
        "out_of_fold": written(asdict(decoder)),
        "doubts": doubts,
    }
    publish(
        out, form, shapes, labels, limit, model.name, model.networks, about,
        overwrite=overwrite,
    )  # fmt: skip
    score = decoder.scores[decoder.ranking]
    say(f"{out}: {len(store.test)} images from {model.networks} networks; out-of-fold "
        f"{decoder.ranking} {score:.4f} (95 % {shown(decoder.interval)}, "
        f"{resampling(decoder.images, decoder.image_groups)})")  # fmt: skip
    for doubt in doubts:
        say(f"this score is in doubt: {doubt}")


def _form(names: Sequence[str], data: str | None) -> Form:
    """Return the form of the data that the first run was trained on; of `data` if these moved."""
    trained = data_of(names[0])
    there = data is None or Path(trained).exists() or trained.startswith("phantom")
    return form_at(trained if there else data)


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
    claim_labels(out, form := _form(names, data), overwrite)
    mixture, decoder = open_mixture(names, data, encoder)
    limit = mixture.store.competition.rules.max_label
    labels = at_most(limit, (found for _, found in out_of_fold_regions(mixture, decoder)))
    with replacing(out, overwrite) as temporary:
        form.fill(temporary, mixture.images, labels, limit, out)
    say(f"{out}: {len(labels)} labelled images, each predicted without having seen it")
