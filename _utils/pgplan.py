"""Databases and roles: from what a server has to what it should have. Pure, so a plan and an apply cannot differ."""

from __future__ import annotations

from typing import Any

#: What both roles of an app are. Every attribute that lets it leave its own database is off.
ROLE_ATTRIBUTES = {
    "rolcanlogin": ("LOGIN", True),
    "rolsuper": ("SUPERUSER", False),
    "rolcreatedb": ("CREATEDB", False),
    "rolcreaterole": ("CREATEROLE", False),
    "rolreplication": ("REPLICATION", False),
    "rolbypassrls": ("BYPASSRLS", False),
    "rolinherit": ("INHERIT", True),
}

#: Our own roles (pgsession.py), what each is, and the groups it is in. Root comes as them, so they have no password.
READER = "saltern_reader"
READER_GROUPS = ("pg_read_all_settings", "pg_read_all_stats")

#: What sessions of our own roles begin with, whoever opens them; ``ALTER DATABASE ... SET`` cannot undo it. By name,
#: the text that PostgreSQL keeps, and the values for SQL.
OWN_SETTINGS = {
    "search_path": ("pg_catalog, pg_temp", ("pg_catalog", "pg_temp")),
    "role": ("none", ("none",)),
}

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


def plan(
    databases: dict[str, dict[str, Any]], current: dict[str, Any], verifiers: dict[str, str]
) -> list[dict[str, Any]]:
    """Return the steps from what is there to what should be there.

    Args:
        databases: From :func:`wanted`.
        current: From ``pg.databases``: ``roles`` and ``databases`` by name. Empty for a server that is yet to come.
        verifiers: New ones, by role; roles whose password is right have none.

    Returns:
        Steps in their order: ``subject`` (``role demo``), ``old`` and ``new`` (for the plan; never a password),
        ``database`` (where to run it), ``statements`` and ``atomic`` (all of them or none). A statement is a list of
        SQL text and of values that ``pg.execute`` quotes: ``["DROP ROLE ", {"identifier": "demo"}]``.

    Example:
        >>> plan({}, {"roles": {}, "databases": {}}, {})
        []
    """
    roles, present = current.get("roles", {}), current.get("databases", {})
    steps = plan_role(READER, roles.get(READER), None, "can look, and change nothing", groups=READER_GROUPS, peer=True)
    steps += _plan_settings({role: OWN_SETTINGS for role in ("postgres", READER)}, current.get("settings", []))
    for database, entry in databases.items():
        for key, new in (("user", "can log in, owns nothing"), ("owner", "can log in, owns the app's database only")):
            role = entry[key]
            steps += plan_role(role, roles.get(role), verifiers.get(role), new)
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


def plan_role(
    role: str,
    there: dict[str, Any] | None,
    verifier: str | None,
    new: str,
    replication: bool = False,
    groups: tuple[str, ...] = (),
    peer: bool = False,
) -> list[dict[str, Any]]:
    """Return the steps by which a role can log in, and has no right of its own.

    Args:
        role: The role's name.
        there: What ``pg.roles`` found of it; None for a role that is yet to come.
        verifier: A new one; None when its password is right.
        new: What it will be, for the plan.
        replication: Whether it may copy the cluster.
        groups: The roles that it is a member of, and of no other.
        peer: Whether it comes over the socket only, and has no password.

    Returns:
        Steps as :func:`plan`.

    Example:
        >>> plan_role("demo", None, "SCRAM-SHA-256$...", "can log in")[0]["subject"]
        'role demo'
    """
    subject = f"role {role}"
    attributes = {**ROLE_ATTRIBUTES, "rolreplication": ("REPLICATION", replication)}
    options = " ".join(word if on else f"NO{word}" for word, on in attributes.values())
    secret = [" PASSWORD NULL"] if peer else [" PASSWORD ", {"literal": verifier}]
    joins = {group: ["GRANT ", _name(group), " TO ", _name(role)] for group in groups}
    if there is None:
        create = ["CREATE ROLE ", _name(role), f" {options} CONNECTION LIMIT -1", *secret]
        return [_step(subject, None, new, "postgres", create, *joins.values(), atomic=True)]
    steps = []
    wrong = {word: there[column] for column, (word, on) in attributes.items() if there[column] != on}
    if there["rolconnlimit"] != -1:
        wrong["CONNECTION LIMIT"] = there["rolconnlimit"]
    if there["expires"]:
        wrong["VALID UNTIL"] = there["expires"]
    if wrong:
        old = ", ".join(f"{word} {value}" for word, value in sorted(wrong.items()))
        alter = ["ALTER ROLE ", _name(role), f" {options} CONNECTION LIMIT -1 VALID UNTIL 'infinity'"]
        steps.append(_step(f"{subject} attributes", old, options, "postgres", alter))
    for group in sorted(set(there["member_of"]) - set(groups)):
        revoke = ["REVOKE ", _name(group), " FROM ", _name(role), " CASCADE"]
        steps.append(_step(f"{subject} member of {group}", True, False, "postgres", revoke))
    steps += [
        _step(f"{subject} member of {group}", False, True, "postgres", join)
        for group, join in joins.items()
        if group not in there["member_of"]
    ]
    if verifier or (peer and there["rolpassword"]):
        old = "another password" if there["rolpassword"] else "no password"
        new = "no password" if peer else "the password in the pillar"
        steps.append(_step(f"{subject} password", old, new, "postgres", ["ALTER ROLE ", _name(role), *secret]))
    return steps


def _plan_settings(wanted: dict[str, dict[str, Any]], rows: list[dict[str, str]]) -> list[dict[str, Any]]:
    """Return the steps by which these settings of roles are the only ones: a session begins with what the site says.

    Values are not shown: somebody may have put a secret into one.
    """
    there: dict[tuple[str, str], dict[str, str]] = {(role, ""): {} for role in wanted}
    for row in rows:
        name, _, value = row["setting"].partition("=")
        there.setdefault((row["role"], row["database"]), {})[name] = value
    steps = []
    for (role, database), found in there.items():
        right = wanted.get(role, {}) if not database else {}
        wrong = {name for name, value in found.items() if name in right and value != right[name][0]}
        strange, lacking = sorted(set(found) - set(right)), sorted(set(right) - set(found) | wrong)
        if not (strange or lacking):
            continue
        target: list[Any] = ["ALTER ROLE ", _name(role) if role else "ALL"]
        target += [" IN DATABASE ", _name(database)] if role and database else []
        target = ["ALTER DATABASE ", _name(database)] if database and not role else target
        statements = [[*target, " RESET ", *_setting(name)] for name in strange]
        statements += [[*target, " SET ", *_setting(name), " TO ", *_values(right[name][1])] for name in lacking]
        old = ", ".join(f"{name} (another value)" if name in wrong else name for name in sorted(found)) or None
        new = ", ".join(sorted(right)) or None
        who = " in ".join([f"role {role}"] * bool(role) + [f"database {database}"] * bool(database)) or "all roles"
        steps.append(_step(f"{who} settings", old, new, "postgres", *statements, atomic=True))
    return steps


def _setting(name: str) -> list[Any]:
    """A name such as plpgsql.check_asserts is two names for SQL."""
    first, *others = name.split(".")
    return [_name(first), *(part for other in others for part in (".", _name(other)))]


def _values(values: tuple[str, ...]) -> list[Any]:
    first, *others = values
    return [{"literal": first}, *(part for other in others for part in (", ", {"literal": other}))]


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
        moves.append(["REASSIGN OWNED BY ", _name(user), " TO ", _name(owner)])
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
