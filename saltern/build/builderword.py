"""The builder's word: which build of an app the fleet serves, and which one a deploy in progress is about.

The builder keeps two small files for each app. ``released.json`` names the build that the fleet serves. Where several
hosts serve an app, only `orch.deploy` replaces it, when all of them have switched; else it follows the newest build.
``candidate.json`` names the build of a deploy in progress. Both have a token, new for each deploy: the same build may
be deployed twice, with other settings.
"""

from __future__ import annotations

import contextlib
import json
import uuid
from collections.abc import Callable

from salt.exceptions import CommandExecutionError

from saltern.build import signing
from saltern.host import appfiles, mutualtls, places
from saltern.host.here import Here

RELEASED, CANDIDATE = "released.json", "candidate.json"


def released(here: Here, app: str) -> dict[str, str] | None:
    """Return what the fleet serves: the builder's word, or, while the builder is away, its last one."""
    if here.has("builder"):
        return noted(app, RELEASED)
    asked: dict[str, dict[str, str] | None] = here.memory.setdefault("builder.released", {})
    if app not in asked:  # all states of an apply must agree
        try:
            asked[app] = _ask(here, app, RELEASED)
        except CommandExecutionError:
            if (last := noted(app, RELEASED)) is None:
                raise
            asked[app] = last
    return asked[app]


def candidate(here: Here, app: str) -> dict[str, str]:
    """Return what a deploy in progress is about: the builder's word."""
    found = noted(app, CANDIDATE) if here.has("builder") else _ask(here, app, CANDIDATE)
    if found is None:
        raise CommandExecutionError(f"the builder has no candidate of {app}: builder.propose makes one")
    return found


def accept(here: Here, app: str) -> str:
    """Make the candidate what the fleet serves: a deploy has come to its good end."""
    found, now = candidate(here, app), noted(app, RELEASED)
    if now is None or now["token"] != found["token"]:
        note(here, app, RELEASED, found | ({"before": now["build"]} if now else {}))
    return found["build"]


def must_release(here: Here, app: str, build: str) -> bool:
    """Return whether the newest build becomes the fleet's by itself: always, where hosts need not switch together."""
    now = noted(app, RELEASED)
    return now is None or (now["build"] != build and not here.pillar["wiring"]["together"])


def unsigned(here: Here, app: str) -> list[str]:
    """Return which of the builder's words on an app its present key has not signed."""
    keys = here.pillar["secrets"]["build_keys"][:1]
    found = {name: _read(app, name) for name in (RELEASED, CANDIDATE)}
    return [name for name, word in found.items() if word is not None and not _is_signed(app, name, word, keys)]


def sign(here: Here, app: str) -> None:
    """Sign the builder's words on an app that are older than its key."""
    for name in unsigned(here, app):
        note(here, app, name, noted(app, name) or {})


def _read(app: str, name: str) -> dict[str, str] | None:
    try:
        found: dict[str, str] = json.loads((places.BUILDS / app / name).read_text())
    except FileNotFoundError:
        return None
    return found


def noted(app: str, name: str) -> dict[str, str] | None:
    found = _read(app, name)
    return found if found is None else {key: value for key, value in found.items() if key != "signature"}


def _is_signed(app: str, name: str, word: dict[str, str], keys: list[str]) -> bool:
    text = signing.word_text(app, name, word)
    good: bool = signing.is_signed(text, str(word.get("signature", "")), keys)
    return good


def begin(here: Here, app: str, name: str, build: str) -> str:
    """Note a build under a token of its own, and return it."""
    note(here, app, name, {"build": build, "token": uuid.uuid4().hex})
    return build


def note(here: Here, app: str, name: str, found: dict[str, str]) -> None:
    key = here.pillar["secrets"].get("build_key")  # of the builder's alone; others only remember
    text = signing.word_text(app, name, found)
    signed = found | ({"signature": signing.sign(text, key)} if key else {})
    appfiles.write(places.BUILDS / app / name, json.dumps(signed) + "\n", 0o644)


def _ask(here: Here, app: str, name: str) -> dict[str, str] | None:
    try:
        with server(here) as get:
            found: dict[str, str] = json.loads(get(f"/{app}/{name}"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        where = here.pillar["wiring"]["builds"]["url"]
        raise CommandExecutionError(f"the builder, {where}, cannot be asked for builds of {app}: {error}") from None
    word = {key: value for key, value in found.items() if key != "signature"}
    if not _is_signed(app, name, found, here.pillar["secrets"]["build_keys"]):
        # As a builder has it whose states were not applied since builds are signed: no news needs no signature.
        if "signature" not in found and word == noted(app, RELEASED):
            return word
        raise CommandExecutionError(
            f"the builder's word on {app} ({name}) is not signed by it: apply its states, or look who answers for it"
        )
    return word


def server(here: Here) -> contextlib.AbstractContextManager[Callable[..., bytes]]:
    builds = here.pillar["wiring"]["builds"]
    found: contextlib.AbstractContextManager[Callable[..., bytes]]
    found = mutualtls.server(builds["url"], builds["address"])
    return found
