"""Relations between hosts: both ends are told the same, on fleets of every shape."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import pytest
from test_site_good import good, load_written, pillar_of

from saltern.site import wiring
from saltern.site.errors import SiteError
from saltern.site.layout import REPOSITORY, ranks
from saltern.site.links import neighbours
from saltern.site.load import Site
from saltern.site.placeholders import PLACEHOLDERS
from saltern.site.secretfile import Secrets
from saltern.site.wired import postgres


def test_hosts_apart_reach_each_other_by_address(tmp_path: Path) -> None:
    site = load_written(tmp_path, good())
    data = pillar_of(site, "data1")["wiring"]
    assert data["postgres"]["listen"] == ["127.0.0.1", "10.0.0.4"]
    for server in ("broker", "cache"):
        assert data["redis"][server]["listen"] == ["127.0.0.1", "10.0.0.4"]
        assert [user["app"] for user in data["redis"][server]["users"]] == ["blog"], "web-shop has no need of it"
    clients = data["postgres"]["clients"]
    # Two web hosts of which each migrates, or waits for the other one.
    assert all(client.pop("limits")["owner"] == 6 and client.pop("settings") for client in clients)
    assert clients == [
        {
            "app": app,
            "database": database,
            "user": database,
            "owner": f"{database}_owner",
            "logins": {"user": [database], "owner": [f"{database}_owner"]},
            "migrates": True,
            "address": address,
        }
        for app, database in (("blog", "blog"), ("web-shop", "web_shop"))
        for address in ("10.0.0.2/32", "10.0.0.3/32")
    ]
    assert pillar_of(site, "web1")["wiring"]["web"] == {
        "listen": "10.0.0.2",
        "edges": ["10.0.0.1"],
        "edge_subjects": ["front1.shop.test"],
    }
    assert pillar_of(site, "front1")["wiring"]["edge"]["webs"] == [
        {"host": "web1", "name": "web1.shop.test", "address": "10.0.0.2", "port": 8080},
        {"host": "web2", "name": "web2.shop.test", "address": "10.0.0.3", "port": 8080},
    ]


def test_who_must_learn_of_a_host_follows_from_the_table(tmp_path: Path) -> None:
    files = good()
    files["fleet.yaml"]["hosts"]["log1"] = {"address": "10.0.0.9", "roles": ["base"]}
    near = neighbours(load_written(tmp_path, files))
    assert near["web2"] == {"servers": ["data1"], "clients": ["front1"]}
    assert near["data1"] == {"servers": [], "clients": ["web1", "web2"]}
    assert near["log1"] == {"servers": [], "clients": []}


def test_edges_with_a_shared_address_must_learn_of_each_other(tmp_path: Path) -> None:
    files = good()
    files["fleet.yaml"]["hosts"]["front2"] = {"address": "10.0.0.9", "roles": ["base", "edge"]}
    assert neighbours(load_written(tmp_path / "apart", files))["front2"]["servers"] == ["web1", "web2"]
    files["fleet.yaml"]["virtual_address"] = "10.0.0.100"
    together = neighbours(load_written(tmp_path / "shared", files))
    assert together["front2"] == {"servers": ["front1", "web1", "web2"], "clients": ["front1"]}


def test_a_host_without_relations_gets_none(tmp_path: Path) -> None:
    files = good()
    files["fleet.yaml"]["hosts"]["log1"] = {"address": "10.0.0.9", "roles": ["base"]}
    ssh = {"port": 22, "sources": [], "why": "people and salt-ssh"}
    builds: dict[str, list[Any]] = {"apps": [], "ports": [], "private": [], "closed": []}
    egress = {"callers": [], "builds": builds, "fleet": [], "metadata": [], "not_public": []}
    assert pillar_of(load_written(tmp_path, files), "log1")["wiring"] == {
        "base": {"open_ports": [ssh], "vrrp_from": [], "egress": egress, "window": "*-*-* 03:00:00"},
        "renewal": {"site": str(REPOSITORY), "notices": []},
    }


def test_a_worker_has_what_a_web_host_has(tmp_path: Path) -> None:
    """The same release, secrets and all: else its processes would be of another id than the web's."""
    files = good()
    files["fleet.yaml"]["hosts"]["work1"] = {"address": "10.0.0.8", "roles": ["base", "worker"]}
    site = load_written(tmp_path, files)
    worker, web = pillar_of(site, "work1"), pillar_of(site, "web1")
    for app in site.apps:  # but a worker does not migrate
        assert web["wiring"]["apps"][app].pop("migration_environment")
        assert web["secrets"]["apps"][app].pop("owner_password")
    assert worker["wiring"]["apps"] == web["wiring"]["apps"]
    assert worker["secrets"]["apps"] == web["secrets"]["apps"]
    allowed = {client["address"] for client in pillar_of(site, "data1")["wiring"]["postgres"]["clients"]}
    assert allowed == {"10.0.0.2/32", "10.0.0.3/32", "10.0.0.8/32"}


