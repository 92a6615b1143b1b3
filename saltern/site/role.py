"""What a role is to the site: its file in roles/ says it, and everything else is derived from that."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from .apps import App
from .model import Model

# Who may be the client of an offer, besides hosts with a role: everybody, the fleet's hosts or not,
ANYONE = "anyone"
# and hosts that run apps' code.
APPS = "apps"


@dataclass(frozen=True)
class Offer:
    """Something that hosts of a role offer on a TCP port.

    Args:
        name: what the table of links calls it.
        port: the role's setting with the port, or a port that cannot be changed.
        clients: the roles whose hosts may use it, or `APPS`, or `ANYONE`.
        why: what for, for people.
        only_for_apps: a site without apps has no need of it.
        called_by_apps: which apps' own code calls it, besides what Saltern runs on their hosts; None: no app's.
    """

    name: str
    port: str | int
    clients: tuple[str, ...]
    why: str
    only_for_apps: bool = True
    called_by_apps: Callable[[App], bool] | None = None


@dataclass(frozen=True)
class Role:
    """One role.

    Args:
        settings: the model of its settings; the defaults are in pillar/<role>.sls.
        place: where it stands among others in lists, and on a host that is applied; absent roles go the other way.
        stops: it keeps something running, and has salt/<role>/absent.sls for a host that the fleet took it from.
        rank: when its hosts are applied among others, from 0: hosts of one rank at the same time. None: last.
        runs_apps: its hosts run apps' code.
        one_only: one host may have it.
        needed_by_apps: a site with apps needs a host with it.
        needed_for: what an app may ask for in its file that needs such a host.
        everywhere: every host has it, or all under a master: it says nothing of what may be away at the same time.
        replaced: another machine may take the place of a host that has only such roles: it holds no data.
        offers: what it has on the network, and for whom.
        secrets: sections of the host's secrets that it needs, where there are apps.
        app_secrets: keys of each app that it needs.
        compares: kinds of secrets (overlap.py) that it compares with what it is given, so that it is applied first.
        uses: kinds of secrets that something on its hosts may still use when they were replaced.
    """

    settings: type[Model]
    place: int
    stops: bool = False
    rank: int | None = None
    runs_apps: bool = False
    one_only: bool = False
    needed_by_apps: bool = False
    needed_for: tuple[str, ...] = ()
    everywhere: bool = False
    replaced: bool = False
    offers: tuple[Offer, ...] = ()
    secrets: tuple[str, ...] = ()
    app_secrets: tuple[str, ...] = ()
    compares: tuple[str, ...] = ()
    uses: tuple[str, ...] = ()
