"""PostgreSQL clusters and databases."""

from __future__ import annotations

import os
from typing import Any

from salt.exceptions import CommandExecutionError

__virtualname__ = "pg"


def cluster_present(name: str, version: int, port: int) -> dict[str, Any]:
    """Create a cluster, with data checksums, in UTF-8.

    An existing cluster is left as it is. It is not started here; that is ``daemon.running``'s work.

    Args:
        name: The cluster's name, ``main``.
        version: PostgreSQL's major version.
        port: The TCP port.

    Returns:
        Salt's result.

    Example:
        .. code-block:: yaml

            main:
              pg.cluster_present:
                - version: 17
                - port: 5432
                - require: [{pkg: postgresql-17}]
    """
    status = __salt__["pg.cluster_status"](version, name)
    unit = f"cluster {version}/{name}"
    if status["standby"]:
        return _result(
            name,
            False,
            {},
            f"{unit} is a replica, and the fleet has this host as the primary. Nothing was touched: put replica_of"
            ' back, or make it the primary (docs/roles/postgres.md, "When the primary is lost").',
        )
    if status["config"] and status["data"] and not status["interrupted"]:
        return _result(name, True, {}, f"{unit} is there.")
    if status["config"] != status["data"] and not status["interrupted"]:
        have, lack = ("/etc", "/var/lib") if status["config"] else ("/var/lib", "/etc")
        return _result(
            name,
            False,
            {},
            f"{unit} has {have}/postgresql/{version}/{name} but not {lack}/postgresql/{version}/{name}. Nothing was"
            " touched, because it may hold data: put the missing part back, or move what is there out of the way.",
        )
    changes = {unit: {"old": "half made" if status["interrupted"] else None, "new": "created"}}
    if __opts__["test"]:
        return _result(name, None, changes, f"{unit} would be created.")
    problem = __salt__["pg.create_cluster"](version, name, port)
    if problem:
        return _result(name, False, {}, problem)
    return _result(name, True, changes, f"{unit} was created.")


def databases_present(
    name: str,
    clients: list[dict[str, Any]],
    port: int,
    extensions: dict[str, list[str]] | None = None,
    extra_roles: list[str] | None = None,
    leaving: list[dict[str, Any]] | None = None,
) -> dict[str, Any]:
    """Give each app one database, a role that owns and migrates it and a role that works in it; keep others out.

    Both roles can log in and have no other attribute and no membership. While a password is replaced, each has a double
    that can log in as well. Other roles of the server can do nothing, or go. CONNECT is revoked from PUBLIC, schema
    ``public`` belongs to the owner and nobody else can write to it. The app's role owns nothing: it may read and write
    what the owner makes. All drift from that is repaired, and a database that the app's role owned is moved over. The
    passwords come from the pillar (``secrets:apps:<app>:database_password`` and ``owner_password``) and only their
    SCRAM verifiers are sent. Databases of apps that are no longer in the fleet are kept; pg_hba.conf no longer lets
    anyone reach them.

    Args:
        name: Any text.
        clients: ``wiring.postgres.clients`` of the pillar: ``app``, ``database``, ``user`` and ``owner`` each.
        port: The server's port.
        extensions: For each app the extensions of its database.
        extra_roles: Roles that migrations grant rights to; they cannot log in.
        leaving: As ``clients``, of apps that the fleet has no more but of which something may still run: their roles
            are left as they are.

    Returns:
        Salt's result; ``changes`` by role and database, never with a password.

    Example:
        .. code-block:: yaml

            databases:
              pg.databases_present:
                - clients: {{ pillar['wiring']['postgres']['clients'] | json }}
                - port: {{ pillar['postgres']['port'] }}
    """
    try:
        databases = __salt__["pg.wanted"](clients, extensions)
        passwords = {role: password for entry in databases.values() for role, password in _logins(entry).items()}
        kept = list(__salt__["pg.wanted"](leaving or []).values())
        current = __salt__["pg.databases"](databases, port, extra_roles)
    except (CommandExecutionError, ValueError) as error:
        return _result(name, False, {}, str(error))

    if current["server"] != "up" and not __opts__["test"]:
        return _result(name, False, {}, f"PostgreSQL does not answer on port {port}. See: journalctl -u 'postgresql@*'")
    if current["server"] == "down":
        return _result(name, None, {}, "The server does not run; it would be started, and its databases compared.")

    salts = {role: os.urandom(16) for role in passwords}
    steps = __salt__["pg.plan"](databases, current, passwords, salts, extra_roles, kept)
    changes = {step["subject"]: {"old": step["old"], "new": step["new"]} for step in steps}
    warnings = _warnings(current)
    if not steps:
        return _result(name, True, {}, "All databases and roles are as they should be.") | warnings
    if __opts__["test"]:
        return _result(name, None, changes, f"{len(steps)} would be changed.") | warnings
    problem = __salt__["pg.execute"](steps, port)
    if problem:
        return _result(name, False, {}, problem)
    return _result(name, True, changes, f"{len(steps)} changed.") | warnings


def _logins(entry: dict[str, Any]) -> dict[str, str | None]:
    """Return the password of each login role of an app; None for one that is closed."""
    found: dict[str, str | None] = {}
    for key, name in (("user", "database"), ("owner", "owner")):
        password, held = _password(entry["app"], f"{name}_password"), __pillar__["secrets"]["apps"][entry["app"]]
        slot, previous = held.get("logins", {}).get(name, 1), held.get("previous", {}).get(f"{name}_password")
        found |= __salt__["pg.logins"](entry[key], password, slot, previous)
    return found


def _password(app: str, key: str) -> str:
    try:
        password = __pillar__["secrets"]["apps"][app][key]
    except KeyError:
        password = None
    if not password or not isinstance(password, str):
        raise ValueError(f"the pillar has no secrets:apps:{app}:{key} for this host")
    return password


def _warnings(current: dict[str, Any]) -> dict[str, list[str]]:
    if current["checksums"] is not False:
        return {}
    text = "This cluster has no data checksums: damage on disk goes unnoticed. Stop it and run pg_checksums --enable."
    return {"warnings": [text]}


def _result(name: str, result: bool | None, changes: dict[str, Any], comment: str) -> dict[str, Any]:
    return {"name": name, "result": result, "changes": changes, "comment": comment}
