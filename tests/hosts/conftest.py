"""Host tests run on any fleet, over ssh: `pytest tests/hosts --site DIR --ssh-config FILE [--read-only]`.

Which hosts a test runs on comes from the fleet file, so an unreachable host fails; it does not drop out.
"""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import testinfra
import yaml

CONNECTIONS = pytest.StashKey[Path]()


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "host" not in metafunc.fixturenames:
        return
    hosts = _fleet(metafunc.config)["hosts"]
    marker = metafunc.definition.get_closest_marker("role")
    chosen = [name for name, entry in hosts.items() if marker is None or marker.args[0] in entry["roles"]]
    metafunc.parametrize("host", chosen, indirect=True, scope="session")


def _fleet(config: pytest.Config) -> dict:
    return yaml.safe_load((Path(config.getoption("--site")) / "fleet.yaml").read_text())


@pytest.fixture(scope="session")
def host(request: pytest.FixtureRequest):
    """A host of the fleet with the role that the test is marked with."""
    return reached(request.config, request.param)


@pytest.hookimpl(wrapper=True)
def pytest_runtestloop(session: pytest.Session) -> Iterator[None]:
    """All commands to a host share one connection, which is closed at the end: each login costs 0.3 s."""
    with tempfile.TemporaryDirectory(prefix="ssh-") as folder:
        session.config.stash[CONNECTIONS] = Path(folder)
        try:
            return (yield)
        finally:
            for socket in Path(folder).iterdir():
                subprocess.run(["ssh", "-S", socket, "-O", "exit", socket.name], capture_output=True, check=False)


def reached(config: pytest.Config, host_id: str):
    """A host of the fleet by its id, over ssh."""
    found = testinfra.get_host(
        f"ssh://{host_id}",
        ssh_config=config.getoption("--ssh-config"),
        controlpath=config.stash[CONNECTIONS] / host_id,
    )
    found.fleet_id = host_id
    found.addr_of_fleet = _fleet(config)["hosts"][host_id]["address"]
    return found


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--read-only"):
        skip = pytest.mark.skip(reason="--read-only: this test writes a row, ends a process or reboots")
        for item in items:
            if item.get_closest_marker("disturbs"):
                item.add_marker(skip)


@pytest.fixture(scope="session")
def site(request: pytest.FixtureRequest) -> Path:
    """The site's folder."""
    return Path(request.config.getoption("--site"))


@pytest.fixture(scope="session")
def fleet(request: pytest.FixtureRequest) -> dict:
    """The site's fleet.yaml."""
    return _fleet(request.config)


@pytest.fixture(scope="session")
def apps(site: Path) -> dict[str, dict]:
    """The site's apps by name."""
    return {path.stem: yaml.safe_load(path.read_text()) for path in sorted((site / "apps").glob("*.yaml"))}
