"""What ``compkit pretrain`` does: every encoder of a configuration, then a table of probes."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader, default_collate

from compkit.config import RunConfig
from compkit.data.dataset import Examples
from compkit.display import print_scores
from compkit.files import locked
from compkit.folds import ALL
from compkit.leak import inherited
from compkit.models.weights import save_encoder
from compkit.progress import say
from compkit.run import FITTED, read_fitted
from compkit.schema import read_record
from compkit.training.callbacks import LAST, Watch, draw_curve, finish
from compkit.training.loop import drawn, fit
from compkit.training.module import seed_of
from compkit_research.pretrain.images import Pairs, Puzzle, Puzzles, split_images
from compkit_research.pretrain.methods import METHODS, Options
from compkit_research.pretrain.module import PretrainModule
from compkit_research.pretrain.pictures import draw_reconstructions
from compkit_research.pretrain.probe import Probe, probe_encoder
from compkit_research.pretrain.reconstruct import Reconstruction
from compkit_research.pretrain.run import Pretraining, start_pretraining
from compkit_research.pretrain.simclr import Simclr, chance

#: How many held-back images are drawn beside their reconstructions.
_DRAWN = 6

#: What compkit train takes of a contrastive pretraining.
_ENCODER = "encoder.safetensors"


@dataclass(frozen=True)
class _Result:
    """What ``fit.json`` holds of one encoder: probes of it as it began, and pretrained."""

    score: float
    probe: dict[str, Probe | None]
    chance: float = 0.0


def pretrain(method: str, options: Options, config: RunConfig, data: str, name: str) -> None:
    """Pretrain what is unfinished of the run `name`; when all is done, print what probes tell.

    Parameters
    ----------
    method : str
        One of `METHODS`.
    data : str
        A folder in the challenge's layout, or ``phantom:…``.

    Raises
    ------
    CompkitError
        For any bad input, before anything is trained.
    """
    run = start_pretraining(name, method, options, config, data)
    if run.folds is None:
        say(f"fewer labelled images than folds.k ({config.folds.k}): encoders are not probed")
    count = len(config.encoders)
    for number, encoder in enumerate(config.encoders, start=1):
        pretrain_encoder(run, encoder, f"[{number}/{count}] ")
    _report(run)


def pretrain_encoder(
    run: Pretraining, encoder: str, prefix: str = "", watch: Watch | None = None
) -> None:
    """Pretrain one encoder to its end, from its last epoch's edge if it was interrupted.

    Writes ``last.ckpt``, ``best.ckpt``, ``metrics.csv``, ``curve.png`` and ``environment.json``;
    ``encoder.safetensors`` (simclr) or ``reconstructions.png``; ``fit.json`` when all is done.
    `prefix` goes before its name in what people are told; `watch` is as for `fit`.

    Raises
    ------
    CompkitError
        If another process works in the same directory.
    """
    part = run.part(encoder)
    with locked(part, f"pretraining {encoder}"):
        if (part / FITTED).is_file():
            say(f"{prefix}{encoder}: done (score {read_fitted(part).score:.4f})")
            return
        begun = (part / LAST).exists()
        module = _module(run, encoder, pretrained=not begun)
        if not begun:
            module.seen = inherited(run.config, encoder, ALL)
        training, held_back = _data_sets(run)
        loaders = {"unlabelled": drawn(training, run.config.input.batch, run.config)}
        keeper, rows = fit(
            module, loaders, _in_order(held_back, run.config), run.config, part,
            f"{prefix}{run.method} {encoder}", watch,
        )  # fmt: skip
        score = METHODS[run.method].score
        draw_curve(rows, f"{run.method} {encoder}", part / "curve.png", ("score",), score)
        # The averaged weights of the last epoch: its score is not one of segmentation, so the best
        # by it is no better a start.
        module.load_state_dict(torch.load(part / LAST, weights_only=True)["state_dict"])
        result = {"score": rows[-1]["score"], "seconds": round(keeper.seconds, 1)}
        if isinstance(module, Simclr):
            _save_encoder(module, part / _ENCODER)
            result["chance"] = chance(len(held_back))
        elif isinstance(module, Reconstruction):
            _draw(module, held_back, part / "reconstructions.png")
        finish(part, result | {"probe": _probes(run, encoder, module)})


def _module(run: Pretraining, encoder: str, pretrained: bool) -> PretrainModule:
    """Return the module that an encoder is trained in, as it begins."""
    torch.manual_seed(seed_of(run.config.seed, *encoder.encode()))
    if run.method == "simclr":
        return Simclr(run.config, encoder, run.side, run.options.temperature, pretrained)
    return Reconstruction(run.config, encoder, run.side, pretrained)


def _data_sets(run: Pretraining) -> tuple[Examples, Examples]:
    """Return the examples to train on, and those that are held back."""
    parts = split_images(run.store, run.options.held_back, run.config.seed)
    sets: list[Examples] = []
    for indices, training in zip(parts, (True, False), strict=True):
        if run.method == "simclr":
            sets.append(Pairs(run.store, indices.tolist(), run.config, training))
        else:
            window = run.options.mask_window if run.method == "mae" else 0
            ratio = run.options.mask_ratio
            sets.append(Puzzles(run.store, indices.tolist(), run.config, training, window, ratio))
    return sets[0], sets[1]


def _in_order(dataset: Examples, config: RunConfig) -> DataLoader:
    draws: Any = [(index, index) for index in range(len(dataset))]
    return DataLoader(dataset, sampler=draws, batch_size=config.inference.batch)


def _save_encoder(module: Simclr, path: Path) -> None:
    encoder: Any = module.backbone
    save_encoder(encoder.model.state_dict(), path, module.seen)


@torch.no_grad()
def _draw(module: Reconstruction, held_back: Examples, path: Path) -> None:
    examples = [held_back[index, index] for index in range(min(_DRAWN, len(held_back)))]
    batch: Puzzle = default_collate(examples)
    hidden, images = batch["hidden"], batch["images"]
    module = module.to("cpu").eval()
    # What is not hidden has no part in the loss: there the network says whatever it likes.
    filled = torch.where(hidden, module(batch), images) if hidden.any() else module(batch)
    seen, answers = module.shown(batch)[:, 0].numpy(), filled[:, 0].numpy()
    draw_reconstructions(images[:, 0].numpy(), seen, answers, bool(hidden.any()), path)


def _probes(run: Pretraining, encoder: str, module: PretrainModule) -> dict[str, Any]:
    """Probe an encoder as it began and as it is now."""
    if run.folds is None:
        return {}
    say(f"{encoder}: probing the encoder as it began and as it is now")
    found = {}
    for when, probed in {"begun": _module(run, encoder, True), "pretrained": module}.items():
        part, stride = probed.parts()
        probe = probe_encoder(part, stride, run.store, run.folds, run.config)
        found[when] = probe and asdict(probe)
    return found


def _report(run: Pretraining) -> None:
    rows = []
    for encoder in run.config.encoders:
        path = run.part(encoder) / FITTED
        result = read_record(_Result, path, "delete its folder and pretrain anew")
        for when, label in (("begun", "as it began"), ("pretrained", run.method)):
            probe = result.probe.get(when)
            told = [probe.auc, probe.accuracy, probe.majority] if probe else []
            score = f"{result.score:.4f}" if when == "pretrained" else ""
            rows.append([encoder, label, *([f"{value:.4f}" for value in told] or ["-"] * 3), score])
    print_scores(
        f"{run.name}: what a linear probe of the frozen encoder tells of labelled regions "
        "(cross-validated)",
        ["encoder", "weights", "ROC AUC", "accuracy", "majority", METHODS[run.method].score],
        rows,
        ("ROC AUC", "accuracy"),
        run.folds.doubts() if run.folds else [],
    )
    if run.method == "simclr":
        say(f"guesses would have a contrastive accuracy of {result.chance:.4f}")
        paths = [f"{e}: {run.part(e) / _ENCODER}" for e in run.config.encoders]
        say(f"next: compkit train --model.weights '{{{', '.join(paths)}}}'")
    else:
        say(f"next: compkit train --model.start {run.part('{encoder}') / LAST}")
