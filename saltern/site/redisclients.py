"""How many connections each app may have to the broker and to the cache. Pure functions.

A connection takes a place of `max_clients` before it logs in, and keeps it without an end. So the firewall counts
them, as it does those to Postgres: the sum over all apps and hosts stays below what a server has.
"""

from __future__ import annotations

from .document import Document
from .errors import Problem
from .links import called_by
from .sessions import need_on
from .site import Site

SERVERS = ("broker", "cache")
RESERVED = 16  # of root, the checks of health and redis-unblock.service
OF_AN_APP = 32  # beside what its threads and tasks have: Celery's pools, events and commands, a shell
OF_EACH = 16  # thread or task: a pool of ten (Celery's own number), results, a subscription
SHARE = 4  # of what is generous the fourth part must be there: cache, broker, results and subscription of each


def generous(site: Site, host: str, name: str) -> int:
    """Return how many connections an app gets from one host where nothing is short.

    Args:
        site: the site.
        host: the id of a host that runs apps.
        name: the app.
    """
    one = need_on(site.apps[name], site.fleet, host)
    # Its file may say that fewer need the database; that says nothing of Redis.
    return OF_AN_APP + OF_EACH * (one.web + one.background + one.other)


def _callers(site: Site, server: str) -> dict[tuple[str, str], int]:
    """Return what is generous for each host and app that calls a server, the broker or the cache."""
    return {
        (host, name): generous(site, host, name)
        for host in site.fleet.running_apps
        for name, app in sorted(site.apps.items())
        if server in [service.name for _, service in called_by(site, host, app)]
    }


def most(site: Site, server: str) -> dict[tuple[str, str], int]:
    """Return how many connections each app may have from each host to the broker or the cache.

    Args:
        site: the site.
        server: `broker` or `cache`.

    Returns:
        By the host's id and the app's name; those that do not use the server are missing.
    """
    callers = _callers(site, server)
    room, wanted = site.settings.redis.max_clients - RESERVED, sum(callers.values())
    return {caller: number * min(room, wanted) // wanted for caller, number in callers.items()}


def refusal(site: Site, settings: Document) -> Problem | None:
    """Return why the servers cannot carry the apps' connections, with the sum; None when they can.

    Args:
        site: the site.
        settings: settings.yaml, for the message.
    """
    carried = site.settings.redis.max_clients
    for server in SERVERS:
        by_app = dict.fromkeys(site.apps, 0)
        for (_, name), wanted in _callers(site, server).items():
            by_app[name] += -(-wanted // SHARE)
        needed = sum(by_app.values()) + RESERVED
        if needed > carried:
            parts = "; ".join(f"{name} {number}" for name, number in sorted(by_app.items()) if number)
            text = f"the {server} carries {carried} connections, and {needed} are needed: {parts}; {RESERVED} for"
            text += " operators. Give it more, or the apps fewer workers or threads"
            return settings.problem(("redis", "max_clients"), text)
    return None
