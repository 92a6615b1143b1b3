"""How a migration waits: which statements are tried again, and which run without a time limit."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import pytest

from saltern.migrate import migraterun as run


class LockNotAvailableError(Exception):
    sqlstate = run.NO_LOCK


class UndefinedError(Exception):
    sqlstate = "42P01"


def failing(times: int, error: Callable[[], Exception]) -> Callable[..., str]:
    left = [times]

    def work(*_: Any) -> str:
        left[0] -= 1
        if left[0] >= 0:
            raise error()
        return "done"

    return work


def wrapped() -> Exception:
    """As Django raises it: its own error, with the driver's as the cause."""
    error = Exception("canceling statement due to lock timeout")
    error.__cause__ = LockNotAvailableError()
    return error


def test_it_tries_again_with_growing_pauses_while_there_is_no_lock() -> None:
    pauses: list[float] = []
    assert run.tried(failing(5, wrapped), 60, pauses.append) == "done"
    assert pauses == [1, 2, 4, 8, 8]


def test_it_gives_up_when_the_time_is_over() -> None:
    with pytest.raises(Exception, match="lock timeout"):
        run.tried(failing(9, wrapped), 0, pytest.fail)


def test_another_error_is_not_tried_again() -> None:
    with pytest.raises(UndefinedError):
        run.tried(failing(1, UndefinedError), 60, pytest.fail)


class Connection:
    """Plays Django's: notes what is executed, and answers a query for an index with its validity."""

    def __init__(self, valid: bool | None = None, in_atomic_block: bool = False) -> None:
        self.valid, self.in_atomic_block, self.log = valid, in_atomic_block, []  # type: ignore[var-annotated]
        self.atomic_blocks = [object()]

    def cursor(self) -> Any:
        return contextlib.nullcontext(self)

    def execute(self, sql: str, parameters: Any = None) -> None:
        if not sql.startswith("SELECT"):
            self.log.append(sql)

    def fetchone(self) -> Any:
        return None if self.valid is None else (self.valid,)

    def run(self, sql: str) -> None:
        def inner(text: str, *_: Any) -> None:
            self.log.append(text)

        run.careful("LIMITS", 60)(inner, sql, None, False, {"connection": self})


FREE = "SET lock_timeout = 0; SET statement_timeout = 0"
BUILD = 'CREATE INDEX CONCURRENTLY "i" ON "note" ("author")'


@pytest.mark.parametrize(
    "sql",
    [
        BUILD,
        'DROP INDEX CONCURRENTLY IF EXISTS "i"',
        "refresh materialized view concurrently x",
        "ALTER TABLE a DETACH PARTITION b CONCURRENTLY",
    ],
)
def test_a_concurrent_statement_has_all_the_time_and_the_limits_come_back(sql: str) -> None:
    connection = Connection()
    connection.run(sql)
    assert connection.log == [FREE, sql, "LIMITS"]


def test_the_limits_come_back_after_an_error_too() -> None:
    connection = Connection()
    with pytest.raises(UndefinedError):
        run.careful("LIMITS", 60)(failing(1, UndefinedError), BUILD, None, False, {"connection": connection})
    assert connection.log == [FREE, "LIMITS"]


@pytest.mark.parametrize("sql", ['CREATE INDEX "i" ON "note" ("author")', "INSERT INTO note VALUES ('CONCURRENTLY')"])
def test_every_other_statement_keeps_the_limits(sql: str) -> None:
    connection = Connection()
    connection.run(sql)
    assert connection.log == [sql]


def test_the_statements_of_a_transaction_share_the_time_to_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first one's locks are held while the second one waits, and requests with them."""
    clock = [0.0]
    monkeypatch.setattr(run.time, "monotonic", lambda: clock[0])
    connection = Connection(in_atomic_block=True)
    execute = run.careful("LIMITS", 60)

    def takes(seconds: float, sql: str) -> None:
        def work(*_: Any) -> None:
            clock[0] += seconds

        execute(work, sql, None, False, {"connection": connection})

    takes(1.5, "ALTER TABLE a ADD b int")
    takes(9, "UPDATE a SET b = 1")  # waits for nobody's lock on a table
    takes(5, "ALTER TABLE c ADD d int")
    takes(0, "DROP TABLE e")
    connection.atomic_blocks = [object()]
    takes(0, "DROP TABLE f")
    timeouts = [sql.partition("= ")[2] for sql in connection.log]
    assert timeouts == ["'2000ms'", "'500ms'", "'100ms'", "'2000ms'"]


def test_half_an_index_that_a_killed_run_left_is_built_anew_and_a_whole_one_is_kept() -> None:
    half, whole = Connection(valid=False), Connection(valid=True)
    half.run(BUILD)
    assert half.log == ['DROP INDEX CONCURRENTLY "i"', FREE, BUILD, "LIMITS"]
    whole.run(BUILD)
    assert whole.log == []


def test_it_is_given_to_python_as_text() -> None:
    compile(run.source(), "<text>", "exec")
    assert 'if __name__ == "__main__"' in run.source()
