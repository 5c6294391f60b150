"""A run on disk: what identifies it, and where its parts lie."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from compkit.config import RunConfig
from compkit.config.files import differences, from_plain, read_yaml, save
from compkit.data.store import Store, open_store
from compkit.errors import CompkitError, nearest
from compkit.files import locked, read_json, write_json
from compkit.folds import ALL, Folds, make_folds, read_folds
from compkit.heads import make_head
from compkit.heads.base import Head

#: Where runs lie, under the working directory.
ROOT = Path("runs")

#: In a network's directory, says that its fit is over.
FITTED = "fit.json"

#: In a run's directory, says that it is one of ``compkit pretrain``.
PRETRAINED = "pretrain.yaml"


@dataclass(frozen=True, eq=False)
class Run:
    """A named run: ``<root>/<name>/<encoder>/fold<k>/``.

    Attributes
    ----------
    name : str
    config : RunConfig
        Its effective configuration.
    store : Store
        Its data.
    folds : Folds
        Its split, a copy of which lies in the run.
    root : Path
        Where it lies; by default ``runs``.
    hold_out : int or None
        A fold that is no part of it: neither trained nor decoded nor tuned on.
    """

    name: str
    config: RunConfig
    store: Store
    folds: Folds
    root: Path = ROOT
    hold_out: int | None = None

    @property
    def directory(self) -> Path:
        return self.root / self.name

    @property
    def side(self) -> int:
        """Side in pixels of the images, as its networks see them."""
        return self.config.input.size or self.store.size

    @property
    def ranking(self) -> str:
        """The metric that its epochs are chosen and its decoder is tuned by."""
        return self.config.ranking or self.store.competition.rules.ranking

    def head(self) -> Head:
        """Return a head as its networks have."""
        return make_head(self.config, self.side)

    def part(self, encoder: str, fold: int) -> Path:
        """Return the directory of one network."""
        return self.directory / encoder / ("all" if fold == ALL else f"fold{fold}")

    def parts(
        self, encoder: str | None = None, fold: int | None = None
    ) -> Iterator[tuple[str, int]]:
        """Yield every encoder × fold of the run, or those chosen; `ALL` and `hold_out` only if so.

        Raises
        ------
        CompkitError
            If the run has no such encoder or fold.
        """
        if encoder is not None and encoder not in self.config.encoders:
            raise CompkitError(
                f"the run {self.name} has no encoder {encoder!r}"
                f"{nearest(encoder, self.config.encoders)}: "
                f"its encoders are {', '.join(self.config.encoders)}"
            )
        if fold not in (None, ALL, *range(self.folds.k)):
            raise CompkitError(
                f"the run {self.name} has no fold {fold}: its folds are 0 to {self.folds.k - 1}"
            )
        taking_part = [k for k in range(self.folds.k) if k != self.hold_out]
        for k in taking_part if fold is None else (fold,):
            for e in self.config.encoders if encoder is None else (encoder,):
                yield e, k

    def unfinished(self) -> list[str]:
        """Name the parts that are not done."""
        return [fold_name(e, k) for e, k in self.parts() if not self.is_done(e, k)]

    def is_done(self, encoder: str, fold: int) -> bool:
        """Whether a network is trained and its out-of-fold maps are written, if it has any."""
        part = self.part(encoder, fold)
        return (part / FITTED).is_file() and (fold == ALL or (part / "oof/maps.json").is_file())


def fold_name(encoder: str, fold: int) -> str:
    """Return what one network is called."""
    return f"{encoder} on all images" if fold == ALL else f"{encoder} fold {fold}"


def start_run(name: str, config: RunConfig, data: str, root: Path = ROOT) -> Run:
    """Make the run `name` under `root`, or open it to go on with the same settings and data.

    Raises
    ------
    CompkitError
        If it was made with another configuration, other data, or another split; or if a network
        would start from one that was trained on images that now validate.
    """
    refuse_name(name)
    directory = root / name
    store = open_store(data)
    if (directory / PRETRAINED).is_file():
        raise CompkitError(f"{directory} is a pretraining: take another --run name")
    with locked(directory, "starting it", wait=True):
        if (directory / "run.json").is_file():
            _refuse_another(directory, config, store)
        else:
            folds = split_of(config, store)
            _refuse_leak(config, store, folds)
            save(config, directory / "config.yaml")
            folds.write(directory / "folds.csv")
            # Written last: its presence says that the others are whole.
            write_json(directory / "run.json", {"data": data, "content": store.content})
    return Run(name, config, store, read_folds(directory / "folds.csv", store), root)


def refuse_name(name: str) -> None:
    """Raise a CompkitError if a run cannot be called so."""
    if not name or Path(name).name != name or name.startswith("."):
        raise CompkitError(f"{name!r} is no name for a run: take letters, digits, - and _")


def open_run(name: str, data: str | None = None) -> Run:
    """Open a run that `start_run` made; `data` tells where its data lie now, if they moved.

    Raises
    ------
    CompkitError
        If there is no such run, or `data` are not what it was trained on.
    """
    directory = ROOT / name
    if not (directory / "run.json").is_file():
        known = [p.parent.name for p in ROOT.glob("*/run.json")]
        raise CompkitError(
            f"there is no run {name!r} in {ROOT}/{nearest(name, known)}: train it with train.py"
        )
    made = read_json(directory / "run.json")
    config = from_plain(read_yaml(directory / "config.yaml"))
    store = open_store(data or made["data"])
    _refuse_other_data(name, made["content"], store)
    return Run(name, config, store, read_folds(directory / "folds.csv", store))


def split_of(config: RunConfig, store: Store) -> Folds:
    """Return the split of a configuration's file, or the one that its settings make."""
    f = config.folds
    if f.file is not None:
        return read_folds(Path(f.file), store)
    return make_folds(store, k=f.k, seed=f.seed, grouped=f.grouped, groups=f.groups)


