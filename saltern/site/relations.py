"""How hosts stand to each other: which one has a role, where it is reached, who uses it. Pure functions."""

from __future__ import annotations

from .links import clients_of
from .site import Site

LOOPBACK = "127.0.0.1"


class WiringError(Exception):
    """A relation without the host it needs; the rules of the site make sure that this cannot happen."""


def only(site: Site, role: str) -> str:
    """Return the id of the one host that has a role; of Postgres, the primary, for its replicas only copy it.

    Raises:
        WiringError: no host has it, or more than one. It fails closed: an empty list would open or break things.
    """
    hosts = [host for host in site.fleet.with_role(role) if role != "postgres" or host not in site.fleet.replicas]
    if len(hosts) != 1:
        raise WiringError(f"role {role} is needed on one host, and is on {len(hosts)}: {', '.join(hosts) or 'none'}")
    return hosts[0]


def address_seen(site: Site, client: str, server: str) -> str:
    """Return the address by which a client reaches a server: loopback on the same host."""
    return LOOPBACK if client == server else site.fleet.hosts[server].address


def full_name(site: Site, host: str) -> str:
    """Return the name by which a host's certificate is checked."""
    return f"{host}.{site.fleet.domain}"


def web_listen(site: Site, web: str) -> str:
    """Return the one address nginx listens on: the host's own when an edge is elsewhere, else loopback."""
    return site.fleet.hosts[web].address if clients_of(site, web, "pages") else LOOPBACK


def server_listen(site: Site, server: str, *services: str, only_needed: bool = True) -> list[str]:
    """Loopback, and the host's address only when a client is elsewhere."""
    remote = any(clients_of(site, server, service, only_needed) for service in services)
    return [LOOPBACK, site.fleet.hosts[server].address] if remote else [LOOPBACK]


def users(site: Site, server: str, service: str, *roles: str) -> list[str]:
    """Return the ids of the hosts with one of the roles that use a service of a server, itself among them, sorted."""
    users = [*clients_of(site, server, service), server]
    return [name for name in site.fleet.with_role(*roles) if name in users]


def peers(site: Site, host: str) -> list[str]:
    """Return the addresses of the other hosts with role edge."""
    return [site.fleet.hosts[peer].address for peer in site.fleet.with_role("edge") if peer != host]


def together(site: Site) -> bool:
    """Return whether a release is given to all hosts with apps at once, by the master, or by each host's own apply."""
    return bool(site.fleet.with_role("master")) and len(site.fleet.running_apps) > 1
