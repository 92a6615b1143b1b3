"""A host on which the account of a service is somebody's who could log in."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from salt.exceptions import CommandExecutionError

from tests.unit.contracts import Contract, World


def world(problem: str = "") -> World:
    state: dict[str, Any] = {"home": "/var/lib/apps/demo"}

    def make(name: str) -> None:
        if problem:
            raise CommandExecutionError(problem)
        state.update(home="/nonexistent")

    def differences(name: str) -> dict[str, Any]:
        wanted = "/nonexistent"
        return {} if state["home"] == wanted else {"home": {"old": state["home"], "new": wanted}}

    functions = {"account.service_differences": differences, "account.make_service": make}
    return World(salt=functions, state=state)


def _to_change(tmp_path: Path) -> World:
    return world()


CONTRACTS = {
    "service": Contract(
        arguments={"name": "app-demo"},
        world=_to_change,
        broken_world=lambda tmp_path: world("usermod ...: exit code 1"),
        reason="exit code 1",
    )
}
