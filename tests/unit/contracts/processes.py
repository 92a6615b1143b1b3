"""A host on which one process is of an older release and another should be gone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from salt.exceptions import CommandExecutionError

from tests.unit.contracts import Contract, World


def world(problem: str = "") -> World:
    """Return a host on which every step that changes something fails with the text ``problem``, if there is one."""
    wrong = {"worker": ["release r1 is active", "release r2 is inactive"], "old": ["it is here, and shall not be"]}
    state: dict[str, Any] = {"problems": wrong, "apps": ["demo", "gone"]}

    def step(**change: Any) -> None:
        if problem:
            raise CommandExecutionError(problem)
        state.update(change)

    functions = {
        "processes.status": lambda app: {"release": "r2", "problems": dict(state["problems"])},
        "processes.converge": lambda app: step(problems={}),
        "processes.orphans": lambda apps: sorted(set(state["apps"]) - set(apps)),
        "processes.remove": lambda app: step(apps=["demo"]),
    }
    return World(salt=functions, state=state)


def _good(tmp_path: Path) -> World:
    return world()


def _broken(tmp_path: Path) -> World:
    return world("the reason")


CONTRACTS = {
    "running": Contract({"name": "demo"}, _good, _broken, "the reason"),
    "only": Contract({"name": "no other app has processes", "apps": ["demo"]}, _good, _broken, "the reason"),
}
