"""Hosts come into a running fleet, leave it, and are replaced: one command after the fleet's file, no request lost."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from conftest import WithRole

from lab import served
from lab.fleetchanges import FleetFile, edited, start_minion
from lab.fleetdeploys import call, link_of, orchestrate
from lab.host import Host
from lab.lab import Lab
from lab.load import Load

pytestmark = pytest.mark.slow("fleet")

NEW = "web9"


@pytest.fixture(scope="module")
def fleet(lab: Lab, with_role: WithRole, tmp_path_factory: pytest.TempPathFactory) -> Iterator[FleetFile]:
    """The fleet's file, to be edited; afterwards the lab has the hosts that it had before."""
    if len(with_role("web")) < 2:
        pytest.skip("a web host more or less needs two others")
    with edited(lab, tmp_path_factory.mktemp("site")) as found:
        yield found


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


def test_a_web_host_is_added(fleet: FleetFile, lab: Lab, master: Host, with_role: WithRole, load: Load) -> None:
    like = with_role("web")[0]
    entry = lab.fleet["hosts"][like.id]
    fleet.edit(lambda hosts: hosts.update({NEW: {**entry, "address": fleet.address(29)}}))
    began = time.monotonic()
    start_minion(lab.host(NEW))
    done = orchestrate(master, "orch.add_host", host=NEW)
    assert done.exit_code == 0, done.text
    print(f"\n{NEW} has been added in {time.monotonic() - began:.1f} s")
    assert link_of(lab.host(NEW)) == link_of(like)
    assert not any(call(edge, "edge.out") for edge in with_role("edge"))
    assert served_by(load, NEW, 20)


def test_it_is_replaced_by_another_machine(
    fleet: FleetFile, lab: Lab, master: Host, with_role: WithRole, load: Load
) -> None:
    """The old machine is gone, in order, or POSTs would go with it; the new one has another key and address."""
    assert [call(edge, "edge.take_out", NEW) for edge in with_role("edge")] == [0] * len(with_role("edge"))
    lab.drop(NEW)
    fleet.edit(lambda hosts: hosts[NEW].update(address=fleet.address(28)))
    start_minion(lab.host(NEW))
    done = orchestrate(master, "orch.replace_host", host=NEW)
    assert done.exit_code == 0, done.text
    assert served_by(load, NEW, 20)


def test_it_is_removed(fleet: FleetFile, lab: Lab, master: Host, with_role: WithRole, load: Load) -> None:
    fleet.edit(lambda hosts: hosts.pop(NEW))
    done = orchestrate(master, "orch.remove_host", host=NEW)
    assert done.exit_code == 0, done.text
    assert [host.id for host in lab.left_over()] == [NEW]
    lab.drop(NEW)
    assert not lab.left_over()
    assert not served_by(load, NEW, 4)
    assert not any(call(edge, "edge.out") for edge in with_role("edge"))
    assert not (master.root / "etc/salt/pki/master/minions" / NEW).exists()
