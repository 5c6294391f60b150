"""What a run is: frozen dataclasses, filled from YAML below and the command line above."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any, Literal

import yaml

from compkit.errors import CompkitError, nearest
from compkit.files import replacing


@dataclass(frozen=True)
class FoldsConfig:
    """Which images validate which models.

    Parameters
    ----------
    file : path of a CSV made by ``compkit folds``; null makes a split with the settings below.
    k : number of folds.
    seed : seed of the split.
    grouped : keep near-duplicate slices on one side.
    """

    file: str | None = None
    k: int = 5
    seed: int = 0
    grouped: bool = True


@dataclass(frozen=True)
class ModelConfig:
    """The network under the head.

    Parameters
    ----------
    decoder : a decoder of segmentation-models-pytorch (unet, unetplusplus, fpn, ...).
    weights : encoder weights: none, hub, or a file's path; {encoder} in it is replaced by the name.
    """

    decoder: str = "unet"
    weights: str = "none"


@dataclass(frozen=True)
class LossConfig:
    """The foreground loss, a weighted sum of terms.

    Parameters
    ----------
    terms : weight of each term by name (dice, normalised_dice, tvmf_dice, adaptive_tvmf_dice,
        cross_entropy).
    kappa : concentration of tvmf_dice.
    adaptive_lambda : factor from validation Dice to concentration in adaptive_tvmf_dice.
    """

    terms: dict[str, float] = field(default_factory=lambda: {"adaptive_tvmf_dice": 1.0})
    kappa: float = 32.0
    adaptive_lambda: float = 32.0


@dataclass(frozen=True)
class InputConfig:
    """What a training example is.

    Parameters
    ----------
    size : side in pixels that images are resized to; null keeps them as they are.
    crop : side in pixels of a random crop of that; null takes the whole image.
    batch : images in a training batch.
    """

    size: int | None = None
    crop: int | None = None
    batch: int = 8


@dataclass(frozen=True)
class AugmentConfig:
    """Random changes to a training image; every number 0 switches its change off.

    Parameters
    ----------
    hflip : probability of a left-right flip.
    vflip : probability of an up-down flip.
    rot90 : probability of a random multiple of 90 degrees.
    rotate : largest rotation, degrees.
    scale : largest relative change of size.
    shift : largest shift, as a share of the side.
    elastic : strength of a smooth deformation, pixels at a side of 128.
    contrast : largest relative change of brightness and contrast.
    noise : largest standard deviation of Gaussian noise, share of the grey range.
    blur : largest standard deviation of a Gaussian blur, pixels.
    """

    hflip: float = 0.5
    vflip: float = 0.0
    rot90: float = 0.0
    rotate: float = 15.0
    scale: float = 0.2
    shift: float = 0.1
    elastic: float = 0.0
    contrast: float = 0.2
    noise: float = 0.02
    blur: float = 0.0


@dataclass(frozen=True)
class TrainingConfig:
    """How one network is fitted.

    Parameters
    ----------
    steps : optimiser steps in all.
    steps_per_epoch : steps between two validations; checkpoints are written there.
    optimizer : adamw or sgd.
    lr : peak learning rate.
    momentum : momentum of sgd.
    weight_decay : decay of weight matrices (biases and norms are spared).
    schedule : poly (power 0.9) or cosine, down to zero at the last step.
    warmup : steps of linear warm-up.
    clip : largest gradient norm; 0 does not clip.
    ema : decay of the averaged weights; 0 keeps no average.
    patience : epochs without a better score before stopping; 0 never stops early.
    """

    steps: int = 4000
    steps_per_epoch: int = 100
    optimizer: Literal["adamw", "sgd"] = "adamw"
    lr: float = 1e-3
    momentum: float = 0.9
    weight_decay: float = 0.01
    schedule: Literal["poly", "cosine"] = "cosine"
    warmup: int = 50
    clip: float = 1.0
    ema: float = 0.99
    patience: int = 0


@dataclass(frozen=True)
class InferenceConfig:
    """How maps are predicted, for out-of-fold and test images alike.

    Parameters
    ----------
    views : TTA views, each transforms joined by "+": identity, hflip, vflip, rot90, rot180, rot270,
        scale0.75, scale1.25, ... (for instance hflip+rot90).
    checkpoint : best (by the ranking metric on the validation fold) or last.
    batch : images in a prediction batch.
    """

    views: tuple[str, ...] = ("identity", "hflip")
    checkpoint: Literal["best", "last"] = "best"
    batch: int = 8


@dataclass(frozen=True)
class MachineConfig:
    """Where a run runs; free to differ when it is resumed.

    Parameters
    ----------
    device : auto, cpu or cuda.
    precision : auto (16-bit mixed where the device has it), 32, 16-mixed or bf16-mixed.
    workers : loader processes; null takes none on a CPU and one a core, up to 12, on a GPU.
    """

    device: Literal["auto", "cpu", "cuda"] = "auto"
    precision: Literal["auto", "32", "16-mixed", "bf16-mixed"] = "auto"
    workers: int | None = None


@dataclass(frozen=True)
class RunConfig:
    """Everything that defines a run.

    Parameters
    ----------
    encoders : timm encoders, one network each.
    head : how regions become maps and back.
    seed : seed of weights, order and augmentation.
    """

    encoders: tuple[str, ...] = ("resnet34",)
    head: str = "foreground"
    seed: int = 0
    folds: FoldsConfig = FoldsConfig()
    model: ModelConfig = ModelConfig()
    loss: LossConfig = field(default_factory=LossConfig)
    input: InputConfig = InputConfig()
    augment: AugmentConfig = AugmentConfig()
    training: TrainingConfig = TrainingConfig()
    inference: InferenceConfig = InferenceConfig()
    machine: MachineConfig = MachineConfig()


def from_plain(values: dict[str, Any], kind: type = RunConfig) -> Any:
    """Return the configuration that `to_plain` took apart."""
    settings = {}
    for f in fields(kind):
        default, value = _default(f), values[f.name]
        if is_dataclass(default):
            value = from_plain(value, type(default))
        settings[f.name] = tuple(value) if isinstance(default, tuple) else value
    return kind(**settings)


def to_plain(config: RunConfig) -> dict[str, Any]:
    """Return the configuration as dicts, lists and scalars."""
    return _plain(asdict(config))


def read_yaml(path: Path | str) -> dict[str, Any]:
    """Read a configuration file and refuse keys that no setting has.

    Raises
    ------
    CompkitError
        If the file is absent, is not YAML, or names an unknown setting; all of them are named.
    """
    path = Path(path)
    try:
        values = yaml.safe_load(path.read_text()) or {}
    except FileNotFoundError:
        raise CompkitError(f"there is no configuration file {path}: check --config") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())
        raise CompkitError(f"{path} is not valid YAML ({reason}): correct it") from None
    if not isinstance(values, dict):
        raise CompkitError(f"{path} does not hold settings (`key: value` lines): correct it")
    if unknown := list(_unknown(values, RunConfig, "")):
        raise CompkitError(f"{path} has {'; and '.join(unknown)}: see `train.py --help`")
    return values


def _unknown(values: dict[str, Any], kind: type, prefix: str) -> Iterator[str]:
    known = {f.name: f for f in fields(kind)}
    for key, value in values.items():
        if key not in known:
            yield f"an unknown key {prefix + str(key)!r}{_suggest(str(key), prefix, known)}"
            continue
        default = _default(known[key])
        if is_dataclass(default) and isinstance(value, dict):
            yield from _unknown(value, type(default), f"{prefix}{key}.")


def _suggest(key: str, prefix: str, known: dict[str, Any]) -> str:
    if elsewhere := [name for name in setting_names() if name.endswith(f".{key}")]:
        return f"; did you mean {elsewhere[0]!r}?"
    near = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
    return f"; did you mean {prefix + near[0]!r}?" if near else nearest(key, setting_names())


def _default(f: Any) -> Any:
    return f.default_factory() if callable(f.default_factory) else f.default


def check(config: RunConfig) -> None:
    """Refuse values that cannot work.

    Raises
    ------
    CompkitError
        Naming every setting that is wrong.
    """
    i, t, f = config.input, config.training, config.folds
    rules = {
        "encoders must name at least one encoder": len(config.encoders) > 0,
        "encoders must not name one twice": len(set(config.encoders)) == len(config.encoders),
        "folds.k must be at least 2": f.k >= 2,
        "input.size must be at least 16": i.size is None or i.size >= 16,
        "input.crop must be at least 16": i.crop is None or i.crop >= 16,
        "input.crop must not exceed input.size": not i.crop or not i.size or i.crop <= i.size,
        "input.batch must be at least 2 (batch normalisation)": i.batch >= 2,
        "inference.batch must be at least 1": config.inference.batch >= 1,
        "inference.views must name at least one view": len(config.inference.views) > 0,
        "training.steps must be a positive multiple of training.steps_per_epoch": (
            t.steps_per_epoch > 0 and t.steps > 0 and t.steps % t.steps_per_epoch == 0
        ),
        "training.lr must be positive": t.lr > 0,
        "training.warmup must be from 0 to training.steps": 0 <= t.warmup <= t.steps,
        "training.ema must be at least 0 and under 1": 0 <= t.ema < 1,
        "training.clip must not be negative": t.clip >= 0,
        "training.patience must not be negative": t.patience >= 0,
        "augment.scale must be under 1": config.augment.scale < 1,
        "augment must not hold a negative number": min(asdict(config.augment).values()) >= 0,
        "loss.kappa must not be negative": config.loss.kappa >= 0,
        "loss.adaptive_lambda must not be negative": config.loss.adaptive_lambda >= 0,
    }
    if broken := [rule for rule, kept in rules.items() if not kept]:
        raise CompkitError(f"the configuration cannot work: {'; '.join(broken)}")


def setting_names(kind: type = RunConfig, prefix: str = "") -> list[str]:
    """Return the dotted name of every setting."""
    names = []
    for f in fields(kind):
        default = _default(f)
        if is_dataclass(default):
            names += setting_names(type(default), f"{prefix}{f.name}.")
        else:
            names.append(prefix + f.name)
    return names


def to_yaml(config: RunConfig) -> str:
    """Return the effective configuration as YAML; `read_yaml` takes it back."""
    return yaml.safe_dump(to_plain(config), sort_keys=False, allow_unicode=True)


def save(config: RunConfig, path: Path) -> None:
    """Write the effective configuration, atomically."""
    with replacing(path) as temporary:
        temporary.write_text(to_yaml(config))


def differences(one: RunConfig, other: RunConfig) -> list[str]:
    """Name the settings in which two runs differ, the machine's aside, as ``key: old → new``."""
    old, new = _flat(to_plain(one)), _flat(to_plain(other))
    keys = [k for k in {**old, **new} if not k.startswith("machine.")]
    return [f"{k}: {old.get(k)} → {new.get(k)}" for k in keys if old.get(k) != new.get(k)]


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    return [_plain(v) for v in value] if isinstance(value, list | tuple) else value


def _flat(value: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, item in value.items():
        flat |= _flat(item, f"{prefix}{key}.") if isinstance(item, dict) else {prefix + key: item}
    return flat
