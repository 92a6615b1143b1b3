"""The host's firewall in the kernel."""

from __future__ import annotations

from typing import Any

from salt.exceptions import CommandExecutionError


def enforced(name: str, rules: str) -> dict[str, Any]:
    """Keep the kernel's rules as they are written: rules that somebody changed by hand or flushed come back.

    Args:
        name: any text.
        rules: a file for ``nft -f`` that replaces the table ``inet saltern``.

    Returns:
        A state return; ``changes`` is the table before and after, in nft's words.

    Example:
        .. code-block:: yaml

            the firewall:
              firewall.enforced:
                - rules: {{ salt['firewall.ruleset'](pillar['wiring']['base']['open_ports']) | json }}
    """
    ret: dict[str, Any] = {"name": name, "result": True, "changes": {}, "comment": "The kernel has these rules"}
    try:
        now, wanted = __salt__["firewall.loaded"](), __salt__["firewall.understood"](rules)
        if now == wanted and wanted is not None:
            return ret
        changes = {"rules": {"old": now, "new": wanted or rules}}
        if __opts__["test"]:
            return ret | {"result": None, "changes": changes, "comment": "The rules would be loaded"}
        __salt__["firewall.load"](rules)
    except CommandExecutionError as error:
        return ret | {"result": False, "comment": str(error)}
    return ret | {"changes": changes, "comment": "The rules were loaded"}
