"""Files are whole or absent, whatever goes wrong; a directory has one owner."""

from __future__ import annotations

import errno
import os
import signal
import sqlite3
import stat
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from compkit import files
from compkit.entry import guarded
from compkit.errors import CompkitError
from compkit.files import locked, read_json, replacing, replacing_directory, sweep, write_json


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


def test_a_link_stays_and_what_is_no_file_is_not_replaced(tmp_path):
    target, link, pipe = (tmp_path / name for name in ("there.txt", "link.txt", "pipe"))
    link.symlink_to(target)
    os.mkfifo(pipe)
    with replacing(link) as temporary:
        temporary.write_text("new")
    assert link.is_symlink()
    assert target.read_text() == "new"
    for path in (pipe, tmp_path):
        with pytest.raises(CompkitError, match="no regular file"), replacing(path):
            pass
    assert stat.S_ISFIFO(pipe.stat().st_mode)


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


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{", "not valid JSON"),
        ("[" * 100_000, "nested too deep"),
        ("1" * 5000, "not valid JSON"),
        ('{"a": {"b": 1, "b": 2}}', "the key 'b' is there twice"),
        ("[NaN]", "'NaN' is no finite number"),
        ("[1e999]", "'1e999' is no finite number"),
        ("[\udcff]", "not text in UTF-8"),
    ],
)
def test_json_that_is_damaged_is_one_sentence(tmp_path, text, reason):
    (tmp_path / "x.json").write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(CompkitError, match=rf"{reason}.*: mend it$") as caught:
        read_json(tmp_path / "x.json", "mend it")
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 300 + len(str(tmp_path))
    with pytest.raises(CompkitError, match="there is no"):
        read_json(tmp_path / "absent.json")


WRITING = {
    "file": "replacing(place / 'x.csv') as t: t.write_text('half')",
    "folder": "replacing_directory(place / 'oof') as t: (t / 'maps.npy').write_text('half')",
}

WRITER = """
import sys, time, pathlib
from compkit.files import replacing, replacing_directory
place = pathlib.Path(sys.argv[1])
with {}; print("writing", flush=True); time.sleep(60)
"""


