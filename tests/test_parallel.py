"""Images in other processes: in order, few at a time, errors told, workers kept."""

import math
import os

import pytest

from compkit.parallel import each_image


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
