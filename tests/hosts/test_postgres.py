"""Postgres: open for the declared apps over TLS, closed for everyone else, and sized for its host."""

from __future__ import annotations

import re
import shlex
import time

import pytest
from conftest import reached

from saltern.site.apps import App
from saltern.site.fleet import Fleet
from saltern.site.names import owner_of
from saltern.site.site import Site

pytestmark = pytest.mark.role("postgres")


@pytest.fixture
def primary(host, fleet: Fleet, request: pytest.FixtureRequest):
    """The server that this one copies, or None."""
    named = fleet.hosts[host.fleet_id].replica_of
    return reached(request.config, named) if named else None


# Also against a server that no apply has made safe: names are Postgres' own, not those of who owns the database.
PSQL = "PGOPTIONS=-csearch_path=pg_catalog runuser -u postgres -- psql -XAt"


def sql(host, query: str) -> str:
    return host.check_output(f"{PSQL} -c {query!r}")


def test_data_checksums_are_on(host) -> None:
    assert sql(host, "show data_checksums") == "on"


def databases(apps: dict[str, App]) -> list[str]:
    return [str(app.database) for app in apps.values()]


def test_every_database_is_owned_by_a_role_of_its_own_and_closed_to_others(host, apps: dict[str, App]) -> None:
    for name in databases(apps):
        owner = f"select pg_get_userbyid(datdba) from pg_database where datname = '{name}'"
        assert sql(host, owner) == owner_of(name)
        assert sql(host, f"select has_database_privilege('public', '{name}', 'connect')") == "f"
        rights = "rolsuper or rolcreatedb or rolcreaterole or rolreplication or rolbypassrls"
        pattern = f"'^{name}(_owner)?(__2)?$'"
        assert sql(host, f"select distinct {rights} from pg_roles where rolname ~ {pattern}") == "f"
        members = "select count(*) from pg_auth_members m join pg_roles r on r.oid = m.member"
        members += " join pg_roles g on g.oid = m.roleid"
        # The second login role of each, which takes turns with it when its password is replaced.
        strange = f"(r.rolname ~ {pattern} or g.rolname ~ {pattern}) and r.rolname <> g.rolname || '__2'"
        assert sql(host, f"{members} where {strange}") == "0"


def test_the_apps_role_reads_and_writes_but_owns_and_makes_nothing(host, apps: dict[str, App]) -> None:
    for name in databases(apps):
        tables = "from pg_class c join pg_namespace n on n.oid = relnamespace where relkind in ('r', 'p')"
        tables += " and nspname !~ '^pg_' and nspname <> 'information_schema'"
        # What an extension brings is its own.
        tables += " and not exists (select from pg_depend d where d.objid = c.oid and d.deptype = 'e')"

        def ask(query: str, name: str = name) -> str:
            return host.check_output(f"{PSQL} -d {name} -c {shlex.quote(query)}")

        assert int(ask(f"select count(*) {tables}")) > 0
        assert ask(f"select distinct pg_get_userbyid(relowner) {tables}") == owner_of(name)
        may = "bool_and(has_table_privilege('{0}', c.oid, 'select') and has_table_privilege('{0}', c.oid, 'insert'))"
        assert ask(f"select {may.format(name)} {tables}") == "t"
        assert ask(f"select bool_or(has_table_privilege('{name}', c.oid, 'truncate')) {tables}") == "f"
        assert ask(f"select has_schema_privilege('{name}', 'public', 'create')") == "f"
        assert ask(f"select has_database_privilege('{name}', current_database(), 'create')") == "f"
        owned = "select count(*) from pg_shdepend where refclassid = 'pg_authid'::regclass and deptype = 'o'"
        assert ask(f"{owned} and refobjid = '{name}'::regrole") == "0"


def test_passwords_are_kept_as_scram_only(host, apps: dict[str, App]) -> None:
    assert (
        sql(host, "select count(*) from pg_authid where rolcanlogin and rolpassword not like 'SCRAM-SHA-256$%'") == "0"
    )
    assert int(sql(host, "select count(*) from pg_authid where rolpassword like 'SCRAM-SHA-256$%'")) >= len(apps)


