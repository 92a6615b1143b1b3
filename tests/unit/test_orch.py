"""Orchestrations are plain Python: which steps in which order, made of a fleet and of what its hosts answer."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from saltern.orch import (
    add_host,
    apply,
    arguments,
    deploy,
    face,
    leave_out,
    maintenance,
    remove_host,
    rollback,
    rotate,
    settle,
)
from saltern.orch.arguments import Refused
from saltern.orch.fleet import Answer, Fleet, Hosts
from saltern.orch.steps import Steps, called

FLEET = Fleet(
    roles={
        "m1": ["base", "minion", "master", "builder"],
        "db1": ["base", "minion", "postgres"],
        "web1": ["base", "minion", "web"],
        "web2": ["base", "minion", "web"],
        "edge1": ["base", "minion", "edge"],
        "old1": ["base"],
    },
    ranks=[["db1", "m1"], ["web1", "web2"], ["edge1"]],
    apps=["demo"],
    builder="m1",
    web=["web1", "web2"],
    edges=["edge1"],
    running=["web1", "web2"],
    servers={"web1": ["db1", "m1"], "web2": ["db1", "m1"], "edge1": ["web1", "web2"]},
    clients={"db1": ["web1", "web2"], "web1": ["edge1"], "web2": ["edge1"], "edge1": []},
    replaced=["base", "minion", "web", "worker"],
    code="new",
)


class Played(Hosts):
    """Hosts that answer what they are told to, and say what they were asked."""

    def __init__(self, up: tuple[str, ...] = tuple(FLEET.roles), **answers: Any):
        self.asked: list[tuple[str, tuple[str, ...]]] = []
        self.there, self.answers = up, {"code.digest": "new"} | answers

    def ask(self, hosts: list[str], function: str, *arguments: Any, **named: Any) -> dict[str, Answer]:
        if hosts:
            self.asked.append((function, tuple(hosts)))
        return {host: Answer(True, self.answers[function]) if function in self.answers else Answer() for host in hosts}

    def up(self, hosts: list[str]) -> list[str]:
        return [host for host in hosts if host in self.there]


def part(steps: Steps, name: str, key: str) -> Any:
    """What a step says about one thing."""
    (parts,) = steps.named[name].values()
    (found,) = [one[key] for one in parts if key in one]
    return found


def test_a_step_waits_for_the_one_before() -> None:
    steps = Steps()
    for name in ("one", "two"):
        steps.then(name, called("test.ping", ["web1"]))
    steps.when_failed("three", called("test.ping", ["web1"]), "one", "two")
    steps.when_failed("four", called("test.ping", ["web1"]), "three")
    assert not any("require" in one for one in steps.named["one"]["salt.function"])
    assert part(steps, "two", "require") == [{"salt": "one"}]
    assert part(steps, "three", "onfail_any") == [{"salt": "one"}, {"salt": "two"}]
    assert part(steps, "four", "onfail") == [{"salt": "three"}]


def test_an_apply_goes_by_ranks_and_a_plan_settles_nothing() -> None:
    assert apply.steps(FLEET, {}, Played()).done == [
        "db1, m1",
        "web1, web2",
        "edge1",
        "what nobody needs any more",
    ]
    some = apply.steps(FLEET, {"hosts": ["edge1", "web2"], "plan": True}, Played())
    assert some.done == ["web2", "edge1"] and part(some, "web2", "test") is True
    with pytest.raises(Refused, match=r"^none of these hosts has role minion: old1$"):
        apply.steps(FLEET, {"hosts": ["web1", "old1"]}, Played())


def test_test_true_of_salt_run_reaches_the_hosts() -> None:
    """A step that said test: False would apply for real."""
    for steps in (
        add_host.steps(FLEET, {"host": "web1"}, Played()),
        remove_host.steps(FLEET, {"host": "gone"}, Played()),
        maintenance.steps(FLEET, {"host": "web1"}, Played()),
    ):
        assert not any("test" in part for body in steps.named.values() for part in body.get("salt.state", []))


def test_a_release_brings_code_only_where_it_is_another() -> None:
    assert "code is brought" not in deploy.steps(FLEET, {"app": "demo"}, Played()).named
    hosts = Played(**{"code.digest": "old"})
    assert part(deploy.steps(FLEET, {"app": "demo"}, hosts), "code is brought", "tgt") == [
        "web1",
        "web2",
        "edge1",
        "m1",
    ]
    assert hosts.asked == [("code.digest", ("web1", "web2", "edge1", "m1"))]


def test_a_release_is_undone_by_whatever_fails_before_it_is_in_force() -> None:
    steps = deploy.steps(FLEET, {"app": "demo"}, Played())
    undone = [one["salt"] for one in part(steps, "every host is put back", "onfail_any")]
    assert undone == ["installed", "migrated", "migrated for all", "started", "switched", "seen by the edges"]
    assert part(steps, "migrated", "tgt") == ["web1"] and part(steps, "migrated for all", "tgt") == ["web2"]
    alone = replace(FLEET, web=["web1"], running=["web1"])
    assert "migrated for all" not in deploy.steps(alone, {"app": "demo"}, Played()).named


def test_a_rollback_is_told_what_hosts_serve_and_migrates_nothing() -> None:
    steps = rollback.steps(FLEET, {"app": "demo"}, Played(**{"fleet.serves": {"now": "r1"}}))
    assert part(steps, "proposed", "arg") == ["demo", {"web1": {"now": "r1"}, "web2": {"now": "r1"}}]
    assert "migrated" not in steps.named
    silent = rollback.steps(FLEET, {"app": "demo"}, Played())
    assert part(silent, "proposed", "arg") == ["demo", {"web1": None, "web2": None}], "the builder decides"


def test_a_host_joins_between_those_that_it_uses_and_those_that_use_it() -> None:
    assert add_host.steps(FLEET, {"host": "web1"}, Played()).done == [
        "out of the edges",
        "db1, m1 let it in",
        "web1 answers",
        "states of web1",
        "edge1 use it",
        "in the edges",
    ]
    assert add_host.steps(FLEET, {"host": "edge1"}, Played()).done == [
        "web1, web2 let it in",
        "edge1 answers",
        "states of edge1",
    ]


@pytest.mark.parametrize("up", [("gone",), ()])
def test_a_host_that_leaves_ends_its_work_if_it_runs_and_its_key_goes_last(up: tuple[str, ...]) -> None:
    steps = remove_host.steps(FLEET, {"host": "gone"}, Played(up))
    assert ("its apps stop" in steps.named) is bool(up)
    assert [name for name in steps.done if name.endswith("forget it")] == [
        "edge1 forget it",
        "web1, web2 forget it",
        "db1, m1 forget it",
    ]
    assert steps.done[-2:] == ["nothing is granted to it", "its key is deleted"]


def test_a_host_is_rebooted_when_an_update_has_asked_for_it() -> None:
    for due in ("", "a new kernel"):
        steps = maintenance.steps(FLEET, {"host": "web1", "reboot": "due"}, Played(**{"updates.reboot_due": due}))
        assert ("reboot" in steps.named) is bool(due)
    with pytest.raises(Refused, match="web1 does not say whether a reboot is due"):
        maintenance.steps(FLEET, {"host": "web1", "reboot": "due"}, Played())


def test_a_host_that_was_out_is_not_brought_in_by_a_refusal() -> None:
    assert "nothing was done" in maintenance.steps(FLEET, {"host": "web1"}, Played(**{"edge.out": []})).named
    assert "nothing was done" not in maintenance.steps(FLEET, {"host": "web1"}, Played(**{"edge.out": ["web1"]})).named


def test_who_does_not_answer_is_left_out() -> None:
    assert [*leave_out.steps(FLEET, {}, Played(("web1",))).named] == ["web2 is left out"]
    assert [*leave_out.steps(FLEET, {}, Played()).named] == ["all web hosts answer"]


@pytest.mark.parametrize("said", [None, "text", 7, ["demo"], {"demo": None}, {7: 7}, {"demo": {"a": "b"}}])
def test_hosts_say_what_they_like(said: Any) -> None:
    """And an orchestration does not end with a trace."""
    answers = dict.fromkeys(("needs.held", "needs.settling", "fleet.waiting", "fleet.serves"), said)
    steps = settle.steps(FLEET, {}, Played(**{"needs.kept": ["a"]}, **answers))
    assert all(len(name) <= settle.LONGEST for name in steps.named)
    assert not {"7 serves with", "text serves with"} & {name[:13] for name in steps.named}
    course = {"kind": "ca", "state": "signing", "moves": ["out"], "applied": ["web1"], "asked": [], "releases": []}
    rotate.steps(FLEET, {"secret": "ca"}, Played(**{"rotation.course": course, "fleet.serves": said}))
    with pytest.raises(Refused):
        rotate.steps(FLEET, {"secret": "ca"}, Played(**{"rotation.course": said}))
    planned = course | {"state": "settled"}
    if not isinstance(said, dict):
        with pytest.raises(Refused, match="web1 cannot be planned"):
            rotate.steps(FLEET, {"secret": "ca"}, Played(**{"rotation.course": planned, "state.test": said}))


def test_only_settings_that_wait_of_apps_that_there_are() -> None:
    answers = {"web1": Answer(True, ["demo", "stranger"]), "web2": Answer(False, ["demo"]), "w": Answer(True, "demo")}
    assert settle.waiting(answers, ["demo", "d"]) == ["demo"]


def test_what_an_error_says_is_not_taken_for_an_answer() -> None:
    assert Answer(False, {"demo": 1}).table is None and Answer(True, "text").table is None
    assert settle.held({"web1": Answer(True, {"Bad Name": ["x"], "demo": ["y" * 500]})}) == {
        "web1": {"demo": ["y" * 200]}
    }


def test_nobody_is_asked_where_there_is_nobody() -> None:
    """Salt would take an empty list for a target like any other, and wait."""
    assert Hosts({}).ask([], "test.ping") == {} and Hosts({}).up([]) == []


def test_a_misspelt_argument_is_no_silence() -> None:
    """`hots` would have applied the whole fleet."""
    with pytest.raises(Refused, match=r"^orch\.apply has no argument hots; allowed: hosts, plan$"):
        arguments.given({"ranks": [], "hots": ["web1"]}, apply.TAKES, "apply")


def test_an_error_of_ours_is_not_taken_for_a_refusal() -> None:
    with pytest.raises(KeyError):
        face.rendered(apply, {"ranks": []}, {})
