"""Competitions by name, and the way from a ``--data`` argument to one of them."""

from __future__ import annotations

from compkit import plugins
from compkit.competition.base import Competition
from compkit.errors import CompkitError
from compkit.registry import Registry

COMPETITIONS = Registry(
    "compkit.competitions",
    "competition",
    {
        "raidium": "compkit.competition.raidium:Raidium",
        "phantom": "compkit.competition.phantom:Phantom",
        "dsb2018": "compkit.competition.described:Dsb2018",
        "isbi2012": "compkit.competition.described:Isbi2012",
        "folder": "compkit.competition.described:Folder",
        "coco": "compkit.competition.described:Coco",
        "own": "compkit.competition.described:Own",
    },
)


def competition_of(data: str) -> Competition:
    """Return the competition whose data the locator `data` names, by what each says itself.

    Raises
    ------
    CompkitError
        If it is no competition's, or that of several.
    """
    if not data:  # which is not to be the current folder, as of a variable that is unset
        raise CompkitError("--data names no folder: give --data DIR")
    known: list[Competition] = []
    owners: list[Competition] = []
    for name in COMPETITIONS.names():
        kind = COMPETITIONS.get(name)
        with COMPETITIONS.blaming(name, "cannot tell whose data these are"):
            known.append(kind())
            if not (isinstance(known[-1].name, str) and isinstance(known[-1].locator, str)):
                raise TypeError("its name and its locator must be text")
            if known[-1].owns(data):
                owners.append(known[-1])
    # What a folder says of itself counts more than what it looks like.
    owners = [one for one in owners if one.name == "own"] or owners
    if len(owners) == 1:
        return owners[0]
    if owners:
        raise CompkitError(
            f"{data} is of several competitions ({', '.join(one.name for one in owners)}): leave "
            "out the plugin or package of the others"
        )
    # Of one that a plugin adds, which lacks here, others' layouts tell nothing.
    wanted = plugins.hint() or (
        f": --data takes a folder in a layout of docs/data.md ({', '.join(o.name for o in known)})"
        ", or one that compkit data init describes"
    )
    raise CompkitError(f"there is no competition's data at {data}{wanted}")
