"""A replica is a copy that follows; no apply removes data by itself; what has fallen off is told how to come back."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator

import pytest
import yaml
from databases import UNIT, comes_true, converged, shell, sql, told

from lab.apply import apply
from lab.host import Host
from lab.lab import Lab


@pytest.fixture
def table(primary: Host) -> Iterator[str]:
    """A table that only this test has."""
    sql(primary, "create table public.replica_test (id serial primary key, at timestamptz default now())")
    yield "public.replica_test"
    sql(primary, "drop table if exists public.replica_test")


def copy_anew(primary: Host, replica: Host) -> None:
    """What the message tells a person to do."""
    assert apply(primary).ok
    shell(replica, f"cd {replica.home} && salt-call pgreplica.discard")
    assert "main" in converged(replica).changed


def test_a_row_arrives_and_the_replica_takes_none(primary: Host, replica: Host, table: str) -> None:
    assert sql(replica, "select pg_is_in_recovery()") == "t"
    sql(primary, f"insert into {table} default values")
    assert comes_true(replica, f"select to_regclass('{table}') is not null", 5)
    assert comes_true(replica, f"select count(*) = 1 from {table}", 5)
    refused = replica.execute(["psql", "-U", "postgres", "-c", f"insert into {table} default values"], capture=True)
    assert refused.returncode != 0 and "read-only transaction" in refused.stderr


def test_the_connection_between_them_is_encrypted_and_each_end_is_known(primary: Host, replica: Host) -> None:
    query = "select ssl and version = 'TLSv1.3' from pg_stat_ssl join pg_stat_replication using (pid)"
    assert sql(primary, f"{query} where application_name = '{replica.id}'") == "t"
    told = sql(replica, "show primary_conninfo")
    assert "sslmode='verify-full'" in told and "password" not in told.replace("passfile", "")
    mode = shell(replica, "stat -c '%U %a' /etc/postgresql/replication.pass")
    assert mode == "postgres 600"
    # With the right password, but from elsewhere or without TLS, nobody copies.
    url = f"host={primary.address} user=saltern_replication dbname=replication replication=true"
    for extra, words in (("sslmode=disable", "no encryption|rejects"), ("sslmode=require", "no password supplied")):
        tried = replica.execute(["psql", f"{url} {extra}", "-wc", "IDENTIFY_SYSTEM"], capture=True)
        assert tried.returncode != 0 and re.search(words, tried.stderr), tried.stderr
    tried = primary.execute(["psql", f"{url} sslmode=require", "-wc", "IDENTIFY_SYSTEM"], capture=True)
    assert tried.returncode != 0 and "rejects replication connection" in tried.stderr, tried.stderr


def test_a_replay_that_was_paused_goes_on(primary: Host, replica: Host) -> None:
    sql(replica, "select pg_wal_replay_pause()")
    planned = apply(replica, plan=True)
    assert planned.changed == [replica.id]
    assert apply(replica).changed == [replica.id]
    assert sql(replica, "select pg_is_wal_replay_paused()") == "f"


@pytest.mark.slow("fleet")
def test_a_copy_that_was_killed_in_the_middle_is_made_by_the_next_apply(primary: Host, replica: Host) -> None:
    sql(primary, "create table public.ballast as select repeat(md5(i::text), 30) t from generate_series(1, 600000) i")
    shell(replica, f"cd {replica.home} && salt-call pgreplica.discard")
    running = subprocess.Popen(
        replica.argv(["salt-call", "state.apply", "postgres"], replica.home),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    # Killed when a part of the copy is there, whichever that is.
    partial = shell(
        replica,
        "until ls -d /var/lib/postgresql/*/main.cloning/base/* 2>/dev/null | grep -q .; do sleep 0.02; done;"
        " pgrep -f '[s]alt-call state.apply' | xargs kill -9; sleep 0.2; pgrep -c pg_basebackup || true;"
        " ls -d /var/lib/postgresql/*/main 2>/dev/null || true",
    )
    running.wait()
    assert partial == "0", "the copy went on without its apply, or was whole already"
    sql(primary, "drop table public.ballast")
    assert "main" in converged(replica).changed
    assert sql(replica, "select pg_is_in_recovery()") == "t"
    assert shell(replica, "ls -d /var/lib/postgresql/*/main.cloning 2>/dev/null || true") == ""


@pytest.mark.slow("fleet")
def test_a_replica_that_was_away_for_too_long_is_told_how_to_come_back(primary: Host, replica: Host) -> None:
    conf = "/etc/postgresql/*/main/postgresql.conf"
    shell(replica, f"systemctl stop {UNIT}")
    try:
        # As after days: less is kept than is written meanwhile.
        shell(primary, f"sed -i \"s/^max_slot_wal_keep_size.*/max_slot_wal_keep_size = '16MB'/\" {conf}")
        sql(primary, "select pg_reload_conf()")
        for _ in range(12):
            sql(primary, "select pg_logical_emit_message(true, 'x', repeat('x', 1000)), pg_switch_wal()")
        sql(primary, "checkpoint")
        lost = "select wal_status = 'lost' from pg_replication_slots where slot_name = 'saltern_{}'"
        assert comes_true(primary, lost.format(replica.id.replace("-", "_")))
    finally:
        shell(replica, f"systemctl start {UNIT}")
    failed = apply(replica)
    assert not failed.ok
    assert f"{primary.id} no longer has the WAL that it needs" in told(failed)
    assert "salt-call pgreplica.discard" in told(failed)
    assert shell(replica, "ls -A /var/lib/postgresql/*/main | grep -c ."), "its data are as they were"
    copy_anew(primary, replica)


@pytest.mark.slow("fleet")
def test_without_its_primary_it_goes_on_reading_and_says_whom_it_misses(primary: Host, replica: Host) -> None:
    shell(primary, f"systemctl stop {UNIT}")
    try:
        failed = apply(replica)
        assert not failed.ok
        assert f"it does not reach {primary.id}" in told(failed)
        assert sql(replica, "select 1") == "1"
    finally:
        shell(primary, f"systemctl start {UNIT}")
    assert comes_true(replica, "select coalesce((select status = 'streaming' from pg_stat_wal_receiver), false)", 10)


@pytest.fixture
def fleet_file(lab: Lab, primary: Host, replica: Host) -> Iterator[dict]:
    """The fleet to change; afterwards the replica is one again, of the primary that it had, by the same way back."""
    path = lab.site / "fleet.yaml"
    before = path.read_text()
    yield yaml.safe_load(before)
    path.write_text(before)
    shell(replica, f"systemctl stop {UNIT}; rm -rf /var/lib/postgresql/*/main")
    if sql(primary, "select pg_is_in_recovery()") == "t":
        assert sql(primary, "select pg_promote()") == "t"
    shell(primary, "rm -rf /var/lib/postgresql/*/main.old")
    converged(primary)
    converged(replica)


@pytest.mark.slow("fleet")
def test_a_lost_primary_is_replaced_by_hand_and_comes_back_as_a_replica(
    lab: Lab, primary: Host, replica: Host, table: str, fleet_file: dict
) -> None:
    """docs/roles/postgres.md, "When the primary is lost"."""
    sql(primary, f"insert into {table} default values")
    assert comes_true(replica, f"select to_regclass('{table}') is not null", 5)
    assert comes_true(replica, f"select count(*) = 1 from {table}", 5)
    primary.power_off()
    hosts = fleet_file["hosts"]
    del hosts[replica.id]["replica_of"]
    hosts[primary.id]["replica_of"] = replica.id
    (lab.site / "fleet.yaml").write_text(yaml.safe_dump(fleet_file))
    early = apply(replica)
    assert not early.ok and "is a replica, and the fleet has this host as the primary" in told(early)
    assert sql(replica, "select pg_promote()") == "t"
    converged(replica)
    sql(replica, f"insert into {table} default values")

    primary.boot()
    refused = apply(primary)
    assert not refused.ok and "this host was a primary. Nothing was touched" in told(refused)
    steps = re.findall(r"systemctl stop \S+(?=,)|mv \S+ \S+(?=,)", told(refused))
    assert len(steps) == 2
    for step in steps:
        shell(primary, step)
    converged(primary)
    assert sql(primary, f"select pg_is_in_recovery(), count(*) from {table}") == "t|2"
    assert sql(replica, "select count(*) from pg_stat_replication") == "1"


@pytest.mark.slow("fleet")
def test_a_replica_that_left_the_fleet_keeps_no_wal(lab: Lab, primary: Host, replica: Host) -> None:
    path = lab.site / "fleet.yaml"
    before = path.read_text()
    fleet = yaml.safe_load(before)
    fleet["hosts"][replica.id]["roles"].remove("postgres")
    del fleet["hosts"][replica.id]["replica_of"]
    try:
        path.write_text(yaml.safe_dump(fleet))
        lab.generate_secrets()
        for host in (replica, primary):
            converged(host)
        assert sql(primary, "select count(*) from pg_replication_slots") == "0"
        assert sql(primary, "select count(*) from pg_roles where rolname = 'saltern_replication'") == "0"
    finally:
        path.write_text(before)
        lab.generate_secrets()
    converged(primary)
    # It was stopped and its data stayed: so it goes on from there.
    assert "main" not in converged(replica).changed