NO_LINE = "pg_hba.conf rejects|no pg_hba"
REFUSED = {
    "a wrong password": ("user={login} dbname={name} sslmode=require password=wrong", "password authentication failed"),
    "no TLS": ("user={login} dbname={name} sslmode=disable password=wrong", "pg_hba.conf rejects|no encryption"),
    "another database": ("user={login} dbname=postgres sslmode=require password=wrong", NO_LINE),
    "the superuser": ("user=postgres dbname=postgres sslmode=require password=x", NO_LINE),
}


@pytest.mark.parametrize("who", REFUSED)
def test_a_stranger_is_refused(host, site: Site, who: str) -> None:
    how, said = REFUSED[who]
    if not site.apps:
        pytest.skip("the site has no apps, so there is no database")
    if not {"web", "worker"} & {*host.roles}:
        said = NO_LINE  # no app connects from this very host
    for name in databases(site.apps):
        # After a rotation the app's second login role is in force.
        logins = f"select min(rolname) from pg_roles where rolname in ('{name}', '{name}__2') and rolcanlogin"
        words = how.format(login=sql(host, logins), name=name)
        tried = host.run(f"psql -X 'host=127.0.0.1 port={site.settings.postgres.port} {words}' -c 'select 1'")
        assert tried.rc != 0, name
        assert re.search(said, tried.stderr), tried.stderr


def test_who_ends_sessions_can_do_nothing_else_and_is_there(host) -> None:
    rights = "rolsuper or rolcreatedb or rolcreaterole or rolreplication or rolbypassrls or rolpassword is not null"
    assert sql(host, f"select {rights} from pg_authid where rolname = 'saltern_guard'") == "f"
    groups = "select string_agg(g, ' ' order by g) from (select roleid::regrole::text, member from pg_auth_members)"
    groups += " m(g, member) where"
    assert sql(host, f"{groups} member = 'saltern_guard'::regrole") == "pg_read_all_stats pg_signal_backend"
    there = "select count(*) > 0 from pg_stat_activity where usename = 'saltern_guard'"
    deadline = time.monotonic() + 30
    while sql(host, there) != "t":
        assert time.monotonic() < deadline, host.run("journalctl -u postgres-guard -n 20 --no-pager").stdout
        time.sleep(0.5)
    refused = host.run("runuser -u nobody -- psql -h /run/postgresql -XAtU saltern_guard -d postgres -c 'select 1'")
    assert refused.rc != 0


def test_memory_of_each_process_is_bounded_and_the_server_outlives_what_is_ended(host) -> None:
    units = host.check_output("systemctl list-units --plain --no-legend 'postgresql@*' | cut -d' ' -f1").split()
    for unit in units:
        names = ("LimitDATA", "MemoryMax", "OOMPolicy", "OOMScoreAdjust", "MainPID")
        # systemctl answers in an order of its own.
        said = host.check_output(f"systemctl show {unit} -p {','.join(names)}").splitlines()
        data, most, policy, score, pid = map(dict(line.split("=", 1) for line in said).__getitem__, names)
        total = int(re.findall(r"MemTotal:\s+(\d+)", host.file("/proc/meminfo").content_string)[0]) * 1024
        assert 64 * 2**20 <= int(data) < total and 2**28 <= int(most) < total
        assert (policy, score) == ("continue", "-900")
        limit = re.findall(r"Max data size\s+(\d+)", host.file(f"/proc/{pid}/limits").content_string)
        assert limit == [data], "the server runs with another limit than its unit says"
        shared = int(sql(host, "select pg_size_bytes(current_setting('shared_memory_size'))"))
        assert int(most) > shared


def test_no_code_is_made_and_no_transaction_outlives_its_session(host) -> None:
    assert sql(host, "show jit_provider") == "none" and sql(host, "show max_prepared_transactions") == "0"
    query = "set jit = on; set jit_above_cost = 0; select sum(i) from generate_series(1, 9) i"
    assert sql(host, query).splitlines()[-1] == "45"


