"""Builds on their way from the builder to the hosts that install them, and which of them the fleet serves.

The builder keeps two small files for each app. ``released.json`` names the build that the fleet serves. Where several
hosts serve an app, only `orch.deploy` replaces it, when all of them have switched; else it follows the newest build.
``candidate.json`` names the build of a deploy in progress. Both have a token, new for each deploy: the same build may
be deployed twice, with other settings.
"""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

from salt.exceptions import CommandExecutionError

from saltern.build import signing
from saltern.edge import mutualtls
from saltern.host import appfiles
from saltern.release import releases

BUILDS = Path("/var/lib/saltern/builds")
RELEASED, CANDIDATE = "released.json", "candidate.json"


def released(app: str) -> dict[str, str] | None:
    """Return what the fleet serves: the builder's word, or, while the builder is away, its last one.

    Args:
        app: name of an app of this host.

    Returns:
        ``build`` and ``token``; None when nothing has been released yet.

    Raises:
        CommandExecutionError: the builder cannot be reached, and never was.

    Example:
        .. code-block:: bash

            salt-call builder.released demo
    """
    if "builder" in __pillar__["host"]["roles"]:
        return _noted(app, RELEASED)
    asked: dict[str, dict[str, str] | None] = __context__.setdefault("builder.released", {})
    if app not in asked:  # all states of an apply must agree
        try:
            asked[app] = _ask(app, RELEASED)
        except CommandExecutionError:
            if (last := _noted(app, RELEASED)) is None:
                raise
            asked[app] = last
    return asked[app]


def candidate(app: str) -> dict[str, str]:
    """Return what a deploy in progress is about: the builder's word.

    Args:
        app: name of an app of this host.

    Returns:
        ``build`` and ``token``.

    Raises:
        CommandExecutionError: the builder cannot be reached, or no deploy has begun.

    Example:
        .. code-block:: bash

            salt-call builder.candidate demo
    """
    here = "builder" in __pillar__["host"]["roles"]
    found = _noted(app, CANDIDATE) if here else _ask(app, CANDIDATE)
    if found is None:
        raise CommandExecutionError(f"the builder has no candidate of {app}: builder.propose makes one")
    return found


def propose(app: str) -> str:
    """Build the app as its source is now, and make that build the candidate of a new deploy.

    Args:
        app: name of an app of this builder.

    Returns:
        The build's id.

    Raises:
        CommandExecutionError: it cannot be built.

    Example:
        .. code-block:: bash

            salt-call builder.propose demo
    """
    return _begin(app, CANDIDATE, str(__salt__["build.make"](app)["id"]))


def propose_same(app: str, said: dict[str, Any]) -> str:
    """Make the build that the fleet serves the candidate of a new deploy: it brings settings, and no new source.

    Args:
        app: name of an app of this builder.
        said: what each host of the app answers to ``fleet.serves``.

    Returns:
        The build's id.

    Raises:
        CommandExecutionError: hosts do not serve one and the same build, or this builder has it no more.

    Example:
        .. code-block:: bash

            salt-call builder.propose_same demo '{web1: {now: {release: 6f1d3c0a9b2e-2fcc3ffb, build: 6f1d3c0a9b2e}}}'
    """
    try:
        build: str = releases.in_force(app, said)
    except ValueError as error:
        raise CommandExecutionError(str(error)) from None
    if not __salt__["build.exists"](app, build):
        raise CommandExecutionError(
            f"build {build} of {app}, which the fleet serves, is not on the builder any more; the newest source and "
            f"the settings together: salt-run state.orchestrate orch.deploy"
        )
    return _begin(app, CANDIDATE, build)


