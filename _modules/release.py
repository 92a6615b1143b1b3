"""Releases: a build plus an environment, started, checked, and only then given the traffic.

Every function asks the host how things are and does what is missing, so a run that was killed anywhere is finished
by the next one. Which release nginx sends requests to is one symbolic link, /srv/apps/<app>/current.sock; renaming
a new link over it is the switch (trial: 20 switches lost 0 of 42,449 requests; docs/roles/web.md).

The module is four files, which Salt joins by their ``__virtualname__``: here is what shall be and what is;
release_stage.py installs, release_serve.py gives and takes the traffic, release_ledger.py remembers.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from salt.exceptions import CommandExecutionError

from saltern.host import here, secrettext
from saltern.release import applock, appunits, releases

__func_alias__ = {"list_": "list"}
__virtualname__ = "release"

APPS = Path("/srv/apps")
WEB = Path("/run/web")


def __virtual__() -> str:
    return __virtualname__


def desired(app: str) -> dict[str, str]:
    """Return the release that this host shall serve. Changes nothing.

    On a builder it follows from the source as it is, so that a plan names it before it is built; elsewhere from
    the newest build that has been brought here.

    Args:
        app: name of an app of this host.

    Returns:
        ``id`` of the release and of its ``build``; and ``note``, a sentence, when a pin decides (``release.pin``).

    Raises:
        CommandExecutionError: the source is not buildable, no build is here, or the pinned release has gone.

    Example:
        .. code-block:: bash

            salt-call release.desired demo
    """
    if pin := __salt__["release.pinned"](app):
        build = manifest(app, pin["release"])["build"]
        return {"id": pin["release"], "build": build, "note": releases.pin_note(app, pin)}
    asked = asked_for(app)
    if (given := __salt__["fleet.chosen"](app)) and given != asked["id"]:
        note = f"The site asks for {asked['id']}, which all hosts take together: salt-run state.orchestrate orch.deploy"
        if manifest(app, given)["build"] == asked["build"]:  # settings alone: a new source is never asked for by them
            note += f' pillar=\'{{"app": "{app}", "build": "same"}}\''
        return {"id": given, "build": manifest(app, given)["build"], "note": note}
    return asked


def asked_for(app: str, build: str | None = None) -> dict[str, str]:
    """Return the release that the site asks for, whether one is pinned or not. Changes nothing.

    Args:
        app: name of an app of this host.
        build: the build to make it of; without it the one that the builder has released.

    Returns:
        ``id`` of the release and of its ``build``.

    Raises:
        CommandExecutionError: the source is not buildable, or no build is here.

    Example:
        .. code-block:: bash

            salt-call release.asked_for demo
    """
    settings = here.settings(__pillar__, app)
    build = build or _released(app)
    if build is None:
        raise CommandExecutionError(f"the builder has no build of {app} yet: apply its states first")
    parts = {
        "environment": releases.environment(__pillar__, app),
        "gunicorn": appunits.gunicorn_conf(app, "ID", settings),
        "unit": appunits.unit_text(app, settings),
        "files": __pillar__["wiring"]["apps"][app]["files"],
    }
    return {"id": releases.release_id(build, parts), "build": build}


def _released(app: str) -> str | None:
    """Return the build that this host shall serve; on a builder that decides alone, the one that is yet to be made."""
    build: str | None = (__salt__["builder.released"](app) or {}).get("build")
    if "builder" in __pillar__["host"]["roles"]:
        newest: str = __salt__["build.identify"](app)["id"]
        return newest if build is None or not __pillar__["wiring"]["together"] else build
    return build


def active(app: str) -> str | None:
    """Return the release that nginx sends requests to, or None.

    Args:
        app: name of an app.

    Example:
        .. code-block:: bash

            salt-call release.active demo
    """
    try:
        return (APPS / app / "current.sock").readlink().name.removesuffix(".sock")
    except FileNotFoundError:
        return None


def directory(app: str, release: str) -> str:
    """Return where a release is, or would be, installed.

    Args:
        app: name of an app.
        release: the release's id.

    Example:
        .. code-block:: bash

            salt-call release.directory demo 6f1d3c0a9b2e-2fcc3ffb
    """
    return str(APPS / app / "releases" / release)


def is_staged(app: str, release: str) -> bool:
    """Return whether a release is installed on this host, whole.

    Args:
        app: name of an app.
        release: the release's id.

    Example:
        .. code-block:: bash

            salt-call release.is_staged demo 6f1d3c0a9b2e-2fcc3ffb
    """
    return Path(directory(app, release), "manifest.json").is_file()


def manifest(app: str, release: str) -> dict[str, Any]:
    """Return what is known about an installed release.

    Args:
        app: name of an app.
        release: the release's id.

    Returns:
        id, app, build, commit, who and when, and ``django``: version, static files or not, migrations it holds, and
        the columns that its models use.

    Raises:
        CommandExecutionError: it is not installed.

    Example:
        .. code-block:: bash

            salt-call release.manifest demo 6f1d3c0a9b2e-2fcc3ffb
    """
    try:
        found: dict[str, Any] = json.loads(Path(directory(app, release), "manifest.json").read_text())
    except FileNotFoundError:
        raise CommandExecutionError(f"release {release} of {app} is not installed on this host") from None
    return found


def manifests(app: str) -> list[dict[str, Any]]:
    """Return what is known about all installed releases of an app, in no order.

    Args:
        app: name of an app.

    Example:
        .. code-block:: bash

            salt-call release.manifests demo
    """
    return [json.loads(path.read_text()) for path in (APPS / app / "releases").glob("*/manifest.json")]


def list_(app: str) -> list[dict[str, Any]]:
    """List the installed releases of an app, newest first.

    Args:
        app: name of an app.

    Returns:
        id, build, commit, when (it was installed), who, ``active`` (has the traffic), ``pinned``, and ``served``:
        when it last got the traffic, or None.

    Example:
        .. code-block:: bash

            salt-call release.list demo
    """
    now, pin = active(app), __salt__["release.pinned"](app)
    served = releases.when_served(__salt__["release.log"](app, 0))
    found = []
    for one in manifests(app):
        about = {key: one[key] for key in ("id", "build", "commit", "when", "who")}
        about |= {"active": one["id"] == now, "pinned": bool(pin) and one["id"] == pin["release"]}
        found.append(about | {"served": served.get(one["id"])})
    return sorted(found, key=lambda one: str(one["when"]), reverse=True)


def status(app: str) -> dict[str, Any]:
    """Compare the release that shall be served with the one that is.

    Args:
        app: name of an app of this host.

    Returns:
        ``desired``, ``active`` (ids), ``units`` (state of each instance that systemd knows), ``enabled`` (started
        at boot), ``problems``: what an apply would put right, as sentences; ``pinned``: a sentence when a pin
        decides what is desired; ``busy``: who deploys at this moment, or None; ``maintenance``: what the edge on this
        host tells visitors instead (``edge.maintenance``), or None.

    Example:
        .. code-block:: bash

            salt-call release.status demo
    """
    chosen = desired(app)
    wanted = chosen["id"]
    now, units, enabled = active(app), __salt__["instances.states"](app), __salt__["instances.enabled"](app)
    lines = __salt__["release.log"](app, 0)
    lock = applock.holder(APPS / app / ".lock")
    return {
        "desired": wanted,
        "active": now,
        "pinned": chosen.get("note"),
        "busy": applock.describe(lock) if lock is not None else None,
        "maintenance": __salt__["edge.resting"](app),
        "units": units,
        "enabled": enabled,
        "problems": [*releases.problems(wanted, now, units, enabled, lines), *_unpublished(app, now)],
    }


def _unpublished(app: str, now: str | None) -> list[str]:
    """Return whether nginx is led to the app's own name of its socket, as on hosts that are older than ``publish``."""
    link = APPS / app / "current.sock"
    own = now is not None and link.readlink() != WEB / app / f"{now}.sock"
    return [f"{now} is reached by a path that the app may change"] if own else []


def sandbox(app: str) -> list[str]:
    """Return the directives of systemd that every process of an app has: its user, and what it may do.

    Args:
        app: name of an app of this host.

    Example:
        .. code-block:: bash

            salt-call release.sandbox demo
    """
    found: list[str] = appunits.sandbox(app, here.settings(__pillar__, app))
    return found


def redact(text: str) -> str:
    """Return a text that came from an app as it may be shown: no secret of this host's pillar, nothing for a terminal.

    Args:
        text: such as an app's log lines.

    Example:
        >>> redact("connecting as demo")  # needs a pillar  # doctest: +SKIP
        'connecting as demo'
    """
    found: str = secrettext.shown(text, __pillar__.get("secrets", {}))
    return found
