"""What a search for settings found, as one page of HTML and in the terminal."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
import optuna

from compkit.display import marked, print_line, print_scores
from compkit.files import replacing
from compkit.intervals import shown
from compkit.tuning.evidence import ENOUGH, LEVEL, p_text
from compkit.tuning.figures import curve, history, parallel, slices
from compkit.tuning.findings import CURVES, TOP, Findings, find
from compkit.tuning.study import public_address
from compkit.tuning.summary import confirmed, curve_sentence, sentences

_ABSENT = "—"
_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; color: #111827; background: #fff; margin: 0 auto;
  max-width: 72rem; padding: 1rem; }
h1 { font-size: 1.5rem; margin: 0; } h2 { font-size: 1.15rem; margin: 2rem 0 .5rem; }
p, ul { max-width: 48rem; margin: .5rem 0; } .note { color: #4b5563; font-size: .875rem; }
.summary { background: #f3f4f6; border-radius: .5rem; padding: .5rem 1rem .5rem 2rem; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: .8125rem; font-variant-numeric: tabular-nums; }
th, td { padding: .25rem .45rem; text-align: right; border-bottom: 1px solid #e5e7eb; }
td { white-space: nowrap; } th { vertical-align: bottom; border-color: #9ca3af; }
th:first-child, td:first-child, .words th, .words td { text-align: left; }
.words td { white-space: normal; overflow-wrap: anywhere; }
.tied { background: #fff7ed; } .tied td:first-child { color: #c2410c; font-weight: 600; }
.figures { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 20rem), 1fr));
  gap: 1rem; }
.large { grid-template-columns: repeat(auto-fill, minmax(min(100%, 24rem), 1fr)); }
.figures svg { width: 100%; height: auto; }
pre { background: #f3f4f6; padding: .75rem; overflow-x: auto; border-radius: .5rem;
  font-size: .8125rem; }
@media print {
  @page { margin: 12mm; }
  body { max-width: none; font-size: 10pt; padding: 0; }
  table { font-size: 6.5pt; } th, td { padding: .1rem .25rem; }
  .scroll { overflow: visible; } .wide svg { width: 100%; height: auto; }
  pre { white-space: pre-wrap; }
  .figures { grid-template-columns: repeat(3, 1fr); } .large { grid-template-columns: 1fr 1fr; }
  svg, tr, .summary { break-inside: avoid; } h2 { break-after: avoid; }
}
"""


def write_page(
    study: optuna.Study, path: Path | str, storage: str, lower: Sequence[optuna.Study] = ()
) -> None:
    """Write a page that needs nothing but itself.

    Parameters
    ----------
    study : Study
        As `compkit.tuning.findings.find` reads it.
    path : Path or str
        Where to; replaced whole.
    storage : str
        The address of the study's storage, for the command that opens it in optuna-dashboard.
    lower : sequence of Study
        Its lower rungs, the lowest first. That has the most trials: curves and importances are
        from it.
    """
    findings, rungs = find(study), [find(one) for one in lower]
    most, where = (rungs[0], " in rung 0") if rungs else (findings, "")
    parts = [
        _summary(findings, rungs),
        _top(findings),
        _curves(most, where),
        _importances(most, where),
        _pictures(findings),
        *(_lost(rung, f" in rung {number}") for number, rung in enumerate(rungs)),
        _lost(findings),
        _dashboard(storage),
    ]
    title = escape(f"Study {findings.name}")
    text = (
        f'<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{title}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n<h1>{title}</h1>\n"
        + "\n".join(part for part in parts if part)
        + "\n</body>\n</html>\n"
    )
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def print_findings(study: optuna.Study, lower: Sequence[optuna.Study] = ()) -> None:
    """Print the summary and the first ten trials."""
    findings = find(study)
    for sentence in sentences(findings, [find(one) for one in lower]):
        print_line(sentence)
    if len(findings.trials):
        columns, rows, _ = _trial_rows(findings, 10)
        title = f"the best of {findings.name} (≈ the best within chance)"
        rows = [[*row[:3], row[4], row[5], _together(columns[7:], row[7:])] for row in rows]
        columns = ["trial", findings.metric, "95 %", "behind", "p", "settings"]
        print_scores(title, columns, rows, (findings.metric,), findings.doubts)


