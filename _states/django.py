"""Django's steps of a release, between its installation and its first request."""

from __future__ import annotations

from typing import Any

from salt.exceptions import CommandExecutionError


def static_collected(name: str) -> dict[str, Any]:
    """nginx serves the static files of the release that shall be served, and still those of earlier ones.

    An app without static files has none to serve, which is fine.

    Args:
        name: the app.

    Returns:
        A state return; ``changes`` is the active release, or what was missing, and the release that was collected.

    Example:
        .. code-block:: yaml

            demo's static files are served:
              django.static_collected:
                - name: demo
    """
    ret: dict[str, Any] = {"name": name, "result": True, "changes": {}, "comment": ""}
    try:
        release = __salt__["release.desired"](name)["id"]
        missing = __salt__["django.static_missing"](name, release)
        if missing == []:
            return ret | {"comment": f"The static files of release {release} are served"}
        found = f"{_count(missing, 'file')} missing" if missing else __salt__["release.active"](name)
        changes = {"old": found, "new": release}
        if __opts__["test"]:
            comment = f"The static files of release {release} would be collected"
            return ret | {"result": None, "changes": changes, "comment": comment}
        __salt__["django.collect_static"](name, release)
    except CommandExecutionError as error:
        return ret | {"result": False, "comment": str(error)}
    return ret | {"changes": changes, "comment": f"The static files of release {release} were collected"}


def migrated(name: str) -> dict[str, Any]:
    """Bring the database to where the release that shall be served needs it.

    A new release is always a change here, whether or not it brings migrations: a plan cannot ask a release that
    is not built yet, and shall still say what the apply does.

    Args:
        name: the app.

    Returns:
        A state return; ``changes`` is the active release and the one that the database was brought to.

    Example:
        .. code-block:: yaml

            demo's database is migrated:
              django.migrated:
                - name: demo
    """
    ret: dict[str, Any] = {"name": name, "result": True, "changes": {}, "comment": ""}
    try:
        release = __salt__["release.desired"](name)["id"]
        missing = __salt__["django.missing"](name, release)
        if missing == []:
            return ret | {"comment": f"The database is at release {release}"}
        found = f"{_count(missing, 'migration')} pending" if missing else __salt__["release.active"](name)
        changes = {"old": found, "new": release}
        if __opts__["test"]:
            comment = f"The database would be brought to release {release}"
            return ret | {"result": None, "changes": changes, "comment": comment}
        applied = __salt__["django.migrate"](name, release)
    except CommandExecutionError as error:
        return ret | {"result": False, "comment": str(error)}
    comment = f"Applied: {', '.join(applied)}" if applied else "It needed no migration"
    return ret | {"changes": changes, "comment": f"The database was brought to release {release}. {comment}"}


def _count(things: list[str], name: str) -> str:
    return f"{len(things)} {name}{'' if len(things) == 1 else 's'}"
