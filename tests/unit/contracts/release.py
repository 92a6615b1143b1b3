"""A host with one release of an app, and another that is wanted."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from salt.exceptions import CommandExecutionError

from tests.unit.contracts import Contract, World

OLD, NEW = "000000000000-00000000", "6f1d3c0a9b2e-2fcc3ffb"


def world(problem: str = "") -> World:
    """Return a host on which every step that changes something fails with the text ``problem``, if there is one."""
    state: dict[str, Any] = {"staged": [OLD], "active": OLD, "apps": ["demo", "gone"]}

    def step(change: Callable[[], Any]) -> Callable[..., None]:
        def run(*_: Any) -> None:
            if problem:
                raise CommandExecutionError(problem)
            change()

        return run

    def status(app: str) -> dict[str, Any]:
        problems = [] if state["active"] == NEW else [f"{state['active']} is active"]
        return {"desired": NEW, "active": state["active"], "problems": problems}

    functions: dict[str, Callable[..., Any]] = {
        "release.desired": lambda app: {"id": NEW, "build": NEW[:12]},
        "release.active": lambda app: state["active"],
        "release.is_staged": lambda app, release: release in state["staged"],
        "release.stage": step(lambda: state["staged"].append(NEW)),
        "release.status": status,
        "release.activate": step(lambda: state.update(active=NEW)),
        "release.orphans": lambda apps: sorted(set(state["apps"]) - set(apps)),
        "release.remove": step(lambda: state["apps"].remove("gone")),
    }
    return World(salt=functions, state=state)


def host_with_unit(tmp_path: Path, problem: str = "") -> World:
    """Return a host whose unit is an old one."""
    unit = tmp_path / "app-demo@.service"
    unit.write_text("old")
    unit.chmod(0o644)

    def write(app: str) -> None:
        if problem:
            raise CommandExecutionError(problem)
        unit.write_text("new")

    functions = {"release.unit_files": lambda app: {str(unit): "new"}, "release.write_unit_files": write}
    return World(salt=functions)


def _good(tmp_path: Path) -> World:
    return world()


def _broken(tmp_path: Path) -> World:
    return world("the reason")


CONTRACTS = {
    "unit_present": Contract({"name": "demo"}, host_with_unit, lambda path: host_with_unit(path, "full"), "full"),
    "staged": Contract({"name": "demo"}, _good, _broken, "the reason"),
    "active": Contract({"name": "demo"}, _good, _broken, "the reason"),
    "only": Contract({"name": "no other app runs here", "apps": ["demo"]}, _good, _broken, "the reason"),
}
