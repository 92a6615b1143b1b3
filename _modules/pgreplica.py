"""Streaming replicas of PostgreSQL: what the primary keeps for them, how a copy is made, and whether it follows.

A replica's data directory appears whole, by a rename, or not at all; no function here writes into one that is there.
Which host is the primary is decided by the fleet (``wiring.replication``) and nowhere else.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

from saltern.postgres import pgconf

CLUSTERS = Path("/var/lib/postgresql")
PASSFILE = "/etc/postgresql/replication.pass"
#: Beside postgresql.conf, on a replica: what is read anew without a restart when the password's role is another one.
PRIMARY_FILE = "primary.conf"
CA_FILE = "/etc/saltern/tls/ca.crt"
ROLE = "saltern_replication"

#: Slots with such names are ours: one that no replica of the fleet has is dropped.
SLOT_PREFIX = "saltern_"

#: A server refuses to be a replica with less of these than its primary has (PostgreSQL manual, 26.4.3).
LIMITS = ("max_connections", "max_worker_processes", "max_locks_per_transaction")

SECONDS_TO_ANSWER = 10


# Pure functions.


def conninfo(primary: dict[str, Any], replica: str) -> str:
    """Return how a replica connects to its primary; the password is in a file.

    Args:
        primary: ``wiring.postgres.primary`` of the pillar: ``name``, ``address``, ``port`` and ``user``.
        replica: The replica's host id, by which the primary shows it.

    Returns:
        A connection string of libpq.

    Example:
        >>> primary = {"name": "db1.x.test", "address": "10.0.0.4", "port": 5432, "user": "saltern_replication"}
        >>> conninfo(primary, "db2").split()[0]
        "host='db1.x.test'"
    """
    values = {
        # The name is what TLS verifies; the address spares a look-up, and a resolver cannot send it elsewhere.
        "host": primary["name"],
        "hostaddr": primary["address"],
        "port": primary["port"],
        "user": primary["user"],
        "passfile": PASSFILE,
        "sslmode": "verify-full",
        "sslrootcert": CA_FILE,
        "channel_binding": "require",
        "application_name": replica,
        "connect_timeout": SECONDS_TO_ANSWER,
    }
    return " ".join(f"{key}='{value}'" for key, value in values.items())


def passfile_entry(primary: dict[str, Any]) -> str:
    """Return the line for :func:`conninfo` in a password file, but for the password (PostgreSQL manual, 34.16).

    The state puts the password after it: salt-ssh gives a function its arguments on a command line.

    Args:
        primary: As for :func:`conninfo`.

    Returns:
        The line up to the password.

    Example:
        >>> passfile_entry({"name": "db1.x.test", "port": 5432, "user": "saltern_replication"})
        'db1.x.test:5432:replication:saltern_replication:'
    """
    return f"{primary['name']}:{primary['port']}:replication:{primary['user']}:"


def settings(primary: dict[str, Any], directory: str) -> dict[str, Any]:
    """Return what postgresql.conf has on a replica beyond what every server has.

    Args:
        primary: As for :func:`conninfo`, and ``slot``.
        directory: Where postgresql.conf is.

    Returns:
        Settings by name.

    Example:
        salt-call pgreplica.settings '{name: db1.x.test, ..., slot: saltern_db2}' /etc/postgresql/17/main
    """
    return {
        "include_if_exists": f"{directory}/{PRIMARY_FILE}",
        "primary_slot_name": primary["slot"],
        "hot_standby": True,
        # The primary keeps rows that a query here still reads; else vacuum there would end the query here.
        "hot_standby_feedback": True,
        # A primary that is gone is noticed, and called again, within seconds.
        "wal_receiver_timeout": "10s",
        "wal_retrieve_retry_interval": "1s",
    }


def plan_slots(replicas: list[dict[str, Any]], slots: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the steps by which the primary has one slot for each replica, and none for others.

    A new slot keeps no WAL until its replica has connected: one that never comes costs nothing. A slot that has lost
    WAL is of no use any more and is made anew, so that a replica can be copied again.

    Args:
        replicas: ``wiring.postgres.replicas`` of the pillar: ``host`` and ``slot`` each.
        slots: From :func:`slots`.

    Returns:
        Steps as ``pg.plan``.

    Example:
        >>> plan_slots([{"host": "db2", "slot": "saltern_db2"}], [])[0]["subject"]
        'slot saltern_db2'
    """
    wanted = {replica["slot"]: replica["host"] for replica in replicas}
    there = {slot["name"]: slot for slot in slots}
    steps = []
    for name, host in wanted.items():
        create = ["SELECT pg_catalog.pg_create_physical_replication_slot(", {"literal": name}, ")"]
        if name not in there:
            steps.append(_step(name, None, f"for {host}", create))
        elif there[name]["lost"]:
            steps.append(_step(name, f"lost: {host} was away for too long", f"for {host}", *_drop(there[name]), create))
    for name in sorted(set(there) - set(wanted)):
        steps.append(_step(name, "of a host that is no replica now", None, *_drop(there[name])))
    return steps


