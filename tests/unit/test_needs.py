"""A need that goes outlives what still serves: every grant of every example fleet, and who may read wiring at all."""

from __future__ import annotations

import copy
import json
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from salt.exceptions import CommandExecutionError

from lab.fleet import read_orchestration
from saltern.firewall import egressrules
from saltern.needs import grants as needs
from saltern.needs import readback
from saltern.orch import face
from saltern.orch import settle as orchestration
from saltern.postgres import pgconf
from saltern.redis import redisfiles
from saltern.site.apps import OWN_VARIABLES
from saltern.site.compiled import host_pillar
from saltern.site.links import SERVICES
from saltern.site.load import load_site
from saltern.site.roles import STOPPABLE
from saltern.site.secrets import generate_secrets
from tests.unit.contracts import ROOT, load

FLEETS = {"single": ["app1"], "ha": ["master", "edge1", "web1", "worker1", "db1", "db2", "redis1"]}
HOSTS = [(fleet, host) for fleet, hosts in FLEETS.items() for host in hosts]
ALONE = {"host": "app1", "hosts": {"app1": {"roles": ["web"], "address": "10.0.0.1"}}, "web_port": 8443}
each_host = pytest.mark.parametrize(("fleet", "host"), HOSTS, ids=[f"{fleet}-{host}" for fleet, host in HOSTS])


@pytest.fixture(scope="session")
def pillars(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], dict[str, Any]]:
    import shutil

    found = {}
    for fleet, hosts in FLEETS.items():
        site = tmp_path_factory.mktemp(fleet) / "site"
        shutil.copytree(ROOT / "lab/fleets" / fleet, site)
        loaded = load_site(site)
        generate_secrets(loaded)
        for host in hosts:
            secrets = yaml.safe_load((site / "secrets" / f"{host}.sls").read_text())["secrets"]
            found[fleet, host] = host_pillar(loaded, host, secrets)
    return found


def without_apps(pillar: dict[str, Any]) -> dict[str, Any]:
    """The pillar of a host whose site has lost all that is granted there."""
    bare = copy.deepcopy(pillar)
    wiring = bare["wiring"]
    bare["apps"], wiring["base"]["open_ports"], wiring["base"]["egress"]["callers"] = {}, [], []
    for server in wiring.get("redis", {}).values():
        server["users"] = []
    wiring.get("postgres", {}).update(clients=[], replicas=[])
    wiring.pop("web", None)
    return bare


@each_host
def test_what_is_granted_is_what_the_pillar_says(pillars, fleet: str, host: str) -> None:
    """No grant is lost on the way through words: what is given from them is the wiring itself."""
    pillar = pillars[fleet, host]
    wiring, grants = pillar["wiring"], needs.wanted(pillar)
    assert needs.base(wiring["base"], grants) == wiring["base"]
    for server in ("broker", "cache"):
        users = [{key: value for key, value in user.items() if key != "good"} for user in needs.users(server, grants)]
        assert users == wiring.get("redis", {}).get(server, {}).get("users", [])
        assert all(user["good"] for user in needs.users(server, grants))
    found = needs.postgres(grants, pillar["apps"])
    assert found["clients"] == wiring.get("postgres", {}).get("clients", []) and found["leaving"] == []
    assert found["replicas"] == wiring.get("postgres", {}).get("replicas", [])
    pages = needs.pages(grants)
    for kind in ("edges", "edge_subjects"):
        assert sorted(pages[kind]) == sorted(wiring.get("web", {}).get(kind, []))
    passwords = re.findall(r"'redis_password': '([^']+)'", str(pillar["secrets"]))
    assert not [password for password in passwords if password in str(grants)], "only hashes are remembered"


@each_host
def test_each_grant_that_goes_stays_while_somebody_may_use_it_and_then_goes(pillars, fleet: str, host: str) -> None:
    before, now = needs.wanted(pillars[fleet, host]), needs.wanted(without_apps(pillars[fleet, host]))
    assert now == {}
    everything = needs.both(before, now)
    assert everything == before and needs.fewer(everything, before) == {}
    apps = {one["app"] for one in before.values()} - {None}
    whole = fleet_of(pillars[fleet, host])
    alone = whole | {"hosts": {host: whole["hosts"][host]}}
    everybody = {
        n: [needs.ALL] for n, about in whole["hosts"].items() if n != host and {"web", "worker"} & {*about["roles"]}
    }
    assert needs.left(everything, now, apps, alone, None).keys() >= {n for n, one in before.items() if one["app"]}
    assert needs.left(everything, now, [], alone, None) == needs.left(everything, now, [], whole, {}) == {}
    assert needs.fewer(before, {}).keys() == before.keys()
    for name, one in before.items():
        unseen = one["client"] != "here" and one.get("host") != host and fleet != "single"
        assert one["client"] != "edges" or one["kind"] == "listen"
        assert (name in needs.left(everything, now, [], whole, None)) == unseen, "others cannot be seen from here"
        may = unseen and "edge" not in str(one.get("host")) and one["client"] != "edges"
        assert (name in needs.left(everything, now, [], whole, everybody)) == bool(may), name


