"""An app's background processes and timers: of the release that is served, and of no other."""

from __future__ import annotations

from typing import Any

from salt.exceptions import CommandExecutionError


def running(name: str) -> dict[str, Any]:
    """Run the app's processes and timers as its site file says, those of the release that shall be served.

    Those of an older release are told to stop and waited for; those that the site file no longer has are removed.

    Args:
        name: the app.

    Returns:
        A state return; ``changes`` has for each process or timer what was wrong with it, and the release or None.

    Example:
        .. code-block:: yaml

            processes of demo:
              processes.running:
                - name: demo
    """
    ret: dict[str, Any] = {"name": name, "result": True, "changes": {}, "comment": ""}
    try:
        now = __salt__["processes.status"](name)
        if not now["problems"]:
            return ret | {"comment": f"Its processes and timers are those of release {now['release']}"}
        changes = {
            process: {"old": "; ".join(said), "new": _outcome(process, now)}
            for process, said in now["problems"].items()
        }
        if __opts__["test"]:
            return ret | {"result": None, "changes": changes, "comment": f"Would be changed: {', '.join(changes)}"}
        said = __salt__["processes.converge"](name)
    except CommandExecutionError as error:
        return ret | {"result": False, "comment": str(error)}
    # In the comment as well, which every way of showing an apply shows.
    comment = "; ".join([f"Changed: {', '.join(changes)}", *(said or [])])
    return ret | {"changes": changes, "comment": comment} | ({"warnings": said} if said else {})


def _outcome(process: str, now: dict[str, Any]) -> str:
    return "gone" if now["problems"][process] == [GONE] else f"as declared, of release {now['release']}"


GONE = "it is here, and shall not be"


def only(name: str, apps: list[str]) -> dict[str, Any]:
    """No app but the given ones has background processes or timers on this host.

    Args:
        name: any text.
        apps: the apps that belong here.

    Returns:
        A state return; ``changes`` names the apps whose processes were removed.

    Example:
        .. code-block:: yaml

            no other app has processes here:
              processes.only:
                - apps: [demo]
    """
    ret: dict[str, Any] = {"name": name, "result": True, "changes": {}, "comment": "No other app has processes here"}
    try:
        others = __salt__["processes.orphans"](apps)
        if not others:
            return ret
        changes = {"old": others, "new": []}
        if __opts__["test"]:
            return ret | {"result": None, "changes": changes, "comment": f"Would be stopped: {', '.join(others)}"}
        for app in others:
            __salt__["processes.remove"](app)
    except CommandExecutionError as error:
        return ret | {"result": False, "comment": str(error)}
    return ret | {"changes": changes, "comment": f"Stopped and removed: {', '.join(others)}"}
