"""orch.maintenance: a web host leaves the edges, ends its last request, is worked on, and comes back."""

from __future__ import annotations

from typing import Any

from . import arguments
from .fleet import Fleet, Hosts
from .steps import Steps, applied, called, started

TAKES = ("host", "reboot")
# In two seconds: it must answer first, and whoever waits for its return must wait already.
REBOOT = "systemd-run --quiet --on-active=2s --timer-property=AccuracySec=100ms systemctl reboot"


def steps(fleet: Fleet, told: dict[str, Any], hosts: Hosts) -> Steps:
    """Return the steps; where its states fail the host stays out.

    Args:
        fleet: the fleet.
        told: `host`; `reboot`: true, or `due` for only if an update has asked for it.
        hosts: the host is asked whether a reboot is due, the edges whether it was out before.

    Raises:
        Refused: there is no such web host, or it does not say whether a reboot is due.
    """
    host = arguments.host(told, fleet.web, "a web host")
    found = Steps()
    found.then("out of the edges", called("edge.take_out", fleet.edges, host))
    if _reboots(host, told.get("reboot", False), hosts):
        found.then("reboot", called("cmd.run", [host], REBOOT))
        found.then("back from the reboot", started([host], seconds=300))
    found.then(f"states of {host}", applied([host]))
    found.then("in the edges again", called("edge.bring_in", fleet.edges, host))
    out = hosts.ask(fleet.edges, "edge.out")
    if not any(host in (answer.ret or []) for answer in out.values()):
        # An edge that had no other host to send requests to refused, and the others must not go on without this one.
        back = called("edge.bring_in", fleet.edges, host, expected=False)
        found.when_failed("nothing was done", back, "out of the edges")
    return found


def _reboots(host: str, wanted: Any, hosts: Hosts) -> bool:
    """Tell whether it is rebooted. A host that does not answer is not taken for one that needs nothing."""
    if wanted != "due":
        if not isinstance(wanted, bool):
            raise arguments.Refused(f"reboot: {wanted!r} is none; allowed: true, false, due")
        return wanted
    said = hosts.ask([host], "updates.reboot_due")[host]
    if not said.good or not isinstance(said.ret, str):
        raise arguments.Refused(f"{host} does not say whether a reboot is due")
    return bool(said.ret)
