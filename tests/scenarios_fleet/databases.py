"""What scenarios ask of a database server."""

from __future__ import annotations

import time

from lab.apply import Outcome, apply, explain
from lab.host import Host

UNIT = "$(systemctl list-units --all --plain --no-legend 'postgresql@*-main.service' | cut -d' ' -f1)"


def sql(host: Host, query: str, database: str = "postgres") -> str:
    """Return what a query prints; a query that fails fails the test."""
    done = host.execute(["psql", "-U", "postgres", "-d", database, "-XAtc", query], capture=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def shell(host: Host, command: str) -> str:
    """Return what a command prints; one that fails fails the test."""
    done = host.execute(["sh", "-c", command], capture=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.strip()


def comes_true(host: Host, query: str, within: float = 15, database: str = "postgres") -> bool:
    """Ask until the answer is true; answers whether it became so."""
    deadline = time.monotonic() + within
    while sql(host, query, database) != "t":
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def converged(host: Host) -> Outcome:
    """Apply, and expect it to work and a second one to change nothing."""
    outcome = apply(host)
    assert outcome.ok, explain(outcome)
    assert apply(host).changed == []
    return outcome


def told(outcome: Outcome) -> str:
    """Return what the states that failed say."""
    return "\n".join(str(state["comment"]) for state in outcome.failed)
