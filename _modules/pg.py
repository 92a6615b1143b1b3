"""PostgreSQL: its version and configuration on this host, and databases with their roles.

``databases`` and ``execute`` read and change a server over its Unix socket as root: pg_ident.conf lets root connect as
``postgres`` and as ``saltern_reader``, so there is no ``su`` and no password. How a session begins, what it asks, and
what is compared and written, is decided by pure functions in saltern/postgres/: pgsession.py, pgsql.py, pgtuning.py,
pgconf.py, pgplan.py and scram.py. pg_cluster.py is a part of this module, too.
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

from saltern.postgres import pgconf, pgothers, pgplan, pgroles, pgsession, pgsql, pgtuning, scram

__virtualname__ = "pg"

SOCKET_DIRECTORY = "/run/postgresql"


def __virtual__() -> str:
    return __virtualname__


def version() -> int:
    """Return PostgreSQL's major version on this host, installed or not.

    Returns:
        15 on Debian 12, 17 on Debian 13.

    Raises:
        ValueError: The host has another system.

    Example:
        salt-call pg.version
    """
    major: int = pgconf.server_version(int(__grains__["osmajorrelease"]))
    return major


def tuning(memory_mb: int, cpus: int, version: int, max_connections: int | None = None) -> dict[str, str]:
    """Return memory and parallelism settings for a host of any size; saltern/postgres/pgtuning.py has the rules.

    Args:
        memory_mb: Memory for PostgreSQL in MB, at least 256.
        cpus: Number of CPUs.
        version: PostgreSQL's major version.
        max_connections: How many connections; None for as many as the memory carries, between 25 and 200.

    Example:
        salt-call pg.tuning 4096 2 17
    """
    found: dict[str, str] = pgtuning.tuning(memory_mb, cpus, version, max_connections)
    return found


def host_tuning(settings: dict[str, Any], connections: int = 0) -> dict[str, str]:
    """Return :func:`tuning` for this host.

    Args:
        settings: The role's settings from the pillar, as for :func:`postgresql_conf`.
        connections: How many all apps and operators need together.

    Returns:
        Settings by name, as in postgresql.conf.

    Raises:
        ValueError: The host's memory, or a setting, does not carry as many.

    Example:
        salt-call pg.host_tuning '{memory_mb: 1024, memory_share: 0.5, max_connections: null}'
    """
    memory_mb, cpus = _memory_mb(settings), __grains__["num_cpus"]
    path = Path(f"/etc/postgresql/{version()}/main/postgresql.conf")
    conf = path.read_text(encoding="utf-8") if path.is_file() else ""
    allowed = pgtuning.connections(memory_mb, cpus, settings["max_connections"], connections, conf)
    return tuning(memory_mb, cpus, version(), allowed)


def memory_limits(settings: dict[str, Any]) -> dict[str, int]:
    """Return how much memory PostgreSQL's processes may have here, in MiB; saltern/postgres/pgtuning.py has the rules.

    Args:
        settings: The role's settings from the pillar, as for :func:`postgresql_conf`.

    Returns:
        ``session_mb`` (of one process, its own), ``sessions_mb`` (of all sessions together), ``unit_mb`` (of all).

    Example:
        salt-call pg.memory_limits '{memory_mb: 1024, memory_share: 0.5, session_memory_mb: null}'
    """
    memory_mb, total = _memory_mb(settings), __grains__["mem_total"]
    return {
        "session_mb": settings["session_memory_mb"] or pgtuning.session_mb(memory_mb),
        "sessions_mb": pgtuning.sessions_mb(memory_mb, total),
        "unit_mb": pgtuning.unit_mb(memory_mb, total),
    }


def guard_options() -> str:
    """Return how the session of postgres-guard.service begins: as each of ours, and nothing ends it.

    Example:
        salt-call pg.guard_options
    """
    options: str = pgsession.of_guard(version())
    return options


def _memory_mb(settings: dict[str, Any]) -> int:
    share = settings["memory_share"]
    memory_mb: int = settings["memory_mb"] or pgtuning.budget_mb(__grains__["mem_total"], share)
    return memory_mb


def postgresql_conf(
    cluster: str,
    settings: dict[str, Any],
    listen: list[str],
    replica: dict[str, Any] | None = None,
    connections: int = 0,
) -> str:
    """Return this host's postgresql.conf as a whole.

    Args:
        cluster: The cluster's name, ``main``.
        settings: The role's settings from the pillar: ``port``, ``memory_mb`` (or None), ``memory_share``,
            ``max_connections`` (or None) and ``settings``, which win over everything that is computed here.
        listen: The addresses to listen on.
        replica: From ``pgreplica.settings``, on a replica.
        connections: How many all apps and operators need together.

    Returns:
        The whole file.

    Raises:
        ValueError: A setting is out of range; the message has its key.

    Example:
        salt-call pg.postgresql_conf main '{port: 5432, memory_mb: 1024, ...}' '[127.0.0.1]'
    """
    major = version()
    memory_mb = _memory_mb(settings)
    values: dict[str, Any] = {
        **pgconf.server_settings(major, cluster, settings["port"], listen),
        **host_tuning(settings, connections),
        **(replica or {}),
        **settings["settings"],
    }
    return (
        "# Written by Salt as a whole; ALTER SYSTEM and edits here are not kept.\n"
        f"# Sized for {memory_mb} MB and {__grains__['num_cpus']} CPUs. Change postgres.settings in the site instead.\n"
        + pgconf.config(values)
    )


def hba(clients: list[dict[str, Any]], replicas: list[dict[str, Any]] | None = None) -> str:
    """Return pg_hba.conf: one line for each need, and a final reject.

    Args:
        clients: ``wiring.postgres.clients`` of the pillar.
        replicas: ``wiring.postgres.replicas`` of the pillar.

    Returns:
        The whole file.

    Raises:
        ValueError: A name cannot be written in pg_hba.conf, or an address has no prefix length.

    Example:
        salt-call pg.hba '[]'
    """
    text: str = pgconf.hba(clients, replicas)
    return text


def ident() -> str:
    """Return pg_ident.conf: who may act as ``postgres`` and ``saltern_reader``, over the Unix socket only.

    Returns:
        The whole file.

    Example:
        salt-call pg.ident
    """
    text: str = pgconf.ident()
    return text


def inputs(replica: bool = False) -> list[str]:
    """Return what the server reads when it starts, for ``daemon.running``.

    Args:
        replica: Whether this host's server is a copy.

    Example:
        salt-call pg.inputs
    """
    directory = f"/etc/postgresql/{version()}/main"
    names = ["postgresql.conf", "pg_hba.conf", "pg_ident.conf", *(["primary.conf"] if replica else [])]
    return [*(f"{directory}/{name}" for name in names), "/etc/postgresql/tls"]


def wanted(clients: list[dict[str, Any]], extensions: dict[str, list[str]] | None = None) -> dict[str, dict[str, Any]]:
    """Return the databases that should be there: ``wanted`` of saltern/postgres/pgplan.py.

    Args:
        clients: ``wiring.postgres.clients`` of the pillar.
        extensions: For each app the extensions of its database.

    Example:
        salt-call pg.wanted '[]'
    """
    found: dict[str, dict[str, Any]] = pgplan.wanted(clients, extensions)
    return found


def plan(
    databases: dict[str, dict[str, Any]],
    current: dict[str, Any],
    passwords: dict[str, str | None],
    salts: dict[str, bytes],
    extra_roles: list[str] | None = None,
    kept: list[dict[str, Any]] | None = None,
) -> list[dict[str, Any]]:
    """Return the steps from what is there to what should be there.

    Args:
        databases: From :func:`wanted`.
        current: From :func:`databases`. Empty for a server that is yet to come.
        passwords: By login role, from :func:`logins`; None for one that is closed.
        salts: Random bytes for new verifiers, by role.
        extra_roles: Roles of the site beyond those of its apps.
        kept: ``user`` and ``owner`` of each app that is leaving; these roles are left as they are.

    Returns:
        Steps in their order, for :func:`execute`; with SCRAM verifiers, never with a password.

    Example:
        salt-call pg.plan '{}' '{}' '{}' '{}'
    """
    stored = {role: about["rolpassword"] for role, about in current.get("roles", {}).items()}
    good = {role: password for role, password in passwords.items() if password is not None}
    wrong = [role for role in good if not scram.matches(good[role], stored.get(role))]
    verifiers = {role: scram.verifier(good[role], salts[role]) for role in wrong}
    steps: list[dict[str, Any]] = pgroles.plan(databases, current, verifiers, list(good), extra_roles or [], kept or [])
    for part in (pgothers.plan_triggers, pgplan.plan, pgothers.plan):
        steps += part(databases, current)
    return steps


def logins(role: str, password: str, slot: int = 1, previous: str | None = None) -> dict[str, str | None]:
    """Return who can log in for a role: ``logins`` of saltern/postgres/pgroles.py.

    Args:
        role: The role.
        password: The one in force.
        slot: 1 when the role itself is in force, 2 when its double is.
        previous: The password of the other one while that is still good.

    Example:
        salt-call pg.logins demo ...
    """
    found: dict[str, str | None] = pgroles.logins(role, password, slot, previous)
    return found


def plan_logins(
    there: dict[str, dict[str, Any]], passwords: dict[str, str | None], salt: bytes, new: str
) -> list[dict[str, Any]]:
    """Return the steps by which a replication role can log in, or its double, and neither has a right beyond copying.

    Args:
        there: What :func:`roles` found of both.
        passwords: From :func:`logins`.
        salt: Random bytes for new verifiers.
        new: What it will be, for the plan.

    Returns:
        Steps for :func:`execute`; with SCRAM verifiers, never with a password.

    Example:
        salt-call pg.plan_logins '{}' ...
    """
    steps: list[dict[str, Any]] = []
    for name, password in passwords.items():
        found = there.get(name)
        if password is None and found is None:
            continue
        stored = found["rolpassword"] if found else None
        right = password is None or scram.matches(password, stored)
        verifier = None if password is None or right else scram.verifier(password, salt)
        steps += pgroles.plan_role(name, found, verifier, new, replication=True, login=password is not None)
    return steps


def sessions(roles: list[str], port: int = 5432) -> dict[str, int]:
    """Return how many sessions each login role has on this server, in all databases; who copies the cluster counts too.

    Args:
        roles: Names of roles.
        port: The server's port.

    Raises:
        CommandExecutionError: The server does not answer.

    Example:
        salt-call pg.sessions '[demo, demo__2]'
    """
    from salt.exceptions import CommandExecutionError

    found = select("sessions", port, [roles])
    if isinstance(found, str):
        raise CommandExecutionError(f"PostgreSQL on port {port} is {found}")
    return {**dict.fromkeys(roles, 0), **{row["role"]: row["sessions"] for row in found}}


def _not_running(error: Exception, port: int) -> str:
    """Return ``down`` or ``absent`` for a server that does not run; one that does must not be taken for it."""
    from salt.exceptions import CommandExecutionError

    socket = Path(SOCKET_DIRECTORY) / f".s.PGSQL.{port}"
    if socket.exists() and "refused" not in str(error):
        raise CommandExecutionError(f"PostgreSQL on port {port}: {_message(error)}") from error
    there = any(Path("/var/lib/postgresql").glob("*/*/PG_VERSION"))
    return "down" if there else "absent"


def select(
    query: str, port: int, parameters: list[Any] | None = None, superuser: bool = False
) -> list[dict[str, Any]] | str:
    """Return what a query finds in database ``postgres``.

    Args:
        query: The name of a query in saltern/postgres/pgsql.py.
        port: The server's port.
        parameters: The values of its ``%s``.
        superuser: Ask as ``postgres``; else as ``saltern_reader``, which sees statistics and settings, but no password.

    Returns:
        Rows by column; or ``down`` or ``absent`` for a server that does not run.

    Raises:
        CommandExecutionError: The server answers, but not to us.

    Example:
        salt-call pg.select receiving 5432
    """
    import psycopg

    try:
        with _connect("postgres", port) if superuser else _reading("postgres", port, {}) as connection:
            return _rows(connection, _sql(query), *(parameters or []))
    except psycopg.OperationalError as error:
        return _not_running(error, port)


def not_taken() -> str:
    """Return what a server has not taken of its files when it was reloaded, or nothing.

    Example:
        salt-call pg.not_taken
    """
    found = select("refused", __pillar__["postgres"]["port"], superuser=True)
    if isinstance(found, str):
        return f"the server is {found} after systemctl reload"
    lines = [f"{row['file']} line {row['line']}: {row['error']}" for row in found]
    return f"it goes on with what it had, for it refuses {'; '.join(lines)}" if lines else ""


def roles(names: list[str], port: int) -> dict[str, dict[str, Any]]:
    """Return those of these roles that there are.

    Args:
        names: Names of roles.
        port: The port of a server that runs.

    Returns:
        For each role what :func:`plan_role` compares.

    Example:
        salt-call pg.roles '[demo]' 5432
    """
    found = select("roles", port, [names], superuser=True)
    return {row["rolname"]: row for row in found if isinstance(row, dict)}


def databases(wanted: dict[str, dict[str, Any]], port: int, extra_roles: list[str] | None = None) -> dict[str, Any]:
    """Return what a server has of these databases and of their roles.

    Args:
        wanted: From :func:`wanted`: ``user`` and ``owner`` by database.
        port: The server's port, which is in its socket's name.
        extra_roles: Roles of the site beyond those of its apps, which may have rights.

    Returns:
        ``server`` (``up``, ``down`` or ``absent``), ``checksums``, ``roles``, ``settings`` (of roles and databases),
        ``shared`` (rights in what all databases share) and ``databases`` (only those that exist). Role passwords are
        SCRAM verifiers.

    Raises:
        CommandExecutionError: The server answers, but not to us.

    Example:
        salt-call pg.databases '{demo: {user: demo, owner: demo_owner}}' 5432
    """
    import psycopg
    from salt.exceptions import CommandExecutionError

    found: dict[str, Any] = {"server": "up", "checksums": None, "roles": {}, "databases": {}}
    try:
        with _connect("postgres", port) as connection:
            found["checksums"] = _one(connection, _sql("checksums"))["on"]
            found["roles"] = {row["rolname"]: row for row in _rows(connection, _sql("all_roles"))}
            found["databases"] = {row["name"]: row for row in _rows(connection, _sql("databases"), list(wanted))}
            others = _others(connection)
            found["settings"] = others["rows"]
            found["shared"] = {
                "rights": _rows(connection, _sql("shared_rights"), {"databases": list(wanted)}),
                "reader": _one(connection, _sql("reader_at_home"))["let_in"],
            }
        for name, row in found["databases"].items():
            if row["encoding"] != "UTF8":
                raise CommandExecutionError(
                    f"database {name} has the encoding {row['encoding']}, which cannot be changed in place:"
                    " dump it, drop it, and restore it after the next apply has created it as UTF8"
                )
            row["grants"] = [(who, what) for who, what in row["grants"]]
            row["public_schema"], row["extensions"] = None, []
            if row["allows_connections"]:
                with _reading(name, port, others) as connection:
                    row["public_schema"] = next(iter(_rows(connection, _sql("public_schema"))), None)
                    row["extensions"] = [entry["extname"] for entry in _rows(connection, _sql("extensions"))]
                    row["objects"] = _objects(connection, wanted[name])
                    own = {"own": pgothers.own_roles(wanted[name], extra_roles or [])}
                    kinds = pgothers.nothing()
                    row["others"] = {kind: _rows(connection, _sql(kind), own) for kind in kinds}
            else:
                row["others"] = pgothers.nothing()
                # It is looked into by the apply after the one that opens it again.
                row["public_schema"] = {"owner": "pg_database_owner", "writers": []}
                row["objects"] = dict.fromkeys(("strays", "closed", "closed_schemas"), ())
                row["objects"] |= {"owned_by_app": 0, "default_privileges": pgplan.default_privileges()}
    except psycopg.OperationalError as error:
        return {"server": _not_running(error, port), "checksums": None, "roles": {}, "databases": {}}
    return found


def execute(steps: list[dict[str, Any]], port: int) -> str:
    """Carry out the steps of a plan.

    Args:
        steps: From :func:`plan`.
        port: The server's port.

    Returns:
        An empty string, or which steps failed and why. What was done before stays: the next apply goes on there. A
        database in which one failed is left; those of other apps are gone on with.

    Example:
        salt-call pg.execute '[]' 5432
    """
    import psycopg
    from psycopg import sql

    connections: dict[str, Any] = {}
    failed: dict[str, str] = {}
    try:
        for step in steps:
            if step["database"] in failed:
                continue
            try:
                connection = _session(connections, step["database"], port)
                with connection.transaction() if step["atomic"] else contextlib.nullcontext():
                    for statement in step["statements"]:
                        connection.execute(sql.Composed([_compose(sql, part) for part in statement]))
            except psycopg.Error as error:
                failed[step["database"]] = f"{step['subject']}: {_message(error)}"
                if step["database"] == "postgres":
                    break
    finally:
        for connection in connections.values():
            connection.close()
    return "; ".join(failed.values())


def _compose(sql: Any, part: Any) -> Any:
    if isinstance(part, str):
        return sql.SQL(part)
    return sql.Identifier(part["identifier"]) if "identifier" in part else sql.Literal(part["literal"])


def _session(connections: dict[str, Any], database: str, port: int) -> Any:
    """Return a superuser's session in a database; that in ``postgres``, where no app is, is opened first."""
    if database not in connections:
        home = database == "postgres"
        others = {} if home else _others(_session(connections, "postgres", port))
        # Not one for each app at once: what is kept for superusers is little.
        for other in [name for name in connections if name != "postgres"]:
            connections.pop(other).close()
        connections[database] = _connect(database, port, others=others)
        # Verifiers must not reach the server's log, also not with a statement that fails or is slow.
        connections[database].execute(_sql("silent"))
    return connections[database]


