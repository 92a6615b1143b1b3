"""The Python that an app runs on, as far as this host has it."""

from __future__ import annotations

import os
import platform
import re
from pathlib import Path

from salt.exceptions import CommandExecutionError

from saltern.host.here import Here

BIN = Path("/usr/bin")
# The one Python that a Debian release ships, for a plan on a host that has none yet.
DEBIAN_PYTHON = {"12": "3.11", "13": "3.13"}


def python(here: Here, app: str) -> str:
    """Return the version of Python that an app runs on: what its file asks for, or Debian's own."""
    if problem := python_missing(app, here.app(app)["python"]):
        raise CommandExecutionError(problem)
    return here.app(app)["python"] or _own_python()


def python_missing(app: str, asked: str | None) -> str:
    """Say that this host has not the Python that an app's file asks for; nothing when it has."""
    own = _own_python()
    if not asked or asked == own or (BIN / f"python{asked}").exists():
        return ""
    here = sorted({own, *(path.name.removeprefix("python") for path in BIN.glob("python3.[0-9]*[0-9]"))})
    return (
        f"apps/{app}.yaml: python: {asked} is not on this host, which has {', '.join(here)}. "
        f"Debian {debian()} brings {own}: take the setting out, or deploy {app} on a Debian that has {asked}."
    )


def _own_python() -> str:
    """Version of Debian's Python, such as ``3.13``; /usr/bin/python3 is a link to it, which a bare host has not."""
    match = re.search(r"python(\d+\.\d+)$", os.path.realpath(BIN / "python3"))
    return match[1] if match else DEBIAN_PYTHON[debian()]


def debian() -> str:
    return platform.freedesktop_os_release()["VERSION_ID"]