def fleet_of(pillar: dict[str, Any]) -> dict[str, Any]:
    hosts = {name: {**about} for name, about in pillar["fleet"]["hosts"].items()}
    return {"host": pillar["host"]["id"], "hosts": hosts, "web_port": pillar.get("web", {}).get("port")}


@each_host
def test_what_another_host_holds_keeps_that_apps_needs_on_that_host_alone(pillars, fleet: str, host: str) -> None:
    """One app that is held somewhere kept every grant of every other one, and an edge that had left kept its access."""
    pillar = pillars[fleet, host]
    before, whole = needs.wanted(pillar), fleet_of(pillar)
    kept = needs.left(before, {}, [], whole, {"web1": ["demo"], "worker1": ["other"]})
    for name, one in before.items():
        copies = one.get("host") in ("db1", "db2") and one["client"] == "elsewhere"
        held = one["client"] == "apps" or copies or (one.get("host") == "web1" and one["app"] in (None, "demo"))
        held = held or name.startswith("10.78.0.31 comes")
        assert (name in kept) == (
            one["client"] == "apps" or (fleet != "single" and one["client"] != "here" and held)
        ), name


@each_host
def test_a_host_that_has_left_keeps_nothing_and_an_edge_not_even_till_others_were_applied(
    pillars, fleet: str, host: str
) -> None:
    pillar = pillars[fleet, host]
    before, whole = needs.wanted(pillar), fleet_of(pillar)
    for gone in set(whole["hosts"]) - {host}:
        fewer = whole | {"hosts": {name: about for name, about in whole["hosts"].items() if name != gone}}
        its = {name for name, one in before.items() if one.get("host") == gone and one["client"] == "elsewhere"}
        assert set(needs.strangers(before, fewer)) == its
        everybody = {name: [needs.ALL] for name in fewer["hosts"]}
        assert not its & needs.left(before, {}, [], fewer, everybody).keys()
        at_once = needs.left(before, {}, [], fewer, None).keys()
        assert (its & at_once) == (set() if gone.startswith("edge") else its), "whoever serves still may be asked"


def test_an_edge_that_moves_to_another_address_is_the_same_one() -> None:
    hosts = {"web1": {"roles": ["web"], "address": "10.0.0.1"}, "edge1": {"roles": ["edge"], "address": "10.0.0.9"}}
    fleet = {"host": "web1", "hosts": hosts, "web_port": 8443}
    one = {
        "part": "ports",
        "app": None,
        "client": "elsewhere",
        "host": "edge1",
        "port": 8443,
        "source": "10.0.0.2",
        "why": "pages",
    }
    assert needs.left({"x": one}, {}, [], fleet, None) == {"x": one} and needs.left({"x": one}, {}, [], fleet, {}) == {}
    unknown = {**one, "host": None}
    assert needs.left({"x": unknown}, {}, [], fleet, None) == {}


@each_host
def test_what_is_given_for_a_while_is_given_whole(pillars, fleet: str, host: str) -> None:
    """With the site that has nothing, and all that is remembered, each part is what it was before."""
    pillar, bare = pillars[fleet, host], without_apps(pillars[fleet, host])
    both = needs.both(needs.wanted(pillar), needs.wanted(bare))
    given, was = needs.base(bare["wiring"]["base"], both), pillar["wiring"]["base"]
    assert given["egress"]["callers"] == was["egress"]["callers"]
    ports = {entry["port"]: entry["sources"] for entry in was["open_ports"]}
    assert all(entry["sources"] == ports[entry["port"]] for entry in given["open_ports"])
    found = needs.postgres(both, [])
    assert found["leaving"] == pillar["wiring"].get("postgres", {}).get("clients", []) and found["clients"] == []


def grant(**opening: Any) -> dict[str, Any]:
    what = {"part": "calls", "app": "demo", "client": "here", "users": ["app-demo"], "place": "links"}
    return what | {"opening": {"to": "127.0.0.1", "ports": [6380], "protocol": "tcp", **opening}}


def test_a_smaller_number_comes_when_the_larger_one_is_not_used_any_more() -> None:
    before, now = {"a": grant(most=90)}, {"a": grant(most=20)}
    both = needs.both(before, now)
    assert both["a"]["opening"]["most"] == 90 and needs.both(now, before)["a"]["opening"]["most"] == 90
    assert needs.left(both, now, ["demo"], ALONE, None) == both
    assert needs.left(both, now, [], ALONE, None) == now
    sizes = [{"connections": number, "users": ["app-demo"]} for number in (90, 20)]
    assert needs.fewer(both, now) == {"a": {"old": sizes[0], "new": sizes[1]}}
    assert needs.more(now, both) == {"a": {"old": sizes[1], "new": sizes[0]}}


