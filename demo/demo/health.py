"""Is this process able to do its work? Asked by /healthz, /-/serving and `manage.py health`."""

import logging
import secrets
import time
from collections.abc import Callable
from typing import Any

from django.core.cache import cache
from django.db import connection
from django.db.migrations.executor import MigrationExecutor

from demo.cache import breaker

logger = logging.getLogger(__name__)


class Unhealthy(Exception):
    """A check that found something wrong; its text is shown to whoever asks, so it holds no secrets."""


def check_database() -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")
        cursor.fetchone()


def check_cache() -> None:
    """Writes a value and reads it back: a Redis that is full or read-only still answers to PING."""
    key, value = f"health:{secrets.token_hex(8)}", secrets.token_hex(8)
    cache.set(key, value, timeout=10)
    found = cache.get(key)
    cache.delete(key)
    if breaker.is_open:
        raise Unhealthy("does not answer")
    if found != value:
        raise Unhealthy("read back something else than was written")


def check_migrations() -> None:
    """Migrations of a newer release do no harm here; migrations of this release that are missing do."""
    executor = MigrationExecutor(connection)
    if plan := executor.migration_plan(executor.loader.graph.leaf_nodes()):
        first = plan[0][0]
        raise Unhealthy(f"{len(plan)} pending, the first is {first.app_label}.{first.name}")


CHECKS: dict[str, Callable[[], None]] = {
    "database": check_database,
    "cache": check_cache,
    "migrations": check_migrations,
}
# Pages are made without them too.
DISPENSABLE = {"cache"}


def run_checks() -> dict[str, dict[str, Any]]:
    """Runs every check.

    Returns:
        For each check ``{"ok": True, "ms": 0.4}``, with ``"problem": "OperationalError"`` when it is not ok.
        Only the kind of an unexpected error is told, because its text may name hosts and users;
        the log has all of it.

    Example:
        >>> run_checks()["cache"]
        {'ok': True, 'ms': 0.3}
    """
    results: dict[str, dict[str, Any]] = {}
    for name, check in CHECKS.items():
        if name == "migrations" and not results["database"]["ok"]:
            results[name] = {"ok": False, "problem": "not checked without a database"}
            continue
        started = time.perf_counter()
        problem = None
        try:
            check()
        except Unhealthy as error:
            problem = str(error)
            logger.error("health check failed: %s: %s", name, problem)
        except Exception as error:  # whatever it is, the answer is 503 and not 500
            problem = type(error).__name__
            logger.exception("health check failed: %s", name)
        results[name] = {"ok": problem is None, "ms": round((time.perf_counter() - started) * 1000, 1)}
        if problem:
            results[name]["problem"] = problem
    return results
