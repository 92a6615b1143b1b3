"""A YAML file with the line of each key, so that an error can say where to look."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from .errors import Problem

Key = tuple[str, ...]


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """Plain YAML: no Python objects. The C version is ten times as fast where PyYAML has it."""


@dataclass
class Document:
    """What stands in one YAML file.

    Args:
        file: path as the user would type it.
        data: the content; None when the file is empty, absent or no YAML.
        lines: line of each key path, counted from 1.
        problems: why it could not be read.
    """

    file: str
    data: Any = None
    lines: dict[Key, int] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)

    def problem(self, key: Sequence[object], message: str) -> Problem:
        """Return a problem at `key`, with the line of the deepest part of it that stands in the file."""
        path = tuple(str(part) for part in key)
        line = next((self.lines[path[:n]] for n in range(len(path), 0, -1) if path[:n] in self.lines), 0)
        return Problem(self.file, line, ".".join(path), message)

    def at(self, *key: object) -> Any:
        """Return the value at a key path, or None where there is none."""
        value = self.data
        for part in key:
            value = value.get(part) if isinstance(value, dict) else None
        return value

    def names(self, *key: object) -> list[object]:
        """Return the keys of the mapping at a key path; none where there is no mapping."""
        value = self.at(*key)
        return list(value) if isinstance(value, dict) else []


def read_document(path: Path) -> Document:
    """Read one YAML file; what is wrong with it is in the document's `problems`.

    Args:
        path: the file; shown in messages as it is given.
    """
    try:
        return parse_document(str(path), path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        reason = "the file does not exist"
    except (OSError, UnicodeError) as error:
        reason = f"cannot be read: {getattr(error, 'strerror', None) or 'it is not UTF-8 text'}"
    return Document(str(path), problems=[Problem(str(path), 0, "", reason)])


def parse_document(file: str, text: str) -> Document:
    """Read the text of one YAML file; what is wrong with it is in the document's `problems`.

    Salt refuses a key that stands twice, PyYAML takes the last one in silence: here it is a problem too.

    Args:
        file: the file's path, for messages.
        text: what it holds.
    """
    document = Document(file)
    try:
        loader = _Loader(text)
        try:
            node = loader.get_single_node()
            if node is not None:
                _visit(node, (), document, set())
                document.data = loader.construct_document(node)
        finally:
            loader.dispose()
    except yaml.YAMLError as error:
        document.problems.append(_syntax_problem(document.file, error))
    return document


def _visit(node: yaml.Node, path: Key, document: Document, open_nodes: set[int]) -> None:
    if id(node) in open_nodes:  # an anchor that contains itself
        raise yaml.constructor.ConstructorError(problem="an alias contains itself", problem_mark=node.start_mark)
    open_nodes.add(id(node))
    if isinstance(node, yaml.SequenceNode):
        for number, item in enumerate(node.value):
            document.lines[(*path, str(number))] = item.start_mark.line + 1
            _visit(item, (*path, str(number)), document, open_nodes)
    elif isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for name, value in node.value:
            key = (*path, str(name.value) if isinstance(name, yaml.ScalarNode) else "?")
            if key[-1] in seen:
                text = f"the key stands twice (first in line {document.lines[key]}); keep one"
                document.problems.append(Problem(document.file, name.start_mark.line + 1, ".".join(key), text))
                continue
            seen.add(key[-1])
            document.lines[key] = name.start_mark.line + 1
            _visit(value, key, document, open_nodes)
    open_nodes.discard(id(node))


def _syntax_problem(file: str, error: yaml.YAMLError) -> Problem:
    # The parser's own text quotes the lines around the error, which may hold a secret: only its verdict is used.
    mark = getattr(error, "problem_mark", None)
    line = mark.line + 1 if mark else 0
    column = f" (column {mark.column + 1})" if mark else ""
    verdict = getattr(error, "problem", None) or "unreadable character"
    return Problem(file, line, "", f"not valid YAML: {verdict}{column}")
