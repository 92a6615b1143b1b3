"""What daemon.running decides to do: start, restart, reload, or nothing."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.contracts import World, load
from tests.unit.contracts.daemon import world

INPUTS = ["/etc/web/web.conf", "/etc/web/hosts.d"]
UP = {"active": True, "enabled": True, "recorded": True}


def call(host: World, function: str = "running", test: bool = False, **arguments: Any) -> dict[str, Any]:
    module = load("_states", "daemon")
    module.__salt__ = host.salt
    module.__opts__ = {"test": test}
    inputs = {"inputs": INPUTS} if function == "running" else {}
    return getattr(module, function)("web", **{**inputs, **arguments})


def watched(host: World, names: list[str], test: bool = False, **arguments: Any) -> dict[str, Any]:
    """Call mod_watch as Salt does after these files have changed."""
    module = load("_states", "daemon")
    module.__salt__ = host.salt
    module.__opts__ = {"test": test}
    chunks = [{"state": "file", "name": name, "__sls__": "web", "__id__": name} for name in names]
    quiet = {"state": "file", "name": "/etc/unchanged", "__sls__": "web", "__id__": "/etc/unchanged"}
    module.__low__ = {"__reqs__": {"watch": [*chunks, quiet]}}
    results = {name: {"__sls__": "web", "__id__": name, "changes": {"diff": "new"}} for name in names}
    module.__running__ = {**results, "quiet": {"__sls__": "web", "__id__": "/etc/unchanged", "changes": {}}}
    return module.mod_watch("web", sfun="running", **{"inputs": INPUTS, **arguments})


@pytest.mark.parametrize(
    ("status", "reload", "done"),
    [
        ({"stale": [INPUTS[0]]}, False, "restart"),
        ({"stale": [INPUTS[0]]}, True, "reload"),
        ({"stale": [INPUTS[0]]}, [INPUTS[0]], "reload"),
        ({"stale": INPUTS}, [INPUTS[0]], "restart"),
        ({"stale": [INPUTS[0]], "can_reload": False}, True, "restart"),
        ({"stale": ["/etc/u.d"], "stale_unit_files": ["/etc/u.d"]}, True, "restart"),
        ({"active": False}, True, "start"),
        ({"active": False, "failed": True}, False, "start"),
        ({"need_daemon_reload": True}, False, "daemon-reload"),
        ({"enabled": False}, False, "enable"),
    ],
)
def test_action(status: dict[str, Any], reload: Any, done: str) -> None:
    host = world(**{**UP, **status})
    ret = call(host, reload=reload)
    assert ret["result"] is True
    assert host.state["calls"] == [done]


def test_comment_says_which_file(capsys: pytest.CaptureFixture[str]) -> None:
    ret = call(world(**UP, stale=[INPUTS[0]]))
    assert ret["comment"] == "web was restarted: /etc/web/web.conf changed since the process started."


def test_fresh_process_without_a_record_is_adopted_in_silence() -> None:
    host = world(**{**UP, "recorded": False})
    assert call(host, test=True)["result"] is True
    assert not host.state["recorded"]
    assert call(host) == {**call(host), "result": True, "changes": {}}
    assert host.state["recorded"] and host.state["calls"] == []


def test_static_unit_is_not_enabled() -> None:
    host = world(**{**UP, "enabled": None})
    assert call(host)["changes"] == {}


def test_enable_can_be_left_alone() -> None:
    assert call(world(**{**UP, "enabled": False}), enable=False)["changes"] == {}


def test_socket_starts_it_when_needed() -> None:
    host = world(waiting_socket="web.socket")
    assert call(host)["changes"] == {}
    assert watched(host, [INPUTS[0]])["changes"] == {}
    assert host.state["calls"] == []


def test_plan_on_a_bare_host_is_a_start() -> None:
    host = world(exists=False, missing=INPUTS)
    plan = call(host, test=True)
    assert plan["result"] is None
    assert plan["changes"] == {"running": {"old": False, "new": True}, "enabled": {"old": False, "new": True}}


def test_unit_that_does_not_exist_fails_in_an_apply() -> None:
    ret = call(world(exists=False))
    assert ret["result"] is False and "There is no unit web" in ret["comment"] and ret["skip_watch"]


def test_missing_input_fails_in_an_apply_and_is_a_restart_in_a_plan() -> None:
    host = world(**UP, missing=[INPUTS[1]])
    assert INPUTS[1] in call(host)["comment"]
    assert call(host)["result"] is False
    assert call(host, test=True)["changes"]["process"]["new"] == "restarted"


def test_masked_unit_fails_in_a_plan_too() -> None:
    assert call(world(masked=True), test=True)["result"] is False


@pytest.mark.parametrize(
    ("names", "reload", "done"),
    [
        ([INPUTS[0]], False, "restart"),
        ([INPUTS[0]], True, "reload"),
        ([f"{INPUTS[1]}/a"], [INPUTS[1]], "reload"),
        ([f"{INPUTS[1]}-other/a"], [INPUTS[1]], "restart"),
        (["/etc/systemd/system/web.service.d/x.conf"], True, "restart"),
        (["web packages"], True, "restart"),
        ([], True, "restart"),
    ],
)
def test_watched_change_is_planned_and_done_alike(names: list[str], reload: Any, done: str) -> None:
    host = world(**UP)
    plan = watched(host, names, test=True, reload=reload)
    assert plan["result"] is None and host.state["calls"] == []
    applied = watched(host, names, reload=reload)
    assert applied["result"] is True
    assert applied["changes"] == plan["changes"]
    assert host.state["calls"] == [done]


def test_dead_daemon_is_not_restarted_by_watch() -> None:
    module = load("_states", "daemon")
    module.__salt__, module.__opts__ = {}, {"test": False}
    assert module.mod_watch("web", sfun="dead")["changes"] == {}


@pytest.mark.parametrize("in_job", [True, False])
@pytest.mark.parametrize("function", ["running", "dead", "watch"])
def test_a_daemon_that_carries_the_job_is_left_to_systemd_until_the_job_has_ended(function: str, in_job: bool) -> None:
    """Nothing is recorded then, so that the next apply makes good what was lost."""
    host = world(**UP, **({"stale": [INPUTS[0]]} if function == "running" else {}))
    later: list[tuple[str, str]] = []
    host.salt["daemon.in_job"] = lambda: in_job
    host.salt["daemon.act_after_job"] = lambda name, action: later.append((name, action)) or ""
    result = watched(host, [INPUTS[0]], after_job=True) if function == "watch" else call(host, function, after_job=True)
    assert result["result"] is True and result["changes"]
    action = "stop" if function == "dead" else "restart"
    assert later == ([("web", action)] if in_job else [])
    assert host.state["calls"] == ([] if in_job else [action])


def test_a_plan_of_a_renewal_names_who_reads_what_is_to_be_written() -> None:
    module = load("_states", "daemon")
    module.__opts__ = {"test": True}
    module.__salt__ = {"daemon.readers": lambda paths: {"haproxy.service": paths}}
    chunks = [{"state": "file", "name": name, "__sls__": "edge.tls", "__id__": name} for name in ("/a.pem", "/b.pem")]
    module.__low__ = {"__reqs__": {"watch": chunks}}
    module.__running__ = {"a": {"__sls__": "edge.tls", "__id__": "/a.pem", "changes": {"diff": "new"}}}
    planned = module.mod_watch("who reads", sfun="reread", paths=["/a.pem"])
    assert planned["result"] is None and planned["changes"]["haproxy.service"]["old"] == "older than /a.pem"
    module.__opts__ = {"test": False}
    assert module.mod_watch("who reads", sfun="reread", paths=["/a.pem"])["changes"] == {}


CHUNKS = [
    {"state": "daemon", "fun": "running", "name": "web"},
    {"state": "file", "fun": "managed", "name": "/etc/web"},
    {"state": "daemon", "fun": "reread", "name": "any text"},
    {"state": "daemon", "fun": "dead", "name": "db"},
]


@pytest.mark.parametrize(
    ("results", "together"),
    [
        ({}, True),
        ({"a": {"result": True, "changes": {}}}, True),
        ({"a": {"result": True, "changes": {"diff": "new"}}}, False),
        ({"a": {"result": None, "changes": {"diff": "new"}}}, False),
        ({"a": {"result": False, "changes": {}}}, False),  # it may have done a part of what it was to do
    ],
)
@pytest.mark.parametrize("function", ["running", "dead"])
def test_systemd_is_asked_once_for_all_daemons_until_something_has_changed(
    function: str, results: dict[str, Any], together: bool
) -> None:
    host, asked, given = world(**UP), [], []
    inspect = host.salt["daemon.inspect"]
    host.salt["daemon.shown"] = lambda name, names, run: asked.append((name, names, run)) or {"Id": "web.service"}
    host.salt["daemon.inspect"] = lambda name, inputs=None, known=None: given.append(known) or inspect(name, inputs)
    module = load("_states", "daemon")
    module.__salt__, module.__opts__ = host.salt, {"test": True}
    module.__instance_id__, module.__running__, module.__lowstate__ = "7", results, CHUNKS
    getattr(module, function)("web")
    assert asked == ([("web", ["web", "db"], "7")] if together else [])
    assert given == ([{"Id": "web.service"}] if together else [None])


@pytest.mark.parametrize(("reason", "result"), [("it lets nobody in", True), ("", False)])
def test_a_reload_that_failed_is_none_where_a_later_state_starts_it_anew(reason: str, result: bool) -> None:
    host = world("reload failed", **{**UP, "stale": [INPUTS[0]]})
    host.salt["web.why"] = lambda name: reason
    ret = call(host, reload=True, begins_anew_if="web.why")
    assert ret["result"] is result and (reason or "reload failed") in ret["comment"]
    assert host.state["stale"] == [INPUTS[0]], "nothing is recorded"
