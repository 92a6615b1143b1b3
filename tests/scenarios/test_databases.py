"""Databases that apps own: what their owners put there, and set, neither runs as us nor stays."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

import pytest
import yaml

from lab.apply import Outcome, apply, explain
from lab.host import Host
from lab.lab import Lab
from tests.unit.contracts import load

QUERIES: dict[str, str] = load("_utils", "pgsql").queries()
CALLED = sorted({name for text in QUERIES.values() for name in re.findall(r"pg_catalog\.(\w+)\(", text)})
PWNED = "/var/lib/postgresql/pwned"

# For every operator of Postgres and every function that we call one in `public` that fits as well, and tells.
TRAPS = f"""
SET search_path = pg_catalog;
DO $do$
DECLARE one record; number int := 0;
BEGIN
  FOR one IN SELECT oprname AS name, oprleft::regtype AS l, oprright::regtype AS r, oprresult::regtype AS result
             FROM pg_operator WHERE oprleft <> 0 AND oprcode <> 0 AND oprnamespace = 'pg_catalog'::regnamespace
             AND oprleft::regtype::text !~ '^any|record' AND oprright::regtype::text !~ '^any|record' LOOP
    number := number + 1;
    EXECUTE format('CREATE FUNCTION public.trap_%s(%s, %s) RETURNS %s LANGUAGE plpgsql AS ' ||
                   '$t$ BEGIN RAISE ''sprung by operator''; END $t$', number, one.l, one.r, one.result);
    EXECUTE format('CREATE OPERATOR public.%s (LEFTARG = %s, RIGHTARG = %s, FUNCTION = public.trap_%s)',
                   one.name, one.l, one.r, number);
  END LOOP;
  FOR one IN SELECT proname AS name, pg_get_function_identity_arguments(oid) AS arguments, prorettype::regtype AS result
             FROM pg_proc WHERE proname = ANY ('{{{",".join(CALLED)}}}') AND pronamespace = 'pg_catalog'::regnamespace
             AND NOT proretset AND prokind = 'f' AND pg_get_function_identity_arguments(oid) !~ 'internal|OUT|VARIADIC'
             AND prorettype::regtype::text !~ '^any' LOOP
    EXECUTE format('CREATE FUNCTION public.%I(%s) RETURNS %s LANGUAGE plpgsql AS ' ||
                   '$t$ BEGIN RAISE ''sprung by function''; END $t$', one.name, one.arguments, one.result);
  END LOOP;
END $do$;
"""

# Runs all that we ask with the owner's names before Postgres' own: only full names are not caught.
ASK = """
import json, sys, psycopg
found = {}
for name, text in json.load(sys.stdin).items():
    with psycopg.connect(host="/run/postgresql", user="postgres", dbname="demo",
                         options="-csearch_path=public,pg_catalog -crole=none") as connection:
        try:
            connection.execute(text, {"user": "demo", "owner": "demo_owner"} if "%(" in text else
                               [["demo"]] if "(%s)" in text and "starts_with" not in text else
                               ["2026-01-01"] if "MIGRATIONS" in name.upper() and "%s" in text else
                               ["x"] if "%s" in text else None)
        except Exception as error:
            found[name] = str(error)
print(json.dumps(found))
"""

HOSTILE = {
    "search_path": "public, pg_catalog",
    "role": "demo_owner",
    "session_authorization": "demo_owner",
    "local_preload_libraries": "nowhere",
    "default_transaction_read_only": "on",
    "statement_timeout": "1",
    "lock_timeout": "1",
    "standard_conforming_strings": "off",
    "client_encoding": "SQL_ASCII",
    "bytea_output": "escape",
    "enable_indexscan": "off",
    "work_mem": "64",
    "datestyle": "German",
}


def superuser(host: Host, query: str, database: str = "postgres") -> str:
    psql = ["psql", "-XAt", "-U", "postgres", "-d", database, "-v", "ON_ERROR_STOP=1", "-f", "-"]
    done = host.execute(psql, stdin=query, capture=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def changes(outcome: Outcome) -> dict[str, object]:
    """What the state of the databases changed, by subject."""
    return next(state["changes"] for state in outcome.states if state["__id__"] == "databases")


class Owner:
    """The role that owns the demo's database, as a stranger who has its password would use it."""

    def __init__(self, lab: Lab, host: Host) -> None:
        held = yaml.safe_load((lab.site / "secrets/shared.yaml").read_text())["apps"]["demo"]
        login = "demo_owner" + "__2" * (held.get("logins", {}).get("owner", 1) == 2)
        self.host, self.url = host, f"postgres://{login}:{held['owner_password']}@127.0.0.1/demo?sslmode=require"

    def sql(self, query: str, expect: bool = True) -> str:
        done = self.host.execute(["psql", "-XAt", "-v", "ON_ERROR_STOP=1", self.url], stdin=query, capture=True)
        assert (done.returncode == 0) is expect, done.stdout + done.stderr
        return (done.stdout + done.stderr).strip()


