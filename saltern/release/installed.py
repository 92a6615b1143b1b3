"""The releases that are on this host, and which of them nginx sends requests to."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from salt.exceptions import CommandExecutionError

from saltern.host import places


def active(app: str) -> str | None:
    """Return the release that nginx sends requests to, or None."""
    try:
        return (places.APPS / app / "current.sock").readlink().name.removesuffix(".sock")
    except FileNotFoundError:
        return None


def directory(app: str, release: str) -> str:
    """Return where a release is, or would be, installed."""
    return str(places.APPS / app / "releases" / release)


def is_staged(app: str, release: str) -> bool:
    """Return whether a release is installed on this host, whole."""
    return Path(directory(app, release), "manifest.json").is_file()


def manifest(app: str, release: str) -> dict[str, Any]:
    """Return what is known about an installed release."""
    try:
        found: dict[str, Any] = json.loads(Path(directory(app, release), "manifest.json").read_text())
    except FileNotFoundError:
        raise CommandExecutionError(f"release {release} of {app} is not installed on this host") from None
    return found


def manifests(app: str) -> list[dict[str, Any]]:
    """Return what is known about all installed releases of an app, in no order."""
    return [json.loads(path.read_text()) for path in (places.APPS / app / "releases").glob("*/manifest.json")]
