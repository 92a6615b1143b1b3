"""How our own sessions in PostgreSQL are opened, so that nothing that an app owns decides what they do.

In its database an app's owner makes operators and functions, and sets what it likes by ALTER DATABASE ... SET. A
session of ours there takes names from ``pg_catalog`` only, runs nobody's event triggers, and does not begin with what
others have set. Settings given with the connection win over those of database and role (PostgreSQL manual, 19.1.4).
"""

from __future__ import annotations

#: The role with which we look into databases that apps own. It may connect and read catalogs and statistics, no more.
READER = "saltern_reader"
SUPERUSER = "postgres"
#: The role that ends sessions which take what all share.
GUARD = "saltern_guard"

#: What each session of ours begins with. ``pg_temp`` last: else it would be searched first for tables.
SETTINGS = {
    "search_path": "pg_catalog,pg_temp",
    "local_preload_libraries": "",
    "role": "none",
    "default_transaction_read_only": "off",
    "default_transaction_isolation": "read committed",
    "default_transaction_deferrable": "off",
    "row_security": "off",
    "check_function_bodies": "off",
    "transform_null_equals": "off",
    "standard_conforming_strings": "on",
    "quote_all_identifiers": "off",
    "client_encoding": "UTF8",
    "bytea_output": "hex",
    "datestyle": "ISO",
    "intervalstyle": "postgres",
    "timezone": "Etc/UTC",
    "jit": "off",
    # Long enough for all we do; and nobody waits behind us for longer than this.
    "statement_timeout": "300s",
    "lock_timeout": "10s",
    "idle_in_transaction_session_timeout": "300s",
    "idle_session_timeout": "0",
}
#: What only a superuser may set.
SUPERUSER_SETTINGS = {"session_preload_libraries": "", "session_replication_role": "origin"}
#: From 17 on: event triggers fire even at login.
SETTINGS_17 = {"transaction_timeout": "0"}
SUPERUSER_SETTINGS_17 = {"event_triggers": "off"}


def reader() -> str:
    """Return the name of the role with which we look into databases that apps own.

    Example:
        >>> reader()
        'saltern_reader'
    """
    return READER


def options(version: int, user: str, others: dict[str, str] | None = None) -> str:
    """Return the options of a connection of ours.

    Args:
        version: PostgreSQL's major version.
        user: The role that it is opened with; a superuser's session is closed to event triggers too.
        others: Values for what else is set for the database or the role.

    Returns:
        libpq's ``options``.

    Example:
        >>> options(17, "postgres").split(" -c")[0]
        '-csearch_path=pg_catalog,pg_temp'
    """
    values = {**SETTINGS, **(SETTINGS_17 if version >= 17 else {})}
    if user == SUPERUSER:
        values |= {**SUPERUSER_SETTINGS, **(SUPERUSER_SETTINGS_17 if version >= 17 else {})}
    values = {**(others or {}), **values}
    return " ".join(f"-c{name}={_escaped(value)}" for name, value in values.items())


def of_guard(version: int) -> str:
    """Return the options of the session that ends others (salt/postgres/files/postgres-guard.py): nothing ends it.

    Args:
        version: PostgreSQL's major version.

    Example:
        >>> "-cstatement_timeout=300s" in of_guard(17), " -cwork_mem=" in of_guard(17)
        (True, False)
    """
    return options(version, GUARD)


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace(" ", "\\ ")


def environment(version: int, user: str = SUPERUSER) -> dict[str, str]:
    """Return what psql and other programs need in their environment to open such a session.

    Args:
        version: PostgreSQL's major version.
        user: As for :func:`options`.

    Returns:
        Variables by name.

    Example:
        >>> environment(15)["PGOPTIONS"].startswith("-csearch_path=pg_catalog")
        True
    """
    return {"PGOPTIONS": options(version, user)}


def untrusted(rows: list[dict[str, str]], database: str, user: str, defaults: dict[str, str]) -> dict[str, str]:
    """Return what somebody set for a session's database or role, each at the value that the server itself has.

    Args:
        rows: ``role`` and ``database`` (empty: for all) and ``name`` of each such setting.
        database: The session's database.
        user: Its role.
        defaults: The server's own value of each setting that this role may set.

    Returns:
        Values by name, for :func:`options`.

    Example:
        >>> untrusted([{"role": "", "database": "d", "name": "enable_hashjoin"}], "d", "u", {"enable_hashjoin": "on"})
        {'enable_hashjoin': 'on'}
    """
    names = {row["name"] for row in rows if row["database"] in ("", database) and row["role"] in ("", user)}
    return {name: defaults[name] for name in sorted(names) if name in defaults}
