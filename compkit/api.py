"""What ``import compkit`` offers to scripts and notebooks, and what the commands do.

All of it raises `CompkitError` for bad input, with the sentence that a command would print.
"""

from __future__ import annotations

import errno
import inspect
from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, ParamSpec, TypeVar, get_type_hints

import numpy as np
from pydantic import TypeAdapter, ValidationError

from compkit.config import RunConfig
from compkit.errors import CompkitError, brief
from compkit.failures import sentence_of

if TYPE_CHECKING:
    from compkit.ensemble.model import Model

__all__ = ["CompkitError", "load", "score", "submit", "train"]

P = ParamSpec("P")
R = TypeVar("R")


def _typed(function: Callable[P, R]) -> Callable[P, R]:
    """Let a function refuse arguments of other types than its own in a sentence."""
    takes, name = inspect.signature(function), f"compkit.{function.__name__}"
    kinds = get_type_hints(function, localns={"Model": Any})

    @wraps(function)
    def called(*given: P.args, **named: P.kwargs) -> R:
        try:
            for key, value in takes.bind(*given, **named).arguments.items():
                told = f"{key} is {brief(value)}, but takes {takes.parameters[key].annotation}"
                TypeAdapter(kinds[key]).validate_python(value, strict=True)
        except TypeError as error:  # one is missing, or there is no such
            raise CompkitError(f"{name}: {error}: see help({name})") from None
        except ValidationError:
            raise CompkitError(f"{name}: {told}: see help({name})") from None
        try:
            return function(*given, **named)
        except OSError as error:
            if error.errno != errno.ENAMETOOLONG:
                raise
            raise CompkitError(sentence_of(error)) from None

    return called


@_typed
def train(
    config: RunConfig | Mapping[str, Any] | str | Path,
    data: str | Path,
    run: str,
    fold: int | Literal["all"] | None = None,
    encoder: str | None = None,
) -> None:
    """Train what is unfinished of a run; when all is done, tune its decoding and print its scores.

    Parameters
    ----------
    config
        The settings that differ from the defaults, as nested mappings; or all of them; or a YAML.
    data
        A folder with a competition's data, or ``phantom:size=128,labelled=40,…``.
    run
        Its name; it lies in ``runs/``, or where COMPKIT_RUNS says.
    fold, encoder
        Train these alone; the fold ``"all"`` is a network on every labelled image.

    Examples
    --------
    >>> tiny = {"training": {"steps": 2, "steps_per_epoch": 2, "warmup": 0}}
    >>> compkit.train(tiny, "phantom:size=32,labelled=6", run="part", fold=0, encoder="resnet18")
    Traceback (most recent call last):
    compkit.errors.CompkitError: the run part has no encoder 'resnet18': its encoders are ...
    """
    if isinstance(fold, int) and fold < 0:
        raise CompkitError(f"fold is {fold}: give a number from 0 up, or 'all'")
    from compkit.competition import competition_of
    from compkit.config.check import check_names
    from compkit.config.command_line import CommandLine
    from compkit.config.files import from_plain, refuse_unknown, to_plain, without_removed
    from compkit.folds import ALL

    if isinstance(config, Mapping):
        refuse_unknown(without_removed(dict(config), "config"), "config")
        config = from_plain(dict(config), "config", fault="cannot be")
    elif isinstance(config, RunConfig):
        config = from_plain(to_plain(config), "config", fault="cannot be")
    else:
        words = ["--config", str(config), "--data", str(data), "--run", run]
        _, config = CommandLine("compkit.train", "", {}).parse(words)
    check_names(config)
    competition_of(str(data))
    from compkit.training.job import train  # here, since torch comes with it

    train(config, str(data), run, ALL if fold == "all" else fold, encoder)


