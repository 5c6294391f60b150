"""What ``tune.py`` does: trials, the best of them again with another seed, best.yaml, a page."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import optuna
from optuna.trial import FrozenTrial, TrialState

from compkit.config import RunConfig
from compkit.config_check import check
from compkit.config_files import save
from compkit.data.store import open_store
from compkit.display import print_table
from compkit.ensemble.calibrate import calibrate_run
from compkit.ensemble.decoder import Decoder
from compkit.errors import CompkitError
from compkit.progress import say
from compkit.run import ROOT, refuse_name, start_run
from compkit.training.fit import fit_fold
from compkit.tuning.page import print_findings, write_page
from compkit.tuning.settings import configured
from compkit.tuning.space import Space
from compkit.tuning.study import open_study, run_trials
from compkit.tuning.trial import Objective, digest


def tune(
    base: RunConfig,
    data: str,
    name: str,
    space: Space,
    *,
    trials: int,
    storage: str | None = None,
    sampler: str = "tpe",
    retrain: int = 3,
) -> None:
    """Search settings until the study has its trials; then say what came of it.

    Writes ``runs/<name>/``: ``study.db`` (unless `storage` is elsewhere), the trials' runs,
    ``best.yaml``, which train.py takes, and ``study.html``.

    Parameters
    ----------
    base : RunConfig
        What a trial's settings are laid over.
    trials : int
        Of all workers together, those of earlier calls included.
    retrain : int
        How many of the best are trained again with another seed; the best of those is taken, and
        its score is no maximum of many.

    Raises
    ------
    CompkitError
        For any bad input, or if every trial fails.
    """
    refuse_name(name)
    check(base)
    directory = ROOT / name
    for other in ("run.json", "ensemble.json"):
        if (directory / other).is_file():
            raise CompkitError(f"{directory} is no study: take another --study name")
    store = open_store(data)
    directory.mkdir(parents=True, exist_ok=True)
    url = storage or f"sqlite:///{directory / 'study.db'}"
    optuna.logging.set_verbosity(optuna.logging.ERROR)  # what fails is said and recorded by us
    metric = base.ranking or store.competition.rules.ranking
    made_of = {"data": store.content, "metric": metric}
    study = open_study(name, url, sampler, space, base, made_of)
    run_trials(study, Objective(base, space, data, directory), directory, trials)
    print_findings(study)
    best = _again(study, base, data, directory, retrain)
    save(best, directory / "best.yaml")
    write_page(study, directory / "study.html", url)
    say(f"{directory}: best.yaml, which train.py takes as --config; study.html, what was found")


def _again(
    study: optuna.Study, base: RunConfig, data: str, directory: Path, count: int
) -> RunConfig:
    """Return the best settings, judged by another seed if any are trained with one."""
    trials = sorted(
        study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)),
        key=lambda trial: -(trial.value or 0.0),
    )
    distinct = list({trial.user_attrs["run"]: trial for trial in reversed(trials)}.values())[::-1]
    if not distinct:
        raise CompkitError(f"no trial of {study.study_name} was completed: run more --trials")
    configs = [configured(base, trial.user_attrs["settings"]) for trial in distinct]
    rows, scores = [], []
    for trial, config in list(zip(distinct, configs, strict=True))[:count]:
        decoder = _retrained(replace(config, seed=base.seed + 1), trial, data, directory)
        low, high = decoder.interval
        scores.append(decoder.scores[decoder.ranking])
        searched = np.mean(trial.user_attrs["image_scores"])
        cells = [f"{searched:.4f}", f"{scores[-1]:.4f}", f"{low:.4f} to {high:.4f}"]
        rows.append([str(trial.number), *cells])
    if rows:
        columns = ["trial", "in the search", "with another seed", "95 %"]
        print_table("the best, trained again: these scores are no maximum of many", columns, rows)
    return configs[int(np.argmax(scores)) if scores else 0]


def _retrained(config: RunConfig, trial: FrozenTrial, data: str, directory: Path) -> Decoder:
    run = start_run(digest(config), config, data, directory)
    parts = list(run.parts())
    for number, (encoder, fold) in enumerate(parts, start=1):
        fit_fold(run, encoder, fold, f"trial {trial.number} again, {number}/{len(parts)}: ")
    return calibrate_run(run)
