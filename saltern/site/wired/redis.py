"""What the two Redis servers are told of the others: their users."""

from __future__ import annotations

from typing import Any

from ..names import broker_prefix, cache_prefix, redis_user
from ..relations import server_listen
from ..secretfile import Secrets
from ..site import Site

# Celery's own, in kombu's words <exchange>/<routing key>: orders to workers, and their events. It writes * for #.
CELERY_BROADCASTS = ("celery.pidbox", "celeryev", "celeryev/*", "celeryev/worker.*", "celeryev/task.*")


def told(site: Site, host: str, secrets: Secrets) -> dict[str, Any]:
    """Return where each of the two servers listens, and its users: one for each app that has a need of it.

    Whether an app has one now is the firewall's business: another address is a restart of the server, which would cut
    off what still runs.
    """
    return {
        "broker": {
            "listen": server_listen(site, host, "broker", only_needed=False),
            "users": [
                {
                    "app": name,
                    "user": redis_user(name),
                    "keys": f"{broker_prefix(name)}*",
                    "broadcasts": _broadcasts(name, app.broker_database, app.broker_broadcasts),
                }
                for name, app in sorted(site.apps.items())
                if app.uses_broker
            ],
        },
        "cache": {
            "listen": server_listen(site, host, "cache", only_needed=False),
            "users": [
                {"app": name, "user": redis_user(name), "keys": f"{cache_prefix(name)}:*", "broadcasts": []}
                for name, app in sorted(site.apps.items())
                if app.cache
            ],
        },
    }


def _broadcasts(app: str, database: int, more: list[str]) -> list[str]:
    """Return the channels that kombu subscribes to as patterns; Redis allows a pattern only by that very text."""
    return [f"{broker_prefix(app)}/{database}.{exchange}" for exchange in (*CELERY_BROADCASTS, *more)]