@_typed
def load(where: str | Path) -> Model:
    """Open a run or an ensemble by its name or directory, or one network by its ``.ckpt`` file.

    Nothing of the data that it learnt from is needed. A run and an ensemble predict with all their
    networks, views and the tuned decoding; a single network with its head's own parameters.

    Examples
    --------
    >>> run = compkit.load("demo")
    >>> images.shape, images.dtype
    ((3, 32, 32), dtype('uint8'))
    >>> run.predict(images).shape
    (3, 32, 32)
    >>> run.predict(images[0]).dtype  # region ids; 0 is background
    dtype('int32')
    >>> labels = run.predict([images[0], images[1, :20]])  # of any sizes
    >>> [one.shape for one in labels]
    [(32, 32), (20, 32)]
    >>> {name: maps.shape for name, maps in run.predict_maps(images).items()}
    {'foreground': (3, 32, 32), 'boundary.border': (3, 32, 32)}
    """
    from compkit.ensemble.model import open_model

    return open_model(where)


@_typed
def score(truth: Any, labels: Any, metrics: Sequence[str] = ()) -> dict[str, float]:
    """Return every measure of label maps against the true ones, the mean over images.

    Parameters
    ----------
    truth, labels : integer ndarray, or sequence of such
        Region ids; 0 is background. One image (H, W), or several alike in number and sizes.
    metrics
        Those by which to score, too: of docs/scores.md, or added.

    Examples
    --------
    >>> truth = np.array([[1, 1, 0], [2, 2, 0]])
    >>> perfect = compkit.score(truth, truth)
    >>> perfect["adjusted_all"], perfect["pixel_dice"]
    (1.0, 1.0)
    >>> renamed = np.array([[7, 7, 0], [3, 3, 0]])  # ids mean nothing
    >>> compkit.score(truth, renamed) == perfect
    True
    """
    from compkit.metrics.named import beside
    from compkit.submission.report import report_of

    true, found = _label_maps(truth, "truth"), _label_maps(labels, "labels")
    shapes = [[one.shape for one in maps] for maps in (true, found)]
    if shapes[0] != shapes[1]:
        raise CompkitError(
            f"truth is of {_told(true)}, and labels of {_told(found)}: give those of the same "
            "images"
        )
    images = tuple(map(str, range(len(true))))
    return report_of(images, zip(true, found, strict=True), beside(*metrics)).means


@_typed
def submit(
    run: str | Sequence[str],
    out: str | Path,
    data: str | Path | None = None,
    encoder: str | None = None,
    overwrite: bool = False,
) -> None:
    """Predict the test images and write a submission, its manifest and a row in the ledger.

    Parameters
    ----------
    run
        A run or an ensemble by name, or several runs, whose mean is taken.
    out
        The submission to write, in the form that the competition wants.
    data
        Where the data lie now, if not where the run was trained; or another test, alone or beside
        the same training data.
    encoder
        Take the networks of this encoder alone.
    overwrite
        Replace a file at `out` that compkit did not write.

    Examples
    --------
    >>> compkit.submit("demo", out="demo.csv")
    >>> Path("demo.csv").is_file(), Path("demo.json").is_file()
    (True, True)
    """
    from compkit.submission.submit import submit

    if not (names := [run] if isinstance(run, str) else list(run)):
        raise CompkitError("compkit.submit: no run is named: give one or several")
    submit(names, Path(out), None if data is None else str(data), encoder, overwrite)


def _label_maps(given: Any, what: str) -> list[np.ndarray]:
    """Return one label map, or each of several, proven to be some."""
    several = isinstance(given, list | tuple) or np.ndim(given) == 3
    try:
        maps = [np.asarray(one) for one in (given if several else [given])]
    except (TypeError, ValueError):  # of rows that differ in length, or a tensor on a GPU
        maps = []
    if not maps or any(one.ndim != 2 or one.dtype.kind not in "iu" or not one.size for one in maps):
        raise CompkitError(f"{what} takes label maps of whole numbers, arrays (H, W) each")
    if any(one.min() < 0 for one in maps):
        raise CompkitError(f"{what} holds ids below 0: regions have ids from 1, 0 is background")
    return maps


def _told(maps: Sequence[np.ndarray]) -> str:
    """Return how many label maps there are, and of which size, the first of several."""
    sizes = dict.fromkeys("×".join(map(str, one.shape)) for one in maps)
    return f"{len(maps)} label map{'s' * (len(maps) > 1)} of {', '.join(list(sizes)[:3])}"
