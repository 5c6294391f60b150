"""What a search for settings found, as one page of HTML."""

from __future__ import annotations

import json
import shlex
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import optuna
from jinja2 import Environment
from optuna.trial import FrozenTrial, TrialState

from compkit.display import marked
from compkit.files import replacing
from compkit.tuning.findings import best_trials, confirmed, sentences, varying
from compkit.tuning.storage import public_address
from compkit.tuning.trial import ranked

#: Trials in the table.
_TOP = 20

#: Importances are not told from fewer complete trials.
_ENOUGH = 10

#: Parameters in the figures of combinations and of pairs: the most important, where that is told.
_AXES, _PAIRS = 8, 4

#: What the page is like; all that comes from a study is escaped.
_TEMPLATE = Path(__file__).with_name("study.html")


def write_page(study: optuna.Study, path: Path, storage: str) -> None:
    """Write a page that needs nothing but itself.

    Parameters
    ----------
    study : Study
        As `compkit.tuning.findings.sentences` reads it.
    path : Path
        Where to; replaced whole.
    storage : str
        The address of the study's storage, for the command that opens it in optuna-dashboard.
    """
    complete, address = ranked(study), public_address(storage)
    doubts = study.user_attrs.get("doubts", [])
    columns, rows = best_trials(study, _TOP) if complete else ([], [])
    failed = study.get_trials(deepcopy=False, states=(TrialState.FAIL,))
    settings = complete[0].user_attrs["settings"] if complete else {}
    template = Environment(autoescape=True).from_string(_TEMPLATE.read_text(encoding="utf-8"))
    text = template.render(
        title=f"Study {study.study_name}",
        sentences=[*sentences(study), *confirmed(study)],
        columns=columns,
        rows=marked(columns, rows, ("score",), doubts),
        doubts=doubts,
        best=complete[0] if complete else None,
        settings=[[name, _shown(value)] for name, value in settings.items()],
        figures=list(_figures(study, complete)),
        failed=[[t.number, t.user_attrs.get("error", "interrupted")] for t in failed],
        address=shlex.quote(address),
        hidden=address != storage,
    )
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def _figures(study: optuna.Study, complete: list[FrozenTrial]) -> Iterator[tuple[str, str, str]]:
    """Yield title, note and HTML of each of Optuna's figures; the first brings plotly's script."""
    if not complete:
        return
    from optuna import visualization as draw  # plotly takes a second

    names = varying(complete)
    told = bool(names) and len(complete) >= _ENOUGH
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of experimental figures, and of trials that lack one
        if told:
            by_importance = list(optuna.importance.get_param_importances(study))
            names.sort(key=by_importance.index)
        # These need parameters that no trial lacks.
        common = [name for name in names if all(name in t.params for t in complete if t.params)]
        figures = [("All trials in order", "", draw.plot_optimization_history(study))]
        if told:
            note = (
                "PED-ANOVA: how differently the best of the complete trials are distributed. "
                "Pruned trials do not count, so what made trials hopeless seems less important "
                "than it is."
            )
            figures.append(("Importance of parameters", note, draw.plot_param_importances(study)))
        if names:
            note = "A search tries promising values more often: a trend may be another parameter's."
            figures.append(("Scores against parameters", note, draw.plot_slice(study, names)))
        if len(common) > 1:
            combined = draw.plot_parallel_coordinate(study, common[:_AXES])
            pairs = draw.plot_rank(study, common[:_PAIRS]).update_layout(height=800)
            figures += [("Combinations", "", combined), ("Ranks of pairs", "", pairs)]
    for number, (title, note, figure) in enumerate(figures):
        yield title, note, figure.to_html(full_html=False, include_plotlyjs=number == 0)


def _shown(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