def _together(names: Sequence[str], values: Sequence[str]) -> str:
    return ", ".join(f"{n} {v}" for n, v in zip(names, values, strict=True) if v != _ABSENT)


def _summary(findings: Findings, lower: Sequence[Findings]) -> str:
    said = [*sentences(findings, lower), *confirmed(findings.confirmed)]
    items = "".join(f"<li>{escape(sentence)}</li>" for sentence in said)
    return f'<ul class="summary">{items}</ul>'


def _top(findings: Findings) -> str:
    if not len(findings.trials):
        return ""
    columns, rows, tied = _trial_rows(findings, TOP)
    same = {
        name: findings.params[name].iloc[0]
        for name in findings.params
        if name not in findings.varying
    }
    note = (
        f"≈: not told apart from the best, over groups of images: one-sided paired t-tests against "
        f"the best, times the {len(findings.trials) - 1} it was compared with; p is that. The 95 % "
        f"is a bootstrap ({findings.over}), s.e. the standard error over folds. None of them says "
        "how much the same settings vary from one training to another."
    )
    settings = [[name, _json(value)] for name, value in findings.settings.items()]
    constant = ", ".join(f"{name} {_cell(value)}" for name, value in same.items())
    return "".join([
        "<h2>Best trials</h2>",
        _table(columns, marked(columns, rows, (findings.metric,), findings.doubts), tied),
        *(f'<p class="note">* {escape(doubt)}</p>' for doubt in findings.doubts),
        f'<p class="note">{escape(note)}</p>',
        f'<p class="note">The same in all trials: {escape(constant)}</p>' if same else "",
        f"<h2>Settings of trial {findings.trials.index[0]}</h2>",
        f"<p>Run {escape(findings.trials['run'].iloc[0])}</p>",
        _table(["setting", "value"], settings, kind="words"),
    ])  # fmt: skip


def _trial_rows(findings: Findings, count: int) -> tuple[list[str], list[list[str]], list[bool]]:
    """Return the columns and rows of the best trials, and which are tied with the best."""
    table, names = findings.trials.head(count), findings.varying
    rows = [
        [
            f"{number} ≈" if one["tied"] and number != table.index[0] else str(number),
            f"{one['value']:.4f}",
            shown((one["low"], one["high"]), ".3f", "–"),
            "" if np.isnan(one["fold_error"]) else f"{one['fold_error']:.3f}",
            f"{one['behind']:.4f}",
            "" if number == table.index[0] else p_text(one["p"]),
            f"{one['seconds'] / 60:.0f}",
            *(_cell(findings.params.loc[number, name]) for name in names),
        ]
        for number, one in zip(table.index, table.to_dict("records"), strict=True)
    ]
    columns = ["trial", findings.metric, "95 %", "s.e. (folds)", "behind", "p", "minutes"]
    return [*columns, *(findings.labels[name] for name in names)], rows, list(table["tied"])


def _curves(findings: Findings, where: str) -> str:
    shown = {name: found for name, found in findings.curves.items() if len(found.trials)}
    if not shown:
        return ""
    said = "".join(f"<p>{escape(curve_sentence(findings, name))}</p>" for name in shown)
    drawn = "".join(curve(name, found, findings) for name, found in shown.items())
    note = (
        f"Bins hold equally many trials; none below {ENOUGH} trials. Other settings may vary from "
        "point to point, and a search tries promising values more often: a trend may be theirs."
    )
    symbols = " and ".join(CURVES[name][0] for name in shown)
    return (
        f'<h2>Did {symbols} matter{where}?</h2>{said}<div class="figures large">{drawn}</div>'
        f'{_kinds(findings)}<p class="note">{escape(note)}</p>'
    )


