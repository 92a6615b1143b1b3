"""The base of every host, by figures: what known auditors find reaches the declared goals."""

from __future__ import annotations

import json

import pytest
from conftest import bin_lab

from lab.host import Host
from lab.lab import Lab


@pytest.mark.slow("trixie")
def test_the_auditors_find_what_the_goals_say_and_leave_nothing_behind(lab: Lab, one: Host) -> None:
    # What Debian has mended since the image was made comes in a host's window. Here it comes now, as in the window.
    one.execute(["systemctl", "start", "apt-daily-upgrade.service"])
    done = bin_lab("audit", "--lab", lab.name, "--json")
    rows = json.loads(done.stdout)
    missed = {row["test"]: [row["today"], *row["notes"]] for row in rows if not row["passed"]}
    assert not missed, json.dumps(missed, indent=1)
    assert done.returncode == 0
    tests = {row["test"].partition(":")[0].partition(" ")[0] for row in rows}
    assert tests == {"Lynis", "ssh-audit", "sslyze", "systemd-analyze", "ANSSI", "debsums"}
    left = "ls -d /run/saltern-audit; dpkg-query -W lynis openscap-scanner 2>/dev/null"
    assert one.execute(["sh", "-c", left], capture=True).stdout == ""
