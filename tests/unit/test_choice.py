"""Which release is wanted, and why: by pin, fleet, builder and source, each deciding before the next is asked."""

from __future__ import annotations

from typing import Any

import pytest

from saltern.release import choice

PIN = {"release": "p-1", "who": "ann", "when": "2026-11-26T12:00:00.000", "why": "audit"}
BUILDS = {"p-1": "p", "f-1": "f", "s-2": "s", "s-1": "s"}


def never(*_: Any) -> Any:
    raise AssertionError("nobody needs to know it")


def wanted(pin: dict[str, str] | None, given: str | None, asked: str) -> choice.Wanted:
    site = choice.Wanted(id=asked, build=BUILDS[asked])
    return choice.release("demo", pin, lambda: given, lambda: site, BUILDS.__getitem__)


def test_a_pin_holds_and_nothing_else_is_asked() -> None:
    found = choice.release("demo", PIN, never, never, BUILDS.__getitem__)
    assert (found["id"], found["build"]) == ("p-1", "p")
    assert "pinned by ann" in found["note"] and "audit" in found["note"] and "release.unpin demo" in found["note"]


@pytest.mark.parametrize("given", [None, "s-1"])
def test_without_pin_and_another_word_of_the_fleet_the_site_is_served_without_a_note(given: str | None) -> None:
    assert wanted(None, given, "s-1") == {"id": "s-1", "build": "s"}


def test_what_the_fleet_has_given_is_served_and_the_note_says_how_the_site_gets_its_way() -> None:
    code, settings = wanted(None, "f-1", "s-1"), wanted(None, "s-2", "s-1")
    assert (code["id"], code["build"], settings["id"]) == ("f-1", "f", "s-2")
    assert code["note"].endswith("salt-run state.orchestrate orch.deploy")
    assert settings["note"].endswith('orch.deploy pillar=\'{"app": "demo", "build": "same"}\'')


@pytest.mark.parametrize(
    ("word", "newest", "together", "build"),
    [
        ("old", None, False, "old"),  # not on a builder: its word
        (None, None, True, None),
        (None, "new", True, "new"),  # the first build of all
        ("old", "new", False, "new"),
        ("old", "new", True, "old"),  # until a deploy has come to its end
    ],
)
def test_the_builder_s_word_and_the_source(word: str | None, newest: str | None, together: bool, build: Any) -> None:
    assert choice.build(word, (lambda: newest) if newest else None, together) == build


TOLD = {"release": "new", "token": "t2", "since": 1000.0, "before": {"release": "old", "token": "t1"}}


@pytest.mark.parametrize(
    ("token", "staged", "given"),
    [("t2", {"new", "old"}, "new"), ("t1", {"new", "old"}, "old"), ("t1", {"new"}, None), ("t3", {"new", "old"}, None)],
)
def test_the_deploy_that_came_to_its_end_says_on_which_side_a_host_is(
    token: str, staged: set[str], given: str | None
) -> None:
    assert choice.given(TOLD, token, staged.__contains__) == given


def test_a_deploy_is_in_progress_until_it_is_confirmed_or_its_master_is_dead() -> None:
    assert choice.in_progress(TOLD, 1000 + choice.DEPLOY_SECONDS - 1)
    assert not choice.in_progress(TOLD, 1000 + choice.DEPLOY_SECONDS)
    assert not choice.in_progress({"release": "new", "token": "t2"}, 1001)
