"""Input sizes of a search space: shares of the images' side, brought to pixels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from compkit.config import InputConfig
from compkit.errors import CompkitError

#: Encoders halve what they are shown five times; other sides are padded, which crops suffer from.
_MULTIPLE = 32


def in_pixels(entry: Any, side: int, own: InputConfig) -> Any:
    """Return an entry with ``sides`` as one with ``choice``, and any other as it is.

    Parameters
    ----------
    entry : plain value
        ``sides`` lists ``size`` or ``[size, crop]``, in shares of the images' side.
    side : int
        Of the data's images, in pixels.
    own : InputConfig
        The configuration's, which is always an option. If it focuses crops, all options have them.

    Raises
    ------
    CompkitError
        If ``sides`` lists something else.
    """
    if not isinstance(entry, dict) or "sides" not in entry:
        return entry
    if not isinstance(entry["sides"], list):
        raise _refusal(entry["sides"])
    options = {}
    for shares in entry["sides"]:
        size, crop = _pixels(shares, side)
        if (crop is None and not own.focus) or (crop is not None and crop < (size or side)):
            options[_label(size or side, crop)] = {"input.size": size, "input.crop": crop}
    options[_label(own.size or side, own.crop)] = {"input.size": own.size, "input.crop": own.crop}
    rest: Mapping[str, Any] = {key: value for key, value in entry.items() if key != "sides"}
    return {"choice": options, **rest}


def _pixels(shares: Any, side: int) -> tuple[int | None, int | None]:
    """Return size and crop; a size of None leaves images as they are."""
    listed = shares if isinstance(shares, list) else [shares]
    numbers = [s for s in listed if isinstance(s, int | float) and not isinstance(s, bool)]
    if numbers != listed or len(listed) not in (1, 2) or not all(0 < s <= 4 for s in numbers):
        raise _refusal(shares)
    size, *crop = (_MULTIPLE * max(1, round(side * s / _MULTIPLE)) for s in numbers)
    return None if numbers[0] == 1 else size, crop[0] if crop else None


def _label(size: int, crop: int | None) -> str:
    return f"{size} px" if crop is None else f"{size} px in crops of {crop}"


def _refusal(given: Any) -> CompkitError:
    return CompkitError(
        f"sides has {given!r}: list shares of the images' side up to 4, as 0.5 or, for crops of a "
        "larger image, [1, 0.75]"
    )
