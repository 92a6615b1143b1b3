"""What orch.add_host and orch.replace_host have in common."""

from __future__ import annotations

from .fleet import Fleet
from .steps import Steps, applied, called, failed


def joining(fleet: Fleet, host: str) -> Steps:
    """Return the steps by which a host comes into the fleet.

    The edges leave it out, the hosts that it uses let it in, it gets its own states, those that use it learn of it, and
    only then the edges send requests.

    Args:
        fleet: the fleet.
        host: its id.
    """
    servers, clients = fleet.servers[host], fleet.clients[host]
    behind_edges = host in fleet.web and bool(fleet.edges)
    answers = f"{host} answers"
    found = Steps()
    if behind_edges:
        found.then("out of the edges", called("edge.take_out", fleet.edges, host, may_be_unknown=True))
    for rank in fleet.in_ranks(servers):
        found.then(f"{', '.join(rank)} let it in", applied(rank))
    found.then(answers, called("test.ping", [host], retry=12))
    found.then(f"states of {host}", applied([host]))
    for rank in fleet.in_ranks({*clients} - {*servers}):
        found.then(f"{', '.join(rank)} use it", applied(rank))
    if behind_edges:
        found.then("in the edges", called("edge.bring_in", fleet.edges, host))
    why = f"{host} does not answer: has it been told its master, and has the master its key? docs/servers.md says how"
    found.when_failed(why, failed(), answers)
    return found