@pytest.fixture
def owner(lab: Lab, one: Host, applied_again: None) -> Iterator[Owner]:
    yield Owner(lab, one)


@pytest.fixture
def traps(owner: Owner) -> Iterator[None]:
    owner.sql(TRAPS)
    yield
    mine = "SELECT format('DROP OPERATOR %s.%s (%s, %s)', 'public', oprname, oprleft::regtype, oprright::regtype)"
    mine += " FROM pg_operator WHERE oprnamespace = 'public'::regnamespace \\gexec\n"
    mine += "SELECT format('DROP FUNCTION %s', oid::regprocedure) FROM pg_proc"
    mine += " WHERE pronamespace = 'public'::regnamespace \\gexec\n"
    owner.sql(f"SET search_path = pg_catalog; {mine}")


def test_what_we_ask_is_caught_by_no_trap(one: Host, owner: Owner, traps: None) -> None:
    sprung = superuser(one, "SET search_path = public, pg_catalog; SELECT 'a'::name !~ 'b'::text", "template1")
    assert sprung == "SET\nt", "this is another database; its operator is Postgres' own"
    assert "sprung by operator" in owner.sql("SET search_path = public, pg_catalog; SELECT 1 = 1", expect=False)
    python = one.execute(["sh", "-c", "head -1 $(readlink -f $(command -v salt-call)) | cut -c3-"], capture=True)
    program = [*python.stdout.split(), "-c", ASK]
    asked = one.execute(program, stdin=json.dumps(QUERIES), capture=True)
    assert asked.returncode == 0 and json.loads(asked.stdout) == {}, asked.stdout + asked.stderr
    assert apply(one, plan=True).changed == []


def test_an_owners_code_never_runs_as_postgres(one: Host, owner: Owner, traps: None) -> None:
    """The operator of the attack, which the plan of every apply called; now also with work to do among the traps."""
    one.execute(["rm", "-f", PWNED])
    owner.sql(
        "CREATE FUNCTION public.pwn(name, text) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN"
        f" EXECUTE 'COPY (SELECT 1) TO PROGRAM ''touch {PWNED}'''; RETURN true; END $$;"
        "DROP OPERATOR public.!~ (name, text);"
        "CREATE OPERATOR public.!~ (LEFTARG = name, RIGHTARG = text, FUNCTION = public.pwn);"
        "ALTER DATABASE demo SET search_path = public, pg_catalog;"
    )
    superuser(one, "CREATE TABLE public.restored (id int); REVOKE ALL ON public.notes_note FROM demo", "demo")
    planned, done = apply(one, plan=True), apply(one)
    assert done.ok, explain(done)
    assert planned.changed == done.changed == ["databases"]
    assert apply(one).changed == []
    assert one.execute(["test", "-e", PWNED]).returncode != 0
    owner.sql("DROP TABLE public.restored; DROP OPERATOR public.!~ (name, text); DROP FUNCTION public.pwn")


def test_what_an_owner_sets_for_its_database_does_not_reach_us_and_goes(one: Host, owner: Owner) -> None:
    quoted = {name: value if name == "search_path" else f"'{value}'" for name, value in HOSTILE.items()}
    owner.sql("".join(f"ALTER DATABASE demo SET {name} = {value};" for name, value in quoted.items()))
    planned, done = apply(one, plan=True), apply(one)
    assert done.ok, explain(done)
    assert planned.changed == done.changed == ["databases"]
    assert "database demo settings" in changes(done)
    assert superuser(one, "SELECT count(*) FROM pg_db_role_setting WHERE setdatabase <> 0") == "0"
    assert apply(one).changed == []


def test_the_session_that_looks_has_no_rights_there(one: Host, owner: Owner) -> None:
    """Whoever catches our session after all gets a role that may look at catalogs."""
    seen = one.execute(
        ["psql", "-XAt", "-U", "saltern_reader", "-d", "demo", "-c", "TABLE public.notes_note"], capture=True
    )
    assert seen.returncode != 0 and "permission denied" in seen.stderr
