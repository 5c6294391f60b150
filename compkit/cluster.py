"""A Ray cluster: one machine, or many that share a disk; what room it has, and whether it lives."""

from __future__ import annotations

import os
import re
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from threading import Event, Thread
from typing import Any

from compkit.config import MachineConfig
from compkit.errors import CompkitError
from compkit.progress import say

#: Seconds between two looks at the cluster.
_LOOK = 1.0

#: Seconds in which a head answers that lives, and in which a command ends that has lost it: Ray
#: itself ends the process after 60.
_PATIENCE = 20.0

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
    ray = load_ray()
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
    needs = {_RESOURCES[name]: amount for name, amount in needs_of(machine).items()}
    nodes = [node["Resources"] for node in load_ray().nodes() if node["Alive"]]
    found = sum(min(node.get(name, 0) // k for name, k in needs.items()) for node in nodes)
    if found < 1:
        told = " and ".join(f"{k} {name}" for name, k in needs.items())
        raise CompkitError(
            f"no machine of the cluster has what one network needs ({told}): start Ray with more, "
            "or change machine.device or machine.cores"
        )
    return int(found)


_RESOURCES = {"num_gpus": "GPU", "num_cpus": "CPU"}


def needs_of(machine: MachineConfig | None) -> dict[str, int]:
    """Return what a task with a network takes: a GPU where the cluster has any, else cores."""
    if machine is None:
        return {"num_cpus": 1}
    gpus = machine.device != "cpu" and load_ray().cluster_resources().get("GPU", 0) >= 1
    if machine.device == "cuda" and not gpus:
        raise CompkitError("machine.device is cuda, but no machine of the cluster has a GPU")
    return {"num_gpus": 1, "num_cpus": 1} if gpus else {"num_cpus": machine.cores}


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
    nodes, ray = 0, load_ray()
    try:
        client = ray._raylet.GcsClient(address=head)
        while not ended.wait(_LOOK):
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


def load_ray() -> Any:
    """Return the package; raise a CompkitError if it is not installed."""
    try:
        import ray
    except ImportError:
        raise CompkitError("--ray needs Ray: pip install 'compkit[ray]'") from None
    return ray
