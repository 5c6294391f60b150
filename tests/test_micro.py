"""Micro-batches, averaged weights and validation through whole fits of tiny networks."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from pytorch_lightning.callbacks import WeightAveraging
from torch import nn
from torch.optim.swa_utils import get_ema_multi_avg_fn
from torch.utils._python_dispatch import TorchDispatchMode

from compkit.begin import start_run
from compkit.config import LossConfig
from compkit.config.check import check
from compkit.config.files import from_plain
from compkit.data.dataset import labelled_set
from compkit.entry import guarded
from compkit.errors import CompkitError
from compkit.folds import ALL
from compkit.losses import ClassLoss
from compkit.models.checkpoint import load_checkpoint
from compkit.run import Run
from compkit.training import fit, loop, micro
from compkit.training.command import parse, run_command
from compkit.training.fit import fit_fold
from compkit.training.loop import drawn
from compkit.training.micro import fitting_parts
from compkit.training.module import SegmentationModule

ENCODER = "plain_unet16"
SETTINGS = {
    "encoders": f"[{ENCODER}]", "head": "foreground", "loss.terms": "{cross_entropy: 1}",
    "folds.k": 2, "input.batch": 8, "augment.affine_p": 0, "training.steps": 6,
    "training.steps_per_epoch": 3, "training.warmup": 1, "training.optimizer": "sgd",
    "training.lr": 0.1, "machine.device": "cpu", "machine.precision": "32",
}  # fmt: skip


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(autouse=True)
def workplace(cache, tmp_path, monkeypatch):
    monkeypatch.setenv("COMPKIT_CACHE", str(cache))
    monkeypatch.chdir(tmp_path)


def arguments(name: str, **changed: object) -> list[str]:
    settings = SETTINGS | {key.replace("__", "."): value for key, value in changed.items()}
    words = [f"--{key}={value}" for key, value in settings.items()]
    return ["--data", "phantom:size=32,labelled=10,unlabelled=0,test=1", "--run", name, *words]


def run_of(name: str, **changed: object) -> Run:
    own, config = parse(arguments(name, **changed))
    return start_run(name, config, own["data"])


def fitted(name: str, fold: int = ALL, watch=None, **changed: object) -> dict[str, torch.Tensor]:
    """Fit a run's network, on all images if not on a fold; return its weights."""
    run = run_of(name, **changed)
    fit_fold(run, ENCODER, fold, watch=watch)
    return torch.load(run.part(ENCODER, fold) / "last.ckpt", weights_only=True)["state_dict"]


class Unnormalised(SegmentationModule):
    """Without batch normalisation, so that images of a batch know nothing of each other."""

    def __init__(self, *args, **settings) -> None:
        super().__init__(*args, **settings)
        for parent in list(self.network.modules()):
            for name, child in parent.named_children():
                if isinstance(child, nn.BatchNorm2d):
                    setattr(parent, name, nn.Identity())


