"""Builds on their way: proposed and released by the builder, fetched and remembered by the hosts that install them."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from salt.exceptions import CommandExecutionError

from saltern.build import agreed, builderword, making, store
from saltern.host import appfiles, places
from saltern.host.here import Here


def propose(here: Here, app: str) -> str:
    """Build the app as its source is now, and make that build the candidate of a new deploy."""
    return builderword.begin(here, app, builderword.CANDIDATE, str(making.make(here, app)["id"]))


def propose_same(here: Here, app: str, said: dict[str, Any]) -> str:
    """Make the build that the fleet serves the candidate of a new deploy: it brings settings, and no new source."""
    try:
        build: str = agreed.in_force(app, said)
    except ValueError as error:
        raise CommandExecutionError(str(error)) from None
    if not store.exists(app, build):
        raise CommandExecutionError(
            f"build {build} of {app}, which the fleet serves, is not on the builder any more; the newest source and "
            f"the settings together: salt-run state.orchestrate orch.deploy"
        )
    return builderword.begin(here, app, builderword.CANDIDATE, build)


def propose_back(here: Here, app: str, said: dict[str, Any] | None = None) -> str:
    """Make the build that the fleet served before the candidate of a new deploy: a rollback. Builds nothing."""
    # The hosts' word first: after the same deploy twice, what is written down here names the build that serves.
    build = agreed.served_before(said or {}) or (builderword.noted(app, builderword.RELEASED) or {}).get("before")
    if build is None:
        raise CommandExecutionError(f"the fleet has served no other build of {app} before, so there is no way back")
    return builderword.begin(here, app, builderword.CANDIDATE, build)


def release(here: Here, app: str, build: str) -> None:
    """Make a build what the fleet serves, without a deploy."""
    if not store.exists(app, build):
        raise CommandExecutionError(f"no build {build} of {app} is on this host")
    builderword.begin(here, app, builderword.RELEASED, build)


def remember(here: Here, app: str, found: dict[str, str]) -> None:
    """Keep the builder's word on what the fleet serves, for when the builder is away; remove other builds' files."""
    store.close(app)
    builderword.note(here, app, builderword.RELEASED, found)
    for path in (places.BUILDS / app).iterdir():
        if re.fullmatch(r"[0-9a-f]{12}", path.name) and path.name != found["build"]:
            store.discard(app, path.name)  # their releases are installed, and need them no more


def fetch(here: Here, app: str, build: str) -> None:
    """Bring a build here from the builder, whole and checked, or not at all; also one that an old key has signed."""
    home = places.BUILDS / app
    store.close(app)
    with appfiles.locked(home / ".lock"):
        if store.exists(app, build) and not store.unfit(here, app, build, home / build):
            return
        work = home / f".fetching-{build}"
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir()
        try:
            with builderword.server(here) as get:
                _download(here, get, app, build, work)
            store.discard(app, build)  # what a killed run has left of it
            work.rename(home / build)
        except (OSError, ValueError, KeyError) as error:
            where = here.pillar["wiring"]["builds"]["url"]
            raise CommandExecutionError(f"build {build} of {app} cannot be fetched from {where}: {error}") from None
        finally:
            shutil.rmtree(work, ignore_errors=True)


def _download(here: Here, get: Callable[..., bytes], app: str, build: str, work: Path) -> None:
    url = f"/{app}/{build}"
    beside = work / ".word"
    beside.mkdir()
    text = get(f"{url}/manifest.json").decode()
    for name, content in {"manifest.json": text, "manifest.sig": get(f"{url}/manifest.sig").decode()}.items():
        appfiles.write(beside / name, content, 0o644)
    if problems := store.unfit(here, app, build, beside):
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
