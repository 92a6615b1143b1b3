"""postgresql.conf, pg_hba.conf and pg_ident.conf."""

from __future__ import annotations

from typing import Any

import pytest

from saltern.postgres import pgconf
from tests.unit.contracts.pg import pg

DEMO = {
    "app": "demo",
    "database": "demo",
    "user": "demo",
    "owner": "demo_owner",
    "migrates": True,
    "address": "10.0.0.5/32",
}


def rules(text: str) -> list[list[str]]:
    return [line.split() for line in text.splitlines() if not line.startswith("#")]


def test_hba_has_one_line_for_each_need_and_rejects_the_rest() -> None:
    other = {**DEMO, "address": "fd00::5/128"}
    found = rules(pgconf.hba([DEMO, other, DEMO]))
    assert found[3:7] == [
        ["hostssl", '"demo"', f'"{role}"', address, "scram-sha-256"]
        for address in ("10.0.0.5/32", "fd00::5/128")
        for role in ("demo", "demo_owner")
    ]
    assert found[-1] == ["host", "all", "all", "all", "reject"]
    assert len(found) == 11


def test_hba_trusts_nobody() -> None:
    methods = {rule[3] if rule[0] == "local" else rule[4] for rule in rules(pgconf.hba([DEMO]))}
    assert methods == {"peer", "scram-sha-256", "reject"}


def test_hba_without_clients_is_closed() -> None:
    assert {rule[-1] for rule in rules(pgconf.hba([]))} == {"map=saltern", "reject"}


def test_hba_names_are_never_keywords() -> None:
    line = rules(pgconf.hba([{**DEMO, "database": "all", "user": "replication"}]))[3]
    assert line[1:3] == ['"all"', '"replication"']


@pytest.mark.parametrize("bad", [{"user": 'x" all'}, {"address": "10.0.0.5"}, {"address": "all"}, {"database": "a\nb"}])
def test_hba_refuses_what_it_cannot_write(bad: dict[str, str]) -> None:
    with pytest.raises(ValueError, match=r"pg_hba\.conf|is not a network"):
        pgconf.hba([{**DEMO, **bad}])


def test_config_quotes() -> None:
    assert pgconf.config({"a.b": "it's \\ x", "on": True, "n": 5}) == "a.b = 'it''s \\\\ x'\non = 'on'\nn = '5'\n"


@pytest.mark.parametrize("settings", [{"a b": 1}, {"a": "1\nssl = off"}, {"a'": 1}])
def test_config_refuses_injection(settings: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"postgres\.settings"):
        pgconf.config(settings)


def conf(release: int, **settings: Any) -> dict[str, str]:
    module = pg()
    module.__grains__ = {"osmajorrelease": release, "mem_total": 8000, "num_cpus": 2}
    defaults = {
        "port": 5432,
        "memory_mb": None,
        "memory_share": 0.5,
        "session_memory_mb": None,
        "max_connections": None,
        "settings": {},
    }
    text = module.postgresql_conf("main", {**defaults, **settings}, ["127.0.0.1", "10.0.0.5"])
    return dict(line.split(" = ", 1) for line in text.splitlines() if not line.startswith("#"))


def test_settings_of_the_site_win() -> None:
    assert conf(13, settings={"shared_buffers": "1GB"})["shared_buffers"] == "'1GB'"


def test_alter_system_is_off_where_the_version_can() -> None:
    assert conf(13)["allow_alter_system"] == "'off'"
    assert "allow_alter_system" not in conf(12), "PostgreSQL 15 would not start with it"


def test_safe_settings() -> None:
    found = conf(12, port=5433)
    assert found["listen_addresses"] == "'127.0.0.1,10.0.0.5'" and found["port"] == "'5433'"
    assert found["ssl"] == "'on'" and found["ssl_min_protocol_version"] == "'TLSv1.3'"
    assert found["password_encryption"] == "'scram-sha-256'"


def test_the_owner_comes_only_from_hosts_that_migrate() -> None:
    worker = DEMO | {"migrates": False, "address": "10.0.0.6/32"}
    lines = [line for line in pgconf.hba([DEMO, worker]).splitlines() if line.startswith("hostssl")]
    assert [line.split()[2:4] for line in lines] == [
        ['"demo"', "10.0.0.5/32"],
        ['"demo_owner"', "10.0.0.5/32"],
        ['"demo"', "10.0.0.6/32"],
    ]
