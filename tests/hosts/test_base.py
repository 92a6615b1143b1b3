"""Every host: who may come in, and what can be read."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

pytestmark = pytest.mark.role("base")


def test_it_knows_its_name_and_its_fleet(host, fleet: dict) -> None:
    assert host.check_output("hostname") == host.fleet_id
    for name, entry in fleet["hosts"].items():
        for wanted in (name, f"{name}.{fleet['domain']}"):
            assert entry["address"] in host.check_output(f"getent ahostsv4 {wanted}")


def test_a_password_opens_nothing(host) -> None:
    """Asked of the daemon by the protocol: which ways in does it offer?"""
    options = [
        "-o",
        "PreferredAuthentications=none",
        "-o",
        "StrictHostKeyChecking=no",
        "-o",
        "UserKnownHostsFile=/dev/null",
    ]
    asked = ["ssh", "-F", "none", *options, f"stranger@{host.addr_of_fleet}", "true"]
    said = subprocess.run(asked, capture_output=True, text=True, check=False, timeout=20).stderr
    assert "Permission denied (publickey)." in said, said


def test_sudo_rules_are_valid(host) -> None:
    assert host.run("visudo -c").rc == 0


def test_the_journal_is_limited_and_kept(host) -> None:
    usage = host.check_output("systemd-analyze cat-config systemd/journald.conf")
    assert "SystemMaxUse=" in "\n".join(line for line in usage.splitlines() if not line.startswith("#"))
    assert host.run("journalctl --disk-usage").rc == 0


def test_the_time_zone_is_the_one_that_was_set(host) -> None:
    assert host.check_output("date +%Z") == "UTC"


def test_nothing_failed_to_start(host) -> None:
    assert host.check_output("systemctl list-units --failed --plain --no-legend") == ""


def test_no_key_or_secret_is_readable_by_everyone(host, site: Path) -> None:
    """A user with no rights looks at all that the platform wrote."""
    folders = "/etc /srv/apps /var/lib/saltern /var/lib/apps /opt/saltern /run /var/log /var/cache/salt"
    grep = "grep -rIslE 'PRIVATE KEY-----$|^requirepass|DATABASE_URL=.*:.*@' --exclude-dir=venv --exclude-dir=salt-*"
    nobody = "setpriv --reuid=65534 --regid=65534 --clear-groups"
    assert host.check_output(f"{nobody} {grep} {folders} || true") == ""
    everything = host.check_output("grep -rIslE 'PRIVATE KEY-----$' /etc")
    assert "/etc/saltern/tls/host.key" in everything, "the search finds nothing, so it proves nothing"
