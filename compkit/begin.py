"""A run begun, or gone on with: the proof that its settings, data and split are those of before."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import numpy as np

from compkit import plugins
from compkit.config import RunConfig
from compkit.config.files import FREE, differences, save
from compkit.data.store import Store, open_store
from compkit.errors import CompkitError
from compkit.files import locked
from compkit.folds import Folds, make_folds, read_folds
from compkit.leak import refuse_leak
from compkit.progress import say
from compkit.root import claim, runs_root
from compkit.run import Made, Run, read_run, refuse_other_data
from compkit.schema import write_record


def start_run(
    name: str,
    config: RunConfig,
    data: str,
    root: Path | None = None,
    encoder: str | None = None,
    fold: int | None = None,
) -> Run:
    """Make the run `name`, or open it to go on with the same settings and data.

    It lies under `root`, by default `runs_root`. Where it runs and how it predicts (``machine``,
    ``inference``) may differ from before, and are kept from now on. `encoder` and `fold` are what
    is then to be trained alone.

    Raises
    ------
    CompkitError
        If it has no such encoder or fold; if it was made with another configuration, other data,
        or another split; or if a network would start from one that was trained on images that now
        validate.
    """
    root = root or runs_root()
    directory = claim(name, "run.json", root)
    store = open_store(data)
    made = directory / "run.json"
    if not made.is_file():  # before there is a directory, which what is refused should not leave
        folds = split_of(config, store)
        begun = Run(name, config, store, folds, root)
        list(begun.parts(encoder, fold))
        for each in begun.parts():  # as far as the files are there: fits ask again
            refuse_leak(config, *each, store, folds)
    with locked(directory, "starting it", wait=True):
        if made.is_file():
            _go_on(directory, config, store)
        else:
            save(config, directory / "config.yaml")
            folds.write(directory / "folds.csv")
            # Written last: its presence says that the others are whole.
            external = _external_content(config)
            about = Made(data, store.content, store.test_content, plugins.used(), external)
            write_record(made, asdict(about))
    return Run(name, config, store, read_folds(directory / "folds.csv", store), root)


def split_of(config: RunConfig, store: Store) -> Folds:
    """Return the split of a configuration's file, or the one that its settings make."""
    f = config.folds
    if f.file is not None:
        return read_folds(Path(f.file), store)
    return make_folds(store, f.k, f.seed, f.grouped, f.groups, f.similar)


def _go_on(directory: Path, config: RunConfig, store: Store) -> None:
    """Prove that a run is to go on with what it was made with; keep how it predicts from now on."""
    made, before = read_run(directory)
    if changed := differences(before, config, FREE):
        raise CompkitError(
            f"{directory} was made with another configuration ({'; '.join(changed)}): give the "
            "same settings; or, to train on from its networks, start a new run with --model.start "
            f"{directory}/{{encoder}}/fold{{fold}}/last.ckpt"
        )
    refuse_other_data(directory.name, made.content, store)
    if _external_content(config) != made.external:
        raise CompkitError(
            f"{directory} learns of external.data {config.external.data}, which was changed since: "
            "restore it, or take another --run name"
        )
    learns_of_test = config.unlabelled.weight and config.unlabelled.test
    if learns_of_test and made.test not in (None, store.test_content):
        raise CompkitError(
            f"{directory} learns of the test images (unlabelled.test), and there are others now: "
            "give the same --data, or take another --run name"
        )
    if (file := config.folds.file or config.folds.groups) is not None:
        given, own = split_of(config, store), directory / "folds.csv"
        if not np.array_equal(given.fold, read_folds(own, store).fold):
            raise CompkitError(
                f"{file} is not the split that {directory} was made with ({own}): "
                "take another --run name"
            )
    if changed := differences(before, config, but=()):
        say(f"{directory} runs or predicts otherwise from now on ({'; '.join(changed)})")
        save(config, directory / "config.yaml")


def _external_content(config: RunConfig) -> str | None:
    other = config.external.data
    return None if other is None else open_store(other).content
