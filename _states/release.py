"""An app's release: known to systemd, installed, and given the traffic."""

from __future__ import annotations

import stat
from pathlib import Path
from typing import Any

from salt.exceptions import CommandExecutionError


def unit_present(name: str) -> dict[str, Any]:
    """Keep the app's unit and tmpfiles.d entry as the app's settings say.

    Args:
        name: the app.

    Returns:
        A state return; ``changes`` has the old and new text of each file that differs.

    Example:
        .. code-block:: yaml

            demo is known to systemd:
              release.unit_present:
                - name: demo
    """
    ret: dict[str, Any] = {"name": name, "result": True, "changes": {}, "comment": "The unit is in place"}
    try:
        differing = {
            path: {"old": _text(path), "new": text}
            for path, text in __salt__["release.unit_files"](name).items()
            if _text(path) != text or stat.S_IMODE(Path(path).stat().st_mode) != 0o644
        }
        if not differing:
            return ret
        if __opts__["test"]:
            return ret | {"result": None, "changes": differing, "comment": "The unit would be written"}
        __salt__["release.write_unit_files"](name)
    except CommandExecutionError as error:
        return ret | {"result": False, "comment": str(error)}
    return ret | {"changes": differing, "comment": "The unit was written"}


def staged(name: str) -> dict[str, Any]:
    """Install the release that shall be served beside the others. Nothing of what is served is touched.

    Args:
        name: the app.

    Returns:
        A state return; ``changes`` is the active release and the one that was installed.

    Example:
        .. code-block:: yaml

            demo is staged:
              release.staged:
                - name: demo
    """
    ret: dict[str, Any] = {"name": name, "result": True, "changes": {}, "comment": ""}
    try:
        chosen = __salt__["release.desired"](name)
        wanted = chosen["id"]
        if __salt__["release.is_staged"](name, wanted):
            return ret | {"comment": _noted(f"Release {wanted} is installed", chosen.get("note"))}
        changes = {"old": __salt__["release.active"](name), "new": wanted}
        if __opts__["test"]:
            return ret | {"result": None, "changes": changes, "comment": f"Release {wanted} would be installed"}
        __salt__["release.stage"](name)
    except CommandExecutionError as error:
        return ret | {"result": False, "comment": str(error)}
    return ret | {"changes": changes, "comment": f"Release {wanted} was installed"}


def active(name: str) -> dict[str, Any]:
    """Serve the release that shall be served: checked over HTTP, running, started at boot, alone.

    A release that does not answer well gets no traffic: the state fails with the app's last log lines, and what
    was served is served on.

    Args:
        name: the app.

    Returns:
        A state return; ``changes`` is the active release before and after, or what had to be put right.

    Example:
        .. code-block:: yaml

            demo is served:
              release.active:
                - name: demo
    """
    ret: dict[str, Any] = {"name": name, "result": True, "changes": {}, "comment": ""}
    try:
        now = __salt__["release.status"](name)
        wanted = now["desired"]
        if not now["problems"]:
            return ret | {"comment": _noted(f"Release {wanted} is active", now.get("pinned"))}
        found = now["active"] if now["active"] != wanted else "; ".join(now["problems"])
        changes = {"old": found, "new": wanted}
        if __opts__["test"]:
            comment = _noted(f"Release {wanted} would be made active", now.get("pinned"))
            return ret | {"result": None, "changes": changes, "comment": comment}
        __salt__["release.activate"](name)
    except CommandExecutionError as error:
        return ret | {"result": False, "comment": str(error)}
    return ret | {"changes": changes, "comment": _noted(f"Release {wanted} was made active", now.get("pinned"))}


def only(name: str, apps: list[str]) -> dict[str, Any]:
    """No app but the given ones runs on this host. What others left in files stays: releases, data, users.

    Args:
        name: any text.
        apps: the apps that belong here.

    Returns:
        A state return; ``changes`` names the apps that were taken out.

    Example:
        .. code-block:: yaml

            no other app runs here:
              release.only:
                - apps: [demo]
    """
    ret: dict[str, Any] = {"name": name, "result": True, "changes": {}, "comment": "No other app is here"}
    try:
        others = __salt__["release.orphans"](apps)
        if not others:
            return ret
        changes = {"old": others, "new": []}
        if __opts__["test"]:
            return ret | {"result": None, "changes": changes, "comment": f"Would be stopped: {', '.join(others)}"}
        for app in others:
            __salt__["release.remove"](app)
    except CommandExecutionError as error:
        return ret | {"result": False, "comment": str(error)}
    return ret | {"changes": changes, "comment": f"Stopped, with their files kept: {', '.join(others)}"}


def _noted(comment: str, note: str | None) -> str:
    """Return a comment that also says why the release is not the one that the site asks for."""
    return f"{comment}. {note}" if note else comment


def _text(path: str) -> str | None:
    try:
        return Path(path).read_text()
    except FileNotFoundError:
        return None
