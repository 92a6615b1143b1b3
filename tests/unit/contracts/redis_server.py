"""A host with the two servers of Redis."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from salt.exceptions import CommandExecutionError

from tests.unit.contracts import Contract, World

DRIFT = {
    "settings": {"timeout": {"old": "9", "new": "0"}},
    "users": {"app-demo": {"old": "on ~*", "new": "on ~demo:*"}, "stranger": {"old": "on ~*", "new": None}},
}


def world(problem: str = "", **found: Any) -> World:
    """Return a host on which somebody has changed things at run time; its Redis answers with this problem."""
    state: dict[str, Any] = {"written": [], "drift": DRIFT, "legacy": {"port": 6379, "hash": "#"}, **found}

    def fail() -> None:
        if problem:
            raise CommandExecutionError(problem)

    def drift(server: str, keep: bool) -> dict[str, Any]:
        return dict(state["drift"])

    def repair(server: str, found: dict[str, Any]) -> list[str]:
        fail()
        state["drift"] = {"settings": {}, "users": {}}
        return []

    def write(server: str) -> None:
        fail()
        state["written"] = sorted({*state["written"], server})

    def end_legacy() -> list[str]:
        fail()
        state["legacy"] = {}
        return ["database 2: celery"]

    def differ(server: str) -> dict[str, Any]:
        return {} if server in state["written"] else {"old": None, "new": "written"}

    functions = {
        "redis_server.files": lambda server: {"unit": f"{server}.service", "users": f"/etc/redis/{server}"},
        "redis_server.missing_passwords": lambda: {},
        "redis_server.make_own_passwords": lambda: None,
        "redis_server.users_differ": differ,
        "redis_server.write_users": write,
        "redis_server.drift": drift,
        "redis_server.will_start": lambda server: False,
        "redis_server.shown": lambda values: values,
        "redis_server.repair": repair,
        "redis_server.stale": lambda server: list(state.get("stale", [])),
        "redis_server.restart": lambda server: problem,
        "redis_server.legacy": lambda: dict(state["legacy"]),
        "redis_server.legacy_used_by": lambda plan: [],
        "redis_server.end_legacy": end_legacy,
    }
    return World(salt=functions, state=state)


def _changed_by_hand(tmp_path: Path) -> World:
    return world()


CONTRACTS = {
    "users_written": Contract(
        arguments={"name": "users of Redis"},
        world=_changed_by_hand,
        broken_world=lambda tmp_path: world("the disk is full"),
        reason="disk is full",
    ),
    "in_step": Contract(
        arguments={"name": "broker"},
        world=_changed_by_hand,
        broken_world=lambda tmp_path: world("BUSY running a script"),
        reason="BUSY",
    ),
    "retired": Contract(
        arguments={"name": "the shared password of Redis"},
        world=_changed_by_hand,
        broken_world=lambda tmp_path: world("BUSY running a script"),
        reason="BUSY",
    ),
}
