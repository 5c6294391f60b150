"""Checkpoints that rebuild their network by themselves, without executing code from the file."""

from __future__ import annotations

import hashlib
import pickle
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from compkit.config import RunConfig
from compkit.config.files import to_plain
from compkit.errors import CompkitError
from compkit.heads import make_head
from compkit.heads.base import Head
from compkit.inputs import require_file
from compkit.models.network import Network
from compkit.progress import say
from compkit.schema import checked

#: Where a checkpoint says what it is of.
CARD = "compkit"

_PREFIX = "network."

#: Where a network's last layer is, whose channels are the head's own.
_LAST = "model.segmentation_head."

#: What reading and rebuilding raise when a file is not what it should be.
BROKEN = (
    pickle.UnpicklingError, zipfile.BadZipFile, RuntimeError, EOFError, KeyError, TypeError,
    ValueError, AttributeError, IndexError, RecursionError,
)  # fmt: skip


@dataclass(frozen=True)
class Card:
    """What a checkpoint says of itself.

    Attributes
    ----------
    config : RunConfig
        Of the run that it is of.
    encoder : str
    side : int
        Side in pixels of the images, as its network saw them.
    seen : tuple of str or None
        Digests (`compkit.data.store.Store.digests`) of the labelled images that its weights learnt
        from, those that they began with included; None in files of compkit before 0.2, which do
        not tell.
    """

    config: RunConfig
    encoder: str
    side: int
    seen: tuple[str, ...] | None = None


def card(config: RunConfig, encoder: str, side: int, seen: Sequence[str]) -> dict[str, Any]:
    """Return a `Card` as files hold it."""
    return {"config": to_plain(config), "encoder": encoder, "side": side, "seen": list(seen)}


def load_checkpoint(path: Path) -> tuple[Network, Head, RunConfig]:
    """Rebuild network, head and configuration from a checkpoint alone, on the CPU.

    Raises
    ------
    CompkitError
        If the file is absent, unreadable, not a checkpoint of compkit, or holds weights that are
        not finite.
    """
    with refusing(path, "run train.py on this run again", "delete its folder and train it again"):
        made, state = _read(path)
        head = make_head(made.config, made.side)
        outputs = len(head.outputs)
        config = made.config
        network = Network(made.encoder, outputs, config.model, config.input, pretrained=False)
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
    with refusing(
        path, "check model.start", "give model.start the best.ckpt or last.ckpt of a run"
    ):
        made, given = _read(path)
    origin = f"{made.encoder} under {made.config.model.decoder}"
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


def weights_digest(path: Path) -> str:
    """Return a digest of a checkpoint's weights alone, whatever else its file holds.

    Raises
    ------
    CompkitError
        If it is not a checkpoint.
    """
    with refusing(path, "run train.py on this run again", "delete its folder and train it again"):
        return _weights_digest(path, path.stat().st_mtime_ns)


@lru_cache(maxsize=256)
def _weights_digest(path: Path, _changed: int) -> str:
    state = torch.load(path, map_location="cpu", weights_only=True)["state_dict"]
    digest = hashlib.sha256()
    for name, tensor in sorted(state.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)};".encode())
        digest.update(tensor.contiguous().view(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def card_of(path: Path, checkpoint: Mapping[str, Any]) -> Card:
    """Return what a loaded checkpoint says of itself.

    Raises
    ------
    CompkitError
        If it says nothing, or not what a checkpoint of compkit does.
    """
    told = checkpoint[CARD]
    if not isinstance(told, dict):
        raise TypeError(f"{CARD} is no mapping")
    plain = {key: value for key, value in told.items() if key != "head"}
    return checked(Card, plain, str(path), "train its network again")


@contextmanager
def refusing(path: Path, absent: str, broken: str) -> Iterator[None]:
    """Turn what goes wrong with a checkpoint into a sentence that ends in what to do."""
    require_file(path, "checkpoint", absent)
    try:
        yield
    except BROKEN as error:
        raise unreadable(path, error, broken) from None


def unreadable(path: Path, error: BaseException, remedy: str) -> CompkitError:
    """Return what to raise of a checkpoint that made one of `BROKEN` be raised."""
    reason = " ".join(str(error).split())[:200] or type(error).__name__
    if isinstance(error, pickle.UnpicklingError):
        reason = "it holds more than tensors and plain values, and compkit executes no code"
    return CompkitError(f"{path} is not a readable checkpoint ({reason}): {remedy}")


def refuse_unsound(path: Path, state: Mapping[str, Any]) -> None:
    """Raise a CompkitError if a state dict holds anything but finite tensors."""
    for name, tensor in state.items():
        if not isinstance(tensor, Tensor):
            raise TypeError(f"{name} is no tensor")
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise CompkitError(
                f"{path} holds weights that are not finite ({name}): train its network again"
            )


def _read(path: Path) -> tuple[Card, dict[str, Tensor]]:
    """Return what a checkpoint says that it is of, and its network's tensors."""
    checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    state = checkpoint["state_dict"]
    refuse_unsound(path, state)
    of_network = {k.removeprefix(_PREFIX): v for k, v in state.items() if k.startswith(_PREFIX)}
    return card_of(path, checkpoint), of_network
