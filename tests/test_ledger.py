"""The ledger: one row a submission, whole whoever writes, refused if it is something else."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from compkit.cli import main as compkit
from compkit.ensemble.decoder import Decoder
from compkit.errors import CompkitError
from compkit.intervals import low_high
from compkit.leaderboard.ledger import COLUMNS, add_row, read_ledger, set_scores
from compkit.metrics.rand import METRICS

LOCAL = np.array([[0.70, 0.50, 0.80], [0.72, 0.40, 0.81], [0.71, 0.45, 0.85], [0.74, 0.43, 0.83]])


def decoder(means: np.ndarray, images: int = 40) -> Decoder:
    """Return a decoder with these mean scores, and scores of images that spread around them."""
    spread = np.linspace(-0.1, 0.1, images)
    scores = dict(zip(METRICS, means.tolist(), strict=True))
    return Decoder(
        head="foreground",
        ranking="adjusted_all",
        params={},
        tuned=False,
        fold_params={},
        scores=scores,
        intervals={name: (mean - 0.1, mean + 0.1) for name, mean in scores.items()},
        tuned_scores=scores,
        default_scores=scores,
        images=images,
        image_names=[f"{n}.png" for n in range(images)],
        image_scores={name: (mean + spread).tolist() for name, mean in scores.items()},
    )


def add(ledger: Path, name: str, sha256: str = "a") -> None:
    add_row(ledger, Path(name), sha256, "run", 2, local(decoder(LOCAL[0])))


def local(made: Decoder) -> dict[str, float]:
    """Return the scores of a decoder as a ledger takes them."""
    return made.scores | low_high(made.interval)


def submitted(folder: Path) -> Path:
    """Write a ledger of four submissions s1.csv to s4.csv with their manifests."""
    ledger = folder / "ledger.csv"
    for number, means in enumerate(LOCAL, start=1):
        made = decoder(means)
        manifest = {"sha256": str(number), "data": "d", "test_images": 30}
        path = folder / f"s{number}.json"
        path.write_text(json.dumps(manifest | {"out_of_fold": asdict(made)}))
        add_row(ledger, path.with_suffix(".csv"), str(number), "run", 2, local(made))
    return ledger


def publish(ledger: Path) -> None:
    """Record public scores that lie 0.02 below the last metric's, up to a little noise."""
    for number, (score, noise) in enumerate(zip(LOCAL[:, 2], (1, -1, 0, 1), strict=True), start=1):
        set_scores(ledger, str(number), {"public": round(score - 0.02 + noise * 1e-4, 4)})


def shown(ledger: Path, capsys) -> str:
    capsys.readouterr()
    assert compkit(["ledger", "--ledger", str(ledger)]) == 0
    return capsys.readouterr().out


def refusal(function, *arguments) -> str:
    with pytest.raises(CompkitError) as caught:
        function(*arguments)
    return str(caught.value)


def test_rows_are_appended_once_and_recorded_scores_survive(tmp_path):
    ledger = tmp_path / "ledger.csv"
    add(ledger, "x.csv")
    assert tuple(pd.read_csv(ledger).columns) == COLUMNS
    set_scores(ledger, "1", {"public": 0.7619})
    add(ledger, "x.csv")
    add(ledger, "x.csv", "b")
    table = pd.read_csv(ledger)
    assert table.sha256.tolist() == ["a", "b"]
    assert table.public[0] == 0.7619
    assert pd.isna(table.public[1])


def test_a_ledger_of_before_is_read_and_gone_on_with(tmp_path):
    ledger = submitted(tmp_path)
    before = read_ledger(ledger)[0]
    ledger.write_text(ledger.read_text().replace(",networks,", ",members,"))
    pd.testing.assert_frame_equal(read_ledger(ledger)[0], before)
    add_row(ledger, Path("blend.csv"), "b", "s1+s2", None, {})
    assert read_ledger(ledger)[0]["networks"].tolist() == [*before["networks"], ""]


WRITER = """
import sys
from pathlib import Path
from compkit.metrics.rand import METRICS
from compkit.leaderboard.ledger import add_row, set_scores

ledger, scores = Path("ledger.csv"), {**dict.fromkeys(METRICS, 0.5), "low": 0.4, "high": 0.6}
for number in range(int(sys.argv[1]), int(sys.argv[2])):
    add_row(ledger, Path(f"new{number}.csv"), "a", "run", 2, scores)
    set_scores(ledger, f"old{number}.csv", {"public": number / 100})
    set_scores(ledger, str(number + 1), {"private": -number / 100})
assert "torch" not in sys.modules  # neither command needs to wait for it
"""


