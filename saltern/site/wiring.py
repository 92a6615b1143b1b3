"""Which host may reach which, and where: the only place where hosts' relations are worked out. Pure functions.

Firewall, pg_hba, proxies and the apps' environment all read the result, so they cannot disagree.
"""

from __future__ import annotations

import hashlib
from typing import Any
from urllib.parse import quote

from . import redisclients, sessions
from .egress import CLOSED_TO_BUILDS, METADATA, NOT_PUBLIC, parts
from .layout import APP_ROLES, REPOSITORY, common_name
from .links import SERVICES, SSH_PORT, called_by, clients_of, for_anyone, open_ports
from .placeholders import fill
from .secretfile import AppSecrets, Secrets
from .site import Site
from .windows import calendar, slots

LOOPBACK = "127.0.0.1"
CA_FILE = "/etc/saltern/tls/ca.crt"
NO_BUILDS: dict[str, list[Any]] = {"apps": [], "ports": [], "private": [], "closed": []}


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


def _full_name(site: Site, host: str) -> str:
    """Return the name by which a host's certificate is checked."""
    return f"{host}.{site.fleet.domain}"


def web_listen(site: Site, web: str) -> str:
    """Return the one address nginx listens on: the host's own when an edge is elsewhere, else loopback."""
    return site.fleet.hosts[web].address if clients_of(site, web, "pages") else LOOPBACK


def _server_listen(site: Site, server: str, *services: str, only_needed: bool = True) -> list[str]:
    """Loopback, and the host's address only when a client is elsewhere."""
    remote = any(clients_of(site, server, service, only_needed) for service in services)
    return [LOOPBACK, site.fleet.hosts[server].address] if remote else [LOOPBACK]


def _users(site: Site, server: str, service: str, *roles: str) -> list[str]:
    """Return the ids of the hosts with one of the roles that use a service of a server, itself among them, sorted."""
    users = [*clients_of(site, server, service), server]
    return [name for name in site.fleet.with_role(*roles) if name in users]


def base(site: Site, host: str) -> dict[str, Any]:
    """Return what the host's firewall lets in (ports, and the edges with which it shares an address) and out, and when
    its window for updates begins.
    """
    shared = bool(site.fleet.virtual_address) and "edge" in site.fleet.hosts[host].roles
    return {
        "open_ports": open_ports(site, host),
        "vrrp_from": _peers(site, host) if shared else [],
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


def _peers(site: Site, host: str) -> list[str]:
    """Return the addresses of the other hosts with role edge."""
    return [site.fleet.hosts[peer].address for peer in site.fleet.with_role("edge") if peer != host]


def builder(site: Site, host: str) -> dict[str, Any]:
    """Return where builds are served to other hosts, or None."""
    return {"listen": site.fleet.hosts[host].address if clients_of(site, host, "builds") else None}


def together(site: Site) -> bool:
    """Return whether a release is given to all hosts with apps at once, by the master, or by each host's own apply."""
    return bool(site.fleet.with_role("master")) and len(site.fleet.running_apps) > 1


def slot_of(replica: str) -> str:
    """Return the name of the slot that keeps a replica's WAL on the primary; a slot's name has no dashes."""
    return f"saltern_{replica.replace('-', '_')}"


REPLICATION_ROLE = "saltern_replication"


def valid_logins(role: str, slot: int, previous: str | None) -> list[str]:
    """Return the Postgres roles that may log in for another one: the one in force, and the other while it is good.

    Args:
        role: the role that they act as.
        slot: 1 or 2: which of the two is in force.
        previous: the password of the other one, or None.

    Example:
        >>> valid_logins("demo", 2, None), valid_logins("demo", 2, "old")
        (['demo__2'], ['demo', 'demo__2'])
    """
    return [login_of(role, number) for number in (1, 2) if number == slot or previous is not None]


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


def postgres(site: Site, host: str, secrets: Secrets) -> dict[str, Any]:
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
        for client in _users(site, host, "postgres", *APP_ROLES)
    ]
    return {"listen": _server_listen(site, host, "postgres", "copies"), "clients": clients} | {
        "connections": sessions.total(site),
        **replication(site, host, secrets),
    }


def _logins(database: str, keys: AppSecrets) -> dict[str, list[str]]:
    return {
        "user": valid_logins(database, keys.logins.database, keys.previous.database_password),
        "owner": valid_logins(owner_of(database), keys.logins.owner, keys.previous.owner_password),
    }