def _kinds(findings: Findings) -> str:
    """Return the table of how trials with κ, with λ and with neither fared."""
    given, value = findings.params, findings.trials["value"]
    have = {label: given[name].notna() for name, (_, label) in CURVES.items() if name in given}
    neither = ~np.logical_or.reduce(list(have.values()))
    rows = []
    for label, which in {**have, "neither κ nor λ": neither}.items():
        part = value[which]
        if len(part):
            error = f" ± {part.sem():.3f}" if len(part) > 1 else ""
            best = f"{part.max():.4f} (trial {part.index[0]})"
            rows.append([label, str(len(part)), f"{part.mean():.3f}{error}", best])
    return _table(["trials with", "complete", "mean ± s.e.", "best"], rows)


def _importances(findings: Findings, where: str) -> str:
    table = findings.importances
    if not len(table):
        return ""
    rows = [
        [name, f"{one['share']:.0%}", p_text(one["p"]), f"{one['trials']:.0f}"]
        for name, one in zip(table.index, table.to_dict("records"), strict=True)
    ]
    note = (
        f"PED-ANOVA over the {len(findings.trials)} complete trials: how differently the best of "
        "them are distributed, also for parameters that only some trials have. p: how often any "
        "parameter stands out as much where scores are shuffled (in orange: beyond chance). "
        "Pruned trials do not count, so what made trials hopeless seems less important than it is."
    )
    beyond = [bool(one) for one in table["p"] < LEVEL]
    columns = ["parameter", "importance", "p", "trials"]
    return (
        f"<h2>Importance of parameters{where}</h2>{_table(columns, rows, beyond)}"
        f'<p class="note">{escape(note)}</p>'
    )


def _pictures(findings: Findings) -> str:
    if not len(findings.trials):
        return ""
    parts = [f'<h2>All trials in order</h2><div class="figures large">{history(findings)}</div>']
    if findings.varying:
        note = (
            "A line is a trial, the better the darker: black the best, orange those tied with it."
        )
        parts += [
            f'<h2>Scores against parameters</h2><div class="figures">{"".join(slices(findings))}',
            f'</div><h2>Combinations</h2><p class="note">{note}</p>',
            f'<div class="scroll wide">{parallel(findings)}</div>',
        ]
    return "".join(parts)


def _lost(findings: Findings, where: str = "") -> str:
    parts = []
    if findings.pruned:
        rows = [[place, str(count)] for place, count in findings.pruned.items()]
        parts.append(f"<h2>Pruned trials{where}</h2>{_table(['pruned at', 'trials'], rows)}")
    if findings.failures:
        rows = [[str(number), sentence] for number, sentence in findings.failures]
        table = _table(["trial", "what went wrong"], rows, kind="words")
        parts.append(f"<h2>Failed trials{where}</h2>{table}")
    return "".join(parts)


def _dashboard(storage: str) -> str:
    address = public_address(storage)
    command = f"pip install optuna-dashboard\noptuna-dashboard {shlex.quote(address)}"
    if address != storage:
        command += "    # with the password in place of ***"
    return f"<h2>To look closer</h2><pre>{escape(command)}</pre>"


def _table(
    columns: Iterable[str],
    rows: Sequence[Sequence[str]],
    marked: Sequence[bool] = (),
    kind: str = "numbers",
) -> str:
    head = "".join(f"<th>{escape(column)}</th>" for column in columns)
    body = []
    for number, row in enumerate(rows):
        mark = ' class="tied"' if number < len(marked) and marked[number] else ""
        body.append(f"<tr{mark}>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>")
    return (
        f'<div class="scroll"><table class="{kind}"><thead><tr>{head}</tr></thead>'
        f"<tbody>{''.join(body)}</tbody></table></div>"
    )


def _cell(value: Any) -> str:
    if value is None:
        return _ABSENT
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _json(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
