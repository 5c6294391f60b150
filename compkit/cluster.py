"""Work on a Ray cluster: one machine, or many that share a disk.

A task is a function of the package and plain arguments. Every machine has compkit, and the folder
that a command is started in, the data, the runs and the cache at the same paths.
"""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from pathlib import Path
from typing import Any, TypeVar

from compkit import plugins
from compkit.config import MachineConfig
from compkit.errors import CompkitError
from compkit.progress import overheard, say, task
from compkit.root import runs_at, runs_root

T = TypeVar("T")

#: What ``--ray`` is told of, in every command that has it.
RAY_HELP = (
    "spread the work with Ray over this machine (local), the cluster that it belongs to (auto), or "
    "the one at an ADDRESS; docs/cluster.md"
)

#: Seconds between two looks at what is done.
_BEAT = 1.0

_on_ray: ContextVar[bool] = ContextVar("on_ray", default=False)


@contextmanager
def on_ray(where: str | None) -> Iterator[None]:
    """Let tasks run on a Ray cluster until the block ends; None leaves them here, one by one.

    Raises
    ------
    CompkitError
        If Ray is not installed, or there is no cluster.
    """
    if where is None:
        yield
        return
    ray = _ray()
    options = {"include_dashboard": False} if where == "local" else {}
    try:
        if re.fullmatch(r"[^/]+:\d+", where):  # Ray itself would try for minutes
            host, _, port = where.rpartition(":")
            socket.create_connection((host, int(port)), timeout=10).close()
        ray.init(where, log_to_driver=False, logging_level="critical", **options)
    except (OSError, OverflowError, ValueError, RuntimeError) as error:
        reason = str(error).split(". ")[0].split("\n")[0]
        raise CompkitError(
            f"there is no Ray cluster for --ray {where} ({reason}): start one there (ray start "
            "--head), correct the address, or give --ray local"
        ) from None
    before = _on_ray.set(True)
    try:
        yield
    finally:
        _on_ray.reset(before)
        ray.shutdown()


def is_on_ray() -> bool:
    """Whether tasks run on a cluster."""
    return _on_ray.get()


_RESOURCES = {"num_gpus": "GPU", "num_cpus": "CPU"}


def _needs(machine: MachineConfig) -> dict[str, int]:
    """Return what a task with a network takes: a GPU where the cluster has any, else cores."""
    gpus = machine.device != "cpu" and _ray().cluster_resources().get("GPU", 0) >= 1
    if machine.device == "cuda" and not gpus:
        raise CompkitError("machine.device is cuda, but no machine of the cluster has a GPU")
    return {"num_gpus": 1, "num_cpus": 1} if gpus else {"num_cpus": machine.cores}


def require_room(machine: MachineConfig) -> None:
    """Refuse a cluster that is too small for a single network, which would wait for ever."""
    needs, resources = _needs(machine), _ray().cluster_resources()
    if any(resources.get(_RESOURCES[name], 0) < n for name, n in needs.items()):
        told = " and ".join(f"{n} {_RESOURCES[name]}" for name, n in needs.items())
        raise CompkitError(
            f"the cluster lacks what one network needs ({told}): start Ray with more, or change "
            "machine.device or machine.cores"
        )


def spread(
    function: Callable[..., None],
    arguments: Sequence[tuple[Any, ...]],
    machine: MachineConfig,
    label: str,
    total: float,
    done: Callable[[], float],
) -> None:
    """Call `function` with each arguments on a device of its own, showing the progress of all.

    A task whose machine dies is begun again on another.

    Parameters
    ----------
    total, done : float, callable
        How much work there is, and how much of it is done.

    Raises
    ------
    CompkitError
        What the first task raises that fails; the others are stopped then.
    """
    ray = _ray()
    call = ray.remote(_call).options(max_retries=-1, **_needs(machine))
    here = _here()
    waiting = [call.remote(here, function, *each) for each in arguments]
    nodes = _nodes()
    try:
        with task(label, total) as bar:
            bar.skip(told := done())
            while waiting:
                ready, waiting = ray.wait(waiting, timeout=_BEAT)
                for reference in ready:
                    _answer(reference)
                now = done()
                bar.advance(now - told)
                told = now
                if (left := _nodes()) < nodes:
                    say(f"{nodes - left} machine(s) were lost: others take up their work")
                nodes = left
    except BaseException:
        for each in waiting:
            with suppress(Exception):
                ray.cancel(each)
        raise


def _answer(reference: Any) -> Any:
    """Return what a task returned, after saying what it had to say; raise what it raised."""
    ray = _ray()
    try:
        answer, lines = ray.get(reference)
    except ray.exceptions.RayTaskError as error:
        raise error.cause from None
    except ray.exceptions.RayError as error:
        raise CompkitError(
            f"the Ray cluster failed ({type(error).__name__}): see to it, and run the same command "
            "again, which goes on from what was saved"
        ) from None
    for line in lines:
        say(line)
    return answer


def _nodes() -> int:
    return sum(node["Alive"] for node in _ray().nodes())


def _here() -> tuple[str, str, dict[str, str]]:
    """Return what another machine has to know to work as this one does."""
    variables = {name: value for name, value in os.environ.items() if name.startswith("COMPKIT_")}
    return str(Path.cwd()), str(runs_root().absolute()), variables


def _call(
    here: tuple[str, str, dict[str, str]], function: Callable[..., T], *each: Any
) -> tuple[T, list[str]]:
    """Call a function where and as the command was; return what it returned and what it said."""
    folder, runs, variables = here
    os.chdir(folder)
    os.environ.update(variables)
    plugins.load()
    with runs_at(runs), overheard() as lines:
        return function(*each), lines


def _ray() -> Any:
    try:
        import ray
    except ImportError:
        raise CompkitError("--ray needs Ray: pip install 'compkit[ray]'") from None
    return ray