def test_the_environment_names_ports_and_escapes_passwords(tmp_path: Path) -> None:
    files = good()
    files["settings.yaml"] = {"edge": {"https_port": 8443}, "redis": {"cache_port": 6390}}
    files["secrets/shared.yaml"] = {
        "apps": {
            "blog": {
                "database_password": "p@ss/w:rd%20?#&=x",
                "owner_password": "0wner/w:rd%20?#&=x",
                "redis_password": "slash/at@colon:pw#?",
                "secret_key": "k" * 50,
                "env": {"TOKEN": "t"},
            }
        },
    }
    told = pillar_of(load_written(tmp_path, files), "web1")["wiring"]["apps"]["blog"]
    environment = told["environment"]
    owner = urlsplit(told["migration_environment"]["DATABASE_URL"])
    assert (unquote(owner.username or ""), unquote(owner.password or "")) == ("blog_owner", "0wner/w:rd%20?#&=x")
    url = urlsplit(environment["DATABASE_URL"])
    assert unquote(url.password or "") == "p@ss/w:rd%20?#&=x"
    assert (url.hostname, url.port, url.path) == ("data1.shop.test", 5432, "/blog")
    assert parse_qs(url.query)["hostaddr"] == ["10.0.0.4"]
    cache = urlsplit(environment["CACHE_URL"])
    assert (unquote(cache.password or ""), cache.hostname, cache.port) == ("slash/at@colon:pw#?", "10.0.0.4", 6390)
    assert (cache.scheme, cache.username) == ("rediss", "app-blog")
    assert parse_qs(cache.query)["ssl_ca_certs"] == [wiring.CA_FILE]
    assert environment["CSRF_TRUSTED_ORIGINS"] == "https://blog.test:8443"
    assert (environment["TOKEN"], environment["LEVEL"]) == ("t", "INFO")


def test_it_fails_closed_when_a_server_is_missing(tmp_path: Path) -> None:
    site = load_written(tmp_path, good())
    del site.fleet.hosts["data1"]
    with pytest.raises(wiring.WiringError, match="postgres is needed on one host, and is on 0: none"):
        wiring.only(site, "postgres")


def part_user(part: dict[str, Any]) -> str:
    return urlsplit(part["environment"]["DATABASE_URL"]).netloc.split("@")[0]


def _random_site(folder: Path, seed: int) -> Site:
    choose = random.Random(seed)
    hosts: dict[str, Any] = {
        f"h{number}": {"address": f"10.1.0.{number + 1}", "roles": ["base"]} for number in range(choose.randint(1, 5))
    }
    for role in ("builder", "postgres", "redis"):
        hosts[choose.choice(list(hosts))]["roles"].append(role)
    for role in ("web", "worker", "edge"):
        for name in choose.sample(list(hosts), choose.randint(1, len(hosts))):
            hosts[name]["roles"].append(role)
    files: dict[str, Any] = {"fleet.yaml": {"name": "r", "domain": "r.test", "hosts": hosts}}
    for number in range(choose.randint(1, 3)):
        needs = {"cache": choose.random() < 0.5, "broker": choose.random() < 0.5, "broker_database": 2}
        files[f"apps/app{number}.yaml"] = {"source": {"directory": "shop"}, "hostnames": [f"a{number}.test"], **needs}
    return load_written(folder, files)


