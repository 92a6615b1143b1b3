"""orch.add_host: a new host comes into the fleet."""

from __future__ import annotations

from typing import Any

from . import arguments
from .fleet import Fleet, Hosts
from .joining import joining
from .steps import Steps

TAKES = ("host",)


def steps(fleet: Fleet, told: dict[str, Any], hosts: Hosts) -> Steps:
    """Return the steps by which it joins.

    Args:
        fleet: the fleet, which has it.
        told: `host`.
        hosts: nobody is asked.

    Raises:
        Refused: the fleet has no such host with role minion.
    """
    return joining(fleet, arguments.host(told, fleet.minions, "a host of the fleet with role minion"))
