"""Streaming replicas of PostgreSQL."""

from __future__ import annotations

import os
import time
from typing import Any

from salt.exceptions import CommandExecutionError

ROLE = "saltern_replication"
LIMITS = ("max_connections", "max_worker_processes", "max_locks_per_transaction")
ANEW = "Copy it anew: salt-call pgreplica.discard; then salt-call state.apply postgres on {primary}, and here."


def let_in(name: str, replicas: list[dict[str, Any]], port: int) -> dict[str, Any]:
    """On the primary: keep a role to copy with and one slot for each replica, and nothing without replicas.

    The password comes from the pillar (``secrets:replication_password``); only its SCRAM verifier is sent.

    Args:
        name: Any text.
        replicas: ``wiring.postgres.replicas`` of the pillar: ``host`` and ``slot`` each.
        port: The server's port.

    Returns:
        Salt's result.

    Example:
        .. code-block:: yaml

            replicas:
              pgreplica.let_in:
                - replicas: [{host: db2, slot: saltern_db2, address: 10.0.0.5/32}]
                - port: 5432
    """
    try:
        current = __salt__["pgreplica.slots"](port)
    except CommandExecutionError as error:
        return _result(name, False, {}, str(error))
    if current["server"] != "up" and not __opts__["test"]:
        return _result(name, False, {}, f"PostgreSQL does not answer on port {port}. See: journalctl -u 'postgresql@*'")
    if current["server"] == "down":
        return _result(name, None, {}, "The server does not run; it would be started, and its replicas compared.")
    steps = __salt__["pgreplica.plan_slots"](replicas, current["slots"])
    secrets = __pillar__.get("secrets", {})
    password = secrets.get("replication_password")
    if replicas and password is None and not __pillar__["wiring"]["postgres"]["replicas"]:
        pass  # they are leaving, and log in until they have gone
    elif replicas:
        if not isinstance(password, str):
            return _result(name, False, {}, "the pillar has no secrets:replication_password for this host")
        slot = secrets.get("logins", {}).get("replication", 1)
        logins = __salt__["pg.logins"](ROLE, password, slot, secrets.get("previous", {}).get("replication_password"))
        new = "can copy the whole cluster, and change nothing"
        steps = __salt__["pg.plan_logins"](current["roles"], logins, os.urandom(16), new) + steps
    else:
        steps += __salt__["pgreplica.plan_end_of_roles"](current["roles"])
    changes = {step["subject"]: {"old": step["old"], "new": step["new"]} for step in steps}
    if not steps:
        return _result(name, True, {}, f"{len(replicas)} replicas, and what they need is there.")
    if __opts__["test"]:
        return _result(name, None, changes, f"{len(steps)} would be changed.")
    problem = __salt__["pg.execute"](steps, port)
    if problem:
        return _result(name, False, {}, problem)
    return _result(name, True, changes, f"{len(steps)} changed.")


def present(name: str, version: int, primary: dict[str, Any], replica: str, limits: dict[str, Any]) -> dict[str, Any]:
    """On a replica: a copy of the primary's cluster, made once. It is not started here.

    Data that are no copy are never touched: a host that was a primary is refused.

    Args:
        name: The cluster's name, ``main``.
        version: PostgreSQL's major version.
        primary: ``wiring.postgres.primary`` of the pillar.
        replica: This host's id.
        limits: What postgresql.conf will have here; those of ``LIMITS`` are compared.

    Returns:
        Salt's result.

    Example:
        .. code-block:: yaml

            main:
              pgreplica.present:
                - version: 17
                - primary: {{ pillar['wiring']['postgres']['primary'] | json }}
                - replica: db2
                - limits: {max_connections: 100, max_worker_processes: 8, max_locks_per_transaction: 64}
    """
    status, unit = __salt__["pgreplica.cluster"](version, name), f"cluster {version}/{name}"
    if status["standby"]:
        return _result(name, True, {}, f"{unit} is a copy.")
    if status["data"]:
        directory = f"/var/lib/postgresql/{version}/{name}"
        return _result(
            name,
            False,
            {},
            f"{unit} has data of its own and is no copy of {primary['host']}: this host was a primary. Nothing was"
            f" touched. When you are sure that nobody needs them: systemctl stop postgresql@{version}-{name},"
            f" mv {directory} {directory}.old, and apply again.",
        )
    changes = {unit: {"old": "half copied" if status["partial"] else None, "new": f"copied from {primary['host']}"}}
    if __opts__["test"]:
        return _result(name, None, changes, f"{unit} would be copied from {primary['host']}.")
    problem = _refusal(__salt__["pgreplica.ask_primary"](version, primary, replica), version, primary, limits)
    problem = problem or __salt__["pgreplica.clone"](version, name, primary, replica)
    if problem:
        return _result(name, False, {}, problem)
    return _result(name, True, changes, f"{unit} was copied from {primary['host']}.")


