"""Checkpoints that rebuild their network by themselves, without executing code from the file."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from compkit import plugins
from compkit.config import RunConfig
from compkit.config.files import from_plain, to_plain
from compkit.data.arrays import GREY, Pixels
from compkit.errors import CompkitError
from compkit.failures import sentence_of
from compkit.heads import make_head
from compkit.heads.base import Head
from compkit.inputs import require_file
from compkit.models.network import Network
from compkit.models.states import load_tensors
from compkit.progress import say
from compkit.schema import checked

#: Where a checkpoint says what it is of.
CARD = "compkit"

_PREFIX = "network."

#: Where a network's last layer is, whose channels are the head's own.
_LAST = "model.segmentation_head."

#: What rebuilding raises when a file is not what it should be.
BROKEN = (
    RuntimeError, KeyError, TypeError, ValueError, AttributeError, IndexError, RecursionError,
    ArithmeticError, AssertionError,
)  # fmt: skip


@dataclass(frozen=True)
class Card:
    """What a checkpoint says of itself.

    Attributes
    ----------
    config : RunConfig
    encoder : str
    side : int
        Side in pixels of the images, as its network saw them.
    seen : tuple of str or None
        Digests (`compkit.data.store.Store.digests`) of the labelled images that its weights learnt
        from, those that they began with included; None in files of compkit before 0.2, which do
        not tell.
    pixels : Pixels
        What the images were.
    plugins : dict of str to str
        Plugin files that it was made with, and their digests.
    """

    config: RunConfig
    encoder: str
    side: int
    seen: tuple[str, ...] | None = None
    pixels: Pixels = field(default_factory=Pixels)
    plugins: dict[str, str] = field(default_factory=dict)


def card(
    config: RunConfig, encoder: str, side: int, seen: Sequence[str], pixels: Pixels = GREY
) -> dict[str, Any]:
    """Return a `Card` as files hold it."""
    told = {"encoder": encoder, "side": side, "seen": list(seen), "pixels": asdict(pixels)}
    told |= {"plugins": plugins.used()}
    return {"config": to_plain(config), **told}


def again(path: Path) -> str:
    """Return what to do about a checkpoint of a run that is lost or damaged.

    As long as its folder says that the fit is over, compkit train has nothing to do there.
    """
    if not (path.parent.name == "all" or re.fullmatch(r"fold\d+", path.parent.name)):
        return "give a checkpoint of compkit, or a copy of one that is whole"
    every = " with --fold all" if path.parent.name == "all" else ""
    return f"delete {path.parent} and run compkit train on this run again{every}"


def load_checkpoint(path: Path) -> tuple[Network, Head, RunConfig]:
    """Rebuild network, head and configuration from a checkpoint alone, on the CPU.

    Raises
    ------
    CompkitError
        If the file is absent, unreadable, not a checkpoint of compkit, or holds weights that are
        not finite.
    """
    with refusing(path, again(path)):
        made, state = _read(path, again(path), again(path))
        head, model = make_head(made.config, made.side), made.config.model
        pixels = made.pixels.channels, made.pixels.bits
        network = Network(made.encoder, len(head.outputs), model, False, *pixels)
        network.load_state_dict(state)
    return network.eval(), head, made.config


def warm_start(network: Network, path: Path) -> None:
    """Start a network from a checkpoint's encoder and decoder, and say what matched.

    Tensors are matched by name and shape. The last layer is taken too if it fits; that of a head
    with other outputs does not, and keeps its random start.

    Raises
    ------
    CompkitError
        If the file is absent, unreadable, not a checkpoint of compkit, or of another network.
    """
    made, given = _read(
        path, "check model.start", "give model.start the best.ckpt or last.ckpt of a run"
    )
    origin = f"{made.encoder} under {made.config.model.decoder_of(made.encoder)}"
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
        If it is absent, or not a checkpoint.
    """
    require_file(path, "checkpoint", again(path))
    return _weights_digest(path.absolute(), path.stat().st_mtime_ns, path.stat().st_size)


