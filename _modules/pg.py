"""PostgreSQL: its version and configuration on this host, and databases with their roles.

``databases`` and ``execute`` read and change a server over its Unix socket as root: pg_ident.conf lets root connect as
``postgres``, so there is no ``su`` and no password. What is compared and written is decided by pure functions:
_utils/pgtuning.py, pgconf.py, pgplan.py and scram.py. pg_cluster.py is a part of this module, too.
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

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
    major: int = __utils__["pgconf.server_version"](int(__grains__["osmajorrelease"]))
    return major


def tuning(memory_mb: int, cpus: int, version: int, max_connections: int | None = None) -> dict[str, str]:
    """Return memory and parallelism settings for a host of any size: ``tuning`` of _utils/pgtuning.py, with its rules.

    Example:
        salt-call pg.tuning 4096 2 17
    """
    found: dict[str, str] = __utils__["pgtuning.tuning"](memory_mb, cpus, version, max_connections)
    return found


def host_tuning(settings: dict[str, Any]) -> dict[str, str]:
    """Return :func:`tuning` for this host.

    Args:
        settings: The role's settings from the pillar, as for :func:`postgresql_conf`.

    Returns:
        Settings by name, as in postgresql.conf.

    Example:
        salt-call pg.host_tuning '{memory_mb: 1024, memory_share: 0.5, max_connections: null}'
    """
    return tuning(_memory_mb(settings), __grains__["num_cpus"], version(), settings["max_connections"])


def _memory_mb(settings: dict[str, Any]) -> int:
    share = settings["memory_share"]
    memory_mb: int = settings["memory_mb"] or __utils__["pgtuning.budget_mb"](__grains__["mem_total"], share)
    return memory_mb


def postgresql_conf(
    cluster: str, settings: dict[str, Any], listen: list[str], replica: dict[str, Any] | None = None
) -> str:
    """Return this host's postgresql.conf as a whole.

    Args:
        cluster: The cluster's name, ``main``.
        settings: The role's settings from the pillar: ``port``, ``memory_mb`` (or None), ``memory_share``,
            ``max_connections`` (or None) and ``settings``, which win over everything that is computed here.
        listen: The addresses to listen on.
        replica: From ``pgreplica.settings``, on a replica.

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
        **__utils__["pgconf.server_settings"](major, cluster, settings["port"], listen),
        **host_tuning(settings),
        **(replica or {}),
        **settings["settings"],
    }
    return (
        "# Written by Salt as a whole; ALTER SYSTEM and edits here are not kept.\n"
        f"# Sized for {memory_mb} MB and {__grains__['num_cpus']} CPUs. Change postgres.settings in the site instead.\n"
        + __utils__["pgconf.config"](values)
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
    text: str = __utils__["pgconf.hba"](clients, replicas)
    return text


def ident() -> str:
    """Return pg_ident.conf: root and postgres may act as ``postgres``, over the Unix socket only.

    Returns:
        The whole file.

    Example:
        salt-call pg.ident
    """
    text: str = __utils__["pgconf.ident"]()
    return text


def wanted(clients: list[dict[str, Any]], extensions: dict[str, list[str]] | None = None) -> dict[str, dict[str, Any]]:
    """Return the databases that should be there: ``wanted`` of _utils/pgplan.py, for states, which reach it only here.

    Args:
        clients: ``wiring.postgres.clients`` of the pillar.
        extensions: For each app the extensions of its database.

    Example:
        salt-call pg.wanted '[]'
    """
    found: dict[str, dict[str, Any]] = __utils__["pgplan.wanted"](clients, extensions)
    return found


def plan(
    databases: dict[str, dict[str, Any]],
    current: dict[str, Any],
    passwords: dict[str, str],
    salts: dict[str, bytes],
) -> list[dict[str, Any]]:
    """Return the steps from what is there to what should be there.

    Args:
        databases: From :func:`wanted`.
        current: From :func:`databases`. Empty for a server that is yet to come.
        passwords: By role.
        salts: Random bytes for new verifiers, by role.

    Returns:
        Steps in their order, for :func:`execute`; with SCRAM verifiers, never with a password.

    Example:
        salt-call pg.plan '{}' '{}' '{}' '{}'
    """
    stored = {role: about["rolpassword"] for role, about in current.get("roles", {}).items()}
    wrong = [role for role in passwords if not __utils__["scram.matches"](passwords[role], stored.get(role))]
    verifiers = {role: __utils__["scram.verifier"](passwords[role], salts[role]) for role in wrong}
    steps: list[dict[str, Any]] = __utils__["pgplan.plan"](databases, current, verifiers)
    return steps


def plan_role(
    role: str, there: dict[str, Any] | None, password: str, salt: bytes, new: str, replication: bool = False
) -> list[dict[str, Any]]:
    """Return the steps by which a role can log in with this password, and has no right of its own.

    Args:
        role: The role's name.
        there: What :func:`roles` found of it; None for a role that is yet to come.
        password: The password.
        salt: Random bytes for a new verifier.
        new: What it will be, for the plan.
        replication: Whether it may copy the cluster.

    Returns:
        Steps for :func:`execute`; with a SCRAM verifier, never with the password.

    Example:
        salt-call pg.plan_role demo None ...
    """
    right = __utils__["scram.matches"](password, there["rolpassword"] if there else None)
    verifier = None if right else __utils__["scram.verifier"](password, salt)
    steps: list[dict[str, Any]] = __utils__["pgplan.plan_role"](role, there, verifier, new, replication)
    return steps


def _not_running(error: Exception, port: int) -> str:
    """Return ``down`` or ``absent`` for a server that does not run; one that does must not be taken for it."""
    from salt.exceptions import CommandExecutionError

    socket = Path(SOCKET_DIRECTORY) / f".s.PGSQL.{port}"
    if socket.exists() and "refused" not in str(error):
        raise CommandExecutionError(f"PostgreSQL on port {port}: {_message(error)}") from error
    there = any(Path("/var/lib/postgresql").glob("*/*/PG_VERSION"))
    return "down" if there else "absent"


def select(query: str, port: int, parameters: list[Any] | None = None) -> list[dict[str, Any]] | str:
    """Return what a query finds in database ``postgres``.

    Args:
        query: SQL.
        port: The server's port.
        parameters: The values of its ``%s``.

    Returns:
        Rows by column; or ``down`` or ``absent`` for a server that does not run.

    Raises:
        CommandExecutionError: The server answers, but not to us.

    Example:
        salt-call pg.select 'SELECT pg_is_in_recovery()' 5432
    """
    import psycopg

    try:
        with _connect("postgres", port) as connection:
            return _rows(connection, query, *(parameters or []))
    except psycopg.OperationalError as error:
        return _not_running(error, port)


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
    found = select(ROLES, port, [names])
    return {row["rolname"]: row for row in found if isinstance(row, dict)}


def databases(wanted: dict[str, dict[str, Any]], port: int) -> dict[str, Any]:
    """Return what a server has of these databases and of their roles.

    Args:
        wanted: From :func:`wanted`: ``user`` and ``owner`` by database.
        port: The server's port, which is in its socket's name.

    Returns:
        ``server`` (``up``, ``down`` or ``absent``), ``checksums``, ``roles`` and ``databases`` (only those that exist).
        Role passwords are SCRAM verifiers.

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
            found["checksums"] = _one(connection, "SELECT current_setting('data_checksums') = 'on' AS on")["on"]
            roles = [entry[key] for entry in wanted.values() for key in ("user", "owner")]
            found["roles"] = {row["rolname"]: row for row in _rows(connection, ROLES, roles)}
            found["databases"] = {row["name"]: row for row in _rows(connection, DATABASES, list(wanted))}
        for name, row in found["databases"].items():
            if row["encoding"] != "UTF8":
                raise CommandExecutionError(
                    f"database {name} has the encoding {row['encoding']}, which cannot be changed in place:"
                    " dump it, drop it, and restore it after the next apply has created it as UTF8"
                )
            row["grants"] = [(who, what) for who, what in row["grants"]]
            row["public_schema"], row["extensions"] = None, []
            if row["allows_connections"]:
                with _connect(name, port) as connection:
                    row["public_schema"] = next(iter(_rows(connection, PUBLIC_SCHEMA)), None)
                    row["extensions"] = [entry["extname"] for entry in _rows(connection, EXTENSIONS)]
                    row["objects"] = _objects(connection, wanted[name])
            else:
                # It is looked into by the apply after the one that opens it again.
                row["public_schema"] = {"owner": "pg_database_owner", "writers": []}
                row["objects"] = dict.fromkeys(("strays", "closed", "closed_schemas"), ())
                row["objects"] |= {"owned_by_app": 0, "default_privileges": __utils__["pgplan.default_privileges"]()}
    except psycopg.OperationalError as error:
        return {"server": _not_running(error, port), "checksums": None, "roles": {}, "databases": {}}
    return found


def execute(steps: list[dict[str, Any]], port: int) -> str:
    """Carry out the steps of a plan.

    Args:
        steps: From :func:`plan`.
        port: The server's port.

    Returns:
        An empty string, or which step failed and why. What was done before it stays: the next apply goes on there.

    Example:
        salt-call pg.execute '[]' 5432
    """
    import psycopg
    from psycopg import sql

    connections: dict[str, Any] = {}
    try:
        for step in steps:
            try:
                if step["database"] not in connections:
                    connections[step["database"]] = _connect(step["database"], port)
                    # Verifiers must not reach the server's log, also not with a statement that fails or is slow.
                    connections[step["database"]].execute(
                        "SELECT set_config('log_statement', 'none', false),"
                        " set_config('log_min_duration_statement', '-1', false),"
                        " set_config('log_min_error_statement', 'panic', false)"
                    )
                connection = connections[step["database"]]
                with connection.transaction() if step["atomic"] else contextlib.nullcontext():
                    for statement in step["statements"]:
                        connection.execute(sql.Composed([_compose(sql, part) for part in statement]))
            except psycopg.Error as error:
                return f"{step['subject']}: {_message(error)}"
    finally:
        for connection in connections.values():
            connection.close()
    return ""


def _compose(sql: Any, part: Any) -> Any:
    if isinstance(part, str):
        return sql.SQL(part)
    return sql.Identifier(part["identifier"]) if "identifier" in part else sql.Literal(part["literal"])


def _connect(database: str, port: int) -> Any:
    import psycopg  # here, because it takes 60 ms and only postgres hosts need it

    return psycopg.connect(
        host=SOCKET_DIRECTORY,
        port=port,
        user="postgres",
        dbname=database,
        autocommit=True,
        connect_timeout=10,
        application_name="salt",
    )


def _message(error: Any) -> str:
    """Return PostgreSQL's message without the statement, which may have a verifier in it."""
    return error.diag.message_primary or str(error).splitlines()[0]


def _rows(connection: Any, query: str, *parameters: Any) -> list[dict[str, Any]]:
    """Run a query; its parameters are values in their order, or one mapping by name."""
    from psycopg.rows import dict_row

    given = parameters[0] if parameters and isinstance(parameters[0], dict) else parameters or None
    with connection.cursor(row_factory=dict_row) as cursor:
        return cursor.execute(query, given).fetchall()


def _objects(connection: Any, roles: dict[str, Any]) -> dict[str, Any]:
    """Return what in the connection's database is not as its owner and its app need it."""
    found = _rows(connection, OBJECTS, {"user": roles["user"], "owner": roles["owner"]})[0]
    return {key: [tuple(one) for one in value] if key in _PAIRS else value for key, value in found.items()}


_PAIRS = ("strays", "closed", "default_privileges")


def _one(connection: Any, query: str) -> dict[str, Any]:
    return _rows(connection, query)[0]


ROLES = """
SELECT rolname, rolcanlogin, rolsuper, rolcreatedb, rolcreaterole, rolreplication, rolbypassrls, rolinherit,
       rolconnlimit, rolpassword,
       CASE WHEN rolvaliduntil < 'infinity' THEN rolvaliduntil::text END AS expires,
       ARRAY(SELECT g.rolname::text FROM pg_auth_members m JOIN pg_authid g ON g.oid = m.roleid
             WHERE m.member = r.oid ORDER BY 1) AS member_of
FROM pg_authid r WHERE rolname = ANY(%s)
"""

DATABASES = """
SELECT datname AS name, pg_get_userbyid(datdba) AS owner, pg_encoding_to_char(encoding) AS encoding,
       datallowconn AS allows_connections, datconnlimit AS connection_limit,
       ARRAY(SELECT ARRAY[CASE grantee WHEN 0 THEN 'PUBLIC' ELSE pg_get_userbyid(grantee)::text END, privilege_type]
             FROM aclexplode(coalesce(datacl, acldefault('d', datdba)))) AS grants
FROM pg_database WHERE datname = ANY(%s)
"""

PUBLIC_SCHEMA = """
SELECT pg_get_userbyid(nspowner) AS owner,
       ARRAY(SELECT CASE grantee WHEN 0 THEN 'PUBLIC' ELSE pg_get_userbyid(grantee)::text END
             FROM aclexplode(coalesce(nspacl, acldefault('n', nspowner)))
             WHERE privilege_type = 'CREATE' ORDER BY 1) AS writers
FROM pg_namespace WHERE nspname = 'public'
"""

EXTENSIONS = "SELECT extname FROM pg_extension"

# Relations of the database itself: not Postgres' own, not an extension's; a column's sequence goes with its table.
OBJECTS = """
WITH roles AS (
    SELECT (SELECT oid FROM pg_roles WHERE rolname = %(user)s) AS app,
           (SELECT oid FROM pg_roles WHERE rolname = %(owner)s) AS owner
), relations AS (
    SELECT c.oid, n.nspname::text AS schema, c.relname::text AS name, c.relkind::text AS kind, c.relowner, c.relacl,
           EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid
                   AND c.relkind = 'S' AND d.deptype IN ('a', 'i')) AS of_a_column
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S') AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
      AND NOT EXISTS (SELECT FROM pg_depend d
                      WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')
)
SELECT (SELECT count(*) FROM pg_shdepend, roles WHERE refclassid = 'pg_authid'::regclass AND refobjid = app
        AND deptype = 'o' AND classid <> 'pg_default_acl'::regclass
        AND dbid = (SELECT oid FROM pg_database WHERE datname = current_database())) AS owned_by_app,
       ARRAY(SELECT ARRAY[schema, name] FROM relations, roles
             WHERE relowner IS DISTINCT FROM owner AND relowner IS DISTINCT FROM app AND NOT of_a_column
             ORDER BY 1) AS strays,
       ARRAY(SELECT ARRAY[schema, name, kind] FROM relations, roles
             WHERE relowner IS NOT DISTINCT FROM app
                OR NOT EXISTS (SELECT FROM aclexplode(relacl) WHERE grantee = app) ORDER BY 1) AS closed,
       ARRAY(SELECT nspname::text FROM pg_namespace, roles
             WHERE nspname !~ '^pg_' AND nspname <> 'information_schema'
               AND NOT coalesce(has_schema_privilege(app, pg_namespace.oid, 'USAGE'), nspname = 'public')
             ORDER BY 1) AS closed_schemas,
       ARRAY(SELECT ARRAY[defaclobjtype::text, privilege_type] FROM pg_default_acl, roles, aclexplode(defaclacl)
             WHERE defaclrole = owner AND defaclnamespace = 0 AND grantee = app) AS default_privileges
"""