def test_processes_at_once_lose_nothing(tmp_path):
    ledger, count = tmp_path / "ledger.csv", 12
    for number in range(count):
        add(ledger, f"old{number}.csv")
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, str(first), str(first + 3)],
            cwd=tmp_path,
            env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])},
        )
        for first in range(0, count, 3)
    ]
    assert [writer.wait(60) for writer in writers] == [0] * 4
    table = pd.read_csv(ledger)
    assert sorted(table.submission[count:]) == sorted(f"new{n}.csv" for n in range(count))
    assert table.public[:count].tolist() == [n / 100 for n in range(count)]
    assert table.private[:count].tolist() == [-n / 100 for n in range(count)]
    assert table.public[count:].isna().all()


def test_setting_one_score_leaves_the_other_and_says_what_it_replaced(tmp_path, capsys):
    ledger = tmp_path / "ledger.csv"
    add(ledger, "x.csv")
    add(ledger, "y.csv")
    command = ["ledger", "--ledger", str(ledger), "set"]
    assert compkit([*command, "2", "--public", "0.75", "--private", "-0.1"]) == 0
    assert compkit([*command, "submissions/y.csv", "--public", "0.7619"]) == 0
    first, second = capsys.readouterr().out.splitlines()
    assert first.endswith("2 y.csv: public 0.75, private -0.1")
    assert second.endswith("2 y.csv: public 0.7619 (was 0.75)")
    table = pd.read_csv(ledger)
    assert table.public[1] == 0.7619
    assert table.private[1] == -0.1
    assert table.loc[0, ["public", "private"]].isna().all()


def test_what_cannot_be_recorded_is_named(tmp_path, capsys):
    ledger = tmp_path / "ledger.csv"
    assert "there is no ledger" in refusal(set_scores, ledger, "1", {"public": 0.5})
    add(ledger, "x.csv", "a")
    add(ledger, "x.csv", "b")
    before = ledger.read_text()
    good = {"public": 0.5}
    assert "numbers 1, 2" in refusal(set_scores, ledger, "x.csv", good)
    assert "did you mean 'x.csv'" in refusal(set_scores, ledger, "xx.csv", good)
    assert "none of them number 3" in refusal(set_scores, ledger, "3", good)
    assert "none of them number 999" in refusal(set_scores, ledger, "9" * 5000, good)
    assert "none of them number 0" in refusal(set_scores, ledger, "0", good)
    assert "from -1 to 1" in refusal(set_scores, ledger, "1", {"public": 0.5, "private": 76.19})
    assert "from -1 to 1" in refusal(set_scores, ledger, "1", {"public": float("nan")})
    assert compkit(["ledger", "set", "1", "--ledger", str(ledger)]) == 2
    assert "give --public, --private or both" in capsys.readouterr().err
    assert ledger.read_text() == before


@pytest.mark.parametrize("text", ["a,b\n1,2\n", ""])
def test_something_else_is_refused_and_left_alone(tmp_path, text):
    ledger = tmp_path / "ledger.csv"
    ledger.write_text(text)
    assert "is not a ledger" in refusal(add, ledger, "x.csv")
    assert ledger.read_text() == text


def test_a_folder_or_a_pipe_is_no_ledger_and_is_not_waited_for(tmp_path, capsys):
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    for name in ("folder", "pipe"):
        ledger = tmp_path / name
        for arguments in ([], ["set", "1", "--public", "0.5"]):
            assert compkit(["ledger", "--ledger", str(ledger), *arguments]) == 2
            assert "is not a ledger (it is no file)" in capsys.readouterr().err
        assert "is not a ledger (it is no file)" in refusal(add, ledger, "x.csv")


FORMULAS = ["=1+1", "+a", "-a", "@SUM(A1)", "\t=1", "\r=1", "'=1", "''@x", "＝1"]
HARMLESS = ["-0.5", "+1e3", "'s", "a=1", "'"]


def test_no_spreadsheet_runs_a_cell_and_all_come_back_as_they_were(tmp_path):
    ledger, cells = tmp_path / "ledger.csv", [*FORMULAS, *HARMLESS]
    for number, cell in enumerate(cells):
        add_row(ledger, Path("x.csv"), str(number), cell, 2, {"public": -0.5})
    written = pd.read_csv(ledger, dtype=str, keep_default_na=False).runs.tolist()
    cells = [cell.replace("\r", "\n") for cell in cells]
    assert written == [f"'{cell}" for cell in cells[: len(FORMULAS)]] + HARMLESS
    set_scores(ledger, "1", {"private": 0.5})  # reads and writes all rows
    table, scores = read_ledger(ledger)
    assert table.runs.tolist() == cells
    assert scores.public.tolist() == [-0.5] * len(cells)


