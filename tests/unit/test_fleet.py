"""One host's part in a fleet's release: what it shall serve, at every moment at which it or the master may die."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
from contracts import Played, load, play
from salt.exceptions import CommandExecutionError

from saltern.background import work
from saltern.build import builderword, delivery
from saltern.deploy import back, serving, together
from saltern.host import places
from saltern.migrate import migrations, staticfiles
from saltern.release import choice, deciding, installed, staging, written

WHERE = {
    "builder.released": builderword,
    "builder.candidate": builderword,
    "builder.remember": delivery,
    "release.active": installed,
    "release.is_staged": installed,
    "release.manifest": installed,
    "release.asked_for": deciding,
    "release.pinned": written,
    "release.stage": staging,
    "release.prepare": serving,
    "release.switch": serving,
    "release.retire": serving,
    "release.refuse_migrations": back,
    "django.collect_static": staticfiles,
    "django.publish_static": staticfiles,
    "django.migrate": migrations,
    "processes.converge": work,
}
OLD, NEW = "old-1", "new-1"


class Host:
    """A web host with its builder; what the module calls is played."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.module: Any = load("_modules", "fleet")
        monkeypatch.setattr(places, "APPS", folder)
        (folder / "demo").mkdir()
        self.folder, self.active, self.running, self.fails = folder, OLD, {OLD}, ""
        self.installed = {OLD: "b-old", NEW: "b-new"}
        self.released: dict[str, str] | None = {"build": "b-old", "token": "t0"}
        self.candidate = {"build": "b-new", "token": "t1"}
        self.log: list[str] = []
        self.working = {OLD}
        self.module.__pillar__ = {"host": {"roles": ["web"]}, "wiring": {"together": True}}
        play(monkeypatch, [written], "appfiles", write=lambda path, text, mode: Path(path).write_text(text))
        self.module.__context__ = {}
        self.module.__salt__ = {}
        self.salt = Played(monkeypatch, WHERE)
        for name, function in {
            "builder.released": lambda app: self.released,
            "builder.candidate": lambda app: self.candidate,
            "builder.remember": lambda app, found: self.log.append(f"remember {found['build']}"),
            "release.active": lambda app: self.active,
            "release.is_staged": lambda app, release: release in self.installed,
            "release.asked_for": lambda app, build: {"id": NEW, "build": build},
            "release.pinned": lambda app: None,
            "release.stage": lambda app, wanted: self.installed.update({wanted["id"]: wanted["build"]}),
            "release.prepare": self.prepare,
            "release.switch": self.switch,
            "release.retire": lambda app, release: self.running.intersection_update({release}),
            "release.refuse_migrations": lambda app, release: None,
            "django.collect_static": lambda app, release: None,
            "django.publish_static": lambda app, release: None,
            "django.migrate": lambda app, release: [],
            "processes.converge": self.work,
        }.items():
            self.salt[name] = function

    def prepare(self, app: str, release: str) -> None:
        if self.fails == release:
            raise CommandExecutionError("it does not answer")
        self.running.add(release)

    def switch(self, app: str, release: str) -> None:
        assert release in self.running
        self.active = release

    def work(self, app: str, release: str, keep_old: bool) -> None:
        self.working = {*self.working, release} if keep_old else {release}

    def told(self) -> dict[str, Any]:
        return dict(json.loads((self.folder / "demo/fleet.json").read_text()))

    def later(self, seconds: float) -> None:
        told = self.told()
        (self.folder / "demo/fleet.json").write_text(json.dumps(told | {"since": time.time() - seconds}))


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    found = Host(tmp_path, monkeypatch)
    found.module.choose("demo", OLD)  # as the first apply did
    return found


def test_a_deploy_that_goes_well(host: Host) -> None:
    for step in ("install", "migrate", "start"):
        getattr(host.module, step)("demo")
        assert host.active == OLD and host.module.chosen("demo") == OLD
    assert host.module.switch("demo") == OLD
    assert host.active == NEW and host.running == {OLD, NEW}, "the old one runs on until the fleet is sure"
    host.released = host.candidate
    assert host.module.confirm("demo") == NEW
    assert host.running == {NEW} and host.module.chosen("demo") == NEW
    assert host.log[-1] == "remember b-new"


