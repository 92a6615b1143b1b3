"""The reference of what can be called: docs/reference/functions.md, made from the docstrings of Salt's face."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .layout import REPOSITORY

PAGE = REPOSITORY / "docs" / "reference" / "functions.md"
HEAD = """\
# Functions

Made from the docstrings in `_modules/`, `_runners/` and `_states/` by `make reference`; do not edit it.

`salt-call MODULE.FUNCTION` on a host, `salt HOST MODULE.FUNCTION` on a master.
[Settings](settings.md) has the keys of the site, [../states.md](../states.md) how states are written.
"""
# What Salt calls each kind, and how a person calls it.
KINDS = (
    ("_modules", "Execution functions", "salt-call"),
    ("_runners", "Runners", "salt-run"),
    ("_states", "States", ""),
)
SECTION = re.compile(r"^(Args|Returns|Raises|Yields|Example|CLI Example|Attributes):$")


@dataclass(frozen=True)
class Function:
    """One function that Salt offers.

    Args:
        module: as Salt calls its module.
        name: as Salt calls it.
        signature: its arguments, as they are written.
        doc: its docstring, without indentation; empty when there is none.
    """

    module: str
    name: str
    signature: str
    doc: str


def functions(folder: Path) -> Iterator[Function]:
    """Yield each public function of one of Salt's folders.

    Args:
        folder: such as `_modules`; none there is nobody's fault.
    """
    for path in sorted(folder.glob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        said = {name: value for node in tree.body for name, value in _assigned(node)}
        module, aliases = said.get("__virtualname__", path.stem), said.get("__func_alias__", {})
        for node in tree.body:
            if isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
                name = aliases.get(node.name, node.name)
                yield Function(module, name, ast.unparse(_untyped(node.args)), ast.get_docstring(node) or "")


def modules(folder: Path) -> dict[str, str]:
    """Return the first words of each module; of several files with one name, those of the file that has it.

    Args:
        folder: such as `_modules`.
    """
    found: dict[str, str] = {}
    for path in sorted(folder.glob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        said = {name: value for node in tree.body for name, value in _assigned(node)}
        module = said.get("__virtualname__", path.stem)
        if module == path.stem or module not in found:
            found[module] = (ast.get_docstring(tree) or "").partition("\n\n")[0].replace("\n", " ")
    return found


def _assigned(node: ast.stmt) -> Iterator[tuple[str, Any]]:
    """Yield name and value of a constant that a module's loader reads."""
    target = node.targets[0] if isinstance(node, ast.Assign) else None
    if isinstance(target, ast.Name) and target.id in ("__virtualname__", "__func_alias__"):
        assert isinstance(node, ast.Assign)
        yield target.id, ast.literal_eval(node.value)


def _untyped(arguments: ast.arguments) -> ast.arguments:
    """Leave types out of a signature: the words of the arguments tell them."""
    for node in ast.walk(arguments):
        if isinstance(node, ast.arg):
            node.annotation = None
    return arguments


def sections(doc: str) -> dict[str, str]:
    """Split a Google-style docstring.

    Args:
        doc: the docstring, without indentation.

    Returns:
        The text of each section by its name, without indentation; what comes before the first one as `""`.

    Example:
        >>> sections("Do it.\\n\\nArgs:\\n    app: its name.\\n")
        {'': 'Do it.', 'Args': 'app: its name.'}
    """
    found: dict[str, list[str]] = {"": []}
    current = ""
    for line in doc.splitlines():
        if match := SECTION.match(line):
            current = match[1].removeprefix("CLI ")
            found[current] = []
        else:
            found[current].append(line)
    return {name: inspect.cleandoc("\n".join(["", *lines])).strip() for name, lines in found.items()}


def entry(function: Function, command: str) -> str:
    """Return the part of the page about one function.

    Args:
        function: the function.
        command: with what a person calls it; empty for a state.
    """
    name = f"{function.module}.{function.name}"
    found = sections(function.doc)
    parts = [f"### {name}", f"`{name}({function.signature})`", _prose(found[""])]
    if arguments := found.get("Args"):
        parts.append("\n".join(f"- `{key}`: {words}" for key, words in named(arguments)))
    for title in ("Returns", "Yields"):
        if title in found:
            parts.append(f"**{title}** {_prose(found[title])}")
    if "Raises" in found:
        reasons = [f"`{key}`: {words.rstrip('.')}" for key, words in named(found["Raises"])]
        parts.append(f"**Fails** {'; '.join(reasons)}.")
    if example := found.get("Example"):
        parts.append(_example(example, command))
    return "\n\n".join(part for part in parts if part) + "\n"


def named(section: str) -> list[tuple[str, str]]:
    """Return `name: words` of a section, with lines that are indented joined to the one before."""
    found: list[tuple[str, str]] = []
    for line in section.splitlines():
        if line[:1].isspace() or not line:
            if found:
                found[-1] = (found[-1][0], f"{found[-1][1]} {_prose(line.strip())}".strip())
            continue
        name, _, words = line.partition(":")
        found.append((name.strip(), _prose(words.strip())))
    return found


def _prose(text: str) -> str:
    """Turn reStructuredText's ``code`` into Markdown's."""
    return re.sub(r":(?:func|class|meth|mod|data):`~?([^`]*)`", r"`\1`", text).replace("``", "`")


def _example(text: str, command: str) -> str:
    """Return an example as a block of code, whichever way it was written."""
    language, lines = ("bash" if command else "yaml"), text.splitlines()
    if lines[0].startswith(".. code-block::"):
        language = lines[0].rpartition("::")[2].strip()
        lines = inspect.cleandoc("\n".join(["", *lines[1:]])).strip().splitlines()
    elif lines[0].startswith(">>>"):
        language = "pycon"
    return "\n".join([f"```{language}", *lines, "```"])


def reference(repository: Path = REPOSITORY) -> str:
    """Return the page.

    Args:
        repository: where the folders are.
    """
    parts = [HEAD]
    for folder, title, command in KINDS:
        found = list(functions(repository / folder))
        if not found:
            continue
        words = modules(repository / folder)
        parts.append(f"## {title}\n")
        for module in sorted(words):
            mine = sorted((function for function in found if function.module == module), key=lambda f: f.name)
            if mine:
                parts.append(f"**{module}**: {_prose(words[module])}\n")
                parts += [entry(function, command) for function in mine]
    return "\n".join(parts)


if __name__ == "__main__":
    PAGE.parent.mkdir(exist_ok=True)
    PAGE.write_text(reference(), encoding="utf-8")