@pytest.mark.parametrize("role", ["postgres", "saltern_reader"])
def test_our_own_sessions_take_no_names_from_others(host, role: str) -> None:
    settings = "select current_setting('search_path'), current_user, session_user"
    assert host.check_output(f"psql -XAt -U {role} -d postgres -c {shlex.quote(settings)}") == (
        f"pg_catalog, pg_temp|{role}|{role}"
    )


def test_who_looks_into_the_apps_databases_can_do_nothing(host, apps: dict[str, App]) -> None:
    rights = "rolsuper or rolcreatedb or rolcreaterole or rolreplication or rolbypassrls or rolpassword is not null"
    assert sql(host, f"select {rights} from pg_authid where rolname = 'saltern_reader'") == "f"
    for name in databases(apps):
        tried = host.run(f"psql -XAt -U saltern_reader -d {name} -c 'table public.django_migrations'")
        assert tried.rc != 0 and "permission denied" in tried.stderr


def test_another_user_of_the_host_is_refused(host, site: Site) -> None:
    port = site.settings.postgres.port
    psql = f'/usr/lib/postgresql/*/bin/psql -X -h /run/postgresql -p {port} -U postgres -d postgres -c "select 1"'
    tried = host.run(f"setpriv --reuid=65534 --regid=65534 --clear-groups sh -c '{psql}'")
    assert tried.rc != 0 and "Permission denied" in tried.stderr, tried.stderr


def test_a_replica_follows_and_takes_no_writes(host, primary) -> None:
    if primary is None:
        assert sql(host, "select pg_is_in_recovery()") == "f"
        return
    assert sql(host, "select pg_is_in_recovery()") == "t"
    assert sql(host, "select status from pg_stat_wal_receiver") == "streaming"
    name = host.fleet_id.replace("-", "_")
    query = "select active, wal_status, s.ssl from pg_replication_slots p join pg_stat_ssl s on s.pid = p.active_pid"
    assert sql(primary, f"{query} where slot_name = 'saltern_{name}'") == "t|reserved|t"
    refused = host.run("runuser -u postgres -- psql -XAtc 'create table public.replica_test (x int)'")
    assert refused.rc != 0 and "read-only transaction" in refused.stderr
    stat = host.file("/etc/postgresql/replication.pass")
    assert (stat.user, stat.mode) == ("postgres", 0o600)
    assert sql(primary, "show max_slot_wal_keep_size") != "-1", "a replica that is away would fill the primary's disk"


@pytest.mark.disturbs
def test_what_the_primary_writes_arrives(host, primary) -> None:
    if primary is None:
        pytest.skip("this host is the primary")
    # A message in the WAL that changes no table; what was written after it has arrived when its place was replayed.
    place = sql(primary, "select pg_logical_emit_message(false, 'test', 'x')")
    deadline = time.monotonic() + 5
    while sql(host, f"select pg_last_wal_replay_lsn() >= '{place}'") != "t":
        assert time.monotonic() < deadline, f"{place} has not arrived"


def test_its_memory_fits_its_share(host) -> None:
    megabytes = "pg_size_bytes(current_setting('{}'))/1048576"
    shared, work, maintenance = (
        float(sql(host, "select " + megabytes.format(name)))
        for name in ("shared_buffers", "work_mem", "maintenance_work_mem")
    )
    connections, workers = (int(sql(host, f"show {name}")) for name in ("max_connections", "autovacuum_max_workers"))
    total = int(re.findall(r"MemTotal:\s+(\d+)", host.file("/proc/meminfo").content_string)[0]) / 1024
    assert shared + connections * work + workers * maintenance < total
    assert shared >= 16


def test_the_sandbox_holds(host) -> None:
    units = host.check_output("systemctl list-units --plain --no-legend 'postgresql@*' | cut -d' ' -f1").split()
    assert units
    for unit in units:
        told = host.check_output(f"systemd-analyze security {unit} --no-pager")
        assert float(re.findall(r"exposure level for .*: ([\d.]+)", told)[0]) <= 3, unit
