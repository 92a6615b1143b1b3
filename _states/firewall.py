"""The host's firewall in the kernel."""

from __future__ import annotations

from typing import Any

from salt.exceptions import CommandExecutionError


def enforced(name: str, wiring: dict[str, Any]) -> dict[str, Any]:
    """Keep the kernel's rules as they shall be: rules that somebody changed by hand or flushed come back.

    Args:
        name: any text.
        wiring: the host's part of the fleet's links (pillar ``wiring:base``).

    Returns:
        A state return; ``changes`` is the table before and after, in nft's words. In a plan the accounts that other
        states would make first have no number yet, and the rules for them are told by name.

    Example:
        .. code-block:: yaml

            the firewall:
              firewall.enforced:
                - wiring: {{ pillar['wiring']['base'] | json }}
    """
    ret: dict[str, Any] = {"name": name, "result": True, "changes": {}, "comment": "The kernel has these rules"}
    try:
        wanted = __salt__["firewall.wanted"](wiring)
        rules, missing = wanted["rules"], ", ".join(wanted["missing"])
        now, new = __salt__["firewall.loaded"](), __salt__["firewall.understood"](rules)
        if now == new and new is not None and not missing:
            return ret
        changes = {"rules": {"old": now, "new": new or rules}}
        if __opts__["test"]:
            later = f", with those for what {missing} may call" if missing else ""
            return ret | {"result": None, "changes": changes, "comment": f"The rules would be loaded{later}"}
        if missing:
            return ret | {
                "result": False,
                "comment": f"no account {missing}, so nothing can be said of what it may call",
            }
        __salt__["firewall.load"](rules)
    except CommandExecutionError as error:
        return ret | {"result": False, "comment": str(error)}
    return ret | {"changes": changes, "comment": "The rules were loaded"}
