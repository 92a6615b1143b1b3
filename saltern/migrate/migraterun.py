"""Runs ``migrate`` inside a release, so that a migration which has to wait makes nobody else wait.

This is given as text to the release's own Python, in the app's sandbox and with the database role that owns the
database; so it imports only what is in every Django project. Why not settings in DATABASE_URL, or a database backend
such as django-pg-zero-downtime-migrations? Options in the URL are lost when the app's settings bring their own; they
would also hold for ``CREATE INDEX CONCURRENTLY``, which has to wait for old transactions, disturbs nobody while it
does, and leaves a broken index when it is cut short. A backend would have to be in the app's settings and lock.

- One at a time: an advisory lock, held by a session of its own for as long as this process lives.
- ``lock_timeout`` on every session: who waits for a table's lock makes all later requests queue behind it.
- All statements of a transaction together wait no longer than one: the locks of the first are held meanwhile.
- A migration that got no lock is undone and tried again after a pause, for a limited time.
- It names functions and operators of Postgres in full: as the owner's session, but perhaps not the owner's names.
- Statements with CONCURRENTLY run without both timeouts. What a killed one left is removed, what it finished is kept.
"""

from __future__ import annotations

import json
import re
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

LOCK_TIMEOUT = 2  # seconds
LEAST_TIMEOUT = 0.1  # what a statement gets when those before it have used up the time
NO_LOCK, DEADLOCK, TOO_LONG = "55P03", "40P01", "57014"  # PostgreSQL's lock_not_available, ..., query_canceled
PAUSES = (1, 2, 4, 8)  # seconds between two tries; the last one is repeated
CONCURRENTLY = re.compile(r"^\s*(CREATE|DROP|REINDEX|REFRESH|ALTER)\b[^;']*\bCONCURRENTLY\b", re.IGNORECASE)
LOCKS = re.compile(r"^\s*(ALTER|CREATE|DROP|TRUNCATE|LOCK|COMMENT|REINDEX|CLUSTER|REFRESH)\b", re.IGNORECASE)
CONCURRENT_INDEX = re.compile(
    r"^\s*CREATE\s+(?:UNIQUE\s+)?INDEX\s+CONCURRENTLY\s+(?:IF\s+NOT\s+EXISTS\s+)?"
    r'"?(?P<name>[^\s"]+)"?\s+ON\s+(?:ONLY\s+)?"?(?P<table>[^\s"(]+)"?',
    re.IGNORECASE,
)


def source() -> str:
    """Return the text of this file.

    Returns:
        Python, for ``python -c``; its one argument is JSON with ``lock_key``, ``wait_seconds``, ``retry_seconds``
        and ``statement_timeout_seconds``.

    Example:
        >>> source().splitlines()[0][:10]
        '\"\"\"Runs ``'
    """
    return Path(__file__).read_text(encoding="utf-8")


def state_of(error: BaseException | None) -> str:
    """Return the SQLSTATE of a database error, also of one that Django has wrapped; empty when it has none.

    Args:
        error: as it was caught.

    Example:
        >>> state_of(ValueError("x"))
        ''
    """
    while error is not None:
        # psycopg calls it sqlstate, psycopg2 pgcode.
        if found := getattr(error, "sqlstate", None) or getattr(error, "pgcode", None):
            return str(found)
        error = error.__cause__
    return ""


def tried(work: Callable[[], Any], seconds: float, sleep: Callable[[float], None] = time.sleep) -> Any:
    """Do some work, and again while it fails for want of a lock and there is time left.

    Args:
        work: what leaves nothing behind when it fails.
        seconds: after which it is not begun again.
        sleep: for tests.

    Returns:
        What the work answers.

    Raises:
        Exception: what the work raised last.

    Example:
        >>> tried(lambda: 5, 60)
        5
    """
    begun, number = time.monotonic(), 0
    while True:
        try:
            return work()
        except Exception as error:
            pause = PAUSES[min(number, len(PAUSES) - 1)]
            late = time.monotonic() - begun + pause > seconds
            if state_of(error) not in (NO_LOCK, DEADLOCK) or late:
                raise
            print(f"{str(error).strip().splitlines()[0]}: tried again in {pause} s", flush=True)
            sleep(pause)
            number += 1


