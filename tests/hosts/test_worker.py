"""Background work: tasks are done, timers are set, what may run only once runs once, and all of it in a sandbox."""

from __future__ import annotations

import json
import re
import shlex
import ssl
import time
import xmlrpc.client
from pathlib import Path

import pytest
from test_base import BACK_WITHIN, KILL_AND_WAIT

from lab.served import Connection, Page, ca_file, pages

pytestmark = pytest.mark.role("worker")
ASKED_FOR = 20  # seconds
ENDED_WELL = "7ad2d189f7e94e70a38c781354912448"  # systemd's SD_MESSAGE_UNIT_SUCCESS, "Deactivated successfully."


def units(host, app: str, name: str) -> list[str]:
    """The running instances of a process."""
    pattern = f"app-{app}-{name}@*.service"
    listed = host.check_output(f"systemctl list-units --plain --no-legend --state=active '{pattern}' | cut -d' ' -f1")
    return listed.split()


def all_units(host, apps: dict) -> list[str]:
    """Every process of every app that runs on the host."""
    return [
        unit for app, about in apps.items() for name in about.get("processes", {}) for unit in units(host, app, name)
    ]


def single_host(fleet: dict) -> str:
    """Where the site has what may run only once."""
    return min(name for name, about in fleet["hosts"].items() if "worker" in about["roles"])


def client(page: Page, site: Path) -> xmlrpc.client.ServerProxy:
    """A stock XML-RPC client that reaches the app as a visitor does."""
    tls = ssl.create_default_context(cafile=str(ca_file(site)))

    class Transport(xmlrpc.client.SafeTransport):
        def make_connection(self, _host):
            return Connection(page, tls)

    return xmlrpc.client.ServerProxy(f"https://{page.hostname}/RPC2", transport=Transport())


def runs_here(host, fleet: dict, what: dict) -> bool:
    single = "beat" in what or what.get("single", "schedule" in what)
    return not single or host.fleet_id == single_host(fleet)


def test_each_process_runs_once_and_what_is_single_on_one_host(host, fleet: dict, apps: dict) -> None:
    for app, about in apps.items():
        for name, what in about.get("processes", {}).items():
            assert len(units(host, app, name)) == runs_here(host, fleet, what), name
        if any("beat" in what for what in about.get("processes", {}).values()):
            clocks = host.check_output(f"pgrep -u app-{app} -fc 'celery --app=[^ ]* beat' || true")
            assert clocks == str(int(host.fleet_id == single_host(fleet)))


def test_each_timer_is_set_and_runs_the_current_release(host, fleet: dict, apps: dict) -> None:
    for app, about in apps.items():
        for name, what in about.get("timers", {}).items():
            timer = f"app-{app}-{name}.timer"
            here = runs_here(host, fleet, what)
            assert host.run(f"systemctl is-active --quiet {timer}").rc == (0 if here else 3)
            if not here:
                continue
            said = host.check_output(f"systemctl show -p Unit,Persistent,NextElapseUSecRealtime --value {timer}").split(
                "\n"
            )
            assert "yes" in said and any(f"app-{app}-{name}@" in line for line in said)
            releases = {unit.partition("@")[2] for unit in all_units(host, {app: about})}
            assert {line.partition("@")[2] for line in said if "@" in line} == releases, (
                "the timer's release is another"
            )


@pytest.mark.disturbs
def test_a_timers_command_works(host, fleet: dict, apps: dict) -> None:
    """Started now instead of at its time; a oneshot unit is done when start returns."""
    for app, about in apps.items():
        for name, what in about.get("timers", {}).items():
            if runs_here(host, fleet, what):
                unit = host.check_output(f"systemctl show -p Unit --value app-{app}-{name}.timer")
                assert host.run(f"systemctl start '{unit}'").rc == 0, host.check_output(f"journalctl -n 20 -u '{unit}'")