def test_no_cell_steers_the_terminal(tmp_path, capsys):
    ledger = submitted(tmp_path)
    add_row(ledger, Path("\x1b[2Jx.csv"), "z", "a\nb\u202e\udc80", 2, local(decoder(LOCAL[0])))
    publish(ledger)
    text = shown(ledger, capsys)
    assert r"\x1b[2Jx.csv" in text
    assert r"a\nb\u202e\udc80" in text
    assert compkit(["ledger", "--ledger", "\x1b[2J\ngone"]) == 2
    error = capsys.readouterr().err
    assert r"\x1b[2J gone" in error
    assert "\x1b" not in text + error


def test_what_a_manifest_may_not_be(tmp_path, capsys):
    ledger = submitted(tmp_path)
    path, good = tmp_path / "s1.json", json.loads((tmp_path / "s1.json").read_text())
    kept = good["out_of_fold"]
    scores = kept["image_scores"]
    for wrong in (
        "[" * 100_000 + "]" * 100_000,
        "[]",
        "1" * 5000,
        '"x"',
        json.dumps(good | {"out_of_fold": []}),
        json.dumps(good | {"test_images": float("inf")}),
        json.dumps(good | {"test_images": 10**30}),
        json.dumps(good | {"test_images": None}),
        json.dumps(good | {"test_images": "30"}),
        json.dumps(good | {"test_images": 30.5}),
        json.dumps(good | {"sha256": 1}),
        json.dumps(good | {"data": ["d"]}),
        json.dumps(good | {"out_of_fold": kept | {"image_groups": list(range(40))}}),
        json.dumps(good | {"out_of_fold": kept | {"image_groups": "g" * 40}}),
        json.dumps(good | {"out_of_fold": kept | {"image_names": "n" * 40}}),
        json.dumps(good | {"out_of_fold": kept | {"image_names": [1] * 40}}),
        json.dumps(good | {"out_of_fold": kept | {"image_names": 5}}),
        json.dumps(good | {"out_of_fold": kept | {"ranking": ["x"]}}),
        *(
            json.dumps(good | {"out_of_fold": kept | {"image_scores": scores | {METRICS[0]: one}}})
            for one in (
                [float("nan")] * 40,
                [1.5] * 40,
                [0.5],
                [[]] * 40,
                {"a": 1},
                [10**400] * 40,
                ["0.5"] * 40,
                [True] * 40,
            )
        ),
    ):
        path.write_text(wrong)
        assert "1 (manifest damaged, or without per-image scores)" in shown(ledger, capsys), wrong


def test_a_spreadsheet_may_reorder_columns_and_leave_blanks(tmp_path):
    ledger = submitted(tmp_path)
    set_scores(ledger, "2", {"public": 0.5})
    table = pd.read_csv(ledger, dtype=str, keep_default_na=False)
    lines = table[sorted(COLUMNS)].assign(note="mine").to_csv(index=False).splitlines()
    lines = [f"{line},," for line in lines]
    lines.insert(2, "," * lines[0].count(","))
    ledger.write_text("\n".join(lines), encoding="utf-8-sig")
    add(ledger, "x.csv")
    set_scores(ledger, "s3.csv", {"public": 0.6})
    table, scores = read_ledger(ledger)
    assert list(table.columns) == [*sorted(COLUMNS), "note"]
    assert table.submission.to_dict() == {**{n: f"s{n}.csv" for n in range(1, 5)}, 5: "x.csv"}
    assert table.note.tolist() == ["mine"] * 4 + [""]
    assert scores.public.dropna().to_dict() == {2: 0.5, 3: 0.6}


def test_what_a_spreadsheet_broke_is_named(tmp_path):
    ledger = submitted(tmp_path)
    set_scores(ledger, "2", {"public": 0.5})
    good = ledger.read_text()
    ledger.write_text(good.replace(",", ";"))
    assert "no column made" in refusal(read_ledger, ledger)
    ledger.write_text(good.replace("public", "Public"))
    assert "no column public" in refusal(read_ledger, ledger)
    lines = good.splitlines()
    ledger.write_text("\n".join([lines[0], *(f"{line},7" for line in lines[1:])]))
    assert "more cells than its first line" in refusal(read_ledger, ledger)
    ledger.write_text("\n".join([*lines, f"{lines[-1]},7"]))
    assert "is not a ledger" in refusal(read_ledger, ledger)
    ledger.write_text(good.replace(",0.5,", ',"0,5",'))
    assert "of submission 1 is '0,5'" in refusal(read_ledger, ledger)
    for cell in ("nan", "inf", "9" * 5000):
        ledger.write_text(good.replace(",0.5,", f",{cell},"))
        assert f"of submission 1 is '{cell[:40]}'" in refusal(read_ledger, ledger)
    ledger.write_text(good.replace(",run,", f",{'a' * 200_000},"))
    assert "runs of submission 1 has 200000 characters" in refusal(read_ledger, ledger)
    ledger.write_text(good.replace("private", "public"))
    assert "has two columns public" in refusal(read_ledger, ledger)
    ledger.write_text(good.replace(",0.5,", ",0;5,"))
    set_scores(ledger, "1", {"private": 0.5})  # one row's cell need not keep others from being set


