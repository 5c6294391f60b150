"""Groups that the user knows: which images are of one patient, from a CSV."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from compkit.data.store import Store
from compkit.errors import CompkitError, brief
from compkit.folds.sheet import Sheet, read_sheet

_LONGEST = 200  # characters of a name


def read_groups(path: Path | str, store: Store) -> np.ndarray:
    """Read the group of each training image from a CSV with the columns image and group.

    Parameters
    ----------
    path : Path or str
        The second column may be called patient, too; other columns do not count.

    Returns
    -------
    ndarray of str, shape (N,)
        Names of any text; empty for an unlabelled image that has none.

    Raises
    ------
    CompkitError
        Naming the file, and the row or image; for instance if a labelled image has no group.
    """
    sheet = read_sheet(Path(path), "file of groups", ("image",))
    column = next((name for name in ("group", "patient") if name in sheet.columns), None)
    if column is None:
        raise CompkitError(f"{path} must have one column 'group' (or 'patient') beside 'image'")
    images, known = set(store.train), dict[str, str]()
    for number, row in sheet.rows:
        image, name = row["image"], group_name(sheet, number, row[column])
        if image not in images:
            sheet.refuse(number, f"there is no training image {brief(image)}")
        if known.setdefault(image, name) != name:
            sheet.refuse(number, f"{image} is in group {name!r}, but above in {known[image]!r}")
    names = [known.get(image, "") for image in store.train]
    for index in store.labelled:
        if not names[index]:
            raise CompkitError(
                f"{path} gives no group to {store.train[index]}, which is labelled: every labelled "
                "image needs a row with its group"
            )
    return np.array(names)


def group_name(sheet: Sheet, number: int, text: str) -> str:
    """Return the name of a group in row `number`; refuse one that is too long."""
    if len(text) > _LONGEST:
        sheet.refuse(number, f"the name of a group has {len(text)} characters: take {_LONGEST}")
    return text


def joined(names: np.ndarray, copy: np.ndarray) -> np.ndarray:
    """Join groups that share an exact copy of an image.

    Parameters
    ----------
    names : ndarray of str, shape (N,)
        From `read_groups`.
    copy : ndarray of int64, shape (N,)
        Which distinct image each image is.

    Returns
    -------
    ndarray of str, shape (N,)
        Names of groups, those of joined ones with a + between them.
    """
    known = names != ""
    groups, of = np.unique(names[known], return_inverse=True)
    count = len(groups) + int(copy.max()) + 1  # groups first, then distinct images
    links = coo_array((np.ones(len(of)), (of, len(groups) + copy[known])), shape=(count, count))
    _, component = connected_components(links, directed=False)
    members: dict[int, list[str]] = {}
    for group, number in zip(groups, component, strict=False):
        members.setdefault(number, []).append(str(group))
    return np.array(["+".join(members.get(number, [])) for number in component[len(groups) + copy]])
