"""Labels of a competition that a YAML describes, in whichever form they are."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from compkit.competition.layout import (
    ANNOTATOR,
    LabelsAt,
    Place,
    files_by_name,
    in_order,
    places_of,
)
from compkit.errors import CompkitError, brief, nearest
from compkit.images import read_ids
from compkit.inputs import read_text
from compkit.labels.masks import read_masks
from compkit.labels.paint import Painted, parted
from compkit.labels.run_lengths import RunLengths, read_runs, seems_turned
from compkit.metrics.rand import adjusted_all
from compkit.progress import say, track

#: From an image's number and name to its labels, (H, W), or (A, H, W) of several annotators.
_Read: TypeAlias = Callable[[int, str], np.ndarray | Painted | None]


@dataclass(frozen=True)
class Labels:
    """Where labels of some images are.

    Parameters
    ----------
    folder : Path
    at : LabelsAt
    names : tuple of str
        Of the images, in their order.
    shape_of : callable
        Returns the (H, W) of the image of a number.
    """

    folder: Path
    at: LabelsAt
    names: tuple[str, ...]
    shape_of: Callable[[int], tuple[int, int]]

    def read(self) -> Iterator[np.ndarray | None]:
        """Yield the label map of each image, or those of its annotators, or None.

        What regions lost to others is said.

        Raises
        ------
        CompkitError
            If a file is wrong, or labels are of no image.
        """
        left_out = self._left_out()
        read, overlapping, lost, several = self._reader(), 0, 0, 0
        for index, name in enumerate(track(self.names, "label maps", len(self.names))):
            found = None if name in left_out else read(index, name)
            if isinstance(found, Painted):
                overlapping += found.overlapping > 0
                lost += found.lost
                found = found.labels
            if found is not None:
                several += found.ndim > 2
                maps = list(found if found.ndim > 2 else found[None])
                found = _best_first([*map(parted, maps)] if self.at.parts == "split" else maps)
            yield found
        if several:
            say(
                f"{several} images have several annotators: training learns from the one who "
                "agrees best with the others, and scores are the mean over all"
            )
        if overlapping:
            covered = f", and {lost} regions are covered whole" * (lost > 0)
            say(
                f"{overlapping} images have pixels of several regions{covered}: a pixel is of the "
                "smallest"
            )

    def _left_out(self) -> set[str]:
        """Return the images whose labels do not count."""
        if self.at.unlabelled is None:
            return set()
        path = self.folder / self.at.unlabelled
        names = read_text(path, "list of images").split("\n")
        names = [name.strip() for name in names if name.strip()]
        known = set(self.names)
        for name in names:
            if name not in known:
                raise CompkitError(
                    f"{path} lists the image {brief(name)}, which is not there"
                    f"{nearest(name, known)}: correct or remove it"
                )
        return set(names)

    def _reader(self) -> _Read:
        """Return a function from an image's number and name to its labels, or None."""
        at = self.at
        if at.images is not None:
            return self._of_label_images(at.images)
        if at.masks is not None:
            masks = self._files(at.masks, "labels.masks")
            return lambda index, name: (
                read_masks(masks[name], self.shape_of(index)) if name in masks else None
            )
        if at.pixels is not None:
            return self._of_pixels(self.folder / at.pixels)
        shapes = {n: self.shape_of(i) for i, n in enumerate(self.names)}
        if at.run_lengths is not None:
            how = RunLengths(**{k: v for k, v in asdict(at.run_lengths).items() if k != "file"})
            path = self.folder / at.run_lengths.file
            found = read_runs(path, how, shapes)
            if seems_turned(found, how):
                say(
                    f"{path}: regions are stripes, but whole if pixels are counted the other way: "
                    f"set down: {str(not how.down).lower()} under labels.run_lengths"
                )
        else:
            from compkit.labels.coco import read_coco

            found = read_coco(self.folder / str(at.coco), shapes)
        return lambda index, name: found.get(name)

    def _of_label_images(self, pattern: str) -> _Read:
        places: dict[str, list[Place]]
        if ANNOTATOR in pattern:
            files = self._files(pattern, "labels.images")
            places = {name: [(path, None) for path in paths] for name, paths in files.items()}
        else:
            found = places_of(self.folder, pattern, "labels.images")
            places = {name: [place] for name, place in found.items()}
            self._require_known(places, pattern)

        def read(index: int, name: str) -> np.ndarray | None:
            if name not in places:
                return None
            maps, shape = [read_ids(*place) for place in places[name]], self.shape_of(index)
            for (path, _), ids in zip(places[name], maps, strict=True):
                if ids.shape != shape:
                    raise CompkitError(
                        f"{path} is {ids.shape[1]}×{ids.shape[0]}, but its image "
                        f"{shape[1]}×{shape[0]}: put the labels of this image there"
                    )
            return np.stack(maps) if len(maps) > 1 else maps[0]

        return read

    def _files(self, pattern: str, key: str) -> dict[str, list[Path]]:
        """Return the files of a pattern by image, of which each may have several."""
        found = files_by_name(self.folder, pattern)
        if not found:
            raise CompkitError(f"{self.folder} has no image {pattern} ({key}): correct the pattern")
        self._require_known(found, pattern)
        return found

    def _of_pixels(self, path: Path) -> _Read:
        from compkit.competition.table import read_table

        places = read_table(path).by_name
        self._require_known(places, str(path))
        return lambda index, name: places.get(name)

    def _require_known(self, names: Mapping[str, Any], where: str) -> None:
        known = set(self.names)
        for name in in_order(list(names)):
            if name not in known:
                raise CompkitError(
                    f"{self.folder}: {where} has labels of {brief(name)}, of which there is no "
                    f"image{nearest(name, self.names)}: remove them, or add the image"
                )


def _best_first(maps: Sequence[np.ndarray]) -> np.ndarray:
    """Return annotators' label maps, (A, H, W), or the only one, (H, W).

    The first is of the one who agrees best with the others by the adjusted Rand index over all
    pixels, and of several who do, of the first by name.
    """
    if len(maps) == 1:
        return maps[0]
    best = int(np.argmax([sum(adjusted_all(other, one) for other in maps) for one in maps]))
    return np.stack([maps[best], *maps[:best], *maps[best + 1 :]])
