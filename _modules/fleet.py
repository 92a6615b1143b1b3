"""One host's part in a release of the whole fleet: install, start, switch, and then confirm or revert.

Where several hosts serve an app, none of them changes its release by itself: `orch.deploy` calls these functions on all
of them, one after the other, and each may be called again after a kill. What this host has been told stands in
/srv/apps/<app>/fleet.json: ``release`` (what it shall serve) and the ``token`` of the deploy that said so; ``next``
(the same of what is installed and to be served); ``before`` (the same of what it served until the switch, which is not
confirmed yet).
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from salt.exceptions import CommandExecutionError

from saltern.host import appfiles

APPS = Path("/srv/apps")
# A deploy that has not ended after this time has died with its master; states may then put things right.
DEPLOY_SECONDS = 600


def chosen(app: str) -> str | None:
    """Return the release that the fleet has given to this host; None where each host decides for itself.

    Each deploy has a token. By the builder's word on which one came to a good end, a host that died in the middle of
    one knows on which side it belongs, and a host that missed one takes what the fleet serves now.

    Args:
        app: name of an app of this host.

    Raises:
        CommandExecutionError: a deploy is in progress.

    Example:
        .. code-block:: bash

            salt-call fleet.chosen demo
    """
    told = _told(app)
    if not __pillar__["wiring"]["together"] or "release" not in told:
        return None
    if "before" in told and time.time() - told["since"] < DEPLOY_SECONDS:
        raise CommandExecutionError(f"a deploy of {app} is in progress: wait for its end, {DEPLOY_SECONDS} s at most")
    token = (__salt__["builder.released"](app) or {}).get("token")
    for told_by in (told, told.get("before", {})):
        if told_by.get("token") == token and __salt__["release.is_staged"](app, told_by["release"]):
            return str(told_by["release"])
    return None


def choose(app: str, release: str) -> None:
    """Write down that this host serves a release, where hosts switch together.

    Args:
        app: name of an app of this host.
        release: id of an installed release.

    Example:
        .. code-block:: bash

            salt-call fleet.choose demo 6f1d3c0a9b2e-2fcc3ffb
    """
    if not __pillar__["wiring"]["together"]:
        return
    found = __salt__["builder.released"](app)
    told = {"release": release, "token": (found or {}).get("token")}
    if any(_told(app).get(key) != told[key] for key in told):
        _tell(app, told)
        if found and "builder" not in __pillar__["host"]["roles"]:
            __salt__["builder.remember"](app, found)


def install(app: str) -> str:
    """Install the builder's candidate beside what is served, static files too. Nothing of what is served changes.

    Args:
        app: name of an app of this host.

    Returns:
        The release's id.

    Raises:
        CommandExecutionError: the builder cannot be reached, or the release cannot be installed.

    Example:
        .. code-block:: bash

            salt-call fleet.install demo
    """
    if pin := __salt__["release.pinned"](app):
        raise CommandExecutionError(
            f"{app} is pinned here at {pin['release']} by {pin['who']}: salt-call release.unpin {app} first"
        )
    candidate = __salt__["builder.candidate"](app)
    wanted = __salt__["release.asked_for"](app, candidate["build"])
    __salt__["release.stage"](app, wanted)
    release = str(wanted["id"])
    if _serves_pages():
        __salt__["django.collect_static"](app, release)
    _tell(app, _now(app) | {"next": {"release": release, **candidate}})
    return release


def serves(app: str) -> dict[str, Any]:
    """Return what this host serves now, and what it served before the last deploy.

    Args:
        app: name of an app of this host.

    Returns:
        ``now`` and ``before``, each with ``release`` and its ``build``; what there is none of is left out.
        ``unconfirmed``: True while nobody has said that all hosts have switched; ``begun`` as well when that brought
        other code, not only other settings.

    Example:
        .. code-block:: bash

            salt-call fleet.serves demo
    """
    told = _told(app) if __pillar__["wiring"]["together"] else {}
    found = {
        "now": __salt__["release.active"](app) if _serves_pages() else told.get("release"),
        "before": told.get("previous"),
        "switched_from": told.get("before", {}).get("release"),
    }
    about: dict[str, Any] = {
        when: {"release": release, "build": __salt__["release.manifest"](app, release)["build"]}
        for when, release in found.items()
        if release and __salt__["release.is_staged"](app, release)
    }
    before = about.pop("switched_from", None)
    if "before" in told:
        about["unconfirmed"] = True
    if before and about.get("now", {}).get("build") != before["build"]:
        about["begun"] = True
    return about


def waiting() -> list[str]:
    """Return the apps that serve with settings of before: no apply changes those where hosts switch together.

    Example:
        .. code-block:: bash

            salt-call fleet.waiting
    """
    if not __pillar__["wiring"]["together"]:
        return []
    found = []
    for app in sorted(__pillar__["apps"]):
        served = _told(app).get("release")
        if not served or __salt__["release.pinned"](app) or not __salt__["release.is_staged"](app, served):
            continue
        asked = __salt__["release.asked_for"](app)
        build = __salt__["release.manifest"](app, served)["build"]
        if asked["id"] != served and asked["build"] == build:
            found.append(app)
    return found


def at_rest(seconds: int = 300) -> bool:
    """Wait until nothing applies states on this host: what a killed orchestration has asked for goes on without it.

    Args:
        seconds: how long it waits at most.

    Raises:
        CommandExecutionError: it is at work still; by which job.

    Example:
        .. code-block:: bash

            salt-call fleet.at_rest
    """
    deadline = time.monotonic() + seconds
    while jobs := __salt__["saltutil.is_running"]("state.*"):
        if time.monotonic() >= deadline:
            raise CommandExecutionError(f"states are being applied here for {seconds} s and more: job {jobs[0]['jid']}")
        time.sleep(1)
    return True


def take_back(app: str) -> str:
    """Make the release ready that the fleet served before; it is installed still. Nothing of what is served changes.

    Args:
        app: name of an app of this host.

    Returns:
        The release's id.

    Raises:
        CommandExecutionError: this host served none before, or the database was migrated since in a way that the
            older release may not bear.

    Example:
        .. code-block:: bash

            salt-call fleet.take_back demo
    """
    told = _told(app)
    release = told.get("previous")
    if not release or not __salt__["release.is_staged"](app, release):
        raise CommandExecutionError(f"no release of {app} that the fleet served before is installed on this host")
    if _serves_pages():
        __salt__["release.refuse_migrations"](app, release)
        __salt__["django.publish_static"](app, release)
    _tell(app, _now(app) | {"next": {"release": release, **__salt__["builder.candidate"](app)}})
    return str(release)


def migrate(app: str) -> list[str]:
    """Bring the database to the installed release. On the second host nothing is left to do.

    Args:
        app: name of an app of this host.

    Returns:
        The migrations that were applied.

    Raises:
        CommandExecutionError: a migration is unsafe, or failed.

    Example:
        .. code-block:: bash

            salt-call fleet.migrate demo
    """
    applied: list[str] = __salt__["django.migrate"](app, _next(app))
    return applied


def start(app: str) -> str:
    """Start the installed release and ask it until it has answered well. Nobody else asks it yet.

    Args:
        app: name of an app of this host.

    Returns:
        The release's id.

    Raises:
        CommandExecutionError: it did not start or did not answer well; then it was stopped again.

    Example:
        .. code-block:: bash

            salt-call fleet.start demo
    """
    release = _next(app)
    if _serves_pages():
        __salt__["release.prepare"](app, release)
    return release


def switch(app: str) -> str:
    """Give this host's requests and background work to the installed release. The old processes run on.

    Args:
        app: name of an app of this host.

    Returns:
        The release that served before.

    Raises:
        CommandExecutionError: a background process did not stay up; then the old ones went on.

    Example:
        .. code-block:: bash

            salt-call fleet.switch demo
    """
    told = _told(app)
    release = _next(app)
    if "next" in told:
        told = {**told["next"], "before": _served(told), "since": time.time()}
        _tell(app, told)
    _give(app, release, keep_old=True)
    return str(told["before"]["release"])


def confirm(app: str) -> str:
    """End a deploy: stop what served and worked before, when it has done what it was asked.

    Args:
        app: name of an app of this host.

    Returns:
        The release that is served.

    Example:
        .. code-block:: bash

            salt-call fleet.confirm demo
    """
    told = _told(app)
    release = str(told["release"])
    if _serves_pages():
        __salt__["release.retire"](app, release)
    _work(app, release)
    if "before" in told:
        if "builder" not in __pillar__["host"]["roles"]:
            __salt__["builder.remember"](app, {"build": told["build"], "token": told["token"]})
        before = told["before"]
        previous = before["release"] if before["release"] != release else before["previous"]
        _tell(app, {"release": release, "token": told["token"], "previous": previous})
    return release


def revert(app: str) -> str | None:
    """Put this host back to what it served before a deploy that failed, wherever that deploy had come to.

    Args:
        app: name of an app of this host.

    Returns:
        The release that is served, or None on a host that served none.

    Raises:
        CommandExecutionError: the old release does not answer any more.

    Example:
        .. code-block:: bash

            salt-call fleet.revert demo
    """
    told = _told(app)
    back = told.get("before") or _served(told)
    release = back["release"]
    if release is None:
        return None
    _tell(app, back)
    if "before" in told or __salt__["release.active"](app) != release:  # also when an earlier way back was killed
        if _serves_pages():
            __salt__["release.prepare"](app, release)
        _give(app, release)
    if _serves_pages():
        __salt__["release.retire"](app, release)
    return str(release)


def _give(app: str, release: str, keep_old: bool = False) -> None:
    if _serves_pages():
        __salt__["release.switch"](app, release)
    _work(app, release, keep_old)


def _work(app: str, release: str, keep_old: bool = False) -> None:
    if "worker" in __pillar__["host"]["roles"]:
        __salt__["processes.converge"](app, release, keep_old)


def _serves_pages() -> bool:
    return "web" in __pillar__["host"]["roles"]


def _now(app: str) -> dict[str, Any]:
    return _told(app) or {"release": __salt__["release.active"](app), "token": None}


def _served(told: dict[str, Any]) -> dict[str, Any]:
    """Return what there is to go back to: without what a deploy in progress has added."""
    return {key: told.get(key) for key in ("release", "token", "previous")}


def _next(app: str) -> str:
    told = _told(app)
    if "next" in told:
        return str(told["next"]["release"])
    if "before" in told:  # switched already
        return str(told["release"])
    raise CommandExecutionError(f"nothing is installed for a deploy of {app}: fleet.install comes first")


def _told(app: str) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads((APPS / app / "fleet.json").read_text())
    except FileNotFoundError:
        return {}
    return found


def _tell(app: str, told: dict[str, Any]) -> None:
    appfiles.write(APPS / app / "fleet.json", json.dumps(told) + "\n", 0o600)
