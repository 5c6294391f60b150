"""Segment Anything (SAM, SAM-HQ, SAM 2 and its kin) without prompts, by the library transformers.

The library lays a grid of points over the image, keeps the masks that the network is sure of, and
drops those whose box another one's nearly covers.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from compkit.config import MachineConfig
from compkit.data.store import cache_root
from compkit.errors import CompkitError
from compkit.files import digest_of
from compkit_research.sam.masks import Runs, read_masks, write_masks

#: How masks are generated: the library's defaults, spelt out since cached masks depend on them.
GENERATION = {
    "points_per_crop": 32,  # along either side
    "crops_n_layers": 0,
    "mask_threshold": 0,
    "pred_iou_thresh": 0.88,
    "stability_score_thresh": 0.95,
    "stability_score_offset": 1,
    "crops_nms_thresh": 0.7,
}

#: What a checkpoint is made of, for us: nothing that could execute code.
_FILES = ("*.json", "*.safetensors")

#: How transformers loads a checkpoint: from the folder alone, and no code that lies there.
_LOCAL = {"local_files_only": True, "trust_remote_code": False}

_PICKLED = {".bin", ".pt", ".pth", ".ckpt"}


class SegmentAnything:
    """A checkpoint of Segment Anything, and the masks that it once made, on disk.

    The network is loaded when an image comes whose masks are not there yet.

    Parameters
    ----------
    weights : str
        A folder with config.json, preprocessor_config.json and safetensors, or such a model's name
        on the hub of transformers.

    Raises
    ------
    CompkitError
        If there is no such checkpoint.
    """

    def __init__(self, weights: str) -> None:
        self._folder = _located(weights)
        made = {"weights": _digest_of(self._folder), **GENERATION}
        key = hashlib.sha256(json.dumps(made, sort_keys=True).encode()).hexdigest()
        self._cache = cache_root() / "sam" / key[:16]

    def masks(self, image: np.ndarray) -> Runs:
        """Return the masks of a grey image, uint8, shape (H, W), from the cache if they are there.

        Raises
        ------
        CompkitError
            If the checkpoint is not a whole one of Segment Anything.
        """
        content = hashlib.sha256(repr(image.shape).encode() + image.tobytes())
        path = self._cache / f"{content.hexdigest()[:32]}.npz"
        runs = read_masks(path)
        if runs is None:
            runs = self._generate(image)
            write_masks(path, runs)
        return runs

    def _generate(self, image: np.ndarray) -> Runs:
        from PIL import Image

        generator = self._generator
        with _refusing(self._folder):
            grey = Image.fromarray(image)
            output = generator(grey.convert("RGB"), output_rle_mask=True, **GENERATION)
        counts = (np.array(rle["counts"], np.uint32) for rle in output["rle_mask"])
        return Runs((grey.height, grey.width), tuple(counts))

    @cached_property
    def _generator(self) -> Any:
        import torch
        from transformers import AutoImageProcessor, pipeline
        from transformers.utils import logging

        from compkit.machine import device_of

        logging.set_verbosity_error()
        logging.disable_progress_bar()
        with _refusing(self._folder):
            # All 32 bits: the library's suppression of duplicates takes no 16-bit scores.
            model = _network(self._folder, torch.float32)
            processor = AutoImageProcessor.from_pretrained(self._folder, **_LOCAL)
        device = device_of(MachineConfig())
        return pipeline("mask-generation", model=model, image_processor=processor, device=device)


def _network(folder: Path, dtype: Any) -> Any:
    """Load the network of a checkpoint, whole."""
    from transformers import (
        MODEL_FOR_MASK_GENERATION_MAPPING,
        AutoConfig,
        AutoModelForMaskGeneration,
    )

    config = AutoConfig.from_pretrained(folder, **_LOCAL)
    if type(config) not in MODEL_FOR_MASK_GENERATION_MAPPING:
        raise CompkitError(
            f"{folder} is a checkpoint of {config.model_type}, not of Segment Anything: "
            "give one of SAM, SAM-HQ or SAM 2"
        )
    model, found = AutoModelForMaskGeneration.from_pretrained(
        folder, use_safetensors=True, dtype=dtype, output_loading_info=True,
        ignore_mismatched_sizes=True, **_LOCAL,
    )  # fmt: skip
    # The library would fill these with random numbers.
    wrong = sorted({*found["missing_keys"], *(name for name, *_ in found["mismatched_keys"])})
    if wrong:
        raise CompkitError(
            f"{len(wrong)} tensors of the network are absent from the safetensors of {folder}, or "
            f"of another shape there (first: {wrong[0]}): give a whole checkpoint"
        )
    return model


@contextmanager
def _refusing(folder: Path) -> Iterator[None]:
    """Turn what transformers says of a checkpoint that it cannot use into one sentence."""
    from safetensors import SafetensorError

    try:
        yield
    except (
        AttributeError, KeyError, OSError, RuntimeError, SafetensorError, TypeError, ValueError,
    ) as error:  # fmt: skip
        raise CompkitError(
            f"transformers cannot use the checkpoint {folder} ({_reason(error)}): give a whole one "
            "of Segment Anything, with config.json, preprocessor_config.json and safetensors"
        ) from None


def _located(weights: str) -> Path:
    """Return the folder of a checkpoint, downloaded if need be, once it has safetensors."""
    folder = Path(weights)
    if folder.is_file():
        raise CompkitError(
            f"{weights} is a file: give the folder that holds it beside config.json and "
            "preprocessor_config.json, and hold the weights as safetensors"
        )
    if not folder.is_dir():
        folder = _downloaded(weights)
    if any(folder.glob("*.safetensors")):
        return folder
    pickled = sorted(path.name for path in folder.iterdir() if path.suffix in _PICKLED)
    beside = f", only {pickled[0]}" if pickled else ""
    raise CompkitError(
        f"{weights} holds no weights as safetensors{beside}: pickled weights are never loaded, "
        "since they may execute code; give a checkpoint saved as safetensors"
    )


def _downloaded(name: str) -> Path:
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(name, allow_patterns=list(_FILES)))
    except Exception as error:  # a hub fails in the ways of several network libraries
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise CompkitError(
            f"there is no folder {name}, and no model of that name comes from the hub "
            f"({_reason(error)}): download it where there is a network, and give its folder"
        ) from None


def _digest_of(folder: Path) -> str:
    paths = sorted(path for pattern in _FILES for path in folder.glob(pattern))
    digests = {path.name: digest_of(path) for path in paths}
    return hashlib.sha256(json.dumps(digests).encode()).hexdigest()


def _reason(error: Exception) -> str:
    """Return the first sentence of what a library says, which may be a page."""
    return re.split(r"[.:]?\s*\n|\. ", str(error).strip())[0][:200] or type(error).__name__
