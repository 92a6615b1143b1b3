"""From what a server has to what it should have: each drift is found, named, and repaired by the right SQL."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from typing import Any

import pytest

from saltern.postgres import pgothers, pgsql
from tests.unit.contracts import load
from tests.unit.contracts.pg import (
    CLIENTS,
    GROUPS,
    GUARD_GROUPS,
    PILLAR,
    World,
    cluster,
    converged,
    pg,
    pgplan,
    pgroles,
    scram,
    server,
)

PASSWORDS = {"demo": "secret of demo", "demo_owner": "secret of owner"}
SALTS = dict.fromkeys(PASSWORDS, b"0123456789abcdef")


def plan(current: dict[str, Any], extensions: dict[str, list[str]] | None = None) -> list[dict[str, Any]]:
    return pg().plan(pgplan.wanted(CLIENTS, extensions), current, PASSWORDS, SALTS)


def sql(steps: list[dict[str, Any]]) -> list[str]:
    def text(part: Any) -> str:
        return part if isinstance(part, str) else f'"{part["identifier"]}"' if "identifier" in part else "'...'"

    return ["".join(text(part) for part in statement) for step in steps for statement in step["statements"]]


def test_nothing_to_do() -> None:
    assert plan(converged()) == []


def test_bare_server() -> None:
    steps = plan({"roles": {}, "databases": {}}, {"demo": ["pg_trgm"]})
    assert [step["subject"] for step in steps] == [
        "role saltern_reader",
        "role saltern_guard",
        "role demo",
        "role demo_owner",
        "role postgres settings",
        "role saltern_reader settings",
        "role saltern_guard settings",
        "database demo",
        "database demo default privileges",
        "database demo extension pg_trgm",
        "rights of others in the cluster",
        "database postgres grants",
    ]
    for name in ("saltern_reader", "saltern_guard", "demo", "demo_owner"):
        begins = f'CREATE ROLE "{name}" LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION'
        assert any(line.startswith(begins) for line in sql(steps))
    assert any(line.startswith('CREATE DATABASE "demo" OWNER "demo_owner"') for line in sql(steps))
    assert 'REVOKE ALL ON DATABASE "demo" FROM PUBLIC CASCADE' in sql(steps)
    assert [step["database"] for step in steps] == ["postgres"] * 8 + ["demo"] * 2 + ["postgres"] * 2


def role(name: str = "demo", **drift: Any) -> Callable[[dict[str, Any]], None]:
    return lambda current: current["roles"][name].update(drift)


def stranger(**drift: Any) -> Callable[[dict[str, Any]], None]:
    nothing = dict.fromkeys((*pgroles.ATTRIBUTES, "rolpassword", "expires"), False)
    found = {**nothing, "rolconnlimit": -1, "member_of": [], "dependents": 0, "armed": True}
    return lambda current: current["roles"].update(eve={**found, **drift})


def database(**drift: Any) -> Callable[[dict[str, Any]], None]:
    return lambda current: current["databases"]["demo"].update(drift)


def setting(role: str, database: str, text: str) -> Callable[[dict[str, Any]], None]:
    return lambda current: current["settings"].append({"role": role, "database": database, "setting": text})


def others(what: str, **found: Any) -> Callable[[dict[str, Any]], None]:
    return lambda current: current["databases"]["demo"]["others"][what].append(found)


def right(**more: Any) -> Callable[[dict[str, Any]], None]:
    one = {"kind": "TABLE", "identity": "public.t", "grantee": "eve", "grantor": None, "handed_on": False}
    return others("rights", **{**one, **more})


def thing(**more: Any) -> Callable[[dict[str, Any]], None]:
    one = {"kind": "ROUTINE", "identity": "public.f()", "owner": "eve", "deed": "OWNER", "definer": False}
    return others("strangers", **{**one, **more})


def objects(**drift: Any) -> Callable[[dict[str, Any]], None]:
    return lambda current: current["databases"]["demo"]["objects"].update(drift)


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
            role(member_of=[["pg_read_all_data", "mallory", ""]]),
            "role demo member of pg_read_all_data",
            'REVOKE "pg_read_all_data" FROM "demo" GRANTED BY "mallory" CASCADE',
        ),
        (role("saltern_reader", member_of=GROUPS[:1]), "role saltern_reader member of pg_read_all_stats", "GRANT"),
        (role("saltern_guard", member_of=GUARD_GROUPS[:1]), "role saltern_guard member of pg_signal_backend", "GRANT"),
        (role("saltern_guard", rolsuper=True), "role saltern_guard attributes", "NOSUPERUSER"),
        (role("saltern_reader", rolpassword="x"), "role saltern_reader password", "PASSWORD NULL"),
        (role("postgres", rolpassword="x"), "role postgres password", "PASSWORD NULL"),
        (stranger(rolcanlogin=True), "role eve", 'DROP ROLE "eve"'),
        (stranger(rolsuper=True, dependents=3), "role eve", "NOLOGIN NOSUPERUSER"),
        (
            stranger(member_of=[["demo_owner", "postgres", ""]], dependents=1),
            "role eve",
            'REVOKE "demo_owner" FROM "eve" GRANTED BY "postgres"',
        ),
        (role(rolpassword=None), "role demo password", "PASSWORD '...'"),
        (role(rolpassword="md5" + "0" * 32), "role demo password", "PASSWORD '...'"),
        (database(owner="postgres"), "database demo owner", 'OWNER TO "demo_owner"'),
        (database(connection_limit=0), "database demo connections", "CONNECTION LIMIT -1"),
        (database(allows_connections=False), "database demo connections", "ALLOW_CONNECTIONS true"),
        (database(grants=[*GRANTS, ("PUBLIC", "CONNECT")]), "database demo grants", "FROM PUBLIC CASCADE"),
        (database(grants=[*GRANTS, ("eve", "CONNECT")]), "database demo grants", 'FROM "eve" CASCADE'),
        (database(grants=GRANTS[1:]), "database demo grants", 'GRANT ALL ON DATABASE "demo" TO "demo_owner"'),
        (database(grants=GRANTS[:-2]), "database demo grants", 'GRANT CONNECT ON DATABASE "demo" TO "demo"'),
        (database(grants=[*GRANTS, ("demo", "CREATE")]), "database demo grants", 'FROM "demo" CASCADE'),
        (objects(owned_by_app=3), "database demo objects", 'REASSIGN OWNED BY "demo" TO "demo_owner"'),
        (
            objects(strays=[("public", "restored")]),
            "database demo objects",
            'ALTER TABLE "public"."restored" OWNER TO "demo_owner"',
        ),
        (
            objects(closed=[("public", "restored", "r")]),
            "database demo objects",
            'GRANT SELECT, INSERT, UPDATE, DELETE ON TABLE "public"."restored" TO "demo"',
        ),
        (
            objects(closed=[("public", "ids", "S")]),
            "database demo objects",
            'GRANT USAGE, SELECT ON SEQUENCE "public"."ids" TO "demo"',
        ),
        (objects(closed_schemas=["more"]), "database demo objects", 'GRANT USAGE ON SCHEMA "more" TO "demo"'),
        (
            objects(default_privileges=[("r", "SELECT")]),
            "database demo default privileges",
            'FOR ROLE "demo_owner" GRANT USAGE, SELECT ON SEQUENCES TO "demo"',
        ),
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
        (database(grants=[*GRANTS[:-1]]), "database demo grants", 'TO "demo", "saltern_reader"'),
        (
            setting("", "demo", "search_path=public"),
            "database demo settings",
            'ALTER DATABASE "demo" RESET "search_path"',
        ),
        (setting("demo", "", "a.b=x"), "role demo settings", 'ALTER ROLE "demo" RESET "a"."b"'),
        (
            setting("postgres", "demo", "search_path=public"),
            "role postgres in database demo settings",
            'ALTER ROLE "postgres" IN DATABASE "demo" RESET "search_path"',
        ),
        (right(), "database demo rights of others", 'REVOKE ALL PRIVILEGES ON TABLE public.t FROM "eve" CASCADE'),
        (right(grantee="PUBLIC"), "database demo rights of others", "FROM PUBLIC CASCADE"),
        (
            right(grantor="demo"),
            "database demo rights of others",
            'REVOKE GRANT OPTION FOR ALL PRIVILEGES ON TABLE public.t FROM "demo" CASCADE',
        ),
        (
            right(grantee="demo", handed_on=True),
            "database demo rights of others",
            'REVOKE GRANT OPTION FOR ALL PRIVILEGES ON TABLE public.t FROM "demo" CASCADE',
        ),
        (
            others("default_rights", role="demo_owner", schema="more", kind="TABLES", grantee="eve"),
            "database demo default rights of others",
            'FOR ROLE "demo_owner" IN SCHEMA more REVOKE ALL ON TABLES FROM "eve"',
        ),
        (thing(definer=True), "database demo objects of others", "ALTER ROUTINE public.f() SECURITY INVOKER"),
        (thing(), "database demo objects of others", 'ALTER ROUTINE public.f() OWNER TO "demo_owner"'),
        (
            thing(kind="EVENT TRIGGER", identity="t", deed="DROP"),
            "database demo event triggers",
            "DROP EVENT TRIGGER IF EXISTS t CASCADE",
        ),
        (
            thing(kind="SUBSCRIPTION", identity="s", deed="DROP"),
            "database demo objects of others",
            "ALTER SUBSCRIPTION s SET (slot_name = NONE)",
        ),
        (setting("", "", "jit=on"), "all roles settings", 'ALTER ROLE ALL RESET "jit"'),
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
    current["databases"]["demo"].update(
        owner="postgres", grants=[(who.replace("demo_owner", "postgres"), what) for who, what in GRANTS]
    )
    steps = plan(current)
    assert [step["subject"] for step in steps] == ["database demo owner"]
    assert sql(steps) == ['ALTER DATABASE "demo" OWNER TO "demo_owner"']


def test_a_setting_of_ours_that_was_changed_is_put_back_and_no_value_is_shown() -> None:
    current = converged()
    current["settings"][0]["setting"] = "search_path=secret"
    steps = plan(current)
    assert [step["subject"] for step in steps] == ["role postgres settings"]
    assert sql(steps) == ["""ALTER ROLE "postgres" SET "search_path" TO '...', '...'"""]
    assert "secret" not in repr(steps) and steps[0]["old"] != steps[0]["new"]


def test_a_role_that_left_and_can_do_nothing_stays() -> None:
    current = converged()
    stranger(armed=False, dependents=5)(current)
    assert plan(current) == []


def test_two_login_roles_take_turns() -> None:
    """The first rotation: the double appears, both can log in; at the end the first one is closed."""
    turned = pgroles.logins("demo", "the new secret", 2, "secret of demo")
    current = converged()
    passwords = {**turned, "demo_owner": "secret of owner", "demo_owner__2": None}
    salts = dict.fromkeys(passwords, b"0123456789abcdef")

    def planned() -> list[dict[str, Any]]:
        return pg().plan(pgplan.wanted(CLIENTS), current, passwords, salts)

    steps = planned()
    assert [step["subject"] for step in steps] == ["role demo__2", "role demo__2 settings"]
    assert sql(steps)[0].startswith('CREATE ROLE "demo__2" LOGIN NOSUPERUSER')
    assert sql(steps)[1:] == ['GRANT "demo" TO "demo__2"', """ALTER ROLE "demo__2" SET "role" TO '...'"""]
    verifier = scram.verifier("the new secret", b"0123456789abcdef")
    current["roles"]["demo__2"] = {
        **current["roles"]["demo"], "member_of": [["demo", "postgres", ""]], "rolpassword": verifier,
    }  # fmt: skip
    current["settings"].append({"role": "demo__2", "database": "", "setting": "role=demo"})
    assert planned() == []
    passwords["demo"] = None
    steps = planned()
    assert [step["subject"] for step in steps] == ["role demo attributes", "role demo password"]
    assert "NOLOGIN" in sql(steps)[0] and sql(steps)[1] == 'ALTER ROLE "demo" PASSWORD NULL'


def test_a_role_that_only_gets_rights_cannot_log_in() -> None:
    steps = pg().plan({}, {"roles": {}, "databases": {}}, {}, {}, ["reporting"])
    made = next(step for step in steps if step["subject"] == "role reporting")
    assert sql([made])[0].startswith('CREATE ROLE "reporting" NOLOGIN') and sql([made])[0].endswith("PASSWORD NULL")


def test_names_of_others_have_no_power_over_a_terminal() -> None:
    current = converged()
    right(identity='"\x1b[31mred"')(current)
    steps = plan(current)
    assert "\x1b" not in steps[0]["old"] and "\x1b" in "".join(map(str, steps[0]["statements"][1][0]))


def test_an_extension_is_made_where_nobody_could_lay_anything() -> None:
    steps = [step for step in plan(converged(), {"demo": ["pg_trgm"]}) if "extension" in step["subject"]]
    assert sql(steps)[1] == 'CREATE EXTENSION "pg_trgm" SCHEMA "saltern_new_extension"'
    assert steps[0]["atomic"]


def test_schema_of_the_owner_himself_is_fine() -> None:
    current = converged()
    current["databases"]["demo"]["public_schema"] = {"owner": "demo_owner", "writers": ["demo_owner"]}
    assert plan(current) == []


def test_a_database_that_the_app_owned_is_moved_over_without_shutting_the_app_out() -> None:
    """As it was before there were two roles. What takes a right away gives it back in the same transaction."""
    current = converged()
    del current["roles"]["demo_owner"]
    current["databases"]["demo"].update(
        owner="demo", grants=[("demo", what) for what in ("CONNECT", "CREATE", "TEMPORARY")]
    )
    tables = [("public", "notes_note", "r"), ("public", "notes_note_id_seq", "S")]
    current["databases"]["demo"]["objects"].update(owned_by_app=2, closed=tables, default_privileges=[])
    steps = {step["subject"]: step for step in plan(current)}
    assert list(steps) == [
        "role demo_owner",
        "database demo owner",
        "database demo default privileges",
        "database demo objects",
    ]
    for subject, taken, given in (
        ("database demo owner", 'ALTER DATABASE "demo" OWNER', 'GRANT CONNECT ON DATABASE "demo" TO "demo"'),
        ("database demo objects", "REASSIGN OWNED", 'ON TABLE "public"."notes_note" TO "demo"'),
    ):
        lines = sql([steps[subject]])
        assert steps[subject]["atomic"]
        assert any(taken in line for line in lines) and any(given in line for line in lines)
    assert sql([steps["database demo objects"]])[0] == "SET LOCAL lock_timeout = '2s'"


def test_what_an_app_may_own_by_itself_is_no_drift_and_stays_its_own() -> None:
    """Large objects need no right to create, and what is temporary ends with its session."""
    counted = pgsql.query("objects").partition(" AS owned_by_app")[0]
    assert "<>) CAST('pg_catalog.pg_largeobject' AS" in counted and "'pg_temp')" in counted
    current = converged()
    current["databases"]["demo"]["objects"].update(owned_by_app=1)
    (step,) = plan(current)
    (move,) = [line for line in sql([step]) if "REASSIGN" in line]
    before, after = move.split("REASSIGN OWNED", 1)
    assert "pg_largeobject_metadata" in before and "ALTER LARGE OBJECT" in after and step["atomic"]


def test_a_new_database_is_not_made_in_a_transaction() -> None:
    """PostgreSQL refuses that."""
    made = next(step for step in plan({"roles": {}, "databases": {}}) if step["subject"] == "database demo")
    assert not made["atomic"]


def test_new_password_is_one_step_and_never_in_a_plan() -> None:
    steps = plan(converged("another"))
    assert [step["subject"] for step in steps] == ["role demo password"]
    literals = [part["literal"] for part in steps[0]["statements"][0] if isinstance(part, dict) and "literal" in part]
    assert scram.matches("secret of demo", literals[0])
    assert "secret of demo" not in repr(steps)
    assert "SCRAM" not in repr((steps[0]["old"], steps[0]["new"]))


@pytest.mark.parametrize(
    "clients",
    [
        [CLIENTS[0], {**CLIENTS[0], "app": "other"}],
        [CLIENTS[0], {**CLIENTS[0], "app": "other", "database": "other"}],
        [CLIENTS[0], {"app": "other", "database": "other", "user": "demo_owner", "owner": "x", "address": "x"}],
        [CLIENTS[0], {**CLIENTS[0], "user": "other"}],
    ],
)
def test_apps_cannot_share(clients: list[dict[str, Any]]) -> None:
    with pytest.raises(ValueError, match=r"own role|own database and role"):
        pgplan.wanted(clients)


def test_two_hosts_of_one_app_are_one_database() -> None:
    assert list(pgplan.wanted([*CLIENTS, {**CLIENTS[0], "address": "10.0.0.6/32"}])) == ["demo"]


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


@pytest.mark.parametrize("key", ["database_password", "owner_password"])
@pytest.mark.parametrize("password", [None, "", 5])
def test_missing_password_names_its_key(password: Any, key: str) -> None:
    world = server()
    world.pillar = copy.deepcopy(PILLAR)
    world.pillar["secrets"]["apps"]["demo"][key] = password
    ret = call(world, test=True)
    assert ret["result"] is False and f"secrets:apps:demo:{key}" in ret["comment"]


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
    assert world.state == {"config": False, "data": False, "interrupted": False, "standby": False, part: True}


def test_a_replica_is_not_taken_for_a_primary() -> None:
    ret = call_cluster(cluster(config=True, data=True, standby=True))
    assert ret["result"] is False and "put replica_of back" in ret["comment"]


def test_a_great_many_rights_of_others_are_planned_in_a_moment() -> None:
    """An app may open as many large objects of its own to everybody as it likes; each plan looks at them."""
    one = {"kind": "LARGE OBJECT", "grantee": "PUBLIC", "grantor": None, "handed_on": False}
    rights = [{**one, "identity": str(number // 2)} for number in range(100_000)]
    began = time.monotonic()
    _, statements = pgothers._revoked(rights)
    assert len(statements) == 50_000, "each once"
    assert time.monotonic() - began < 10
