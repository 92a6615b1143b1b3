"""Redis' users, and its two servers as their files say, at run time too."""

from __future__ import annotations

from typing import Any

from salt.exceptions import CommandExecutionError

__virtualname__ = "redis_server"


def users_written(name: str) -> dict[str, Any]:
    """Keep the files of both servers' users, and the passwords of those users that belong to no app.

    Which users there are and what they may do comes from the pillar (``wiring:redis``), their passwords from
    ``secrets:apps:<app>:redis_password`` and, while the old one is still good, ``previous:redis_password``: no argument
    carries one, and the files hold hashes.

    Args:
        name: any text.

    Returns:
        Salt's result; ``changes`` has the files that are written, and whose users change in them.

    Example:
        .. code-block:: yaml

            users of Redis:
              redis_server.users_written:
                - require: [{pkg: redis-server}]
    """
    changes: dict[str, Any] = {}
    for user, path in __salt__["redis_server.missing_passwords"]().items():
        changes[path] = {"old": None, "new": f"a password for {user}"}
    texts = {}
    for server in ("broker", "cache"):
        path = __salt__["redis_server.files"](server)["users"]
        texts[path] = server
        found = __salt__["redis_server.users_differ"](server)
        if found:
            changes[path] = found
    if not changes:
        return _result(name, True, {}, "The files have these users.")
    if __opts__["test"]:
        return _result(name, None, changes, "Users would be written.")
    try:
        __salt__["redis_server.make_own_passwords"]()
        for server in texts.values():
            __salt__["redis_server.write_users"](server)
    except (OSError, CommandExecutionError) as error:
        return _result(name, False, {}, f"The users of Redis could not be written: {error}")
    return _result(name, True, changes, "Users were written.")


def in_step(name: str) -> dict[str, Any]:
    """Keep a running server as its files say: a setting or a user that somebody changed by hand is put back.

    New users and passwords reach the server this way too. Nothing of it needs a restart or cuts off a client, but for
    those of a user that is to be none, and settings that Redis reads only when it starts.

    Args:
        name: ``broker`` or ``cache``.

    Returns:
        Salt's result; ``changes`` has settings, and users without their passwords.

    Example:
        .. code-block:: yaml

            broker:
              redis_server.in_step:
                - require: [{daemon: redis-server.service}]
    """
    unit = __salt__["redis_server.files"](name)["unit"]
    test = __opts__["test"]
    try:
        found = __salt__["redis_server.drift"](name, not test)
    except (OSError, CommandExecutionError) as error:
        if test and __salt__["redis_server.will_start"](name):
            return _result(name, True, {}, f"{unit} would be started with these files.")
        return _restart(name, unit, str(error))
    changes = {
        **{setting: values for setting, values in found["settings"].items()},
        **{f"user {user}": __salt__["redis_server.shown"](values) for user, values in found["users"].items()},
    }
    if not changes:
        return _result(name, True, {}, f"{unit} does what its files say.")
    if test:
        if __salt__["redis_server.will_start"](name):
            return _result(name, True, {}, f"{unit} would be started with these files.")
        return _result(name, None, changes, f"{unit} would be put right: {', '.join(changes)}.")
    try:
        left = __salt__["redis_server.repair"](name, found)
    except (OSError, CommandExecutionError) as error:
        return _result(name, False, {}, f"{unit} could not be put right: {error}")
    if stale := __salt__["redis_server.stale"](name):  # a reload was refused before this
        return _restart(name, unit, f"it had not read {', '.join(stale)}", changes)
    if left:
        return _restart(name, unit, f"{', '.join(left)} can only be set at the start", changes)
    return _result(name, True, changes, f"{unit} was put right: {', '.join(changes)}.")


def _restart(name: str, unit: str, reason: str, changes: dict[str, Any] | None = None) -> dict[str, Any]:
    """Start the server anew with its files: something cannot be put right while it runs."""
    changes = changes or {"process": {"old": "not as its files say", "new": "restarted"}}
    if __opts__["test"]:
        return _result(name, None, changes, f"{unit} would be restarted: {reason}.")
    problem = __salt__["redis_server.restart"](name)
    if problem:
        return _result(name, False, {}, f"{reason}. {problem}")
    return _result(name, True, changes, f"{unit} was restarted: {reason}.")


def retired(name: str) -> dict[str, Any]:
    """End the time of the one password for all apps, as soon as nobody uses it: for hosts that an older Saltern made.

    Order it last: the apps on this host have other releases by then. Those of other hosts get theirs after this host;
    then the next apply ends it.

    Args:
        name: any text.

    Returns:
        Salt's result.

    Example:
        .. code-block:: yaml

            the shared password of Redis:
              redis_server.retired:
                - order: last
    """
    if not __salt__["redis_server.legacy"]():
        return _result(name, True, {}, "There is none.")
    test = __opts__["test"]
    changes = {"shared password": {"old": "good", "new": None}}
    try:
        users = __salt__["redis_server.legacy_used_by"](test)
        if users:
            return _result(name, True, {}, f"Still good, for it may be in use at {', '.join(users)}.")
        if test:
            return _result(name, None, changes, "It would be good no more.")
        left = __salt__["redis_server.end_legacy"]()
    except (OSError, CommandExecutionError) as error:
        if test:  # the server that runs now has no user for root yet
            return _result(name, None, changes, "It would be good no more, when the apps here have their releases.")
        return _result(name, False, {}, f"It could not be ended: {error}")
    comment = "It is good no more: nobody uses it."
    if not left:
        return _result(name, True, changes, comment)
    # In the comment as well, which every way of showing an apply shows.
    warning = f"No app looks at these keys of the broker, which have no app's prefix: {', '.join(left)}"
    return _result(name, True, changes, f"{comment} {warning}") | {"warnings": [warning]}


def _result(name: str, result: bool | None, changes: dict[str, Any], comment: str) -> dict[str, Any]:
    return {"name": name, "result": result, "changes": changes, "comment": comment}
