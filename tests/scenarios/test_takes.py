"""What an app can take from the host around it: ports, room, the journal, systemd's patience."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from lab.apply import apply, explain
from lab.host import Host
from lab.lab import Lab
from saltern.site.kinds import ANYBODYS_PORTS, HOST_PORTS
from saltern.site.load import load_site
from saltern.site.roles import FIXED_PORTS, PORTS

FLOOD = 60_000  # lines; journald lets pass at most six times the setting, when its disk is big
TAG = f"takes{os.getpid()}"  # of this run
# Of daemons that other software looks for where ours may not be.
OTHERS = (80, 443, 1024, 5432, 6379, 9100, 11211, ANYBODYS_PORTS - 1)


def on(host: Host, command: str) -> str:
    done = host.execute(["sh", "-c", command], capture=True)
    assert done.returncode == 0, f"{command}: {done.stdout[-2000:]}{done.stderr[-2000:]}"
    return done.stdout.strip()


def in_sandbox(one: Host, asked: dict[str, Any]) -> dict[str, Any]:
    """What a one-off command of the demo gets, which has the units' sandbox."""
    program = (Path(__file__).parent / "takes.py").read_text()
    program = f"import os; os.environ['TAKES'] = {json.dumps(asked)!r}\n{program}"
    command = ["salt-call", "--out=json", "--", "django.manage", "demo", "shell", "-c", program]
    done = one.execute(command, capture=True, cwd="/srv/saltern")
    assert done.returncode == 0, done.stdout + done.stderr
    said = json.loads(done.stdout)["local"]["output"]
    found: dict[str, Any] = json.loads(said.rpartition("TOOK ")[2].splitlines()[0])
    return found


@pytest.fixture(scope="module")
def ports(lab: Lab) -> list[int]:
    settings = load_site(lab.site).settings
    ours = [int(getattr(getattr(settings, role), key)) for role, key in PORTS]
    fixed = [port for ports in FIXED_PORTS.values() for port in ports.values()]
    return sorted({*ours, *fixed, *HOST_PORTS, *OTHERS})


@pytest.fixture(scope="module")
def took(one: Host, ports: list[int]) -> dict[str, Any]:
    return in_sandbox(one, {"ports": ports, "log": FLOOD, "tag": TAG})


def test_no_port_of_a_daemon_is_an_apps(took: dict[str, Any]) -> None:
    """Free or not: while a daemon restarts, each of its ports is free."""
    assert took["ports"] == {}
    assert took["free"] == [True, True], "an app may listen where the kernel lets it"


def test_no_port_of_a_daemon_is_any_accounts(one: Host, ports: list[int]) -> None:
    """A stranger's as well, outside of any unit: the kernel's setting, not only systemd's."""
    if on(one, "test -w /proc/sys/net/ipv4/ip_unprivileged_port_start && echo yes || true") != "yes":
        pytest.skip("this host may not change net.ipv4.ip_unprivileged_port_start; a server may")
    program = (Path(__file__).parent / "takes.py").read_text()
    asked = json.dumps({"ports": ports})
    for account in ("nobody", "www-data", "app-demo"):
        said = one.execute(
            ["setpriv", f"--reuid={account}", "--clear-groups", "env", f"TAKES={asked}", "python3", "-c", program],
            capture=True,
        ).stdout
        assert json.loads(said.rpartition("TOOK ")[2])["ports"] == {}, account


def test_daemons_come_back_on_their_ports(one: Host) -> None:
    """They are not root, and the right to their ports is theirs alone."""
    units = "redis-server redis-server@cache $(systemctl list-units --plain --no-legend 'postgresql@*' | cut -d' ' -f1)"
    on(one, f"systemctl kill --signal=KILL {units}; sleep 1")
    on(one, f"for i in $(seq 60); do systemctl is-active --quiet {units} && exit 0; sleep 1; done; exit 1")
    healed = apply(one)
    assert healed.ok, explain(healed)


def test_temporary_files_of_an_app_have_a_room_of_their_own(took: dict[str, Any]) -> None:
    assert took["rooms"] == {"/tmp": 256, "/var/tmp": 256, "/dev/shm": 256}


def test_an_app_is_not_heard_by_systemd(one: Host, took: dict[str, Any]) -> None:
    """Who is can put its own end off for ever (EXTEND_TIMEOUT_USEC)."""
    assert took["heard"] == []
    units = on(one, "systemctl list-units --state=running --plain --no-legend 'app-*' | cut -d' ' -f1").split()
    assert units
    for unit in units:
        assert on(one, f"systemctl show -P NotifyAccess '{unit}'") == "none", unit


def test_a_flood_of_lines_is_cut_and_pushes_nobody_out(one: Host, took: dict[str, Any]) -> None:
    assert took["lines"] == FLOOD
    on(one, "journalctl --sync")
    kept = int(on(one, f"journalctl -q -o cat -t {TAG} | wc -l"))
    assert 0 < kept <= 6 * 3000