def redis(site: Site, host: str) -> dict[str, Any]:
    """Return where each of the two servers listens, and its users: one for each app that has a need of it.

    Whether an app has one now is the firewall's business: another address is a restart of the server, which would cut
    off what still runs.
    """
    return {
        "broker": {
            "listen": _server_listen(site, host, "broker", only_needed=False),
            "users": [
                {
                    "app": name,
                    "user": redis_user(name),
                    "keys": f"{broker_prefix(name)}*",
                    "broadcasts": _broadcasts(name, app.broker_database, app.broker_broadcasts),
                }
                for name, app in sorted(site.apps.items())
                if app.uses_broker
            ],
        },
        "cache": {
            "listen": _server_listen(site, host, "cache", only_needed=False),
            "users": [
                {"app": name, "user": redis_user(name), "keys": f"{cache_prefix(name)}:*", "broadcasts": []}
                for name, app in sorted(site.apps.items())
                if app.cache
            ],
        },
    }


def redis_user(app: str) -> str:
    """Return the app's user in Redis; no app can have the name of one of Redis' own, such as `default`."""
    return f"app-{app}"


def cache_prefix(app: str) -> str:
    """Return what the app's keys in the cache begin with; Django puts a colon behind it."""
    return app


def broker_prefix(app: str) -> str:
    """Return what the app's keys and channels in the broker begin with. The colon keeps `shop` from `shop-2`."""
    return f"{app}:"


# Celery's own, in kombu's words <exchange>/<routing key>: orders to workers, and their events. It writes * for #.
CELERY_BROADCASTS = ("celery.pidbox", "celeryev", "celeryev/*", "celeryev/worker.*", "celeryev/task.*")


def _broadcasts(app: str, database: int, more: list[str]) -> list[str]:
    """Return the channels that kombu subscribes to as patterns; Redis allows a pattern only by that very text."""
    return [f"{broker_prefix(app)}/{database}.{exchange}" for exchange in (*CELERY_BROADCASTS, *more)]


def web(site: Site, host: str) -> dict[str, Any]:
    """Return where nginx listens, and whom it serves: by the names in their certificates, and the addresses that these
    edges come from.

    An edge on the same host comes from the host's own address as soon as nginx listens there and not on loopback.
    """
    listen = web_listen(site, host)
    edges = _users(site, host, "pages", "edge")
    sources = [LOOPBACK] if listen == LOOPBACK else [site.fleet.hosts[edge].address for edge in edges]
    subjects = [common_name(_full_name(site, edge)) for edge in edges]
    return {"listen": listen, "edges": sources if edges else [], "edge_subjects": subjects}


def worker(site: Site, host: str) -> dict[str, Any]:
    """Return whether this host runs what may run only once: beat, single processes, timers.

    It is the first of the workers by id, on every host alike and whatever runs now.
    """
    return {"single": site.fleet.with_role("worker")[0] == host}


def minion(site: Site, host: str) -> dict[str, Any]:
    """Return where the host's master is, and which Salt the host shall have: that of the master's lock."""
    return {"master": site.fleet.hosts[only(site, "master")].address, "salt": salt_version()}


def salt_version() -> str:
    """Return the digest of Salt's lock, as bin/bootstrap has it in a wheelhouse's name."""
    return hashlib.sha256((REPOSITORY / "requirements/salt.txt").read_bytes()).hexdigest()[:12]


def master(site: Site, host: str) -> dict[str, Any]:
    """Return where the master listens, and for whom: all hosts with role minion, itself too."""
    return {"listen": site.fleet.hosts[host].address, "minions": site.fleet.with_role("minion")}


def edge(site: Site, host: str) -> dict[str, Any]:
    """Return the web hosts that the edge sends requests to, the address that it shares with its peers, or None, and
    the pages that apps bring, by app and by status.
    """
    from .errorpages import read as read_pages

    port, shared = site.settings.web.port, None
    if site.fleet.virtual_address:
        # Two fleets in one network must differ in it; their addresses do.
        number = int(site.fleet.virtual_address.rpartition(".")[2]) or 255
        shared = {"address": site.fleet.virtual_address, "peers": _peers(site, host), "router_id": number}
    webs = [
        {"host": web, "name": _full_name(site, web), "address": web_listen(site, web), "port": port}
        for web in site.fleet.with_role("web")
    ]
    pages = {
        name: read_pages(site.path / "apps", app.error_pages)[0]
        for name, app in sorted(site.apps.items())
        if app.error_pages
    }
    return {"webs": webs, "virtual_address": shared, "pages": pages}


