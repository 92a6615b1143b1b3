"""Scenarios over many hosts, on a lab of their own. They choose hosts by role, so any fleet that has them will do."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lab.host import Host
from lab.lab import Lab


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--sample"):
        for item in items:
            if item.get_closest_marker("slow"):
                item.add_marker(pytest.mark.skip(reason="slow; `bin/lab test fleet` runs it"))


@pytest.fixture(scope="session")
def lab(request: pytest.FixtureRequest) -> Lab:
    """The lab under test, up and applied."""
    return Lab(request.config.getoption("--lab"))


@pytest.fixture(scope="session")
def master(lab: Lab) -> Host:
    """Its master."""
    assert lab.master, "these scenarios are for a fleet with a master"
    return lab.master


@pytest.fixture(scope="session")
def minion(lab: Lab, master: Host) -> Host:
    """A minion that is not the master, and does little else."""
    others = [host for host in lab.hosts() if host.id != master.id]
    return min(others, key=lambda host: len(lab.fleet["hosts"][host.id]["roles"]))


@pytest.fixture(scope="session")
def with_role(lab: Lab) -> Callable[[str], list[Host]]:
    """Answers the hosts that have a role; a test of which the fleet has none is skipped."""

    def chosen(role: str) -> list[Host]:
        found = [host for host in lab.hosts() if role in lab.fleet["hosts"][host.id]["roles"]]
        if not found:
            pytest.skip(f"no host has role {role}")
        return found

    return chosen


@pytest.fixture(scope="session")
def replica(lab: Lab) -> Host:
    """A replica of the database server."""
    found = [name for name, host in lab.fleet["hosts"].items() if "replica_of" in host]
    if not found:
        pytest.skip("the fleet has no replica")
    return lab.host(found[0])


@pytest.fixture(scope="session")
def primary(lab: Lab, replica: Host) -> Host:
    """The database server that the replica copies."""
    return lab.host(lab.fleet["hosts"][replica.id]["replica_of"])


def run(host: Host, *command: str, stdin: str | None = None) -> str:
    """Run a command where a person would; it must succeed."""
    done = host.execute(list(command), capture=True, cwd=host.home, stdin=stdin)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


def answer(host: Host, *command: str) -> Any:
    """Run a Salt command and return its JSON."""
    return json.loads(run(host, *command, "--out=json", "--log-level=error"))


def apply(master: Host, minion: Host) -> dict[str, dict[str, Any]]:
    """Apply one minion's states from the master, with no flags; return its states by id."""
    states = answer(master, "salt", minion.id, "state.apply", "--static")[minion.id]
    assert isinstance(states, dict), states
    assert all(state["result"] for state in states.values()), states
    return {state["__id__"]: state for state in states.values()}


def wait_for(what: str, is_so: Callable[[], bool], seconds: float = 40) -> None:
    """Wait until something is so; fail when it is not in time."""
    deadline = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < deadline, f"after {seconds:g} s still not: {what}"
        time.sleep(0.3)


def path_on(host: Host, name: str) -> Path:
    """Return where a file of the host is on this machine."""
    return host.root / name.lstrip("/")
