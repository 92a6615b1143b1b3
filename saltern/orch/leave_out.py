"""orch.leave_out: the edges send no more requests to the web hosts that do not answer the master now."""

from __future__ import annotations

from typing import Any

from .fleet import Fleet, Hosts
from .steps import Steps, called

TAKES = ("app",)


def steps(fleet: Fleet, told: dict[str, Any], hosts: Hosts) -> Steps:
    """Return a step for each of those.

    Args:
        fleet: the fleet.
        told: `app`, for the record.
        hosts: the web hosts are asked whether they answer.
    """
    found, there = Steps(), hosts.up(fleet.web)
    for host in fleet.web:
        if host not in there:
            found.alone(f"{host} is left out", called("edge.take_out", fleet.edges, host))
    if not found.named:
        found.say("all web hosts answer")
    return found
