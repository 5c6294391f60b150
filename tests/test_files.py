"""Files are whole or absent, whatever goes wrong; a directory has one owner."""

from __future__ import annotations

import errno
import subprocess
import sys
import time

import pytest

from compkit.entry import guarded
from compkit.errors import CompkitError
from compkit.files import locked, read_json, replacing, replacing_directory, write_json


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "x.txt"
    path.write_text("old")

    def write() -> None:
        with replacing(path) as temporary:
            temporary.write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        write()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_failed_directory_leaves_nothing(tmp_path):
    def write() -> None:
        with replacing_directory(tmp_path / "d") as temporary:
            (temporary / "a").write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        write()
    assert list(tmp_path.iterdir()) == []


def test_json_round_trip_and_damage(tmp_path):
    write_json(tmp_path / "x.json", {"a": [1, 2]})
    assert read_json(tmp_path / "x.json") == {"a": [1, 2]}
    (tmp_path / "x.json").write_text("{")
    with pytest.raises(CompkitError, match=r"x\.json is not valid JSON"):
        read_json(tmp_path / "x.json")


HOLD = """
import sys, time, pathlib
from compkit.files import locked
with locked(pathlib.Path(sys.argv[1]), "training"):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_second_process_is_refused_and_a_killed_one_lets_go(tmp_path):
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    try:
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(CompkitError, match=f"pid {holder.pid}"), locked(tmp_path, "training"):
            pass
    finally:
        holder.kill()
        holder.wait()
    time.sleep(0.05)
    with locked(tmp_path, "training"):
        pass


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (CompkitError("this is wrong: do that"), "error: this is wrong: do that\n"),
        (OSError(errno.ENOSPC, "full", "/x/y"), "error: no space left on the disk while writing"),
        (PermissionError(errno.EACCES, "Permission denied", "/x/y"), "error: cannot use /x/y"),
    ],
)
def test_bad_input_exits_with_two_and_one_line(capsys, error, expected):
    def command() -> None:
        raise error

    assert guarded(command) == 2
    said = capsys.readouterr().err
    assert said.startswith(expected)
    assert said.count("\n") == 1


def test_an_interruption_and_a_bug_are_told_apart():
    def interrupted() -> None:
        raise KeyboardInterrupt

    def bug() -> None:
        raise ZeroDivisionError

    assert guarded(interrupted) == 130
    assert guarded(lambda: None) == 0
    with pytest.raises(ZeroDivisionError):
        guarded(bug)