def test_an_account_that_is_replaced_calls_until_nothing_of_it_runs() -> None:
    before, now = {"a": grant()}, {"a": grant() | {"users": ["app-other"]}}
    empty = {"open_ports": [], "egress": {"callers": []}}
    (caller,) = needs.base(empty, needs.both(before, now))["egress"]["callers"]
    assert caller["users"] == ["app-other", "app-demo"]
    assert needs.left(needs.both(before, now), now, [], False, False) == now


def test_a_database_with_another_name_leaves_the_old_ones_roles_alone(pillars) -> None:
    before = needs.wanted(pillars["single", "app1"])
    now = {name.replace("database demo", "database shop"): copy.deepcopy(one) for name, one in before.items()}
    for one in now.values():
        if one.get("app") == "demo" and "let_in" in one:
            one["let_in"] |= {"database": "shop", "user": "shop", "owner": "shop_owner"}
    clients = needs.postgres(needs.both(before, now), ["demo"])["clients"]
    assert {(one["database"], one["user"], one["owner"]) for one in clients} == {
        ("demo", "demo", "demo_owner"), ("shop", "shop", "shop_owner"),
    }  # fmt: skip


def test_roles_of_databases_have_the_larger_limit_from_everywhere(pillars) -> None:
    before = needs.wanted(pillars["ha", "db1"])
    now = copy.deepcopy(before)
    for one in now.values():
        if "let_in" in one:
            one["let_in"]["limits"] = {"user": 1, "owner": 1}
    found = needs.postgres(needs.both(before, now), ["demo"])["clients"]
    limits = [one["let_in"]["limits"] for one in before.values() if "let_in" in one]
    assert found and all(client["limits"] == limits[0] for client in found)


def test_pages_are_at_the_old_port_too_until_the_edges_know_the_new_one(pillars, monkeypatch) -> None:
    for fleet, host in (("single", "app1"), ("ha", "web1")):
        pillar = copy.deepcopy(pillars[fleet, host])
        before = needs.wanted(pillar)
        pillar["web"]["port"] = 8099
        both = needs.both(before, needs.wanted(pillar))
        assert [one.rpartition(":")[2] for one in needs.pages(both)["listens"]] == ["8099", "8080"]
        whole = fleet_of(pillar)
        assert len(needs.pages(needs.left(both, needs.wanted(pillar), [], whole, None))["listens"]) == 1 + (
            fleet == "ha"
        )
        assert len(needs.pages(needs.left(both, needs.wanted(pillar), ["demo"], whole, {}))["listens"]) == 1


def test_a_host_that_has_another_address_does_not_listen_on_the_old_one(tmp_path: Path, pillars) -> None:
    module = host(tmp_path)
    module.__pillar__ = copy.deepcopy(pillars["single", "app1"])
    there = needs.wanted(module.__pillar__)
    gone = next(one for one in there.values() if one.get("kind") == "listen") | {"listen": "192.0.2.1:8080"}
    module.RECORD.write_text(json.dumps(there | {"pages are at 192.0.2.1:8080": gone}))
    assert module.pages()["listens"] == ["127.0.0.1:8080"], "nginx would not start"


def test_a_place_that_is_another_kinds_now_has_one_meaning() -> None:
    was = {"a": {"part": "pages", "app": "demo", "client": "here", "kind": "static", "url": "/files/"}}
    now = {"b": {"part": "pages", "app": "demo", "client": "here", "kind": "media", "url": "/files/"}}
    assert needs.pages(needs.both(was, now))["static"] == {}, "nginx refuses a location that is there twice"


ENVIRONMENT = {
    "DATABASE_URL": "postgres://demo:a@db1.x:5432/demo?hostaddr=10.0.0.1&sslmode=verify-full",
    "REPLICA_URLS": "postgres://demo:a@db2.x:5432/demo?hostaddr=10.0.0.2,postgres://demo:a@db3.x:5432/demo?hostaddr=10.0.0.3",
    "CACHE_URL": "rediss://app-demo:a@10.0.0.4:6381/0?ssl_cert_reqs=required",
    "BROKER_URL": "rediss://app-demo:a@10.0.0.4:6380/1?ssl_cert_reqs=required",
    "MEDIA_ROOT": "/srv/apps/demo/media",
}


@pytest.mark.parametrize("name", ENVIRONMENT)
def test_a_process_that_was_told_of_more_than_is_given_holds_it(name: str) -> None:
    rest = {key: value for key, value in ENVIRONMENT.items() if key != name}
    assert needs.excess(ENVIRONMENT, rest) == [name]
    assert needs.excess(rest, ENVIRONMENT) == []
    elsewhere = ENVIRONMENT | {name: ENVIRONMENT[name].replace("10.0.0", "10.9.9").replace("/srv", "/opt")}
    assert needs.excess(ENVIRONMENT, elsewhere) == [name], "it was moved to another host"


