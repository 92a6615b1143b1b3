"""orch.replace_host: another machine in the place of a web host or a worker, under the same id."""

from __future__ import annotations

from typing import Any

from . import arguments
from .fleet import Fleet, Hosts
from .joining import joining
from .steps import Steps

TAKES = ("host",)


def steps(fleet: Fleet, told: dict[str, Any], hosts: Hosts) -> Steps:
    """Return the steps by which the new machine joins.

    Args:
        fleet: the fleet.
        told: `host`.
        hosts: nobody is asked.

    Raises:
        Refused: the fleet has no such host with role minion, or it has other roles.
    """
    host = arguments.host(told, fleet.minions, "a host of the fleet with role minion")
    # Hosts of other roles hold data, or are what all others depend on.
    if other := [role for role in fleet.roles[host] if role not in fleet.replaced]:
        text = f"{host} has role {', '.join(other)}; orch.replace_host is for hosts that have only web or worker"
        raise arguments.Refused(text)
    return joining(fleet, host)