@lru_cache(maxsize=256)
def _weights_digest(path: Path, _changed: int, _size: int) -> str:
    digest = hashlib.sha256()
    with refusing(path, again(path)):
        state = read_checkpoint(path, again(path), again(path))["state_dict"]
        for name, tensor in sorted(state.items()):
            digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)};".encode())
            digest.update(tensor.contiguous().view(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def read_checkpoint(path: Path, absent: str, broken: str) -> dict[str, Any]:
    """Return a checkpoint as it was saved, all of whose tensors are finite, on the CPU.

    Parameters
    ----------
    absent, broken : str
        What to do where there is none, or it is damaged.

    Raises
    ------
    CompkitError
        If it is absent, unreadable, none of compkit, or holds numbers that are not finite.
    """
    checkpoint = load_tensors(path, "checkpoint", absent, broken)
    if not isinstance(checkpoint, dict) or not isinstance(checkpoint.get(CARD), dict):
        raise CompkitError(f"{path} is not a checkpoint of compkit: {broken}")
    for name, tensor in _tensors(checkpoint):
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise CompkitError(f"{path} holds numbers that are not finite ({name}): {broken}")
    return checkpoint


def card_of(path: Path, checkpoint: Mapping[str, Any], remedy: str) -> Card:
    """Return what a loaded checkpoint says of itself, proven to be what can be.

    Raises
    ------
    CompkitError
        If it says nothing, or not what a checkpoint of compkit does.
    """
    plain = {key: value for key, value in checkpoint[CARD].items() if key != "head"}
    made = checked(Card, plain, str(path), remedy)
    plugins.expect(str(path), made.plugins)
    made = replace(made, config=from_plain(plain["config"], str(path), remedy))
    known = made.pixels.channels in (1, 3) and made.pixels.bits in (8, 16)
    if made.side < 1 or not known:
        raise CompkitError(f"{path} is damaged (side {made.side}, {made.pixels}): {remedy}")
    return made


def read_card(path: Path) -> Card:
    """Return what a checkpoint of a run says of itself."""
    require_file(path, "checkpoint", again(path))
    return _read_card(path.absolute(), path.stat().st_mtime_ns, path.stat().st_size)


@lru_cache(maxsize=256)
def _read_card(path: Path, _changed: int, _size: int) -> Card:
    return card_of(path, read_checkpoint(path, again(path), again(path)), again(path))


@contextmanager
def refusing(path: Path, broken: str) -> Iterator[None]:
    """Turn what goes wrong with a checkpoint into a sentence that ends in what to do."""
    try:
        yield
    except BROKEN as error:
        if sentence_of(error) is not None:
            raise  # the machine's fault, not the file's
        raise unreadable(path, error, broken) from None


def unreadable(path: Path, error: BaseException, remedy: str) -> CompkitError:
    """Return what to raise of a checkpoint that made one of `BROKEN` be raised."""
    reason = " ".join(str(error).split())[:200] or type(error).__name__
    return CompkitError(f"{path} is not a readable checkpoint ({reason}): {remedy}")


def _read(path: Path, absent: str, broken: str) -> tuple[Card, dict[str, Tensor]]:
    """Return what a checkpoint says that it is of, and its network's tensors."""
    checkpoint = read_checkpoint(path, absent, broken)
    with refusing(path, broken):
        state = checkpoint["state_dict"].items()
        of_network = {k.removeprefix(_PREFIX): v for k, v in state if k.startswith(_PREFIX)}
    return card_of(path, checkpoint, broken), of_network


def _tensors(value: Any, name: str = "") -> Iterator[tuple[str, Tensor]]:
    """Yield the tensors in nested mappings and lists, by their dotted names."""
    if isinstance(value, Tensor):
        yield name, value
    elif isinstance(value, dict | list | tuple):
        items = value.items() if isinstance(value, dict) else enumerate(value)
        for key, inner in items:
            yield from _tensors(inner, f"{name}.{key}" if name else str(key))