def test_a_password_or_a_login_that_was_replaced_is_no_need() -> None:
    now = {name: value.replace("demo:a@", "demo__2:b@") for name, value in ENVIRONMENT.items()}
    assert needs.excess(ENVIRONMENT, now) == []
    fewer = ENVIRONMENT | {"REPLICA_URLS": ENVIRONMENT["REPLICA_URLS"].split(",")[0]}
    assert needs.excess(ENVIRONMENT, fewer) == ["REPLICA_URLS"]


# --- no member without its place ------------------------------------------------------------------------------------

#: Variables that grant nothing: a process that has them goes on with them whatever the site says now.
GRANT_NOTHING = {
    "CACHE_KEY_PREFIX", "BROKER_KEY_PREFIX", "SECRET_KEY", "SECRET_KEY_FALLBACKS", "ALLOWED_HOSTS",
    "CSRF_TRUSTED_ORIGINS", "DJANGO_SETTINGS_MODULE", "RELEASE_ID", "RELEASE_COMMIT", "STATIC_ROOT",
}  # fmt: skip
#: Parts of the wiring that are read where they are: they grant nothing to an app, or nothing that can go alone.
READ_DIRECTLY = {
    "together", "listen", "primary", "connections", "single", "virtual_address", "webs", "window", "environment",
    "migration_environment", "files", "builds", "code", "master", "minions", "vrrp_from", "apps",
}  # fmt: skip


def test_every_variable_of_ours_grants_something_or_nothing() -> None:
    assert {*needs.TOLD} | GRANT_NOTHING == {*OWN_VARIABLES} and not {*needs.TOLD} & GRANT_NOTHING


def test_every_service_of_the_table_is_remembered_or_for_everybody() -> None:
    for service in SERVICES:
        if service.clients == ("anyone",) or service.clients == ("minion",):
            continue
        assert service.role in needs.PORTS, f"a link of {service.name} that goes is cut at once"


@pytest.mark.parametrize("path", sorted((ROOT / "salt").rglob("*.*")), ids=lambda path: str(path.relative_to(ROOT)))
def test_what_is_granted_is_asked_of_needs_and_not_of_the_wiring(path: Path) -> None:
    """A state that gives what the pillar says at this moment takes away what still serves."""
    if path.suffix not in (".sls", ".jinja", ".conf", ".cfg") or not path.is_file():
        return
    text = path.read_text()
    for key in ("users", "clients", "replicas", "edges", "edge_subjects", "open_ports", "callers"):
        for line in text.splitlines():
            if re.search(rf"wiring.*\[['\"]{key}['\"]\]", line) and "pillar" in line:
                assert "set runs" in line or line.startswith("{%- if "), f"{line.strip()}: ask salt['needs...'] for it"


@pytest.mark.parametrize("path", sorted((ROOT / "_modules").glob("*.py")), ids=lambda path: path.name)
def test_modules_ask_needs_too(path: Path) -> None:
    allowed = {"needs.py": 9, "redis_server.py": 3}  # clear, _without_prefix, legacy_used_by: questions, no grants
    found = re.findall(r'"(?:users|clients|replicas|edges|edge_subjects|open_ports|callers)"\]', path.read_text())
    in_pillar = [line for line in path.read_text().splitlines() if '__pillar__["wiring"]' in line]
    risky = [line for line in in_pillar if re.search(r'"(users|clients|replicas|edges|open_ports|callers)"\]', line)]
    assert len(risky) <= allowed.get(path.name, 0), f"{risky}: ask needs for it ({len(found)})"


@pytest.mark.parametrize("role", ["redis", "postgres"])
def test_a_role_that_goes_stops_only_when_nobody_uses_it(role: str) -> None:
    assert role in STOPPABLE
    text = (ROOT / f"salt/{role}/absent.sls").read_text()
    assert text.count("daemon.dead") == text.count(f"serves: {role}")


def test_the_lab_reads_an_orchestration_that_ends_with_another_one() -> None:
    state = {"__id__": "x", "result": True, "changes": {}, "comment": "", "__run_num__": 0}
    applied = {"__id__": "app1", "__run_num__": 0, "result": True, "changes": {"ret": {"app1": {"x": state}}}}
    another = {"__id__": "b", "__run_num__": 1, "result": True, "changes": {"return": {}}, "comment": "ran"}
    steps = {"salt_|-app1_|-app1_|-state": applied, "salt_|-b_|-b_|-runner": another}
    answer = lambda: json.dumps({"data": {"master": steps}})  # noqa: E731
    assert [outcome.ok for outcome in read_orchestration(0, answer(), "")] == [True]
    another["result"] = False
    assert [outcome.ok for outcome in read_orchestration(0, answer(), "")] == [True, False]


# --- who holds it ----------------------------------------------------------------------------------------------------

UNITS = """Id=app-demo@r1.service
ActiveState=active
WorkingDirectory=/srv/apps/demo/releases/r1/src

Id=app-demo-worker@r1.service
ActiveState=deactivating
WorkingDirectory=/srv/apps/demo/releases/r1/src

Id=app-demo-clean@r0.service
ActiveState=inactive
WorkingDirectory=/srv/apps/demo/releases/r0/src

Id=app-demo-manage.service
ActiveState=active
WorkingDirectory=/srv/apps/demo/releases/r1/src
"""


