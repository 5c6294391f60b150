"""The ledger for people: all submissions, and what may be learnt from them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from compkit.display import print_line, print_table
from compkit.intervals import resampling
from compkit.leaderboard.estimates import explain, gap, selection_optimism, shake_up
from compkit.leaderboard.ledger import OTHER_SCORES, read_ledger
from compkit.leaderboard.manifests import Manifest, comparable
from compkit.metrics.rand import METRICS


def show(ledger: Path) -> None:
    """Print the ledger, and what public scores and chance tell of it, from two of each on.

    Raises
    ------
    CompkitError
        If there is no ledger, or it is not in order.
    """
    table, scores = read_ledger(ledger)
    _show_submissions(table, scores, ledger)
    known = scores.dropna(subset=[*METRICS, "public"])
    if len(known) > 1:
        known = known.drop(columns=[name for name in _metrics(known) if known[name].isna().any()])
        _show_gaps(known)
        print_line(_verdict(known))
    if len(table) < 2:
        return
    kept, left_out = comparable(table, ledger.parent)
    if left_out:
        reasons = [f"{', '.join(map(str, ids))} ({why})" for why, ids in left_out.items()]
        print_line(f"left out of what follows: {'; '.join(reasons)}")
    if len(kept) < 2:
        print_line("selection and shake-up need two submissions with scores of the same images")
        return
    _show_chance(kept, table)


def _metrics(scores: pd.DataFrame) -> list[str]:
    return [name for name in scores.columns if name not in OTHER_SCORES]


def _show_submissions(table: pd.DataFrame, scores: pd.DataFrame, ledger: Path) -> None:
    cells, ends = scores.map(_cell), zip(scores["low"], scores["high"], strict=True)
    spans = ["" if np.isnan(low + high) else f"{low:.3f} to {high:.3f}" for low, high in ends]
    shown = table[["submission", "runs", "networks"]].join(cells[_metrics(scores)])
    shown = shown.assign(**{"95 % of what ranks": spans}).join(cells[["public", "private"]])
    rows = [[str(number), *row] for number, *row in shown.itertuples()]
    print_table(str(ledger), ["id", *shown], rows)


def _show_gaps(scores: pd.DataFrame) -> None:
    """Print how each metric's local scores compare with the official ones."""
    ended = scores.dropna(subset=["private"])
    chosen = {"public": scores} | ({"private": ended} if len(ended) else {})
    rows = []
    for metric in _metrics(scores):
        cells = [metric]
        for name, part in chosen.items():
            found = gap(part[metric].to_numpy(), part[name].to_numpy())
            three = (_cell(found.mean, "+.4f"), _cell(found.sd), _cell(found.rank, "+.2f"))
            cells += [cell or "n/a" for cell in three]
        rows.append(cells)
    columns = [c for name in chosen for c in (f"{name} − local", "its sd", "rank correlation")]
    counts = " and ".join(f"{len(part)} {name}" for name, part in chosen.items())
    print_table(f"{counts} scores against the local ones", ["metric", *columns], rows)


def _verdict(scores: pd.DataFrame) -> str:
    """Return the sentence on which metric explains the public scores."""
    metrics = _metrics(scores)
    local, public = scores[metrics].to_numpy(), scores["public"].to_numpy()
    if len(scores) == 2:
        return "two public scores cannot tell yet which metric explains them best"
    best, rivals = explain(local, public)
    spread = f"±{gap(local[:, best], public).sd:.4f}"
    if not rivals:
        return f"{metrics[best]} explains the public scores best: up to a constant, to {spread}"
    others = ", ".join([*metrics, "a constant"][rival] for rival in rivals)
    return (
        f"the public scores cannot tell yet which metric explains them best: {metrics[best]} comes "
        f"nearest ({spread} up to a constant), and within noise of it: {others}"
    )


def _show_chance(kept: dict[int, Manifest], table: pd.DataFrame) -> None:
    """Print what selection does to the best score, and how stable the ranking is."""
    latest = kept[max(kept)]
    metric, groups = latest.out_of_fold.ranking, latest.out_of_fold.image_groups
    scores = np.array([one.out_of_fold.image_scores[metric] for one in kept.values()], float)
    said = ~np.isnan(scores).any(axis=0)
    scores, groups = scores[:, said], None if groups is None else np.array(groups)[said]
    optimism = selection_optimism(scores, groups)
    if np.isnan(optimism):
        print_line("selection and shake-up need images of two groups, and these are all of one")
        return
    print_line(
        f"selecting among {len(kept)}: local score of the best is optimistic by about "
        f"{optimism:.4f} ({metric}; {resampling(scores.shape[1], groups)})"
    )
    size = latest.test_images // 2
    result = shake_up(scores, size, groups)
    local = pd.DataFrame({"mean": scores.mean(axis=1), "first": result.first}, list(kept))
    local = local.sort_values("mean", ascending=False, kind="stable")
    rows = [
        [str(number), str(table.loc[number, "submission"]), _cell(mean), f"{first:.0%}"]
        for number, mean, first in local.itertuples()
    ]
    title = f"shake-up: ranks on {size} random images"
    print_table(title, ["id", "submission", f"local {metric}", "first"], rows)
    whole = "" if groups is None else " in whole groups"
    print_line(
        f"on half as many images as the test has, drawn at random{whole}, the local best is not "
        f"the best in {result.lost:.0%} of the draws; at least two submissions swap in "
        f"{result.swapped:.0%}"
    )


def _cell(value: float, style: str = ".4f") -> str:
    return "" if np.isnan(value) else f"{value:{style}}"
