"""How many sessions each app's database roles may have at once, and whether the server carries the sum. Pure functions.

Counted from what runs: each thread of gunicorn and each task of Celery keeps a session of its own. While a release is
switched the old and the new one run; what is single never runs twice. So no app can take what the others need.
"""

from __future__ import annotations

from dataclasses import dataclass

from .apps import App
from .document import Document
from .errors import Problem
from .fleet import Fleet
from .processes import Process
from .site import Site

RELEASES = 2  # that run at once, while one takes over from the other
COMMANDS = 2  # of people and timers' like, such as django.manage, at once
OF_A_PROCESS = 2  # of a management command or program that does not end: what it does itself, and a thread
MIGRATING = 2  # one that works, and one that holds the lock for it
RESERVED = 5  # superuser_reserved_connections: our own and people's, when all others are taken
LOOKING = 3  # two of saltern_reader, one of saltern_guard
KB_EACH = 1024  # the least work_mem that a connection is sized for (postgres/pgtuning.py), from a quarter of the memory
WORKERS = 8  # the least number of worker processes, which are sized for as well


@dataclass(frozen=True)
class Need:
    """The most sessions that one app's roles have at once.

    Args:
        web: of its web processes.
        background: of its processes and timers.
        other: of health checks and commands.
        migrations: of the role that owns the database.
        given: what the app's file says instead of the first three, or None.
    """

    web: int
    background: int
    other: int
    migrations: int
    given: int | None = None

    @property
    def user(self) -> int:
        """Of the role that the app works with."""
        return self.given if self.given is not None else self.web + self.background + self.other


def need(app: App, fleet: Fleet) -> Need:
    """Return how many sessions an app has at most, on all hosts together.

    Args:
        app: the app.
        fleet: all hosts.
    """
    each = [need_on(app, fleet, host) for host in fleet.running_apps]
    return Need(
        web=sum(one.web for one in each),
        background=sum(one.background for one in each),
        other=sum(one.other for one in each),
        migrations=sum(one.migrations for one in each),
        given=app.limits.connections,
    )


def need_on(app: App, fleet: Fleet, host: str) -> Need:
    """Return how many sessions an app has at most from one host.

    Args:
        app: the app.
        fleet: all hosts.
        host: the id of a host that runs apps.
    """
    roles = fleet.hosts[host].roles
    web, worker = "web" in roles, "worker" in roles
    # What may run only once runs on the first of the workers (wired/worker.py).
    first = worker and fleet.with_role("worker")[0] == host
    background = sum(_of_process(process, first) for process in app.processes.values()) if worker else 0
    return Need(
        web=app.workers * app.threads * RELEASES if web else 0,
        background=background + (len(app.timers) if first else 0),
        other=1 + COMMANDS,
        migrations=MIGRATING + 1 if web else 0,
        given=app.limits.connections,
    )


def _of_process(process: Process, first: bool) -> int:
    # Celery's own process beside those that do the tasks.
    each = process.celery.concurrency + 1 if process.celery else 1 if process.beat else OF_A_PROCESS
    once = process.single or process.beat is not None
    return each * (first if once else RELEASES)


def needs(site: Site) -> dict[str, Need]:
    """Return the need of every app, by its name."""
    return {name: need(app, site.fleet) for name, app in sorted(site.apps.items())}


def most(site: Site, host: str, name: str) -> int:
    """Return how many connections an app may have from one host, those that have not logged in yet included.

    A role's limit counts who has logged in; who only says hello takes a place as well, and needs no password for it.

    Args:
        site: the site.
        host: the id of a host that runs apps.
        name: the app.
    """
    one = need_on(site.apps[name], site.fleet, host)
    return one.user + one.migrations


def total(site: Site) -> int:
    """Return max_connections that the server must have at least."""
    return sum(one.user + one.migrations for one in needs(site).values()) + RESERVED + LOOKING


def carried(site: Site) -> int | None:
    """Return how many connections the server can have by the settings; None when that depends on the host's memory.

    Then each host's own apply refuses (saltern/postgres/pgtuning.py), before the first change as well.
    """
    postgres = site.settings.postgres
    if postgres.max_connections is not None:
        return postgres.max_connections
    return postgres.memory_mb * 1024 // 4 // KB_EACH - WORKERS if postgres.memory_mb is not None else None


def refusal(site: Site, settings: Document) -> Problem | None:
    """Return why the server cannot carry the apps' sessions, with the sum; None when it can.

    Args:
        site: the site.
        settings: settings.yaml, for the message.
    """
    most, needed = carried(site), total(site)
    if not site.apps or most is None or needed <= most:
        return None
    key = "max_connections" if site.settings.postgres.max_connections is not None else "memory_mb"
    parts = [f"{name} {_words(one)}" for name, one in needs(site).items()]
    text = f"the server carries {most} connections, and {needed} are needed: {'; '.join(parts)};"
    text += (
        f" {RESERVED + LOOKING} for operators. Give it more, or the apps fewer workers, threads or limits.connections"
    )
    return settings.problem(("postgres", key), text)


def _words(one: Need) -> str:
    parts = f"web {one.web}, background {one.background}, commands {one.other}" if one.given is None else "its file"
    return f"{one.user + one.migrations} ({parts}, migrations {one.migrations})"


def as_settings(app: App) -> dict[str, dict[str, str]]:
    """Return what the sessions of an app's two roles begin with, by role and by Postgres' names.

    A session may set most of it anew for itself; temp_file_limit only a superuser can.
    """
    limits = app.limits
    return {
        "user": {
            "statement_timeout": f"{limits.statement_timeout_seconds}s",
            "lock_timeout": f"{limits.lock_timeout_seconds}s",
            "idle_in_transaction_session_timeout": f"{limits.idle_in_transaction_seconds}s",
            "temp_file_limit": f"{limits.temp_file_mb}MB",
        },
        "owner": {"temp_file_limit": f"{app.migrations.temp_file_mb}MB"},
    }
