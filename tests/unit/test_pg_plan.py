"""From what a server has to what it should have: each drift is found, named, and repaired by the right SQL."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest

from tests.unit.contracts import load
from tests.unit.contracts.pg import CLIENTS, PILLAR, World, cluster, converged, server

pg = load("_modules", "pg")

PASSWORDS = {"demo": "secret of demo"}
SALTS = {"demo": b"0123456789abcdef"}


def plan(current: dict[str, Any], extensions: dict[str, list[str]] | None = None) -> list[dict[str, Any]]:
    return pg.plan(pg.wanted(CLIENTS, extensions), current, PASSWORDS, SALTS)


def sql(steps: list[dict[str, Any]]) -> list[str]:
    def text(part: Any) -> str:
        return part if isinstance(part, str) else f'"{part["identifier"]}"' if "identifier" in part else "'...'"

    return ["".join(text(part) for part in statement) for step in steps for statement in step["statements"]]


def test_nothing_to_do() -> None:
    assert plan(converged()) == []


def test_bare_server() -> None:
    steps = plan({"roles": {}, "databases": {}}, {"demo": ["pg_trgm"]})
    assert [step["subject"] for step in steps] == ["role demo", "database demo", "database demo extension pg_trgm"]
    create_role = sql(steps)[0]
    assert create_role.startswith('CREATE ROLE "demo" LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION')
    assert sql(steps)[2] == 'REVOKE ALL ON DATABASE "demo" FROM PUBLIC CASCADE'
    assert steps[2]["database"] == "demo"


def role(**drift: Any) -> Callable[[dict[str, Any]], None]:
    return lambda current: current["roles"]["demo"].update(drift)


def database(**drift: Any) -> Callable[[dict[str, Any]], None]:
    return lambda current: current["databases"]["demo"].update(drift)


GRANTS = converged()["databases"]["demo"]["grants"]


@pytest.mark.parametrize(
    ("drift", "subject", "statement"),
    [
        (role(rolsuper=True), "role demo attributes", "NOSUPERUSER"),
        (role(rolcanlogin=False), "role demo attributes", "LOGIN"),
        (role(rolbypassrls=True), "role demo attributes", "NOBYPASSRLS"),
        (role(rolconnlimit=3), "role demo attributes", "CONNECTION LIMIT -1"),
        (role(expires="2020-01-01"), "role demo attributes", "VALID UNTIL 'infinity'"),
        (
            role(member_of=["pg_read_all_data"]),
            "role demo member of pg_read_all_data",
            'REVOKE "pg_read_all_data" FROM',
        ),
        (role(rolpassword=None), "role demo password", "PASSWORD '...'"),
        (role(rolpassword="md5" + "0" * 32), "role demo password", "PASSWORD '...'"),
        (database(owner="postgres"), "database demo owner", 'OWNER TO "demo"'),
        (database(connection_limit=0), "database demo connections", "CONNECTION LIMIT -1"),
        (database(allows_connections=False), "database demo connections", "ALLOW_CONNECTIONS true"),
        (database(grants=[*GRANTS, ("PUBLIC", "CONNECT")]), "database demo grants", "FROM PUBLIC CASCADE"),
        (database(grants=[*GRANTS, ("eve", "CONNECT")]), "database demo grants", 'FROM "eve" CASCADE'),
        (database(grants=GRANTS[1:]), "database demo grants", 'GRANT ALL ON DATABASE "demo" TO "demo"'),
        (
            database(public_schema={"owner": "postgres", "writers": ["postgres"]}),
            "database demo schema public owner",
            "OWNER TO pg_database_owner",
        ),
        (
            database(public_schema={"owner": "pg_database_owner", "writers": ["PUBLIC", "pg_database_owner"]}),
            "database demo schema public writers",
            "REVOKE CREATE ON SCHEMA public FROM PUBLIC",
        ),
        (database(public_schema=None), "database demo schema public", "CREATE SCHEMA public"),
    ],
)
def test_drift(drift: Callable[[dict[str, Any]], None], subject: str, statement: str) -> None:
    current = converged()
    drift(current)
    steps = plan(current)
    assert [step["subject"] for step in steps] == [subject]
    assert any(statement in line for line in sql(steps)), sql(steps)
    assert steps[0]["old"] != steps[0]["new"]


def test_changed_owner_keeps_its_grants_apart_from_strangers() -> None:
    current = converged()
    current["databases"]["demo"].update(owner="postgres", grants=[("postgres", what) for _, what in GRANTS])
    assert [step["subject"] for step in plan(current)] == ["database demo owner"]


def test_schema_of_the_owner_himself_is_fine() -> None:
    current = converged()
    current["databases"]["demo"]["public_schema"] = {"owner": "demo", "writers": ["demo"]}
    assert plan(current) == []


def test_new_password_is_one_step_and_never_in_a_plan() -> None:
    steps = plan(converged("another"))
    assert [step["subject"] for step in steps] == ["role demo password"]
    literals = [part["literal"] for part in steps[0]["statements"][0] if isinstance(part, dict) and "literal" in part]
    assert pg.verifier_matches("secret of demo", literals[0])
    assert "secret of demo" not in repr(steps)
    assert "SCRAM" not in repr((steps[0]["old"], steps[0]["new"]))


@pytest.mark.parametrize(
    "clients",
    [
        [CLIENTS[0], {**CLIENTS[0], "app": "other"}],
        [CLIENTS[0], {**CLIENTS[0], "app": "other", "database": "other"}],
        [CLIENTS[0], {**CLIENTS[0], "user": "other"}],
    ],
)
def test_apps_cannot_share(clients: list[dict[str, Any]]) -> None:
    with pytest.raises(ValueError, match=r"own role|own database and role"):
        pg.wanted(clients)


def test_two_hosts_of_one_app_are_one_database() -> None:
    assert list(pg.wanted([*CLIENTS, {**CLIENTS[0], "address": "10.0.0.6/32"}])) == ["demo"]


def call(world: World, test: bool) -> dict[str, Any]:
    module = load("_states", "pg")
    module.__salt__, module.__pillar__, module.__opts__ = world.salt, world.pillar, {"test": test}
    return module.databases_present("databases", CLIENTS, 5432)


def test_plan_without_a_server_is_what_a_bare_server_gets() -> None:
    assert call(server(server="absent"), test=True)["changes"] == call(server(), test=False)["changes"]


def test_server_that_is_only_down_plans_nothing_and_fails_an_apply() -> None:
    assert call(server(server="down"), test=True)["changes"] == {}
    assert call(server(server="down"), test=False)["result"] is False


def test_missing_checksums_are_a_warning() -> None:
    ret = call(server(**{**converged(), "checksums": False}), test=False)
    assert ret["result"] is True and "pg_checksums --enable" in ret["warnings"][0]


@pytest.mark.parametrize("password", [None, "", 5])
def test_missing_password_names_its_key(password: Any) -> None:
    world = server()
    world.pillar = copy.deepcopy(PILLAR)
    world.pillar["secrets"]["apps"]["demo"]["database_password"] = password
    ret = call(world, test=True)
    assert ret["result"] is False and "secrets:apps:demo:database_password" in ret["comment"]


def call_cluster(world: World) -> dict[str, Any]:
    module = load("_states", "pg")
    module.__salt__, module.__opts__ = world.salt, {"test": False}
    return module.cluster_present("main", 17, 5432)


def test_interrupted_cluster_is_made_again() -> None:
    ret = call_cluster(cluster(config=True, data=True, interrupted=True))
    assert ret["changes"] == {"cluster 17/main": {"old": "half made", "new": "created"}}


@pytest.mark.parametrize("part", ["config", "data"])
def test_half_a_cluster_is_never_touched(part: str) -> None:
    world = cluster(**{part: True})
    ret = call_cluster(world)
    assert ret["result"] is False and "Nothing was touched" in ret["comment"]
    assert world.state == {"config": False, "data": False, "interrupted": False, part: True}
