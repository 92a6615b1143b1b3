"""What every host is told of the others: whom its firewall lets in and out, and when its window for updates is."""

from __future__ import annotations

from typing import Any

from .. import redisclients, sessions
from ..egress import CLOSED_TO_BUILDS, METADATA, NOT_PUBLIC, parts
from ..links import SERVICES, SSH_PORT, called_by, for_anyone, open_ports
from ..relations import address_seen, peers
from ..roles import APP_ROLES
from ..secretfile import Secrets
from ..site import Site
from ..windows import calendar, slots

NO_BUILDS: dict[str, list[Any]] = {"apps": [], "ports": [], "private": [], "closed": []}


def told(site: Site, host: str, secrets: Secrets) -> dict[str, Any]:
    """Return what the host's firewall lets in (ports, and the edges with which it shares an address) and out, and when
    its window for updates begins.
    """
    shared = bool(site.fleet.virtual_address) and "edge" in site.fleet.hosts[host].roles
    return {
        "open_ports": open_ports(site, host),
        "vrrp_from": peers(site, host) if shared else [],
        "egress": egress(site, host),
        "window": window(site, host),
    }


def egress(site: Site, host: str) -> dict[str, Any]:
    """Return what the host's firewall lets out, by whose process it is.

    Args:
        site: the site.
        host: the host's id.

    Returns:
        `callers`: for each app, the accounts that its code runs as, the `links` of the fleet that it calls, and what
        its file opens, by the place among the rules (egress.py). `fleet`, `metadata` and `not_public`: what is closed
        to all of them but for that. `builds`: the `apps` that are fetched here, as users of their own, the `ports` of
        the fleet's daemons on this host, what is `closed` to them, and what is open of that (`private`). All is empty
        on a host that neither runs nor builds apps.
    """
    roles = site.fleet.hosts[host].roles
    if not site.apps or not {*roles} & {*APP_ROLES, "builder"}:
        return {"callers": [], "builds": NO_BUILDS, "fleet": [], "metadata": [], "not_public": []}
    runs = host in site.fleet.running_apps
    anyone = for_anyone(site)
    # Each service that apps call has its bound: who only connects takes a place as well.
    most = {server: redisclients.most(site, server) for server in redisclients.SERVERS}
    most["postgres"] = {(host, name): sessions.most(site, host, name) for name in site.apps if runs}
    reached = {
        name: [
            {
                "to": address_seen(site, host, server),
                "ports": [service.port(site.settings)],
                "protocol": "tcp",
                "most": most[service.name][host, name],
            }
            for server, service in called_by(site, host, app)
        ]
        for name, app in site.apps.items()
        if runs
    }
    shared = [site.fleet.virtual_address] if site.fleet.virtual_address else []
    return {
        "callers": [
            {"name": name, "users": [str(app.user)], "links": reached[name], **parts(app.egress, anyone)}
            for name, app in sorted(site.apps.items())
            if runs
        ],
        "builds": {
            "apps": sorted(site.apps) if "builder" in roles else [],
            "ports": sorted({SSH_PORT, *(s.port(site.settings) for s in SERVICES if s.role in roles)}),
            "private": site.settings.builder.fetch_from if "builder" in roles else [],
            "closed": list(CLOSED_TO_BUILDS) if "builder" in roles else [],
        },
        "fleet": sorted({address for name in site.fleet.hosts for address in site.fleet.addresses(name)} | {*shared}),
        "metadata": list(METADATA),
        "not_public": list(NOT_PUBLIC),
    }


def window(site: Site, host: str) -> str:
    """Return when a host's window for updates begins, as systemd's OnCalendar; that of no other host of its roles."""
    updates = site.settings.base.updates
    slot = slots({name: entry.roles for name, entry in site.fleet.hosts.items()})[host]
    return calendar(updates.days, updates.start, updates.minutes, slot)
