"""Databases that apps own: what their owners put there, and set, neither runs as us nor stays."""

from __future__ import annotations

import json
import re
import subprocess
import time
from collections.abc import Iterator

import pytest
import yaml

from lab.apply import Outcome, apply, explain
from lab.host import Host
from lab.lab import Lab
from saltern.postgres import pgsql

QUERIES: dict[str, str] = pgsql.queries()
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
            named = {"user": "demo", "owner": "demo_owner", "own": ["demo", "demo_owner"], "databases": ["demo"]}
            lists = "ANY (%s)" in text
            value = ["demo"] if lists else "2026-01-01" if "applied" in text else "x"
            connection.execute(text, named if "%(" in text else [value] if "%s" in text else None)
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


def superuser(host: Host, query: str, database: str = "postgres", options: str = "-clocal_preload_libraries=") -> str:
    psql = [
        "env",
        f"PGOPTIONS={options}",
        "psql",
        "-XAt",
        "-U",
        "postgres",
        "-d",
        database,
        "-v",
        "ON_ERROR_STOP=1",
        "-f",
        "-",
    ]
    done = host.execute(psql, stdin=query, capture=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def changes(outcome: Outcome) -> dict[str, object]:
    """What the state of the databases changed, by subject."""
    return next(state["changes"] for state in outcome.states if state["__id__"] == "databases")


def changed(outcome: Outcome) -> list[str]:
    """The states of role postgres that changed something or, in a plan, would."""
    return [
        one for one in outcome.changed if one in {s["__id__"] for s in outcome.states if "postgres" in s["__sls__"]}
    ]


class Owner:
    """The role that owns the demo's database, as a stranger who has its password would use it."""

    def __init__(self, lab: Lab, host: Host, kind: str = "owner") -> None:
        held = yaml.safe_load((lab.site / "secrets/shared.yaml").read_text())["apps"]["demo"]
        login = {"owner": "demo_owner", "database": "demo"}[kind]
        login += "__2" * (held.get("logins", {}).get(kind, 1) == 2)
        self.login = login
        self.host, self.url = host, f"postgres://{login}:{held[f'{kind}_password']}@127.0.0.1/demo?sslmode=require"

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
    assert changed(apply(one, plan=True)) == []


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
    superuser(
        one,
        "DROP TABLE IF EXISTS public.restored; CREATE TABLE public.restored (id int);"
        "REVOKE ALL ON public.notes_note FROM demo",
        "demo",
    )
    planned, done = apply(one, plan=True), apply(one)
    assert done.ok, explain(done)
    assert changed(planned) == changed(done) == ["databases"]
    assert one.execute(["test", "-e", PWNED]).returncode != 0
    owner.sql("DROP TABLE public.restored; DROP OPERATOR public.!~ (name, text); DROP FUNCTION public.pwn")


# What a superuser that went wrong, a restored dump or a stranger can leave: at least one of each kind.
MESS_CLUSTER = """
CREATE ROLE eve LOGIN SUPERUSER PASSWORD 'x'; CREATE ROLE mallory CREATEROLE; CREATE ROLE idle LOGIN;
GRANT demo_owner TO mallory WITH ADMIN OPTION; SET ROLE mallory; GRANT demo_owner TO eve; RESET ROLE;
GRANT pg_read_all_data TO demo; ALTER ROLE demo SET work_mem = '1GB'; ALTER ROLE ALL SET geqo = off;
ALTER ROLE demo_owner IN DATABASE demo SET search_path = evil; ALTER ROLE saltern_reader SET role = 'pg_read_all_stats';
GRANT SET ON PARAMETER session_replication_role TO demo; GRANT CREATE ON TABLESPACE pg_default TO eve;
GRANT CONNECT ON DATABASE demo TO bugsink; GRANT CONNECT ON DATABASE postgres TO demo;
"""
MESS = """
SET search_path = public;
GRANT SELECT ON notes_note TO PUBLIC; GRANT SELECT (text) ON notes_note TO bugsink;
GRANT UPDATE ON notes_note TO demo WITH GRANT OPTION; SET ROLE demo; GRANT UPDATE ON notes_note TO bugsink; RESET ROLE;
CREATE SCHEMA evil AUTHORIZATION mallory; GRANT ALL ON SCHEMA evil TO PUBLIC; CREATE SCHEMA root;
CREATE FUNCTION evil.f() RETURNS int LANGUAGE sql SECURITY DEFINER AS 'SELECT 1';
ALTER FUNCTION evil.f OWNER TO mallory;
CREATE FUNCTION root.definer() RETURNS int LANGUAGE sql SECURITY DEFINER AS 'SELECT 1';
CREATE TYPE root.mood AS ENUM ('good'); CREATE DOMAIN root.small AS int; CREATE TYPE root.pair AS (a int, b int);
CREATE OPERATOR root.=== (LEFTARG = int, RIGHTARG = int, FUNCTION = int4eq);
CREATE COLLATION root.plain FROM "C"; CREATE TEXT SEARCH CONFIGURATION root.words (COPY = simple);
CREATE AGGREGATE root.total(int) (SFUNC = int4pl, STYPE = int); CREATE PROCEDURE root.go() LANGUAGE sql AS 'SELECT 1';
CREATE VIEW root.spy AS SELECT 1 AS one; CREATE TABLE root.stray (id serial PRIMARY KEY, a int, b int);
CREATE STATISTICS root.both ON a, b FROM root.stray;
GRANT EXECUTE ON FUNCTION pg_read_file(text) TO demo; GRANT SELECT ON pg_authid TO demo_owner;
GRANT USAGE ON TYPE root.mood TO bugsink; GRANT USAGE ON LANGUAGE plpgsql TO bugsink;
GRANT USAGE ON SEQUENCE notes_note_id_seq TO bugsink;
SELECT lo_create(4242); GRANT SELECT ON LARGE OBJECT 4242 TO bugsink;
ALTER DEFAULT PRIVILEGES FOR ROLE demo_owner GRANT SELECT ON TABLES TO bugsink;
ALTER DEFAULT PRIVILEGES FOR ROLE demo_owner IN SCHEMA public GRANT SELECT ON TABLES TO PUBLIC;
ALTER DEFAULT PRIVILEGES FOR ROLE mallory GRANT SELECT ON TABLES TO eve;
CREATE FOREIGN DATA WRAPPER nowhere; CREATE SERVER away FOREIGN DATA WRAPPER nowhere;
CREATE USER MAPPING FOR demo SERVER away OPTIONS (password 'x'); CREATE FOREIGN TABLE root.far (id int) SERVER away;
CREATE PUBLICATION everything FOR ALL TABLES;
CREATE SUBSCRIPTION from_away CONNECTION 'host=127.0.0.1 port=1' PUBLICATION p
 WITH (connect = false, enabled = false, create_slot = false, slot_name = 'x');
CREATE FUNCTION root.watch() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'sprung'; END $$;
CREATE EVENT TRIGGER watch ON ddl_command_start EXECUTE FUNCTION root.watch();
"""
# What a migration may do stays, to the letter.
MIGRATED = """
CREATE SCHEMA kept; CREATE TABLE kept.log (id int); REVOKE UPDATE, DELETE ON kept.log FROM demo;
CREATE FUNCTION kept.f() RETURNS int LANGUAGE sql SECURITY DEFINER AS 'SELECT 1';
REVOKE EXECUTE ON FUNCTION kept.f FROM PUBLIC;
GRANT EXECUTE ON FUNCTION kept.f TO demo; CREATE TYPE kept.mood AS ENUM ('good');
ALTER DEFAULT PRIVILEGES IN SCHEMA kept REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC;
CREATE PUBLICATION own FOR TABLE kept.log;
"""
LEFT = """
SELECT 'role ' || rolname FROM pg_roles WHERE rolname IN ('eve', 'mallory', 'idle')
  AND (rolcanlogin OR rolsuper OR rolcreaterole)
UNION ALL SELECT 'member ' || member::regrole FROM pg_auth_members m WHERE roleid = 'demo_owner'::regrole
  AND member::regrole::text !~ '__2$' OR member = 'demo'::regrole
UNION ALL SELECT 'owned ' || classid::regclass || objid FROM pg_shdepend WHERE deptype = 'o' AND dbid <> 0
  AND refobjid IN (SELECT oid FROM pg_roles WHERE rolname IN ('mallory', 'eve', 'demo'))
UNION ALL SELECT 'acl ' || classid::regclass || objid FROM pg_shdepend WHERE deptype = 'a'
  AND refobjid IN (SELECT oid FROM pg_roles WHERE rolname IN ('eve', 'mallory'))
UNION ALL SELECT 'public' FROM pg_class, aclexplode(relacl) WHERE relname = 'notes_note' AND grantee = 0
UNION ALL SELECT 'bugsink' FROM pg_shdepend WHERE refobjid = 'bugsink'::regrole AND deptype = 'a'
  AND dbid = (SELECT oid FROM pg_database WHERE datname = current_database())
UNION ALL SELECT 'definer ' || oid::regprocedure FROM pg_proc WHERE prosecdef AND oid > 16383
  AND pronamespace::regnamespace::text <> 'kept'
UNION ALL SELECT 'root ' || proname FROM pg_proc WHERE oid > 16383 AND proowner = 10
  AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.objid = pg_proc.oid AND d.deptype = 'e')
UNION ALL SELECT evtname FROM pg_event_trigger UNION ALL SELECT srvname FROM pg_foreign_server
UNION ALL SELECT pubname FROM pg_publication WHERE pubname <> 'own' UNION ALL SELECT subname FROM pg_subscription
UNION ALL SELECT 'reads files' WHERE has_function_privilege('demo', 'pg_read_file(text)', 'execute')
UNION ALL SELECT 'reads passwords' WHERE has_table_privilege('demo_owner', 'pg_authid', 'select')
UNION ALL SELECT 'sets parameters' FROM pg_parameter_acl
UNION ALL SELECT setconfig::text FROM pg_db_role_setting WHERE setdatabase <> 0 OR setrole = 0
"""


def test_what_others_own_may_or_have_set_is_seen_and_taken_back(one: Host, owner: Owner) -> None:
    owner.sql(MIGRATED)
    kept = "SELECT relacl FROM pg_class WHERE relname = 'log' UNION ALL SELECT proacl FROM pg_proc WHERE proname = 'f'"
    kept += " AND pronamespace::regnamespace::text = 'kept'"
    kept += " UNION ALL SELECT nspacl FROM pg_namespace WHERE nspname = 'kept'"
    apply(one)
    before = superuser(one, kept, "demo")
    # What an owner itself may set: sessions of ours that begin with it would fail, or be somebody else.
    quoted = {name: value if name == "search_path" else f"'{value}'" for name, value in HOSTILE.items()}
    owner.sql("".join(f"ALTER DATABASE demo SET {name} = {value};" for name, value in quoted.items()))
    superuser(one, MESS_CLUSTER)
    unhindered = "-csearch_path=public,pg_catalog -crole=none -clocal_preload_libraries= -cstatement_timeout=0"
    unhindered += " -cdefault_transaction_read_only=off -clock_timeout=0"
    superuser(one, MESS, "demo", unhindered)
    planned, done = apply(one, plan=True), apply(one)
    assert done.ok, explain(done)
    assert changed(planned) == changed(done) == ["databases"]
    assert changes(planned) == changes(done)
    assert superuser(one, LEFT, "demo") == ""
    assert changed(apply(one)) == []
    assert superuser(one, kept, "demo") == before
    owner.sql("DROP SCHEMA kept, evil, root CASCADE; DROP PUBLICATION own; SELECT lo_unlink(4242)")
    superuser(one, "DROP ROLE IF EXISTS eve, mallory, idle")


def test_an_apps_large_objects_stay_its_own(lab: Lab, one: Host, owner: Owner) -> None:
    """It needs no right to make them, and only their owner may remove them."""
    app = Owner(lab, one, "database")
    upload = app.sql("SELECT lo_from_bytea(0, 'kept')")
    try:
        assert changed(apply(one, plan=True)) == []
        superuser(one, "CREATE TABLE public.left_over (id int); ALTER TABLE public.left_over OWNER TO demo", "demo")
        done = apply(one)
        assert done.ok, explain(done)
        assert changed(done) == ["databases"]
        assert changed(apply(one)) == []
        holder = "SELECT relowner::regrole FROM pg_class WHERE relname = 'left_over'"
        assert superuser(one, holder, "demo") == "demo_owner"
        app.sql(f"SELECT lo_put({upload}, 0, 'more'); SELECT lo_unlink({upload})")
    finally:
        superuser(
            one,
            "DROP TABLE IF EXISTS public.left_over;"
            f" SELECT lo_unlink(oid) FROM pg_largeobject_metadata WHERE oid = {upload}",
            "demo",
        )


def test_the_session_that_looks_has_no_rights_there(one: Host, owner: Owner) -> None:
    """Whoever catches our session after all gets a role that may look at catalogs."""
    seen = one.execute(
        ["psql", "-XAt", "-U", "saltern_reader", "-d", "demo", "-c", "TABLE public.notes_note"], capture=True
    )
    assert seen.returncode != 0 and "permission denied" in seen.stderr


CROWD = (
    "for i in $(seq 40); do psql -XAt {url!r} -c 'select pg_sleep(90)' >/dev/null 2>>/tmp/crowd & done; sleep 3; wait"
)
TAKEN = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%pg_sleep(90)%' AND pid <> pg_backend_pid()"


@pytest.mark.slow("trixie")
def test_an_app_that_takes_all_its_sessions_takes_none_of_others(lab: Lab, one: Host, owner: Owner) -> None:
    """Forty from one app: it has its own limit, and the other one's pages and next release do not notice."""
    app = Owner(lab, one, "database")
    limit = int(superuser(one, "SELECT rolconnlimit FROM pg_roles WHERE rolname = 'demo'"))
    path = lab.site / "apps/bugsink.yaml"
    before = path.read_text()
    crowd = subprocess.Popen(one.argv(["sh", "-c", CROWD.format(url=app.url)]), stdin=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 30
        while int(superuser(one, TAKEN)) < limit - 20 and time.monotonic() < deadline:
            time.sleep(0.3)
        assert 0 < int(superuser(one, TAKEN)) <= limit
        assert "too many connections for role" in one.execute(["cat", "/tmp/crowd"], capture=True).stdout
        path.write_text(before + "env: {CROWDED: yes it is}\n")
        done = apply(one)
        assert "bugsink is served" in done.changed and not [s for s in done.failed if "bugsink" in s["__id__"]], done
        assert superuser(one, "SELECT 1") == "1", "people get in as well"
    finally:
        superuser(one, TAKEN.replace("count(*)", "count(pg_terminate_backend(pid))"))
        crowd.wait(60)
        one.execute(["rm", "-f", "/tmp/crowd"])
        path.write_text(before)


# As much as a server must read before it gives a place: TLS, and which role. The password is never sent.
HELLO = """
import socket, ssl, struct, sys, time
user, number = sys.argv[1].encode(), int(sys.argv[2])
context = ssl.create_default_context()
context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
held, text = [], struct.pack("!i", 196608) + b"user\\0" + user + b"\\0database\\0demo\\0\\0"
for _ in range(number):
    try:
        one = socket.create_connection(("127.0.0.1", 5432), 3)
        one.sendall(struct.pack("!ii", 8, 80877103))
        one.recv(1)
        one = context.wrap_socket(one)
        one.sendall(struct.pack("!i", len(text) + 4) + text)
        held.append(one)
    except OSError:
        pass
print(len(held), flush=True)
time.sleep(6)
"""


def test_connections_that_never_log_in_take_no_places_of_others(lab: Lab, one: Host) -> None:
    app = Owner(lab, one, "database")
    become = ["setpriv", "--reuid=app-demo", "--clear-groups", "python3", "-c", HELLO, app.login, "150"]
    crowd = subprocess.Popen(one.argv(become), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
    assert crowd.stdout is not None
    held = int(crowd.stdout.readline())
    assert 0 < held < 60
    assert superuser(one, "SELECT 1") == "1"
    role = one.execute(["psql", "-XAt", app.url.replace(app.login, "bugsink")], capture=True)
    assert "too many" not in role.stderr, "another app's place"
    crowd.wait(30)


def test_an_app_cannot_fill_the_disk_with_temporary_files(lab: Lab, one: Host) -> None:
    app = Owner(lab, one, "database")
    assert "permission denied" in app.sql("SET temp_file_limit = -1", expect=False)
    sort = (
        "SET work_mem = '64kB'; SELECT count(*) FROM (SELECT repeat('x', 1000) || g FROM generate_series(1, 900000) g"
    )
    assert "temporary file size exceeds" in app.sql(f"{sort} ORDER BY 1 OFFSET 0) x", expect=False)
    assert app.sql("SHOW statement_timeout") == "2min"
