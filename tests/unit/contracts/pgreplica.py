"""A primary with nothing for its replica, a replica without a copy, and one whose replay was paused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from saltern.postgres import pgroles, scram
from tests.unit.contracts import Contract, World, load
from tests.unit.contracts.pg import pg

pgroles, scram = pgroles, scram
pgreplica = load("_modules", "pgreplica")

PRIMARY = {"host": "db1", "name": "db1.x.test", "address": "10.0.0.4", "port": 5432, "slot": "saltern_db2"}
PRIMARY["user"] = "saltern_replication"
REPLICAS = [{"host": "db2", "slot": "saltern_db2", "address": "10.0.0.5/32"}]
LIMITS = {"max_connections": "50", "max_worker_processes": "8", "max_locks_per_transaction": "64"}
PASSWORD = "a-good-long-password"
ANSWER = {"error": "", "system": "7", "major": 17, **{name: int(value) for name, value in LIMITS.items()}, "slot": True}
FOLLOWS = {"server": "up", "in_recovery": True, "paused": False, "system": "7", "status": "streaming"}
FOLLOWS |= {"sender": "db1.x.test", "steady": True}


def primary(broken: str = "") -> World:
    """Return a primary without role and slots; its SQL fails with the text ``broken``."""
    state: dict[str, Any] = {"server": "up", "slots": [], "roles": {}}

    def execute(steps: list[dict[str, Any]], port: int) -> str:
        if not broken:
            attributes = {column: on for column, (_, on) in pgroles.ATTRIBUTES.items()} | {"rolreplication": True}
            verifier = scram.verifier(PASSWORD, b"0123456789abcdef")
            state["roles"]["saltern_replication"] = {
                **attributes,
                "rolconnlimit": -1,
                "expires": None,
                "member_of": [],
                "rolpassword": verifier,
            }
            state["slots"] = [{"name": "saltern_db2", "active_pid": None, "lost": False}]
        return broken

    functions = {
        "pgreplica.slots": lambda port: state,
        "pgreplica.plan_slots": pgreplica.plan_slots,
        "pgreplica.plan_end_of_roles": pgreplica.plan_end_of_roles,
        "pg.logins": pg().logins,
        "pg.plan_logins": pg().plan_logins,
        "pg.execute": execute,
    }
    return World(salt=functions, state=state, pillar={"secrets": {"replication_password": PASSWORD}})


def replica(broken: str = "", answer: dict[str, Any] | None = None, **status: bool) -> World:
    """Return a replica whose data are like this; its copy fails with the text ``broken``."""
    state = {"data": False, "standby": False, "partial": False, **status}

    def clone(major: int, name: str, primary: dict[str, Any], replica: str) -> str:
        if not broken:
            state.update(data=True, standby=True, partial=False)
        return broken

    functions = {
        "pgreplica.cluster": lambda major, name: state,
        "pgreplica.ask_primary": lambda major, primary, replica: ANSWER | (answer or {}),
        "pgreplica.clone": clone,
    }
    return World(salt=functions, state=state)


def follower(log: str = "", **found: Any) -> World:
    """Return a replica that runs, and is like this."""
    state = {**FOLLOWS, **found}

    def resume(port: int) -> str:
        state["paused"] = False
        return ""

    functions = {
        "pgreplica.receiving": lambda port: state,
        "pgreplica.ask_primary": lambda major, primary, replica: ANSWER,
        "pgreplica.fault": pgreplica.fault,
        "pgreplica.log": lambda major, name: log,
        "pgreplica.resume": resume,
    }
    return World(salt=functions, state=state)


def _bare_primary(tmp_path: Path) -> World:
    return primary()


def _bare_replica(tmp_path: Path) -> World:
    return replica()


CONTRACTS = {
    "let_in": Contract(
        arguments={"name": "replicas", "replicas": REPLICAS, "port": 5432},
        world=_bare_primary,
        broken_world=lambda tmp_path: primary("slot saltern_db2: all replication slots are in use"),
        reason="all replication slots are in use",
    ),
    "present": Contract(
        arguments={"name": "main", "version": 17, "primary": PRIMARY, "replica": "db2", "limits": LIMITS},
        world=_bare_replica,
        broken_world=lambda tmp_path: replica("pg_basebackup failed: no space left"),
        reason="no space left",
    ),
    "following": Contract(
        arguments={"name": "db2", "version": 17, "primary": PRIMARY, "port": 5432, "timeout": 0},
        world=lambda tmp_path: follower(paused=True),
        broken_world=lambda tmp_path: follower("WAL segment 1 has already been removed", steady=False),
        reason="salt-call pgreplica.discard",
    ),
}
