"""`state.apply ROLE` is a promise too: each role compiles by itself, on each kind of host that has it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import FLEETS, Masterless


def kinds() -> list[Any]:
    """Return fleet, host and roles for each kind of host: web2 is as web1, and what each host has is asked of one."""
    found = []
    for fleet in FLEETS:
        seen: set[str] = set()
        for host, entry in yaml.safe_load((fleet / "fleet.yaml").read_text())["hosts"].items():
            kind = f"{sorted(entry['roles'])} {bool(entry.get('replica_of'))}"
            roles = [role for role in entry["roles"] if role not in ("base", "minion") or not seen]
            if kind not in seen:
                found.append(pytest.param(fleet, host, roles, id=f"{fleet.name}-{host}"))
            seen.add(kind)
    return found


@pytest.mark.parametrize(("fleet", "host", "roles"), kinds())
def test_each_role_of_a_host_compiles_alone(tmp_path: Path, fleet: Path, host: str, roles: list[str]) -> None:
    masterless = Masterless(tmp_path, fleet)
    wrong = {}
    for role in roles:
        done = masterless.call("state.show_low_sls", role, host=host, release="trixie")
        answer = json.loads(done.stdout)["local"] if done.stdout else done.stderr
        if done.returncode or not answer or not all(isinstance(chunk, dict) for chunk in answer):
            wrong[role] = answer
    assert not wrong
