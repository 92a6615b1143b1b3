"""Scenarios over many hosts, on a lab of their own. They choose hosts by role, so any fleet that has them will do."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from lab import served
from lab.host import Host
from lab.lab import Lab
from lab.load import FEW, Load

WithRole = Callable[[str], list[Host]]


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
def with_role(lab: Lab) -> WithRole:
    """Return the hosts that have a role; a test of which the fleet has none is skipped."""

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
def primary(lab: Lab, with_role: WithRole) -> Host:
    """The database server that is written to, and that replicas copy."""
    return next(host for host in with_role("postgres") if "replica_of" not in lab.fleet["hosts"][host.id])


@contextmanager
def asked(lab: Lab, with_role: WithRole, clients: dict[str, int]) -> Iterator[Load]:
    """Let clients ask through the edges, for three seconds before the body begins and until it ends.

    Args:
        lab: a lab with an edge; without one the test is skipped.
        with_role: the fixture.
        clients: how many of each kind.
    """
    with_role("edge")
    page = served.check(lab.site)[0]
    found = Load(page, served.ca_file(lab.site), dict(clients))
    with found.running():
        time.sleep(3)
        yield found


@pytest.fixture
def load(lab: Lab, with_role: WithRole) -> Iterator[Load]:
    """Requests through the edges; at the end of the test none of them has failed."""
    with asked(lab, with_role, FEW) as found:
        yield found
    assert found.answers, "nobody asked"
    assert not found.failures, found.failures[:5]


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


def pings(master: Host, minion: Host) -> bool:
    """Whether a minion answers its master."""
    done = master.execute(["salt", minion.id, "test.ping", "--timeout=3", "--out=json", "--static"], capture=True)
    return "true" in done.stdout


def wait_for(what: str, is_so: Callable[[], object], seconds: float = 40) -> None:
    """Wait until something is so; fail when it is not in time."""
    deadline = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < deadline, f"after {seconds:g} s still not: {what}"
        time.sleep(0.1)


def path_on(host: Host, name: str) -> Path:
    """Return where a file of the host is on this machine."""
    return host.root / name.lstrip("/")