@pytest.mark.parametrize("seed", range(25))
def test_both_ends_agree_in_any_fleet(tmp_path: Path, seed: int) -> None:
    """What a client is told to call is where the server listens, and the server lets that client's address in."""
    site = _random_site(tmp_path, seed)
    told = {host: pillar_of(site, host) for host in site.fleet.hosts}
    database, cache = wiring.only(site, "postgres"), wiring.only(site, "redis")
    allowed = {(c["app"], c["address"]) for c in told[database]["wiring"]["postgres"]["clients"]}
    expected = set()
    for host, pillar in told.items():
        own = site.fleet.hosts[host].address
        for app, part in pillar["wiring"].get("apps", {}).items():
            called = parse_qs(urlsplit(part["environment"]["DATABASE_URL"]).query)["hostaddr"][0]
            assert called in told[database]["wiring"]["postgres"]["listen"]
            # Linux answers for loopback from loopback, and for the host's own address from that address.
            expected.add((app, f"{called if called == '127.0.0.1' else own}/32"))
            for server, name, path, needed in (
                ("cache", "CACHE_URL", "/0", site.apps[app].cache),
                ("broker", "BROKER_URL", "/2", site.apps[app].uses_broker),
            ):
                there = told[cache]["wiring"]["redis"][server]
                users = {user["user"]: user["keys"] for user in there["users"] if user["app"] == app}
                variables = {key for key in part["environment"] if key.startswith(name.removesuffix("URL"))}
                if not needed:
                    assert not users and not variables, "what an app has no need of, it is not told"
                    continue
                url = urlsplit(part["environment"][name])
                assert url.hostname in there["listen"] and url.path == path
                prefix = part["environment"][name.replace("URL", "KEY_PREFIX")]
                assert users == {url.username: f"{prefix.rstrip(':')}:*"}
                password = told[cache]["secrets"]["apps"][app]["redis_password"]
                assert unquote(url.password or "") == password == pillar["secrets"]["apps"][app]["redis_password"]
            if not site.apps[app].uses_redis:
                assert "redis" not in str(pillar["secrets"]["apps"][app]) + str(part), "nor has the host its password"
            if "migration_environment" in part:
                owner = urlsplit(part["migration_environment"]["DATABASE_URL"])
                assert owner._replace(netloc=owner.netloc.split("@")[1]) == urlsplit(
                    part["environment"]["DATABASE_URL"].replace(f"{part_user(part)}@", "")
                ), "the same database, as somebody else"
                assert pillar["secrets"]["apps"][app]["owner_password"] not in str(part["environment"])
            assert part["environment"]["SECRET_KEY"] == pillar["secrets"]["apps"][app]["secret_key"]
            for key in {"database_password", "owner_password"} & set(pillar["secrets"]["apps"][app]):
                assert pillar["secrets"]["apps"][app][key] == told[database]["secrets"]["apps"][app][key]
        for web in pillar["wiring"].get("edge", {}).get("webs", []):
            side = told[web["host"]]["wiring"]["web"]
            assert web["address"] == side["listen"]
            assert (web["address"] if web["address"] in ("127.0.0.1", own) else own) in side["edges"]
            assert web["address"] != "127.0.0.1" or web["host"] == host
    assert allowed == expected, "each host that runs apps, and nobody else"
    single = [host for host, pillar in told.items() if pillar["wiring"].get("worker", {}).get("single")]
    assert single == site.fleet.with_role("worker")[:1], "what may run only once runs on one host of any fleet"
    for host, pillar in told.items():
        loopback_only = pillar["wiring"].get("postgres", {}).get("listen") == ["127.0.0.1"]
        others = {*site.fleet.with_role("web"), *site.fleet.with_role("worker")} - {host}
        assert not (loopback_only and others)