def test_a_short_ledger_is_shown_without_conclusions(tmp_path, capsys):
    ledger = tmp_path / "ledger.csv"
    assert compkit(["ledger", "--ledger", str(ledger)]) == 2
    assert "there is no ledger" in capsys.readouterr().err
    ledger.write_text(",".join(COLUMNS) + "\n")
    assert "submission" in shown(ledger, capsys)
    add(ledger, "x[new].csv")
    set_scores(ledger, "1", {"public": 0.5})
    text = shown(ledger, capsys)
    for part in ("x[new].csv", "run", "0.7000", "0.5000", "0.8000", "0.600 to 0.800"):
        assert part in text
    assert "explain" not in text


def test_the_metric_behind_the_public_scores_is_named(tmp_path, capsys):
    ledger = submitted(tmp_path)
    publish(ledger)
    text = shown(ledger, capsys)
    assert "plain_foreground explains the public scores best" in text
    assert "-0.0200" in text
    assert "selecting among 4: local score of the best is optimistic by about 0.0000" in text
    # The scores differ by a constant, so no draw of images changes their order.
    assert "not the best in 0% of the draws" in text
    assert "left out" not in text
    assert "private − local" not in text
    set_scores(ledger, "1", {"private": 0.7})
    assert "private − local" in shown(ledger, capsys)


def test_chance_is_told_by_the_groups_that_manifests_keep(tmp_path, capsys):
    ledger = submitted(tmp_path)

    def grouped(groups: list[str]) -> str:
        for path in tmp_path.glob("s*.json"):
            manifest = json.loads(path.read_text())
            manifest["out_of_fold"]["image_groups"] = groups
            path.write_text(json.dumps(manifest))
        return shown(ledger, capsys)

    assert "resampling 40 images" in shown(ledger, capsys)
    text = grouped([f"patient {number // 10}" for number in range(40)])
    assert "resampling 4 groups, too few to be sure of it" in text
    assert "drawn at random in whole groups" in text
    assert "these are all of one" in grouped(["patient"] * 40)
    assert "(manifest damaged" in grouped(["patient", "other"])


def test_without_an_interval_its_cells_stay_empty(tmp_path, capsys):
    ledger = tmp_path / "ledger.csv"
    made = replace(decoder(LOCAL[0]), intervals=dict.fromkeys(METRICS))
    add_row(ledger, Path("x.csv"), "a", "run", 2, local(made))
    table, scores = read_ledger(ledger)
    assert table.loc[1, ["low", "high"]].tolist() == ["", ""]
    assert scores.loc[1, METRICS[0]] == 0.7
    assert "nan" not in shown(ledger, capsys)


def test_two_public_scores_tell_nothing_yet(tmp_path, capsys):
    ledger = submitted(tmp_path)
    for number in "12":
        set_scores(ledger, number, {"public": 0.5})
    assert "two public scores cannot tell" in shown(ledger, capsys)


def test_submissions_without_comparable_scores_are_left_out_and_named(tmp_path, capsys):
    ledger = submitted(tmp_path)
    publish(ledger)
    add_row(ledger, Path("s4.csv"), "other bytes", "run", 2, local(decoder(LOCAL[3])))
    (tmp_path / "s1.json").unlink()
    (tmp_path / "s2.json").write_text('{"sha256": ')
    text = shown(ledger, capsys)
    assert "1 (no manifest)" in text
    assert "2 (manifest damaged, or without per-image scores)" in text
    assert "5 (manifest of another file of that name)" in text
    assert "selecting among 2" in text
    manifest = json.loads((tmp_path / "s3.json").read_text())
    (tmp_path / "s3.json").write_text(json.dumps(manifest | {"data": "other"}))
    text = shown(ledger, capsys)
    assert "3 (other images)" in text
    assert "need two submissions" in text
    blend = {"sha256": "1", "submission": "s1.csv", "inputs": []}
    (tmp_path / "s1.json").write_text(json.dumps(blend))
    del manifest["out_of_fold"]["image_scores"][METRICS[0]]
    (tmp_path / "s3.json").write_text(json.dumps(manifest))
    text = shown(ledger, capsys)
    assert "1 (no out-of-fold scores, as of a blend)" in text
    assert f"3 (no scores by {METRICS[0]})" in text
    del manifest["out_of_fold"]["image_scores"]
    (tmp_path / "s4.json").write_text(json.dumps(manifest))
    assert "2, 4, 5 (manifest damaged" in shown(ledger, capsys)
