"""The check in front of the master: all that Salt exposes is known, and only what our minions need is let through."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import salt.master

ROOT = Path(__file__).resolve().parents[2]
SOURCE = ROOT / "salt/master/files/guarded_master.py"
spec = importlib.util.spec_from_file_location("guarded_master", SOURCE)
assert spec and spec.loader
guarded: Any = importlib.util.module_from_spec(spec)
spec.loader.exec_module(guarded)

CLASSES = {"AESFuncs": salt.master.AESFuncs.expose_methods, "ClearFuncs": salt.master.ClearFuncs.expose_methods}
LET_THROUGH = {*guarded.ASKED_BY_MINIONS, *guarded.NODDED_AT, *guarded.ASKED_IN_CLEAR}
JOB = {"fun": "test.ping", "arg": [], "user": "root", "Minions": ["web1", "web2"]}


@pytest.mark.parametrize("name", [name for names in CLASSES.values() for name in names])
def test_the_page_has_a_line_for_each_method_that_salt_exposes(name: str) -> None:
    """A newer Salt with another method makes this red; until somebody has read it, it is refused."""
    page = (ROOT / "docs/security-master.md").read_text()
    (line,) = [line for line in page.splitlines() if re.match(rf"\| (`\w+`, )*`{name}`", line)]
    assert ("refused" in line) is (name not in LET_THROUGH), line
    assert "::test_" in line


def test_the_service_starts_the_check() -> None:
    unit = (ROOT / "salt/master/files/salt-master.service").read_text()
    assert f"ExecStart=/opt/saltern/salt/bin/python -I /usr/local/lib/saltern/{SOURCE.name}" in unit


def fake_master(answers: dict[str, Any] | None = None) -> Any:
    """What is left of salt.master for this: who is asked what."""

    class Functions:
        expose_methods = CLASSES["AESFuncs"]

        def __init__(self, place: Path):
            self.opts = {
                "master_job_cache": "local_cache",
                "cachedir": str(place),
                "hash_type": "",
                "max_event_size": 500,
            }
            self.mminion = SimpleNamespace(returners={"local_cache.get_load": lambda jid: JOB if jid == "1" else {}})
            self.asked: list[Any] = []

        def get_method(self, name: str) -> Any:
            return name if name in self.expose_methods else None

        def run_func(self, func: str, load: Any) -> Any:
            self.asked.append((func, load))
            return "done", {"fun": "send"}

    clear = type("Clear", (), {"expose_methods": CLASSES["ClearFuncs"]})
    return SimpleNamespace(AESFuncs=Functions, ClearFuncs=clear)


@pytest.fixture
def functions(tmp_path: Path) -> Any:
    master = fake_master()
    payload = SimpleNamespace(dumps=lambda value: repr(value).encode())
    guarded.guard(master, payload, lambda jid, folder, _: f"{folder}/{jid}")
    return master.AESFuncs(tmp_path)


def refused(functions: Any, func: str, load: dict[str, Any]) -> bool:
    before = len(functions.asked)
    functions.run_func(func, load)
    return len(functions.asked) == before


@pytest.mark.parametrize("name", [*CLASSES["AESFuncs"], "_something_new", "run_func", "__init__"])
def test_what_no_minion_of_ours_asks_is_not_even_a_method(functions: Any, name: str) -> None:
    known = name in (*guarded.ASKED_BY_MINIONS, *guarded.NODDED_AT)
    assert bool(functions.get_method(name)) is known
    if not known:
        assert refused(functions, name, {"id": "web1"})


def test_orders_need_the_masters_key_and_nothing_else_is_left_in_clear() -> None:
    master = fake_master()
    guarded.guard(master, None, str)
    assert master.ClearFuncs.expose_methods == ("publish", "ping")


@pytest.mark.parametrize(
    "load",
    [
        {"id": "db1", "jid": "1"},  # was not asked
        {"id": "web1", "jid": "2"},  # no such job
        {"id": "web1", "jid": "req"},
        {"id": "web1", "jid": "../1"},
        {"id": "web1", "jid": 1},
        {"id": "web1", "jid": "nocache"},
        {"id": "web1"},
    ],
)
def test_an_answer_to_no_job_of_this_minion_does_not_count(functions: Any, load: dict[str, Any]) -> None:
    assert refused(functions, "_return", {"return": True, **load})


def test_a_second_answer_does_not_count(functions: Any, tmp_path: Path) -> None:
    assert not refused(functions, "_return", {"id": "web1", "jid": "1", "return": True})
    (tmp_path / "jobs/1/web1").mkdir(parents=True)
    (tmp_path / "jobs/1/web1/return.p").touch()
    assert refused(functions, "_return", {"id": "web1", "jid": "1", "return": True})
    assert not refused(functions, "_return", {"id": "web2", "jid": "1", "return": True})


def test_of_an_answer_only_what_the_minion_can_know_is_kept(functions: Any) -> None:
    lie = {
        "resource_id": "db1",
        "user": "root",
        "tgt": "*",
        "fun": "cmd.run",
        "fun_args": ["x"],
        "sig": b"",
        "load": {},
    }
    functions.run_func("_return", {"cmd": "_return", "id": "web1", "jid": "1", "return": 5, "retcode": 0, **lie})
    kept = functions.asked[-1][1]
    assert kept == {
        "cmd": "_return",
        "id": "web1",
        "jid": "1",
        "return": 5,
        "retcode": 0,
        "fun": "test.ping",
        "fun_args": [],
    }


def test_an_answer_that_is_too_large_is_an_error_that_says_so(functions: Any) -> None:
    functions.run_func(
        "_return", {"id": "web1", "jid": "1", "return": "x" * 1000, "out": "y" * 1000, "metadata": "z" * 1000}
    )
    kept = functions.asked[-1][1]
    assert "was thrown away" in kept["return"] and (kept["retcode"], kept["success"]) == (1, False)
    assert len(repr(kept)) < 400


@pytest.mark.parametrize(
    "more",
    [
        {"tag": "salt/job/1/ret/db1", "data": {}},
        {"tag": "salt/minion/db1/start", "data": "x"},
        {"events": [{"tag": "x", "data": {"minions": ["db1"], "jid": "1"}}]},
        {"events": [], "tag": "minion_start", "data": "x"},
        {"pretag": "salt/job/1/ret", "events": [{"tag": "db1", "data": {}}]},
        {"tag": ["minion_start"], "data": "x"},
        {},
    ],
)
def test_a_minion_says_nothing_but_that_it_has_started(functions: Any, more: dict[str, Any]) -> None:
    assert refused(functions, "_minion_event", {"id": "web1", **more})


def test_what_it_says_as_it_starts_is_bounded_text(functions: Any) -> None:
    load = {
        "id": "web1",
        "tag": "salt/minion/web1/start",
        "data": {"minions": ["db1"] * 1000},
        "pretag": "x",
        "jid": "1",
    }
    functions.run_func("_minion_event", load)
    kept = functions.asked[-1][1]
    assert len(kept.pop("data")) == guarded.EVENT_BYTES
    assert kept == {"cmd": "_minion_event", "id": "web1", "tag": "salt/minion/web1/start", "pretag": None}


def test_a_salt_without_these_methods_does_not_start() -> None:
    master = fake_master()
    master.AESFuncs.expose_methods = ("_return",)
    with pytest.raises(SystemExit, match=r"this Salt has no .*_pillar"):
        guarded.guard(master, None, str)


def test_one_message_is_bounded_before_it_is_read() -> None:
    import zmq

    module = SimpleNamespace(Context=zmq.Context, ROUTER=zmq.ROUTER, MAXMSGSIZE=zmq.MAXMSGSIZE)
    guarded.bound_messages(module, 4096)
    with module.Context(1) as context:
        with context.socket(zmq.ROUTER) as front:
            assert front.getsockopt(zmq.MAXMSGSIZE) == 4096
        with context.socket(zmq.DEALER) as inner:
            assert inner.getsockopt(zmq.MAXMSGSIZE) == -1
