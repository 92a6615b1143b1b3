"""Who takes from PostgreSQL what all apps share is found, and nobody else."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tests.unit.contracts import ROOT

MOST = 100_000


@pytest.fixture
def guard(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    spec = importlib.util.spec_from_file_location("postgres_guard", ROOT / "salt/postgres/files/postgres-guard.py")
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "postgres_guard", module)
    spec.loader.exec_module(module)
    return module


def session(guard: ModuleType, pid: int, database: str = "a", **more: Any) -> Any:
    nothing = {"locks": 0, "predicates": 0, "since": 0.0, "snapshot": False, "role": database, "leader": pid}
    return guard.Session(**{"pid": pid, "database": database, **nothing, **more})


def pids(ends: list[Any]) -> list[int]:
    return [one.pid for one, _ in ends]


def test_nobody_ends_where_nobody_takes_much(guard: ModuleType) -> None:
    found = [session(guard, pid, "ab"[pid % 2], locks=300, memory_mb=9.0, since=5.0) for pid in range(1, 30)]
    assert guard.over_locks(found, MOST) == []
    assert guard.over_predicates(found, 0, MOST) == []
    assert guard.over_memory(found, 500, 0.0) == []
    assert guard.over_queue(found, 0.0) == []
    assert guard.over_locks([], MOST) == guard.over_memory([], 1, 9.0) == guard.over_queue([], 0.9) == []


def test_all_sessions_of_the_app_that_fills_the_table_end_and_no_others(guard: ModuleType) -> None:
    found = [session(guard, 1, locks=20_000), session(guard, 2, locks=8_000), session(guard, 3, locks=5)]
    found += [session(guard, 4, "b", locks=24_000)]
    assert pids(guard.over_locks(found, MOST)) == [1, 2]


def test_many_small_sessions_of_one_app_are_one_app(guard: ModuleType) -> None:
    found = [session(guard, pid, locks=1_500) for pid in range(1, 21)] + [session(guard, 99, "b", locks=2_000)]
    assert len(guard.over_locks(found, MOST)) == 1 and guard.over_locks(found, MOST)[0][0].database == "a"


def test_together_apps_may_hold_no_more_than_leaves_room(guard: ModuleType) -> None:
    found = [session(guard, number, str(number), locks=22_000 + number) for number in range(1, 4)]
    assert pids(guard.over_locks(found, MOST)) == [3]


def test_predicate_locks_of_ended_transactions_are_kept_for_the_oldest(guard: ModuleType) -> None:
    found = [session(guard, 1, "b", since=9.0, snapshot=True), session(guard, 2, since=5.0, snapshot=True)]
    found += [session(guard, 3, since=1.0)]
    assert pids(guard.over_predicates(found, 60_000, MOST)) == [2]
    found += [session(guard, 4, since=8.0, predicates=50_000)]
    assert pids(guard.over_predicates(found, 60_000, MOST)) == [4]


def test_the_largest_of_the_largest_app_ends_until_there_is_room(guard: ModuleType) -> None:
    found = [session(guard, 1, memory_mb=300.0), session(guard, 2, memory_mb=200.0)]
    found += [session(guard, 3, "b", memory_mb=350.0), session(guard, 4, "b", memory_mb=10.0)]
    assert pids(guard.over_memory(found, 1000, 0.0)) == []
    assert pids(guard.over_memory(found, 800, 0.0)) == [1]
    assert pids(guard.over_memory(found, 500, 0.0)) == [1, 3]


def test_many_small_sessions_are_no_offence(guard: ModuleType) -> None:
    assert guard.over_memory([session(guard, pid, memory_mb=10.0) for pid in range(1, 90)], 500, 0.0) == []


def test_parallel_workers_count_for_who_has_them(guard: ModuleType) -> None:
    found = [session(guard, 1, shared_mb=300.0), session(guard, 2, leader=1), session(guard, 3, shared_mb=400.0)]
    assert pids(guard.over_memory(found, 500, 260.0)) == [1]
    found = [session(guard, 1, memory_mb=20.0), session(guard, 2, leader=1, memory_mb=90.0), session(guard, 3)]
    assert pids(guard.over_memory(found, 100, 0.0)) == [1]


def test_who_keeps_the_queue_is_the_oldest_transaction(guard: ModuleType) -> None:
    found = [session(guard, 1, since=7.0, snapshot=True), session(guard, 2, "b", since=6.0), session(guard, 3)]
    assert pids(guard.over_queue(found, 0.02)) == [2]


def test_it_does_not_count_itself(guard: ModuleType) -> None:
    """It has a snapshot when it asks, and ended itself as the oldest."""
    assert "a.pid OPERATOR(pg_catalog.<>) pg_catalog.pg_backend_pid()" in guard.SESSIONS


class Server:
    """Answers as PostgreSQL does."""

    def __init__(self, held: int, rows: list[list[str]]) -> None:
        self.held, self.rows, self.asked = held, rows, []

    def ask(self, sql: str) -> list[list[str]]:
        self.asked.append(sql.split()[1] if sql.startswith("EXECUTE") else sql.strip())
        answers = {"EXECUTE locks": [[str(self.held), "0"]], "EXECUTE sessions": self.rows, "EXECUTE queue": [["0"]]}
        return answers.get(sql) or ([[str(MOST), "1000"]] if "max_pred" in sql else [])


ROW = ["7", "7", "5", "40000", "0", "1.5", "1", "shop"]


def test_it_looks_at_the_tables_alone_as_long_as_there_is_room(guard: ModuleType) -> None:
    server = Server(100, [ROW])
    watcher = guard.Guard(server, 500)
    server.asked.clear()
    watcher.look()
    assert server.asked == ["locks"]


def test_who_is_ended_is_said_once_with_the_role(guard: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    server = Server(40_000, [ROW])
    watcher = guard.Guard(server, 500)
    watcher.look()
    watcher.look()
    assert [one for one in server.asked if "terminate" in one] == ["SELECT pg_catalog.pg_terminate_backend(7)"]
    assert capsys.readouterr().out == (
        "ended a session of shop (process 7): its app holds 40000 of the 100000 locks that all apps share\n"
    )


def test_a_psql_that_has_ended_ends_it_and_what_it_said_is_said(
    guard: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    server = guard.Server(["sh", "-c", "read line; echo 'psql: error: refused'"])
    with pytest.raises(ConnectionError):
        server.ask("SELECT 1")
    assert "refused" in capsys.readouterr().out


def test_a_process_that_has_gone_has_no_memory(guard: ModuleType, tmp_path: Path) -> None:
    one = session(guard, 2**22 + 1)
    assert guard.measured(one) == one
