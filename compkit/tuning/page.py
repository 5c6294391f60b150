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

_TEMPLATE = Environment(autoescape=True).from_string("""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{ title }}</title>
<style>
body { font: 16px/1.5 system-ui, sans-serif; color: #111827; margin: 0 auto; max-width: 72rem;
  padding: 1rem; }
p, ul { max-width: 48rem; } .note { color: #4b5563; font-size: .875rem; }
.scroll { overflow-x: auto; } pre { background: #f3f4f6; padding: .75rem; overflow-x: auto; }
table { border-collapse: collapse; font-size: .8125rem; font-variant-numeric: tabular-nums; }
th, td { padding: .25rem .5rem; text-align: left; border-bottom: 1px solid #e5e7eb;
  vertical-align: bottom; white-space: nowrap; }
</style>
</head>
<body>
<h1>{{ title }}</h1>
<ul>{% for sentence in sentences %}<li>{{ sentence }}</li>{% endfor %}</ul>
{% macro table(columns, rows) %}
<div class="scroll"><table>
<tr>{% for column in columns %}<th>{{ column }}</th>{% endfor %}</tr>
{% for row in rows %}<tr>{% for cell in row %}<td>{{ cell }}</td>{% endfor %}</tr>
{% endfor %}</table></div>
{% endmacro %}
{% if rows %}
<h2>Best trials</h2>
{{ table(columns, rows) }}
{% for doubt in doubts %}<p class="note">* {{ doubt }}</p>{% endfor %}
<p class="note">≈: not told apart from the best, by one-sided paired t-tests over groups of images,
corrected for how many are compared; p is that. The 95 % is a bootstrap over groups. Neither says
how much the same settings vary from one training to another.</p>
<h2>Settings of trial {{ best.number }}</h2>
<p>Run {{ best.user_attrs["run"] }}</p>
{{ table(["setting", "value"], settings) }}
{% endif %}
{% for name, note, figure in figures %}
<h2>{{ name }}</h2>{% if note %}<p class="note">{{ note }}</p>{% endif %}
<div class="scroll">{{ figure | safe }}</div>
{% endfor %}
{% if failed %}<h2>Failed trials</h2>{{ table(["trial", "what went wrong"], failed) }}{% endif %}
<h2>To look closer</h2>
<pre>pip install optuna-dashboard
optuna-dashboard {{ address }}</pre>
{% if hidden %}<p>Put the password in place of ***.</p>{% endif %}
</body>
</html>
""")


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
    text = _TEMPLATE.render(
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
            names = sorted(names, key=lambda n: (n not in by_importance, by_importance.index(n)))
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
