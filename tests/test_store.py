"""The store: whole, current and identical to its sources, whatever interrupts its building."""

import os
import pickle
import shutil
import signal
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from layout import example, write_csv, write_folder

from compkit.competition.raidium import RaidiumSource
from compkit.data.store import open_store
from compkit.errors import CompkitError


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("COMPKIT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def folder(tmp_path):
    return write_folder(tmp_path / "data", *example())


@settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    size=st.integers(1, 9),
    labelled=st.lists(st.booleans(), min_size=1, max_size=13),
    highest=st.sampled_from([1, 255, 256, 65535]),
    seed=st.integers(0, 99),
)
def test_store_holds_what_the_folder_holds(tmp_path_factory, size, labelled, highest, seed):
    train, test, labels = example(len(labelled), 0, size, seed)
    labels[np.array(labelled), 0, 0] = highest
    folder = write_folder(tmp_path_factory.mktemp("data"), train, test, labels)
    store = open_store(str(folder))
    assert (store.images == train).all()
    assert (store.test_images == test).all()
    assert store.size == size
    assert store.labelled.tolist() == np.flatnonzero(labelled).tolist()
    assert store.labels.shape == (sum(labelled), size, size)
    assert store.labels.dtype == (np.uint16 if highest > 255 and any(labelled) else np.uint8)
    for index, is_labelled in enumerate(labelled):
        if is_labelled:
            assert (store.labels_of(index) == labels[index]).all()
        else:
            with pytest.raises(CompkitError, match=f"number {index} is unlabelled"):
                store.labels_of(index)


def test_arrays_are_mapped_and_read_only(folder):
    store = open_store(str(folder))
    for array in (store.images, store.test_images, store.labels):
        assert isinstance(array, np.memmap)
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 0


def test_no_labels_matter_only_when_they_are_needed(tmp_path):
    store = open_store(str(write_folder(tmp_path / "data", *example(labelled=0))))
    assert len(store.labelled) == 0
    with pytest.raises(CompkitError, match="none of the 12 training images is labelled"):
        store.require_labels()


def test_second_opening_reads_no_source(folder, monkeypatch, capsys):
    first = open_store(str(folder))
    assert str(folder) in capsys.readouterr().err
    for name in ("image", "labels"):
        monkeypatch.setattr(RaidiumSource, name, None)
    assert open_store(str(folder)).content == first.content
    assert capsys.readouterr().err == ""


def test_a_changed_source_is_read_again(folder):
    train, test, labels = example()
    before = open_store(str(folder))
    labels[0, 0, 0] = 9
    write_csv(folder / "Y_train.csv", labels)
    relabelled = open_store(str(folder))
    assert relabelled.labels_of(0)[0, 0] == 9
    test[2] = 7
    write_folder(folder, train, test, labels)
    repainted = open_store(str(folder))
    assert (repainted.test_images[2] == 7).all()
    # What was trained on is told apart from the test.
    assert before.content != relabelled.content == repainted.content
    assert before.test_content == relabelled.test_content != repainted.test_content
    assert (before.images == train).all()  # one opened earlier stays as it was


def test_content_names_the_data_wherever_they_lie(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "copy")
    one, other = open_store(str(folder)), open_store(str(tmp_path / "copy"))
    assert one.content == other.content
    assert one.directory != other.directory


