"""A run on disk: what identifies it, and where its parts lie."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from compkit import plugins
from compkit.config import RunConfig
from compkit.config.files import from_plain
from compkit.data.store import Store, open_store
from compkit.errors import CompkitError, nearest
from compkit.folds import ALL, Folds, read_folds
from compkit.heads import make_head
from compkit.heads.base import Head
from compkit.inputs import load_yaml
from compkit.progress import say
from compkit.root import refuse_name, runs_root
from compkit.schema import read_record

_REMEDY = "restore it, or train the run again under another name"

#: In a network's directory, says that its fit is over.
FITTED = "fit.json"


@dataclass(frozen=True)
class Made:
    """What ``run.json`` holds: where the data lay, digests of training data and test, plugins.

    Attributes
    ----------
    external : str or None
        The digest of ``external.data``.
    """

    data: str
    content: str
    test: str | None = None  # in older files, `content` is of both
    plugins: dict[str, str] = field(default_factory=dict)
    external: str | None = None


@dataclass(frozen=True)
class Fitted:
    """What ``fit.json`` says of a fit that is over.

    Attributes
    ----------
    score : float
        Of the last epoch, which ``last.ckpt`` holds.
    best_score : float or None
        Of the epoch that ``best.ckpt`` holds, the highest of all; None in older files.
    seconds : float
        That fitting took.
    checkpoints : dict of str to str or None
        Digests of the weights in the checkpoints, by file name; None in older files.
    """

    score: float
    best_score: float | None = None
    seconds: float = 0.0
    checkpoints: dict[str, str] | None = None


def read_fitted(part: Path) -> Fitted:
    """Read the ``fit.json`` of one network's directory."""
    return read_record(Fitted, part / FITTED, f"delete {part} and train it again")


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
        Where it lies.
    hold_out : int or None
        A fold that is no part of it: neither trained nor decoded nor tuned on.
    """

    name: str
    config: RunConfig
    store: Store
    folds: Folds
    root: Path = field(default_factory=runs_root)
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
        """The metric that ranks: decoders are tuned, and best epochs told, by it."""
        return self.config.ranking or self.store.competition.rules.ranking

    @property
    def told(self) -> tuple[str, ...]:
        """The metrics that people are told, what ranks among them."""
        return self.store.competition.rules.told(self.ranking)

    @property
    def has_other_test(self) -> bool:
        """Whether the test is another one than lay beside the training data when it began."""
        return read_run(self.directory)[0].test not in (None, self.store.test_content)

    def head(self) -> Head:
        """Return a head as its networks have."""
        return make_head(self.config, self.side)

    def part(self, encoder: str, fold: int) -> Path:
        """Return the directory of one network."""
        return part_of(self.directory, encoder, fold)

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
                f"its encoders are {', '.join(self.config.encoders)}; a new run takes others by "
                "--encoders [NAME]"
            )
        if fold not in (None, ALL, *range(self.folds.k)):
            raise CompkitError(
                f"the run {self.name} has no fold {fold}: its folds are 0 to {self.folds.k - 1}"
            )
        taking_part = [k for k in range(self.folds.k) if k != self.hold_out]
        for k in taking_part if fold is None else (fold,):
            for e in self.config.encoders if encoder is None else (encoder,):
                yield e, k

    def unfinished(self, encoder: str | None = None) -> list[str]:
        """Name the parts that are not done, of one encoder or of all."""
        return [fold_name(e, k) for e, k in self.parts(encoder) if not self.is_done(e, k)]

    def is_done(self, encoder: str, fold: int) -> bool:
        """Whether a network is trained and its out-of-fold maps are written, if it has any."""
        part = self.part(encoder, fold)
        return (part / FITTED).is_file() and (fold == ALL or (part / "oof/maps.json").is_file())


def part_of(directory: Path, encoder: str, fold: int) -> Path:
    """Return the directory of one network in that of its run."""
    return directory / encoder / ("all" if fold == ALL else f"fold{fold}")


def fold_name(encoder: str, fold: int) -> str:
    """Return what one network is called."""
    return f"{encoder} on all images" if fold == ALL else f"{encoder} fold {fold}"


def open_run(name: str, data: str | None = None) -> Run:
    """Open a run that `start_run` made; `data` tells where its data lie now, if they moved.

    Raises
    ------
    CompkitError
        If there is no such run or it cannot be called so, or `data` are not what it was trained on.
    """
    made, config = known_run(name)
    store, directory = open_store(made.data if data is None else data), runs_root() / name
    if data is not None and not store.train:  # a test alone
        store = _trained_on(name, made).beside(store)
    refuse_other_data(name, made.content, store)
    with _own(directory):
        return Run(name, config, store, read_folds(directory / "folds.csv", store))


def known_run(name: str) -> tuple[Made, RunConfig]:
    """Return what a run was made of and with; `CompkitError` if there is no such run."""
    refuse_name(name)  # a path would be a second name of the same run
    directory = runs_root() / name
    if not (directory / "run.json").is_file():
        known = [p.parent.name for p in directory.parent.glob("*/run.json")]
        raise CompkitError(
            f"there is no run or ensemble {name!r} in {directory.parent}/{nearest(name, known)}: "
            "make it with compkit train or compkit ensemble"
        )
    return read_run(directory)


def read_run(directory: Path) -> tuple[Made, RunConfig]:
    """Return what a run was made of and with."""
    path = directory / "config.yaml"
    made = read_record(Made, directory / "run.json", _REMEDY)
    if plugins.expect(f"the run {directory.name}", made.plugins):
        say(f"{directory} was begun with other plugins, or ones that were edited since "
            f"({', '.join(made.plugins)})")  # fmt: skip
    with _own(directory):
        # Not by `read_yaml`: an older compkit had settings that are gone.
        values = load_yaml(path, "configuration file")
    return made, from_plain(values, str(path), _REMEDY)


@contextmanager
def _own(directory: Path) -> Iterator[None]:
    """Say of what is wrong with a file of a run's own that this is to be restored."""
    try:
        yield
    except CompkitError as error:
        raise CompkitError(f"the run {directory.name} is damaged ({error}): {_REMEDY}") from None


def _trained_on(name: str, made: Made) -> Store:
    """Return the training data of a run, beside which a test alone was given."""
    try:
        return open_store(made.data)
    except CompkitError as error:
        raise CompkitError(
            f"--data holds a test alone, and what the run {name} was trained on is not there "
            f"({error}): put it, or a link to it, beside that test"
        ) from None


def refuse_other_data(name: str, content: str, store: Store) -> None:
    """Raise `CompkitError` if a run of a name was trained on other data than a store's."""
    if not store.is_of(content):
        raise CompkitError(
            f"the run {name} was made on other data than are there now: give --data those, or take "
            "another --run name"
        )
