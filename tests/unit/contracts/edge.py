"""An edge where an app in maintenance has gone, and another web host was taken out."""

from __future__ import annotations

import fcntl
from collections.abc import Callable
from pathlib import Path
from typing import Any

from salt.exceptions import CommandExecutionError

from tests.unit.contracts import Contract, World


def world(tmp_path: Path, problem: str = "") -> World:
    state: dict[str, Any] = {"lines": ["gone 0"], "text": "server web1"}

    def differ() -> dict[str, Any]:
        if problem:
            raise CommandExecutionError(problem)
        return {"resting.map": {"old": state["lines"], "new": []}} if state["lines"] else {}

    def keep() -> None:
        assert held(tmp_path / "lock")
        state["lines"] = []

    def managed(name: str, check_cmd: str, **rest: Any) -> dict[str, Any]:
        new, before = "server web1 disabled", state["text"]
        if problem:
            return {"name": name, "result": False, "changes": {}, "comment": f"{check_cmd}: {problem}"}
        if new == before:
            return {"name": name, "result": True, "changes": {}, "comment": "as it shall be"}
        if not held(tmp_path / "lock"):  # an apply writes nothing without it
            return {"name": name, "result": None, "changes": {"old": before, "new": new}, "comment": "would be"}
        state["text"] = new
        return {"name": name, "result": True, "changes": {"old": before, "new": new}, "comment": "written"}

    functions: dict[str, Callable[..., Any]] = {
        "edge.lock": lambda: tmp_path / "lock",
        "edge.maps_differ": differ,
        "edge.keep_maps": keep,
    }
    return World(salt=functions, state=state, attributes={"__states__": {"file.managed": managed}})


def held(lock: Path) -> bool:
    """Whether somebody has the lock that edge.maintenance and take_out take."""
    if not lock.exists():
        return False
    with lock.open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def _changed(tmp_path: Path) -> World:
    return world(tmp_path)


CONTRACTS = {
    "configured": Contract(
        arguments={
            "name": "haproxy.cfg", "source": "salt://edge/files/haproxy.cfg", "check": "haproxy -c", "context": {},
            "user": "root", "group": "root", "mode": "0644",
        },
        world=_changed,
        broken_world=lambda tmp_path: world(tmp_path, "unknown keyword"),
        reason="unknown keyword",
    ),
    "maps_kept": Contract(
        arguments={"name": "apps in maintenance"},
        world=_changed,
        broken_world=lambda tmp_path: world(tmp_path, "no such folder"),
        reason="no such folder",
    ),
}  # fmt: skip
