"""Images on all cores, one a job."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from itertools import starmap
from typing import Any, TypeVar

from joblib import Parallel, cpu_count, effective_n_jobs

from compkit.cluster import is_on_ray
from compkit.progress import track
from compkit.tasks import each

T = TypeVar("T")

#: Pixels from which several processes pay for their start.
_MANY = 20_000_000


def jobs_for(pixels: int) -> int:
    """Return how many processes work on so many pixels best."""
    return cpu_count() if pixels >= _MANY else 1


def each_image(
    function: Callable[..., T],
    arguments: Iterable[tuple[Any, ...]],
    label: str,
    count: int,
    pixels: int,
) -> Iterator[T]:
    """Yield what `function` returns for the arguments of each image, in order, showing progress.

    Parameters
    ----------
    arguments : iterable of tuple
        Taken in this process while others work on those before; few images are held at a time.
    label : str
        What the progress is called.
    count, pixels : int
        How many images there are, and how many pixels in all: few are not worth processes.
    """
    yield from track(in_order(function, arguments, pixels), label, count)


def in_order(
    function: Callable[..., T], arguments: Iterable[tuple[Any, ...]], pixels: int
) -> Iterator[T]:
    """Return an iterator over what `each_image` yields, without showing progress."""
    if is_on_ray() and pixels >= _MANY:
        return each(function, arguments)
    jobs = effective_n_jobs(jobs_for(pixels))  # 1 where a process may start no others
    return starmap(function, arguments) if jobs == 1 else _apart(function, arguments, jobs)


def _apart(
    function: Callable[..., T], arguments: Iterable[tuple[Any, ...]], jobs: int
) -> Iterator[T]:
    """Do the work in other processes.

    `Parallel` itself takes its input in a thread of its own, from where a network that predicts
    it cannot be interrupted, and takes more at a time of what is quick.
    """
    with Parallel(jobs, "loky", max_nbytes=None) as pool:
        workers, begun = pool._backend._workers, deque[Any]()
        try:
            for one in arguments:
                begun.append(workers.submit(function, *one))
                while begun and (begun[0].done() or len(begun) > 2 * jobs):
                    yield begun.popleft().result()
            while begun:
                yield begun.popleft().result()
        finally:  # of an interruption, too: the few that are begun end, and the workers stay
            for one in begun:
                one.cancel()
