"""Probability maps on disk: one array with its image list, either whole or absent."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np

from compkit.data.arrays import Images, Ragged, write_images
from compkit.errors import CompkitError
from compkit.files import digest_of, replacing_directory
from compkit.schema import read_record, write_record


@dataclass(frozen=True)
class Origin:
    """What maps are made from; maps of another origin are others.

    Attributes
    ----------
    checkpoint : str
        Digest of the network's weights (`compkit.models.checkpoint.weights_digest`).
    data : str
        Digest of the images' data (`compkit.data.store.Store.content`).
    views : tuple of str
    tile : int or None
    """

    checkpoint: str
    data: str
    views: tuple[str, ...]
    tile: int | None


@dataclass(frozen=True)
class Listing:
    """What ``maps.json`` says of ``maps.npy``.

    Names of its first two axes, origin, SHA-256; and the shapes (M, H, W) of maps of several sizes.
    """

    images: tuple[str, ...]
    channels: tuple[str, ...]
    made: Origin
    sha256: str
    shapes: tuple[tuple[int, int, int], ...] | None = None


@dataclass(frozen=True)
class Maps(Listing):
    """Named probability maps of a list of images.

    Attributes
    ----------
    values : memory-mapped ndarray of uint8, shape (N, M, H, W), or Ragged
        Probabilities in steps of 1/255: of `Listing.images` by `Listing.channels`. Older files hold
        them as float16.
    """

    values: Images = field(kw_only=True)

    @property
    def grids(self) -> list[tuple[int, int, int]]:
        """The shape (M, H, W) of each image's maps."""
        if isinstance(self.values, np.ndarray):
            return [self.values.shape[1:]] * len(self.values)
        return list(self.shapes or ())

    def of(self, image: str) -> np.ndarray:
        """Return the maps of one image, float32 (M, H, W)."""
        return probabilities(self.values[self.images.index(image)])


def kept(maps: np.ndarray) -> np.ndarray:
    """Return probabilities as files keep them, uint8: steps of 1/255 (docs/results.md)."""
    return np.rint(maps * 255).astype(np.uint8)


def probabilities(values: np.ndarray) -> np.ndarray:
    """Return what files keep as probabilities, float32; older files have float16."""
    return np.divide(values, 255 if values.dtype == np.uint8 else 1, dtype=np.float32)


def write_maps(
    directory: Path,
    images: Sequence[str],
    channels: Sequence[str],
    stream: Iterable[np.ndarray],
    made: Origin,
) -> None:
    """Write maps as they come, (M, H, W) each; the directory appears when the last one is in."""
    with replacing_directory(directory) as temporary:
        path = temporary / "maps.npy"
        shapes = write_images(path, _kept(stream, directory), (len(channels), 1, 1))
        several = None if shapes is None else tuple(map(tuple, shapes.tolist()))
        told = Listing(tuple(images), tuple(channels), made, digest_of(path), several)
        write_record(temporary / "maps.json", asdict(told))


def _kept(stream: Iterable[np.ndarray], directory: Path) -> Iterator[np.ndarray]:
    for maps in stream:
        refuse_improbable(maps, f"{directory} is not written")
        yield kept(maps)


def refuse_improbable(maps: np.ndarray, lost: str) -> None:
    """Raise a CompkitError, that says what is lost, if values are not from 0 to 1."""
    if not (maps.min() >= 0 and maps.max() <= 1):  # nor is it so of NaN
        raise CompkitError(
            f"the network predicts what is not from 0 to 1, so {lost}: predict at "
            "--machine.precision 32, or train it again"
        )


def read_maps(directory: Path) -> Maps:
    """Open maps memory-mapped, proven to be the very values that were written.

    Raises
    ------
    CompkitError
        If they are absent, or were changed since.
    """
    path, listing = directory / "maps.npy", directory / "maps.json"
    remedy = f"delete {directory} and run the same command again"
    if not (path.is_file() and listing.is_file()):
        raise CompkitError(f"there are no whole maps in {directory}: {remedy}")
    told = read_record(Listing, listing, remedy)
    if digest_of(path) != told.sha256:
        raise CompkitError(f"{path} was changed since it was written: {remedy}")
    values = np.load(path, mmap_mode="r")
    if told.shapes is not None:
        return Maps(**vars(told), values=Ragged(values, np.array(told.shapes)))
    return Maps(**vars(told), values=values)