def host(tmp_path: Path, asked: str = "r1", pinned: str | None = None, worker: bool = True, **given: str) -> Any:
    """The execution module on a host on which release r1 of the demo runs, with a worker and a command."""
    module = load("_modules", "needs")
    for release, environment in (("r1", ENVIRONMENT), ("r2", given)):
        folder = tmp_path / "releases" / "demo" / "releases" / release
        folder.mkdir(parents=True)
        text = "".join(f'{name}="{value}"\n' for name, value in environment.items())
        (folder / "env").write_text(text)
    module.APPS, module.RECORD = tmp_path / "releases", tmp_path / "needs.json"
    module.DATA, module.POSTGRES = tmp_path / "data", tmp_path / "postgres"
    (tmp_path / "nftables.conf").write_text("# Written by Salt (salt/base)\n")
    module.FILES = {"firewall": str(tmp_path / "nftables.conf")}
    caller = {"name": "demo", "users": ["app-demo"]} | dict.fromkeys(needs.PLACES, ())
    module.__pillar__ = {
        "apps": {"demo": {"env": {}}},
        "wiring": {"apps": {"demo": {"environment": given}}, "base": {"egress": {"callers": [caller]}}},
        "fleet": {"hosts": {"app1": {"roles": ["web"]}}},
        "host": {"id": "app1"},
    }
    desired = pinned or asked
    module.__salt__ = {
        "release.pinned": lambda app: {"release": pinned} if pinned else None,
        "release.asked_for": lambda app: {"id": asked},
        "release.desired": lambda app: {"id": desired},
        "processes.wanted": lambda app: [{"template": "app-demo-worker@"}] if worker else [],
    }

    class Systemctl:
        stdout, stderr, returncode = UNITS, "", 0

        def __call__(self, *arguments: Any, **named: Any) -> Any:
            return self

    module.subprocess = SimpleNamespace(run=Systemctl())
    return module


def test_a_host_that_is_as_the_site_says_holds_nothing(tmp_path: Path) -> None:
    module = host(tmp_path, **ENVIRONMENT)
    assert module.held() == {} and module.held(plan=True) == {}
    assert [one["unit"] for one in module.running()] == [
        "app-demo@r1.service", "app-demo-worker@r1.service", "app-demo-manage.service",
    ]  # fmt: skip


def test_an_old_release_holds_and_a_plan_knows_that_it_will_have_gone(tmp_path: Path) -> None:
    module = host(tmp_path, asked="r2")
    assert len(module.held()["demo"]) == 3, "its worker and a person's command are of it as well"
    assert len(module.held(plan=True)["demo"]) == 1, "the command ends by itself"
    module.subprocess.run.stdout = UNITS[: UNITS.index("Id=app-demo-manage")]
    assert len(module.held()["demo"]) == 2 and module.held(plan=True) == {}


def test_a_worker_that_is_to_go_holds_until_it_has_gone(tmp_path: Path) -> None:
    module = host(tmp_path, worker=False, **ENVIRONMENT)
    assert module.held() == {"demo": ["app-demo-worker@r1.service is to go"]}
    assert module.held(plan=True) == {}


def test_a_pinned_release_keeps_what_it_was_started_with(tmp_path: Path) -> None:
    given = {name: value for name, value in ENVIRONMENT.items() if name != "BROKER_URL"}
    module = host(tmp_path, asked="r2", pinned="r1", **given)
    for plan in (False, True):
        assert all("was started with BROKER_URL" in said for said in module.held(plan)["demo"])


def test_what_the_fleet_has_not_switched_yet_holds_after_an_apply_too(tmp_path: Path) -> None:
    module = host(tmp_path, asked="r2")
    module.__salt__["release.desired"] = lambda app: {"id": "r1"}  # orch.deploy switches, no apply does
    assert module.held(plan=True) == module.held() != {}


def test_the_run_of_a_timer_ends_by_itself(tmp_path: Path) -> None:
    module = host(tmp_path, asked="r2")
    module.__salt__["processes.wanted"] = lambda app: [{"template": "app-demo-clean@", "timer": "app-demo-clean.timer"}]
    text = UNITS.replace("ActiveState=inactive", "ActiveState=activating")
    module.subprocess.run.stdout = text[: text.index("Id=app-demo-manage")]
    assert module.held(plan=True) == {"demo": ["app-demo-clean@r0.service is not of release r2"]}


def test_an_app_that_the_site_has_no_more_holds_while_anything_of_it_runs(tmp_path: Path) -> None:
    module = host(tmp_path)
    module.__pillar__["apps"] = {}
    assert len(module.held()["demo"]) == 3
    assert module.held(plan=True) == {"demo": ["app-demo-manage.service runs"]}, "no apply ends a person's command"


