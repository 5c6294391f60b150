"""What is read of files that a user names: regular files only, text as UTF-8, every key once."""

from __future__ import annotations

import csv
import json
import math
import stat
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml

from compkit.errors import CompkitError, brief

# Run lengths of a large region are longer than cells may be by default.
csv.field_size_limit(2**31 - 1)

#: Levels of lists and mappings that any file of ours stays far below.
_DEEPEST = 50

#: Values in a YAML once its aliases are written out; a few lines of aliases may stand for billions.
_MOST = 100_000


def require_file(path: Path | str, what: str, remedy: str = "correct the path") -> None:
    """Refuse what is no regular file, links followed; reading a pipe would wait for ever.

    Parameters
    ----------
    what : str
        What the file is to be, for the sentence: ``"weights file"``.
    remedy : str
        What to do where there is none.

    Raises
    ------
    CompkitError
        If the path is absent, out of reach, a folder, a pipe, a socket or a device.
    """
    try:
        mode = Path(path).stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        raise CompkitError(f"there is no {what} {path}: {remedy}") from None
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        reason = getattr(error, "strerror", None) or str(error)
        raise CompkitError(f"the {what} {path} cannot be read ({reason}): {remedy}") from None
    if stat.S_ISDIR(mode):
        raise CompkitError(f"{path} is a folder, and no {what}: {remedy}")
    if not stat.S_ISREG(mode):
        raise CompkitError(
            f"{path} is a pipe or a device, but the {what} must be a regular file: "
            "write what it holds to a file first"
        )


def require_utf8(words: Iterable[str], what: str) -> None:
    """Refuse names that are no text, before work is spent on what could not tell of them.

    Parameters
    ----------
    what : str
        What keeps them in its records, for the sentence.

    Raises
    ------
    CompkitError
        Naming the first.
    """
    for word in words:
        try:
            word.encode()
        except UnicodeEncodeError:
            raise CompkitError(
                f"{word} is no text in UTF-8, as the records of {what} are: rename what it names, "
                "or give a link to it"
            ) from None


def read_text(
    path: Path | str,
    what: str,
    remedy: str = "correct the path",
    no_text: str = "save it as UTF-8",
) -> str:
    """Return the text of a regular file in UTF-8, without a byte order mark.

    Where it is of another encoding, `no_text` is what to do.

    Raises
    ------
    CompkitError
        As `require_file`, or if it cannot be read or is no UTF-8.
    """
    require_file(path, what, remedy)
    try:
        return Path(path).read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise CompkitError(f"{path} is not text in UTF-8 (byte {error.start}): {no_text}") from None
    except OSError as error:
        raise CompkitError(f"{path} cannot be read ({error.strerror}): allow reading it") from None


def load_yaml(path: Path | str, what: str, loader: type[yaml.SafeLoader] | None = None) -> Any:
    """Return what a YAML file holds, each key of which is there once.

    Parameters
    ----------
    what : str
        As for `require_file`.
    loader : type, optional
        A `StrictLoader` or a subclass that reads scalars in another way.

    Raises
    ------
    CompkitError
        As `read_text`, or naming the line that is no YAML, or none that can be used.
    """
    text = read_text(path, what)
    try:
        return yaml.load(text, loader or StrictLoader)
    except yaml.YAMLError as error:
        raise CompkitError(f"{path} is not valid YAML ({problem_of(error)}): correct it") from None


def problem_of(error: yaml.YAMLError) -> str:
    """Return what is wrong with a YAML, and where, in half a sentence."""
    mark = getattr(error, "problem_mark", None)
    if mark is None:
        return " ".join(str(error).split())
    problem = f"{getattr(error, 'context', None) or ''} {getattr(error, 'problem', None) or ''}"
    return f"{problem.strip()} in line {mark.line + 1}, column {mark.column + 1}"


def parse_json(text: str) -> Any:
    """Return the value of a JSON text.

    Raises
    ------
    ValueError
        If it is no JSON, holds a key twice or a number that is not finite, or is nested too deep.
    """
    try:
        return json.loads(
            text, object_pairs_hook=_once, parse_constant=_finite, parse_float=_finite
        )
    except RecursionError:
        raise ValueError("it is nested too deep") from None


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise ValueError(f"the key {brief(key)} is there twice")
        found[key] = value
    return found


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{brief(text)} is no finite number")
    return value


class UnusableYamlError(yaml.MarkedYAMLError):
    """Sound YAML that stands for nothing usable."""


class StrictLoader(yaml.SafeLoader):
    """Takes each key once, and nothing that no value of ours could be.

    All that it refuses is a `yaml.YAMLError`.
    """

    def __init__(self, stream: Any) -> None:
        super().__init__(stream)
        self._depth = 0
        self._sizes: dict[yaml.Node, int] = {}

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        """Compose a node, unless it is too deep or too large, or an alias of what holds it."""
        alias, mark = self.check_event(yaml.AliasEvent), self.peek_event().start_mark
        self._depth += 1
        if self._depth > _DEEPEST:
            raise UnusableYamlError(problem="it is nested too deep", problem_mark=mark)
        node = super().compose_node(parent, index)
        self._depth -= 1
        if node is None:
            return None
        if not alias:
            self._sizes[node] = 1 + sum(self._sizes[child] for child in _children(node))
        elif node not in self._sizes:
            raise UnusableYamlError(problem="an alias is within its anchor", problem_mark=mark)
        if self._sizes[node] > _MOST:
            raise UnusableYamlError(problem=f"over {_MOST} values are there", problem_mark=mark)
        return node

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        """Compose a mapping, each of whose keys is there once."""
        node = super().compose_mapping_node(anchor)
        seen = set()
        for key, _ in node.value:
            if (known := (key.tag, str(key.value))) in seen:
                problem = f"the key {brief(key.value)} is there twice"
                raise UnusableYamlError(problem=problem, problem_mark=key.start_mark)
            seen.add(known)
        return node

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        """Construct a value; what cannot be one, as a number too long, is refused with its line."""
        try:
            value = super().construct_object(node, deep)
            if isinstance(value, str):
                value.encode()
        except (ValueError, OverflowError, LookupError, AttributeError, TypeError):
            kind = node.tag.rpartition(":")[2]
            problem = f"{brief(node.value)} is no valid {kind}"
            raise UnusableYamlError(problem=problem, problem_mark=node.start_mark) from None
        return value


# Nothing that a user sets is a date, and names may look like one.
StrictLoader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if not tag.endswith(":timestamp")]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def _children(node: yaml.Node) -> list[yaml.Node]:
    if isinstance(node, yaml.MappingNode):
        return [child for pair in node.value for child in pair]
    return list(node.value) if isinstance(node, yaml.SequenceNode) else []