def writer(place: Path, kind: str) -> subprocess.Popen:
    """Start a process that stops in the middle of writing into `place`."""
    process = subprocess.Popen(
        [sys.executable, "-c", WRITER.format(WRITING[kind]), str(place)],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "writing\n"
    return process


def write_file(place: Path) -> None:
    (place / "y.csv").unlink(missing_ok=True)
    with replacing(place / "y.csv") as temporary:
        temporary.touch()


def write_folder(place: Path) -> None:
    with replacing_directory(place / "test"):
        pass


def own(place: Path) -> None:
    with locked(place, "training"):
        pass


@pytest.mark.parametrize("kind", WRITING)
@pytest.mark.parametrize("next_run", [write_file, write_folder, own])
def test_what_a_kill_left_is_swept_and_what_somebody_writes_is_not(tmp_path, kind, next_run):
    mine = [".x.csv.tmp", ".x.csv.abcdefgh.tmp", "compkit-x-abcdefgh.tmp"]
    mine += [".compkit-x-abcdefgh.tmp.csv", ".compkit-y-ABCDEFGH.tmp"]
    for name in mine:
        (tmp_path / name).touch()
    (tmp_path / ".compkit-link-abcdefgh.tmp").symlink_to(tmp_path / mine[0])
    killed, living = writer(tmp_path, kind), writer(tmp_path, kind)
    try:
        kept = {".compkit-link-abcdefgh.tmp", *mine}
        parts = [path for path in tmp_path.glob(".*.tmp") if path.name not in kept]
        assert len(parts) == 2
        next_run(tmp_path)
        assert all(path.exists() for path in parts)
        killed.kill()
        killed.wait()
        next_run(tmp_path)
        assert sum(path.exists() for path in parts) == 1
        assert all((tmp_path / name).exists() for name in kept)
    finally:
        for process in (killed, living):
            process.kill()
            process.wait()


def test_a_sweep_goes_on_where_another_process_sweeps_at_once(tmp_path, monkeypatch):
    begun = [tmp_path / f".compkit-x-{number}_______.tmp" for number in range(3)]
    remove = files._remove

    def swept_by_both(folder):
        for path in begun:
            with suppress(FileNotFoundError):
                remove(path)
        remove(folder)

    for path in begun:
        path.mkdir()
        (path / ".lock").touch()
        (path / "x").write_text("half")
    monkeypatch.setattr(files, "_remove", swept_by_both)
    sweep(tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("left", [(), ("x",), ("x", ".lock")])
def test_what_was_killed_as_it_began_or_ended_is_swept_as_far_as_it_is_known_to_be_ours(
    tmp_path, left
):
    (folder := tmp_path / ".compkit-x-abcdefgh.tmp").mkdir()
    for name in left:
        (folder / name).touch()
    sweep(tmp_path)
    assert folder.exists() == (left == ("x",))


@pytest.mark.parametrize("call", ["mkdir", "open"])
@pytest.mark.parametrize("writing", [replacing, replacing_directory])
def test_what_cannot_be_begun_is_told_by_its_own_name(tmp_path, monkeypatch, writing, call):
    def full(path, *_):
        raise OSError(errno.ENOSPC, "full", path)

    monkeypatch.setattr(os, call, full)
    with pytest.raises(OSError, match="full") as error, writing(tmp_path / "x"):
        pass
    assert error.value.filename == str(tmp_path / "x")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_could_not_be_read_back_is_not_written(tmp_path, value):
    with pytest.raises(CompkitError, match=r"x\.json is not written, since a number .* not finite"):
        write_json(tmp_path / "x.json", {"scores": [1.0, value]})
    assert not list(tmp_path.iterdir())


def test_a_directory_takes_the_place_of_a_full_one_unless_told_otherwise(tmp_path):
    def make(word: str, **how: bool) -> None:
        with replacing_directory(tmp_path / "d", **how) as temporary:
            (temporary / word).touch()

    make("first", only_new=True)
    make("second")
    with pytest.raises(OSError, match=r"not empty.*/d'"):
        make("third", only_new=True)
    assert [path.name for path in tmp_path.rglob("*")] == ["d", "second"]


SWAPPED = """
import os, signal, sys, pathlib
from compkit.files import replacing_directory
calls, replace = [], pathlib.Path.replace
def dying(self, target):
    calls.append(target)
    if len(calls) == int(sys.argv[2]):
        os.kill(os.getpid(), signal.SIGKILL)
    return replace(self, target)
pathlib.Path.replace = dying
with replacing_directory(sys.argv[1]) as temporary:
    (temporary / "whole").touch()
"""


@pytest.mark.parametrize("call", [1, 2, 3])
def test_a_kill_while_directories_swap_leaves_a_whole_one_or_none(tmp_path, call):
    place = tmp_path / "d"
    place.mkdir()
    (place / "whole").touch()
    arguments = [sys.executable, "-c", SWAPPED, str(place), str(call)]
    assert subprocess.run(arguments, check=False).returncode == -signal.SIGKILL
    assert not place.exists() or list(place.iterdir()) == [place / "whole"]
    with replacing_directory(place) as temporary:
        (temporary / "whole").touch()
    assert sorted(tmp_path.rglob("*")) == [place, place / "whole"]


@pytest.mark.parametrize("writes", [replacing, replacing_directory])
def test_a_full_disk_is_said_of_the_file_that_was_to_be_written(tmp_path, writes):
    def write() -> None:
        with writes(tmp_path / "x") as temporary:
            temporary = temporary / "maps.npy" if temporary.is_dir() else temporary
            temporary.unlink(missing_ok=True)
            temporary.symlink_to("/dev/full")
            temporary.write_text("much")

    with pytest.raises(OSError) as caught:
        write()
    assert caught.value.filename == str(tmp_path / "x")
    assert list(tmp_path.iterdir()) == []


FORKS = """
import os, pathlib, sys, time
from compkit.files import locked
with locked(pathlib.Path(sys.argv[1]), "training"):
    if os.fork():
        print("held", flush=True)
        time.sleep(60)
    time.sleep(20)
"""


def test_what_a_killed_process_forked_does_not_hold_on(tmp_path):
    holder = subprocess.Popen(
        [sys.executable, "-c", FORKS, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout.readline() == "held\n"
    holder.kill()
    holder.wait()
    begun = time.monotonic()
    with locked(tmp_path, "training", wait=True):  # until the other has run at all
        assert time.monotonic() - begun < 15


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


def wrapped(error: Exception) -> Exception:
    """As a library raises an error of its own from another's."""
    outer = ValueError("of the library")
    outer.__cause__ = error
    return outer


class TerminatedWorkerError(RuntimeError):
    """Of the name and words of joblib's."""


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (CompkitError("this is wrong: do that"), "this is wrong: do that\n"),
        (OSError(errno.ENOSPC, "full", "/x/y"), "no space left on the disk while writing /x/y: "),
        (OSError(errno.EDQUOT, "quota"), "no space left on the disk while writing: free"),
        (OSError(errno.EFBIG, "large", "/x/y"), "/x/y would be larger than files may be here"),
        (OSError(errno.EROFS, "read", "/x/y"), "cannot write /x/y, which is on a read-only file"),
        (PermissionError(errno.EACCES, "no", "/x/{y}"), "no permission to use /x/{y}: change"),
        (OSError(errno.ENOTDIR, "Not a directory", "/x/y"), "cannot use /x/y: Not a directory\n"),
        (OSError("1000 requested and 10 written"), "a file could not be written whole: free"),
        (wrapped(sqlite3.OperationalError("database or disk is full")), "a file could not be"),
        (sqlite3.OperationalError("attempt to write a readonly database"), "the database of the"),
        (MemoryError(), "not enough memory: free some"),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), "not enough memory: free some"),
        (
            RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried"),
            "not enough memory: free some",
        ),
        (RuntimeError("can't start new thread"), "not enough memory: free some"),
        (RuntimeError("could not create a primitive"), "not enough memory: free some"),
        (
            wrapped(RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB.")),
            "not enough memory on the GPU: free some",
        ),
        (
            RuntimeError("DataLoader worker (pid 3) is killed by signal: Killed. "),
            "a process that helped was killed",
        ),
        (
            TerminatedWorkerError("A worker process managed by the executor was unexpectedly\n"
            "terminated."),
            "a process that helped was killed",
        ),
        (RuntimeError("Could not determine home directory."), "this user has no home directory"),
    ],
)  # fmt: skip
def test_what_is_no_bug_exits_with_two_and_one_line(capsys, error, expected):
    def command() -> None:
        raise error

    assert guarded(command) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"error: {expected}")
    assert said.count("\n") == 1


