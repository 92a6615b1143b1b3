"""Debian's updates: what is to be done after them that only a person decides about."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path
from typing import Any

__virtualname__ = "updates"

REBOOT_REQUIRED = Path("/run/reboot-required")
BOOT = Path("/boot")


# Pure functions.


def newest_kernel(names: list[str]) -> str:
    """Return the newest of some kernel releases; numbers in them count as numbers.

    Args:
        names: as ``uname -r`` says them.

    Example:
        >>> newest_kernel(["6.12.9+deb13-amd64", "6.12.48+deb13-amd64"])
        '6.12.48+deb13-amd64'
    """
    return max(names, key=lambda name: [int(part) for part in re.findall(r"\d+", name)], default="")


def why_reboot(running: str, installed: list[str], asked_by: list[str] | None) -> str:
    """Return why a host should be rebooted, or nothing.

    Args:
        running: the release of the running kernel.
        installed: the releases of the kernels in /boot; a container has none.
        asked_by: the packages that asked for it, or None when none did.

    Example:
        >>> why_reboot("6.12.9-amd64", ["6.12.9-amd64", "6.12.48-amd64"], None)
        'kernel 6.12.48-amd64 is installed and 6.12.9-amd64 runs'
    """
    newest = newest_kernel(installed)
    # A kernel of another flavour, which somebody chose to boot, is not older.
    if newest and running in installed and newest != running:
        return f"kernel {newest} is installed and {running} runs"
    if asked_by is not None:
        return f"asked for by {', '.join(sorted(set(asked_by)))}" if asked_by else "asked for by a package"
    return ""


def outdated_units(printed: str) -> list[str]:
    """Return the services that still run what an update has replaced, from ``needrestart -b``.

    Args:
        printed: lines as ``NEEDRESTART-SVC: nginx.service``.

    Example:
        >>> outdated_units("NEEDRESTART-VER: 3.11\\nNEEDRESTART-SVC: app-demo@1.service\\n")
        ['app-demo@1.service']
    """
    return sorted(set(re.findall(r"^NEEDRESTART-SVC: *(\S+)$", printed, re.MULTILINE)))


# What is on the host.


def reboot_due() -> str:
    """Return why this host should be rebooted, or nothing.

    Example:
        salt '*' updates.reboot_due
    """
    packages = REBOOT_REQUIRED.with_name(REBOOT_REQUIRED.name + ".pkgs")
    asked = None
    if REBOOT_REQUIRED.exists():
        asked = packages.read_text().split() if packages.exists() else []
    installed = [path.name.removeprefix("vmlinuz-") for path in BOOT.glob("vmlinuz-*")]
    return why_reboot(os.uname().release, installed, asked)


def due() -> dict[str, Any]:
    """Return what is left to do after updates: by a reboot, and by a restart of services.

    Returns:
        ``reboot`` (why, or nothing) and ``restart`` (services that run what was replaced). The window restarts daemons;
        a release of an app runs what it began with until the next one, or until the host is rebooted.

    Example:
        salt '*' updates.due
    """
    asked = subprocess.run(["/usr/sbin/needrestart", "-b", "-r", "l"], capture_output=True, text=True, check=False)
    return {"reboot": reboot_due(), "restart": outdated_units(asked.stdout)}