def test_what_cannot_be_known_is_held(tmp_path: Path) -> None:
    module = host(tmp_path)

    def fail(app: str) -> dict[str, str]:
        raise CommandExecutionError("the source is not buildable")

    module.__salt__["release.asked_for"] = fail
    assert module.held() == {"demo": ["the source is not buildable"]}


DAMAGED = ['{"a": ', "null", "[]", "7", '{"a": {}}', '{"a": null}', '{"a": {"part": "calls"}}', "\x00" * 40]


@pytest.mark.parametrize("text", DAMAGED)
def test_a_record_that_is_damaged_is_set_aside_and_the_hosts_own_files_tell(tmp_path: Path, text: str) -> None:
    module = host(tmp_path)
    assert module.damage() == "" and module.remembered() == module.in_force()
    module.RECORD.write_text(text)
    assert str(module.RECORD) in module.damage()
    grants = module.remembered()
    assert "demo calls tcp 10.0.0.2 5432" in grants, "what its release was told of"
    module.remember(grants)
    assert (tmp_path / "needs.damaged").read_text() == text
    assert module.damage() == "" and module.remembered() == grants


@pytest.mark.parametrize(("says", "expected"), [(40, 40), (-1, 7), (None, 7)])
def test_postgres_says_how_many_sessions_there_were(tmp_path: Path, says: int | None, expected: int) -> None:
    module = host(tmp_path)
    client = {"app": "demo", "database": "demo", "user": "demo", "owner": "demo_owner", "address": "10.0.0.5/32"}
    client |= {"limits": {"user": 7, "owner": 2}, "migrates": False, "logins": {"user": ["demo"], "owner": []}}
    module.__pillar__["wiring"]["postgres"] = {"clients": [client]}
    module.__pillar__["postgres"] = {"port": 5432}

    def roles(names: list[str], port: int) -> dict[str, Any]:
        if says is None:
            raise CommandExecutionError("password authentication failed")
        return {"demo": {"rolconnlimit": says}}

    module.__salt__["pg.roles"] = roles
    (tmp_path / "postgres/17/main").mkdir(parents=True)
    (tmp_path / "postgres/17/main/pg_hba.conf").write_text('hostssl "demo" "demo" 10.0.0.4/32 scram-sha-256\n')
    found = module.remembered()["demo comes to database demo from 10.0.0.4/32"]["let_in"]
    assert found["limits"] == {"user": expected, "owner": 2} and client["limits"]["user"] == 7


@each_host
def test_each_grant_of_each_fleet_is_sound_and_none_without_one_of_its_parts(pillars, fleet: str, host: str) -> None:
    grants = needs.wanted(pillars[fleet, host])
    assert needs.sound(json.loads(json.dumps(grants)))
    for name, one in grants.items():
        for key in set(one) - {"host", "role"}:
            assert not needs.sound({name: {k: value for k, value in one.items() if k != key}}), (name, key)
        for key in {"opening", "user", "let_in", "replica"} & {*one}:
            assert not needs.sound({name: {**one, key: {}}}) and not needs.sound({name: {**one, key: None}})


@each_host
def test_what_is_in_force_is_read_from_the_hosts_own_files_grant_by_grant(pillars, fleet: str, host: str) -> None:
    """A host of an older Saltern has no record: what the files of today's say is what the site grants, each one."""
    pillar = pillars[fleet, host]
    wiring, wanted = pillar["wiring"], needs.wanted(pillar)
    uids = {user: 990 + n for n, c in enumerate(wiring["base"]["egress"]["callers"]) for user in c["users"]}
    egress = wiring["base"]["egress"] | {"builds": {"users": [], "ports": []}}
    chains = egressrules.chains(egress, uids, [], ["10.78.0.1"])
    rules = load("_modules", "firewall").ruleset(wiring["base"]["open_ports"], [], chains)
    own = {"saltern-admin": "a", "saltern-health": "b"}
    files = {server: redisfiles.users(needs.users(server, wanted), own, (8, 0)) for server in needs.servers()}
    postgres = needs.postgres(wanted, pillar["apps"])
    files |= {"firewall": rules, "hba": pgconf.hba(postgres["clients"], postgres["replicas"])}
    pages = needs.pages(wanted)
    nginx = "".join(f"    set_real_ip_from {edge};\n" for edge in pages["edges"])
    nginx += "".join(f'        "SUCCESS CN={edge}" 1;\n' for edge in pages["edge_subjects"])
    for kind in ("static", "media"):
        places = [(app, url) for app, urls in pages[kind].items() for url in urls]
        nginx += "".join(
            f"        location {url} {{\n            alias /srv/apps/{app}/{kind}/;\n" for app, url in places
        )
    nginx += "".join(f"        listen {listen} ssl default_server backlog=4096;\n" for listen in pages["listens"])
    files["nginx"] = f"# Written by Salt\n{nginx}" if "web" in wiring else ""
    callers = {one["name"]: one["users"] for one in wiring["base"]["egress"]["callers"]}
    apps = {name: {"environments": [], "users": users} for name, users in callers.items()}
    found = readback.grants(files, apps, postgres["clients"], needs.spoken)
    assert needs.sound(found)
    missing = {name for name in wanted if name not in found}
    assert {name for name in missing if " copies the databases " not in name} == set()
    assert set(found) <= set(wanted) | {name for name in found if " comes to port " in name}
    for name in set(found) & set(wanted):
        assert needs.fewer({name: wanted[name]}, {name: found[name]}) in ({}, limits_only(name, wanted)), name


