"""A host with one daemon."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.unit.contracts import Contract, World

STOPPED = {
    "exists": True,
    "active": False,
    "enabled": False,
    "masked": False,
    "failed": False,
    "waiting_socket": None,
    "need_daemon_reload": False,
    "can_reload": True,
    "state": "inactive/dead, result success",
    "stale": [],
    "stale_unit_files": [],
    "missing": [],
    "recorded": False,
}


def world(broken: str = "", **status: Any) -> World:
    """Return a host with a daemon in this status; its systemctl fails with the text ``broken``."""
    state: dict[str, Any] = {**STOPPED, **status}
    calls: list[str] = []
    state["calls"] = calls

    def inspect(name: str, inputs: list[str] | None = None, known: dict[str, str] | None = None) -> dict[str, Any]:
        return {key: value for key, value in state.items() if key != "calls"}

    def change(call: str, **values: Any) -> str:
        if not broken:
            calls.append(call)
            state.update(values)
        return broken

    fresh = {"stale": [], "stale_unit_files": [], "need_daemon_reload": False, "recorded": True}
    functions = {
        "daemon.inspect": inspect,
        "daemon.in_job": lambda: False,
        "daemon.adopt": lambda name, inputs=None: state.update(recorded=True),
        "daemon.act": lambda name, action, inputs=None, timeout=60, by=None, proof=None: change(
            action, active=True, **fresh
        ),
        "daemon.reload_systemd": lambda: change("daemon-reload", need_daemon_reload=False),
        "daemon.enable": lambda name: change("enable", enabled=True),
        "daemon.unread": lambda paths: {"web.service": state["stale"]} if state["stale"] else {},
        "daemon.reread": lambda unit, inputs, timeout=60: change("reread", stale=[]),
        "daemon.stop": lambda name, timeout=60: change("stop", active=False, enabled=False, failed=False),
    }
    return World(salt=functions, state=state)


def _running_world(tmp_path: Path) -> World:
    return world()


def _dead_world(tmp_path: Path) -> World:
    return world(active=True, enabled=True)


CONTRACTS = {
    "running": Contract(
        arguments={"name": "redis-server", "inputs": ["/etc/redis/redis.conf"]},
        world=_running_world,
        broken_world=lambda tmp_path: world("redis-server.service: bad directive"),
        reason="bad directive",
    ),
    "reread": Contract(
        arguments={"name": "who reads certificates", "paths": ["/etc/saltern/tls"]},
        world=lambda tmp_path: world(active=True, stale=["/etc/saltern/tls"]),
        broken_world=lambda tmp_path: world("reload failed", active=True, stale=["/etc/saltern/tls"]),
        reason="reload failed",
    ),
    "dead": Contract(
        arguments={"name": "redis-server"},
        world=_dead_world,
        broken_world=lambda tmp_path: world("it did not stop within 60 s", active=True),
        reason="did not stop",
    ),
}
