"""A host with a PostgreSQL cluster, or without one."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

from saltern.postgres import pgplan, pgroles, scram
from tests.unit.contracts import Contract, World, load

CLIENTS = [{"app": "demo", "database": "demo", "user": "demo", "owner": "demo_owner", "address": "127.0.0.1/32"}]
PILLAR = {"secrets": {"apps": {"demo": {"database_password": "secret of demo", "owner_password": "secret of owner"}}}}


GROUPS = [[group, "postgres", ""] for group in pgroles.READER_GROUPS]
GUARD_GROUPS = [[group, "postgres", ""] for group in pgroles.GUARD_GROUPS]


def pg() -> ModuleType:
    """Return the execution module pg."""
    return load("_modules", "pg")


def converged(password: str = "secret of demo") -> dict[str, Any]:
    """Return a server on which everything is as it should be."""
    attributes = {column: on for column, (_, on) in pgroles.ATTRIBUTES.items()}
    role = {**attributes, "rolconnlimit": -1, "expires": None, "member_of": [], "dependents": 2, "armed": True}
    roles = {
        name: {**role, "rolpassword": scram.verifier(text, b"0123456789abcdef")}
        for name, text in (("demo", password), ("demo_owner", "secret of owner"))
    }
    roles["saltern_reader"] = {**role, "member_of": GROUPS, "rolpassword": None}
    roles["saltern_guard"] = {**role, "member_of": GUARD_GROUPS, "rolpassword": None, "rolconnlimit": 2}
    roles["postgres"] = {**role, "rolsuper": True, "rolpassword": None}
    settings = [
        {"role": who, "database": "", "setting": f"{name}={stored}"}
        for who in ("postgres", "saltern_reader", "saltern_guard")
        for name, (stored, _) in pgroles.OWN_SETTINGS.items()
    ]
    database = {
        "owner": "demo_owner",
        "allows_connections": True,
        "connection_limit": -1,
        "grants": [
            *(("demo_owner", what) for what in ("CONNECT", "CREATE", "TEMPORARY")),
            ("demo", "CONNECT"),
            ("saltern_reader", "CONNECT"),
        ],
        "public_schema": {"owner": "pg_database_owner", "writers": ["pg_database_owner"]},
        "extensions": ["plpgsql"],
        "others": {"rights": [], "default_rights": [], "strangers": []},
        "objects": {
            "owned_by_app": 0,
            "strays": [],
            "closed": [],
            "closed_schemas": [],
            "default_privileges": sorted(pgplan.default_privileges()),
        },
    }
    current = {"server": "up", "checksums": True, "roles": roles, "settings": settings}
    return {**current, "shared": {"rights": [], "reader": True}, "databases": {"demo": database}}


def server(broken: str = "", **current: Any) -> World:
    """Return a host whose server has this; its SQL fails with the text ``broken``."""
    state = {"server": "up", "checksums": True, "roles": {}, "settings": [], "databases": {}, **current}

    def execute(steps: list[dict[str, Any]], port: int) -> str:
        if not broken:
            state.update(converged())
        return broken

    functions = {
        "pg.wanted": pgplan.wanted,
        "pg.plan": pg().plan,
        "pg.logins": pg().logins,
        "pg.databases": lambda wanted, port, extra_roles=None: state,
        "pg.execute": execute,
    }
    return World(salt=functions, state=state, pillar=PILLAR)


def cluster(broken: str = "", **status: bool) -> World:
    """Return a host whose cluster has this status."""
    state = {"config": False, "data": False, "interrupted": False, "standby": False, **status}

    def create(major: int, name: str, port: int) -> str:
        if not broken:
            state.update(config=True, data=True, interrupted=False)
        return broken

    return World(salt={"pg.cluster_status": lambda major, name: state, "pg.create_cluster": create}, state=state)


def _bare_server(tmp_path: Path) -> World:
    return server()


def _bare_cluster(tmp_path: Path) -> World:
    return cluster()


CONTRACTS = {
    "cluster_present": Contract(
        arguments={"name": "main", "version": 17, "port": 5432},
        world=_bare_cluster,
        broken_world=lambda tmp_path: cluster("pg_createcluster failed: no space left"),
        reason="no space left",
    ),
    "databases_present": Contract(
        arguments={"name": "databases", "clients": CLIENTS, "port": 5432},
        world=_bare_server,
        broken_world=lambda tmp_path: server("role demo: permission denied"),
        reason="permission denied",
    ),
}