def test_digests_of_before_are_known(folder):
    """Those of compkit before 0.3 were of training data and test together."""
    store = open_store(str(folder))
    old = "bef6e650d8df52317aeee4a64f9edd75671c35163411c797286e675c0f493d56"
    assert store.is_of(old)
    assert store.is_of(store.content)
    assert not store.is_of(store.test_content)
    write_folder(folder, *example()[:1], example()[1] // 2, *example()[2:])
    assert not open_store(str(folder)).is_of(old)


def test_the_data_folder_is_left_alone(folder):
    before = sorted(folder.rglob("*"))
    open_store(str(folder))
    assert sorted(folder.rglob("*")) == before


def test_workers_get_the_place_not_the_pixels(tmp_path):
    store = open_store(str(write_folder(tmp_path / "data", *example(size=64))))
    data = pickle.dumps(store)
    assert len(data) < 1000
    assert (pickle.loads(data).images == store.images).all()


def test_bad_data_leave_no_store(folder, cache):
    open_store(str(folder))
    (folder / "X_test" / "2.png").write_bytes(b"")
    for _ in range(2):
        with pytest.raises(CompkitError, match=r"2\.png cannot be read"):
            open_store(str(folder))
    assert not list(cache.rglob("store.json"))
    assert not list(cache.rglob("*.tmp"))


def test_damaged_store_is_named(folder):
    path = open_store(str(folder)).directory / "images.npy"
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(CompkitError, match=r"images\.npy is damaged"):
        open_store(str(folder))


def header(path, shape):
    """Write an array of which there is only the header."""
    with path.open("wb") as file:
        about = {"descr": "|u1", "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(file, about)


SPOILT = {
    "no dimension": lambda path: np.save(path, np.int64(3)),
    "one too many": lambda path: np.save(path, np.zeros((1, 1, 1, 1), np.uint8)),
    "several": lambda path: np.savez(path.open("wb"), a=np.zeros(3)),
    "objects": lambda path: np.save(path, np.array([None])),
    "empty": lambda path: path.write_bytes(b""),
    "without values": lambda path: header(path, (9, 9, 9)),
    "far too large": lambda path: header(path, (10**30, 1, 1)),
    "negative": lambda path: header(path, (-3, 4, 4)),
    "a folder": lambda path: (path.unlink(), path.mkdir()),
}


@pytest.mark.parametrize("array", ["images", "labelled", "labels"])
@pytest.mark.parametrize("case", SPOILT)
def test_arrays_that_are_none_are_named(folder, array, case):
    path = open_store(str(folder)).directory / f"{array}.npy"
    SPOILT[case](path)
    expected = rf"({array}\.npy is damaged|was changed since).*: delete"
    with pytest.raises(CompkitError, match=expected):
        open_store(str(folder))


@pytest.mark.parametrize("array", ["images", "test_images", "labelled", "labels", "store"])
def test_what_was_changed_since_it_was_built_is_refused(folder, array):
    store = open_store(str(folder))
    path = store.directory / (f"{array}.json" if array == "store" else f"{array}.npy")
    whole = path.read_bytes()
    if array == "store":  # two names change places
        damaged = whole.replace(b'"0.png"', b'"?"').replace(b'"1.png"', b'"0.png"')
        damaged = damaged.replace(b'"?"', b'"1.png"')
    else:
        damaged = whole[:-8] + bytes([whole[-8] ^ 1]) + whole[-7:]
    path.write_bytes(damaged)
    with pytest.raises(CompkitError, match=r"store(/\S+)? (was changed|does).*: delete"):
        open_store(str(folder))
    shutil.rmtree(store.directory)  # as it says
    assert open_store(str(folder)).content == store.content


def test_a_folder_may_have_a_name_that_is_no_text(folder):
    odd = os.fsdecode(os.fsencode(folder) + b"\xff")
    folder.rename(odd)
    assert open_store(odd).size == 8


def python(code, *arguments, **options):
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)],
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        **options,
    )


KILLED = """
import os, signal, sys
from compkit.competition.raidium import RaidiumSource
from compkit.data.store import open_store
whole = RaidiumSource.image
def image(self, split, index):
    if split == "test" and index == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return whole(self, split, index)
RaidiumSource.image = image
open_store(sys.argv[1])
"""


def test_a_killed_build_leaves_nothing_that_looks_whole(folder, cache):
    process = python(KILLED, folder)
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert list(cache.rglob(".*.tmp"))
    assert not list(cache.rglob("store.json"))
    store = open_store(str(folder))
    assert (store.test_images == example()[1]).all()
    assert not list(cache.rglob(".*.tmp"))


OPENED = """
import sys
from compkit.data.store import open_store
print(open_store(sys.argv[1]).content)
"""


def test_processes_that_open_at_once_build_once(folder):
    processes = [python(OPENED, folder) for _ in range(3)]
    outputs = [process.communicate() for process in processes]
    assert {out for out, _ in outputs} == {open_store(str(folder)).content + "\n"}
    assert sum("into" in err for _, err in outputs) == 1


FULL = """
import resource
import sys
from compkit.data.store import open_store
from compkit.errors import CompkitError
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
try:
    open_store(sys.argv[1])
except CompkitError as error:
    print(error)
"""


def test_no_room_is_one_sentence(tmp_path, cache):
    folder = write_folder(tmp_path / "data", *example(size=64))
    out, err = python(FULL, folder).communicate()
    assert "raise the limit (ulimit -f)" in out and "set COMPKIT_CACHE" in out, err
    assert out.count("\n") == 1
    assert not list(cache.rglob("*.npy"))


def test_an_unwritable_cache_is_one_sentence(folder, cache):
    cache.write_text("a file where the cache should be")
    with pytest.raises(CompkitError, match="set COMPKIT_CACHE to another directory"):
        open_store(str(folder))


@pytest.mark.parametrize(
    ("variables", "place"),
    [
        ({"COMPKIT_CACHE": "a", "XDG_CACHE_HOME": "b"}, "a"),
        ({"XDG_CACHE_HOME": "b"}, "b/compkit"),
        ({}, ".cache/compkit"),
    ],
)
def test_where_the_cache_is(folder, tmp_path, monkeypatch, variables, place):
    monkeypatch.delenv("COMPKIT_CACHE")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    for name, value in variables.items():
        monkeypatch.setenv(name, str(tmp_path / value))
    assert open_store(str(folder)).directory.parents[1] == tmp_path / place
