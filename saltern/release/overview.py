"""Releases at a glance: those that are installed, and what an apply would put right."""

from __future__ import annotations

from typing import Any

from saltern.host import places
from saltern.host.here import Here
from saltern.release import applock, deciding, installed, instances, releases, written


def overview(app: str) -> list[dict[str, Any]]:
    """List the installed releases of an app, newest first."""
    now, pin = installed.active(app), written.pinned(app)
    served = releases.when_served(written.log(app, 0))
    found = []
    for one in installed.manifests(app):
        about = {key: one[key] for key in ("id", "build", "commit", "when", "who")}
        about |= {"active": one["id"] == now, "pinned": pin is not None and one["id"] == pin["release"]}
        found.append(about | {"served": served.get(one["id"])})
    return sorted(found, key=lambda one: str(one["when"]), reverse=True)


def status(here: Here, app: str, maintenance: str | None) -> dict[str, Any]:
    """Compare the release that shall be served with the one that is."""
    chosen = deciding.desired(here, app)
    wanted = chosen["id"]
    now, units, enabled = installed.active(app), instances.states(app), instances.enabled(app)
    lines = written.log(app, 0)
    lock = applock.holder(places.APPS / app / ".lock")
    return {
        "desired": wanted,
        "active": now,
        "pinned": chosen.get("note"),
        "busy": applock.describe(lock) if lock is not None else None,
        "maintenance": maintenance,
        "units": units,
        "enabled": enabled,
        "problems": [*releases.problems(wanted, now, units, enabled, lines), *_unpublished(app, now)],
    }


def _unpublished(app: str, now: str | None) -> list[str]:
    """Return whether nginx is led to the app's own name of its socket, as on hosts that are older than ``publish``."""
    link = places.APPS / app / "current.sock"
    own = now is not None and link.readlink() != places.WEB / app / f"{now}.sock"
    return [f"{now} is reached by a path that the app may change"] if own else []
