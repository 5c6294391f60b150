"""Which configurations cannot work."""

from __future__ import annotations

from dataclasses import asdict

from compkit.config import RunConfig
from compkit.config.files import flat
from compkit.errors import CompkitError
from compkit.registry import HEADS, LOSSES

#: No number is larger, whatever it is of: not finite ones are refused by it, too.
_LARGEST = 10**9

#: What is possible of some numbers, where more would ask for absurd amounts of memory.
_BOUNDS = {
    "seed": (0, 2**32 - 1),
    "folds.seed": (0, 2**32 - 1),
    "input.size": (16, 16384),
    "input.crop": (16, 16384),
    "inference.tile": (16, 16384),
    "input.batch": (2, 65536),
    "external.batch": (2, 65536),
    "unlabelled.batch": (2, 65536),
    "inference.batch": (1, 65536),
    "machine.workers": (0, 1024),
    "machine.cores": (1, 1024),
    "machine.batch": (2, 65536),
    "training.validation_images": (1, _LARGEST),
    "partition.reach": (1, 4096),
}


def check(config: RunConfig) -> None:
    """Refuse values that cannot work.

    Raises
    ------
    CompkitError
        Naming every setting that is wrong.
    """
    i, t, f, a = config.input, config.training, config.folds, config.augment
    p, u = config.partition, config.unlabelled
    weights, start, m = config.model.weights, config.model.start, config.machine
    own = config.model.normalisation
    normalisations = own.values() if isinstance(own, dict) else [own]
    chances = [a.affine_p, a.elastic_p, a.contrast_p, a.noise_p, a.blur_p]
    named = {weights} if isinstance(weights, str) else set(weights.values())
    rules = {
        **{
            f"model.{name} must name the {name} of every encoder, and of no other": (
                not isinstance(value, dict) or set(value) == set(config.encoders)
            )
            for name, value in vars(config.model).items()
        },
        "model.normalisation must have a positive deviation": all(
            one is None or isinstance(one, str) or one[1] > 0 for one in normalisations
        ),
        "machine.batch must leave two images or more in every part of input.batch, and of "
        "external.batch and unlabelled.batch": (
            not isinstance(m.batch, int)
            or -(-max(config.batches) // m.batch) <= min(config.batches) // 2
        ),
        "encoders must name at least one encoder": len(config.encoders) > 0,
        "encoders must not name one twice": len(set(config.encoders)) == len(config.encoders),
        "folds.k must be at least 2": f.k >= 2,
        "folds.groups and folds.file exclude each other: leave one out": (
            f.groups is None or f.file is None
        ),
        "folds.groups needs folds.grouped true": f.groups is None or f.grouped,
        "input.crop must not exceed input.size": not i.crop or not i.size or i.crop <= i.size,
        "input.focus must be from 0 to 1": 0 <= i.focus <= 1,
        "input.focus needs input.crop": not i.focus or i.crop is not None,
        "inference.views must name at least one view": len(config.inference.views) > 0,
        f"training.steps ({t.steps}) must be a positive multiple of "
        f"training.steps_per_epoch ({t.steps_per_epoch})": (
            t.steps_per_epoch > 0 and t.steps > 0 and t.steps % t.steps_per_epoch == 0
        ),
        "loss.ignored must be from 0 to 1": 0 <= config.loss.ignored <= 1,
        "external.background must be from 0 to 1": 0 <= config.external.background <= 1,
        "training.lr must be positive": t.lr > 0,
        "training.momentum must be at least 0 and under 1": 0 <= t.momentum < 1,
        "training.warmup must be from 0 to training.steps": 0 <= t.warmup <= t.steps,
        "training.ema must be at least 0 and under 1": 0 <= t.ema < 1,
        "training.clip must not be negative": t.clip >= 0,
        "training.patience must not be negative": t.patience >= 0,
        "external.weight must be positive": config.external.weight > 0,
        "unlabelled.weight must not be negative": u.weight >= 0,
        "unlabelled.confidence must be at least 0.5 and under 1": 0.5 <= u.confidence < 1,
        "unlabelled.ramp must be from 0 to 1": 0 <= u.ramp <= 1,
        "unlabelled.weight needs unlabelled.teacher, a finished run or ensemble": (
            not u.weight or u.teacher is not None
        ),
        "unlabelled.teacher mean meant something else in older versions: rename the run": (
            u.teacher != "mean"
        ),
        "training.encoder_lr must be positive": t.encoder_lr > 0,
        "training.encoder_lr tells nothing where training.freeze_encoder is true": (
            t.encoder_lr == 1 or not t.freeze_encoder
        ),
        "training.freeze_encoder needs pretrained weights (model.weights or model.start)": (
            not t.freeze_encoder or start is not None or "none" not in named
        ),
        "augment.scale must be under 1": a.scale < 1,
        "augment's probabilities must be at most 1": max(a.hflip, a.vflip, a.rot90, *chances) <= 1,
        "augment's shares must be at most 1": max(a.shift, a.contrast, a.noise) <= 1,
        "augment must not hold a negative number": min(asdict(a).values()) >= 0,
        "partition.border must be positive": p.border > 0,
        "partition.touching must not be negative": p.touching >= 0,
        "loss.kappa must not be negative": config.loss.kappa >= 0,
        "loss.adaptive_lambda must not be negative": config.loss.adaptive_lambda >= 0,
        "model.start and model.weights exclude each other: leave one out": (
            start is None or named <= {"auto", "none"}
        ),
        "model.start must hold {encoder} where there are several": (
            start is None or len(config.encoders) <= 1 or "{encoder}" in start
        ),
    }
    broken = [rule for rule, kept in rules.items() if not kept]
    for key, value in flat(asdict(config)).items():
        low, high = _BOUNDS.get(key, (-_LARGEST, _LARGEST))
        each = value if isinstance(value, tuple | list) else (value,)
        if not all(low <= v <= high for v in each if isinstance(v, int | float)):
            broken.append(f"{key} must be from {low} to {high}")
    if broken:
        raise CompkitError(f"the configuration cannot work: {'; '.join(broken)}")


def check_names(config: RunConfig) -> None:
    """Refuse what `check_all` does, as far as it is known without torch, which takes seconds."""
    from compkit.metrics.named import beside

    check(config)
    for head in config.head.split("+"):
        HEADS.require(head)
    for loss in config.loss.terms:
        LOSSES.require(loss)
    beside(*filter(None, [config.ranking]))


def check_all(config: RunConfig, encoders: bool = True) -> None:
    """Refuse values that cannot work, and names that nothing has: of heads, losses, metrics, views.

    Parameters
    ----------
    encoders : bool
        Ask for encoders and decoders, too, and try the head, which takes time.

    Raises
    ------
    CompkitError
    """
    check_names(config)
    from compkit.heads import make_head
    from compkit.inference.tta import parse_view

    for view in config.inference.views:
        parse_view(view)
    if not encoders:
        make_head(config, config.input.size or 128)
        return
    from compkit.heads.proven import prove_head
    from compkit.models.network import check_names as check_networks

    prove_head(config, config.input.size or 128)
    check_networks(config.encoders, config.model)