def propose_back(app: str, said: dict[str, Any] | None = None) -> str:
    """Make the build that the fleet served before the candidate of a new deploy: a rollback. Builds nothing.

    Args:
        app: name of an app of this builder.
        said: what each host of the app answers to ``fleet.serves``; without it what is written down here decides.

    Returns:
        The build's id.

    Raises:
        CommandExecutionError: the fleet has served nothing before.

    Example:
        .. code-block:: bash

            salt-call builder.propose_back demo
    """
    # The hosts' word first: after the same deploy twice, what is written down here names the build that serves.
    build = releases.served_before(said or {}) or (_noted(app, RELEASED) or {}).get("before")
    if build is None:
        raise CommandExecutionError(f"the fleet has served no other build of {app} before, so there is no way back")
    return _begin(app, CANDIDATE, build)


def accept(app: str) -> str:
    """Make the candidate what the fleet serves: a deploy has come to its good end.

    Args:
        app: name of an app of this builder.

    Returns:
        The build's id.

    Raises:
        CommandExecutionError: there is no candidate.

    Example:
        .. code-block:: bash

            salt-call builder.accept demo
    """
    found, now = candidate(app), _noted(app, RELEASED)
    if now is None or now["token"] != found["token"]:
        _note(app, RELEASED, found | ({"before": now["build"]} if now else {}))
    return found["build"]


def must_release(app: str, build: str) -> bool:
    """Return whether the newest build becomes the fleet's by itself: always, where hosts need not switch together.

    Args:
        app: name of an app of this builder.
        build: id of its newest build.

    Example:
        .. code-block:: bash

            salt-call builder.must_release demo 6f1d3c0a9b2e
    """
    now = _noted(app, RELEASED)
    return now is None or (now["build"] != build and not __pillar__["wiring"]["together"])


def release(app: str, build: str) -> None:
    """Make a build what the fleet serves, without a deploy.

    Args:
        app: name of an app of this builder.
        build: id of a build that is here.

    Raises:
        CommandExecutionError: the build is not here.

    Example:
        .. code-block:: bash

            salt-call builder.release demo 6f1d3c0a9b2e
    """
    if not __salt__["build.exists"](app, build):
        raise CommandExecutionError(f"no build {build} of {app} is on this host")
    _begin(app, RELEASED, build)


def remember(app: str, found: dict[str, str]) -> None:
    """Keep the builder's word on what the fleet serves, for when the builder is away; remove other builds' files.

    Args:
        app: name of an app of this host.
        found: ``build`` and ``token``.

    Example:
        .. code-block:: bash

            salt-call builder.remember demo '{build: 6f1d3c0a9b2e, token: 0a1b}'
    """
    __salt__["build.close"](app)
    _note(app, RELEASED, found)
    for path in (BUILDS / app).iterdir():
        if re.fullmatch(r"[0-9a-f]{12}", path.name) and path.name != found["build"]:
            __salt__["build.discard"](app, path.name)  # their releases are installed, and need them no more


def unsigned(app: str) -> list[str]:
    """Return which of the builder's words on an app its present key has not signed.

    Args:
        app: name of an app of this builder.

    Example:
        .. code-block:: bash

            salt-call builder.unsigned demo
    """
    keys = __pillar__["secrets"]["build_keys"][:1]
    found = {name: _read(app, name) for name in (RELEASED, CANDIDATE)}
    return [name for name, word in found.items() if word is not None and not _is_signed(app, name, word, keys)]


def sign(app: str) -> None:
    """Sign the builder's words on an app that are older than its key.

    Args:
        app: name of an app of this builder.

    Example:
        .. code-block:: bash

            salt-call builder.sign demo
    """
    for name in unsigned(app):
        _note(app, name, _noted(app, name) or {})


def _read(app: str, name: str) -> dict[str, str] | None:
    try:
        found: dict[str, str] = json.loads((BUILDS / app / name).read_text())
    except FileNotFoundError:
        return None
    return found


def _noted(app: str, name: str) -> dict[str, str] | None:
    found = _read(app, name)
    return found if found is None else {key: value for key, value in found.items() if key != "signature"}


def _is_signed(app: str, name: str, word: dict[str, str], keys: list[str]) -> bool:
    text = signing.word_text(app, name, word)
    good: bool = signing.is_signed(text, str(word.get("signature", "")), keys)
    return good


