"""Builds on their way from the builder to the hosts that install them, and which of them the fleet serves.

The builder keeps one link for each app, ``released``: the build that the fleet serves. Where several hosts serve an
app, only ``orch.deploy`` moves it, when all of them have switched; else it follows the newest build.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from salt.exceptions import CommandExecutionError

BUILDS = Path("/var/lib/saltern/builds")
LINK = "released"


def released(app: str) -> str | None:
    """Answers the build that the fleet serves: the builder's word, or, while the builder is away, its last one.

    Args:
        app: name of an app of this host.

    Returns:
        The build's id; None when nothing has been released yet.

    Raises:
        CommandExecutionError: the builder cannot be reached, and never was.

    Example:
        .. code-block:: bash

            salt-call builder.released demo
    """
    known = _linked(app)
    if "builder" in __pillar__["host"]["roles"]:
        return known
    asked: dict[str, str | None] = __context__.setdefault("builder.released", {})
    if app not in asked:  # all states of an apply must agree
        asked[app] = _ask(app, known)
    return asked[app]


def _linked(app: str) -> str | None:
    link = BUILDS / app / LINK
    return str(link.readlink()) if link.is_symlink() else None


def _ask(app: str, known: str | None) -> str | None:
    try:
        return str(json.loads(_get(f"/{app}/{LINK}/manifest.json"))["id"])
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError) as error:
        if known is None:
            where = __pillar__["wiring"]["builds"]["url"]
            raise CommandExecutionError(f"the builder, {where}, cannot be asked for builds of {app}: {error}") from None
        return known


def fetch(app: str, build: str) -> None:
    """Brings a build here from the builder, whole and checked, or not at all.

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
    home.mkdir(parents=True, exist_ok=True)
    with __utils__["appfiles.locked"](home / ".lock"):
        if (home / build / "manifest.json").is_file():
            return
        work = home / f".fetching-{build}"
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir()
        try:
            _download(app, build, work)
            shutil.rmtree(home / build, ignore_errors=True)  # has no manifest, so it is no build
            work.rename(home / build)
        except (OSError, ValueError, KeyError) as error:
            where = __pillar__["wiring"]["builds"]["url"]
            raise CommandExecutionError(f"build {build} of {app} cannot be fetched from {where}: {error}") from None
        finally:
            shutil.rmtree(work, ignore_errors=True)


def _download(app: str, build: str, work: Path) -> None:
    text = _get(f"/{app}/{build}/manifest.json").decode()
    manifest = json.loads(text)
    for name, digest in sorted(manifest["files"].items()):
        place = work / name
        if not place.resolve().is_relative_to(work.resolve()):
            raise ValueError(f"{name} is outside of the build")
        place.parent.mkdir(parents=True, exist_ok=True)
        _get(f"/{app}/{build}/{name}", place)
        if __utils__["appfiles.digest"](place) != digest:
            raise ValueError(f"{name} is not what its manifest says")
    # What the rename makes visible must also survive a power cut.
    __utils__["appfiles.run"](["sync", "--file-system", str(work)])
    __utils__["appfiles.write"](work / "manifest.json", text, 0o644)


def _get(path: str, place: Path | None = None) -> bytes:
    builds = __pillar__["wiring"]["builds"]
    found: bytes = __utils__["mutualtls.get"](builds["url"], builds["address"], path, place)
    return found


def release(app: str, build: str) -> str | None:
    """Makes a build the one that the fleet serves; on other hosts than the builder, remembers that it is.

    Args:
        app: name of an app.
        build: id of a build that is here.

    Returns:
        The build that it was before, or None.

    Raises:
        CommandExecutionError: the build is not here.

    Example:
        .. code-block:: bash

            salt-call builder.release demo 6f1d3c0a9b2e
    """
    if not (BUILDS / app / build / "manifest.json").is_file():
        raise CommandExecutionError(f"no build {build} of {app} is on this host")
    before = _linked(app)
    __utils__["appfiles.point"](BUILDS / app / LINK, build)
    return before


def must_release(app: str, build: str) -> bool:
    """Whether the newest build becomes the fleet's by itself: always, but where several hosts must switch together.

    Args:
        app: name of an app of this builder.
        build: id of its newest build.

    Example:
        .. code-block:: bash

            salt-call builder.must_release demo 6f1d3c0a9b2e
    """
    now = _linked(app)
    return now is None or (now != build and not __pillar__["wiring"]["builder"]["together"])


def prune(app: str) -> None:
    """Removes fetched builds but the one that the fleet serves: releases are installed, and need theirs no more.

    Args:
        app: name of an app of this host.

    Example:
        .. code-block:: bash

            salt-call builder.prune demo
    """
    keep = _linked(app)
    for path in (BUILDS / app).glob("*/manifest.json"):
        if keep and path.parent.name not in (keep, LINK):
            shutil.rmtree(path.parent)
