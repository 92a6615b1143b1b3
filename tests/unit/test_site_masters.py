"""Roles master and minion in a site: one master, minions that have one, the order of an apply, who reads secrets."""

from __future__ import annotations

import os
from pathlib import Path

from saltern.site.compiled import fleet_pillar
from saltern.site.layout import ranks
from saltern.site.secrets import generate_secrets
from tests.unit.test_site_good import good, load_written, pillar_of, problems_of


def test_a_minion_needs_a_master(tmp_path: Path) -> None:
    files = good()
    files["fleet.yaml"]["hosts"]["web1"]["roles"] = ["base", "minion", "web"]
    (problem,) = problems_of(tmp_path, files)
    assert "hosts.web1.roles: role minion takes its orders from a master, and no host has role master" in problem


def test_there_is_one_master(tmp_path: Path) -> None:
    files = good()
    for host in ("web1", "data1"):
        files["fleet.yaml"]["hosts"][host]["roles"].append("master")
    (problem,) = problems_of(tmp_path, files)
    assert "role master is on web1, data1; allowed: one host" in problem


def test_a_minion_is_told_its_master_and_an_orchestration_no_secret(tmp_path: Path) -> None:
    files = good()
    for host in files["fleet.yaml"]["hosts"].values():
        host["roles"].append("minion")
    files["fleet.yaml"]["hosts"]["data1"]["roles"].append("master")
    site = load_written(tmp_path, files)
    assert pillar_of(site, "web1")["wiring"]["minion"]["master"] == "10.0.0.4"
    told = fleet_pillar(site)
    assert told["ranks"] == [["data1"], ["web1", "web2"], ["front1"]]
    assert "secrets" not in told


def test_hosts_are_applied_in_the_order_in_which_they_need_each_other() -> None:
    hosts = {"e": ["base", "edge"], "all": ["base", "edge", "postgres"], "w": ["base", "web"], "log": ["base"]}
    assert ranks(hosts) == [["all"], ["w"], ["e"], ["log"]]


def test_the_masters_group_reads_hosts_files_and_nothing_else(tmp_path: Path) -> None:
    site = load_written(tmp_path, good())
    folder = site.path / "secrets"
    for group, mode in ((None, 0), (os.getgid(), 0o040), (None, 0)):
        generate_secrets(site, group)
        assert (folder / "web1.sls").stat().st_mode & 0o777 == 0o600 | mode
        assert [(folder / name).stat().st_mode & 0o077 for name in ("shared.yaml", "ca", "ca/ca.key")] == [0, 0, 0]
