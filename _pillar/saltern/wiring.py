"""Which host may reach which, and where: the only place where hosts' relations are worked out. Pure functions.

Firewall, pg_hba, proxies and the apps' environment all read the result, so they cannot disagree.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import quote

if TYPE_CHECKING:
    from .load import Site
    from .secretfile import Secrets

LOOPBACK = "127.0.0.1"
CA_FILE = "/etc/saltern/tls/ca.crt"


class WiringError(Exception):
    """A relation without the host it needs; the rules of the site make sure that this cannot happen."""


def with_role(site: Site, role: str) -> list[str]:
    """Answers the ids of the hosts that have a role, sorted."""
    return sorted(name for name, host in site.fleet.hosts.items() if role in host.roles)


def only(site: Site, role: str) -> str:
    """Answers the id of the one host that has a role.

    Raises:
        WiringError: no host has it, or more than one. It fails closed: an empty list would open or break things.
    """
    hosts = with_role(site, role)
    if len(hosts) != 1:
        raise WiringError(f"role {role} is needed on one host, and is on {len(hosts)}: {', '.join(hosts) or 'none'}")
    return hosts[0]


def app_hosts(site: Site) -> list[str]:
    """Answers the ids of the hosts on which apps' code runs, sorted: those that need databases and caches."""
    return sorted({*with_role(site, "web"), *with_role(site, "worker")})


def address_seen(site: Site, client: str, server: str) -> str:
    """Answers the address by which a client reaches a server: loopback on the same host."""
    return LOOPBACK if client == server else site.fleet.hosts[server].address


def web_listen(site: Site, web: str) -> str:
    """Answers the one address nginx listens on: loopback when every edge is this very host, else the host's own."""
    edges = with_role(site, "edge")
    return LOOPBACK if not edges or edges == [web] else site.fleet.hosts[web].address


def _server_listen(site: Site, server: str) -> list[str]:
    """Loopback, and the host's address only when a client is elsewhere."""
    remote = bool(site.apps) and any(host != server for host in app_hosts(site))
    return [LOOPBACK, site.fleet.hosts[server].address] if remote else [LOOPBACK]


def postgres(site: Site, host: str) -> dict[str, Any]:
    """Answers where Postgres listens and each client it lets in: app, database, user, address (CIDR)."""
    clients = [
        {
            "app": name,
            "database": app.database,
            "user": app.database,
            "address": f"{address_seen(site, host, client)}/32",
        }
        for name, app in sorted(site.apps.items())
        for client in app_hosts(site)
    ]
    return {"listen": _server_listen(site, host), "clients": clients}


def redis(site: Site, host: str) -> dict[str, Any]:
    """Answers where Redis listens."""
    return {"listen": _server_listen(site, host)}


def web(site: Site, host: str) -> dict[str, Any]:
    """Answers where nginx listens, and the addresses its requests may come from.

    An edge on the same host comes from the host's own address as soon as nginx listens there and not on loopback.
    """
    listen = web_listen(site, host)
    edges = with_role(site, "edge")
    sources = [LOOPBACK] if listen == LOOPBACK else [site.fleet.hosts[edge].address for edge in edges]
    return {"listen": listen, "edges": sources if edges else []}


def worker(site: Site, host: str) -> dict[str, Any]:
    """Answers whether this host runs what may run only once: beat, single processes, timers.

    It is the first of the workers by id, on every host alike and whatever runs now.
    """
    return {"single": with_role(site, "worker")[0] == host}


def edge(site: Site, host: str) -> dict[str, Any]:
    """Answers the web hosts that the edge sends requests to."""
    port = site.settings.web.port
    return {"webs": [{"host": web, "address": web_listen(site, web), "port": port} for web in with_role(site, "web")]}


def environment(site: Site, host: str, name: str, secrets: Secrets) -> dict[str, str]:
    """Answers the whole environment of an app on one host, but for what each release adds.

    Args:
        site: the site.
        host: the host with role web or worker that it runs on.
        name: the app.
        secrets: the host's secrets.

    Returns:
        Variables by name: those of the app's file and its secret ones, then Saltern's own.
    """
    app, keys = site.apps[name], secrets.apps[name]
    if keys.secret_key is None or secrets.redis_password is None:
        raise WiringError(f"the secrets of app {name} on {host} are not complete")
    database, cache = only(site, "postgres"), only(site, "redis")
    database_port, cache_port = site.settings.postgres.port, site.settings.redis.port
    https_port = site.settings.edge.https_port
    origin_port = "" if https_port == 443 else f":{https_port}"
    user, password = quote(str(app.database), safe=""), quote(keys.database_password, safe="")
    cache_password = quote(secrets.redis_password, safe="")
    # The name is what TLS verifies; the address spares a look-up, and a resolver cannot send the app elsewhere.
    database_url = (
        f"postgres://{user}:{password}@{database}.{site.fleet.domain}:{database_port}/{app.database}"
        f"?hostaddr={address_seen(site, host, database)}&sslmode=verify-full&sslrootcert={CA_FILE}"
    )
    return {
        **app.env,
        **keys.env,
        "DATABASE_URL": database_url,
        "CACHE_URL": f"redis://:{cache_password}@{address_seen(site, host, cache)}:{cache_port}/0",
        "BROKER_URL": f"redis://:{cache_password}@{address_seen(site, host, cache)}:{cache_port}/{app.broker_database}",
        "SECRET_KEY": keys.secret_key,
        "ALLOWED_HOSTS": ",".join(app.hostnames),
        "CSRF_TRUSTED_ORIGINS": ",".join(f"https://{hostname}{origin_port}" for hostname in app.hostnames),
        "DJANGO_SETTINGS_MODULE": str(app.settings_module),
    }


def wiring(site: Site, host: str, secrets: Secrets) -> dict[str, Any]:
    """Answers the section `wiring` of one host's pillar: a part for each of its roles that has relations.

    Args:
        site: the site.
        host: the host's id.
        secrets: the host's secrets.
    """
    parts = {"postgres": postgres, "redis": redis, "web": web, "worker": worker, "edge": edge}
    roles = site.fleet.hosts[host].roles
    result: dict[str, Any] = {role: part(site, host) for role, part in parts.items() if role in roles}
    if {"web", "worker"} & set(roles):
        result["apps"] = {name: {"environment": environment(site, host, name, secrets)} for name in sorted(site.apps)}
    return result
