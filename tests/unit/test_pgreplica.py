"""Replicas: what each end is told, what is refused, and what is said when one has fallen off."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from saltern.postgres import pgconf
from tests.unit.contracts import World, load
from tests.unit.contracts.pgreplica import ANSWER, FOLLOWS, LIMITS, PRIMARY, REPLICAS, follower, replica

pgreplica = load("_modules", "pgreplica")


def call(function: str, world: World, test: bool = False, **arguments: Any) -> dict[str, Any]:
    state: Any = load("_states", "pgreplica")
    state.__salt__, state.__pillar__, state.__opts__ = world.salt, world.pillar, {"test": test}
    result: dict[str, Any] = getattr(state, function)(**arguments)
    return result


def present(world: World, **arguments: Any) -> dict[str, Any]:
    given = {"name": "main", "version": 17, "primary": PRIMARY, "replica": "db2", "limits": LIMITS}
    return call("present", world, **{**given, **arguments})


def test_the_password_is_in_a_file_and_in_no_connection_string() -> None:
    text = pgreplica.conninfo(PRIMARY, "db2")
    assert "sslmode='verify-full'" in text and "hostaddr='10.0.0.4'" in text and "password=" not in text
    assert pgreplica.passfile_entry(PRIMARY) == "db1.x.test:5432:replication:saltern_replication:"


def test_only_the_replicas_address_may_copy() -> None:
    logins = ["saltern_replication", "saltern_replication__2"]
    lines = pgconf.hba([], [{**one, "logins": logins} for one in REPLICAS]).splitlines()
    assert [line for line in lines if "replication" in line] == [
        'hostssl replication "saltern_replication" 10.0.0.5/32 scram-sha-256',
        'hostssl replication "saltern_replication__2" 10.0.0.5/32 scram-sha-256',
        "local replication all reject",
        "host replication all all reject",
    ]
    assert pgreplica.ROLE == pgconf.REPLICATION_ROLE == load("_states", "pgreplica").ROLE


def test_slots_follow_the_fleet() -> None:
    kept = {"name": "saltern_db2", "active_pid": 7, "lost": False}
    assert pgreplica.plan_slots(REPLICAS, [kept]) == []
    gone = pgreplica.plan_slots([], [kept])[0]
    assert (gone["new"], len(gone["statements"])) == (None, 2), "its connection is ended, or the slot cannot be dropped"
    anew = pgreplica.plan_slots(REPLICAS, [{**kept, "active_pid": None, "lost": True}])[0]
    assert "drop" in anew["statements"][0][0] and "create" in anew["statements"][1][0]


def test_without_replicas_the_role_goes() -> None:
    names = [pgreplica.ROLE, f"{pgreplica.ROLE}__2"]
    steps = pgreplica.plan_end_of_roles({name: {"rolname": name} for name in names})
    assert [step["statements"] for step in steps] == [[["DROP ROLE ", {"identifier": name}]] for name in names]


def test_another_role_to_copy_with_is_read_without_a_restart() -> None:
    """postgresql.conf stays the same text, and the file beside it is one that a reload is enough for."""
    assert "conninfo" not in "".join(pgreplica.settings(PRIMARY, "/etc/postgresql/17/main"))
    text = pgreplica.primary_conf({**PRIMARY, "user": "saltern_replication__2"}, "db2")
    assert "saltern_replication__2" in text and text.startswith("primary_conninfo = ")


def test_a_primarys_data_are_never_overwritten(tmp_path: Path) -> None:
    world = replica(data=True)
    for test in (True, False):
        refused = present(world, test=test)
        assert refused["result"] is False and "this host was a primary. Nothing was touched" in refused["comment"]
    assert not world.state["standby"]
    module = load("_modules", "pgreplica")
    module.CLUSTERS = tmp_path
    (tmp_path / "17/main").mkdir(parents=True)
    (tmp_path / "17/main/PG_VERSION").touch()
    assert "nothing was touched" in module.clone(17, "main", PRIMARY, "db2")
    with pytest.raises(Exception, match="nothing was touched"):
        module.discard(17)
    assert (tmp_path / "17/main/PG_VERSION").exists()


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ({"error": "Connection refused"}, "apply the states there first"),
        ({"slot": False}, "has no slot saltern_db2"),
        ({"major": 15}, "has PostgreSQL 15, and this host 17"),
        ({"max_connections": 51}, "max_connections is 50 here and 51 on db1"),
        ({"max_worker_processes": 9}, "max_worker_processes is 8 here and 9 on db1"),
        ({"max_locks_per_transaction": 65}, "max_locks_per_transaction is 64 here and 65 on db1"),
    ],
)
def test_a_copy_that_could_not_start_is_not_made(answer: dict[str, Any], words: str) -> None:
    world = replica(answer=answer)
    refused = present(world)
    assert refused["result"] is False and words in refused["comment"]
    assert not world.state["data"]


def test_a_half_copy_is_told_as_such() -> None:
    assert present(replica(partial=True), test=True)["changes"]["cluster 17/main"]["old"] == "half copied"


@pytest.mark.parametrize(
    ("found", "asked", "log", "words", "anew"),
    [
        ({"in_recovery": False}, {}, "", "primary of its own", False),
        ({}, {"error": "timeout"}, "", "does not reach db1: timeout", False),
        ({}, {"system": "8"}, "", "copy of another cluster", True),
        ({}, {"slot": False}, "", "apply the states on db1 first", False),
        ({}, {}, "ERROR: requested WAL segment 1 has already been removed", "away for too long", True),
        ({"sender": "db9.x.test"}, {}, "", "follows db9.x.test and not db1.x.test", False),
        ({"status": None}, {}, "", "no WAL streams", False),
    ],
)
def test_each_fault_has_its_words(
    found: dict[str, Any], asked: dict[str, Any], log: str, words: str, anew: bool
) -> None:
    said, useless = pgreplica.fault({**FOLLOWS, **found}, PRIMARY, {**ANSWER, **asked}, log)
    assert words in said and useless is anew


@pytest.mark.parametrize("found", [{"steady": False}, {"sender": "db9.x.test"}, {"status": None}])
def test_only_a_steady_stream_from_the_primary_counts(found: dict[str, Any]) -> None:
    arguments = {"name": "db2", "version": 17, "primary": PRIMARY, "port": 5432, "timeout": 0}
    assert call("following", follower(), **arguments)["result"] is True
    assert call("following", follower(**found), **arguments)["result"] is False
    assert call("following", follower(**found), test=True, **arguments)["result"] is False