def limits_only(name: str, wanted: dict[str, Any]) -> dict[str, Any]:
    return needs.fewer({name: wanted[name]}, {name: wanted[name]})


def test_before_apps_had_chains_their_code_called_whom_it_liked_and_goes_on_to() -> None:
    found = readback.grants(
        {"firewall": "# Written by Salt (salt/base)"},
        {
            "shop": {
                "environments": [{"CACHE_URL": "redis://:p@127.0.0.1:6379/0", "BROKER_URL": "nonsense://["}],
                "users": ["app-shop"],
            }
        },
        [],
        needs.spoken,
    )
    assert sorted(found) == [
        "shop calls any protocol 0.0.0.0/0 any port",
        "shop calls any protocol ::/0 any port",
        "shop calls tcp 127.0.0.1 6379",
    ]
    assert needs.sound(found)


def test_systemd_that_does_not_answer_is_not_taken_for_a_host_on_which_nothing_runs(tmp_path: Path) -> None:
    module = host(tmp_path)
    asked = module.subprocess.run
    asked.returncode, asked.stdout, asked.stderr = 1, "", "Failed to connect to bus: Connection timed out"
    with pytest.raises(CommandExecutionError, match="does not say what runs: Failed to connect"):
        module.held()


def state(test: bool = False, pillar: dict[str, Any] | None = None, **functions: Any) -> tuple[Any, list[str]]:
    """The state module, on a host that can lose one grant of nginx'; what it is told to do is listed."""
    module, done = load("_states", "needs"), []
    found = {"left": {}, "changes": {"x": {"old": "granted", "new": None}}, "parts": ["pages"], "kept": [], "why": []}
    module.__opts__ = {"test": test}
    module.__pillar__ = {"host": {"roles": ["web"]}, **(pillar or {})}
    module.__salt__ = {
        "needs.new": dict,
        "needs.damage": lambda: "",
        "needs.granted": dict,
        "needs.going": lambda plan: found,
        "needs.remember": lambda grants: done.append("remember"),
        "needs.close_pages": lambda: done.append("close"),
        **functions,
    }
    return module, done


@pytest.mark.parametrize("test", [True, False])
def test_a_damaged_record_is_warned_of_by_name_in_the_plan_and_in_the_apply(test: bool) -> None:
    module, done = state(test, **{"needs.damage": lambda: "/var/lib/saltern/needs.json is no list of grants"})
    told = module.remembered("what is granted")
    assert told["result"] is (None if test else True) and done == ([] if test else ["remember"])
    assert told["changes"] == {"the record of grants": {"old": "damaged", "new": "set aside as needs.damaged"}}
    assert "/var/lib/saltern/needs.json is no list of grants" in told["warnings"][0]


@pytest.mark.parametrize("test", [True, False])
def test_settling_changes_nothing_else(test: bool) -> None:
    """Whole files are written: where the site was edited since, what was not asked for would come into force."""
    module, done = state(test, {"held_elsewhere": {}}, **{"needs.unapplied": lambda parts: f"{parts[0]}: apply first"})
    told = module.settled("what nobody needs any more")
    assert (told["result"], told["changes"], told["comment"], done) == (False, {}, "pages: apply first", [])
    module, done = state(test, {"held_elsewhere": {}}, **{"needs.unapplied": lambda parts: ""})
    assert module.settled("what nobody needs any more")["result"] is (None if test else True)
    assert done == ([] if test else ["remember", "close"])


def test_what_would_change_in_more_is_named(tmp_path: Path) -> None:
    module = host(tmp_path)
    module.__pillar__["host"]["roles"] = ["web", "redis"]
    module.__pillar__["web"] = {"port": 8080}
    module.NGINX = str(tmp_path / "nginx.conf")
    module.__salt__ |= {
        "edge.takes_plain_http": lambda port, host, hosts: False,
        "slsutil.renderer": lambda **told: "as it is",
        "redis_server.users_differ": lambda server: {"old": "other"} if server == "cache" else {},
    }
    (tmp_path / "nginx.conf").write_text("as it is")
    assert module.unapplied(["pages"]) == ""
    said = module.unapplied(["pages", "redis", "postgres"])
    assert "users of the cache would change in more: apply app1 first" in said and "nginx" not in said


