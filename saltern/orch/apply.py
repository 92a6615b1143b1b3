"""orch.apply: the whole fleet, or some of its hosts, in the order in which they need each other."""

from __future__ import annotations

from typing import Any

from .arguments import Refused, flag
from .fleet import Fleet, Hosts
from .steps import Steps, applied, orchestrated

TAKES = ("hosts", "plan")


def steps(fleet: Fleet, told: dict[str, Any], hosts: Hosts) -> Steps:
    """Return a step for each rank, and at last what nobody needs any more.

    Args:
        fleet: the fleet.
        told: `hosts`, some of them; `plan`: only say what would change.
        hosts: nobody is asked.

    Raises:
        Refused: a host is not in the fleet, or no minion.
    """
    only, plan = told.get("hosts") or fleet.minions, flag(told, "plan")
    if not isinstance(only, list):
        raise Refused(f"hosts: {only!r} is no list; such as [{fleet.minions[0]}]")
    if others := [str(host) for host in only if host not in fleet.minions]:
        raise Refused(f"none of these hosts has role minion: {', '.join(others)}")
    found = Steps()
    for rank in fleet.in_ranks(only):
        found.then(", ".join(rank), applied(rank, test=plan))
    if not plan:
        found.then("what nobody needs any more", orchestrated("settle"))
    return found
