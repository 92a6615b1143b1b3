"""Postgres: open for the declared apps over TLS, closed for everyone else, and sized for its host."""

from __future__ import annotations

import re

import pytest

pytestmark = pytest.mark.role("postgres")


def sql(host, query: str) -> str:
    return host.check_output(f"runuser -u postgres -- psql -XAtc {query!r}")


def test_data_checksums_are_on(host) -> None:
    assert sql(host, "show data_checksums") == "on"


def test_every_database_is_owned_by_its_app_and_closed_to_others(host, apps: dict) -> None:
    for app, settings in apps.items():
        name = settings.get("database", app.replace("-", "_"))
        assert sql(host, f"select pg_get_userbyid(datdba) from pg_database where datname = '{name}'") == name
        assert sql(host, f"select has_database_privilege('public', '{name}', 'connect')") == "f"
        rights = "rolsuper or rolcreatedb or rolcreaterole or rolreplication"
        assert sql(host, f"select {rights} from pg_roles where rolname = '{name}'") == "f"


def test_passwords_are_kept_as_scram_only(host) -> None:
    assert (
        sql(host, "select count(*) from pg_authid where rolcanlogin and rolpassword not like 'SCRAM-SHA-256$%'") == "0"
    )
    assert int(sql(host, "select count(*) from pg_authid where rolpassword like 'SCRAM-SHA-256$%'")) > 0


@pytest.mark.parametrize(
    "how, said",
    [
        ("host=127.0.0.1 user=demo dbname=demo sslmode=require password=wrong", "password authentication failed"),
        ("host=127.0.0.1 user=demo dbname=demo sslmode=disable password=wrong", "pg_hba.conf rejects|no encryption"),
        ("host=127.0.0.1 user=demo dbname=postgres sslmode=require password=wrong", "pg_hba.conf rejects|no pg_hba"),
        ("host=127.0.0.1 user=postgres dbname=postgres sslmode=require password=x", "pg_hba.conf rejects|no pg_hba"),
    ],
    ids=["a wrong password", "no TLS", "another database", "the superuser"],
)
def test_a_stranger_is_refused(host, how: str, said: str) -> None:
    tried = host.run(f"psql -X '{how}' -c 'select 1'")
    assert tried.rc != 0
    assert re.search(said, tried.stderr), tried.stderr


def test_another_user_of_the_host_is_refused(host) -> None:
    psql = '$(ls /usr/lib/postgresql/*/bin/psql) -X -h /run/postgresql -U postgres -d postgres -c "select 1"'
    tried = host.run(f"setpriv --reuid=65534 --regid=65534 --clear-groups sh -c '{psql}'")
    assert tried.rc != 0 and "failed for user" in tried.stderr, tried.stderr


def test_its_memory_fits_its_share(host) -> None:
    megabytes = "pg_size_bytes(current_setting('{}'))/1048576"
    shared, work, maintenance = (
        float(sql(host, "select " + megabytes.format(name)))
        for name in ("shared_buffers", "work_mem", "maintenance_work_mem")
    )
    connections, workers = (int(sql(host, f"show {name}")) for name in ("max_connections", "autovacuum_max_workers"))
    total = int(re.findall(r"MemTotal:\s+(\d+)", host.file("/proc/meminfo").content_string)[0]) / 1024
    assert shared + connections * work + workers * maintenance < total
    assert shared >= 64


def test_the_sandbox_holds(host) -> None:
    unit = host.check_output("systemctl list-units --plain --no-legend 'postgresql@*' | cut -d' ' -f1")
    assert (
        float(
            re.findall(
                r"exposure level for .*: ([\d.]+)", host.check_output(f"systemd-analyze security {unit} --no-pager")
            )[0]
        )
        <= 3
    )