def test_settling_is_one_state_alone_and_an_apply_has_it_last() -> None:
    alone = yaml.safe_load((ROOT / "salt/base/settled.sls").read_text())
    assert alone == {"what nobody needs any more": {"needs.settled": [{"order": "last"}]}}
    assert "base.settled" in (ROOT / "salt/base/needs.sls").read_text()
    said = settle({"db1": ["a"], "web1": [], "web2": []}, {}, {"db1": {"going": ["a"], "kept": [], "why": []}})
    assert {"sls": ["base.settled"]} in said["what nobody needs any more is taken away"]["salt.state"]


def settle(kept: dict[str, Any], held: dict[str, Any], settling: dict[str, Any], **pillar: Any) -> dict[str, Any]:
    """orch.settle as the master renders it, with what the hosts answer; a host that is not there does not answer."""
    answers = {"needs.kept": kept, "needs.held": held, "needs.settling": settling, "saltutil.refresh_pillar": {}}
    answers["fleet.waiting"] = {}
    asked = {}

    def cmd(hosts: list[str], function: str, **arguments: Any) -> dict[str, Any]:
        asked[function] = arguments.get("kwarg")
        return {host: {"retcode": 0, "ret": answers[function][host]} for host in hosts if host in answers[function]}

    known = {
        "ranks": [["db1"], ["web1", "web2"]],
        "apps": ["demo"],
        "fleet": {"hosts": {}},
        "neighbours": {},
        "replaced_roles": [],
        "code": "",
    }
    known["app_hosts"] = {"all": ["web1", "web2"], "web": [], "edge": [], "builder": None}
    return {"asked": asked, **face.rendered(orchestration, known | pillar, {"saltutil.cmd": cmd})}


def test_settling_asks_who_holds_what_and_says_what_stays_for_whom_and_until_when() -> None:
    said = settle(
        {"db1": ["a", "b"], "web1": []},
        {"web1": {"demo": ["app-demo@r1.service is not of release r2", "two"], "{{ evil }}": ["x"]}},
        {"db1": {"going": ["a"], "kept": ["b"], "why": ["web1: app-demo@r1.service is not of release r2"]}},
    )
    held = {
        "web1": {"demo": ["app-demo@r1.service is not of release r2, two"]},
        "web2": {"*": ["it does not say what it runs"]},
    }
    assert said["asked"]["needs.settling"] == {"elsewhere": held}
    (applied,) = [
        dict(pair for one in state["salt.state"] for pair in one.items())
        for state in said.values()
        if "salt.state" in state
    ]
    assert applied["tgt"] == ["db1"] and applied["pillar"] == {"held_elsewhere": held} and "highstate" not in applied
    (sentence,) = [name for name in said if name.startswith("db1 still grants: b.")]
    assert "web1: app-demo@r1.service is not of release r2" in sentence and "It ends when" in sentence
    assert [name for name in said if "do not answer: web2" in name]


def test_settling_with_nothing_to_do_says_so_and_a_plan_is_one() -> None:
    assert "nothing is granted that the site does not want" in settle({"db1": [], "web1": [], "web2": []}, {}, {})
    said = settle(
        {"db1": ["a"], "web1": [], "web2": []}, {}, {"db1": {"going": ["a"], "kept": [], "why": []}}, plan=True
    )
    assert {"test": True} in said["what nobody needs any more is taken away"]["salt.state"]


def test_settling_cuts_what_hosts_say() -> None:
    """A key of YAML ends at 1,024 characters."""
    many = [f"app-demo{number} is a user of the cache" for number in range(200)]
    said = settle(
        {"db1": many},
        {"web1": {"demo": ["x" * 5000]}, "web2": {}},
        {"db1": {"going": [], "kept": many, "why": ["y" * 5000]}},
    )
    assert max(map(len, said)) < 1000


THE_HOST = host  # whose name an argument has below


@each_host
def test_an_sls_gives_what_the_pillar_says_and_what_is_remembered(
    pillars, tmp_path: Path, fleet: str, host: str
) -> None:
    """It is asked without the pillar, over salt-ssh too, with the parts that decide."""
    pillar, module = pillars[fleet, host], THE_HOST(tmp_path)
    wiring, ports = pillar["wiring"], {"postgres": {"port": 5432}, "redis": {"broker_port": 6380, "cache_port": 6381}}
    module.__pillar__ = None
    module.RECORD.write_text("{}")
    assert module.base(wiring["base"], list(pillar["apps"]), ports) == wiring["base"]
    module.RECORD.write_text(json.dumps(needs.wanted(pillar)))
    bare = without_apps(pillar)["wiring"]
    module._has_account = lambda user: True
    given = module.base(bare["base"], [], {})
    assert given["egress"]["callers"] == wiring["base"]["egress"]["callers"]
    if "postgres" in wiring:
        found = module.postgres(wiring["postgres"], list(pillar["apps"]), 5432)
        assert (found["clients"], found["leaving"]) == (wiring["postgres"]["clients"], [])
        assert module.postgres(bare["postgres"], [], 5432)["leaving"] == wiring["postgres"]["clients"]
