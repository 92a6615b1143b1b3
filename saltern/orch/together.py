"""What orch.deploy and orch.rollback have in common: on every host of the app, one step after the other."""

from __future__ import annotations

from typing import Any

from .fleet import Fleet, Hosts
from .steps import Steps, called, orchestrated


def together(
    fleet: Fleet, hosts: Hosts, app: str, propose: str, install: str, migrates: bool = False, asks: bool = False
) -> Steps:
    """Return the steps of a release on all hosts of an app at once, or on none of them.

    Args:
        fleet: the fleet.
        hosts: whom to ask.
        app: its name.
        propose: the builder's function that names the candidate.
        install: the hosts' function that makes it ready.
        migrates: whether the database is migrated.
        asks: whether the builder is told what the hosts serve.
    """
    builder = [fleet.builder] if fleet.builder else []
    everyone = list(dict.fromkeys([*fleet.running, *fleet.edges, *builder]))
    behind = with_other_code(fleet, hosts, everyone)
    served = [_served(fleet, hosts, app, behind)] if asks else []
    found = Steps()
    for name, function, targets, arguments in (
        ("code is brought", "saltutil.sync_all", behind, []),
        ("settings are brought", "saltutil.refresh_pillar", everyone, []),
        ("proposed", propose, builder, [app, *served]),
        ("installed", install, fleet.running, [app]),
        ("migrated", "fleet.migrate", fleet.web[:1] if migrates else [], [app]),
        ("migrated for all", "fleet.migrate", fleet.web[1:] if migrates else [], [app]),
        ("started", "fleet.start", fleet.running, [app]),
        ("switched", "fleet.switch", fleet.running, [app]),
        ("seen by the edges", "edge.sees", fleet.edges, [app]),
        # The one moment that decides: from here on, a host that was away learns that it belongs to the new release.
        ("in force", "builder.accept", builder, [app]),
        ("the old one is stopped", "fleet.confirm", fleet.running, [app]),
    ):
        waits: dict[str, Any] = {"wait": True} if function == "saltutil.refresh_pillar" else {}
        if targets:
            found.then(name, called(function, targets, *arguments, **waits))
    switching = found.done[found.done.index("installed") : -2]
    found.then("what nobody needs any more", orchestrated("settle"))
    # Not when "in force" failed: its answer may have been lost. All hosts have switched by then, and the same command
    # again goes on from there.
    found.when_failed("every host is put back", called("fleet.revert", fleet.running, app), *switching)
    # A host that did not answer may serve anything when it comes back: the edges leave it out until it was applied.
    leave_out = orchestrated("leave_out", {"app": app})
    found.when_failed("who does not answer is left out", leave_out, "every host is put back")
    return found


def with_other_code(fleet: Fleet, hosts: Hosts, among: list[str]) -> list[str]:
    """Return the hosts that have not the extensions of the master, or do not say so.

    Args:
        fleet: the fleet.
        hosts: whom to ask.
        among: the hosts in question.
    """
    told = hosts.ask(among, "code.digest")
    return [host for host in among if told[host].ret != fleet.code]


def _served(fleet: Fleet, hosts: Hosts, app: str, behind: list[str]) -> dict[str, Any]:
    """Return what each host says that it serves; None for one that does not answer well."""
    hosts.ask(behind, "saltutil.sync_all")
    answers = hosts.ask(fleet.running, "fleet.serves", app)
    return {host: answer.ret if answer.good else None for host, answer in answers.items()}
