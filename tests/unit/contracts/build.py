"""A builder on which one app can be built, once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from salt.exceptions import CommandExecutionError

from tests.unit.contracts import Contract, World


def world(problem: str = "") -> World:
    state: dict[str, Any] = {"current": "000000000000", "released": None}

    def identify(app: str) -> dict[str, str]:
        if problem:
            raise CommandExecutionError(problem)
        return {"id": "6f1d3c0a9b2e"}

    def make(app: str) -> dict[str, str]:
        state.update(current="6f1d3c0a9b2e")
        return {"id": "6f1d3c0a9b2e"}

    functions = {
        "build.unsigned": lambda app: [],
        "builder.unsigned": lambda app: [],
        "builder.sign": lambda app: None,
        "build.identify": identify,
        "build.current": lambda app: state["current"],
        "build.make": make,
        "builder.must_release": lambda app, build: state["released"] != build,
        "builder.release": lambda app, build: state.update(released=build),
    }
    return World(salt=functions, state=state)


def _buildable(tmp_path: Path) -> World:
    return world()


def _with_others(tmp_path: Path, problem: str = "") -> World:
    state: dict[str, Any] = {"workshops": ["demo", "old"]}

    def forget(app: str) -> None:
        if problem:
            raise CommandExecutionError(problem)
        state["workshops"].remove(app)

    functions = {
        "build.others": lambda apps: [app for app in state["workshops"] if app not in apps],
        "build.forget": forget,
    }
    return World(salt=functions, state=state)


CONTRACTS = {
    "only": Contract(
        arguments={"name": "no other app is built here", "apps": ["demo"]},
        world=_with_others,
        broken_world=lambda tmp_path: _with_others(tmp_path, "userdel: user is in use"),
        reason="in use",
    ),
    "present": Contract(
        arguments={"name": "demo"},
        world=_buildable,
        broken_world=lambda tmp_path: world("requirements.txt is not a lock"),
        reason="is not a lock",
    ),
}
