"""Hosts come into a running fleet, leave it, and are replaced: one command after the fleet's file, no request lost."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from conftest import WithRole, apply, path_on, run

from lab import served
from lab.fleetchanges import FleetFile, edited, start_minion
from lab.fleetdeploys import call, link_of, orchestrate
from lab.host import Host
from lab.lab import Lab
from lab.load import Load

pytestmark = pytest.mark.slow("fleet")

NEW = "web9"
EDGE = "edge9"
HELD = "/srv/apps/demo/releases/held"


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


@contextmanager
def held(web: Host) -> Iterator[None]:
    """Something of the demo runs on a host that was started by another release than the site's."""
    unit = f"systemd-run --quiet --unit=app-demo-held --property=WorkingDirectory={HELD}/src sleep infinity"
    run(web, "sh", "-c", f"mkdir -p {HELD}/src && {unit}")
    try:
        yield
    finally:
        run(web, "sh", "-c", f"systemctl stop app-demo-held; rm -rf {HELD}")


def test_an_edge_is_removed_while_an_app_holds_what_it_has(
    fleet: FleetFile, lab: Lab, master: Host, with_role: WithRole, load: Load
) -> None:
    """What an app holds is that app's: the edge keeps nothing, and who stays is told of what was kept for whom."""
    web, like = with_role("web")[0], with_role("edge")[0]
    address = fleet.address(19)
    fleet.edit(lambda hosts: hosts.update({EDGE: {**lab.fleet["hosts"][like.id], "address": address}}))
    start_minion(lab.host(EDGE))
    done = orchestrate(master, "orch.add_host", host=EDGE)
    assert done.exit_code == 0, done.text
    assert address in str(call(web, "needs.wanted"))
    fleet.edit(lambda hosts: hosts.pop(EDGE))
    with held(web):
        done = orchestrate(master, "orch.remove_host", host=EDGE)
        assert done.exit_code == 0, done.text
        for host in with_role("web"):
            kept = run(host, "cat", "/var/lib/saltern/needs.json", "/etc/nginx/nginx.conf", "/etc/nftables.conf")
            assert address not in kept and f"{EDGE}." not in kept
    (machine,) = [host for host in lab.left_over() if host.id == EDGE]
    states = machine.execute(["systemctl", "is-active", "haproxy", "keepalived"], capture=True).stdout.split()
    assert states == ["inactive", "inactive"]
    lab.drop(EDGE)


def test_settling_applies_nothing_else(fleet: FleetFile, lab: Lab, master: Host, with_role: WithRole) -> None:
    """A grant goes; a file that somebody changed by hand on that host stays for the next apply, whose plan shows it."""
    server, address = with_role("redis")[0], fleet.address(18)
    run(server, "sh", "-c", "rm /etc/modprobe.d/saltern.conf")
    record = path_on(server, "/var/lib/saltern/needs.json")
    grants = json.loads(record.read_text())
    like = next(one for one in grants.values() if one["part"] == "ports")
    grants[f"{address} comes to port {like['port']}"] = {**like, "host": "web8", "source": address}
    record.write_text(json.dumps(grants))
    refused = orchestrate(master, "orch.settle")
    assert refused.exit_code != 0 and "would change in more" in refused.text, "the firewall's file is another one"
    call(server, "state.sls_id", "/etc/nftables.conf", "base.firewall")
    planned = orchestrate(master, "orch.settle", plan=True)
    assert planned.exit_code == 0 and address in planned.text and address in record.read_text()
    done = orchestrate(master, "orch.settle")
    assert done.exit_code == 0, done.text
    assert address not in record.read_text() + path_on(server, "/etc/nftables.conf").read_text()
    assert not path_on(server, "/etc/modprobe.d/saltern.conf").exists()
    apply(master, server)
    assert path_on(server, "/etc/modprobe.d/saltern.conf").exists()