def close(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return all(torch.allclose(one[k], other[k], atol=1e-6) for k in one.keys() | other.keys())


def loss_of(name: str) -> list[float]:
    return pd.read_csv(f"runs/{name}/{ENCODER}/all/metrics.csv").loss.tolist()


@pytest.mark.parametrize("at_once", [4, 3])  # two equal parts, and 3 + 3 + 2
def test_micro_batches_have_the_gradient_of_the_batch(monkeypatch, capsys, at_once):
    monkeypatch.setattr(fit, "SegmentationModule", Unnormalised)
    whole = fitted("whole", machine__batch="null")
    parted = fitted("parted", machine__batch=at_once)
    assert f"{at_once} of 8 images at once" in capsys.readouterr().err
    assert close(whole, parted)
    assert loss_of("parted") == pytest.approx(loss_of("whole"), abs=1e-6)
    start = fitted("start", machine__batch="null", training__lr=1e-30)
    assert not close(whole, start)  # they learnt something that could have differed


def test_a_fit_goes_on_with_other_micro_batches(monkeypatch):
    monkeypatch.setattr(fit, "SegmentationModule", Unnormalised)

    def stop(epoch: int, score: float) -> None:
        raise TimeoutError

    whole = fitted("whole", machine__batch=4)
    with pytest.raises(TimeoutError):
        fitted("part", watch=stop, machine__batch=4)
    shutil.copytree("runs/part", "runs/other")
    same, other = fitted("part", machine__batch=4), fitted("other", machine__batch="null")
    assert all(torch.equal(whole[name], same[name]) for name in whole)
    assert close(whole, other)


def test_half_precision_sums_up_the_same(monkeypatch):
    monkeypatch.setattr(fit, "SegmentationModule", Unnormalised)
    half = {"machine__precision": "bf16-mixed", "training__ema": 0}
    whole, parted = (fitted(f"b{n}", machine__batch=n, **half) for n in (8, 4))
    assert all(torch.allclose(whole[k], parted[k], atol=2e-3) for k in whole)


def module_and_loaders(most: int) -> tuple[SegmentationModule, dict]:
    """Return a module that runs out of memory with more than so many images, and its loaders."""

    class Small(SegmentationModule):
        def supervised(self, batch):
            if len(batch["images"]) > most:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
            return super().supervised(batch)

    run = run_of("small")
    module = Small(run.config, ENCODER, run.side, run.ranking)
    data = labelled_set(run.store, range(10), run.config, module.head)
    return module, {"labelled": drawn(data, run.config.input.batch, run.config)}


def test_the_most_images_that_fit_are_found_and_nothing_is_changed():
    module, loaders = module_and_loaders(3)
    before = {k: v.clone() for k, v in module.state_dict().items()}, torch.get_rng_state()
    assert fitting_parts(module, loaders, torch.device("cpu")) == 3
    assert all(torch.equal(v, before[0][k]) for k, v in module.state_dict().items())
    assert torch.equal(torch.get_rng_state(), before[1])
    assert all(p.grad is None for p in module.parameters())
    module, loaders = module_and_loaders(1)
    with pytest.raises(CompkitError, match=r"not even two images of 32×32 .* input\.crop"):
        fitting_parts(module, loaders, torch.device("cpu"))


def test_a_gpu_too_small_for_the_batch_is_told_of_and_trained_on(monkeypatch, capsys):
    asked = []

    def fits(module, batches, device):
        asked.append(len(batches[0]["images"]))
        return asked[-1] <= 3

    monkeypatch.setattr(micro, "device_of", lambda machine: torch.device("cuda"))
    monkeypatch.setattr(micro, "_fits", fits)
    fitted("found")
    assert asked == [8, 4, 3]
    assert (
        f"{ENCODER} on all images: 3 of 8 images at once (machine.batch)" in capsys.readouterr().err
    )


def test_a_batch_that_no_parts_suit_is_refused():
    values = {"input": {"batch": 3}, "machine": {"batch": 2}}
    with pytest.raises(CompkitError, match=r"machine\.batch must leave two images or more"):
        from_plain(values)
    check(from_plain(values | {"input": {"batch": 4}}))


def test_memory_that_ends_in_the_middle_is_one_sentence(monkeypatch, capsys):
    steps = []

    class Full(SegmentationModule):
        def supervised(self, batch):
            steps.append(1)
            if len(steps) > 4:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
            return super().supervised(batch)

    monkeypatch.setattr(fit, "SegmentationModule", Full)
    assert guarded(lambda: run_command(arguments("full", machine__batch="null"))) == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("error: not enough memory on the GPU")
    assert "make machine.batch, input.crop or input.size smaller" in last
    assert len(pd.read_csv(f"runs/full/{ENCODER}/fold0/metrics.csv")) == 1  # it goes on from there


class AsInTorch(WeightAveraging):
    """The average by torch's own count."""

    def __init__(self, decay: float) -> None:
        def average(averaged, current, updates) -> None:
            n = int(updates)
            get_ema_multi_avg_fn(min(decay, (1 + n) / (10 + n)))(averaged, current, updates)

        super().__init__(multi_avg_fn=average)


def test_averaged_weights_are_those_of_torch(monkeypatch):
    ours = fitted("ours", training__ema=0.5)
    monkeypatch.setattr(loop, "AveragedWeights", AsInTorch)
    torchs = fitted("torchs", training__ema=0.5)
    assert all(torch.equal(ours[name], torchs[name]) for name in ours)
    plain = fitted("plain", training__ema=0)
    assert not close(ours, plain)


class Readings(TorchDispatchMode):
    """Counts numbers that Python takes out of tensors: on a GPU each waits for all before it."""

    count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.count += func is torch.ops.aten._local_scalar_dense.default
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("head", ["boundary", "affinity"])
def test_no_step_reads_a_number(monkeypatch, head):
    readings, steps = Readings(), []

    class Watched(SegmentationModule):
        def on_train_batch_start(self, *_):
            readings.__enter__()

        def on_train_batch_end(self, *_):
            readings.__exit__(None, None, None)
            steps.append(readings.count)

    monkeypatch.setattr(fit, "SegmentationModule", Watched)
    terms = "{cross_entropy: 1, adaptive_tvmf_dice: 1, dice: 1}"
    fitted("watched", head=head, loss__terms=terms, training__clip=1, machine__batch=4)
    assert steps == [0] * 6
    with readings:
        float(torch.ones(1))
    assert readings.count == 1


def test_kappa_goes_to_the_gpu_once():
    loss = ClassLoss(LossConfig(terms={"adaptive_tvmf_dice": 1.0}), classes=2)
    loss(*(torch.zeros(1, channels, 4, 4, device="meta") for channels in (2, 2, 1)))
    assert loss.kappa.device.type == "meta"


def test_epochs_are_scored_on_the_same_few_images_and_maps_are_of_all(monkeypatch):
    seen: list[torch.Tensor] = []

    class Watched(SegmentationModule):
        def validation_step(self, batch, batch_idx):
            seen.append(batch[0])
            super().validation_step(batch, batch_idx)

    monkeypatch.setattr(fit, "SegmentationModule", Watched)
    fitted("few", fold=0, training__validation_images=2)
    first, again = seen
    assert len(first) == 2
    assert torch.equal(first, again)
    run = run_of("few", training__validation_images=2)
    valid = run.folds.valid_indices(0)
    assert len(valid) > 2
    assert all(any(np.array_equal(run.store.images[i], one) for i in valid) for one in first)
    assert len(np.load(run.part(ENCODER, 0) / "oof/maps.npy")) == len(valid)
    seen.clear()
    fitted("all", fold=0, training__validation_images=1000)
    assert len(seen[0]) == len(valid)


def test_a_compiled_network_leaves_checkpoints_as_they_are(monkeypatch):
    original, compiled = nn.Module.compile, []

    def traced(self, **settings):
        # All but the compiler itself, which takes minutes on a busy core.
        compiled.append(self)
        original(self, backend="aot_eager", **settings)

    monkeypatch.setattr(nn.Module, "compile", traced)
    gentle = {"training__lr": 1e-4, "training__steps": 2, "training__steps_per_epoch": 1}
    fast = fitted("fast", machine__compile="true", **gentle)
    (network,) = compiled
    assert network._compiled_call_impl is not None
    plain = fitted("plain", **gentle)
    assert fast.keys() == plain.keys()
    assert all(torch.allclose(fast[k], plain[k], atol=1e-4) for k in plain)
    load_checkpoint(Path(f"runs/fast/{ENCODER}/all/last.ckpt"))
