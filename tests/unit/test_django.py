"""Which migrations are pending: the rules of Django's MigrationLoader, squashed ones included."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.contracts import load

django: Any = load("_modules", "django")

PLAIN = [["a", "0001", []], ["a", "0002", []], ["b", "0001", []]]
SQUASHED = [["a", "0001", []], ["a", "0002", []], ["a", "0001_0002", [["a", "0001"], ["a", "0002"]]]]


@pytest.mark.parametrize(
    "migrations, applied, pending",
    [
        (PLAIN, set(), ["a.0001", "a.0002", "b.0001"]),
        (PLAIN, {("a", "0001"), ("b", "0001")}, ["a.0002"]),
        (PLAIN, {("a", "0001"), ("a", "0002"), ("b", "0001")}, []),
        (PLAIN, {("a", "0001"), ("a", "0002"), ("b", "0001"), ("a", "0003_of_a_newer_release")}, []),
        (SQUASHED, set(), ["a.0001_0002"]),  # a new database gets the squashed one only
        (SQUASHED, {("a", "0001")}, ["a.0002"]),  # half way: the old ones stay
        (SQUASHED, {("a", "0001"), ("a", "0002")}, []),
        (SQUASHED, {("a", "0001"), ("a", "0002"), ("a", "0001_0002")}, []),
        ([], set(), []),
    ],
)
def test_pending(migrations: list[list[Any]], applied: set[tuple[str, str]], pending: list[str]) -> None:
    assert django.pending_of(migrations, applied) == pending


def test_lock_key_is_a_number_that_postgres_takes_and_of_one_app() -> None:
    assert -(2**63) <= django.lock_key("demo") < 2**63
    assert django.lock_key("demo") == django.lock_key("demo") != django.lock_key("other")
