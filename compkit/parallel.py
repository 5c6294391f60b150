"""Images on all cores, one a job."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

from joblib import Parallel, cpu_count, delayed

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
        Taken as they are needed, so that few images are held at a time.
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
    pool = Parallel(n_jobs=jobs_for(pixels), return_as="generator", max_nbytes=None)
    return iter(pool(delayed(function)(*one) for one in arguments))