def test_background_work_goes_over_and_back_with_the_pages(host: Host) -> None:
    host.module.__pillar__["host"]["roles"] = ["worker"]
    host.salt["release.active"] = lambda app: None
    for step in ("install", "migrate", "start", "switch"):
        getattr(host.module, step)("demo")
    assert host.working == {OLD, NEW}, "the old one works on until the fleet is sure"
    assert host.module.revert("demo") == OLD
    assert host.working == {OLD}
    for step in ("install", "start", "switch"):
        getattr(host.module, step)("demo")
    host.released = host.candidate
    assert host.module.confirm("demo") == NEW
    assert host.working == {NEW}


@pytest.mark.parametrize("done", [["install"], ["install", "start"], ["install", "start", "switch"]])
def test_whatever_was_done_is_put_back(host: Host, done: list[str]) -> None:
    for step in done:
        getattr(host.module, step)("demo")
    assert host.module.revert("demo") == OLD
    assert host.active == OLD and host.running == {OLD} and host.module.chosen("demo") == OLD
    assert host.module.revert("demo") == OLD, "a second time does no harm"


def test_a_way_back_that_was_killed_is_gone_again(host: Host) -> None:
    for step in ("install", "start", "switch"):
        getattr(host.module, step)("demo")
    host.fails = OLD
    with pytest.raises(CommandExecutionError, match="does not answer"):
        host.module.revert("demo")
    host.fails = ""
    assert host.module.revert("demo") == OLD
    assert host.active == OLD and host.running == {OLD}


def test_each_step_may_be_done_twice(host: Host) -> None:
    for step in ("install", "migrate", "start", "switch"):
        getattr(host.module, step)("demo")
        getattr(host.module, step)("demo")
    host.released = host.candidate
    assert host.module.confirm("demo") == host.module.confirm("demo") == NEW
    assert host.told()["previous"] == OLD


def test_in_the_middle_of_a_deploy_the_states_wait(host: Host) -> None:
    for step in ("install", "start", "switch"):
        getattr(host.module, step)("demo")
    with pytest.raises(CommandExecutionError, match="in progress"):
        host.module.chosen("demo")


@pytest.mark.parametrize(("accepted", "belongs"), [(False, OLD), (True, NEW)])
def test_who_died_after_the_switch_learns_from_the_builder_where_he_belongs(
    host: Host, accepted: bool, belongs: str
) -> None:
    for step in ("install", "start", "switch"):
        getattr(host.module, step)("demo")
    host.released = host.candidate if accepted else host.released
    host.later(choice.DEPLOY_SECONDS + 1)
    assert host.module.chosen("demo") == belongs


def test_who_missed_a_deploy_takes_what_the_fleet_serves(host: Host) -> None:
    host.released = {"build": "b-new", "token": "t1"}
    assert host.module.chosen("demo") is None, "so that the site and the builder's word decide"


def test_the_same_build_with_other_settings_is_another_deploy(host: Host) -> None:
    host.candidate = {"build": "b-old", "token": "t1"}
    for step in ("install", "start", "switch"):
        getattr(host.module, step)("demo")
    host.later(choice.DEPLOY_SECONDS + 1)
    assert host.module.chosen("demo") == OLD


def test_the_way_back_is_to_what_was_confirmed_before(host: Host) -> None:
    for step in ("install", "start", "switch"):
        getattr(host.module, step)("demo")
    host.released = host.candidate
    host.module.confirm("demo")
    host.candidate = {"build": "b-old", "token": "t2"}
    assert host.module.take_back("demo") == OLD
    for step in ("start", "switch"):
        getattr(host.module, step)("demo")
    host.released = host.candidate
    host.module.confirm("demo")
    assert host.active == OLD and host.module.chosen("demo") == OLD


def test_where_hosts_decide_for_themselves_nothing_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    alone = Host(tmp_path, monkeypatch)
    alone.module.__pillar__["wiring"]["together"] = False
    alone.module.choose("demo", OLD)
    assert not (tmp_path / "demo/fleet.json").exists() and alone.module.chosen("demo") is None


