"""A host that was given a grant, or is to lose one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from salt.exceptions import CommandExecutionError

from tests.unit.contracts import Contract, World

OLD, NEW = "app-demo is a user of the cache", "app-demo is a user of the broker"


def world(problem: str = "") -> World:
    """Return a host that remembers one grant and is to have another one; its disk has this problem."""
    state: dict[str, Any] = {"remembered": [OLD], "closed": []}

    def remember(grants: dict[str, Any]) -> None:
        if problem:
            raise OSError(problem)
        state["remembered"] = sorted(grants)

    def close() -> None:
        state["closed"].append("redis")

    def going(plan: bool = False) -> dict[str, Any]:
        gone = OLD in state["remembered"]
        changes = {OLD: {"old": "granted", "new": None}} if gone else {}
        return {"left": {NEW: {}}, "changes": changes, "parts": ["redis"] if gone else [], "kept": [], "why": []}

    functions = {
        "needs.damage": lambda: "",
        "needs.new": lambda: {} if NEW in state["remembered"] else {NEW: {"old": None, "new": "granted"}},
        "needs.granted": lambda: {OLD: {}, NEW: {}},
        "needs.remember": remember,
        "needs.going": going,
        "needs.close_redis": close,
    }
    return World(salt=functions, state=state, pillar={"host": {"roles": ["base", "redis"]}})


def _changed(tmp_path: Path) -> World:
    return world()


def _broken_server(tmp_path: Path) -> World:
    found = world()

    def fail() -> None:
        raise CommandExecutionError("BUSY running a script")

    found.salt["needs.close_redis"] = fail
    return found


CONTRACTS = {
    "remembered": Contract(
        arguments={"name": "what is granted"},
        world=_changed,
        broken_world=lambda tmp_path: world("the disk is full"),
        reason="disk is full",
    ),
    "settled": Contract(
        arguments={"name": "what nobody needs any more"},
        world=_changed,
        broken_world=_broken_server,
        reason="BUSY",
    ),
}
