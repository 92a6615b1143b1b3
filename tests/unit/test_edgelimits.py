"""How much an edge holds, and how much of it one address may have."""

from __future__ import annotations

import random

import pytest
from salt.exceptions import CommandExecutionError

from saltern.edge import edgelimits
from tests.unit.contracts import load

limits = edgelimits
PLENTY = 1048576


@pytest.mark.parametrize("memory", [256, 512, 1024, 2048, 4096, 8192, 24105, 65536, 1048576])
def test_fifty_addresses_leave_room_for_others(memory: int) -> None:
    most = limits.connections(memory, 0.125, PLENTY)
    each = limits.per_address(most)
    assert limits.LEAST_CONNECTIONS <= most <= limits.MOST_CONNECTIONS
    assert each * limits.ADDRESSES <= most * 0.8
    assert each >= limits.LEAST_PER_ADDRESS


def test_connections_stay_within_the_memory_and_the_files() -> None:
    choose = random.Random(1)
    for _ in range(500):
        memory, share = choose.randint(600, 10**6), choose.uniform(0.02, 0.9)
        files = choose.choice([4096, 20000, PLENTY])
        most = limits.connections(memory, share, files)
        assert most == limits.LEAST_CONNECTIONS or most * limits.CONNECTION_KB <= memory * 1024 * share
        assert 2 * most + limits.FILES_FOR_THE_REST <= files


def test_a_few_megabytes_more_change_nothing() -> None:
    assert limits.connections(24105, 0.125, PLENTY) == limits.connections(24090, 0.125, PLENTY)


def edge(tmp_path, files: int, **settings: object):
    module = load("_modules", "edge")
    module.LIMITS = tmp_path / "limits"
    module.LIMITS.write_text(
        f"Limit  Soft  Hard  Units\nMax open files            1024                {files}   files\n"
    )
    module.__grains__ = {"mem_total": 24105, "num_cpus": 2}
    told = {"memory_share": 0.125, "max_connections": None, "connections_per_address": None, "threads": None}
    return module.limits(told | settings)


def test_what_the_host_does_not_allow_is_not_counted_on(tmp_path) -> None:
    found = edge(tmp_path, 20000)
    assert (found["max_connections"], found["connections_per_address"]) == (9500, 152)
    assert edge(tmp_path, 20000, max_connections=200, connections_per_address=7)["connections_per_address"] == 7


def test_threads_are_half_of_the_processors_and_at_least_one(tmp_path) -> None:
    assert [limits.threads(number) for number in (1, 2, 3, 8)] == [1, 1, 1, 4]
    assert edge(tmp_path, 20000)["threads"] == 1
    assert edge(tmp_path, 20000, threads=3)["threads"] == 3


def test_more_connections_than_files_are_refused_before_haproxy_would_not_start(tmp_path) -> None:
    with pytest.raises(
        CommandExecutionError, match="max_connections is 9501; this host lets a process open 20000 files: 9500"
    ):
        edge(tmp_path, 20000, max_connections=9501)
