"""A rotation from one state to the next, killed at each of them: what is in use is good at any moment."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from test_site_good import load_written
from test_site_secrets import edit

from saltern.site import rotation
from saltern.site.load import Site
from saltern.site.overlap import KINDS, Held, Kind, held
from saltern.site.rotation import STEPS, Deeds, RotationError, authority_state, rotate, state_of
from saltern.site.secrets import generate_secrets, make_authority

REPOSITORY = Path(__file__).resolve().parents[2]
FLEET = {
    "name": "one",
    "domain": "one.test",
    "hosts": {
        "app1": {"address": "10.0.0.1", "roles": ["base", "builder", "postgres", "redis", "web", "worker", "edge"]}
    },
}
BLOG = {"source": {"directory": "shop"}, "hostnames": ["blog.test"], "processes": {"worker": {"celery": {}}}}
OF_SECRETS = [step for step in STEPS if "author" not in step]
OF_AUTHORITY = [step for step in STEPS if "author" in step]


class Killed(BaseException):
    """As SIGKILL does, it passes whatever would catch an error."""


class World:
    """A host: its daemons take what the last apply gave them, and its app runs with what that apply gave it."""

    def __init__(self, site: Site):
        self.site, self.good, self.used, self.applies = site, {}, {}, 0
        self.pending: list[str] = []
        self.holding: list[str] = []
        self.refuse = ""
        self.deeds = Deeds(lambda: self.pending, self.apply, self.uses_old, lambda seconds: None)
        self.apply()
        self.applies = 0

    def host_file(self) -> dict[str, Any]:
        return dict(yaml.safe_load((self.site.path / "secrets/app1.sls").read_text())["secrets"])

    def apply(self) -> None:
        held_now = self.host_file()
        for one in held(held_now):
            place, key = one.place(held_now), one.kind.key
            # The daemons come first: what they take is what the file says from here on.
            self.good[one.key] = {place[key], (place.get("previous") or {}).get(key, place[key])}
            assert self.used.get(one.key, place[key]) in self.good[one.key], "the release that serves is cut off"
        if self.refuse:
            raise RotationError(self.refuse)
        for one in held(held_now):
            self.used[one.key] = one.place(held_now)[one.kind.key]
        self.applies += 1

    def uses_old(self, one: Held) -> list[str]:
        return self.holding

    def serves(self) -> bool:
        return all(self.used[key] in self.good[key] for key in self.used)


@pytest.fixture
def world(tmp_path: Path) -> World:
    (tmp_path / "shop").mkdir()
    site = load_written(tmp_path, {"fleet.yaml": FLEET, "apps/blog.yaml": BLOG})
    generate_secrets(site)
    return World(site)


def shared_of(world: World) -> dict[str, Any]:
    return dict(yaml.safe_load((world.site.path / "secrets/shared.yaml").read_text()))


def words_of(kind: Kind) -> list[str]:
    return ["blog", kind.name] if kind.of_app else [kind.name]


HERE = [kind for kind in KINDS if kind.of_app]


@pytest.mark.parametrize("kind", HERE, ids=lambda kind: kind.name)
def test_every_kind_is_replaced_and_the_old_one_goes(world: World, kind: Kind) -> None:
    one = Held(kind, "blog")
    old = one.place(shared_of(world))[kind.key]
    done = rotate(world.site, words_of(kind), world.deeds, finish=True)
    assert done == [f"{one.key}: replaced; the old one is good nowhere"]
    assert old not in world.good[one.key] and world.used[one.key] != old
    assert all(old not in path.read_text() for path in (world.site.path / "secrets").iterdir() if path.is_file())
    assert state_of(shared_of(world), one) == "settled" and world.applies == 2


@pytest.mark.parametrize("kind", HERE, ids=lambda kind: kind.name)
@pytest.mark.parametrize("step", OF_SECRETS)
def test_a_rotation_killed_at_any_step_goes_on(
    world: World, kind: Kind, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = Held(kind, "blog")
    old = one.place(shared_of(world))[kind.key]

    def reached(name: str) -> None:
        if name == step:
            raise Killed

    monkeypatch.setattr(rotation, "reached", reached)
    with pytest.raises(Killed):
        rotate(world.site, words_of(kind), world.deeds, finish=True)
    monkeypatch.undo()
    assert world.serves()
    world.pending = ["what the killed one has left"]  # is no reason to refuse
    rotate(world.site, words_of(kind), world.deeds, finish=True)
    now = one.place(shared_of(world))[kind.key]
    assert world.good[one.key] == {now} and world.used[one.key] == now != old
    assert state_of(shared_of(world), one) == "settled"
    assert len({old, now}) == 2 and world.applies <= 4


def test_the_key_that_signs_builds_is_replaced_and_both_are_trusted_meanwhile(world: World) -> None:
    trusted: list[int] = []
    before = world.host_file()["build_keys"]
    deeds = Deeds(list, lambda: trusted.append(len(world.host_file()["build_keys"])), lambda _: [])
    assert rotate(world.site, ["build_key"], deeds) == ["build_key: replaced; the old one is good nowhere"]
    assert trusted == [2, 1] and before[0] not in world.host_file()["build_keys"]


def test_an_old_signing_key_stays_for_its_days(world: World) -> None:
    (said,) = rotate(world.site, ["blog", "secret_key"], world.deeds)
    assert "The old one is good until 20" in said and "finish=True" in said
    data = shared_of(world)
    assert data["apps"]["blog"]["previous"]["secret_key"] in world.good["apps.blog.secret_key"]
    before = data["apps"]["blog"]["secret_key"]
    rotate(world.site, ["blog", "secret_key"], world.deeds)
    assert shared_of(world)["apps"]["blog"]["secret_key"] == before, "asked again, it is the same rotation"


@pytest.mark.parametrize("words", [["blog", "secret_key"], ["ca"]])
def test_who_only_goes_on_is_told_that_nothing_new_was_made(world: World, words: list[str]) -> None:
    world.refuse = "no"
    with pytest.raises(RotationError):
        rotate(world.site, words, world.deeds)
    world.refuse = ""
    old = "nothing new was made; the one that was begun went on"
    assert old in "\n".join(rotate(world.site, words, world.deeds, finish=True))
    assert old not in "\n".join(rotate(world.site, words, world.deeds, finish=True))


def test_an_apply_that_is_refused_leaves_both_good(world: World) -> None:
    world.refuse = "demo is served: it gets no traffic"
    with pytest.raises(RotationError, match="no traffic"):
        rotate(world.site, ["blog", "database"], world.deeds)
    assert world.serves() and world.used["apps.blog.database_password"] in world.good["apps.blog.database_password"]
    assert len(world.good["apps.blog.database_password"]) == 2
    world.refuse = ""
    rotate(world.site, ["blog", "database"], world.deeds)
    assert len(world.good["apps.blog.database_password"]) == 1


def test_what_is_used_stays_good(world: World) -> None:
    world.holding = ["2 sessions of role blog (psql)"]
    with pytest.raises(RotationError, match=r"stays good, because it is used: 2 sessions of role blog \(psql\)"):
        rotate(world.site, ["blog", "database"], world.deeds)
    assert len(world.good["apps.blog.database_password"]) == 2
    world.holding = []
    assert rotate(world.site, ["blog", "database"], world.deeds)


def test_who_holds_the_old_one_cannot_keep_it_good_against_force(world: World) -> None:
    world.pending, world.holding = ["role blog has jit=on"], ["2 sessions of the login role blog"]
    said = rotate(world.site, ["blog", "database"], world.deeds, force=True)
    assert len(world.good["apps.blog.database_password"]) == 1
    assert any("was used still: 2 sessions of the login role blog" in line for line in said)
    for words in (["ca"], ["tls"]):
        assert rotate(world.site, words, world.deeds, force=True)


def test_what_else_waits_for_an_apply_is_not_changed_along(world: World) -> None:
    before = shared_of(world)
    world.pending = ["build of blog"]
    for words in (["blog", "database"], ["ca"], ["tls"], ["edge"]):
        with pytest.raises(RotationError, match=r"build of blog\): salt-call state\.apply comes first"):
            rotate(world.site, words, world.deeds)
    assert shared_of(world) == before and world.applies == 0


def test_an_edit_by_hand_is_brought_to_its_end(world: World) -> None:
    edit(world.site, "shared.yaml", lambda data: data["apps"]["blog"].update(database_password="chosen-by-a-person"))
    rotate(world.site, ["blog", "database"], world.deeds)
    assert world.good["apps.blog.database_password"] == {"chosen-by-a-person"}


@pytest.mark.parametrize(
    "words", [["blog", "databas"], ["blog"], [], ["nope", "database"], ["replication"], ["blog", "database", "x"]]
)
def test_what_does_not_exist_is_told_with_what_does(world: World, words: list[str]) -> None:
    with pytest.raises(
        RotationError, match=r"there are: blog database, blog owner, blog redis, blog secret_key, build_key, ca"
    ):
        rotate(world.site, words, world.deeds)


@pytest.mark.parametrize("step", ["", *OF_AUTHORITY])
def test_the_authority_is_replaced_also_when_killed(world: World, step: str, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = world.site.path / "secrets"
    old = (folder / "ca/ca.crt").read_text()

    def reached(name: str) -> None:
        # What a client of the old trust meets, and one of the new, is trusted on both sides at any moment.
        trusted = world.host_file()["tls"]["ca"]
        assert len(re.findall("BEGIN CERT", trusted)) == (2 if name != OF_AUTHORITY[-1] else 1)
        if name == step:
            raise Killed

    monkeypatch.setattr(rotation, "reached", reached)
    if step:
        with pytest.raises(Killed):
            rotate(world.site, ["ca"], world.deeds)
        if step == OF_AUTHORITY[-1]:
            assert authority_state(folder) == "settled"
            return
    assert rotate(world.site, ["ca"], world.deeds)
    new = (folder / "ca/ca.crt").read_text()
    assert new != old and world.host_file()["tls"]["ca"] == new
    assert authority_state(folder) == "settled" and sorted(p.name for p in folder.glob("ca*")) == ["ca"]


@pytest.mark.parametrize("at", ["the empty folder", "a file that is half there", "its certificate"])
def test_an_authority_killed_while_it_is_promoted_goes_on(world: World, at: str) -> None:
    folder = world.site.path / "secrets"
    old = (folder / "ca/ca.crt").read_text()
    make_authority(folder, "ca.next", "one")
    previous = folder / "ca.previous"
    previous.mkdir()
    if at != "the empty folder":
        (previous / (".ca.crt.x1" if "half" in at else "ca.crt")).write_text(old[:20] if "half" in at else old)
    assert rotate(world.site, ["ca"], world.deeds)
    assert (folder / "ca/ca.crt").read_text() == world.host_file()["tls"]["ca"] != old
    assert sorted(path.name for path in folder.glob("ca*")) == ["ca"]


@pytest.mark.parametrize("what", ["tls", "edge"])
def test_certificates_are_replaced(world: World, what: str) -> None:
    before = world.host_file()[what]["cert"]
    assert any("asked for" in line for line in rotate(world.site, [what], world.deeds))
    assert world.host_file()[what]["cert"] != before and world.applies == 1


def test_a_fleet_is_applied_by_others_between_the_steps(tmp_path: Path) -> None:
    (tmp_path / "shop").mkdir()
    fleet = {**FLEET, "hosts": {**FLEET["hosts"], "web2": {"address": "10.0.0.2", "roles": ["base", "web"]}}}
    site = load_written(tmp_path, {"fleet.yaml": fleet, "apps/blog.yaml": BLOG})
    generate_secrets(site)

    def never(*_: object) -> Any:
        raise AssertionError("nobody applies from here")

    deeds, words = Deeds(never, never, never, never), ["blog", "database"]
    with pytest.raises(RotationError, match="step=begin, apply all hosts, then step=end"):
        rotate(site, words, deeds)
    with pytest.raises(RotationError, match="step=begin comes first"):
        rotate(site, words, deeds, step="end")
    assert "apply all hosts, then step=end" in rotate(site, words, deeds, step="begin")[0]
    with pytest.raises(RotationError, match="is being replaced already"):
        rotate(site, words, deeds, step="begin")
    assert "apply all hosts" in rotate(site, words, deeds, step="end")[0]
    for step, said in (("begin", "two authorities"), ("begin", "new authority signs"), ("end", "trusted nowhere")):
        assert said in rotate(site, ["ca"], deeds, step=step)[0]


def test_every_step_is_told_and_no_other() -> None:
    text = (REPOSITORY / "saltern/site/rotation.py").read_text()
    told = set(re.findall(r'reached\("([^"]+)"', text)) | set(rotation.OF_AUTHORITY.values())
    assert told == set(STEPS)
    with pytest.raises(ValueError, match="none of the steps"):
        rotation.reached("nowhere")
