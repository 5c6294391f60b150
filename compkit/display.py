"""What people read: tables and lines on standard output, and text that cannot steer a terminal."""

from __future__ import annotations

import shutil
import sys
import unicodedata
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from io import StringIO
from typing import Literal

#: Columns of text between two columns of a table.
_BETWEEN = 3


def printable(text: str) -> str:
    """Return `text` with control characters, also of line ends, as escapes that show.

    What is shown may come from files and their names, and a terminal obeys such characters.
    """
    return "".join(
        c if c.isprintable() or unicodedata.category(c) == "Zs" else _escaped(c) for c in text
    )


def print_text(text: str) -> None:
    """Print results as they are."""
    with _naming_output():
        print(text, end="")


def print_line(line: str) -> None:
    """Print a line of results."""
    print_text(printable(line) + "\n")


def flush_output() -> None:
    """See that what was printed arrives."""
    if sys.stdout is not None:  # it is None where standard output was closed
        with _naming_output():
            sys.stdout.flush()


def print_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print rows of text; the first column is flush left, the others are flush right.

    What is wider than the terminal follows in further blocks, which repeat the first column.
    """
    # Imported here: who only tells of an error need not wait for it.
    from rich import box
    from rich.cells import cell_len
    from rich.console import Console
    from rich.table import Table

    if sys.stdout is None:  # it is closed
        return
    cells = [list(map(printable, row)) for row in (columns, *rows)]
    widths = [max(map(cell_len, column)) + _BETWEEN for column in zip(*cells, strict=True)]
    widths[0] += 2  # the edges
    terminal = shutil.get_terminal_size().columns if sys.stdout.isatty() else sum(widths)
    blocks = list(_blocks(widths, terminal))
    needed = max(sum(widths[column] for column in block) for block in blocks)
    with StringIO() as text:
        # As text first: at a pipe that nobody reads, rich would end the process by itself.
        console = Console(
            file=text, width=max(terminal, needed), force_terminal=sys.stdout.isatty(),
            highlight=False, markup=False, emoji=False,
        )  # fmt: skip
        for number, block in enumerate(blocks):
            head = None if number else printable(title)
            table = Table(title=head, title_justify="left", box=box.SIMPLE)
            for column in block:
                justify: Literal["left", "right"] = "right" if column else "left"
                table.add_column(cells[0][column], justify=justify, no_wrap=True)
            for row in cells[1:]:
                table.add_row(*(row[column] for column in block))
            console.print(table)
        print_text(text.getvalue())


def _blocks(widths: Sequence[int], terminal: int) -> Iterator[list[int]]:
    """Yield columns that a terminal has place for beside the first; one at least."""
    block, used = [0], widths[0]
    for column in range(1, len(widths)):
        if len(block) > 1 and used + widths[column] > terminal:
            yield block
            block, used = [0], widths[0]
        block.append(column)
        used += widths[column]
    yield block


def marked(
    columns: Sequence[str],
    rows: Sequence[Sequence[str]],
    scores: Collection[str],
    doubts: Sequence[str],
) -> list[list[str]]:
    """Return rows of text with a star after each cell of the columns `scores`, if in doubt."""
    stars = ["*" if doubts and column in scores else "" for column in columns]
    return [[cell + star for cell, star in zip(row, stars, strict=True)] for row in rows]


def print_scores(
    title: str,
    columns: Sequence[str],
    rows: Sequence[Sequence[str]],
    scores: Collection[str],
    doubts: Sequence[str],
) -> None:
    """Print a table as `print_table` does, and whether its scores can be trusted.

    Parameters
    ----------
    scores : collection of str
        The columns that hold scores.
    doubts : sequence of str
        Why they are too high, as `compkit.folds.Folds.doubts` says: they are marked by a star, and
        these sentences follow the table.
    """
    print_table(title, columns, marked(columns, rows, scores, doubts))
    for doubt in doubts:
        print_line(f"* {doubt}")


@contextmanager
def _naming_output() -> Iterator[None]:
    """Give an `OSError` that names no file the name of standard output."""
    try:
        yield
    except OSError as error:
        error.filename = error.filename or "standard output"
        raise


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode()
