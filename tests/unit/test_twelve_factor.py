"""Each of the twelve factors has a row, and each test that a row names exists."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "docs" / "twelve-factor.md").read_text()
ROWS = re.findall(r"^\| (\d+) [^|]+\|[^|]+\|([^|]+)\|$", TEXT, re.MULTILINE)
NAMED = re.findall(r"`([\w/.-]+\.py)::(\w+)`", TEXT)


def exists(path: str, test: str) -> bool:
    file = ROOT / path
    return file.is_file() and re.search(rf"^\s*def {test}\(", file.read_text(), re.MULTILINE) is not None


def test_every_factor_has_a_row_with_a_test() -> None:
    assert [int(number) for number, _ in ROWS] == list(range(1, 13))
    assert all("::test_" in proof for _, proof in ROWS)


@pytest.mark.parametrize("path, test", NAMED)
def test_each_named_test_exists(path: str, test: str) -> None:
    assert exists(path, test)


def test_a_name_that_is_none_would_be_found() -> None:
    assert not exists("tests/unit/test_twelve_factor.py", "test_nothing")
    assert not exists("tests/unit/test_nothing.py", "test_nothing")
