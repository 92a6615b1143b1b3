"""A host with an installed release whose static files are not collected and whose database is not migrated."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from salt.exceptions import CommandExecutionError

from tests.unit.contracts import Contract, World

RELEASE = "6f1d3c0a9b2e-2fcc3ffb"


def world(problem: str = "") -> World:
    state: dict[str, Any] = {"collected": None, "pending": None}

    def change(name: str, answer: Any) -> Any:
        if problem:
            raise CommandExecutionError(problem)
        state[name] = []
        return answer

    functions: dict[str, Callable[..., Any]] = {
        "release.desired": lambda app: {"id": RELEASE},
        "release.active": lambda app: None,
        "django.static_missing": lambda app, release: state["collected"],
        "django.collect_static": lambda app, release: change("collected", None),
        "django.missing": lambda app, release: state["pending"],
        "django.migrate": lambda app, release: change("pending", ["notes.0001_initial"]),
    }
    return World(salt=functions, state=state)


def _good(tmp_path: Path) -> World:
    return world()


def _broken(tmp_path: Path) -> World:
    return world("the reason")


CONTRACTS = {
    "static_collected": Contract({"name": "demo"}, _good, _broken, "the reason"),
    "migrated": Contract({"name": "demo"}, _good, _broken, "the reason"),
}
