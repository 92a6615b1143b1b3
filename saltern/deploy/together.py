"""One host's part in a release of the whole fleet: install, start, switch, and then confirm or revert.

Where several hosts serve an app, none of them changes its release by itself: `orch.deploy` calls these functions on all
of them, one after the other, and each may be called again after a kill. What this host has been told stands in
/srv/apps/<app>/fleet.json (docs/reference/files.md).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from salt.exceptions import CommandExecutionError

from saltern.background import work
from saltern.build import builderword, delivery
from saltern.deploy import back, serving
from saltern.host.here import Here
from saltern.migrate import migrations, staticfiles
from saltern.release import deciding, installed, staging, written


def install(here: Here, app: str) -> str:
    """Install the builder's candidate beside what is served, static files too. Nothing of what is served changes."""
    if pin := written.pinned(app):
        raise CommandExecutionError(
            f"{app} is pinned here at {pin['release']} by {pin['who']}: salt-call release.unpin {app} first"
        )
    candidate = builderword.candidate(here, app)
    wanted = deciding.asked_for(here, app, candidate["build"])
    staging.stage(here, app, wanted)
    release = str(wanted["id"])
    if _serves_pages(here):
        staticfiles.collect_static(here, app, release)
    written.tell(app, _now(app) | {"next": {"release": release, **candidate}})
    return release


def serves(here: Here, app: str) -> dict[str, Any]:
    """Return what this host serves now, and what it served before the last deploy."""
    told = written.told(app) if here.pillar["wiring"]["together"] else {}
    found = {
        "now": installed.active(app) if _serves_pages(here) else told.get("release"),
        "before": told.get("previous"),
        "switched_from": told.get("before", {}).get("release"),
    }
    about: dict[str, Any] = {
        when: {"release": release, "build": installed.manifest(app, release)["build"]}
        for when, release in found.items()
        if release and installed.is_staged(app, release)
    }
    before = about.pop("switched_from", None)
    if "before" in told:
        about["unconfirmed"] = True
    if before and about.get("now", {}).get("build") != before["build"]:
        about["begun"] = True
    return about


def waiting(here: Here) -> list[str]:
    """Return the apps that serve with settings of before: no apply changes those where hosts switch together."""
    if not here.pillar["wiring"]["together"]:
        return []
    found = []
    for app in sorted(here.pillar["apps"]):
        served = written.told(app).get("release")
        if not served or written.pinned(app) or not installed.is_staged(app, served):
            continue
        asked = deciding.asked_for(here, app)
        build = installed.manifest(app, served)["build"]
        if asked["id"] != served and asked["build"] == build:
            found.append(app)
    return found


def at_rest(running: Callable[[str], list[dict[str, Any]]], seconds: int = 300) -> bool:
    """Wait until nothing applies states on this host: what a killed orchestration has asked for goes on without it."""
    deadline = time.monotonic() + seconds
    while jobs := running("state.*"):
        if time.monotonic() >= deadline:
            raise CommandExecutionError(f"states are being applied here for {seconds} s and more: job {jobs[0]['jid']}")
        time.sleep(1)
    return True


def take_back(here: Here, app: str) -> str:
    """Make the release ready that the fleet served before; it is installed still. Nothing of what is served changes."""
    told = written.told(app)
    release = told.get("previous")
    if not release or not installed.is_staged(app, release):
        raise CommandExecutionError(f"no release of {app} that the fleet served before is installed on this host")
    if _serves_pages(here):
        back.refuse_migrations(here, app, release)
        staticfiles.publish_static(app, release)
    written.tell(app, _now(app) | {"next": {"release": release, **builderword.candidate(here, app)}})
    return str(release)


def migrate(here: Here, app: str) -> list[str]:
    """Bring the database to the installed release. On the second host nothing is left to do."""
    applied: list[str] = migrations.migrate(here, app, _next(app))
    return applied


def start(here: Here, app: str) -> str:
    """Start the installed release and ask it until it has answered well. Nobody else asks it yet."""
    release = _next(app)
    if _serves_pages(here):
        serving.prepare(here, app, release)
    return release


def switch(here: Here, app: str) -> str:
    """Give this host's requests and background work to the installed release. The old processes run on."""
    told = written.told(app)
    release = _next(app)
    if "next" in told:
        told = {**told["next"], "before": _served(told), "since": time.time()}
        written.tell(app, told)
    _give(here, app, release, keep_old=True)
    return str(told["before"]["release"])


def confirm(here: Here, app: str) -> str:
    """End a deploy: stop what served and worked before, when it has done what it was asked."""
    told = written.told(app)
    release = str(told["release"])
    if _serves_pages(here):
        serving.retire(app, release)
    _work(here, app, release)
    if "before" in told:
        if not here.has("builder"):
            delivery.remember(here, app, {"build": told["build"], "token": told["token"]})
        before = told["before"]
        previous = before["release"] if before["release"] != release else before["previous"]
        written.tell(app, {"release": release, "token": told["token"], "previous": previous})
    return release


def revert(here: Here, app: str) -> str | None:
    """Put this host back to what it served before a deploy that failed, wherever that deploy had come to."""
    told = written.told(app)
    back = told.get("before") or _served(told)
    release = back["release"]
    if release is None:
        return None
    written.tell(app, back)
    if "before" in told or installed.active(app) != release:  # also when an earlier way back was killed
        if _serves_pages(here):
            serving.prepare(here, app, release)
        _give(here, app, release)
    if _serves_pages(here):
        serving.retire(app, release)
    return str(release)


def _give(here: Here, app: str, release: str, keep_old: bool = False) -> None:
    if _serves_pages(here):
        serving.switch(app, release)
    _work(here, app, release, keep_old)


def _work(here: Here, app: str, release: str, keep_old: bool = False) -> None:
    if here.has("worker"):
        work.converge(here, app, release, keep_old)


def _serves_pages(here: Here) -> bool:
    return here.has("web")


def _now(app: str) -> dict[str, Any]:
    return written.told(app) or {"release": installed.active(app), "token": None}


def _served(told: dict[str, Any]) -> dict[str, Any]:
    """Return what there is to go back to: without what a deploy in progress has added."""
    return {key: told.get(key) for key in ("release", "token", "previous")}


def _next(app: str) -> str:
    told = written.told(app)
    if "next" in told:
        return str(told["next"]["release"])
    if "before" in told:  # switched already
        return str(told["release"])
    raise CommandExecutionError(f"nothing is installed for a deploy of {app}: fleet.install comes first")
