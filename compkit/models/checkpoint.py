"""Checkpoints that rebuild their network by themselves, without executing code from the file."""

from __future__ import annotations

import pickle
import zipfile
from pathlib import Path
from typing import Any

import torch

from compkit.config import RunConfig
from compkit.config_files import from_plain, to_plain
from compkit.errors import CompkitError
from compkit.heads import make_head
from compkit.heads.base import Head
from compkit.models.network import Network

#: Where a checkpoint says what it is of.
CARD = "compkit"

_PREFIX = "network."


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
    if not path.is_file():
        raise CompkitError(f"there is no checkpoint {path}: run train.py on this run again")
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
        config = from_plain(checkpoint[CARD]["config"])
        head = make_head(config, checkpoint[CARD]["side"])
        encoder = checkpoint[CARD]["encoder"]
        network = Network(encoder, len(head.outputs), config.model, pretrained=False)
        state = checkpoint["state_dict"].items()
        network.load_state_dict({k.removeprefix(_PREFIX): v for k, v in state})
    except (
        pickle.UnpicklingError, zipfile.BadZipFile, RuntimeError, EOFError, KeyError, TypeError,
        ValueError, AttributeError,
    ) as error:  # fmt: skip
        reason = str(error).split("\n")[0][:200]
        raise CompkitError(
            f"{path} is not a readable checkpoint ({reason}): delete its folder and train it again"
        ) from None
    return network.eval(), head, config
