"""Who may reach what: one table, from which each host's firewall, its daemons and their clients are all told.

What is not in it is closed. A host always reaches itself.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from .apps import App
from .role import ANYONE, APPS, Offer
from .roles import ALL, APP_ROLES, Settings
from .site import Site

SSH_PORT = 22


@dataclass(frozen=True)
class Service:
    """Something that hosts of one role offer on a TCP port, as the role's file says.

    Args:
        name: what the table calls it.
        role: the role of the hosts that offer it.
        port: its port by the site's settings.
        clients: the roles whose hosts may use it, or `ANYONE`.
        why: what for, for people.
        only_for_apps: a site without apps has no need of it.
        called_by_apps: which apps' own code calls it, besides what Saltern runs on their hosts; None: no app's.
    """

    name: str
    role: str
    port: Callable[[Settings], int]
    clients: tuple[str, ...]
    why: str
    only_for_apps: bool
    called_by_apps: Callable[[App], bool] | None


def _service(role: str, offer: Offer) -> Service:
    def port(settings: Settings) -> int:
        return offer.port if isinstance(offer.port, int) else int(getattr(getattr(settings, role), offer.port))

    clients = tuple(one for name in offer.clients for one in (APP_ROLES if name == APPS else (name,)))
    return Service(offer.name, role, port, clients, offer.why, offer.only_for_apps, offer.called_by_apps)


SERVICES = tuple(_service(name, offer) for name, role in ALL.items() for offer in role.offers)


@dataclass(frozen=True)
class Link:
    """One host may reach one port of another."""

    client: str
    server: str
    service: str
    port: int
    why: str


def links(site: Site, only_needed: bool = True) -> list[Link]:
    """Return every link between two hosts of the fleet, or from anyone to a host.

    Args:
        site: the site.
        only_needed: leave out what no app calls now.

    Example:
        >>> from saltern.site.load import load_site
        >>> site = load_site("lab/fleets/ha")
        >>> [link.client for link in links(site) if link.service == "pages"]
        ['edge1', 'edge2', 'edge1', 'edge2']
    """
    return [
        Link(client, server, service.name, service.port(site.settings), service.why)
        for service in SERVICES
        if not only_needed or _is_needed(site, service)
        for server in site.fleet.with_role(service.role)
        for client in _clients(site, service)
        if client != server
    ] + _copies(site)


def _is_needed(site: Site, service: Service) -> bool:
    """Return whether there is an app that calls the service."""
    if service.called_by_apps is not None:
        return any(service.called_by_apps(app) for app in site.apps.values())
    return bool(site.apps) or not service.only_for_apps


def _copies(site: Site) -> list[Link]:
    """Return the links of replicas, which read all that their primary writes; apps are none of their business."""
    port = site.settings.postgres.port
    named = [(replica, str(site.fleet.hosts[replica].replica_of)) for replica in site.fleet.replicas]
    return [Link(replica, primary, "copies", port, "its replicas") for replica, primary in named]


def _clients(site: Site, service: Service) -> list[str]:
    if ANYONE in service.clients:
        return [ANYONE]
    return site.fleet.with_role(*service.clients)


def clients_of(site: Site, server: str, service: str, only_needed: bool = True) -> list[str]:
    """Return the ids of the other hosts that may use a service of a host, sorted.

    Args:
        site: the site.
        server: the host's id.
        service: a name of the table.
        only_needed: as for `links`.
    """
    return [link.client for link in links(site, only_needed) if (link.server, link.service) == (server, service)]


def called_by(site: Site, host: str, app: App) -> list[tuple[str, Service]]:
    """Return what an app's code calls from a host: the id of the server, itself maybe, and the service.

    Args:
        site: the site.
        host: the id of a host that runs apps.
        app: the app.
    """
    return [
        (server, service)
        for service in SERVICES
        if service.called_by_apps is not None and service.called_by_apps(app)
        if set(service.clients) & set(site.fleet.hosts[host].roles)
        for server in site.fleet.with_role(service.role)
    ]


def for_anyone(site: Site) -> dict[str, set[int]]:
    """Return the fleet's addresses on which some ports are open to everybody, and those ports.

    Args:
        site: the site.
    """
    found: dict[str, set[int]] = {}
    for link in links(site):
        if link.client == ANYONE:
            for address in site.fleet.addresses(link.server):
                found.setdefault(address, set()).add(link.port)
            if site.fleet.virtual_address and "edge" in site.fleet.hosts[link.server].roles:
                found.setdefault(site.fleet.virtual_address, set()).add(link.port)
    return found


def neighbours(site: Site) -> dict[str, dict[str, list[str]]]:
    """Return, for each host, the hosts that it uses (`servers`) and those that use it (`clients`), sorted.

    Edges with a shared address speak to each other, so each is a server of the others.

    Args:
        site: the site.
    """
    pairs = {(link.client, link.server) for link in links(site) if link.client != ANYONE}
    if site.fleet.virtual_address:
        edges = site.fleet.with_role("edge")
        pairs |= {(one, other) for one in edges for other in edges if one != other}
    return {
        host: {
            "servers": sorted(server for client, server in pairs if client == host),
            "clients": sorted(client for client, server in pairs if server == host),
        }
        for host in sorted(site.fleet.hosts)
    }


def open_ports(site: Site, host: str) -> list[dict[str, Any]]:
    """Return what a host's firewall lets in.

    Args:
        site: the site.
        host: the host's id.

    Returns:
        `port`, `sources` (addresses or networks; empty means anyone) and `why` of each open port, sorted by port.
    """
    addresses = {name: entry.address for name, entry in site.fleet.hosts.items()}
    found: dict[int, dict[str, Any]] = {}
    for link in links(site):
        if link.server == host:
            entry = found.setdefault(link.port, {"port": link.port, "sources": [], "why": link.why})
            known = link.client == ANYONE or addresses[link.client] in entry["sources"]
            entry["sources"] += [] if known else [addresses[link.client]]
    ssh = {"port": SSH_PORT, "sources": site.settings.base.ssh_from or [], "why": "people and salt-ssh"}
    return sorted([ssh, *found.values()], key=lambda entry: int(entry["port"]))