def _drop(slot: dict[str, Any]) -> list[list[Any]]:
    # A replica that still reads from it comes back by itself, to the new one.
    end = (
        [["SELECT pg_catalog.pg_terminate_backend(", {"literal": slot["active_pid"]}, ", 5000)"]]
        if slot["active_pid"]
        else []
    )
    return [*end, ["SELECT pg_catalog.pg_drop_replication_slot(", {"literal": slot["name"]}, ")"]]


def _step(slot: str, old: Any, new: Any, *statements: list[Any]) -> dict[str, Any]:
    where = {"database": "postgres", "statements": list(statements), "atomic": False}
    return {"subject": f"slot {slot}", "old": old, "new": new, **where}


def plan_end_of_roles(there: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the steps by which there is no replication role, in a fleet without replicas.

    Args:
        there: What ``pg.roles`` found of it and of its double.

    Returns:
        Steps as ``pg.plan``.

    Example:
        >>> plan_end_of_roles({})
        []
    """
    steps = []
    for role in sorted(there):
        step = {"subject": f"role {role}", "old": "can copy the cluster", "new": None, "database": "postgres"}
        steps.append({**step, "statements": [["DROP ROLE ", {"identifier": role}]], "atomic": False})
    return steps


def primary_conf(primary: dict[str, Any], replica: str) -> str:
    """Return the text of the file beside postgresql.conf that says whom a replica follows, and as which role.

    Args:
        primary: As for :func:`conninfo`.
        replica: The replica's host id.

    Returns:
        The whole file.

    Example:
        salt-call pgreplica.primary_conf '{name: db1.x.test, ...}' db2
    """
    text: str = pgconf.config({"primary_conninfo": conninfo(primary, replica)})
    return text


def fault(found: dict[str, Any], primary: dict[str, Any], asked: dict[str, Any], log: str) -> tuple[str, bool]:
    """Return why a replica does not follow, and whether only a new copy helps.

    Args:
        found: From :func:`receiving`.
        primary: ``wiring.postgres.primary`` of the pillar.
        asked: From :func:`ask_primary`.
        log: From :func:`log`.

    Returns:
        What is wrong, in words for people, and True when the copy is of no use any more.

    Example:
        >>> fault({"in_recovery": True}, {"host": "db1"}, {"error": "connection refused"}, "")
        ('it does not reach db1: connection refused', False)
    """
    host = primary["host"]
    if not found["in_recovery"]:
        return "the server runs as a primary of its own; it has not been restarted since it became a copy", False
    if asked["error"]:
        return f"it does not reach {host}: {asked['error']}", False
    if asked["system"] != found["system"]:
        return f"it is a copy of another cluster than the one on {host}", True
    if not asked["slot"]:
        return f"{host} has no slot {primary['slot']} for it; apply the states on {host} first", False
    if any(words in log for words in LOST):
        return f"{host} no longer has the WAL that it needs: it was away for too long (max_slot_wal_keep_size)", True
    if found["status"] == "streaming" and found["sender"] != primary["name"]:
        return f"it follows {found['sender']} and not {primary['name']}", False
    return f"{host} answers, but no WAL streams; see: journalctl -u 'postgresql@*'", False


# On the primary.


def slots(port: int) -> dict[str, Any]:
    """Return what a primary keeps for replicas.

    Args:
        port: The server's port.

    Returns:
        ``server`` (``up``, ``down`` or ``absent``), ``slots`` (``name``, ``active_pid`` and ``lost`` each) and
        ``roles`` (what ``pg.roles`` tells of the replication role and its double).

    Raises:
        CommandExecutionError: The server answers, but not to us.

    Example:
        salt-call pgreplica.slots 5432
    """
    found = __salt__["pg.select"]("slots", port, [SLOT_PREFIX])
    if isinstance(found, str):
        return {"server": found, "slots": [], "roles": {}}
    return {"server": "up", "slots": found, "roles": __salt__["pg.roles"]([ROLE, f"{ROLE}__2"], port)}


# On the replica.


# PostgreSQL's words for WAL that the primary has no more: up to 17, and from 18 on.
LOST = ("has already been removed", "can no longer access replication slot")


def receiving(port: int) -> dict[str, Any]:
    """Return whether this server follows another one.

    Args:
        port: The server's port.

    Returns:
        ``server`` (``up``, ``down`` or ``absent``); of one that is up ``in_recovery``, ``paused`` (replay was paused by
        hand), ``system`` (the identifier that a cluster and its copies share), ``status`` (``streaming`` when all is
        well), ``sender`` (whom it follows) and ``steady`` (whether it has for longer than it takes to be refused: a
        replica whose WAL is gone begins to stream anew each second).

    Raises:
        CommandExecutionError: The server answers, but not to us.

    Example:
        salt-call pgreplica.receiving 5432
    """
    found = __salt__["pg.select"]("receiving", port)
    return {"server": found} if isinstance(found, str) else {"server": "up", **found[0]}


def log(major: int, name: str) -> str:
    """Return what the server has written to the journal in the last half minute.

    Args:
        major: PostgreSQL's major version.
        name: The cluster's name.

    Returns:
        Lines.

    Example:
        salt-call pgreplica.log 17 main
    """
    argv = ["journalctl", f"--unit=postgresql@{major}-{name}", "--since=-30s", "--output=cat", "--no-pager"]
    return subprocess.run(argv, capture_output=True, text=True, check=False).stdout


def resume(port: int) -> str:
    """Let a replica go on whose replay was paused by hand.

    Args:
        port: The server's port.

    Returns:
        An empty string, or what went wrong.

    Example:
        salt-call pgreplica.resume 5432
    """
    step = {"subject": "replay", "database": "postgres", "statements": [["SELECT pg_catalog.pg_wal_replay_resume()"]]}
    return str(__salt__["pg.execute"]([{**step, "atomic": False}], port))


def cluster(major: int, name: str) -> dict[str, bool]:
    """Return what there is of a cluster's data.

    Args:
        major: PostgreSQL's major version.
        name: The cluster's name.

    Returns:
        ``data`` (anything at all), ``standby`` (they are a copy), ``partial`` (:func:`clone` was killed).

    Example:
        salt-call pgreplica.cluster 17 main
    """
    directory = CLUSTERS / str(major) / name
    return {
        "data": directory.exists() and any(directory.iterdir()),
        "standby": (directory / "standby.signal").exists(),
        "partial": _partial(directory).exists(),
    }


def _partial(directory: Path) -> Path:
    return directory.with_name(f"{directory.name}.cloning")


def ask_primary(major: int, primary: dict[str, Any], replica: str) -> dict[str, Any]:
    """Return what the primary says of itself to a replica.

    Args:
        major: PostgreSQL's major version here.
        primary: ``wiring.postgres.primary`` of the pillar.
        replica: The replica's host id.

    Returns:
        ``error`` (empty, or why it did not answer), ``system``, ``major``, one key for each of ``LIMITS``, and ``slot``
        (whether it is there).

    Example:
        salt-call pgreplica.ask_primary 17 '{host: db1, name: db1.x.test, ...}' db2
    """
    commands = ["IDENTIFY_SYSTEM", "SHOW server_version_num", *(f"SHOW {limit}" for limit in LIMITS)]
    commands.append(f"READ_REPLICATION_SLOT {primary['slot']}")
    # The name by which the password file knows replication; the server does not look at it.
    target = f"{conninfo(primary, replica)} replication=true dbname=replication"
    argv = [f"/usr/lib/postgresql/{major}/bin/psql", "-XAtw", "-d", target]
    for command in commands:
        argv += ["-c", command]
    error, lines = _as_postgres(argv)
    if error or len(lines) != len(commands):
        return {"error": error or "it gave no answer"}
    system, version, *limits = lines[:-1]
    return {
        "error": "",
        "system": system.split("|")[0],
        "major": int(version) // 10000,
        **{name: int(value) for name, value in zip(LIMITS, limits, strict=True)},
        "slot": lines[-1].startswith("physical"),
    }


def clone(major: int, name: str, primary: dict[str, Any], replica: str) -> str:
    """Copy the primary's cluster. What a killed run left is removed; data that are there are not touched.

    Args:
        major: PostgreSQL's major version.
        name: The cluster's name.
        primary: ``wiring.postgres.primary`` of the pillar.
        replica: This host's id.

    Returns:
        An empty string, or what went wrong.

    Example:
        salt-call pgreplica.clone 17 main '{host: db1, name: db1.x.test, ...}' db2
    """
    directory = CLUSTERS / str(major) / name
    if cluster(major, name)["data"]:
        return f"{directory} has data; nothing was touched"
    partial = _partial(directory)
    shutil.rmtree(partial, ignore_errors=True)
    if not directory.parent.exists():
        directory.parent.mkdir()
        shutil.chown(directory.parent, "postgres", "postgres")
    argv = [f"/usr/lib/postgresql/{major}/bin/pg_basebackup", "--no-password", "-d", conninfo(primary, replica)]
    argv += ["-D", str(partial), "--wal-method=stream", f"--slot={primary['slot']}", "--checkpoint=fast"]
    error, _ = _as_postgres(argv)
    if error:
        shutil.rmtree(partial, ignore_errors=True)
        return f"pg_basebackup failed: {error}"
    signal = partial / "standby.signal"
    signal.touch(mode=0o600)
    shutil.chown(signal, "postgres", "postgres")
    _sync(partial)
    partial.rename(directory)
    _sync(directory.parent)
    return ""


def discard(major: int | None = None, name: str = "main") -> str:
    """Stop a replica and remove its copy, so that the next apply copies the primary anew. Data of a primary stay.

    Args:
        major: PostgreSQL's major version; that of this Debian release when not given.
        name: The cluster's name.

    Returns:
        What was done.

    Raises:
        CommandExecutionError: This is no replica, or it does not stop.

    Example:
        salt-call pgreplica.discard
    """
    from salt.exceptions import CommandExecutionError

    major = major or __salt__["pg.version"]()
    directory = CLUSTERS / str(major) / name
    if not cluster(major, name)["standby"]:
        raise CommandExecutionError(
            f"{directory} is not the copy of a replica (no standby.signal); nothing was touched"
        )
    unit = f"postgresql@{major}-{name}.service"
    stopped = subprocess.run(["systemctl", "stop", unit], capture_output=True, text=True, check=False)
    if stopped.returncode:
        raise CommandExecutionError(f"{unit} does not stop: {stopped.stderr.strip()}; nothing was removed")
    # Under another name first: a run that is killed while it removes leaves no half of a cluster to start.
    partial = _partial(directory)
    shutil.rmtree(partial, ignore_errors=True)
    directory.rename(partial)
    shutil.rmtree(partial)
    return f"{directory} was removed; salt-call state.apply copies the primary anew"


def _sync(directory: Path) -> None:
    handle = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _as_postgres(argv: list[str]) -> tuple[str, list[str]]:
    """Run a program as postgres that ends when this process does; return its error and the lines it printed."""
    # Else a copy would go on, and hold the slot, after an apply that was killed. Its own PID namespace takes its
    # children with it: pg_basebackup has one that would outlive it. Twice, for a change of user forgets the first.
    become = ["setpriv", "--pdeathsig=KILL", "unshare", "--fork", "--pid"]
    become += ["setpriv", "--reuid=postgres", "--regid=postgres", "--init-groups", "--pdeathsig=KILL", "--"]
    try:
        done = subprocess.run(
            [*become, *argv],
            capture_output=True,
            text=True,
            check=False,
            cwd=CLUSTERS,
            env={"PATH": os.environ["PATH"], "HOME": str(CLUSTERS), "LC_ALL": "C.UTF-8"},
        )
    except FileNotFoundError as missing:
        return str(missing), []
    return ("" if done.returncode == 0 else done.stderr.strip() or "it failed"), done.stdout.splitlines()
