"""What ``compkit train`` does: every fold × encoder of a run, then its decoder and its scores."""

from __future__ import annotations

from collections.abc import Sequence

from compkit.begin import split_of, start_run
from compkit.cluster import is_on_ray, room
from compkit.config import RunConfig
from compkit.config.check import check_all
from compkit.data.dataset import seen_side, shown_side
from compkit.data.store import open_store
from compkit.display import print_scores
from compkit.ensemble.decoder import tuned_decoder
from compkit.ensemble.mixture import Mixture, members_of
from compkit.folds import ALL
from compkit.heads import make_head
from compkit.intervals import resampling, shown
from compkit.models.checkpoint import warm_start
from compkit.models.network import Network, cost_of
from compkit.progress import say
from compkit.resample import seen
from compkit.root import runs_option, runs_root
from compkit.run import Run, fold_name, open_run, read_fitted
from compkit.tasks import spread
from compkit.training.callbacks import steps_done
from compkit.training.external import open_external
from compkit.training.fit import fit_fold
from compkit.training.pseudo import open_teacher, unlabelled_images


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
        fold `compkit.folds.ALL`, which is no part of a whole run, trains on every labelled image.

    Raises
    ------
    CompkitError
        For any bad input; before anything is trained, as far as it can be known by then.
    """
    check_all(config)
    if is_on_ray():
        room(config.machine)
    check_images(config, data)
    if not (runs_root() / name / "run.json").is_file():
        _check_weights(config, fold or 0)
    run = start_run(name, config, data, encoder=encoder, fold=fold)
    for doubt in run.folds.doubts():
        say(doubt)
    parts = list(run.parts(encoder, fold))
    if is_on_ray():
        _spread(run, parts, data)
    else:
        for number, (part_encoder, part_fold) in enumerate(parts, start=1):
            fit_fold(run, part_encoder, part_fold, f"[{number}/{len(parts)}] ")
    unfinished = run.unfinished()
    if fold == ALL:
        counted = "submissions of this run now count the new networks in, one more a member"
        alone = "compkit predict and --model.start take them; scores and submissions need folds"
        say(alone if unfinished else counted)
        return
    if unfinished:
        say(f"{run.directory}: still to train: {', '.join(unfinished)}")
        return
    _finish(run)


def _spread(run: Run, parts: Sequence[tuple[str, int]], data: str) -> None:
    """Fit networks on a Ray cluster, as many at once as it has devices."""
    whole = run.config.training.steps

    def steps() -> tuple[float, str]:
        done = [run.is_done(*part) for part in parts]
        found = [whole if d else steps_done(run.part(*p)) for d, p in zip(done, parts, strict=True)]
        return sum(found), f"{sum(done)} done"

    left = [part for part in parts if not run.is_done(*part)]
    cost = {encoder: cost_of(encoder, run.config.model) for encoder in run.config.encoders}
    # The dearest first, so that at the end no device waits long for another's.
    left.sort(key=lambda part: cost[part[0]], reverse=True)
    todo = [(run.name, data, *part) for part in left]
    spread(fit_part, todo, run.config.machine, f"{len(parts)} networks", whole * len(parts), steps)


def fit_part(name: str, data: str, encoder: str, fold: int) -> None:
    """Train one network of a run that is there, as a task of its own."""
    run = open_run(name, data)
    fit_fold(run, encoder, fold, wait=True)
    say(f"{fold_name(encoder, fold)}: score {read_fitted(run.part(encoder, fold)).score:.4f}")


def _check_weights(config: RunConfig, fold: int) -> None:
    """Load what networks start from, so that no run is made of a file that is refused."""
    outputs = len(make_head(config, config.input.size or 128).outputs)
    for encoder in config.encoders:
        start = config.model.start_of(encoder, fold)
        network = Network(encoder, outputs, config.model, start is None)
        if start is not None:
            warm_start(network, start)


def check_images(config: RunConfig, data: str) -> None:
    """Prove that all images which it learns from fit together, so that no run is made else."""
    store = open_store(data)
    sets = [[store.images[i] for i in store.labelled]]
    if (other := open_external(config, store)) is not None:
        sets.append([other.images[i] for i in other.labelled])
    if config.unlabelled.weight:
        sets.append(unlabelled_images(store, config.unlabelled.test))
        open_teacher(config.unlabelled.teacher, store, split_of(config, store))
    for images in filter(None, sets):
        shapes = {seen(image.shape, config.input.size) for image in images}
        seen_side(shapes, config)
        if len(shapes) == 1:  # of several sizes, what is smaller than a crop is continued
            shown_side(min(*shapes.pop()), config)


def _finish(run: Run) -> None:
    encoders, metrics = run.config.encoders, run.told
    several = len(encoders) > 1
    chosen: dict[str, str | None] = {e: e for e in encoders} if several else {}
    chosen["all" if several else encoders[0]] = None
    rows, kept = [], []
    for label, encoder in chosen.items():
        mixture = Mixture(members_of([run], encoder))
        decoder = tuned_decoder(mixture, run.directory / (encoder or "") / "decoder.json")
        cells = [f"{decoder.scores[metric]:.4f}" for metric in metrics]
        rows.append([label, *cells, shown(decoder.interval), "yes" if decoder.tuned else "no"])
        if not decoder.tuned:
            kept.append(f"{label}: decoding {decoder.verdict}")
    print_scores(
        f"{run.name}: out-of-fold scores (no fold is decoded with parameters tuned on it; 95 %: "
        f"{resampling(decoder.images, decoder.image_groups)})",
        ["encoder", *metrics, f"95 % of {run.ranking}", "decoding tuned"],
        rows,
        metrics,
        run.folds.doubts(),
    )
    for line in kept:
        say(line)
    out = f"submissions/{run.name}{run.store.competition.submission.suffix}"
    say(f"next: compkit submit --run {run.name}{runs_option()} --out {out}")
