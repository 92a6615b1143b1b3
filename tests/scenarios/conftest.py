"""Scenarios break things on labs of their own: run them with `bin/lab test scenarios`."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from lab.apply import apply, explain
from lab.host import Host
from lab.images import REPOSITORY_ON_HOST
from lab.lab import Lab

ROOT = Path(__file__).resolve().parents[2]


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    release = config.getoption("--sample")
    for item in items:
        slow = item.get_closest_marker("slow")
        if release and slow and slow.args != (release,):
            reason = f"slow, run on {slow.args[0]}; `bin/lab test --release {release}` runs it on {release} too"
            if slow.args == ("alone",):
                name = item.path.stem.removeprefix("test_")
                reason = f"wants a machine to itself: `bin/lab test scenarios --release {release} -k {name}` runs it"
            item.add_marker(pytest.mark.skip(reason=reason))


def beside(lab: Lab, letter: str) -> str:
    """Return a name for a second lab that no other run has, for both Debian releases are tested at the same time."""
    return f"{letter}{lab.name}"[:11]


@pytest.fixture(scope="session")
def lab(request: pytest.FixtureRequest) -> Lab:
    """The lab under test, up and (but for test_apply.py) converged."""
    return Lab(request.config.getoption("--lab"))


@pytest.fixture(scope="session")
def one(lab: Lab) -> Host:
    """The single fleet's only host."""
    return lab.hosts()[0]


@pytest.fixture
def settings(lab: Lab) -> Iterator[Path]:
    """The lab's settings.yaml, put back as it was at the end, on the hosts too."""
    path = lab.site / "settings.yaml"
    before = path.read_text()
    yield path
    path.write_text(before)
    for host in lab.hosts():
        outcome = apply(host)
        assert outcome.ok, explain(outcome)


@pytest.fixture(scope="module")
def applied_again(one: Host) -> Iterator[None]:
    """After a module's last test the host is as the site says again."""
    yield
    healed = apply(one)
    assert healed.ok, explain(healed)


@pytest.fixture(scope="module")
def writes_site(one: Host, applied_again: None) -> Iterator[Host]:
    """The host, which may write to the site for once: on a server it stands on the host itself."""
    site = f"{REPOSITORY_ON_HOST}/site"
    one.execute(["mount", "-o", "remount,bind,rw", site])
    yield one
    one.execute(["mount", "-o", "remount,bind,ro", site])


@pytest.fixture
def demo(lab: Lab, applied_again: None) -> Iterator[Path]:
    """The demo's file in the lab's site; put back after each test, and applied at the end of the module."""
    path = lab.site / "apps/demo.yaml"
    before = path.read_text()
    yield path
    path.write_text(before)


def change_app(path: Path, settings: dict[str, object] | None = None, **env: str) -> None:
    """Set keys and environment variables in an app's file."""
    found = yaml.safe_load(path.read_text()) | (settings or {})
    found["env"] = found.get("env", {}) | env
    path.write_text(yaml.safe_dump(found))


def change(path: Path, role: str, **values: object) -> None:
    """Set role settings in a settings.yaml."""
    settings = yaml.safe_load(path.read_text()) or {}
    settings.setdefault(role, {}).update(values)
    path.write_text(yaml.safe_dump(settings))


def bin_lab(*arguments: str, **kwargs) -> subprocess.CompletedProcess[str]:
    """Run bin/lab as a person would."""
    return subprocess.run([str(ROOT / "bin/lab"), *arguments], capture_output=True, text=True, check=False, **kwargs)
