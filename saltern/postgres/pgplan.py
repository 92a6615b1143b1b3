"""Databases and roles: from what a server has to what it should have. Pure, so a plan and an apply cannot differ."""

from __future__ import annotations

from typing import Any

#: The role with which we look (pgsession.py).
READER = "saltern_reader"

#: What an app may do with what its owner makes, by pg_default_acl's letter: the words for SQL, and the privileges.
APP_PRIVILEGES = {
    "r": ("TABLES", ("SELECT", "INSERT", "UPDATE", "DELETE")),
    "S": ("SEQUENCES", ("USAGE", "SELECT")),
    "n": ("SCHEMAS", ("USAGE",)),
}


def wanted(clients: list[dict[str, Any]], extensions: dict[str, list[str]] | None = None) -> dict[str, dict[str, Any]]:
    """Return the databases that should be there.

    Args:
        clients: ``app``, ``database``, ``user`` and ``owner`` each; one app may have several clients (hosts).
        extensions: For each app the extensions of its database.

    Returns:
        For each database: ``app``, ``user`` (the app's role), ``owner`` (the role that migrates), ``extensions``.

    Raises:
        ValueError: Two apps share a database or a role, or one app has two.

    Example:
        >>> client = {"app": "a", "database": "d", "user": "u", "owner": "o", "address": "127.0.0.1/32"}
        >>> wanted([client])
        {'d': {'app': 'a', 'user': 'u', 'owner': 'o', 'extensions': []}}
    """
    found: dict[str, dict[str, Any]] = {}
    for client in clients:
        entry = {key: client[key] for key in ("app", "user", "owner")}
        entry |= {key: client[key] for key in ("limits", "settings") if key in client}
        entry["extensions"] = sorted((extensions or {}).get(client["app"], []))
        if found.setdefault(client["database"], entry) != entry:
            other = found[client["database"]]
            raise ValueError(
                f"database {client['database']} is wanted by app {entry['app']} as {entry['user']}"
                f" and by app {other['app']} as {other['user']}; each app needs its own database and role"
            )
    roles = [(entry[key], entry["app"]) for entry in found.values() for key in ("user", "owner")]
    for role, _ in roles:
        apps = [app for name, app in roles if name == role]
        if len(apps) > 1:
            raise ValueError(f"role {role} is wanted more than once ({', '.join(apps)}); each app needs its own role")
    return found