@pytest.mark.disturbs
def test_a_timer_catches_up_on_what_was_due_while_the_host_was_down(host, fleet: dict, apps: dict) -> None:
    """Systemd remembers in a file's time when the timer last elapsed: here that was two years ago."""
    for app, about in apps.items():
        for name, what in about.get("timers", {}).items():
            if not runs_here(host, fleet, what):
                continue
            timer = f"app-{app}-{name}.timer"
            unit = host.check_output(f"systemctl show -P Unit {timer}")
            host.check_output(f"systemctl stop {timer}")
            before = host.check_output("date +%s")
            host.check_output(f"touch -d '2 years ago' /var/lib/systemd/timers/stamp-{timer}")
            host.check_output(f"systemctl start {timer}")
            until = time.monotonic() + ASKED_FOR
            ended = f"journalctl -q --no-pager -o cat --since=@{before} -u '{unit}' MESSAGE_ID={ENDED_WELL}"
            while not (said := host.check_output(ended)) and time.monotonic() < until:
                time.sleep(0.2)
            assert said, f"{timer} did not catch up"
            assert host.check_output(f"systemctl is-active {timer}") == "active"


@pytest.mark.disturbs
def test_a_task_that_a_visitor_causes_is_done_by_a_worker(host, apps: dict, site: Path) -> None:
    """A note is left over the edge; a worker counts its words and says of which release it is."""
    rpc = client(next(page for page in pages(site) if page.hostname in apps["demo"]["hostnames"]), site)
    note = rpc.notes.add("worker test", "exactly four words here")
    until = time.monotonic() + ASKED_FOR
    while not (found := rpc.notes.words(note)) and time.monotonic() < until:
        time.sleep(0.2)
    assert (found["words"], found["runs"]) == (4, 1)
    assert found["release"] in "".join(all_units(host, apps))


def test_logs_are_a_stream_of_json_in_the_journal(host, apps: dict) -> None:
    """Celery's banner is text; what the demo's code logs in a worker is one JSON object a line, with its release."""
    for unit in all_units(host, {"demo": apps["demo"]}):
        lines = host.check_output(f"journalctl --no-pager -q -o cat _SYSTEMD_UNIT='{unit}'").splitlines()
        told = [json.loads(line) for line in lines if line.startswith("{")]
        assert told and {line["release"] for line in told} == {unit.partition("@")[2].removesuffix(".service")}
        stdout = host.check_output(f"readlink /proc/$(systemctl show -P MainPID '{unit}')/fd/1")
        assert stdout.startswith("socket:"), "it writes to a file"


def test_the_sandboxes_score_well(host, apps: dict) -> None:
    for unit in all_units(host, apps):
        said = host.check_output(f"systemd-analyze security '{unit}' --no-pager")
        assert float(re.findall(r"exposure level for .*: ([\d.]+)", said)[0]) <= 1.5, unit


def test_a_process_can_change_nothing_but_its_apps_data(host, apps: dict) -> None:
    for app, about in apps.items():
        for unit in all_units(host, {app: about}):
            pid = host.check_output(f"systemctl show -P MainPID '{unit}'")
            owner = host.check_output(f"stat -c %U /proc/{pid}")
            assert owner == about.get("user", f"app-{app}")
            inside = f"nsenter -t {pid} -m -- setpriv --reuid={owner} --regid={owner} --clear-groups"
            for place in (f"/srv/apps/{app}/x", f"/srv/apps/{app}/releases/x", "/etc/x", "/usr/x", "/var/lib/x"):
                assert host.run(f"{inside} touch {place}").rc != 0, place
            assert host.run(f"{inside} sh -c 'touch /var/lib/apps/{app}/probe && rm /var/lib/apps/{app}/probe'").rc == 0


@pytest.mark.disturbs
@pytest.mark.parametrize("whom", ["main", "all"])
def test_every_process_comes_back_after_kill_9(host, apps: dict, whom: str) -> None:
    """Workers and beat; and there is one beat afterwards, too."""
    found = all_units(host, apps)
    assert len(found) >= 2
    script = shlex.join(["python3", "-c", KILL_AND_WAIT, whom, str(BACK_WITHIN), *found])
    assert json.loads(host.check_output(script.replace("%", "%%"))) == []
    assert sorted(all_units(host, apps)) == sorted(found)
