"""Background work: tasks are done, timers are set, what may run only once runs once, and all of it in a sandbox."""

from __future__ import annotations

import json
import re
import shlex
import time

import pytest
from test_base import BACK_WITHIN, KILL_AND_WAIT
from test_web import inside, main_pid

from saltern.site.apps import App
from saltern.site.processes import Process, Timer
from saltern.site.site import Site
from saltern.site.wired.worker import runs_single

pytestmark = pytest.mark.role("worker")
ASKED_FOR = 20  # seconds
STARTING = "7d4958e842da4a758f6c1cdc7b36dcc5"  # systemd's SD_MESSAGE_UNIT_STARTING, "Starting ..."


def units(host, app: str, name: str) -> list[str]:
    """The running instances of a process."""
    pattern = f"app-{app}-{name}@*.service"
    listed = host.check_output(f"systemctl list-units --plain --no-legend --state=active '{pattern}' | cut -d' ' -f1")
    return listed.split()


def all_units(host, apps: dict[str, App]) -> list[str]:
    """Every process of every app that runs on the host."""
    return [unit for app, about in apps.items() for name in about.processes for unit in units(host, app, name)]


def runs_here(host, site: Site, what: Process | Timer) -> bool:
    single = isinstance(what, Timer) or what.beat is not None or what.single
    return not single or runs_single(site, host.fleet_id)


def timers_here(host, site: Site) -> list[tuple[str, str, Timer]]:
    """The timers that this host runs: the app, the name and what it says."""
    timers = [(app, name, what) for app, about in site.apps.items() for name, what in about.timers.items()]
    return [timer for timer in timers if runs_here(host, site, timer[2])]


def test_each_process_runs_once_and_what_is_single_on_one_host(host, site: Site) -> None:
    for app, about in site.apps.items():
        for name, what in about.processes.items():
            assert len(units(host, app, name)) == runs_here(host, site, what), f"{app} {name}"
        if any(what.beat is not None for what in about.processes.values()):
            clocks = host.check_output(f"pgrep -u {about.user} -fc 'celery --app=[^ ]* beat' || true")
            assert clocks == str(int(runs_single(site, host.fleet_id)))


def test_each_timer_is_set_and_runs_the_current_release(host, site: Site) -> None:
    """The release of the app's processes here, or where it has none, one that is installed whole."""
    here = timers_here(host, site)
    for app, about in site.apps.items():
        for name in about.timers:
            timer, wanted = f"app-{app}-{name}.timer", (app, name, about.timers[name]) in here
            assert host.run(f"systemctl is-active --quiet {timer}").rc == (0 if wanted else 3), timer
    for app, name, _ in here:
        timer = f"app-{app}-{name}.timer"
        shown = host.check_output(f"systemctl show -p Unit,Persistent --value {timer}").split()
        assert "yes" in shown, f"{timer} does not catch up"
        (unit,) = [line for line in shown if line.startswith(f"app-{app}-{name}@")]
        release = unit.partition("@")[2].removesuffix(".service")
        assert host.file(f"/srv/apps/{app}/releases/{release}/manifest.json").exists
        running = {one.partition("@")[2].removesuffix(".service") for one in all_units(host, {app: site.apps[app]})}
        assert running <= {release}, f"the release of {timer} is another"


@pytest.mark.disturbs
def test_a_timers_command_works(host, site: Site) -> None:
    """Started now instead of at its time; a oneshot unit is done when start returns."""
    for app, name, _ in timers_here(host, site):
        unit = host.check_output(f"systemctl show -p Unit --value app-{app}-{name}.timer")
        assert host.run(f"systemctl start '{unit}'").rc == 0, host.check_output(f"journalctl -n 20 -u '{unit}'")


@pytest.mark.disturbs
def test_a_timer_catches_up_on_what_was_due_while_the_host_was_down(host, site: Site) -> None:
    """Systemd remembers in a file's time when the timer last elapsed: here that was two years ago."""
    for app, name, what in timers_here(host, site):
        timer = f"app-{app}-{name}.timer"
        unit = host.check_output(f"systemctl show -P Unit {timer}")
        host.check_output(f"systemctl stop {timer}")
        before = host.check_output("date +%s")
        host.check_output(f"touch -d '2 years ago' /var/lib/systemd/timers/stamp-{timer}")
        host.check_output(f"systemctl start {timer}")
        until = time.monotonic() + ASKED_FOR
        begun = f"journalctl -q --no-pager -o cat --since=@{before} -u '{unit}' MESSAGE_ID={STARTING}"
        while not (said := host.check_output(begun)) and time.monotonic() < until:
            time.sleep(0.2)
        assert said, f"{timer} did not catch up"
        until = time.monotonic() + what.max_seconds
        while host.run(f"systemctl is-active '{unit}'").stdout.strip() == "activating" and time.monotonic() < until:
            time.sleep(0.5)
        assert host.run(f"systemctl is-failed --quiet '{unit}'").rc != 0, unit
        assert host.check_output(f"systemctl is-active {timer}") == "active"


def test_logs_are_a_stream_in_the_journal(host, apps: dict[str, App]) -> None:
    """What it writes to standard output is the journal's, and no file's."""
    for unit in all_units(host, apps):
        stdout = host.check_output(f"readlink /proc/{main_pid(host, unit)}/fd/1")
        assert stdout.startswith("socket:"), f"{unit} writes to {stdout}"


def test_the_sandboxes_score_well(host, apps: dict[str, App]) -> None:
    for unit in all_units(host, apps):
        said = host.check_output(f"systemd-analyze security '{unit}' --no-pager")
        assert float(re.findall(r"exposure level for .*: ([\d.]+)", said)[0]) <= 1.5, unit


def test_a_process_can_change_nothing_but_its_apps_data(host, apps: dict[str, App]) -> None:
    for app, about in apps.items():
        for unit in all_units(host, {app: about}):
            become = inside(host, unit, str(about.user))
            for place in (f"/srv/apps/{app}/x", f"/srv/apps/{app}/releases/x", "/etc/x", "/usr/x", "/var/lib/x"):
                assert host.run(f"{become} touch {place}").rc != 0, place
            assert host.run(f"{become} sh -c 'touch /var/lib/apps/{app}/probe && rm /var/lib/apps/{app}/probe'").rc == 0


@pytest.mark.disturbs
@pytest.mark.parametrize("whom", ["main", "all"])
def test_every_process_comes_back_after_kill_9(host, apps: dict[str, App], whom: str) -> None:
    """Workers and beat; and there is one beat afterwards, too."""
    found = all_units(host, apps)
    if not found:
        pytest.skip("no process of an app runs here")
    script = shlex.join(["python3", "-c", KILL_AND_WAIT, whom, str(BACK_WITHIN), *found])
    assert json.loads(host.check_output(script)) == []
    assert sorted(all_units(host, apps)) == sorted(found)
