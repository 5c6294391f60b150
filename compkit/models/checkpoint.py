"""Checkpoints that rebuild their network by themselves, without executing code from the file."""

from __future__ import annotations

import pickle
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from compkit.config import RunConfig
from compkit.config.files import from_plain, to_plain
from compkit.errors import CompkitError
from compkit.heads import make_head
from compkit.heads.base import Head
from compkit.models.network import Network
from compkit.progress import say

#: Where a checkpoint says what it is of.
CARD = "compkit"

_PREFIX = "network."

#: Where a network's last layer is, whose channels are the head's own.
_LAST = "model.segmentation_head."

#: What reading and rebuilding raise when a file is not what it should be.
_BROKEN = (
    pickle.UnpicklingError, zipfile.BadZipFile, RuntimeError, EOFError, KeyError, TypeError,
    ValueError, AttributeError,
)  # fmt: skip


def card(config: RunConfig, encoder: str, side: int) -> dict[str, Any]:
    """Return what a checkpoint must say to be rebuilt; `side`, pixels, is what its network saw."""
    return {"config": to_plain(config), "encoder": encoder, "side": side}


def load_checkpoint(path: Path) -> tuple[Network, Head, RunConfig]:
    """Rebuild network, head and configuration from a checkpoint alone, on the CPU.

    Raises
    ------
    CompkitError
        If the file is absent, unreadable or not a checkpoint of compkit.
    """
    with _refusing(path, "run train.py on this run again", "delete its folder and train it again"):
        made, state = _read(path)
        config = from_plain(made["config"])
        head = make_head(config, made["side"])
        outputs = len(head.outputs)
        network = Network(made["encoder"], outputs, config.model, config.input, pretrained=False)
        network.load_state_dict(state)
    return network.eval(), head, config


def warm_start(network: Network, path: Path) -> None:
    """Start a network from a checkpoint's encoder and decoder, and say what matched.

    Tensors are matched by name and shape. The last layer is taken too if it fits; that of a head
    with other outputs does not, and keeps its random start.

    Raises
    ------
    CompkitError
        If the file is absent, unreadable, not a checkpoint of compkit, or of another network.
    """
    with _refusing(
        path, "check model.start", "give model.start the best.ckpt or last.ckpt of a run"
    ):
        made, given = _read(path)
        origin = f"{made['encoder']} under {made['config']['model']['decoder']}"
    if not given:
        raise CompkitError(
            f"{path} holds an encoder alone: give model.weights the encoder.safetensors beside it, "
            "and leave model.start out"
        )
    own = network.state_dict()
    matched = {k: v for k, v in given.items() if k in own and v.shape == own[k].shape}
    # Either way round: a small encoder's tensors may all be found in a larger one's.
    others = [name for name in own | given if name not in matched]
    if wrong := [name for name in others if not name.startswith(_LAST)]:
        raise CompkitError(
            f"{path}, of {origin}, does not fit the network: {len(wrong)} of its tensors differ "
            f"(first: {wrong[0]}): give model.start a checkpoint of the same encoder, decoder and "
            "input channels"
        )
    network.load_state_dict(own | matched)
    left = f"without {', '.join(others)}" if others else "without exception"
    say(f"{path}: {len(matched)} of {len(own)} tensors taken by name and shape, {left}")


@contextmanager
def _refusing(path: Path, absent: str, broken: str) -> Iterator[None]:
    """Turn what goes wrong with a checkpoint into a sentence that ends in what to do."""
    if not path.is_file():
        raise CompkitError(f"there is no checkpoint {path}: {absent}")
    try:
        yield
    except _BROKEN as error:
        reason = str(error).split("\n")[0][:200]
        raise CompkitError(f"{path} is not a readable checkpoint ({reason}): {broken}") from None


def _read(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Return what a checkpoint says that it is of, and its network's tensors."""
    checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    state = checkpoint["state_dict"].items()
    of_network = {k.removeprefix(_PREFIX): v for k, v in state if k.startswith(_PREFIX)}
    return checkpoint[CARD], of_network
