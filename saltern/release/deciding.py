"""Which release of an app this host shall serve: what is known is asked here, choice.py decides."""

from __future__ import annotations

import functools
import time

from salt.exceptions import CommandExecutionError

from saltern.build import builderword, delivery, making
from saltern.host.here import Here
from saltern.release import appunits, choice, installed, releases, written


def desired(here: Here, app: str) -> choice.Wanted:
    """Return the release that this host shall serve. Changes nothing.

    On a builder it follows from the source as it is, so that a plan names it before it is built; elsewhere from
    the newest build that has been brought here.
    """
    return choice.release(
        app,
        written.pinned(app),
        given=functools.partial(chosen, here, app),
        asked=functools.partial(asked_for, here, app),
        build_of=lambda release: str(installed.manifest(app, release)["build"]),
    )


def asked_for(here: Here, app: str, build: str | None = None) -> choice.Wanted:
    """Return the release that the site asks for, whether one is pinned or not. Changes nothing."""
    settings = here.app(app)
    build = build or _build(here, app)
    if build is None:
        raise CommandExecutionError(f"the builder has no build of {app} yet: apply its states first")
    parts = {
        "environment": releases.environment(here.pillar, app),
        "gunicorn": appunits.gunicorn_conf(app, "ID", settings),
        "unit": appunits.unit_text(app, settings),
        "files": here.pillar["wiring"]["apps"][app]["files"],
    }
    return {"id": releases.release_id(build, parts), "build": build}


def _build(here: Here, app: str) -> str | None:
    word = (builderword.released(here, app) or {}).get("build")
    newest = (lambda: making.identify(here, app)["id"]) if here.has("builder") else None
    return choice.build(word, newest, here.pillar["wiring"]["together"])


def chosen(here: Here, app: str) -> str | None:
    """Return the release that the fleet has given to this host; None where each host decides for itself.

    Each deploy has a token. By the builder's word on which one came to a good end, a host that died in the middle of
    one knows on which side it belongs, and a host that missed one takes what the fleet serves now.
    """
    told = written.told(app)
    if not here.pillar["wiring"]["together"] or "release" not in told:
        return None
    if choice.in_progress(told, time.time()):
        raise CommandExecutionError(
            f"a deploy of {app} is in progress: wait for its end, {choice.DEPLOY_SECONDS} s at most"
        )
    token = (builderword.released(here, app) or {}).get("token")
    return choice.given(told, token, functools.partial(installed.is_staged, app))


def choose(here: Here, app: str, release: str) -> None:
    """Write down that this host serves a release, where hosts switch together."""
    if not here.pillar["wiring"]["together"]:
        return
    found = builderword.released(here, app)
    told = {"release": release, "token": (found or {}).get("token")}
    if any(written.told(app).get(key) != told[key] for key in told):
        written.tell(app, told)
        if found and not here.has("builder"):
            delivery.remember(here, app, found)
