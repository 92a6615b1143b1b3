"""The build of an app's source is here."""

from __future__ import annotations

from typing import Any

from salt.exceptions import CommandExecutionError


def present(name: str) -> dict[str, Any]:
    """Have the build of the app's source, as it is now, here and wanted.

    Args:
        name: the app.

    Returns:
        A state return; ``changes`` is the id of the wanted build before and after.

    Example:
        .. code-block:: yaml

            demo is built:
              build.present:
                - name: demo
    """
    ret: dict[str, Any] = {"name": name, "result": True, "changes": {}, "comment": ""}
    try:
        wanted = __salt__["build.identify"](name)["id"]
        current = __salt__["build.current"](name)
        old = [*__salt__["build.unsigned"](name), *__salt__["builder.unsigned"](name)]
        if current == wanted and not __salt__["builder.must_release"](name, wanted):
            return _signed(name, ret, wanted, old)
        changes = {"old": current, "new": wanted}
        if __opts__["test"]:
            return ret | {"result": None, "changes": changes, "comment": f"Build {wanted} would be made"}
        # Not what the plan said where the lock was only resolved now.
        changes["new"] = wanted = __salt__["build.make"](name)["id"]
        if __salt__["builder.must_release"](name, wanted):
            __salt__["builder.release"](name, wanted)
        __salt__["builder.sign"](name)
    except CommandExecutionError as error:
        return ret | {"result": False, "comment": str(error)}
    return ret | {"changes": changes, "comment": f"Build {wanted} was made"}


def _signed(name: str, ret: dict[str, Any], wanted: str, old: list[str]) -> dict[str, Any]:
    """Have what is here signed by the builder's present key."""
    if not old:
        return ret | {"comment": f"Build {wanted} is here"}
    changes = {"old": old, "new": "signed"}
    if __opts__["test"]:
        return ret | {"result": None, "changes": changes, "comment": f"Would be signed: {', '.join(old)}"}
    gone = __salt__["build.sign"](name)
    __salt__["builder.sign"](name)
    comment = f"Signed: {', '.join(old)}" + (f"; removed, as damaged or nobody's: {', '.join(gone)}" if gone else "")
    return ret | {"changes": changes, "comment": comment}


def only(name: str, apps: list[str]) -> dict[str, Any]:
    """Only these apps are built here: the build users and workshops of others are removed. Their builds stay.

    Args:
        name: any text.
        apps: the apps of this builder.

    Returns:
        A state return; ``changes`` names the apps whose workshops were removed.

    Example:
        .. code-block:: yaml

            no other app is built here:
              build.only:
                - apps: [demo]
    """
    ret: dict[str, Any] = {"name": name, "result": True, "changes": {}, "comment": "No other app is built here"}
    try:
        others = __salt__["build.others"](apps)
        if not others:
            return ret
        changes = {"old": others, "new": []}
        if __opts__["test"]:
            return ret | {"result": None, "changes": changes, "comment": f"Would be removed: {', '.join(others)}"}
        for app in others:
            __salt__["build.forget"](app)
    except CommandExecutionError as error:
        return ret | {"result": False, "comment": str(error)}
    return ret | {"changes": changes, "comment": f"Removed: {', '.join(others)}"}
