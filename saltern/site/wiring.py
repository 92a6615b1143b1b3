"""Which host may reach which, and where: the only place where hosts' relations are worked out. Pure functions.

Firewall, pg_hba, proxies and the apps' environment all read the result, so they cannot disagree. What a role is told
is in wired/, what a host's apps are told is here.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from .names import broker_prefix, cache_prefix, login_of, owner_of, redis_user
from .placeholders import fill
from .relations import WiringError, address_seen, only, together
from .roles import APP_ROLES
from .secretfile import Secrets
from .site import Site
from .wired import PARTS

CA_FILE = "/etc/saltern/tls/ca.crt"


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
    result: dict[str, Any] = {
        role: PARTS[role](site, host, secrets) for role in site.fleet.hosts[host].roles if role in PARTS
    }
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