@pytest.mark.parametrize("seed", range(25))
def test_the_firewall_lets_in_whom_the_daemons_expect_and_nobody_else(tmp_path: Path, seed: int) -> None:
    """Worked out here from what each client is told to call, and not from the table of links."""
    site = _random_site(tmp_path, seed)
    told = {host: pillar_of(site, host) for host in site.fleet.hosts}
    calls: set[tuple[str, str, int]] = set()  # client, server's address, port
    for host, pillar in told.items():
        for part in pillar["wiring"].get("apps", {}).values():
            database = urlsplit(part["environment"]["DATABASE_URL"])
            calls.add((host, parse_qs(database.query)["hostaddr"][0], int(database.port or 0)))
            for name in {"CACHE_URL", "BROKER_URL"} & set(part["environment"]):
                url = urlsplit(part["environment"][name])
                calls.add((host, str(url.hostname), int(url.port or 0)))
        builds = pillar["wiring"].get("builds", {"url": None})
        if builds["url"]:
            calls.add((host, builds["address"], int(urlsplit(builds["url"]).port or 0)))
        calls |= {(host, web["address"], web["port"]) for web in pillar["wiring"].get("edge", {}).get("webs", [])}
    expected = {
        (server, port, site.fleet.hosts[client].address)
        for client, address, port in calls
        for server, entry in site.fleet.hosts.items()
        if entry.address == address and server != client
    }
    let_in = {
        (host, entry["port"], source)
        for host, pillar in told.items()
        for entry in pillar["wiring"]["base"]["open_ports"]
        for source in entry["sources"]
    }
    assert let_in == expected
    for host, pillar in told.items():
        anyone = {entry["port"] for entry in pillar["wiring"]["base"]["open_ports"] if not entry["sources"]}
        assert anyone == ({22, 80, 443} if "edge" in site.fleet.hosts[host].roles else {22})


@pytest.mark.parametrize("seed", range(25))
def test_an_apps_firewall_lets_out_what_its_environment_names_and_nothing_else(tmp_path: Path, seed: int) -> None:
    """Worked out here from what the app itself is told to call."""
    site = _random_site(tmp_path, seed)
    for host in site.fleet.hosts:
        wiring = pillar_of(site, host)["wiring"]
        told: dict[str, set[tuple[str, int]]] = {}
        for app, part in wiring.get("apps", {}).items():
            variables = part["environment"]
            databases = [variables["DATABASE_URL"], *filter(None, variables.get("REPLICA_URLS", "").split(","))]
            split = [urlsplit(url) for url in databases]
            told[app] = {(parse_qs(url.query)["hostaddr"][0], int(url.port or 0)) for url in split}
            caches = [urlsplit(variables[name]) for name in ("CACHE_URL", "BROKER_URL") if name in variables]
            told[app] |= {(str(url.hostname), int(url.port or 0)) for url in caches}
        callers = wiring["base"]["egress"]["callers"]
        assert {
            c["name"]: {(link["to"], port) for link in c["links"] for port in link["ports"]} for c in callers
        } == told
        assert all(entry.address in wiring["base"]["egress"]["fleet"] for entry in site.fleet.hosts.values() if callers)


def test_what_an_app_opens_has_its_place_among_the_rules(tmp_path: Path) -> None:
    files = good()
    opened = ["internet", {"to": "10.9.0.0/16", "ports": [25]}, {"to": "10.0.0.1", "ports": [443]}]
    files["apps/blog.yaml"]["egress"] = [*opened, {"to": "127.0.0.1", "ports": [11211]}]
    files["apps/web-shop.yaml"]["egress"] = "none"
    callers = pillar_of(load_written(tmp_path, files), "web1")["wiring"]["base"]["egress"]["callers"]
    blog, shop = ({place: [one["to"] for one in c[place]] for place in ("here", "private", "public")} for c in callers)
    assert blog == {"here": ["10.0.0.1/32", "127.0.0.1/32"], "private": ["10.9.0.0/16"], "public": ["internet"]}
    assert shop == {"here": [], "private": [], "public": []}


def test_random_fleets_are_of_different_shapes(tmp_path: Path) -> None:
    shapes = {len(_random_site(tmp_path / str(seed), seed).fleet.hosts) for seed in range(25)}
    assert len(shapes) > 3


def test_a_fleet_without_the_roles_that_apps_need_is_refused(tmp_path: Path) -> None:
    files = good()
    files["fleet.yaml"]["hosts"] = {"a": {"address": "10.0.0.1", "roles": ["base"]}}
    with pytest.raises(SiteError, match="no host has role builder, postgres, redis, web, edge"):
        load_written(tmp_path, files)


def test_without_a_need_of_redis_none_is_needed(tmp_path: Path) -> None:
    files = good()
    for need in ("cache", "broker"):
        del files["apps/blog.yaml"][need]
    files["fleet.yaml"]["hosts"]["data1"]["roles"].remove("redis")
    site = load_written(tmp_path, files)
    assert "redis" not in str(pillar_of(site, "web1")["wiring"])