def _begin(app: str, name: str, build: str) -> str:
    """Note a build under a token of its own, and return it."""
    _note(app, name, {"build": build, "token": uuid.uuid4().hex})
    return build


def _note(app: str, name: str, found: dict[str, str]) -> None:
    key = __pillar__["secrets"].get("build_key")  # of the builder's alone; others only remember
    text = signing.word_text(app, name, found)
    signed = found | ({"signature": signing.sign(text, key)} if key else {})
    appfiles.write(BUILDS / app / name, json.dumps(signed) + "\n", 0o644)


def _ask(app: str, name: str) -> dict[str, str] | None:
    try:
        with _server() as get:
            found: dict[str, str] = json.loads(get(f"/{app}/{name}"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        where = __pillar__["wiring"]["builds"]["url"]
        raise CommandExecutionError(f"the builder, {where}, cannot be asked for builds of {app}: {error}") from None
    word = {key: value for key, value in found.items() if key != "signature"}
    if not _is_signed(app, name, found, __pillar__["secrets"]["build_keys"]):
        # As a builder has it whose states were not applied since builds are signed: no news needs no signature.
        if "signature" not in found and word == _noted(app, RELEASED):
            return word
        raise CommandExecutionError(
            f"the builder's word on {app} ({name}) is not signed by it: apply its states, or look who answers for it"
        )
    return word


def fetch(app: str, build: str) -> None:
    """Bring a build here from the builder, whole and checked, or not at all; also one that an earlier key has signed.

    Args:
        app: name of an app of this host.
        build: the build's id.

    Raises:
        CommandExecutionError: the builder cannot be reached or has no such build, or a file is not what the
            build's manifest says.

    Example:
        .. code-block:: bash

            salt-call builder.fetch demo 6f1d3c0a9b2e
    """
    home = BUILDS / app
    __salt__["build.close"](app)
    with appfiles.locked(home / ".lock"):
        if __salt__["build.exists"](app, build) and not __salt__["build.unfit"](app, build, home / build):
            return
        work = home / f".fetching-{build}"
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir()
        try:
            with _server() as get:
                _download(get, app, build, work)
            __salt__["build.discard"](app, build)  # what a killed run has left of it
            work.rename(home / build)
        except (OSError, ValueError, KeyError) as error:
            where = __pillar__["wiring"]["builds"]["url"]
            raise CommandExecutionError(f"build {build} of {app} cannot be fetched from {where}: {error}") from None
        finally:
            shutil.rmtree(work, ignore_errors=True)


def _download(get: Callable[..., bytes], app: str, build: str, work: Path) -> None:
    url = f"/{app}/{build}"
    beside = work / ".word"
    beside.mkdir()
    text = get(f"{url}/manifest.json").decode()
    for name, content in {"manifest.json": text, "manifest.sig": get(f"{url}/manifest.sig").decode()}.items():
        appfiles.write(beside / name, content, 0o644)
    if problems := __salt__["build.unfit"](app, build, beside):
        raise ValueError("; ".join(problems))
    manifest = json.loads(text)
    for name, digest in sorted(manifest["files"].items()):
        place = work / name
        if not place.resolve().is_relative_to(work.resolve()):
            raise ValueError(f"{name} is outside of the build")
        place.parent.mkdir(parents=True, exist_ok=True)
        get(f"{url}/{name}", place)
        if appfiles.digest(place) != digest:
            raise ValueError(f"{name} is not what its manifest says")
    # What the rename makes visible must also survive a power cut.
    appfiles.run(["sync", "--file-system", str(work)])
    for name in ("manifest.sig", "manifest.json"):
        (beside / name).rename(work / name)
    beside.rmdir()


def _server() -> contextlib.AbstractContextManager[Callable[..., bytes]]:
    builds = __pillar__["wiring"]["builds"]
    found: contextlib.AbstractContextManager[Callable[..., bytes]]
    found = mutualtls.server(builds["url"], builds["address"])
    return found
