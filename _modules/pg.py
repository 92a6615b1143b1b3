"""PostgreSQL: sizes, configuration files, and databases with their roles.

Three parts. Pure functions turn settings into configuration (``tuning``, ``config``, ``hba``). ``databases`` and
``execute`` read and change a server over its Unix socket as root: pg_ident.conf lets root connect as ``postgres``, so
there is no ``su`` and no password. ``plan`` compares the two; it is pure as well, so a plan and an apply cannot differ.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import hmac
import os
import re
import shutil
import stringprep
import subprocess
import unicodedata
from pathlib import Path
from typing import Any

__virtualname__ = "pg"

#: Debian release -> PostgreSQL's major version in it.
DEBIAN_VERSIONS = {12: 15, 13: 17}

SOCKET_DIRECTORY = "/run/postgresql"
MARKERS = Path("/var/lib/saltern/postgres")

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

#: What an app may do with what its owner makes, by pg_default_acl's letter: the words for SQL, and the privileges.
APP_PRIVILEGES = {
    "r": ("TABLES", ("SELECT", "INSERT", "UPDATE", "DELETE")),
    "S": ("SEQUENCES", ("USAGE", "SELECT")),
    "n": ("SCHEMAS", ("USAGE",)),
}

SCRAM_ITERATIONS = 4096


# Sizes. All pure.


def server_version(debian_release: int) -> int:
    """Return PostgreSQL's major version in a Debian release.

    Args:
        debian_release: 12 or 13.

    Returns:
        The major version.

    Raises:
        ValueError: Saltern does not know this Debian release.

    Example:
        >>> server_version(13)
        17
    """
    if debian_release not in DEBIAN_VERSIONS:
        known = " and ".join(str(release) for release in DEBIAN_VERSIONS)
        raise ValueError(f"Saltern's postgres role knows Debian {known}; this host has Debian {debian_release}")
    return DEBIAN_VERSIONS[debian_release]


def budget_mb(memory_total_mb: int, share: float) -> int:
    """Return how much of a host's memory PostgreSQL is sized for.

    Rounded down to a sixteenth of a power of two: the kernel reports a few MB more or less after each update, and
    that must not restart the server.

    Args:
        memory_total_mb: The host's memory in MB, as the kernel reports it.
        share: PostgreSQL's share of it, above 0 and up to 1. Less than 1 where apps run on the same host.

    Returns:
        Memory in MB, at least 256.

    Raises:
        ValueError: The share is out of range.

    Example:
        >>> budget_mb(24105, 0.5), budget_mb(24090, 0.5)
        (11776, 11776)
    """
    if not 0 < share <= 1:
        raise ValueError(f"postgres.memory_share is {share}; it must be above 0 and at most 1")
    wanted = int(memory_total_mb * share)
    step = max(2 ** (wanted.bit_length() - 1) // 16, 1)
    return max(wanted // step * step, 256)


def tuning(memory_mb: int, cpus: int, version: int, max_connections: int | None = None) -> dict[str, str]:
    """Return memory and parallelism settings for a web workload.

    The rules are PGTune's for "web" (le0pard/pgtune at 7caef27, configurationSlice.js): a quarter of the memory for
    shared_buffers, the rest divided by three times the processes for work_mem, a sixteenth for maintenance_work_mem.
    One difference: PGTune's floor of 4 MB for work_mem times its 200 connections is more than a small host has, so here
    the number of connections (and of parallel workers) yields first.

    For any size, shared_buffers + (max_connections + max_worker_processes) x work_mem + maintenance_work_mem
    + three autovacuum workers stays below 80 % of the memory.

    Args:
        memory_mb: Memory for PostgreSQL in MB, at least 256.
        cpus: Number of CPUs.
        version: PostgreSQL's major version.
        max_connections: How many connections; None for as many as the memory carries, between 25 and 200.

    Returns:
        Settings by name, as in postgresql.conf.

    Raises:
        ValueError: The memory is too small, at all or for so many connections.

    Example:
        >>> tuning(1024, 2, 17)["shared_buffers"], tuning(1024, 2, 17)["max_connections"]
        ('256MB', '56')
    """
    if memory_mb < 256:
        raise ValueError(f"postgres needs at least 256 MB; postgres.memory_mb is {memory_mb}")
    if cpus < 1:
        raise ValueError(f"the number of CPUs is {cpus}")
    workers = max(8, min(cpus, memory_mb // 64))
    shared_kb = memory_mb * 1024 // 4
    # PGTune: (memory - shared_buffers) / (3 x processes), which is a quarter of the memory for all processes together.
    for_work_kb = (memory_mb * 1024 - shared_kb) // 3
    if max_connections is None:
        max_connections = min(max(for_work_kb // 4096 - workers, 25), 200)
    work_kb = for_work_kb // (max_connections + workers)
    if work_kb < 1024:
        needed = -(-(max_connections + workers) * 4 // 256) * 256
        raise ValueError(
            f"postgres.max_connections is {max_connections}, which leaves {work_kb} kB of work_mem for each in"
            f" {memory_mb} MB; give at least {needed} MB (postgres.memory_mb) or allow fewer connections"
        )
    maintenance_mb = min(memory_mb // 16, 8192)
    settings = {
        "max_connections": str(max_connections),
        "shared_buffers": f"{shared_kb // 1024}MB",
        "effective_cache_size": f"{memory_mb * 3 // 4}MB",
        "work_mem": f"{work_kb}kB",
        "maintenance_work_mem": f"{maintenance_mb}MB",
        "autovacuum_work_mem": f"{min(maintenance_mb, 2048)}MB",
        # A small host mostly has a small disk: WAL is kept in step with the memory.
        "min_wal_size": "1GB" if memory_mb >= 2048 else "256MB",
        "max_wal_size": "4GB" if memory_mb >= 2048 else "1GB",
        "random_page_cost": "1.1",
        "effective_io_concurrency": "200",
        "jit": "off",
        "max_worker_processes": str(workers),
    }
    if version >= 15:
        settings["wal_compression"] = "lz4"
    if cpus >= 4:
        per_query = min(cpus // 2, 4)
        settings["max_parallel_workers"] = str(cpus)
        settings["max_parallel_workers_per_gather"] = str(per_query)
        settings["max_parallel_maintenance_workers"] = str(per_query)
    return settings


# Configuration files. All pure.


def config(settings: dict[str, Any]) -> str:
    """Return postgresql.conf's lines.

    Args:
        settings: Values by name. Booleans become on and off; everything is quoted.

    Returns:
        One line for each setting, in the given order.

    Raises:
        ValueError: A name is no setting's name, or a value has a line break.

    Example:
        >>> config({"ssl": True, "log_line_prefix": "it's "})
        "ssl = 'on'\\nlog_line_prefix = 'it''s '\\n"
    """
    lines = []
    for name, value in settings.items():
        if not re.fullmatch(r"[a-zA-Z_][\w.]*", name):
            raise ValueError(f"postgres.settings: {name!r} is not the name of a PostgreSQL setting")
        text = {True: "on", False: "off"}[value] if isinstance(value, bool) else str(value)
        if "\n" in text:
            raise ValueError(f"postgres.settings.{name}: a value is one line")
        quoted = text.replace("\\", "\\\\").replace("'", "''")
        lines.append(f"{name} = '{quoted}'\n")
    return "".join(lines)


def _hba_quote(name: str) -> str:
    """Return a name for pg_hba.conf in quotes, so that ``all`` or ``replication`` are only names."""
    if '"' in name or "\n" in name:
        raise ValueError(f"the name {name!r} cannot stand in pg_hba.conf: no quotes, no line breaks")
    return f'"{name}"'


def hba(clients: list[dict[str, Any]]) -> str:
    """Return pg_hba.conf: one line for each need, and a final reject.

    Args:
        clients: Who may connect: ``database``, ``user``, ``owner`` and ``address`` (a network, such as 10.0.0.5/32)
            each. The owner comes from the same hosts, to migrate.

    Returns:
        The whole file.

    Raises:
        ValueError: A name cannot be written in pg_hba.conf, or an address has no prefix length.

    Example:
        >>> client = {"database": "demo", "user": "demo", "owner": "demo_owner", "address": "127.0.0.1/32"}
        >>> print(hba([client]).splitlines()[3])
        hostssl "demo" "demo" 127.0.0.1/32 scram-sha-256
    """
    lines = [
        "# Written by Salt. Who may connect is derived from the fleet: change it there.",
        "# type database user address method",
        'local all "postgres" peer map=saltern',
    ]
    needs = []
    for client in clients:
        address = client["address"]
        if not re.fullmatch(r"[0-9a-fA-F:.]+/\d+", address):
            raise ValueError(f"wiring.postgres.clients: the address {address!r} is not a network such as 10.0.0.5/32")
        database = _hba_quote(client["database"])
        needs += [
            f"hostssl {database} {_hba_quote(client[role])} {address} scram-sha-256" for role in ("user", "owner")
        ]
    lines += list(dict.fromkeys(needs))
    # `all` in the second column does not cover replication.
    lines += [
        "local replication all reject",
        "host replication all all reject",
        "local all all reject",
        "host all all all reject",
    ]
    return "\n".join(lines) + "\n"


def ident() -> str:
    """Return pg_ident.conf: root and postgres may act as ``postgres``, over the Unix socket only.

    Root can become every user anyway; this way it needs no ``su`` for each query.

    Returns:
        The whole file.

    Example:
        >>> "saltern root postgres" in ident()
        True
    """
    return "# Written by Salt.\n# map, system user, database user\nsaltern root postgres\nsaltern postgres postgres\n"


# Passwords. All pure.


def saslprep(password: str) -> str:
    """Return a password as SCRAM wants it (RFC 4013).

    Like PostgreSQL, a password that RFC 4013 forbids is taken as it is.

    Args:
        password: Any text.

    Returns:
        The prepared password.

    Example:
        >>> saslprep("I\\u00adX")
        'IX'
    """
    if password.isascii():
        return password
    mapped = "".join(
        " " if stringprep.in_table_c12(char) else char for char in password if not stringprep.in_table_b1(char)
    )
    prepared = unicodedata.ucd_3_2_0.normalize("NFKC", mapped)
    forbidden = (
        stringprep.in_table_a1,
        stringprep.in_table_c12,
        stringprep.in_table_c21_c22,
        stringprep.in_table_c3,
        stringprep.in_table_c4,
        stringprep.in_table_c5,
        stringprep.in_table_c6,
        stringprep.in_table_c7,
        stringprep.in_table_c8,
        stringprep.in_table_c9,
    )
    right_to_left = [stringprep.in_table_d1(char) for char in prepared]
    mixed = any(right_to_left) and (
        any(stringprep.in_table_d2(char) for char in prepared) or not (right_to_left[0] and right_to_left[-1])
    )
    if not prepared or mixed or any(test(char) for char in prepared for test in forbidden):
        return password
    return prepared


def scram_verifier(password: str, salt: bytes, iterations: int = SCRAM_ITERATIONS) -> str:
    """Return what PostgreSQL stores for a password, so that the password itself is never sent or logged.

    RFC 5802 section 3 with SHA-256 (RFC 7677); the form is that of PostgreSQL's pg_authid.rolpassword.

    Args:
        password: The password.
        salt: Random bytes, 16 as PostgreSQL's own.
        iterations: How often the hash is repeated.

    Returns:
        ``SCRAM-SHA-256$<iterations>:<salt>$<StoredKey>:<ServerKey>``.

    Example:
        >>> scram_verifier("pencil", b"0" * 16)[:44]
        'SCRAM-SHA-256$4096:MDAwMDAwMDAwMDAwMDAwMA==$'
    """
    salted = hashlib.pbkdf2_hmac("sha256", saslprep(password).encode(), salt, iterations)
    client_key = hmac.digest(salted, b"Client Key", "sha256")
    stored_key = hashlib.sha256(client_key).digest()
    server_key = hmac.digest(salted, b"Server Key", "sha256")
    salt64, stored64, server64 = (base64.b64encode(part).decode() for part in (salt, stored_key, server_key))
    return f"SCRAM-SHA-256${iterations}:{salt64}${stored64}:{server64}"


def verifier_matches(password: str, stored: str | None) -> bool:
    """Return whether a stored verifier was made from this password.

    Args:
        password: The password.
        stored: ``rolpassword``; None, an MD5 hash or anything else that is no SCRAM verifier never matches.

    Returns:
        True or False.

    Example:
        >>> verifier_matches("pencil", scram_verifier("pencil", b"0" * 16))
        True
    """
    form = re.fullmatch(r"SCRAM-SHA-256\$(\d+):([A-Za-z0-9+/=]+)\$[A-Za-z0-9+/=]+:[A-Za-z0-9+/=]+", stored or "")
    # Weaker than what we would write ourselves: write it again.
    if not form or int(form[1]) < SCRAM_ITERATIONS:
        return False
    mine = scram_verifier(password, base64.b64decode(form[2]), int(form[1]))
    return hmac.compare_digest(mine, stored or "")


# What should be there, and what it takes. All pure.


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
    databases: dict[str, dict[str, Any]],
    current: dict[str, Any],
    passwords: dict[str, str],
    salts: dict[str, bytes],
) -> list[dict[str, Any]]:
    """Return the steps from what is there to what should be there.

    Args:
        databases: From :func:`wanted`.
        current: From :func:`databases`: ``roles`` and ``databases`` by name. Empty for a server that is yet to come.
        passwords: By role.
        salts: Random bytes for new verifiers, by role.

    Returns:
        Steps in their order: ``subject`` (``role demo``), ``old`` and ``new`` (for the plan; never a password),
        ``database`` (where to run it), ``statements`` and ``atomic`` (all of them or none). A statement is a list of
        SQL text and of values that :func:`execute` quotes: ``["DROP ROLE ", {"identifier": "demo"}]``.

    Example:
        >>> plan({}, {"roles": {}, "databases": {}}, {}, {})
        []
    """
    steps: list[dict[str, Any]] = []
    roles, present = current.get("roles", {}), current.get("databases", {})
    for database, entry in databases.items():
        for key, new in (("user", "can log in, owns nothing"), ("owner", "can log in, owns the app's database only")):
            role = entry[key]
            steps += _plan_role(role, roles.get(role), passwords[role], salts[role], new)
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


def _plan_role(role: str, there: dict[str, Any] | None, password: str, salt: bytes, new: str) -> list[dict[str, Any]]:
    subject = f"role {role}"
    options = " ".join(word if on else f"NO{word}" for word, on in ROLE_ATTRIBUTES.values())
    secret = [" PASSWORD ", {"literal": scram_verifier(password, salt)}]
    if there is None:
        create = ["CREATE ROLE ", _name(role), f" {options} CONNECTION LIMIT -1", *secret]
        return [_step(subject, None, new, "postgres", create)]
    steps = []
    wrong = {word: there[column] for column, (word, on) in ROLE_ATTRIBUTES.items() if there[column] != on}
    if there["rolconnlimit"] != -1:
        wrong["CONNECTION LIMIT"] = there["rolconnlimit"]
    if there["expires"]:
        wrong["VALID UNTIL"] = there["expires"]
    if wrong:
        old = ", ".join(f"{word} {value}" for word, value in sorted(wrong.items()))
        alter = ["ALTER ROLE ", _name(role), f" {options} CONNECTION LIMIT -1 VALID UNTIL 'infinity'"]
        steps.append(_step(f"{subject} attributes", old, options, "postgres", alter))
    for group in there["member_of"]:
        revoke = ["REVOKE ", _name(group), " FROM ", _name(role), " CASCADE"]
        steps.append(_step(f"{subject} member of {group}", True, False, "postgres", revoke))
    if not verifier_matches(password, there["rolpassword"]):
        old = "another password" if there["rolpassword"] else "no password"
        alter = ["ALTER ROLE ", _name(role), *secret]
        steps.append(_step(f"{subject} password", old, "the password in the pillar", "postgres", alter))
    return steps


def _plan_database(database: str, owner: str, user: str, there: dict[str, Any] | None) -> list[dict[str, Any]]:
    subject = f"database {database}"
    revoke_public = ["REVOKE ALL ON DATABASE ", _name(database), " FROM PUBLIC CASCADE"]
    let_in = ["GRANT CONNECT ON DATABASE ", _name(database), " TO ", _name(user)]
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
    right = {(owner, what) for what in ("CONNECT", "CREATE", "TEMPORARY")} | {(user, "CONNECT")}
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
    if set(found["default_privileges"]) != _default_privileges():
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


def _default_privileges() -> set[tuple[str, str]]:
    return {(kind, privilege) for kind, (_, privileges) in APP_PRIVILEGES.items() for privilege in privileges}


def _qualified(one: list[str] | tuple[str, ...]) -> list[Any]:
    return [_name(one[0]), ".", _name(one[1])]


def _plan_extensions(database: str, extensions: list[str], there: dict[str, Any] | None) -> list[dict[str, Any]]:
    missing = [name for name in extensions if there is None or name not in there["extensions"]]
    return [
        _step(f"database {database} extension {name}", None, "created", database, ["CREATE EXTENSION ", _name(name)])
        for name in missing
    ]


# On the host.


def version() -> int:
    """Return PostgreSQL's major version on this host, installed or not.

    Returns:
        15 on Debian 12, 17 on Debian 13.

    Raises:
        ValueError: The host has another system.

    Example:
        salt-call pg.version
    """
    return server_version(int(__grains__["osmajorrelease"]))


def postgresql_conf(cluster: str, settings: dict[str, Any], listen: list[str]) -> str:
    """Return this host's postgresql.conf as a whole.

    Args:
        cluster: The cluster's name, ``main``.
        settings: The role's settings from the pillar: ``port``, ``memory_mb`` (or None), ``memory_share``,
            ``max_connections`` (or None) and ``settings``, which win over everything that is computed here.
        listen: The addresses to listen on.

    Returns:
        The whole file.

    Raises:
        ValueError: A setting is out of range; the message has its key.

    Example:
        salt-call pg.postgresql_conf main '{port: 5432, memory_mb: 1024, ...}' '[127.0.0.1]'
    """
    major = version()
    memory_mb = settings["memory_mb"] or budget_mb(__grains__["mem_total"], settings["memory_share"])
    values: dict[str, Any] = {
        **_server_settings(major, cluster, settings["port"], listen),
        **tuning(memory_mb, __grains__["num_cpus"], major, settings["max_connections"]),
        **settings["settings"],
    }
    return (
        "# Written by Salt as a whole; ALTER SYSTEM and edits here are not kept.\n"
        f"# Sized for {memory_mb} MB and {__grains__['num_cpus']} CPUs. Change postgres.settings in the site instead.\n"
        + config(values)
    )


def _server_settings(major: int, cluster: str, port: int, listen: list[str]) -> dict[str, Any]:
    """Return the settings that do not depend on the host's size."""
    settings: dict[str, Any] = {
        "data_directory": f"/var/lib/postgresql/{major}/{cluster}",
        "hba_file": f"/etc/postgresql/{major}/{cluster}/pg_hba.conf",
        "ident_file": f"/etc/postgresql/{major}/{cluster}/pg_ident.conf",
        # Debian's pg_lsclusters and pg_ctlcluster look for it here.
        "external_pid_file": f"/run/postgresql/{major}-{cluster}.pid",
        "cluster_name": f"{major}/{cluster}",
        "listen_addresses": ",".join(listen),
        "port": port,
        "unix_socket_directories": SOCKET_DIRECTORY,
        "password_encryption": "scram-sha-256",
        "ssl": True,
        "ssl_cert_file": "/etc/postgresql/tls/host.crt",
        "ssl_key_file": "/etc/postgresql/tls/host.key",
        "ssl_min_protocol_version": "TLSv1.3",
        # To the journal, which is bounded; it adds the time.
        "logging_collector": False,
        "log_destination": "stderr",
        "log_line_prefix": "[%p] %q%u@%d %a %h ",
        "log_checkpoints": True,
        "log_lock_waits": True,
        "log_temp_files": "10MB",
        "log_autovacuum_min_duration": "10s",
        "log_min_duration_statement": "1s",
        # Slow statements are logged without the values that users sent.
        "log_parameter_max_length": 0,
        "log_timezone": "Etc/UTC",
        "timezone": "Etc/UTC",
        "lc_messages": "C.UTF-8",
        # A forgotten transaction holds locks and stops vacuum.
        "idle_in_transaction_session_timeout": "5min",
        # A client that lost its network frees its connection within about two minutes.
        "tcp_keepalives_idle": "60s",
        "tcp_keepalives_interval": "10s",
        "tcp_keepalives_count": 6,
    }
    if major >= 17:
        settings["allow_alter_system"] = False
    return settings


