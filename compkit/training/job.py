"""What ``train.py`` does: every fold × encoder of a run, then its decoder and its scores."""

from __future__ import annotations

from compkit.config import RunConfig
from compkit.config_check import check
from compkit.display import print_table
from compkit.ensemble.calibrate import calibrate
from compkit.ensemble.members import members_of
from compkit.ensemble.mixture import Mixture
from compkit.errors import CompkitError
from compkit.heads import make_head
from compkit.inference.tta import parse_view
from compkit.metrics.rand import METRICS
from compkit.models.network import check_names
from compkit.progress import say
from compkit.run import ALL, Run, start_run
from compkit.training.fit import fit_fold


def train(
    config: RunConfig, data: str, name: str, fold: int | None = None, encoder: str | None = None
) -> None:
    """Train what is unfinished of the run `name`; when all is done, tune its decoder.

    Parameters
    ----------
    data : str
        A folder in the challenge's layout, or ``phantom:…``.
    fold, encoder : optional
        Train these alone; the run is completed by further calls, here or on other machines. The
        fold `compkit.run.ALL`, which is no part of a whole run, trains on every labelled image.

    Raises
    ------
    CompkitError
        For any bad input, before anything is trained.
    """
    _check_all(config, fold or 0)
    run = start_run(name, config, data)
    slots, most = config.partition.slots, int(run.folds.regions.max())
    if "slots" in config.head.split("+") and most > slots:
        say(f"images have up to {most} regions, but partition.slots is {slots}: some share a slot")
    parts = list(run.parts(encoder, fold))
    for number, (part_encoder, part_fold) in enumerate(parts, start=1):
        fit_fold(run, part_encoder, part_fold, f"[{number}/{len(parts)}] ")
    if unfinished := run.unfinished():
        say(f"{run.directory}: still to train: {', '.join(unfinished)}")
        return
    if fold == ALL:
        say("submissions of this run now count the new networks in, one more a member")
        return
    _finish(run)


def _check_all(config: RunConfig, fold: int) -> None:
    """Refuse what can be refused before the data are opened."""
    check_names(config.encoders, config.model)
    check(config)
    make_head(config, config.input.size or 128)
    for view in config.inference.views:
        parse_view(view)
    for encoder in config.encoders:
        start = config.model.start_of(encoder, fold)
        if start is not None and not start.is_file():
            raise CompkitError(f"there is no checkpoint {start}: check model.start")


def _finish(run: Run) -> None:
    several = len(run.config.encoders) > 1
    chosen = [(e, e) for e in run.config.encoders] if several else []
    rows = []
    for label, encoder in [*chosen, ("all" if several else run.config.encoders[0], None)]:
        decoder = calibrate(Mixture(members_of([run], encoder)))
        low, high = decoder.interval
        cells = [f"{decoder.scores[metric]:.4f}" for metric in METRICS]
        rows.append([label, *cells, f"{low:.4f} to {high:.4f}", "yes" if decoder.tuned else "no"])
    decoder.save(run.directory / "decoder.json")
    print_table(
        f"{run.name}: out-of-fold scores (no fold is decoded with parameters tuned on it)",
        ["encoder", *METRICS, f"95 % of {run.ranking}", "decoder tuned"],
        rows,
    )
    say(f"next: compkit submit --run {run.name} --out submissions/{run.name}.csv")