def _refusal(asked: dict[str, Any], version: int, primary: dict[str, Any], limits: dict[str, Any]) -> str:
    """Return why a copy of this primary would not start here, before hours are spent on making it."""
    host = primary["host"]
    if asked["error"]:
        return f"{host} does not let this host copy it; apply the states there first. It says: {asked['error']}"
    if not asked["slot"]:
        return f"{host} has no slot {primary['slot']}; apply the states there first."
    if asked["major"] != version:
        return f"{host} has PostgreSQL {asked['major']}, and this host {version}: both need the same Debian release."
    small = [limit for limit in LIMITS if int(limits[limit]) < asked[limit]]
    return " ".join(
        f"{limit} is {limits[limit]} here and {asked[limit]} on {host}; a replica needs as much: give this host as much"
        f" memory and as many CPUs, or set postgres.{'max_connections' if limit in LIMITS[:1] else 'memory_mb'} in"
        " settings.yaml."
        for limit in small
    )


def following(name: str, version: int, primary: dict[str, Any], port: int, timeout: float = 30) -> dict[str, Any]:
    """On a replica that runs: it is in recovery, follows the primary, and WAL streams.

    Replay that was paused by hand goes on. What else is wrong is told with its reason, and is not repaired: a copy
    that has fallen off has to be made anew, and no apply removes data by itself.

    Args:
        name: This host's id.
        version: PostgreSQL's major version.
        primary: ``wiring.postgres.primary`` of the pillar.
        port: This server's port.
        timeout: How long it may take to begin to stream, in seconds.

    Returns:
        Salt's result.

    Example:
        .. code-block:: yaml

            db2:
              pgreplica.following:
                - version: 17
                - primary: {{ pillar['wiring']['postgres']['primary'] | json }}
                - port: 5432
    """
    host = primary["host"]
    try:
        found = _settled(primary, port, 0 if __opts__["test"] else timeout)
    except CommandExecutionError as error:
        return _result(name, False, {}, str(error))
    if found["server"] != "up":
        if __opts__["test"]:
            return _result(name, True, {}, f"The server does not run; whether it follows {host} is asked when it does.")
        return _result(name, False, {}, f"PostgreSQL does not answer on port {port}. See: journalctl -u 'postgresql@*'")
    if not _streams(found, primary):
        asked = __salt__["pgreplica.ask_primary"](version, primary, name)
        log = __salt__["pgreplica.log"](version, "main")
        reason, anew = __salt__["pgreplica.fault"](found, primary, asked, log)
        remedy = f" {ANEW.format(primary=host)}" if anew else ""
        return _result(name, False, {}, f"The replica does not follow: {reason}.{remedy}")
    if not found["paused"]:
        return _result(name, True, {}, f"It follows {host}.")
    changes = {"replay": {"old": "paused", "new": "goes on"}}
    if __opts__["test"]:
        return _result(name, None, changes, "Replay is paused; it would go on.")
    problem = __salt__["pgreplica.resume"](port)
    return _result(name, not problem, {} if problem else changes, problem or "Replay was paused, and goes on.")


def _settled(primary: dict[str, Any], port: int, timeout: float) -> dict[str, Any]:
    """Return the replica's status as soon as WAL streams, or as it is after the timeout."""
    deadline = time.monotonic() + timeout
    while True:
        found: dict[str, Any] = __salt__["pgreplica.receiving"](port)
        done = found["server"] != "up" or _streams(found, primary)
        if done or time.monotonic() >= deadline:
            return found
        time.sleep(0.2)


def _streams(found: dict[str, Any], primary: dict[str, Any]) -> bool:
    return bool(found["status"] == "streaming" and found["sender"] == primary["name"] and found["steady"])


def _result(name: str, result: bool | None, changes: dict[str, Any], comment: str) -> dict[str, Any]:
    return {"name": name, "result": result, "changes": changes, "comment": comment}
