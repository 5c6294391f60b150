"""Images in other processes: in order, few at a time, errors told, workers kept."""

import importlib
import math
import os

import pytest
from joblib.externals.loky import get_reusable_executor

from compkit import plugins
from compkit.parallel import each_image

PLUGIN = """
import os

class Head:
    def decode(self, number):
        return os.getpid(), number
"""


@pytest.fixture(autouse=True)
def two_processes(monkeypatch):
    monkeypatch.setattr("compkit.parallel._MANY", 0)
    monkeypatch.setattr("compkit.parallel.cpu_count", lambda: 2)


def test_order_is_kept_and_few_images_are_taken_ahead():
    taken = []

    def numbers():
        for number in range(40):
            taken.append(number)
            yield (number,)

    for number, root in enumerate(each_image(math.sqrt, numbers(), "roots", 40, 1)):
        assert root == math.sqrt(number)
        assert len(taken) - number <= 6
    assert len(taken) == 40


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_an_error_comes_through_and_the_workers_stay(error):
    def numbers():
        yield from ((number,) for number in range(5))
        if error is KeyboardInterrupt:
            raise error
        yield (-1,)

    def workers() -> set[int]:
        return set(each_image(os.getpid, [()] * 200, "processes", 200, 1))

    before = workers()
    with pytest.raises(error):
        list(each_image(math.sqrt, numbers(), "roots", 9, 1))
    assert os.getpid() not in before
    assert workers() & before


def test_what_a_plugin_defines_reaches_other_processes(tmp_path, monkeypatch):
    monkeypatch.setenv(plugins.VARIABLE, "")
    file = tmp_path / "roots_of_mine.py"
    file.write_text(PLUGIN)
    get_reusable_executor().shutdown(wait=True)  # processes that began before know no plugin
    plugins.add(file)
    plugins.load()
    head = importlib.import_module("compkit.plugins.roots_of_mine").Head()
    try:
        found = list(each_image(head.decode, ((number,) for number in range(3)), "heads", 3, 1))
    finally:
        get_reusable_executor().shutdown(wait=True)
    assert [number for _, number in found] == [0, 1, 2]
    assert os.getpid() not in {process for process, _ in found}