def test_placeholders_are_filled_in_values_and_templates_and_nowhere_else(tmp_path: Path) -> None:
    files = good()
    files["settings.yaml"] = {"edge": {"https_port": 8443}}
    files["apps/blog.yaml"] |= {
        "env": {"DB": "{database_host}:{database_port}/{database_name}", "JSON": '{"a": "{{hostname}}", "b": {}}'},
        "files": {"conf.py": {"template": "blog/conf.jinja"}},
        "media_url": "/media/",
    }
    files["apps/blog/conf.jinja"] = "KEY = {{ secret_key | tojson }}\nURL = '{{ base_url }}'\n"
    key = '"{database_password}" & \\ <k>' + "k" * 20
    files["secrets/shared.yaml"] = {
        "apps": {"blog": {"database_password": "{secret_key}" + "p" * 20, "secret_key": key.replace(" ", "")}},
    }
    blog = pillar_of(load_written(tmp_path, files), "web1")["wiring"]["apps"]["blog"]
    assert blog["environment"]["DB"] == "data1.shop.test:5432/blog"
    assert blog["environment"]["JSON"] == '{"a": "{hostname}", "b": {}}'
    assert blog["environment"]["MEDIA_ROOT"] == "/srv/apps/blog/media"
    told: dict[str, Any] = {}
    exec(blog["files"]["conf.py"], told)
    assert told["KEY"] == key.replace(" ", "") and told["URL"] == "https://blog.test:8443"


def test_only_web_hosts_get_the_files(tmp_path: Path) -> None:
    files = good()
    files["apps/blog.yaml"]["files"] = {"conf.py": {"template": "conf.jinja"}}
    files["apps/conf.jinja"] = "{{ secret_key }}"
    site = load_written(tmp_path, files)
    assert "secret_key" not in str(pillar_of(site, "data1")["wiring"])
    assert len(pillar_of(site, "web2")["wiring"]["apps"]["blog"]["files"]["conf.py"]) >= 50


def test_every_placeholder_has_a_value(tmp_path: Path) -> None:
    site = load_written(tmp_path, good())
    pillar = pillar_of(site, "web1")
    secrets = Secrets.model_validate(pillar["secrets"])
    assert set(wiring.values(site, "web1", "blog", secrets)) == set(PLACEHOLDERS)


def with_replica(**more: Any) -> dict[str, Any]:
    """The good site with a replica."""
    files = good()
    host = {"address": "10.0.0.5", "roles": ["base", "postgres"], "replica_of": "data1"}
    files["fleet.yaml"]["hosts"]["data-2"] = {**host, **more}
    return files


def test_primary_and_replica_know_each_other(tmp_path: Path) -> None:
    site = load_written(tmp_path, with_replica())
    primary, replica = pillar_of(site, "data1"), pillar_of(site, "data-2")
    slot = "saltern_data_2"
    assert primary["wiring"]["postgres"]["replicas"] == [
        {"host": "data-2", "slot": slot, "address": "10.0.0.5/32", "logins": ["saltern_replication"]}
    ]
    assert primary["wiring"]["postgres"]["primary"] is None
    assert replica["wiring"]["postgres"]["primary"] == {
        "host": "data1", "name": "data1.shop.test", "address": "10.0.0.4", "port": 5433, "slot": slot,
        "user": "saltern_replication",
    }  # fmt: skip
    assert replica["wiring"]["postgres"]["replicas"] == []
    assert replica["wiring"]["postgres"]["listen"] == ["127.0.0.1", "10.0.0.5"]
    assert replica["wiring"]["postgres"]["clients"] == primary["wiring"]["postgres"]["clients"]
    password = primary["secrets"]["replication_password"]
    assert password == replica["secrets"]["replication_password"]
    for host in set(site.fleet.hosts) - {"data1", "data-2"}:
        assert password not in str(pillar_of(site, host)), "nobody else can copy the databases"
    assert pillar_of(site, "web1")["wiring"]["apps"]["blog"]["environment"]["DATABASE_URL"].count("data1") == 1


