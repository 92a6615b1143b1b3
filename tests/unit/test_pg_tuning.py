"""PostgreSQL's sizes: the promise holds for every host, and the rules are PGTune's."""

from __future__ import annotations

import itertools

import pytest

from saltern.postgres import pgconf, pgtuning

UNITS = {"kB": 1 / 1024, "MB": 1, "GB": 1024}
SIZES = sorted({256, 257, 1000, 24105, *(int(256 * 1.07**step) for step in range(124)), 1024 * 1024})
CPUS = [1, 2, 3, 4, 7, 16, 64, 256]


def mb(value: str) -> float:
    return float(value[:-2]) * UNITS[value[-2:]]


@pytest.mark.parametrize(("cpus", "version"), itertools.product(CPUS, [15, 17]))
def test_sum_stays_below_the_memory_for_every_size(cpus: int, version: int) -> None:
    for memory in SIZES:
        settings = pgtuning.tuning(memory, cpus, version)
        processes = int(settings["max_connections"]) + int(settings["max_worker_processes"])
        total = mb(settings["shared_buffers"]) + processes * mb(settings["work_mem"])
        total += mb(settings["maintenance_work_mem"]) + 3 * mb(settings["autovacuum_work_mem"])
        # A place in the table of locks has 384 bytes, and there are so many for each process.
        others = pgtuning.OTHER_PROCESSES
        total += int(settings["max_locks_per_transaction"]) * (processes + others) * 384 / 2**20
        assert total <= 0.8 * memory, (memory, cpus)
        assert mb(settings["work_mem"]) >= 1
        assert int(settings["max_locks_per_transaction"]) >= 64
        assert mb(settings["shared_buffers"]) >= 64
        assert 25 <= int(settings["max_connections"]) <= 200


@pytest.mark.parametrize("connections", [5, 60, 200, 1000])
def test_asked_for_connections_are_given_or_refused_but_never_overcommitted(connections: int) -> None:
    for memory in SIZES:
        try:
            settings = pgtuning.tuning(memory, 4, 17, connections)
        except ValueError as error:
            needed = int(str(error).partition("at least ")[2].split()[0])
            assert needed > memory
            assert pgtuning.tuning(needed, 4, 17, connections), "what the message advises must work"
            continue
        assert settings["max_connections"] == str(connections)
        assert (connections + 8) * mb(settings["work_mem"]) <= 0.26 * memory


def test_worked_example_of_pgtune() -> None:
    settings = pgtuning.tuning(24 * 1024, 2, 17)
    assert (settings["shared_buffers"], settings["effective_cache_size"]) == ("6144MB", "18432MB")
    assert (settings["maintenance_work_mem"], settings["max_connections"]) == ("1536MB", "200")
    assert 28 <= mb(settings["work_mem"]) <= 30
    assert "max_parallel_workers" not in settings


def test_connections_yield_before_work_mem_does() -> None:
    settings = pgtuning.tuning(1024, 2, 17)
    assert settings["max_connections"] == "56" and settings["work_mem"] == "4096kB"


def test_parallel_settings_from_four_cpus() -> None:
    settings = pgtuning.tuning(16384, 8, 17)
    assert settings["max_parallel_workers"] == "8" and settings["max_parallel_workers_per_gather"] == "4"


def test_too_little_memory_names_the_key() -> None:
    with pytest.raises(ValueError, match=r"postgres\.memory_mb"):
        pgtuning.tuning(255, 1, 17)


def test_budget_is_the_same_after_a_kernel_update() -> None:
    for total in (1972, 3936, 7941, 24105, 64295):
        assert pgtuning.budget_mb(total, 0.5) == pgtuning.budget_mb(total - 3, 0.5)
        assert 0.46 * total <= pgtuning.budget_mb(total, 0.5) <= 0.5 * total


@pytest.mark.parametrize("share", [0, -1, 1.01])
def test_budget_refuses_an_impossible_share(share: float) -> None:
    with pytest.raises(ValueError, match=r"postgres\.memory_share"):
        pgtuning.budget_mb(4096, share)


@pytest.mark.parametrize(("debian", "postgres"), [(12, 15), (13, 17)])
def test_version(debian: int, postgres: int) -> None:
    assert pgconf.server_version(debian) == postgres


def test_unknown_debian() -> None:
    with pytest.raises(ValueError, match="Debian 12 and 13; this host has Debian 11"):
        pgconf.server_version(11)


@pytest.mark.parametrize("memory", SIZES)
def test_what_sessions_may_have_is_enough_for_what_they_are_given_and_less_than_the_host_has(memory: int) -> None:
    for total in (memory, memory * 2, memory * 10):
        settings = pgtuning.tuning(memory, 4, 17)
        one, all_of_them = pgtuning.session_mb(memory), pgtuning.sessions_mb(memory, total)
        assert one > 2 * mb(settings["work_mem"]) + mb(settings["maintenance_work_mem"])
        assert one > mb(settings["autovacuum_work_mem"])
        if total >= 1024:
            assert all_of_them + mb(settings["shared_buffers"]) <= 0.9 * total or total == memory == 256
            assert mb(settings["shared_buffers"]) < pgtuning.unit_mb(memory, total) <= total
        given = int(settings["max_connections"]) * mb(settings["work_mem"])
        assert all_of_them >= min(given, total / 3)


def test_a_replica_has_as_many_locks_for_each_connection_as_its_primary() -> None:
    found = {pgtuning.tuning(1024, 2, 17, most)["max_locks_per_transaction"] for most in (None, 40, 90, 200)}
    assert len(found) == 1
