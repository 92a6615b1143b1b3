"""The base of every role by figures: on hosts of their own, what known auditors find reaches the declared goals."""

from __future__ import annotations

import json
import subprocess

import pytest

from debian import REPOSITORY
from lab.lab import Lab

pytestmark = pytest.mark.slow("fleet")


def test_the_auditors_find_on_every_role_what_the_goals_say(lab: Lab) -> None:
    one_of_each = {tuple(host["roles"]): name for name, host in sorted(lab.fleet["hosts"].items(), reverse=True)}
    assert len(one_of_each) > 5, "a fleet with few hosts is audited by the scenarios of one host"
    missed = {}
    for name in sorted(one_of_each.values()):
        command = [str(REPOSITORY / "bin/lab"), "audit", name, "--lab", lab.name, "--json"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        rows = json.loads(done.stdout)
        assert len(rows) > 6, done.stderr
        missed |= {f"{name} {row['test']}": [row["today"], *row["notes"]] for row in rows if not row["passed"]}
    assert not missed, json.dumps(missed, indent=1)
