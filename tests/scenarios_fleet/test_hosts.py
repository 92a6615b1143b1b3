"""Hosts come into a running fleet, leave it, and are replaced: one command after the fleet's file, no request lost."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml
from conftest import WithRole

from lab import served
from lab.fleetdeploys import call, link_of, orchestrate
from lab.host import Host
from lab.lab import Lab, Record
from lab.load import Load

pytestmark = pytest.mark.slow("fleet")

NEW = "web9"


class Fleet:
    """fleet.yaml, as an operator edits it."""

    def __init__(self, lab: Lab, path: Path):
        self.lab, self.path = lab, path

    def edit(self, change: Callable[[dict], object]) -> None:
        """Change the hosts, and let the lab make the machines that are new."""
        found = yaml.safe_load(self.path.read_text())
        change(found["hosts"])
        self.path.write_text(yaml.safe_dump(found, sort_keys=False))
        self.lab.make(self.lab.record.fleet)


@pytest.fixture(scope="module")
def fleet(lab: Lab, with_role: WithRole, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """The fleet's files, to be edited; afterwards the lab has the hosts that it had before."""
    if len(with_role("web")) < 2:
        pytest.skip("a web host more or less needs two others")
    record = lab.record
    copy = tmp_path_factory.mktemp("site") / Path(record.fleet).name
    shutil.copytree(record.fleet, copy, ignore=shutil.ignore_patterns("secrets"))
    lab._write(Record(**{**vars(record), "fleet": str(copy)}))
    yield Fleet(lab, copy / "fleet.yaml")
    for host in lab.left_over():
        lab.drop(host.id)
    (lab.site / f"secrets/{NEW}.sls").unlink(missing_ok=True)
    lab._write(record)
    lab.refresh_site()


def address(hosts: dict, last: int) -> str:
    """Another address of the fleet's network."""
    return next(iter(hosts.values()))["address"].rpartition(".")[0] + f".{last}"


def served_by(load: Load, host: str, seconds: float) -> bool:
    """Whether a page comes from a host within a time: the demo says so on each. The edges choose the least busy."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if host in served.get(load.page, load.ca)[1].decode():
            return True
    return False


def test_a_host_that_the_fleet_does_not_have_is_refused(master: Host) -> None:
    done = orchestrate(master, "orch.add_host", host="nobody")
    assert done.exit_code != 0 and "name a host of the fleet" in done.text


def test_a_host_that_the_fleet_has_is_not_removed(master: Host, with_role: WithRole) -> None:
    web = with_role("web")[0]
    done = orchestrate(master, "orch.remove_host", host=web.id)
    assert done.exit_code != 0 and "take it out there first" in done.text
    assert call(web, "test.ping") is True


def test_a_database_is_not_replaced_like_a_web_host(master: Host, with_role: WithRole) -> None:
    done = orchestrate(master, "orch.replace_host", host=with_role("postgres")[0].id)
    assert done.exit_code != 0 and "has role postgres" in done.text


def test_a_web_host_is_added(fleet: Fleet, lab: Lab, master: Host, with_role: WithRole, load: Load) -> None:
    like = with_role("web")[0]
    entry = lab.fleet["hosts"][like.id]
    fleet.edit(lambda hosts: hosts.update({NEW: {**entry, "address": address(hosts, 29)}}))
    began = time.monotonic()
    start(lab, NEW)
    done = orchestrate(master, "orch.add_host", host=NEW)
    assert done.exit_code == 0, done.text
    print(f"\n{NEW} has been added in {time.monotonic() - began:.1f} s")
    assert link_of(lab.host(NEW)) == link_of(like)
    assert not any(call(edge, "edge.out") for edge in with_role("edge"))
    assert served_by(load, NEW, 20)


def test_it_is_replaced_by_another_machine(
    fleet: Fleet, lab: Lab, master: Host, with_role: WithRole, load: Load
) -> None:
    """The old machine is gone, in order, or POSTs would go with it; the new one has another key and address."""
    assert [call(edge, "edge.take_out", NEW) for edge in with_role("edge")] == [0] * len(with_role("edge"))
    lab.drop(NEW)
    fleet.edit(lambda hosts: hosts[NEW].update(address=address(hosts, 28)))
    start(lab, NEW)
    done = orchestrate(master, "orch.replace_host", host=NEW)
    assert done.exit_code == 0, done.text
    assert served_by(load, NEW, 20)


def test_it_is_removed(fleet: Fleet, lab: Lab, master: Host, with_role: WithRole, load: Load) -> None:
    fleet.edit(lambda hosts: hosts.pop(NEW))
    done = orchestrate(master, "orch.remove_host", host=NEW)
    assert done.exit_code == 0, done.text
    assert [host.id for host in lab.left_over()] == [NEW]
    lab.drop(NEW)
    assert not lab.left_over()
    assert not served_by(load, NEW, 4)
    assert not any(call(edge, "edge.out") for edge in with_role("edge"))
    assert not (master.root / "etc/salt/pki/master/minions" / NEW).exists()


def start(lab: Lab, host: str) -> None:
    """A new machine's minion starts when its master's address is set: bin/bootstrap minion does it."""
    done = lab.host(host).execute(["systemctl", "enable", "--now", "--quiet", "salt-minion"], capture=True)
    assert done.returncode == 0, done.stderr
