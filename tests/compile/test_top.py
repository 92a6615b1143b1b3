"""What a host gets follows from the fleet: its roles, and a stop for those that it does not have."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import yaml
from conftest import ROOT, Masterless

from saltern.site.roles import STOPPABLE


def test_a_host_gets_its_roles_and_a_stop_for_the_others(tmp_path: Path) -> None:
    fleet = tmp_path / "fleet"
    shutil.copytree(ROOT / "lab/fleets/single", fleet, ignore=shutil.ignore_patterns("secrets"))
    content = yaml.safe_load((fleet / "fleet.yaml").read_text())
    content["hosts"]["spare1"] = {"address": "10.77.0.99", "roles": ["base"]}
    (fleet / "fleet.yaml").write_text(yaml.safe_dump(content))
    salt = Masterless(tmp_path, fleet)
    spare = json.loads(salt.call("state.show_top", host="spare1", release="trixie").stdout)["local"]["base"]
    assert spare == ["base", *(f"{role}.absent" for role in STOPPABLE)]
    whole = json.loads(salt.call("state.show_top", host="app1", release="trixie").stdout)["local"]["base"]
    assert whole == [*content["hosts"]["app1"]["roles"], "master.absent", "minion.absent"]
    assert all(
        chunk["fun"] in ("dead", "only") for chunk in salt.lowstate("spare1", "trixie") if "absent" in chunk["__sls__"]
    )
