"""orch.remove_host: a host leaves the fleet, when it is not in fleet.yaml any more but runs still, or is gone."""

from __future__ import annotations

import re
from typing import Any

from .arguments import Refused
from .fleet import Fleet, Hosts
from .steps import Steps, applied, called, orchestrated, wheel

TAKES = ("host",)


def steps(fleet: Fleet, told: dict[str, Any], hosts: Hosts) -> Steps:
    """Return the steps by which a host's work ends, all others forget it, and at last the master its key.

    Args:
        fleet: the fleet, which has it no more.
        told: `host`.
        hosts: the host is asked whether it still runs.

    Raises:
        Refused: it is not named, or is in the fleet.
    """
    host = told.get("host")
    if not isinstance(host, str) or not re.fullmatch("[a-z0-9-]+", host):
        raise Refused("""name the host: pillar='{"host": "..."}'""")
    if host in fleet.roles:
        raise Refused(f"{host} is in site/fleet.yaml: take it out there first")
    found = Steps()
    if fleet.edges:
        found.then("out of the edges", called("edge.take_out", fleet.edges, host, may_be_unknown=True))
    if hosts.up([host]):
        found.then("it is no edge any more", called("edge.leave", [host]))
        found.then("its apps stop", called("processes.remove_all", [host]))
    # The edges first: they are the only ones that look for it.
    for rank in reversed(fleet.ranks):
        found.then(f"{', '.join(rank)} forget it", applied(rank))
    if fleet.edges:
        found.then("nothing is left of it in the edges", called("edge.forget", fleet.edges, host))
    found.then("what nobody needs any more", orchestrated("settle"))
    found.then("nothing is granted to it", called("needs.forgotten", fleet.minions))
    found.then("its key is deleted", wheel("key.delete_dict", match={"minions": [host]}))
    return found
