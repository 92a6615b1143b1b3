"""The builds that are on this host: which are whole, whose they are, and which is the newest."""

from __future__ import annotations

import json
import os
import re
import shutil
from pathlib import Path
from typing import Any

from salt.exceptions import CommandExecutionError

from saltern.build import builderword, signing
from saltern.host import appfiles, places
from saltern.host.here import Here

# Debian's number of www-data, everywhere (base-passwd): the web server that hands builds on to other hosts.
SERVED_BY = 33
SIGNATURE = "manifest.sig"
HALF = ".manifest."  # begins the name of what a killed run was writing


def current(app: str) -> str | None:
    """Return the id of the newest wanted build, or None. Releases are made of it."""
    link = places.BUILDS / app / "current"
    return str(link.readlink()) if link.is_symlink() and (link / "manifest.json").is_file() else None


def exists(app: str, build: str) -> bool:
    """Return whether a build is here, whole and signed."""
    home = places.BUILDS / app / build
    if not (home / SIGNATURE).is_file():
        return False
    try:
        _, manifest = _manifest_of(app, build, home)
    except CommandExecutionError:
        return False
    return all((home / name).is_file() for name in manifest["files"])


def discard(app: str, build: str) -> None:
    """Remove a build, or what a killed run has left of one.

    Args:
        app: name of an app.
        build: its id.
    """
    home = places.BUILDS / app / build
    (home / "manifest.json").unlink(missing_ok=True)  # first: what is half removed is no build
    if home.exists():
        shutil.rmtree(home)


def directory(app: str, build: str) -> str:
    """Return where a build is, or would be."""
    return str(places.BUILDS / app / build)


def verify(here: Here, app: str, build: str) -> dict[str, Any]:
    """Compare every file of a build with the hashes of its manifest."""
    home = places.BUILDS / app / build
    _, manifest = _manifest_of(app, build, home)
    there = {str(path.relative_to(home)) for path in home.rglob("*") if not path.is_dir()}
    there = {name for name in there if name not in ("manifest.json", SIGNATURE) and not name.startswith(HALF)}
    problems = unfit(here, app, build, home)
    problems += [f"{name} is missing" for name in sorted(manifest["files"].keys() - there)]
    problems += [f"{name} does not belong to it" for name in sorted(there - manifest["files"].keys())]
    for name in sorted(there & manifest["files"].keys()):
        if appfiles.digest(home / name) != manifest["files"][name]:
            problems.append(f"{name} has been changed since it was built")
    if problems:
        raise CommandExecutionError(
            f"build {build} of {app} is refused: {'; '.join(problems)}. "
            f"Find out why, then remove {home} and apply again: it is built anew."
        )
    return manifest


def unfit(here: Here, app: str, build: str, home: str | Path) -> list[str]:
    """Say what keeps a build's manifest from being the builder's word about this app and this build.

    Args:
        app: name of an app.
        build: the build's id.
        home: where it is.

    Returns:
        Sentences' ends; none when all is well.

    Raises:
        CommandExecutionError: its manifest cannot be read.
    """
    raw, manifest = _manifest_of(app, build, Path(home))
    found = []
    if (manifest.get("app"), manifest.get("id")) != (app, build):
        found.append(f"its manifest is that of build {manifest.get('id')} of {manifest.get('app')}")
    try:
        signature = (Path(home) / SIGNATURE).read_text()
    except OSError:
        return [*found, "it is not signed: apply the builder's states, which does so"]
    if not signing.is_signed(signing.build_text(raw), signature.strip(), _keys(here)):
        found.append("its signature is not the builder's")
    return found


def unsigned(here: Here, app: str) -> list[str]:
    """Return the builds of an app that the builder's present key has not signed."""
    if not (places.BUILDS / app).is_dir():
        return []
    found = []
    for home in sorted(_directories(app)):
        if not (home / "manifest.json").is_file():
            continue
        signature = (home / SIGNATURE).read_text().strip() if (home / SIGNATURE).is_file() else ""
        text = signing.build_text((home / "manifest.json").read_bytes())
        if not signature or not signing.is_signed(text, signature, _keys(here)[:1]):
            found.append(home.name)
    return found


def sign(here: Here, app: str) -> list[str]:
    """Sign the builds that are older than the key, as far as they are what their manifests say.

    One that has no signature was made before there were any. One with another key's is signed anew if that key is
    still good. What cannot be verified is of no use to anybody, and removed.
    """
    gone = []
    for build in unsigned(here, app):
        try:
            _sign_anew(here, app, build)
        except CommandExecutionError:
            if build in _used(here, app):
                raise
            discard(app, build)
            gone.append(build)
    return gone


def _sign_anew(here: Here, app: str, build: str) -> None:
    home = places.BUILDS / app / build
    for half in home.glob(f"{HALF}*"):
        half.unlink()
    if (home / SIGNATURE).exists():
        verify(here, app, build)
        sign_one(here, home)
        return
    sign_one(here, home)
    try:
        verify(here, app, build)
    except CommandExecutionError:
        (home / SIGNATURE).unlink()
        raise


def _used(here: Here, app: str) -> set[str | None]:
    """Return the builds that releases are made of: the newest, the one in force, and the one before that."""
    released = builderword.released(here, app) or {}
    return {current(app), released.get("build"), released.get("before")}


def sign_one(here: Here, home: Path) -> None:
    text = signing.build_text((home / "manifest.json").read_bytes())
    made = signing.sign(text, here.pillar["secrets"]["build_key"])
    appfiles.write(home / SIGNATURE, f"{made}\n", 0o644)


def _keys(here: Here) -> list[str]:
    found: list[str] = here.pillar["secrets"]["build_keys"]
    return found


def _manifest_of(app: str, build: str, home: Path) -> tuple[bytes, dict[str, Any]]:
    try:
        raw = (home / "manifest.json").read_bytes()
        manifest: dict[str, Any] = json.loads(raw)
        if not isinstance(manifest["files"], dict):
            raise ValueError("it names no files")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CommandExecutionError(
            f"build {build} of {app}: its manifest cannot be read: {error}. "
            f"Remove {home} and apply again: it is built anew."
        ) from error
    return raw, manifest


def close(app: str) -> None:
    """Make the directory of an app's builds, or close it: to all but root and the web server, which hands them on.

    Args:
        app: name of an app of this host.
    """
    for path in (places.BUILDS, places.BUILDS / app):
        path.mkdir(mode=0o750, exist_ok=True, parents=True)
        os.chown(path, 0, SERVED_BY)
        path.chmod(0o750)


def manifests(app: str) -> list[dict[str, Any]]:
    """Return the manifests of all builds of an app, newest first."""
    manifests = [
        json.loads((path / "manifest.json").read_text()) for path in _directories(app) if exists(app, path.name)
    ]
    return sorted(manifests, key=lambda manifest: str(manifest["when"]), reverse=True)


def _directories(app: str) -> list[Path]:
    """Return the builds of an app; their names are all 12 hex digits, unlike ``current``."""
    return [path for path in (places.BUILDS / app).iterdir() if re.fullmatch(r"[0-9a-f]{12}", path.name)]


def prune(here: Here, app: str) -> None:
    keep = {manifest["id"] for manifest in manifests(app)[: here.pillar["builder"]["keep"]]}
    keep |= _used(here, app)
    for path in _directories(app):
        if path.name not in keep:
            discard(app, path.name)
    for name in ("git", "checkouts"):  # where earlier versions fetched, as root
        appfiles.remove(places.BUILDS / app / name)
