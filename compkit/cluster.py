"""Work on a Ray cluster: one machine, or many that share a disk.

A task is a function of the package with its arguments. Every machine has compkit, and the folder
that a command is started in, the data, the runs and the cache at the same paths.
"""

from __future__ import annotations

import io
import os
import pickle
import re
import signal
import socket
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from functools import cache
from itertools import islice, starmap
from mmap import mmap
from pathlib import Path
from threading import Event, Thread
from typing import Any, TypeVar

import numpy as np

from compkit import plugins
from compkit.config import MachineConfig
from compkit.errors import CompkitError
from compkit.progress import overheard, say, task
from compkit.root import runs_at, runs_root

T = TypeVar("T")

#: Seconds between two looks at what is done, and at what is left of the cluster.
_BEAT = 1.0

#: Seconds in which a head answers that lives, and in which a command ends that has lost it: Ray
#: itself ends the process after 60.
_PATIENCE = 20.0

#: Seconds in which tasks may tidy up that are stopped.
_GRACE = 5.0

#: How often a task is begun again whose machine, or process, dies.
_RETRIES = 3

#: Tasks in line for each that runs, so that no machine waits for the one that deals them out.
_AHEAD = 4

_LOST = (
    "the Ray cluster has lost its head: start it and its machines again (docs/cluster.md), and run "
    "the same command again, which goes on from what was saved"
)

_where: ContextVar[str | None] = ContextVar("where", default=None)


@contextmanager
def on_ray(where: str | None) -> Iterator[None]:
    """Let tasks run on a Ray cluster until the block ends; None leaves them here, one by one.

    Parameters
    ----------
    where : str, optional
        As of ``--ray`` (`compkit.root.RAY_HELP`).

    Raises
    ------
    CompkitError
        If Ray is not installed, or there is no cluster; at any time, if its head is lost.
    """
    if where is None:
        yield
        return
    ray = _ray()
    host, _, port = where.rpartition(":")
    if where not in ("local", "auto") and not (re.fullmatch("[^/]+", host) and port.isdecimal()):
        raise CompkitError(f"--ray is {where!r}, but takes local, auto, or an address HOST:PORT")
    options = {"include_dashboard": False} if where == "local" else {}
    try:
        if host:  # Ray itself would try for minutes
            socket.create_connection((host.strip("[]"), int(port)), timeout=10).close()
        ray.init(where, log_to_driver=False, logging_level="critical", **options)
    except (OSError, OverflowError, ValueError, RuntimeError, ray.exceptions.RayError) as error:
        reason = str(error).split(". ")[0].split("\n")[0]
        raise CompkitError(
            f"there is no Ray cluster for --ray {where} ({reason}): start one there (ray start "
            "--head), correct the address, or give --ray local"
        ) from None
    before = _where.set(where)
    try:
        with _watched(ray.get_runtime_context().gcs_address):
            yield
    except SystemError as error:  # Ray's waiting turns what a signal raises into this
        raise error.__cause__ or error from None
    finally:
        _where.reset(before)
        ray.shutdown()


def is_on_ray() -> bool:
    """Whether tasks run on a cluster."""
    return _where.get() is not None


def spans_machines() -> bool:
    """Whether tasks may run on other machines."""
    return _where.get() not in (None, "local")


def room(machine: MachineConfig | None) -> int:
    """Return how many tasks the cluster runs at a time: with a network each, or of one core.

    Raises
    ------
    CompkitError
        If that is none, so that they would wait for ever.
    """
    needs = {_RESOURCES[name]: amount for name, amount in _needs(machine).items()}
    nodes = [node["Resources"] for node in _ray().nodes() if node["Alive"]]
    found = sum(min(node.get(name, 0) // k for name, k in needs.items()) for node in nodes)
    if found < 1:
        told = " and ".join(f"{k} {name}" for name, k in needs.items())
        raise CompkitError(
            f"no machine of the cluster has what one network needs ({told}): start Ray with more, "
            "or change machine.device or machine.cores"
        )
    return int(found)


_RESOURCES = {"num_gpus": "GPU", "num_cpus": "CPU"}


def _needs(machine: MachineConfig | None) -> dict[str, int]:
    """Return what a task with a network takes: a GPU where the cluster has any, else cores."""
    if machine is None:
        return {"num_cpus": 1}
    gpus = machine.device != "cpu" and _ray().cluster_resources().get("GPU", 0) >= 1
    if machine.device == "cuda" and not gpus:
        raise CompkitError("machine.device is cuda, but no machine of the cluster has a GPU")
    return {"num_gpus": 1, "num_cpus": 1} if gpus else {"num_cpus": machine.cores}


def _options(needs: dict[str, int]) -> dict[str, Any]:
    """Return how Ray is to run a task that needs this: on no more cores, whatever a machine has."""
    if "num_gpus" in needs:
        return dict(needs)
    cores = dict.fromkeys(("OMP_NUM_THREADS", "LOKY_MAX_CPU_COUNT"), str(needs["num_cpus"]))
    return {**needs, "runtime_env": {"env_vars": cores}}


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
    ray, here = _ray(), _here()
    ahead = ahead or _AHEAD * room(machine)
    call = _task().options(max_retries=_RETRIES, **_options(_needs(machine)))
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
    ray = _ray()
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


@contextmanager
def _watched(head: str) -> Iterator[None]:
    """Raise a CompkitError in the block when the head is lost; say when machines are.

    Ray itself would end the process, after a minute without a word that helps, or at once with a
    stack trace where another head has taken the place.
    """
    ended = Event()
    watch = Thread(target=_watch, args=(head, ended), daemon=True)
    before = signal.signal(signal.SIGUSR1, _lose)
    watch.start()
    try:
        yield
    finally:
        ended.set()
        watch.join(_PATIENCE)
        signal.signal(signal.SIGUSR1, before)


def _watch(head: str, ended: Event) -> None:
    # Not `ray.nodes`, which aborts the process where another head has taken the place.
    nodes, ray = 0, _ray()
    try:
        client = ray._raylet.GcsClient(address=head)
        while not ended.wait(_BEAT):
            known = client.get_all_node_info(timeout=_PATIENCE).values()
            before, nodes = nodes, sum(node.state == 0 for node in known)  # alive
            if nodes < before:
                say(f"{before - nodes} machine(s) were lost: others take up their work")
    except ray.exceptions.RayError:
        if ended.is_set():
            return
        os.kill(os.getpid(), signal.SIGUSR1)
        if not ended.wait(_PATIENCE):  # it waits for the head, deep in Ray
            say(f"error: {_LOST}")
            os._exit(2)


def _lose(*_: Any) -> None:
    raise CompkitError(_LOST)


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
    return _ray().remote(_call)


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


def _ray() -> Any:
    try:
        import ray
    except ImportError:
        raise CompkitError("--ray needs Ray: pip install 'compkit[ray]'") from None
    return ray