LIMITED = """
import resource, sys, numpy, torch
from compkit import files
from compkit.entry import guarded
resource.setrlimit(resource.RLIMIT_FSIZE, (9999, 9999))
resource.setrlimit(resource.RLIMIT_AS, (1 << 36, 1 << 36))
path = sys.argv[1]
for command in (
    lambda: open(path, "w").write("x" * 99999),
    lambda: numpy.save(path, numpy.zeros(99999)),
    lambda: torch.save(torch.zeros(99999), path),
    lambda: torch.zeros(1 << 40),
    lambda: numpy.zeros(1 << 40),
):
    assert guarded(command) == 2
"""


def test_what_libraries_say_of_limits_is_understood(tmp_path):
    ended = run_python(LIMITED, str(tmp_path / "x.npy"))
    wanted = ["larger than files may be", *["not be written whole"] * 2, *["enough memory"] * 2]
    for line, words in zip(ended.stderr.splitlines(), wanted, strict=True):
        assert words in line


def run_python(code: str, *arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        capture_output=True, text=True, env=os.environ | settings,
    )  # fmt: skip


PRINTING = """
import sys
from compkit.display import print_text
from compkit import files
from compkit.entry import guarded
sys.exit(guarded(lambda: print_text("κ × …\\n" * 9999)))
"""


TABLE = """
import sys
from compkit.display import print_table
from compkit import files
from compkit.entry import guarded
sys.exit(guarded(lambda: print_table("t", ["a"], [["x"]] * 999)))
"""


def test_output_that_takes_no_letters():
    ascii_only = run_python(PRINTING, PYTHONIOENCODING="ascii")
    assert (ascii_only.returncode, ascii_only.stderr) == (0, "")
    assert ascii_only.stdout.startswith("? ? ?\n")


@pytest.mark.parametrize("buffered", ["", "-u"])
@pytest.mark.parametrize("script", [PRINTING, TABLE])
def test_output_that_takes_nothing_at_all(script, buffered):
    shell = f"{sys.executable} {buffered} -c '{script}'"
    full = "no space left on the disk while writing standard output: "
    for redirected, wanted in ((" | head -n 1", ""), (" >&-", ""), (" > /dev/full", full)):
        ended = subprocess.run(
            ["bash", "-o", "pipefail", "-c", shell + redirected], capture_output=True, text=True
        )
        assert ended.returncode == (2 if wanted else 0)
        assert wanted in ended.stderr
        assert ended.stderr.count("\n") == bool(wanted)


ENDING = """
import sys
from compkit import files
from compkit.entry import guarded
from compkit.errors import CompkitError
from compkit.progress import say
def saying():
    say("x")
def refused():
    raise CompkitError("x")
def interrupted():
    raise KeyboardInterrupt
for command, code in ((saying, 2), (refused, 2), (interrupted, 130)):
    if guarded(command) != code:
        sys.exit(1)
sys.exit(3)
"""


def test_what_cannot_even_say_why_it_ends_still_ends_with_its_code():
    with Path("/dev/full").open("w") as full:
        assert subprocess.run([sys.executable, "-c", ENDING], stderr=full).returncode == 3


def test_an_interruption_and_a_bug_are_told_apart():
    def interrupted() -> None:
        raise KeyboardInterrupt

    def bug() -> None:
        raise ZeroDivisionError

    def lost_pipe() -> None:
        raise BrokenPipeError  # of a process of ours, while our own reader is there

    assert guarded(interrupted) == 130
    assert guarded(lambda: None) == 0
    with pytest.raises(ZeroDivisionError):
        guarded(bug)
    with pytest.raises(BrokenPipeError):
        guarded(lost_pipe)


def test_folders_made_side_by_side_at_once_take_nothing_from_each_other(tmp_path):
    code = (
        "import sys; from pathlib import Path; from compkit.files import replacing_directory\n"
        "for i in range(100):\n"
        "    path = Path(sys.argv[1], f'{sys.argv[2]}-{i}')\n"
        "    with replacing_directory(path, only_new=True) as folder:\n"
        "        (folder / 'x').touch()\n"
    )
    made = [subprocess.Popen([sys.executable, "-c", code, tmp_path, str(k)]) for k in range(4)]
    assert [process.wait() for process in made] == [0] * 4
    assert len(list(tmp_path.iterdir())) == 400
