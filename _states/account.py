"""Accounts of services."""

from __future__ import annotations

from typing import Any

from salt.exceptions import CommandExecutionError


def service(name: str) -> dict[str, Any]:
    """Keep the account of a service, with a group of its own, without a home, a shell or a password.

    Args:
        name: the account's name.

    Returns:
        A state return; ``changes`` has the old and new group, home or shell, or the account that is new.

    Example:
        .. code-block:: yaml

            app-demo:
              account.service: []
    """
    ret: dict[str, Any] = {"name": name, "result": True, "changes": {}, "comment": "The account is a service's"}
    try:
        differing = __salt__["account.service_differences"](name)
        if not differing:
            return ret
        if __opts__["test"]:
            return ret | {"result": None, "changes": differing, "comment": "The account would be made a service's"}
        __salt__["account.make_service"](name)
    except CommandExecutionError as error:
        return ret | {"result": False, "comment": str(error)}
    return ret | {"changes": differing, "comment": "The account was made a service's"}
