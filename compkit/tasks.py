"""A function over arguments: here, or as tasks on a Ray cluster.

A task is a function of the package with its arguments. Every machine has compkit, and the folder
that a command is started in, the data, the runs and the cache at the same paths.
"""

from __future__ import annotations

import io
import os
import pickle
import socket
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from functools import cache
from itertools import islice, starmap
from mmap import mmap
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from compkit import plugins
from compkit.cluster import is_on_ray, load_ray, needs_of, room
from compkit.config import MachineConfig
from compkit.errors import CompkitError
from compkit.progress import overheard, say, task
from compkit.root import runs_at, runs_root

T = TypeVar("T")

#: Seconds between two looks at what is done.
_BEAT = 1.0

#: Seconds in which tasks may tidy up that are stopped.
_GRACE = 5.0

#: How often a task is begun again whose machine, or process, dies.
_RETRIES = 3

#: Tasks in line for each that runs, so that no machine waits for the one that deals them out.
_AHEAD = 4


def each(
    function: Callable[..., T],
    arguments: Iterable[tuple[Any, ...]],
    machine: MachineConfig | None = None,
    ahead: int | None = None,
    looked: Callable[[], object] = lambda: None,
) -> Iterator[T]:
    """Yield what a function returns for each of some arguments, in order: here, or on a cluster.

    There, a task whose machine dies is begun again on another. Memory-mapped arrays are sent by
    their paths, all else is pickled.

    Parameters
    ----------
    arguments : iterable of tuple
        Taken as they are needed.
    machine : MachineConfig, optional
        Each task has a device for a network, as this tells; without it, one core.
    ahead : int, optional
        How many tasks may be begun that are not yielded yet.
    looked : callable
        Called every second or so, while tasks run.

    Raises
    ------
    CompkitError
        If the cluster is too small, or fails.
    Exception
        What the first task raises that fails. The others are stopped then, as by Ctrl-C.
    """
    if not is_on_ray():
        yield from starmap(function, arguments)
        return
    ray, here = load_ray(), _here()
    ahead = ahead or _AHEAD * room(machine)
    call = _task().options(max_retries=_RETRIES, **_options(needs_of(machine)))
    left, begun, running = iter(arguments), deque[Any](), list[Any]()
    answers: dict[Any, T] = {}
    try:
        while True:
            for one in islice(left, ahead - len(begun)):
                running.append(call.remote(here, _pickled((function, one))))
                begun.append(running[-1])
            if not begun:
                return
            ready, running = ray.wait(running, timeout=_BEAT)
            answers |= {reference: _answer(reference) for reference in ready}
            looked()
            while begun and begun[0] in answers:
                yield answers.pop(begun.popleft())
    finally:
        for reference in running:
            with suppress(Exception):
                ray.cancel(reference)
        if running:
            ray.wait(running, num_returns=len(running), timeout=_GRACE)


def spread(
    function: Callable[..., None],
    arguments: Sequence[tuple[Any, ...]],
    machine: MachineConfig,
    label: str,
    total: float,
    done: Callable[[], tuple[float, str]],
) -> None:
    """Call `function` with each arguments on a device of its own, showing the progress of all.

    Parameters
    ----------
    total : float
        How much work there is.
    done : callable
        Returns how much of it is done, and what is shown beside that.

    Raises
    ------
    CompkitError
        As `each`.
    """
    with task(label, total) as bar:
        bar.skip(told := done()[0])

        def look() -> None:
            nonlocal told
            before, (told, note) = told, done()
            bar.advance(told - before, note)

        for _ in each(function, arguments, machine, len(arguments), look):
            pass


def _answer(reference: Any) -> Any:
    """Return what a task returned, after saying what it had to say; raise what it raised."""
    ray = load_ray()
    try:
        answer, lines = ray.get(reference)
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, ImportError):
            raise CompkitError(
                f"a machine of the cluster lacks what this one has ({error.cause}): install the "
                "same compkit there, with all that it needs"
            ) from None
        raise error.cause from None
    except ray.exceptions.RayError as error:
        raise CompkitError(
            f"the Ray cluster failed ({type(error).__name__}): see to it, and run the same command "
            "again, which goes on from what was saved"
        ) from None
    for line in lines:
        say(line)
    return answer


def _options(needs: dict[str, int]) -> dict[str, Any]:
    """Return how Ray is to run a task that needs this: on no more cores, whatever a machine has."""
    if "num_gpus" in needs:
        return dict(needs)
    cores = dict.fromkeys(("OMP_NUM_THREADS", "LOKY_MAX_CPU_COUNT"), str(needs["num_cpus"]))
    return {**needs, "runtime_env": {"env_vars": cores}}


def _here() -> tuple[str, str, dict[str, str]]:
    """Return what another machine has to know to work as this one does."""
    variables = {name: value for name, value in os.environ.items() if name.startswith("COMPKIT_")}
    return str(Path.cwd()), str(runs_root().absolute()), variables


def _call(here: tuple[str, str, dict[str, str]], pickled: bytes) -> tuple[Any, list[str]]:
    """Call a function where and as the command was; return what it returned and what it said."""
    folder, runs, variables = here
    try:
        os.chdir(folder)
    except OSError as error:
        raise CompkitError(
            f"the machine {socket.gethostname()} cannot enter {folder} ({error.strerror}): start "
            "the command in a folder on the disk that all machines share"
        ) from None
    os.environ.update(variables)
    plugins.load()  # first, as arguments may be of theirs
    with runs_at(runs), overheard() as lines:
        function, arguments = pickle.loads(pickled)
        return function(*arguments), lines


@cache
def _task() -> Any:
    return load_ray().remote(_call)


class _Pickler(pickle.Pickler):
    """Sends a memory-mapped file by its path, not with all that is in it."""

    def reducer_override(self, value: Any) -> Any:
        if type(value) is np.memmap and isinstance(value.base, mmap):  # the whole, no part of one
            how = (value.filename, value.dtype, "r", value.offset, value.shape)
            return np.memmap, how
        return NotImplemented


def _pickled(value: Any) -> bytes:
    buffer = io.BytesIO()
    _Pickler(buffer, pickle.HIGHEST_PROTOCOL).dump(value)
    return buffer.getvalue()