def test_a_deploy_names_the_pin_that_is_in_its_way(host: Host) -> None:
    host.salt["release.pinned"] = lambda app: {"release": OLD, "who": "ann", "when": "", "why": ""}
    with pytest.raises(CommandExecutionError, match=r"pinned here at old-1 by ann: salt-call release\.unpin demo"):
        host.module.install("demo")


def with_manifests(host: Host) -> Any:
    host.salt["release.manifest"] = lambda app, release: {"build": host.installed[release]}
    return host.module.serves


def test_a_host_says_what_it_serves_and_served(host: Host) -> None:
    serves = with_manifests(host)
    assert serves("demo") == {"now": {"release": OLD, "build": "b-old"}}
    for step in ("install", "migrate", "start"):
        getattr(host.module, step)("demo")
        assert serves("demo")["now"]["release"] == OLD
    host.module.switch("demo")
    now = {"now": {"release": NEW, "build": "b-new"}}
    assert serves("demo") == now | {"begun": True, "unconfirmed": True}, "nobody has said that all do"
    host.module.confirm("demo")
    before = {"release": OLD, "build": "b-old"}
    assert serves("demo") == now | {"before": before}


def test_settings_alone_that_were_killed_may_be_brought_again(host: Host) -> None:
    serves, host.candidate = with_manifests(host), {"build": "b-old", "token": "t1"}
    for step in ("install", "start", "switch"):
        getattr(host.module, step)("demo")
    assert serves("demo") == {"now": {"release": NEW, "build": "b-old"}, "unconfirmed": True}


def test_the_same_deploy_twice_keeps_the_way_back(host: Host) -> None:
    serves = with_manifests(host)
    for token in ("t1", "t2"):
        host.candidate = {"build": "b-new", "token": token}
        for step in ("install", "start", "switch", "confirm"):
            getattr(host.module, step)("demo")
    assert serves("demo")["before"]["build"] == "b-old"
    host.candidate = {"build": "b-old", "token": "t3"}  # as builder.propose_back is told by the hosts
    for step in ("take_back", "start", "switch", "confirm"):
        getattr(host.module, step)("demo")
    assert serves("demo")["now"]["build"] == "b-old" and host.log[-1] == "remember b-old"


def test_a_host_without_pages_says_what_it_works_with(host: Host) -> None:
    serves = with_manifests(host)
    host.module.__pillar__["host"]["roles"] = ["worker"]
    host.salt["release.active"] = lambda app: None
    assert serves("demo")["now"]["release"] == OLD
    host.installed.clear()
    assert serves("demo") == {}


def test_a_host_says_whose_settings_wait_for_a_release(host: Host) -> None:
    with_manifests(host)
    host.module.__pillar__["apps"] = {"demo": {}}
    host.installed[NEW] = "b-old"
    asked = {"id": OLD, "build": "b-old"}
    host.salt["release.asked_for"] = lambda app: asked
    assert host.module.waiting() == []
    asked["id"] = NEW
    assert host.module.waiting() == ["demo"]
    asked["build"] = "b-new"
    assert host.module.waiting() == [], "another build is not a matter of settings"
    asked["build"] = "b-old"
    host.salt["release.pinned"] = lambda app: {"release": OLD}
    assert host.module.waiting() == []
    host.salt["release.pinned"] = lambda app: None
    host.module.__pillar__["wiring"]["together"] = False
    assert host.module.waiting() == [], "an apply brings them"


def test_who_is_at_work_is_waited_for(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    jobs = [[{"jid": "1"}], [{"jid": "1"}], []]
    host.module.__salt__["saltutil.is_running"] = lambda what: jobs.pop(0)
    monkeypatch.setattr(together.time, "sleep", lambda seconds: None)
    assert host.module.at_rest() is True
    host.module.__salt__["saltutil.is_running"] = lambda what: [{"jid": "7"}]
    with pytest.raises(CommandExecutionError, match="job 7"):
        host.module.at_rest(seconds=0)
