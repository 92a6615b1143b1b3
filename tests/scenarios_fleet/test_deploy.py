"""A release is given to all hosts of a fleet or to none, and no request is lost on the way."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from conftest import WithRole, wait_for

from lab import served
from lab.deploys import Demo
from lab.fleetdeploys import call, demo_of, ended, link_of, orchestrate, start_orchestration
from lab.host import Host
from lab.lab import Lab
from lab.load import Load

BROKEN = "/etc/systemd/system/app-demo@.service.d/broken.conf"


@pytest.fixture(scope="module")
def demo(lab: Lab) -> Iterator[Demo]:
    with demo_of(lab) as found:
        yield found


def serving(with_role: WithRole) -> set[str]:
    """Every release that some host serves or runs background work of."""
    found = {link_of(web) for web in with_role("web")}
    for worker in with_role("worker"):
        units = worker.execute(
            ["systemctl", "list-units", "app-demo-*@*.service", "--state=active", "--plain", "--no-legend"],
            capture=True,
        ).stdout
        found |= {line.split()[0].partition("@")[2].removesuffix(".service") for line in units.splitlines()}
    return found


def builds(with_role: WithRole) -> set[str]:
    """Every build that some host serves, or runs background work of."""
    return {release.partition("-")[0] for release in serving(with_role)}


def test_all_hosts_get_a_change_of_code_together(demo: Demo, master: Host, with_role: WithRole, load: Load) -> None:
    before = serving(with_role)
    demo.change(migration=True)
    done = orchestrate(master, "orch.deploy", app="demo")
    assert done.exit_code == 0, done.text
    after = serving(with_role)
    assert len(after) == 1 and after.isdisjoint(before)
    assert all(call(edge, "edge.sees", "demo").count(*after) == 1 for edge in with_role("edge"))


def test_settings_alone_come_into_force_and_a_newer_source_stays_out(
    demo: Demo, master: Host, with_role: WithRole, load: Load
) -> None:
    before, build = serving(with_role), builds(with_role)
    demo.change()
    demo.change_environment()
    done = orchestrate(master, "orch.deploy", app="demo", build="same")
    assert done.exit_code == 0, done.text
    after = serving(with_role)
    assert len(after) == 1 and after.isdisjoint(before) and builds(with_role) == build


def test_what_cannot_be_is_one_sentence_and_changes_nothing(lab: Lab, master: Host) -> None:
    before = (lab.site / "secrets/shared.yaml").read_bytes()
    for name, told, words in (
        ("orch.rotate", {"app": "demo", "secret": "databas"}, "there is no secret demo databas; there are: "),
        ("orch.deploy", {"app": "demo", "build": "last"}, 'build: "last" is none; allowed: newest'),
    ):
        done = orchestrate(master, name, **told)
        assert done.exit_code != 0 and words in done.text, done.text
        assert "Traceback" not in done.text, done.text
    assert (lab.site / "secrets/shared.yaml").read_bytes() == before


def test_one_host_that_fails_its_gate_keeps_all_on_the_old_release(
    demo: Demo, master: Host, with_role: WithRole, load: Load
) -> None:
    before, last = serving(with_role), with_role("web")[-1]
    demo.change()
    broken = "[Service]\nExecStart=\nExecStart=/bin/false\n"
    last.execute(["sh", "-c", f"mkdir -p {Path(BROKEN).parent}; cat > {BROKEN}; systemctl daemon-reload"], stdin=broken)
    try:
        done = orchestrate(master, "orch.deploy", app="demo")
        assert done.exit_code != 0
        assert done.steps["started"] is False and done.steps["every host is put back"] is True
        assert serving(with_role) == before
    finally:
        last.execute(["sh", "-c", f"rm {BROKEN}; systemctl daemon-reload"])
    again = orchestrate(master, "orch.deploy", app="demo")
    assert again.exit_code == 0, again.text
    assert len(serving(with_role)) == 1 and serving(with_role) != before


@pytest.mark.slow("fleet")
def test_the_states_alone_never_give_one_host_another_release(demo: Demo, master: Host, with_role: WithRole) -> None:
    before = serving(with_role)
    text = demo.settings.read_text()
    settings = yaml.safe_load(text)
    demo.settings.write_text(yaml.safe_dump(settings | {"env": {**settings.get("env", {}), "LOG_LEVEL": "WARNING"}}))
    demo.change()
    done = orchestrate(master, "orch.apply", hosts=[host.id for host in [*with_role("web"), *with_role("worker")]])
    assert done.exit_code == 0, done.text
    assert serving(with_role) == before
    done = orchestrate(master, "orch.deploy", app="demo")
    assert done.exit_code == 0, done.text
    assert serving(with_role) != before and len(serving(with_role)) == 1
    demo.settings.write_text(text)


@pytest.mark.slow("fleet")
def test_a_rollback_of_all_hosts_holds(demo: Demo, master: Host, with_role: WithRole, load: Load) -> None:
    before = serving(with_role)
    demo.change()
    assert orchestrate(master, "orch.deploy", app="demo").exit_code == 0
    done = orchestrate(master, "orch.rollback", app="demo")
    assert done.exit_code == 0, done.text
    assert serving(with_role) == before
    applied = orchestrate(master, "orch.apply", hosts=[host.id for host in with_role("web")])
    assert applied.exit_code == 0, applied.text
    assert serving(with_role) == before


def test_a_host_that_dies_in_the_middle_leaves_no_mixed_fleet(
    demo: Demo, master: Host, with_role: WithRole, lab: Lab
) -> None:
    before, last = serving(with_role), with_role("web")[-1]
    demo.change()
    process = start_orchestration(master, "orch.deploy", app="demo")
    told = last.root / "srv/apps/demo/fleet.json"
    deadline = time.monotonic() + 120
    while '"next"' not in told.read_text() and time.monotonic() < deadline:
        time.sleep(0.02)
    last.power_off()
    done = ended(process)
    assert done.exit_code != 0, done.text
    others = [web for web in with_role("web") if web.id != last.id]
    assert {link_of(web) for web in others} == before
    assert all(call(edge, "edge.out") == [last.id] for edge in with_role("edge"))
    last.boot()
    applied = orchestrate(master, "orch.apply", hosts=[last.id])
    assert applied.exit_code == 0, applied.text
    assert serving(with_role) == before
    assert [call(edge, "edge.bring_in", last.id) for edge in with_role("edge")]


@pytest.mark.parametrize("reboot", [False, pytest.param(True, marks=pytest.mark.slow("fleet"))])
def test_maintenance_of_a_web_host_loses_no_request(
    master: Host, with_role: WithRole, load: Load, reboot: bool
) -> None:
    first = with_role("web")[0]
    boot = lambda: first.execute(["cat", "/proc/sys/kernel/random/boot_id"], capture=True).stdout  # noqa: E731
    before = boot()
    done = orchestrate(master, "orch.maintenance", host=first.id, reboot=reboot)
    assert done.exit_code == 0, done.text
    assert (boot() != before) is reboot
    assert not any(call(edge, "edge.out") for edge in with_role("edge"))


@pytest.mark.slow("fleet")
def test_maintenance_that_cannot_be_leaves_a_host_out_that_was_out(master: Host, with_role: WithRole) -> None:
    first, second, *_ = with_role("web")
    edges = with_role("edge")
    assert [call(edge, "edge.take_out", first.id) for edge in edges]
    done = orchestrate(master, "orch.maintenance", host=second.id)
    assert done.exit_code != 0 and f"{second.id} stays" in done.text
    assert [call(edge, "edge.out") for edge in edges] == [[first.id]] * len(edges)
    assert [call(edge, "edge.bring_in", first.id) for edge in edges]


def test_a_host_that_was_out_stays_out_when_its_maintenance_cannot_be(
    lab: Lab, master: Host, with_role: WithRole
) -> None:
    """As when an operator has taken it out, and then the other one fails."""
    first, second, *_ = with_role("web")
    edges, page, ca = with_role("edge"), served.pages(lab.site)[0], served.ca_file(lab.site)
    assert [call(edge, "edge.take_out", first.id) for edge in edges]
    second.execute(["systemctl", "stop", "nginx"])
    try:
        seen = [served.Page(page.hostname, edge.address, page.port) for edge in edges]
        wait_for("the edges know that no web host is up", lambda: {served.get(one, ca)[0] for one in seen} == {503})
        done = orchestrate(master, "orch.maintenance", host=first.id)
        assert done.exit_code != 0 and f"{first.id} stays: no other host is up" in done.text
        assert [call(edge, "edge.out") for edge in edges] == [[first.id]] * len(edges)
    finally:
        second.execute(["systemctl", "start", "nginx"])
        assert [call(edge, "edge.bring_in", host.id) for edge in edges for host in (first, second)]