def test_a_primary_listens_for_its_replica_without_any_app(tmp_path: Path) -> None:
    files = {"fleet.yaml": with_replica()["fleet.yaml"]}
    site = load_written(tmp_path, files)
    assert pillar_of(site, "data1")["wiring"]["postgres"]["listen"] == ["127.0.0.1", "10.0.0.4"]
    assert pillar_of(site, "data-2")["wiring"]["postgres"]["listen"] == ["127.0.0.1"]


def test_the_primary_is_found_though_the_replica_has_other_roles(tmp_path: Path) -> None:
    files = with_replica(roles=["base", "postgres", "redis"])
    files["fleet.yaml"]["hosts"]["data1"]["roles"].remove("redis")
    site = load_written(tmp_path, files)
    assert (wiring.only(site, "postgres"), wiring.only(site, "redis")) == ("data1", "data-2")


def test_without_replicas_nobody_holds_their_password(tmp_path: Path) -> None:
    site = load_written(tmp_path, good())
    assert "replication_password" not in pillar_of(site, "data1")["secrets"]
    assert "replication_password" not in (site.path / "secrets" / "shared.yaml").read_text()


def test_a_replica_is_applied_after_its_primary_and_may_reach_it(tmp_path: Path) -> None:
    files = {"fleet.yaml": with_replica()["fleet.yaml"]}
    site = load_written(tmp_path, files)
    opened = {entry["port"]: entry["sources"] for entry in pillar_of(site, "data1")["wiring"]["base"]["open_ports"]}
    assert opened[5432] == ["10.0.0.5"]
    assert 5432 not in {entry["port"] for entry in pillar_of(site, "data-2")["wiring"]["base"]["open_ports"]}
    roles = {"data1": ["base", "postgres"], "data-2": ["base", "postgres"], "web1": ["base", "web"]}
    assert ranks(roles, ["data-2"]) == [["data1"], ["data-2"], ["web1"]]


def test_edges_share_an_address_with_each_other_and_nobody_else(tmp_path: Path) -> None:
    files = good()
    files["fleet.yaml"] |= {"virtual_address": "10.0.0.10"}
    files["fleet.yaml"]["hosts"]["front2"] = {"address": "10.0.0.8", "roles": ["base", "edge"]}
    site = load_written(tmp_path, files)
    for host, peer in (("front1", "10.0.0.8"), ("front2", "10.0.0.1")):
        shared = {"address": "10.0.0.10", "peers": [peer], "router_id": 10}
        told = pillar_of(site, host)["wiring"]
        assert (told["edge"]["virtual_address"], told["base"]["vrrp_from"]) == (shared, [peer])
    assert pillar_of(site, "web1")["wiring"]["base"]["vrrp_from"] == []


def test_apps_are_told_where_to_read_only_where_there_is_a_replica(tmp_path: Path) -> None:
    assert "REPLICA_URLS" not in str(pillar_of(load_written(tmp_path / "none", good()), "web1"))
    told = pillar_of(load_written(tmp_path / "one", with_replica()), "web1")["wiring"]["apps"]["blog"]["environment"]
    primary, replica = urlsplit(told["DATABASE_URL"]), urlsplit(told["REPLICA_URLS"])
    assert (replica.hostname, replica.port, replica.path) == ("data-2.shop.test", 5433, "/blog")
    assert parse_qs(replica.query)["hostaddr"] == ["10.0.0.5"] and parse_qs(replica.query)["sslmode"] == ["verify-full"]
    assert (replica.username, replica.password) == (primary.username, primary.password)


def test_while_a_password_is_replaced_both_login_roles_are_let_in(tmp_path: Path) -> None:
    site = load_written(tmp_path, with_replica())
    for host in ("data1", "data-2"):
        plain = pillar_of(site, host)["secrets"]
        plain["apps"]["blog"] |= {"logins": {"database": 2, "owner": 2}, "previous": {"database_password": "x" * 20}}
        plain |= {"logins": {"replication": 2}, "previous": {"replication_password": "y" * 20}}
        told = postgres.told(site, host, Secrets.model_validate(plain))
        logins = next(client["logins"] for client in told["clients"] if client["app"] == "blog")
        assert logins == {"user": ["blog", "blog__2"], "owner": ["blog_owner__2"]}
    assert told["primary"]["user"] == "saltern_replication__2"