def cluster_status(major: int, cluster: str) -> dict[str, bool]:
    """Return whether a cluster is there.

    Args:
        major: PostgreSQL's major version.
        cluster: The cluster's name.

    Returns:
        ``config`` and ``data`` (whether each part is there), ``interrupted`` (whether :func:`create_cluster` was
        killed while it made it).

    Example:
        salt-call pg.cluster_status 17 main
    """
    return {
        "config": Path(f"/etc/postgresql/{major}/{cluster}/postgresql.conf").exists(),
        "data": Path(f"/var/lib/postgresql/{major}/{cluster}/PG_VERSION").exists(),
        "interrupted": (MARKERS / f"{major}-{cluster}.creating").exists(),
    }


def create_cluster(major: int, cluster: str, port: int) -> str:
    """Create a cluster with data checksums, UTF-8, and no way in but the socket.

    A marker says that it is being made: what a killed run left behind is removed by the next one, and only then.

    Args:
        major: PostgreSQL's major version; its server must be installed.
        cluster: The cluster's name.
        port: The TCP port.

    Returns:
        An empty string, or what went wrong.

    Example:
        salt-call pg.create_cluster 17 main 5432
    """
    marker = MARKERS / f"{major}-{cluster}.creating"
    directories = [Path(f"/{top}/postgresql/{major}/{cluster}") for top in ("etc", "var/lib")]
    if marker.exists():
        for directory in directories:
            shutil.rmtree(directory, ignore_errors=True)
    MARKERS.mkdir(mode=0o700, parents=True, exist_ok=True)
    marker.touch()
    argv = ["pg_createcluster", str(major), cluster, "--port", str(port), "--encoding=UTF8", "--locale=C.UTF-8", "--"]
    argv += ["--data-checksums", "--auth-local=peer", "--auth-host=scram-sha-256"]
    try:
        done = subprocess.run(
            argv, capture_output=True, text=True, check=False, env={**os.environ, "LC_ALL": "C.UTF-8"}
        )
    except FileNotFoundError:
        return "pg_createcluster is not there: the package postgresql-common is missing"
    if done.returncode != 0:
        return f"pg_createcluster {major} {cluster} failed: {(done.stderr or done.stdout).strip()}"
    marker.unlink()
    return ""


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
                row["objects"] |= {"owned_by_app": 0, "default_privileges": _default_privileges()}
    except psycopg.OperationalError as error:
        socket = Path(SOCKET_DIRECTORY) / f".s.PGSQL.{port}"
        if socket.exists() and "refused" not in str(error):
            raise CommandExecutionError(f"PostgreSQL on port {port}: {_message(error)}") from error
        there = any(Path("/var/lib/postgresql").glob("*/*/PG_VERSION"))
        return {"server": "down" if there else "absent", "checksums": None, "roles": {}, "databases": {}}
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