def _refuse_leak(config: RunConfig, store: Store, folds: Folds) -> None:
    """Refuse starts from networks of other runs that were trained on what a fold validates."""
    for fold in range(folds.k):
        for encoder in config.encoders:
            start = config.model.start_of(encoder, fold)
            if start is None or not (made := start.absolute().parents[2] / "run.json").is_file():
                continue
            place = start.absolute().parent.name
            number = str(ALL) if place == "all" else place.removeprefix("fold")
            if read_json(made)["content"] != store.content or not re.fullmatch(r"-?\d+", number):
                continue
            seen = read_folds(made.with_name("folds.csv"), store).train_indices(int(number))
            if len(leaked := np.intersect1d(seen, folds.valid_indices(fold))):
                raise CompkitError(
                    f"{start} was trained on {len(leaked)} of the images that validate fold {fold} "
                    f"(first: {folds.images[leaked[0]]}): give both runs the same folds "
                    "(folds.file), and model.start a path with {fold}"
                )


def _refuse_another(directory: Path, config: RunConfig, store: Store) -> None:
    made = from_plain(read_yaml(directory / "config.yaml"))
    if changed := differences(made, config):
        raise CompkitError(
            f"{directory} was made with another configuration ({'; '.join(changed)}): "
            "take another --run name, or the same settings"
        )
    _refuse_other_data(directory.name, read_json(directory / "run.json")["content"], store)
    if (file := config.folds.file or config.folds.groups) is not None:
        given, own = split_of(config, store), directory / "folds.csv"
        if not np.array_equal(given.fold, read_folds(own, store).fold):
            raise CompkitError(
                f"{file} is not the split that {directory} was made with ({own}): "
                "take another --run name"
            )


def _refuse_other_data(name: str, content: str, store: Store) -> None:
    if content != store.content:
        raise CompkitError(
            f"the run {name} was made on other data than {store.directory} holds: "
            "give the same --data, or take another --run name"
        )
