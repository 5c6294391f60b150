"""What a run, an ensemble or one network predicts of any images; of its data nothing is needed."""

from __future__ import annotations

import hashlib
import json
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from itertools import tee
from pathlib import Path
from typing import Any, overload

import numpy as np

from compkit.config import RunConfig
from compkit.data.arrays import Pixels
from compkit.ensemble.build import ENSEMBLE, listed_in
from compkit.ensemble.decoder import load_decoder, prove_networks
from compkit.ensemble.mixture import MapMean
from compkit.errors import CompkitError, nearest
from compkit.folds import ALL
from compkit.inference.maps import kept, probabilities, refuse_improbable
from compkit.inference.members import (
    Networks,
    checkpoint_of,
    predicted,
    refuse_other_settings,
    trained_weights,
)
from compkit.inference.predict import batches
from compkit.models.checkpoint import Card, read_card, weights_digest
from compkit.parallel import each_image
from compkit.pixels import CHANNELS, fitted
from compkit.root import KINDS, runs_root
from compkit.run import FITTED, part_of, read_run


class Model:
    """Networks whose maps are averaged, and how their mean is decoded.

    Parameters
    ----------
    name : str
    members : sequence of (RunConfig, sequence of Path)
        Of each how it predicts, and its networks' checkpoints; members weigh the same.
    params : dict, optional
        Of the decoding; by default the head's own.

    Attributes
    ----------
    name : str
    networks : int
        How many there are.
    params : dict
        Of the decoding.
    pixels : Pixels
        What its images are.
    made : str
        A digest of all that predictions depend on.
    """

    def __init__(
        self,
        name: str,
        members: Sequence[tuple[RunConfig, Sequence[Path]]],
        params: dict[str, Any] | None = None,
    ) -> None:
        self.name = name
        self._members = [
            Networks(tuple(paths), config.inference, config.machine) for config, paths in members
        ]
        cards, told = list[Card](), list[object]()
        for config, paths in members:
            cards.append(read_card(paths[0]))
            views = config.inference.views
            told.append([views, config.inference.tile, *map(weights_digest, paths)])
        self.pixels = cards[0].pixels
        if any(card.pixels != self.pixels for card in cards):
            raise CompkitError(
                f"the members of {name} learnt from images of different channels or bits, so they "
                "have no mean: take runs on the same data"
            )
        heads = [networks.predictors[0].head for networks in self._members]
        self._mean = MapMean(heads, [card.side for card in cards], members[0][0])
        self.networks = sum(len(paths) for _, paths in members)
        self.params = self._mean.head.defaults if params is None else params
        try:
            self._mean.head.check_params(self.params)
        except CompkitError as error:
            raise CompkitError(
                f"the decoding of {name} is not its own ({error}): run compkit train on it again, "
                "or for an ensemble compkit ensemble"
            ) from None
        self.made = hashlib.sha256(json.dumps([told, self.params]).encode()).hexdigest()

    def __repr__(self) -> str:
        return f"<{self.name}: {self.networks} networks>"

    @overload
    def predict(self, images: np.ndarray) -> np.ndarray: ...
    @overload
    def predict(self, images: list[np.ndarray] | tuple[np.ndarray, ...]) -> list[np.ndarray]: ...
    def predict(self, images: Any) -> Any:
        """Return the regions of an image or of several, int32 label maps; 0 is background.

        Networks see images as their run was configured: resized (of one that is not square, the
        longer side), in tiles. Label maps have the images' own size.

        Parameters
        ----------
        images : ndarray of uint8 (uint16 for networks that learnt from 16 bits), or list of such
            One image, (H, W) or (H, W, C) with 1, 3 or 4 channels; or an array (N, H, W) or (N, H,
            W, C); or a list of images of any sizes. They are turned grey, or into three channels,
            as the training images were.

        Returns
        -------
        ndarray of int32, or list of such
            (H, W), (N, H, W) or a list, as the images were given.

        Raises
        ------
        CompkitError
            For what is no image of as many bits as networks learnt from.
        """
        given = _listed(images)
        found = [labels for _, labels in self.regions(_fitted(given, self.pixels), len(given))]
        return found if isinstance(images, list | tuple) else _joined(images, found)

    @overload
    def predict_maps(self, images: np.ndarray) -> dict[str, np.ndarray]: ...
    @overload
    def predict_maps(
        self, images: list[np.ndarray] | tuple[np.ndarray, ...]
    ) -> list[dict[str, np.ndarray]]: ...
    def predict_maps(self, images: Any) -> Any:
        """Return the maps that `predict` decodes, by name, float32 between 0 and 1.

        Parameters
        ----------
        images
            As for `predict`.

        Returns
        -------
        dict of str to ndarray of float32, or list of such
            Maps (h, w) of one image, (N, h, w) of an array of images, at the size that the network
            saw; of a list of images, a dict each.
        """
        found = [maps for _, maps in self.each(_fitted(_listed(images), self.pixels))]
        names = self._mean.head.maps
        if isinstance(images, list | tuple):
            return [dict(zip(names, maps, strict=True)) for maps in found]
        maps = np.moveaxis(_joined(images, found), -3, 0)
        return dict(zip(names, maps, strict=True))

    def regions(
        self, images: Iterable[np.ndarray], count: int
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield `count` images, as `pixels` tells, with their label maps, int32 (H, W).

        One batch is decoded while the next is predicted.
        """
        seen, head = deque[np.ndarray](), self._mean.head

        def work() -> Iterator[tuple[Any, ...]]:
            for image, maps in self.each(images):
                seen.append(image)
                yield maps, self.params, image.shape[:2]

        pixels = count * len(head.maps) * self._mean.side**2
        for labels in each_image(head.decode, work(), "predicting", count, pixels):
            yield seen.popleft(), labels

    def each(self, images: Iterable[np.ndarray]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield images, as `pixels` tells, with their maps (M, h, w); memory holds one batch."""
        stacks, again = tee(batches(images, self._members[0].inference.batch))
        for stack, maps in zip(stacks, predicted(self._members, again), strict=True):
            yield from zip(stack, self._means(maps), strict=True)

    def _means(self, of_members: Sequence[np.ndarray]) -> Iterator[np.ndarray]:
        """Yield the mean (M, h, w) of members' maps of each image, as those of a submission are."""
        members = []
        for maps in of_members:
            refuse_improbable(maps, "there is nothing to decode")
            # As in files, so that an image has the same regions either way.
            members.append(probabilities(kept(maps)))
        grid = max((maps.shape[-2:] for maps in members), key=np.prod)
        for of_image in zip(*members, strict=True):
            yield self._mean(of_image, grid)


def open_model(where: str | Path) -> Model:
    """Open a run or an ensemble by its name or directory, or one network by its checkpoint.

    Nothing of the data is needed. A single network is decoded with its head's own parameters; what
    was tuned is that of a run.

    Raises
    ------
    CompkitError
        If there is none, it is not finished, or a network of it is missing or not its own.
    """
    path = Path(where)
    if path.suffix == ".ckpt":
        return Model(str(where), [(read_card(path).config, [path])])
    directory = _located(path)
    decoder = load_decoder(kept := directory / "decoder.json")
    if (directory / ENSEMBLE).is_file():
        listed = [(directory.parent / one.run, one.encoder) for one in listed_in(directory)]
        wanted = None
    else:
        listed = [(directory, encoder) for encoder in read_run(directory)[1].encoders]
        wanted = [int(fold) for fold in decoder.fold_params]
    members = [_member(run, encoder, wanted) for run, encoder in listed]
    of_folds = [p for _, paths in members for p in paths if p.parent.name != "all"]
    prove_networks(decoder, kept, [trained_weights(checkpoint) for checkpoint in of_folds])
    return Model(directory.name, members, decoder.params)


def _located(path: Path) -> Path:
    """Return the directory of a run or an ensemble."""
    root = runs_root()
    places = [path] if path.name != str(path) else [root / path, path]
    for place in places:
        if (place / "run.json").is_file() or (place / ENSEMBLE).is_file():
            return place
        for marker, kind in KINDS.items():
            if (place / marker).is_file():
                raise CompkitError(f"{place} is {kind}: give a run or an ensemble")
    known = [made.parent.name for name in ("run.json", ENSEMBLE) for made in root.glob(f"*/{name}")]
    raise CompkitError(
        f"there is no run or ensemble {places[0]}{nearest(path.name, known)}: give its name or "
        "directory, or a checkpoint that ends in .ckpt"
    )


def _member(
    directory: Path, encoder: str, folds: Sequence[int] | None
) -> tuple[RunConfig, list[Path]]:
    """Return how an encoder of a run predicts, and its networks: of some folds, or all that are."""
    _, config = read_run(directory)
    if folds is None:
        folds = sorted(int(p.parent.name[4:]) for p in directory.glob(f"{encoder}/fold*/{FITTED}"))
    parts = [part_of(directory, encoder, fold) for fold in folds]
    if (whole := part_of(directory, encoder, ALL) / FITTED).is_file():
        parts.append(whole.parent)
    if not parts:
        raise CompkitError(f"{directory / encoder} holds no trained network: train it")
    paths = [checkpoint_of(part, config) for part in parts]
    for path in paths:
        read_card(path)  # which says so if it is not there
        trained_weights(path)
        refuse_other_settings(path, config, directory)
    return config, paths


def _listed(images: Any) -> Sequence[Any]:
    """Return each of the images that are given as `Model.predict` takes them."""
    if not isinstance(images, list | tuple):
        if isinstance(images, str | Path) or not np.ndim(images):
            raise CompkitError(
                f"images are arrays, not {type(images).__name__}: read the files first, or use "
                "compkit predict for a folder"
            )
        images = _array(images, "what is given")
        if not images.size:
            raise CompkitError(f"there is no image in an array of shape {images.shape}")
        return [images] if _is_one(images) else list(images)
    return images


def _fitted(images: Iterable[Any], pixels: Pixels) -> Iterator[np.ndarray]:
    """Yield each of some images as networks see it."""
    for number, image in enumerate(images):
        what = f"image {number}"
        yield fitted(_array(image, what), pixels.channels, pixels.bits, what)


def _array(image: Any, what: str) -> np.ndarray:
    """Return an array of numbers; as of a tensor on a GPU there may be none."""
    try:
        found = np.asarray(image)
    except Exception as error:  # whatever the library that it is of raises
        raise CompkitError(f"{what} is no array ({error}): give it as one of numpy") from None
    if found.dtype == object:
        raise CompkitError(f"{what} is no array of numbers: give images of several sizes as a list")
    return found


def _is_one(images: np.ndarray) -> bool:
    return images.ndim == 2 or (images.ndim == 3 and images.shape[2] in CHANNELS)


def _joined(images: Any, found: Sequence[np.ndarray]) -> np.ndarray:
    """Return what was found of one image, or of an array of them as an array."""
    return found[0] if _is_one(np.asarray(images)) else np.stack(found)
