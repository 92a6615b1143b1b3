"""Docstrings are orders (PEP 257): "Return the host's roles". ruff's D401 knows most verbs, this the rest of them."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = ("saltern", "lab", "bin", "bench", "_modules", "_states", "_pillar", "_runners", "salt")
# Words with an s at their end that begin an order, or a sentence about things of which there are many.
ALLOWED = {"Always", "Pass", "Process", "Press", "Access", "Compress", "Address", "Miss", "Focus", "Discuss", "Express"}
ALLOWED |= {"Folders", "Paths", "Ways", "Files", "Names", "Words"}


def openings() -> Iterator[tuple[str, str]]:
    """Yield the place of each function with a docstring, and the docstring's first word."""
    for folder in FOLDERS:
        for path in sorted((ROOT / folder).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.FunctionDef) and (doc := ast.get_docstring(node)):
                    yield f"{path.relative_to(ROOT)}:{node.lineno} {node.name}", doc.split()[0].rstrip(",;:.")


def test_a_docstring_begins_with_an_order() -> None:
    found = list(openings())
    assert len(found) > 800
    bad = [f"{place}: {word}" for place, word in found if is_told_of(word)]
    assert bad == [], "write Return, not Returns or Answers"


def is_told_of(word: str) -> bool:
    """Return whether a word is a verb about somebody else, as far as its last letters tell."""
    return (
        word[:1].isupper() and word.isalpha() and word.endswith("s") and not word.endswith("ss") and word not in ALLOWED
    )


@pytest.mark.parametrize(("word", "bad"), [("Answers", True), ("Return", False), ("HTTPS", False), ("Pass", False)])
def test_what_is_no_order(word: str, bad: bool) -> None:
    assert is_told_of(word) is bad
