"""A pretraining on disk: what identifies it, and what its encoders start from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from compkit.begin import split_of
from compkit.config import RunConfig
from compkit.config.check import check_all
from compkit.config.files import FREE, differences, from_plain, to_plain
from compkit.data.dataset import shown_side
from compkit.data.store import Store, open_store
from compkit.errors import CompkitError
from compkit.files import locked, replacing
from compkit.folds import Folds
from compkit.inputs import load_yaml
from compkit.models.network import Network
from compkit.root import claim, refuse_name, runs_root
from compkit.schema import checked
from compkit_research.pretrain.images import hidden_count, split_images
from compkit_research.pretrain.methods import Options

#: In a run's directory, says that it is a pretraining.
PRETRAINED = "pretrain.yaml"


@dataclass(frozen=True, eq=False)
class Pretraining:
    """A named pretraining: ``runs/<name>/<encoder>/``.

    Attributes
    ----------
    name, method : str
    options : Options
    config : RunConfig
        Its effective configuration.
    store : Store
        Its data.
    folds : Folds or None
        The split of labelled images that encoders are probed on; None if they are too few.
    """

    name: str
    method: str
    options: Options
    config: RunConfig
    store: Store
    folds: Folds | None

    @property
    def side(self) -> int:
        """Side in pixels of whole images, as its networks see them."""
        return self.config.input.size or self.store.size

    def part(self, encoder: str) -> Path:
        """Return the directory of one encoder."""
        return runs_root() / self.name / encoder


def start_pretraining(
    name: str, method: str, options: Options, config: RunConfig, data: str
) -> Pretraining:
    """Make the pretraining `name`, or open it to go on with the same settings and data.

    Raises
    ------
    CompkitError
        If something about it cannot work, or if it was made with other settings or data.
    """
    refuse_name(name)
    options.check(method)
    check_all(config)
    _check_config(config)
    store = open_store(data)
    _check_images(method, options, config, store)
    different = len(set(store.digests(store.labelled)))
    folds = split_of(config, store) if different >= config.folds.k else None
    directory = claim(name, PRETRAINED)
    if not (directory / PRETRAINED).is_file():
        for encoder in config.encoders:  # so that no run is made of weights that are refused
            Network(encoder, 1, config.model)
    made = {"method": method, **options.of(method), "data": data}
    content = {"content": store.content, "test": store.test_content}
    with locked(directory, "starting it", wait=True):
        if (directory / PRETRAINED).is_file():
            _refuse_another(directory, made, config, store)
        else:
            with replacing(directory / PRETRAINED) as temporary:
                values = {**made, **content, "config": to_plain(config)}
                text = yaml.safe_dump(values, sort_keys=False, allow_unicode=True)
                temporary.write_text(text, encoding="utf-8")
    return Pretraining(name, method, options, config, store, folds)


def _check_config(config: RunConfig) -> None:
    """Refuse settings that only a training has a meaning for."""
    rules = {
        "takes no model.start: its encoders start from model.weights": config.model.start is None,
        "uses all images alike: leave unlabelled.weight 0": not config.unlabelled.weight,
        "trains encoders: leave training.freeze_encoder out": not config.training.freeze_encoder,
        "trains nothing but encoders: leave training.encoder_lr out": (
            config.training.encoder_lr == 1
        ),
        "normalises as of ImageNet: leave model.normalisation out": (
            config.model.normalisation is None
        ),
        "holds images back by --held-back: leave training.validation_images out": (
            config.training.validation_images is None
        ),
        "computes whole batches, uncompiled: leave machine.batch and machine.compile out": (
            not isinstance(config.machine.batch, int) and not config.machine.compile
        ),
    }
    for rule, kept in rules.items():
        if not kept:
            raise CompkitError(f"compkit pretrain {rule}")


def _check_images(method: str, options: Options, config: RunConfig, store: Store) -> None:
    side = shown_side(config.input.size or store.size, config)
    if method == "mae":
        hidden = hidden_count(side, options.mask_window, options.mask_ratio)
        every = hidden_count(side, options.mask_window, 1)
        if not 0 < hidden < every:
            raise CompkitError(
                f"of the {every} windows of {options.mask_window} pixels in an input of {side} "
                f"pixels, {hidden} would be hidden: give a smaller --mask-window, or another "
                "--mask-ratio"
            )
    training, _ = split_images(store, options.held_back, config.seed)
    if method == "simclr" and config.input.batch > len(training):
        raise CompkitError(
            f"input.batch is {config.input.batch}, but there are {len(training)} images to "
            "pretrain on, and an image would be told from itself: make it smaller"
        )


def _refuse_another(directory: Path, made: dict[str, Any], config: RunConfig, store: Store) -> None:
    path, remedy = directory / PRETRAINED, "take another --run name"
    before = checked(dict[str, Any], load_yaml(path, "pretraining's file"), str(path), remedy)
    was = from_plain(before.pop("config", None), str(path), remedy)
    content, test = before.pop("content", None), before.pop("test", store.test_content)
    # Data may move.
    old, new = ({k: v for k, v in d.items() if k != "data"} for d in (before, made))
    if not store.is_of(content) or test != store.test_content:
        raise CompkitError(
            f"{directory} was made on other data ({before.get('data')}): "
            "give the same --data, or take another --run name"
        )
    changed = [
        f"{k}: {old.get(k)} → {new.get(k)}" for k in {**old, **new} if old.get(k) != new.get(k)
    ]
    if changed := changed + differences(was, config, FREE):
        raise CompkitError(
            f"{directory} was made with other settings ({'; '.join(changed)}): "
            "take another --run name, or the same settings"
        )
