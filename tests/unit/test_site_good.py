"""A good site, which the other tests of the site break in one place at a time."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import yaml

from saltern.site.compiled import host_pillar
from saltern.site.egress import CLOSED_TO_BUILDS, METADATA, NOT_PUBLIC
from saltern.site.errors import SiteError
from saltern.site.layout import DEFAULTS
from saltern.site.load import Site, load_site
from saltern.site.secrets import generate_secrets
from saltern.site.wired.redis import CELERY_BROADCASTS
from saltern.version import version

REPOSITORY = Path(__file__).resolve().parents[2]
SINGLE = REPOSITORY / "lab" / "fleets" / "single"
DEMO_PAGES = [*(SINGLE / "apps/demo-pages").iterdir()]
MIGRATIONS = {"reversible": [], "allow_unsafe": [], "statement_timeout_seconds": 30, "retry_seconds": 60}
ALL_ROLES = ["base", "builder", "postgres", "redis", "web", "worker", "edge"]

GOOD: dict[str, Any] = {
    "fleet.yaml": {
        "name": "shop",
        "domain": "shop.test",
        "hosts": {
            "front1": {"address": "10.0.0.1", "roles": ["base", "edge"], "purpose": "entry", "owner": "ops"},
            "web1": {"address": "10.0.0.2", "roles": ["base", "web"]},
            "web2": {"address": "10.0.0.3", "roles": ["base", "web"]},
            "data1": {"address": "10.0.0.4", "roles": ["base", "postgres", "redis", "builder"]},
        },
    },
    "apps/web-shop.yaml": {"source": {"directory": "shop"}, "hostnames": ["shop.test", "www.shop.test"]},
    "apps/blog.yaml": {
        "source": {"directory": "/srv/blog"},
        "hostnames": ["blog.test"],
        "env": {"LEVEL": "INFO"},
        "cache": True,
        "broker": True,
    },
    "settings.yaml": {"postgres": {"port": 5433}, "base": {"sysctl": {"vm.swappiness": 1}}},
}


def write_site(folder: Path, files: dict[str, Any]) -> Path:
    """Write a site, each file from data or from text as it stands, and the source directory `shop` beside it."""
    site = folder / "site"
    (folder / "shop").mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        path = site / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content if isinstance(content, str) else yaml.safe_dump(content, sort_keys=False))
    return site


def load_written(folder: Path, files: dict[str, Any]) -> Site:
    return load_site(write_site(folder, files), repository=folder)


def good() -> dict[str, Any]:
    return copy.deepcopy(GOOD)


def pillar_of(site: Site, host: str) -> dict[str, Any]:
    generate_secrets(site)
    secrets = yaml.safe_load((site.path / "secrets" / f"{host}.sls").read_text())["secrets"]
    return host_pillar(site, host, secrets)


def problems_of(folder: Path, files: dict[str, Any]) -> list[str]:
    with pytest.raises(SiteError) as raised:
        load_written(folder, files)
    return [str(problem) for problem in raised.value.problems]


def test_the_good_site_loads_with_defaults_that_follow_from_the_name(tmp_path: Path) -> None:
    app = load_written(tmp_path, good()).apps["web-shop"]
    assert (app.settings_module, app.wsgi) == ("web_shop.settings", "web_shop.wsgi:application")
    assert (app.user, app.database) == ("app-web-shop", "web_shop")
    assert (app.lock, app.workers, app.static_url) == (None, 2, "/static/")


def test_the_wsgi_object_follows_the_settings_module(tmp_path: Path) -> None:
    files = good()
    files["apps/blog.yaml"]["settings_module"] = "config.settings.production"
    assert load_written(tmp_path, files).apps["blog"].wsgi == "config.wsgi:application"


def default_sysctl() -> dict[str, str]:
    """The kernel settings of pillar/base.sls, as text."""
    defaults = yaml.safe_load((DEFAULTS / "base.sls").read_text())["base"]["sysctl"]
    return {key: str(value) for key, value in defaults.items()}


def test_the_sites_settings_lie_over_the_roles_defaults(tmp_path: Path) -> None:
    settings = load_written(tmp_path, good()).settings
    assert (settings.postgres.port, settings.postgres.memory_share) == (5433, 0.5)
    assert settings.base.sysctl == {**default_sysctl(), "vm.swappiness": "1"}


def test_numbers_and_switches_of_postgres_become_its_own_text(tmp_path: Path) -> None:
    files = good()
    files["settings.yaml"] = "postgres: {settings: {jit: off, work_mem: 64MB, random_page_cost: 1.1, autovacuum: true}}"
    found = load_written(tmp_path, files).settings.postgres.settings
    assert found == {"jit": "off", "work_mem": "64MB", "random_page_cost": "1.1", "autovacuum": "on"}


def test_a_site_needs_neither_settings_nor_apps(tmp_path: Path) -> None:
    files = {"fleet.yaml": good()["fleet.yaml"]}
    site = load_written(tmp_path, files)
    pillar = pillar_of(site, "front1")
    assert (pillar["apps"], list(pillar["secrets"])) == ({}, ["tls"])


def test_an_empty_settings_file_is_no_error(tmp_path: Path) -> None:
    assert load_written(tmp_path, {**good(), "settings.yaml": "# nothing yet\n"}).settings.postgres.port == 5432


def test_a_host_gets_the_settings_of_its_own_roles_only(tmp_path: Path) -> None:
    site = load_written(tmp_path, good())
    assert {"base", "edge"} == set(pillar_of(site, "front1")) & set(ALL_ROLES)
    assert {"base", "web"} == set(pillar_of(site, "web1")) & set(ALL_ROLES)
    assert {"base", "postgres", "redis", "builder"} == set(pillar_of(site, "data1")) & set(ALL_ROLES)


def test_the_pillar_is_plain_data(tmp_path: Path) -> None:
    pillar = pillar_of(load_written(tmp_path, good()), "web1")
    assert yaml.safe_load(yaml.safe_dump(pillar)) == pillar


def test_the_pillar_of_fleet_single(tmp_path: Path) -> None:
    """The whole shape that states and tests build on (docs/site.md)."""
    files = {
        str(path.relative_to(SINGLE)): path.read_text()
        for path in (SINGLE / "fleet.yaml", SINGLE / "settings.yaml", SINGLE / "apps" / "demo.yaml", *DEMO_PAGES)
    }
    (tmp_path / "demo").mkdir()
    pillar = pillar_of(load_written(tmp_path, files), "app1")
    secrets = pillar.pop("secrets")
    database, key = secrets["apps"]["demo"]["database_password"], secrets["apps"]["demo"]["secret_key"]
    owner = secrets["apps"]["demo"]["owner_password"]
    redis = secrets["apps"]["demo"]["redis_password"]
    tls = "?ssl_cert_reqs=required&ssl_ca_certs=/etc/saltern/tls/ca.crt&ssl_check_hostname=true"
    keys = ["celery", "beat", "manage", "command", "stop_seconds", "memory_max_mb"]
    process = dict.fromkeys(keys) | {"single": False}
    assert pillar == {
        "version": version(),
        "fleet": {
            "name": "single",
            "domain": "saltern.test",
            "hosts": {
                "app1": {
                    "address": "10.77.0.11",
                    "other_addresses": [],
                    "roles": ALL_ROLES,
                    "purpose": "everything on one host",
                    "owner": "you",
                    "replica_of": None,
                }
            },
            "virtual_address": None,
        },
        "host": {
            "id": "app1",
            "fqdn": "app1.saltern.test",
            "address": "10.77.0.11",
            "roles": ALL_ROLES,
            "absent_roles": ["master", "minion"],
        },
        "base": {
            "timezone": "Etc/UTC",
            "ntp": [],
            "journal_max_mb": 500,
            "idle_minutes": 15,
            "ssh_older_clients": False,
            "updates": {
                "days": ["mon", "tue", "wed", "thu", "fri", "sat", "sun"],
                "start": "03:00",
                "minutes": 30,
                "restart": True,
            },
            "sysctl": default_sysctl(),
            "admins": {},
            "ssh_from": None,
        },
        "builder": {
            "keep": 5,
            "port": 8843,
            "memory_max_mb": 2048,
            "disk_max_mb": 4096,
            "build_seconds": 3600,
            "source_max_mb": 512,
            "fetch_from": [],
        },
        "postgres": {
            "port": 5432,
            "memory_mb": 1024,
            "memory_share": 0.5,
            "session_memory_mb": None,
            "max_connections": None,
            "extra_roles": [],
            "settings": {},
        },
        "redis": {
            "broker_port": 6380,
            "broker_maxmemory_mb": 128,
            "cache_port": 6381,
            "cache_maxmemory_mb": 128,
            "max_clients": 4096,
        },
        "web": {"port": 8080, "body_max_mb": 10, "spool_mb": 4096},
        "worker": {"start_seconds": 3, "stop_seconds": 60},
        "edge": yaml.safe_load((DEFAULTS / "edge.sls").read_text())["edge"],
        "apps": {
            "demo": {
                "source": {"directory": "demo", "git": None, "revision": None, "requirement": None},
                "hostnames": ["demo.saltern.test"],
                "settings_module": "demo.settings",
                "wsgi": "demo.wsgi:application",
                "lock": None,
                "requirements": [],
                "python": None,
                "packages": {"build": [], "run": []},
                "manage": "python -m django",
                "env": {"LOG_LEVEL": "INFO"},
                "files": {},
                "static_url": "/static/",
                "media_url": None,
                "error_pages": "demo-pages",
                "health_path": "/healthz",
                "serving_path": "/-/serving",
                "health_status": 200,
                "health_seconds": 30,
                "version_path": "/-/version",
                "workers": 2,
                "threads": 4,
                "user": "app-demo",
                "database": "demo",
                "migrations": {
                    "reversible": [],
                    "allow_unsafe": [],
                    "statement_timeout_seconds": 30,
                    "retry_seconds": 60,
                    "temp_file_mb": 10240,
                },
                "limits": {
                    "connections": None,
                    "statement_timeout_seconds": 120,
                    "lock_timeout_seconds": 30,
                    "idle_in_transaction_seconds": 300,
                    "temp_file_mb": 512,
                },
                "memory_max_mb": 512,
                "command_memory_max_mb": None,
                "tmp_max_mb": 256,
                "log_lines_max": 3000,
                "processes": {
                    "worker": {**process, "celery": {"queues": ["celery"], "concurrency": 2, "app": None}},
                    "beat": {**process, "beat": {"app": None}},
                },
                "timers": {
                    "clear-sessions": {
                        "schedule": "*-*-* 03:17",
                        "manage": ["clearsessions"],
                        "command": None,
                        "max_seconds": 3600,
                        "memory_max_mb": None,
                    }
                },
                "egress": [{"to": "internet", "ports": None, "protocol": None}],
                "cache": True,
                "broker": None,
                "broker_database": 1,
                "broker_broadcasts": [],
            }
        },
        "wiring": {
            "base": {
                "open_ports": [
                    {"port": 22, "sources": [], "why": "people and salt-ssh"},
                    {"port": 80, "sources": [], "why": "redirected to HTTPS"},
                    {"port": 443, "sources": [], "why": "the apps"},
                ],
                "vrrp_from": [],
                "egress": {
                    "callers": [
                        {
                            "name": "demo",
                            "users": ["app-demo"],
                            "links": [
                                {"to": "127.0.0.1", "ports": [5432], "protocol": "tcp", "most": 30},
                                {"to": "127.0.0.1", "ports": [6380], "protocol": "tcp", "most": 464},
                                {"to": "127.0.0.1", "ports": [6381], "protocol": "tcp", "most": 464},
                            ],
                            "here": [],
                            "private": [],
                            "public": [{"to": "internet", "ports": None, "protocol": None}],
                        }
                    ],
                    "builds": {
                        "apps": ["demo"],
                        "ports": [22, 80, 443, 5432, 6380, 6381, 8080, 8843],
                        "private": [],
                        "closed": list(CLOSED_TO_BUILDS),
                    },
                    "fleet": ["10.77.0.11"],
                    "metadata": list(METADATA),
                    "not_public": list(NOT_PUBLIC),
                },
                "window": "*-*-* 03:00:00",
            },
            "renewal": {"site": str(REPOSITORY), "notices": []},
            "together": False,
            "builder": {"listen": None},
            "builds": {"url": None, "address": "10.77.0.11"},
            "postgres": {
                "listen": ["127.0.0.1"],
                "clients": [
                    {
                        "app": "demo",
                        "database": "demo",
                        "user": "demo",
                        "owner": "demo_owner",
                        "limits": {"user": 27, "owner": 3},
                        "settings": {
                            "user": {
                                "statement_timeout": "120s",
                                "lock_timeout": "30s",
                                "idle_in_transaction_session_timeout": "300s",
                                "temp_file_limit": "512MB",
                            },
                            "owner": {"temp_file_limit": "10240MB"},
                        },
                        "logins": {"user": ["demo"], "owner": ["demo_owner"]},
                        "migrates": True,
                        "address": "127.0.0.1/32",
                    }
                ],
                "connections": 38,
                "replicas": [],
                "primary": None,
            },
            "redis": {
                "broker": {
                    "listen": ["127.0.0.1"],
                    "users": [
                        {
                            "app": "demo",
                            "user": "app-demo",
                            "keys": "demo:*",
                            "broadcasts": [f"demo:/1.{exchange}" for exchange in CELERY_BROADCASTS],
                        }
                    ],
                },
                "cache": {
                    "listen": ["127.0.0.1"],
                    "users": [{"app": "demo", "user": "app-demo", "keys": "demo:*", "broadcasts": []}],
                },
            },
            "web": {"listen": "127.0.0.1", "edges": ["127.0.0.1"], "edge_subjects": ["app1.saltern.test"]},
            "worker": {"single": True},
            "edge": {
                "webs": [{"host": "app1", "name": "app1.saltern.test", "address": "127.0.0.1", "port": 8080}],
                "virtual_address": None,
                "pages": {"demo": {page.stem: page.read_text() for page in DEMO_PAGES}},
            },
            "apps": {
                "demo": {
                    "environment": {
                        "LOG_LEVEL": "INFO",
                        "DATABASE_URL": f"postgres://demo:{database}@app1.saltern.test:5432/demo?hostaddr=127.0.0.1"
                        "&sslmode=verify-full&sslrootcert=/etc/saltern/tls/ca.crt",
                        "CACHE_URL": f"rediss://app-demo:{redis}@127.0.0.1:6381/0{tls}",
                        "CACHE_KEY_PREFIX": "demo",
                        "BROKER_URL": f"rediss://app-demo:{redis}@127.0.0.1:6380/1{tls}",
                        "BROKER_KEY_PREFIX": "demo:",
                        "SECRET_KEY": key,
                        "ALLOWED_HOSTS": "demo.saltern.test",
                        "CSRF_TRUSTED_ORIGINS": "https://demo.saltern.test",
                        "DJANGO_SETTINGS_MODULE": "demo.settings",
                    },
                    "files": {},
                    "migration_environment": {
                        "DATABASE_URL": f"postgres://demo_owner:{owner}@app1.saltern.test:5432/demo?hostaddr=127.0.0.1"
                        "&sslmode=verify-full&sslrootcert=/etc/saltern/tls/ca.crt",
                    },
                }
            },
        },
    }
    assert sorted(secrets) == ["apps", "build_key", "build_keys", "edge", "tls"]
