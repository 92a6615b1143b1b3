"""Scenarios over many hosts, on a lab of their own. They choose hosts by role, so any fleet that has them will do."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from lab.host import Host
from lab.lab import Lab


@pytest.fixture(scope="session")
def lab(request: pytest.FixtureRequest) -> Lab:
    """The lab under test, up and applied."""
    return Lab(request.config.getoption("--lab"))


@pytest.fixture(scope="session")
def master(lab: Lab) -> Host:
    """Its master."""
    if lab.master is None:
        pytest.skip("the fleet has no master")
    return lab.master


@pytest.fixture(scope="session")
def with_role(lab: Lab) -> Callable[[str], list[Host]]:
    """Answers the hosts that have a role; a test of which the fleet has none is skipped."""

    def chosen(role: str) -> list[Host]:
        found = [host for host in lab.hosts() if role in lab.fleet["hosts"][host.id]["roles"]]
        if not found:
            pytest.skip(f"no host has role {role}")
        return found

    return chosen
