"""How many sessions apps may have, and that a server which does not carry them is refused before anything changes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from saltern.postgres import pgtuning
from saltern.site import redisclients, sessions
from saltern.site.document import Document
from saltern.site.errors import SiteError
from saltern.site.load import load_site
from saltern.site.wired import base
from tests.unit.contracts import ROOT
from tests.unit.contracts.pg import pgplan, pgroles
from tests.unit.test_site_good import good
from tests.unit.test_site_wiring import load_written

FLEETS = sorted(path.name for path in (ROOT / "lab/fleets").iterdir() if (path / "fleet.yaml").exists())


@pytest.mark.parametrize("fleet", FLEETS)
def test_every_fleet_of_the_lab_is_carried(fleet: str) -> None:
    site = load_site(ROOT / "lab/fleets" / fleet)
    found = sessions.needs(site)
    assert sum(one.user + one.migrations for one in found.values()) + 8 == sessions.total(site)
    assert sessions.refusal(site, None) is None  # type: ignore[arg-type]


def test_sessions_are_counted_from_what_runs() -> None:
    site = load_site(ROOT / "lab/fleets/single")
    demo = sessions.needs(site)["demo"]
    assert demo.web == 2 * 4 * 2, "workers, threads, and two releases while one takes over"
    assert demo.background == (2 + 1) * 2 + 1 + 1, "Celery with its own process, twice; beat and a timer, once"
    assert demo.migrations >= 2, "one that works, and one that holds the lock"


def refused(tmp_path: Path, postgres: dict[str, Any], **app: Any) -> str:
    files = good()
    files["settings.yaml"].setdefault("postgres", {}).update(postgres)
    files["apps/blog.yaml"].update(app)
    with pytest.raises(SiteError) as error:
        load_written(tmp_path, files)
    return str(error.value)


def test_too_many_are_refused_with_the_sum_by_app(tmp_path: Path) -> None:
    text = refused(tmp_path, {"max_connections": 60})
    assert "postgres.max_connections" in text and "settings.yaml" in text
    assert "the server carries 60 connections" in text and "blog" in text and "web-shop" in text
    text = refused(tmp_path / "2", {"max_connections": None, "memory_mb": 512}, workers=16, threads=16)
    assert "postgres.memory_mb" in text and "web 1024" in text


def test_an_apps_file_may_say_how_many(tmp_path: Path) -> None:
    text = refused(tmp_path, {"max_connections": None, "memory_mb": 512}, limits={"connections": 999})
    assert "1004 (its file, migrations 5)" in text or "(its file, migrations" in text


@pytest.mark.parametrize("memory_mb", [256, 1024, 4096, 11776])
def test_site_and_host_refuse_at_the_same_number(memory_mb: int) -> None:
    """Where the memory is known the site refuses; else the host does, by the same rule."""
    most = memory_mb * 1024 // 4 // sessions.KB_EACH - sessions.WORKERS
    cpus = 2
    if memory_mb // 64 <= sessions.WORKERS or cpus <= sessions.WORKERS:
        assert pgtuning.connections(memory_mb, cpus, None, most) in (None, most)
        with pytest.raises(ValueError, match="the apps and operators need"):
            pgtuning.connections(memory_mb, cpus, None, most + 1)
    assert int(pgtuning.tuning(memory_mb, cpus, 17, most)["max_connections"]) == most


def test_a_wanted_number_that_is_too_small_is_refused_on_the_host_too() -> None:
    with pytest.raises(ValueError, match=r"postgres\.max_connections is 20"):
        pgtuning.connections(1024, 2, 20, 57)
    assert pgtuning.connections(1024, 2, 80, 57) == 80


def test_limits_reach_the_roles_and_their_doubles() -> None:
    client = {"app": "demo", "database": "demo", "user": "demo", "owner": "demo_owner", "address": "127.0.0.1/32"}
    client |= {"limits": {"user": 27, "owner": 3}, "settings": {"user": {"statement_timeout": "120s"}}}
    passwords = ["demo", "demo__2", "demo_owner"]
    steps = pgroles.plan(pgplan.wanted([client]), {}, dict.fromkeys(passwords, "x"), passwords, [])
    made = {step["subject"]: "".join(map(str, step["statements"])) for step in steps}
    assert "CONNECTION LIMIT 27" in made["role demo"] and "CONNECTION LIMIT 27" in made["role demo__2"]
    assert "CONNECTION LIMIT 3" in made["role demo_owner"]
    assert "statement_timeout" in made["role demo settings"] and "statement_timeout" in made["role demo__2 settings"]


@pytest.mark.parametrize("fleet", FLEETS)
def test_what_apps_can_open_together_leaves_places_for_people(fleet: str) -> None:
    """By the firewall, from all hosts: so also those who do not log in."""
    site = load_site(ROOT / "lab/fleets" / fleet)
    opened = sum(sessions.most(site, host, name) for host in site.fleet.running_apps for name in site.apps)
    assert opened + sessions.RESERVED + sessions.LOOKING <= sessions.total(site)


@pytest.mark.parametrize("fleet", FLEETS)
def test_each_link_of_an_app_has_a_bound_and_redis_keeps_places_for_people(fleet: str) -> None:
    """No app can take all that a server has, not even all apps from all hosts together."""
    site = load_site(ROOT / "lab/fleets" / fleet)
    links = [
        link
        for host in site.fleet.running_apps
        for caller in base.egress(site, host)["callers"]
        for link in caller["links"]
    ]
    assert bool(links) is bool(site.apps) and all(link["most"] > 0 for link in links)
    for port in (site.settings.redis.broker_port, site.settings.redis.cache_port):
        opened = sum(link["most"] for link in links if link["ports"] == [port])
        assert bool(opened) is bool(site.apps) and opened <= site.settings.redis.max_clients - redisclients.RESERVED


def with_places(site: Any, number: int) -> Any:
    return replace(site, settings=SimpleNamespace(redis=SimpleNamespace(max_clients=number)))


def test_connections_to_redis_are_counted_from_what_runs() -> None:
    site = load_site(ROOT / "lab/fleets/single")
    one = sessions.needs(site)["demo"]
    works = one.web + one.background + one.other
    assert set(redisclients.most(site, "broker").values()) == {32 + 16 * works}, "nothing is short"
    needed = -(-(32 + 16 * works) // 4) + redisclients.RESERVED
    assert redisclients.refusal(with_places(site, needed), Document("settings.yaml")) is None
    (share,) = redisclients.most(with_places(site, needed), "broker").values()
    assert share == needed - redisclients.RESERVED >= works * 4, "less than generous, and enough for each"
    problem = str(redisclients.refusal(with_places(site, needed - 1), Document("settings.yaml")))
    assert f"the broker carries {needed - 1} connections, and {needed} are needed: demo" in problem


def test_too_few_clients_of_redis_are_refused_with_the_sum(tmp_path: Path) -> None:
    files = good()
    files["settings.yaml"]["redis"] = {"max_clients": 32}
    files["apps/blog.yaml"].update(cache=True)
    with pytest.raises(SiteError, match=r"settings\.yaml.*redis\.max_clients: the \w+ carries 32 connections"):
        load_written(tmp_path, files)
