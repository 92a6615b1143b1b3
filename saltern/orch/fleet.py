"""What the master knows of its fleet, and what the hosts answer while an orchestration is made."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

# What `fleet_pillar` (saltern/site/compiled.py) gives; anything else in the pillar was typed by an operator.
KNOWN = ("fleet", "apps", "app_hosts", "ranks", "neighbours", "replaced_roles", "code")


@dataclass(frozen=True)
class Fleet:
    """The fleet, from the pillar that the master itself has.

    Args:
        roles: those of each host.
        ranks: the hosts with role minion, in the order in which they are applied.
        apps: their names.
        builder: the host that builds; None: there is none.
        web: hosts with role web.
        edges: hosts with role edge.
        running: those that run apps' code.
        servers: by host, those that it uses.
        clients: by host, those that use it.
        replaced: the roles of a host whose place another machine may take.
        code: the digest of Saltern's extensions, which a minion of today has as well.
    """

    roles: dict[str, list[str]]
    ranks: list[list[str]]
    apps: list[str]
    builder: str | None
    web: list[str]
    edges: list[str]
    running: list[str]
    servers: dict[str, list[str]]
    clients: dict[str, list[str]]
    replaced: list[str]
    code: str

    @property
    def minions(self) -> list[str]:
        """All hosts that the master orders about."""
        return [host for rank in self.ranks for host in rank]

    def in_ranks(self, hosts: Iterable[str]) -> list[list[str]]:
        """Return hosts in the order in which they are applied, those of one rank together.

        Args:
            hosts: their ids; those without role minion are left out.
        """
        wanted = {*hosts}
        found = [[host for host in rank if host in wanted] for rank in self.ranks]
        return [rank for rank in found if rank]


def read(pillar: Mapping[str, Any]) -> Fleet:
    """Return the fleet from the master's pillar.

    Args:
        pillar: the pillar.
    """
    hosts, near = pillar["app_hosts"], pillar["neighbours"]
    return Fleet(
        roles={host: list(entry["roles"]) for host, entry in pillar["fleet"]["hosts"].items()},
        ranks=[list(rank) for rank in pillar["ranks"]],
        apps=list(pillar["apps"]),
        builder=hosts["builder"],
        web=list(hosts["web"]),
        edges=list(hosts["edge"]),
        running=list(hosts["all"]),
        servers={host: list(entry["servers"]) for host, entry in near.items()},
        clients={host: list(entry["clients"]) for host, entry in near.items()},
        replaced=list(pillar["replaced_roles"]),
        code=pillar["code"],
    )


@dataclass(frozen=True)
class Answer:
    """What one host answered.

    Args:
        good: it answered, and its function did not fail.
        ret: the answer; None when there is none.
    """

    good: bool = False
    ret: Any = None

    @property
    def table(self) -> dict[Any, Any] | None:
        """The answer where it is a good one and a mapping: hosts say what they like."""
        return dict(self.ret) if self.good and isinstance(self.ret, Mapping) else None


class Hosts:
    """The hosts, as the master asks them.

    Args:
        salt: the execution functions that Salt gives to what it renders.
    """

    def __init__(self, salt: Mapping[str, Callable[..., Any]]):
        self._salt = salt

    def ask(self, hosts: list[str], function: str, *arguments: Any, **named: Any) -> dict[str, Answer]:
        """Return what each of these hosts answers; also for one that does not.

        Args:
            hosts: their ids; none, and nobody is asked.
            function: the execution function.
            arguments: what it is given.
            named: what it is given by name.
        """
        if not hosts:
            return {}
        given: dict[str, Any] = {"arg": list(arguments)} if arguments else {}
        given |= {"kwarg": named} if named else {}
        said = self._salt["saltutil.cmd"](hosts, function, tgt_type="list", **given)
        return {host: _answer(said.get(host)) for host in hosts}

    def up(self, hosts: list[str]) -> list[str]:
        """Return those of these hosts that answer their master now.

        Args:
            hosts: their ids.
        """
        there = self._salt["saltutil.runner"]("manage.up", tgt=hosts, tgt_type="list") if hosts else []
        return [host for host in hosts if host in there]


def _answer(said: Any) -> Answer:
    if not isinstance(said, Mapping):
        return Answer()
    return Answer(said.get("retcode", 1) == 0, said.get("ret"))