def values(site: Site, host: str, name: str, secrets: Secrets) -> dict[str, str]:
    """Return what each placeholder (placeholders.py) stands for, for one app on one web host.

    Args:
        site: the site.
        host: the web host it runs on.
        name: the app.
        secrets: the host's secrets.
    """
    app, keys = site.apps[name], secrets.apps[name]
    if keys.secret_key is None or keys.database_password is None or (app.uses_redis and keys.redis_password is None):
        raise WiringError(f"the secrets of app {name} on {host} are not complete")
    database = only(site, "postgres")
    database_port = site.settings.postgres.port
    https_port = site.settings.edge.https_port
    origin_port = "" if https_port == 443 else f":{https_port}"
    database_host, database_address = f"{database}.{site.fleet.domain}", address_seen(site, host, database)
    user = login_of(str(app.database), keys.logins.database)
    return {
        "database_url": database_url(site, host, name, user, keys.database_password),
        "database_name": str(app.database),
        "database_user": user,
        "database_password": keys.database_password,
        "database_host": database_host,
        "database_address": database_address,
        "database_port": str(database_port),
        "ca_file": CA_FILE,
        **redis_values(site, host, name, str(keys.redis_password)),
        "secret_key": keys.secret_key,
        "secret_key_fallbacks": keys.previous.secret_key or "",
        "hostname": app.hostnames[0],
        "hostnames": ",".join(app.hostnames),
        "base_url": f"https://{app.hostnames[0]}{origin_port}",
        "data_directory": f"/var/lib/apps/{name}",
        "media_directory": f"/srv/apps/{name}/media" if app.media_url else "",
    }


def redis_values(site: Site, host: str, name: str, password: str) -> dict[str, str]:
    """Return the placeholders about Redis of one app on one host; what it has no need of is empty.

    Args:
        site: the site.
        host: the host that it runs on.
        name: the app.
        password: of the app's user in Redis.
    """
    app, settings = site.apps[name], site.settings.redis
    told = {"cache_url": "", "cache_key_prefix": "", "broker_url": "", "broker_key_prefix": ""}
    if app.cache:
        told["cache_url"] = redis_url(site, host, name, password, settings.cache_port, 0)
        told["cache_key_prefix"] = cache_prefix(name)
    if app.uses_broker:
        told["broker_url"] = redis_url(site, host, name, password, settings.broker_port, app.broker_database)
        told["broker_key_prefix"] = broker_prefix(name)
    return told


def redis_url(site: Site, host: str, name: str, password: str, port: int, number: int) -> str:
    """Return how one of the two Redis is reached from one host, as redis-py, Django, django-redis and Celery read it.

    Args:
        site: the site.
        host: the host.
        name: the app.
        password: of the app's user.
        port: the port.
        number: the database's number.
    """
    # By address, which spares a look-up: the host's certificate is for its address, too.
    address = address_seen(site, host, only(site, "redis"))
    return (
        f"rediss://{redis_user(name)}:{quote(password, safe='')}@{address}:{port}/{number}"
        f"?ssl_cert_reqs=required&ssl_ca_certs={CA_FILE}&ssl_check_hostname=true"
    )


def owner_of(database: str) -> str:
    """Return the Postgres role that owns a database and migrates it; the app itself has another one."""
    return f"{database}_owner"


def login_of(role: str, slot: int) -> str:
    """Return the Postgres role that logs in for another one: itself, or in the second slot its double.

    Example:
        >>> login_of("demo", 1), login_of("demo_owner", 2)
        ('demo', 'demo_owner__2')
    """
    return role if slot == 1 else f"{role}__2"


def roles_of(database: str) -> list[str]:
    """Return the names of all Postgres roles that a database has of its own.

    Example:
        >>> roles_of("demo")
        ['demo', 'demo__2', 'demo_owner', 'demo_owner__2']
    """
    return [login_of(role, slot) for role in (database, owner_of(database)) for slot in (1, 2)]


def database_url(site: Site, host: str, name: str, user: str, password: str, server: str = "") -> str:
    """Return how an app's database is reached from one web host.

    Args:
        site: the site.
        host: the web host.
        name: the app.
        user: the Postgres role.
        password: its password.
        server: the host with role postgres; the primary when not given.
    """
    server, database = server or only(site, "postgres"), site.apps[name].database
    # The name is what TLS verifies; the address spares a look-up, and a resolver cannot send the app elsewhere.
    return (
        f"postgres://{quote(user, safe='')}:{quote(password, safe='')}"
        f"@{server}.{site.fleet.domain}:{site.settings.postgres.port}/{database}"
        f"?hostaddr={address_seen(site, host, server)}&sslmode=verify-full&sslrootcert={CA_FILE}"
    )


def migration_environment(site: Site, host: str, name: str, secrets: Secrets) -> dict[str, str]:
    """Return what a migration has instead of the app's own: it owns the database, so no web process may hold it."""
    keys = secrets.apps[name]
    owner, password = login_of(owner_of(str(site.apps[name].database)), keys.logins.owner), keys.owner_password
    if password is None:
        raise WiringError(f"the secrets of app {name} on {host} are not complete")
    return {"DATABASE_URL": database_url(site, host, name, owner, password)}


