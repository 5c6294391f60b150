"""Every partition: perfect maps give back the regions, views put channels right, losses learn."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch

from compkit.config import RunConfig
from compkit.data.store import open_store
from compkit.errors import CompkitError
from compkit.heads import HEADS, make_head
from compkit.heads.graph import offsets_of
from compkit.heads.partition import Truth
from compkit.inference.tta import parse_view
from compkit.metrics.named import image_scores
from compkit.phantom.slices import draw_slice

REAL = Path(__file__).parents[2] / "shared" / "data" / "ct-mini"
VIEWS = [f"{a}+{b}" for a, b in itertools.product(("identity", "hflip"), ("identity", "rot90"))]
VIEWS += ["vflip", "rot180", "rot270"]
PARTITIONS = HEADS.names()[1:]
ALONE_AND_TOGETHER = [*HEADS.names(), "+".join(PARTITIONS)]


def slices(size: int, count: int = 4) -> list[np.ndarray]:
    return [draw_slice(7, "train", index, size).labels for index in range(count)]


def made(name: str, side: int = 64):
    return make_head(RunConfig(head=name), side)


def scores(head, labels) -> dict[str, float]:
    return image_scores(labels, head.decode(head.ideal(labels), head.defaults))


@pytest.mark.parametrize("name", ALONE_AND_TOGETHER)
@pytest.mark.parametrize("size", [96, 128])
def test_perfect_maps_give_back_the_regions(name, size):
    head = made(name, size)
    all_scores = [scores(head, labels) for labels in slices(size)]
    mean = {key: np.mean([s[key] for s in all_scores]) for key in all_scores[0]}
    if name == "foreground":  # it fuses what touches
        assert mean["adjusted_all"] > 0.9
    else:
        assert mean["adjusted_all"] >= 0.99
        assert mean["adjusted_foreground"] >= 0.95


@pytest.mark.parametrize("name", ALONE_AND_TOGETHER)
def test_shapes_names_and_gradients(name):
    head = made(name, 48)
    labels = slices(48, 2)
    truth = Truth(
        torch.from_numpy(np.stack(labels).astype(np.int32)),
        torch.from_numpy(np.stack([head.targets(one) for one in labels])),
        torch.ones(2, 1, 48, 48),
    )
    logits = torch.randn(2, len(head.outputs), 48, 48, requires_grad=True)
    head.loss(logits, truth).backward()
    assert torch.isfinite(logits.grad).all()
    assert (logits.grad.abs().sum(dim=(0, 2, 3)) > 0).all()
    maps = head.activate(logits.detach())
    assert maps.shape == (2, len(head.maps), 48, 48)
    assert len(set(head.maps)) == len(head.maps)
    assert maps.min() >= 0
    assert maps.max() <= 1
    decoded = head.decode(maps[0].numpy(), head.defaults)
    assert decoded.dtype == np.int32
    assert set(np.unique(decoded)) | {0} == set(range(decoded.max() + 1))


@pytest.mark.parametrize("name", ALONE_AND_TOGETHER)
def test_a_batch_without_regions_or_weights_has_a_finite_loss(name):
    head = made(name, 32)
    empty = np.zeros((32, 32), np.uint8)
    for labels, weight in ((empty, 1.0), (slices(32, 1)[0], 0.0)):
        truth = Truth(
            torch.from_numpy(labels.astype(np.int32))[None],
            torch.from_numpy(head.targets(labels))[None],
            torch.full((1, 1, 32, 32), weight),
        )
        logits = torch.randn(1, len(head.outputs), 32, 32, requires_grad=True)
        loss = head.loss(logits, truth)
        loss.backward()
        assert torch.isfinite(loss)
        assert torch.isfinite(logits.grad).all()


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("name", ALONE_AND_TOGETHER)
def test_views_put_directed_channels_right(name, view):
    """Perfect maps of a view, moved back, are the perfect maps of the image."""
    head, labels = made(name, 64), slices(64, 1)[0].astype(np.int32)
    seen = parse_view(view)

    def maps_of(x: torch.Tensor) -> torch.Tensor:
        return torch.from_numpy(head.ideal(x[0, 0].numpy()))[None]

    back = head.reorient(seen.through(maps_of, torch.from_numpy(labels)[None, None]), seen.matrix)
    difference = (back[0] - torch.from_numpy(head.ideal(labels))).abs()
    reach = 30  # pairs that leave the image mean nothing
    assert difference[:, reach:-reach, reach:-reach].max() < 0.02
    assert difference.mean() < 0.03


def test_offsets_are_closed_under_flips_and_turns():
    offsets = offsets_of((3, 9, 27), 128)
    assert offsets[:6] == ((0, 1), (1, 0), (0, 3), (3, 0), (3, 3), (3, -3))
    known = set(offsets) | {(-a, -b) for a, b in offsets}
    assert {(b, a) for a, b in known} == known
    assert {(a, -b) for a, b in known} == known
    assert offsets_of((3,), 512)[2] == (0, 12)


def test_a_graph_beyond_memory_is_refused(monkeypatch):
    monkeypatch.setattr("os.sysconf", lambda name: 1)
    head, labels = made("affinity"), slices(64, 1)[0]
    with pytest.raises(CompkitError, match=r"smaller input\.size"):
        head.decode(head.ideal(labels), head.defaults)


def test_unknown_and_doubled_heads_are_refused():
    with pytest.raises(CompkitError, match="did you mean 'affinity'"):
        made("afinity")
    with pytest.raises(CompkitError, match="names one twice"):
        made("affinity+affinity")


def test_regions_are_numbered_the_same_every_time():
    """The graph's library numbers segments at random."""
    head, labels = made("affinity"), slices(64, 1)[0]
    maps = np.clip(head.ideal(labels) + np.random.default_rng(0).normal(0, 0.3, (15, 64, 64)), 0, 1)
    once = head.decode(maps.astype(np.float32), head.defaults)
    assert all(
        np.array_equal(once, head.decode(maps.astype(np.float32), head.defaults)) for _ in range(3)
    )
    first = [int(np.flatnonzero(once == number)[0]) for number in range(1, once.max() + 1)]
    assert first == sorted(first)


@pytest.mark.parametrize("name", PARTITIONS)
def test_perfect_maps_of_real_slices_give_back_the_regions(name, tmp_path, monkeypatch):
    if not REAL.is_dir():
        pytest.skip(f"needs the real slices in {REAL}")
    monkeypatch.setenv("COMPKIT_CACHE", str(tmp_path))
    store = open_store(str(REAL))
    head = made(name, store.size)
    rows = [scores(head, store.labels_of(int(index))) for index in store.labelled[::4]]
    mean = {key: np.mean([row[key] for row in rows]) for key in rows[0]}
    assert mean["adjusted_all"] >= 0.99
    assert mean["adjusted_foreground"] >= 0.95
