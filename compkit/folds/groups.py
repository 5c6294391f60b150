"""Groups that the user knows: which images are of one patient, from a CSV."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from compkit.data.store import Store
from compkit.errors import CompkitError
from compkit.folds.sheet import read_sheet


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
    column = next((name for name in ("group", "patient") if name in sheet.rows), None)
    if column is None:
        raise CompkitError(f"{path} must have one column 'group' (or 'patient') beside 'image'")
    sheet.places(store.train)
    group = sheet.names(column)
    known = group.groupby(sheet.rows["image"]).first()
    sheet.refuse(
        group != sheet.rows["image"].map(known),
        lambda row: (
            f"{row['image']} is in group {row[column]!r}, but above in {known[row['image']]!r}"
        ),
    )
    names = np.array(known.reindex(store.train, fill_value="").tolist())
    for index in store.labelled[names[store.labelled] == ""]:
        raise CompkitError(
            f"{path} gives no group to {store.train[index]}, which is labelled: every labelled "
            "image needs a row with its group"
        )
    return names


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
    together = pd.Series(groups).groupby(component[: len(groups)]).agg("+".join)
    return np.array(together.reindex(component[len(groups) + copy], fill_value="").tolist())
