"""What a database server is told of the others: its clients, its replicas, its primary."""

from __future__ import annotations

from typing import Any

from .. import sessions
from ..names import REPLICATION_ROLE, login_of, owner_of, slot_of, valid_logins
from ..relations import address_seen, server_listen, users
from ..roles import APP_ROLES
from ..secretfile import AppSecrets, Secrets
from ..site import Site


def told(site: Site, host: str, secrets: Secrets) -> dict[str, Any]:
    """Return where Postgres listens, each client it lets in, and who copies from whom.

    A client has app, database, user, owner, address (CIDR) and, for user and owner, which roles may log in for it, how
    many sessions they may have and what these begin with. A replica lets the same apps in as its primary: to read, and
    for the day on which it is one.
    """
    needs = sessions.needs(site)
    clients = [
        {
            "app": name,
            "database": app.database,
            "user": app.database,
            "owner": owner_of(str(app.database)),
            "limits": {"user": needs[name].user, "owner": needs[name].migrations},
            "settings": sessions.as_settings(app),
            "logins": _logins(str(app.database), secrets.apps[name]),
            "migrates": "web" in site.fleet.hosts[client].roles,
            "address": f"{address_seen(site, host, client)}/32",
        }
        for name, app in sorted(site.apps.items())
        for client in users(site, host, "postgres", *APP_ROLES)
    ]
    return {"listen": server_listen(site, host, "postgres", "copies"), "clients": clients} | {
        "connections": sessions.total(site),
        **replication(site, host, secrets),
    }


def replication(site: Site, host: str, secrets: Secrets) -> dict[str, Any]:
    """Return who copies from whom: the replicas of this host, and its primary when it is one itself.

    This is what decides which server is the primary; everything else follows from it.

    Args:
        site: the site.
        host: a host with role postgres.
        secrets: the host's secrets, which say who logs in.

    Returns:
        `{"replicas": [{host, slot, address (CIDR), logins}],
        "primary": None or {host, name, address, port, slot, user}}`.
    """
    hosts, named = site.fleet.hosts, site.fleet.hosts[host].replica_of
    slot, previous = secrets.logins.replication, secrets.previous.replication_password
    logins = valid_logins(REPLICATION_ROLE, slot, previous)
    replicas = [
        {"host": name, "slot": slot_of(name), "address": f"{hosts[name].address}/32", "logins": logins}
        for name in site.fleet.replicas
        if hosts[name].replica_of == host
    ]
    primary = None
    if named is not None:
        primary = {
            "host": named,
            "name": f"{named}.{site.fleet.domain}",
            "address": hosts[named].address,
            "port": site.settings.postgres.port,
            "slot": slot_of(host),
            "user": login_of(REPLICATION_ROLE, slot),
        }
    return {"replicas": replicas, "primary": primary}


def _logins(database: str, keys: AppSecrets) -> dict[str, list[str]]:
    return {
        "user": valid_logins(database, keys.logins.database, keys.previous.database_password),
        "owner": valid_logins(owner_of(database), keys.logins.owner, keys.previous.owner_password),
    }