def plan(databases: dict[str, dict[str, Any]], current: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the steps from the databases that are there to those that should be there. Their roles are there by then.

    Args:
        databases: From :func:`wanted`.
        current: From ``pg.databases``: ``databases`` by name. Empty for a server that is yet to come.

    Returns:
        Steps in their order: ``subject`` (``database demo``), ``old`` and ``new`` (for the plan; never a password),
        ``database`` (where to run it), ``statements`` and ``atomic`` (all of them or none). A statement is a list of
        SQL text and of values that ``pg.execute`` quotes: ``["DROP ROLE ", {"identifier": "demo"}]``.

    Example:
        >>> plan({}, {"databases": {}})
        []
    """
    steps: list[dict[str, Any]] = []
    present = current.get("databases", {})
    for database, entry in databases.items():
        steps += _plan_database(database, entry["owner"], entry["user"], present.get(database))
        steps += _plan_schema(database, entry["owner"], present.get(database))
        steps += _plan_objects(database, entry["owner"], entry["user"], present.get(database))
        steps += _plan_extensions(database, entry["extensions"], present.get(database))
    return steps


def _name(text: str) -> dict[str, str]:
    return {"identifier": text}


def _step(
    subject: str, old: Any, new: Any, database: str, *statements: list[Any], atomic: bool = False
) -> dict[str, Any]:
    step = {"subject": subject, "old": old, "new": new, "database": database, "statements": list(statements)}
    return {**step, "atomic": atomic}


def _plan_database(database: str, owner: str, user: str, there: dict[str, Any] | None) -> list[dict[str, Any]]:
    subject = f"database {database}"
    revoke_public = ["REVOKE ALL ON DATABASE ", _name(database), " FROM PUBLIC CASCADE"]
    let_in = ["GRANT CONNECT ON DATABASE ", _name(database), " TO ", _name(user), ", ", _name(READER)]
    if there is None:
        # C.UTF-8 sorts by code point: no upgrade of the C library can ever make an index wrong.
        create = ["CREATE DATABASE ", _name(database), " OWNER ", _name(owner), " TEMPLATE template0 ENCODING 'UTF8'"]
        create += [" LC_COLLATE 'C.UTF-8' LC_CTYPE 'C.UTF-8'"]
        new = f"owned by {owner}, open to {user}, closed to others"
        return [_step(subject, None, new, "postgres", create, revoke_public, let_in)]
    steps = []
    if there["connection_limit"] != -1 or not there["allows_connections"]:
        old = "none" if not there["allows_connections"] else f"at most {there['connection_limit']}"
        alter = ["ALTER DATABASE ", _name(database), " WITH ALLOW_CONNECTIONS true CONNECTION LIMIT -1"]
        steps.append(_step(f"{subject} connections", old, "allowed", "postgres", alter))
    # A change of owner moves the old owner's grants to the new one: who is also the app's role must keep CONNECT, so
    # both are done at once.
    changed = there["owner"] != owner
    grants = {(owner if changed and who == there["owner"] else who, what) for who, what in there["grants"]}
    right = {(owner, what) for what in ("CONNECT", "CREATE", "TEMPORARY")}
    right |= {(user, "CONNECT"), (READER, "CONNECT")}
    statements = []
    if changed:
        statements.append(["ALTER DATABASE ", _name(database), " OWNER TO ", _name(owner)])
    if grants != right:
        others = sorted({who for who, _ in grants - right} - {owner, "PUBLIC"})
        statements.append(revoke_public)
        statements += [["REVOKE ALL ON DATABASE ", _name(database), " FROM ", _name(who), " CASCADE"] for who in others]
        statements += [["GRANT ALL ON DATABASE ", _name(database), " TO ", _name(owner)], let_in]
    if changed:
        steps.append(_step(f"{subject} owner", there["owner"], owner, "postgres", *statements, atomic=True))
    elif statements:
        old, new = _grant_text(grants), _grant_text(right)
        steps.append(_step(f"{subject} grants", old, new, "postgres", *statements, atomic=True))
    return steps


def _grant_text(grants: set[tuple[str, str]]) -> str:
    return ", ".join(f"{who}: {what}" for who, what in sorted(grants)) or "none"


def _plan_schema(database: str, owner: str, there: dict[str, Any] | None) -> list[dict[str, Any]]:
    """Return the steps for schema ``public``. In a new database it is right already (PostgreSQL 15 and later).

    Its owner is ``pg_database_owner``: whoever owns the database.
    """
    if there is None:
        return []
    subject = f"database {database} schema public"
    schema = there["public_schema"]
    if schema is None:
        create = ["CREATE SCHEMA public AUTHORIZATION pg_database_owner"]
        return [_step(subject, None, f"owned by {owner}", database, create, ["GRANT USAGE ON SCHEMA public TO PUBLIC"])]
    steps = []
    if schema["owner"] not in ("pg_database_owner", owner):
        alter = ["ALTER SCHEMA public OWNER TO pg_database_owner"]
        steps.append(_step(f"{subject} owner", schema["owner"], owner, database, alter))
    writers = set(schema["writers"]) - {"pg_database_owner", owner, schema["owner"]}
    if writers:
        revokes = [
            ["REVOKE CREATE ON SCHEMA public FROM ", "PUBLIC" if who == "PUBLIC" else _name(who), " CASCADE"]
            for who in sorted(writers)
        ]
        steps.append(_step(f"{subject} writers", ", ".join(sorted(writers)), "only the owner", database, *revokes))
    return steps


def _plan_objects(database: str, owner: str, user: str, there: dict[str, Any] | None) -> list[dict[str, Any]]:
    """Return the steps by which everything in a database is the owner's, and the app may work with it.

    A right that a migration took away stays away (``REVOKE UPDATE`` on a table that is only added to): a table
    counts as closed when the app has no right in it at all.
    """
    subject = f"database {database}"
    steps = []
    found = there["objects"] if there else {"default_privileges": []}
    if set(found["default_privileges"]) != default_privileges():
        statements = [
            ["ALTER DEFAULT PRIVILEGES FOR ROLE ", _name(owner), f" GRANT {', '.join(what)} ON {kind} TO ", _name(user)]
            for kind, what in APP_PRIVILEGES.values()
        ]
        old = None if not found["default_privileges"] else _grant_text(set(found["default_privileges"]))
        new = f"{user} may read and write what {owner} makes"
        steps.append(_step(f"{subject} default privileges", old, new, database, *statements, atomic=True))
    if there is None:
        return steps
    # Between a table's change of owner and its grant the app would be shut out: so all at once, or nothing. And who
    # waits for a table makes others wait: hence the short timeout. The next apply tries again.
    moves: list[list[Any]] = []
    if found["owned_by_app"]:
        moves.append(_reassign(user, owner))
    moves += [["ALTER TABLE ", *_qualified(one), " OWNER TO ", _name(owner)] for one in found["strays"]]
    grants = [["GRANT USAGE ON SCHEMA ", _name(schema), " TO ", _name(user)] for schema in found["closed_schemas"]]
    for schema, name, kind in found["closed"]:
        kinds, what = APP_PRIVILEGES["S" if kind == "S" else "r"]
        grants.append([f"GRANT {', '.join(what)} ON {kinds[:-1]} ", *_qualified((schema, name)), " TO ", _name(user)])
    if moves or grants:
        parts = [
            f"{found['owned_by_app']} owned by {user}" if found["owned_by_app"] else "",
            f"{len(found['strays'])} owned by others" if found["strays"] else "",
            f"{len(grants)} closed to {user}" if grants else "",
        ]
        old, new = ", ".join(filter(None, parts)), f"owned by {owner}, open to {user}"
        wait = ["SET LOCAL lock_timeout = '2s'"]
        steps.append(_step(f"{subject} objects", old, new, database, wait, *moves, *grants, atomic=True))
    return steps


def _reassign(user: str, owner: str) -> list[Any]:
    """Return the statement that gives an owner what its app owns, but for the app's large objects.

    Postgres knows no exception from REASSIGN OWNED. Whoever is given rights in a large object may still not remove it,
    so the app stays its owner.
    """
    begin = "DO $saltern$ DECLARE one pg_catalog.oid; kept pg_catalog.oid[] DEFAULT ARRAY(SELECT m.oid"
    begin += " FROM pg_catalog.pg_largeobject_metadata m"
    begin += (
        " JOIN pg_catalog.pg_roles r ON r.oid OPERATOR(pg_catalog.=) m.lomowner WHERE r.rolname OPERATOR(pg_catalog.=) "
    )
    each = "FOREACH one IN ARRAY kept LOOP EXECUTE pg_catalog.concat('ALTER LARGE OBJECT ', one, ' OWNER TO ',"
    each += " pg_catalog.quote_ident("
    move = ["REASSIGN OWNED BY ", _name(user), " TO ", _name(owner)]
    return [begin, {"literal": user}, "); BEGIN ", *move, "; ", each, {"literal": user}, ")); END LOOP; END $saltern$"]


def default_privileges() -> set[tuple[str, str]]:
    """Return what the app gets of everything that its owner makes.

    Returns:
        Pairs of pg_default_acl's letter and a privilege.

    Example:
        >>> ("S", "USAGE") in default_privileges()
        True
    """
    return {(kind, privilege) for kind, (_, privileges) in APP_PRIVILEGES.items() for privilege in privileges}


def _qualified(one: list[str] | tuple[str, ...]) -> list[Any]:
    return [_name(one[0]), ".", _name(one[1])]


def _plan_extensions(database: str, extensions: list[str], there: dict[str, Any] | None) -> list[dict[str, Any]]:
    """Return the steps by which the database has these extensions.

    An extension's script runs as a superuser and finds what lies in the schema that it is made for. So it is made in a
    new one, where nobody could lay anything, and moved afterwards; the name is PostgreSQL's to refuse when it is taken.
    """
    schema = _name("saltern_new_extension")
    return [
        _step(
            f"database {database} extension {name}",
            None,
            "created",
            database,
            ["CREATE SCHEMA ", schema],
            ["CREATE EXTENSION ", _name(name), " SCHEMA ", schema],
            ["ALTER EXTENSION ", _name(name), " SET SCHEMA public"],
            ["DROP SCHEMA ", schema],
            atomic=True,
        )
        for name in extensions
        if there is None or name not in there["extensions"]
    ]