def replica_urls(site: Site, host: str, name: str, secrets: Secrets) -> dict[str, str]:
    """Return REPLICA_URLS, with commas, for an app on one host; nothing in a fleet without replicas."""
    keys = secrets.apps[name]
    user, password = login_of(str(site.apps[name].database), keys.logins.database), str(keys.database_password)
    urls = [database_url(site, host, name, user, password, replica) for replica in site.fleet.replicas]
    return {"REPLICA_URLS": ",".join(urls)} if urls else {}


def environment(site: Site, host: str, name: str, secrets: Secrets) -> dict[str, str]:
    """Return the whole environment of an app on one host, but for what each release adds.

    Args:
        site: the site.
        host: the host with role web or worker that it runs on.
        name: the app.
        secrets: the host's secrets.

    Returns:
        Variables by name: those of the app's file and its secret ones, then Saltern's own.
    """
    app, known = site.apps[name], values(site, host, name, secrets)
    origin_port = known["base_url"].removeprefix(f"https://{app.hostnames[0]}")
    return {
        **{variable: fill(text, known) for variable, text in app.env.items()},
        **secrets.apps[name].env,
        "DATABASE_URL": known["database_url"],
        **replica_urls(site, host, name, secrets),
        **({"CACHE_URL": known["cache_url"], "CACHE_KEY_PREFIX": known["cache_key_prefix"]} if app.cache else {}),
        **(
            {"BROKER_URL": known["broker_url"], "BROKER_KEY_PREFIX": known["broker_key_prefix"]}
            if app.uses_broker
            else {}
        ),
        "SECRET_KEY": known["secret_key"],
        **({"SECRET_KEY_FALLBACKS": fallbacks} if (fallbacks := known["secret_key_fallbacks"]) else {}),
        "ALLOWED_HOSTS": known["hostnames"],
        "CSRF_TRUSTED_ORIGINS": ",".join(f"https://{hostname}{origin_port}" for hostname in app.hostnames),
        "DJANGO_SETTINGS_MODULE": str(app.settings_module),
        **({"MEDIA_ROOT": known["media_directory"]} if app.media_url else {}),
    }


def files(site: Site, host: str, name: str, secrets: Secrets) -> dict[str, str]:
    """Return the text of each extra file of an app's releases on one web host, by its path in the source.

    Args:
        site: the site.
        host: the web host it runs on.
        name: the app.
        secrets: the host's secrets.
    """
    chosen = site.apps[name].files
    if not chosen:
        return {}
    from .templates import render

    known = values(site, host, name, secrets)
    return {path: render(site.path / "apps" / file.template, known) for path, file in sorted(chosen.items())}


def wiring(site: Site, host: str, secrets: Secrets) -> dict[str, Any]:
    """Return the section `wiring` of one host's pillar: a part for each of its roles that has relations.

    Hosts that make or install builds are also told whether all of them switch `together`.

    Args:
        site: the site.
        host: the host's id.
        secrets: the host's secrets.
    """
    parts = {
        "base": base,
        "minion": minion,
        "master": master,
        "builder": builder,
        "postgres": lambda site, host: postgres(site, host, secrets),
        "redis": redis,
        "web": web,
        "worker": worker,
        "edge": edge,
    }
    roles = site.fleet.hosts[host].roles
    result: dict[str, Any] = {role: part(site, host) for role, part in parts.items() if role in roles}
    if host in site.fleet.with_role("builder", *APP_ROLES):
        result["together"] = together(site)
    if host in site.fleet.running_apps:
        result["builds"] = builds(site, host)
        result["apps"] = {name: _app(site, host, name, secrets) for name in sorted(site.apps)}
    return result


def builds(site: Site, host: str) -> dict[str, Any]:
    """Return where a host with apps gets their builds: the builder's URL, or None when it is the builder itself."""
    server = only(site, "builder") if site.apps else host
    address, port = site.fleet.hosts[server].address, site.settings.builder.port
    url = None if server == host else f"https://{server}.{site.fleet.domain}:{port}"
    return {"url": url, "address": address}


def _app(site: Site, host: str, name: str, secrets: Secrets) -> dict[str, Any]:
    """Return what one host is told about one app; only web hosts migrate."""
    told: dict[str, Any] = {
        "environment": environment(site, host, name, secrets),
        "files": files(site, host, name, secrets),
    }
    if "web" in site.fleet.hosts[host].roles:
        told["migration_environment"] = migration_environment(site, host, name, secrets)
    return told