def careful(limits: str, seconds: float) -> Callable[..., Any]:
    """Return a wrapper for Django's ``connection.execute_wrappers``, which sees every statement.

    Args:
        limits: the SQL that sets both timeouts.
        seconds: how long a statement outside of a transaction is tried again.
    """

    used: dict[str, Any] = {"transaction": None, "seconds": 0.0}

    def in_transaction(connection: Any, work: Callable[[], Any]) -> Any:
        """Do the work; what it has waited for is taken off the time of the statements that follow."""
        transaction = next(iter(getattr(connection, "atomic_blocks", ())), None)  # not in old Djangos
        if used["transaction"] is not transaction:
            used.update(transaction=transaction, seconds=0.0)
        left = max(LOCK_TIMEOUT - used["seconds"], LEAST_TIMEOUT)
        with connection.cursor() as cursor:
            cursor.execute(f"SET LOCAL lock_timeout = '{left * 1000:.0f}ms'")
        begun = time.monotonic()
        try:
            return work()
        finally:
            used["seconds"] += time.monotonic() - begun

    def execute(run: Callable[..., Any], sql: Any, params: Any, many: bool, context: dict[str, Any]) -> Any:
        connection, text = context["connection"], str(sql)
        if connection.in_atomic_block:  # the whole migration is tried again
            work = lambda: run(sql, params, many, context)  # noqa: E731
            return in_transaction(connection, work) if LOCKS.match(text) else work()
        if not CONCURRENTLY.match(text):
            return tried(lambda: run(sql, params, many, context), seconds)
        with connection.cursor() as cursor:
            if _is_built(cursor, text):
                print(f"already there: {text.strip()}", flush=True)
                return None
            cursor.execute("SET lock_timeout = 0; SET statement_timeout = 0")
            try:
                return run(sql, params, many, context)
            finally:
                cursor.execute(limits)

    return execute


def _is_built(cursor: Any, text: str) -> bool:
    """Return whether the index of CREATE INDEX CONCURRENTLY is there; half of one, of a killed run, is dropped."""
    index = CONCURRENT_INDEX.match(text)
    if not index:
        return False
    cursor.execute(
        "SELECT i.indisvalid FROM pg_catalog.pg_index i"
        " JOIN pg_catalog.pg_class c ON c.oid OPERATOR(pg_catalog.=) i.indexrelid"
        " WHERE c.relname OPERATOR(pg_catalog.=) %s AND i.indrelid OPERATOR(pg_catalog.=) pg_catalog.to_regclass(%s)",
        [index["name"], f'"{index["table"]}"'],
    )
    row = cursor.fetchone()
    if row and not row[0]:
        cursor.execute(f'DROP INDEX CONCURRENTLY "{index["name"]}"')
    return bool(row and row[0])


def main(options: dict[str, Any]) -> None:
    """Migrate the default database of the project whose environment this process has.

    Args:
        options: ``lock_key`` (a number), ``wait_seconds`` (for another migration), ``retry_seconds``,
            ``statement_timeout_seconds`` (0: no limit).

    Raises:
        SystemExit: with a sentence, when it could not be done; nothing of the failed migration is left.
    """
    import django

    django.setup()
    from django.core.management import call_command
    from django.db import connections
    from django.db.backends.signals import connection_created

    limit = options["statement_timeout_seconds"]
    limits = f"SET lock_timeout = '{LOCK_TIMEOUT}s'; SET statement_timeout = '{limit}s'"
    # When this process is killed, what it had begun shall not go on, with its locks, until it is done.
    setup = f"{limits}; SET client_connection_check_interval = '1s'"

    def prepare(connection: Any, **_: Any) -> None:
        if connection.vendor == "postgresql":
            with connection.cursor() as cursor:
                cursor.execute(setup)

    connection_created.connect(prepare)
    connection, guard = connections["default"], connections.create_connection("default")
    _lock(guard, options["lock_key"], options["wait_seconds"])
    connection.execute_wrappers.append(careful(limits, options["retry_seconds"]))
    try:
        tried(lambda: call_command("migrate", interactive=False, verbosity=1), options["retry_seconds"])
    except Exception as error:
        if state_of(error) == NO_LOCK:
            sys.exit(
                f"Somebody held a table for longer than {options['retry_seconds']} s (migrations.retry_seconds); nobody"
                f" waited for us for more than {LOCK_TIMEOUT} s. The migration was undone; apply again. Who it is"
                " stands in pg_stat_activity, with the oldest xact_start"
            )
        if state_of(error) == TOO_LONG:
            sys.exit(
                f"A statement took longer than {limit} s (migrations.statement_timeout_seconds); the migration was"
                " undone. Split its work, or allow it more time."
            )
        raise


def _lock(guard: Any, key: int, seconds: float) -> None:
    """Take the advisory lock; its session ends with this process, and Postgres then drops it."""
    until = time.monotonic() + seconds
    with guard.cursor() as cursor:
        while True:
            cursor.execute("SELECT pg_catalog.pg_try_advisory_lock(%s)", [key])
            if cursor.fetchone()[0]:
                return
            if time.monotonic() > until:
                sys.exit(f"Another migration of this app's database has been running for {seconds} s")
            time.sleep(0.5)


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
