"""Workshops: where an app's build user fetches and builds, what is his there, and how much he may use."""

from __future__ import annotations

import contextlib
import grp
import hashlib
import os
import pwd
from pathlib import Path
from typing import Any

from saltern.host import appfiles, places
from saltern.host.here import Here


def build_user(app: str) -> str:
    """Return the system user that an app is built as."""
    name = f"build-{app}"
    return name if len(name) <= 32 else f"{name[:23]}-{hashlib.sha256(app.encode()).hexdigest()[:8]}"


def is_user(name: str) -> bool:
    try:
        pwd.getpwnam(name)
    except KeyError:
        return False
    return True


def others(apps: list[str]) -> list[str]:
    """Return the apps that have a workshop here and are not among the given ones."""
    if not places.WORKSHOPS.is_dir():
        return []
    return sorted(
        path.name for path in places.WORKSHOPS.iterdir() if not path.name.startswith(".") and path.name not in apps
    )


def forget(app: str) -> None:
    """Remove an app's workshop and build user. Its builds stay."""
    user = build_user(app)
    if is_user(user):
        appfiles.run(["userdel", user])
    with contextlib.suppress(KeyError):
        grp.getgrnam(user)
        appfiles.run(["groupdel", user])
    appfiles.remove(places.WORKSHOPS / app)


def open_workshop(app: str) -> str:
    """Make an app's workshop, where its build user fetches and builds, and clear what a killed run has left there.

    It and its ``home`` are root's, and the build user may look; ``git`` is his; ``in`` is what root puts before him.

    Args:
        app: name of an app of this host.

    Returns:
        Its path.
    """
    home = places.WORKSHOPS / app
    places.WORKSHOPS.mkdir(mode=0o755, exist_ok=True)
    home.mkdir(mode=0o700, exist_ok=True)
    give(app, home, 0o750, False)
    close_workshop(app)
    for name, mode, own in (("home", 0o750, False), ("git", 0o700, True), ("in", 0o750, False)):
        (home / name).mkdir(mode=0o700, exist_ok=True)
        give(app, home / name, mode, own)
    return str(home)


def close_workshop(app: str) -> None:
    """Remove from an app's workshop all that the next build makes anew.

    Args:
        app: name of an app of this host.
    """
    for path in (places.WORKSHOPS / app).iterdir():
        if path.name not in ("home", "git"):
            appfiles.remove(path)


def empty(app: str, path: str | Path) -> None:
    """Make an empty directory of a build user's, in place of what is there.

    Args:
        app: name of an app of this host.
        path: the directory; the one around it is root's.
    """
    appfiles.remove(path)
    Path(path).mkdir(mode=0o700)
    give(app, path, 0o700, True)


def give(app: str, path: str | Path, mode: int, own: bool) -> None:
    """Let an app's build user have a directory, or look into it. Follows no link.

    Args:
        app: name of an app of this host.
        path: the directory; the one around it is root's.
        mode: permission bits.
        own: whether it is his.
    """
    person = pwd.getpwnam(build_user(app))
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        os.fchown(handle, person.pw_uid if own else 0, person.pw_gid)
        os.fchmod(handle, mode)
    finally:
        os.close(handle)


def bounds(here: Here, app: str) -> dict[str, Any]:
    """Return what an app's build may use: the site's bounds, as arguments for a sandbox.

    Args:
        app: name of an app of this host.
    """
    builder = here.pillar.get("builder", {})
    disk = int(builder.get("disk_max_mb", 4096))
    found: dict[str, Any] = {"memory_mb": int(builder.get("memory_max_mb", 2048)), "file_mb": disk}
    home = places.WORKSHOPS / app
    return found | ({"disk": (str(home), disk)} if home.is_dir() else {})
