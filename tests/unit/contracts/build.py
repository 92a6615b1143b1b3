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
        "build.identify": identify,
        "build.current": lambda app: state["current"],
        "build.make": make,
        "builder.must_release": lambda app, build: state["released"] != build,
        "builder.release": lambda app, build: state.update(released=build),
    }
    return World(salt=functions, state=state)


def _buildable(tmp_path: Path) -> World:
    return world()


CONTRACTS = {
    "present": Contract(
        arguments={"name": "demo"},
        world=_buildable,
        broken_world=lambda tmp_path: world("requirements.txt is not a lock"),
        reason="is not a lock",
    )
}