def _connect(database: str, port: int, user: str = "postgres", others: dict[str, Any] | None = None) -> Any:
    """Open a session that begins as pgsession.py says, whatever was set for the database and the role."""
    import psycopg  # here, because it takes 60 ms and only postgres hosts need it

    set_by_others = pgsession.untrusted(others["rows"], database, user, others[user]) if others else {}
    return psycopg.connect(
        host=SOCKET_DIRECTORY,
        port=port,
        user=user,
        dbname=database,
        autocommit=True,
        connect_timeout=10,
        application_name="salt",
        options=pgsession.options(version(), user, set_by_others),
    )


def _reading(database: str, port: int, others: dict[str, Any]) -> Any:
    """Open a session that only looks, as a role that could not do more.

    Before the first apply, and where somebody has locked that role out, as the superuser: with the same settings, and
    the same queries, which name everything in full.
    """
    import psycopg

    reader = pgsession.reader()
    try:
        return _connect(database, port, reader, others)
    except psycopg.OperationalError:
        return _connect(database, port, others=others)


def _others(connection: Any) -> dict[str, Any]:
    """Return what others have set for databases and roles, and what it would be without them, for each of our roles."""
    rows = _rows(connection, _sql("role_settings"))
    found: dict[str, Any] = {"postgres": {}}
    found["rows"] = [{**row, "name": row["setting"].partition("=")[0]} for row in rows]
    found[pgsession.reader()] = {}
    if rows:
        for row in _rows(connection, _sql("defaults")):
            found["postgres"][row["name"]] = row["value"]
            if row["context"] == "user":
                found[pgsession.reader()][row["name"]] = row["value"]
    return found


def _sql(name: str) -> str:
    text: str = pgsql.query(name)
    return text


def _message(error: Any) -> str:
    """Return PostgreSQL's message without the statement, which may have a verifier in it, fit for a terminal."""
    text = error.diag.message_primary or str(error).splitlines()[0]
    return "".join(char if char.isprintable() else "?" for char in text)


def _rows(connection: Any, query: str, *parameters: Any) -> list[dict[str, Any]]:
    """Run a query; its parameters are values in their order, or one mapping by name."""
    from psycopg.rows import dict_row

    given = parameters[0] if parameters and isinstance(parameters[0], dict) else parameters or None
    with connection.cursor(row_factory=dict_row) as cursor:
        return cursor.execute(query, given).fetchall()


def _objects(connection: Any, roles: dict[str, Any]) -> dict[str, Any]:
    """Return what in the connection's database is not as its owner and its app need it."""
    found = _rows(connection, _sql("objects"), {"user": roles["user"], "owner": roles["owner"]})[0]
    return {key: [tuple(one) for one in value] if key in _PAIRS else value for key, value in found.items()}


_PAIRS = ("strays", "closed", "default_privileges")


def _one(connection: Any, query: str) -> dict[str, Any]:
    return _rows(connection, query)[0]
