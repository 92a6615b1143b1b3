"""Roles of a server, owned whole: which there are, what each may be, and what its sessions begin with. Pure.

An app has two roles, one that works and one that owns. Each has two login roles that take turns when its password is
replaced: itself, and from its first rotation on a double (``demo__2``) that is its member and acts as it. A role in no
valid slot cannot log in, and has no password.
"""

from __future__ import annotations

from typing import Any

#: Our own role to look with (pgsession.py), and the groups it is in. Root comes as it, so it has no password.
READER = "saltern_reader"
READER_GROUPS = ("pg_read_all_settings", "pg_read_all_stats")
#: Our own role that ends sessions which take what all share (salt/postgres/files/postgres-guard.py).
GUARD = "saltern_guard"
GUARD_GROUPS = ("pg_read_all_stats", "pg_signal_backend")
GUARD_SESSIONS = 2  # one, and one more while it starts anew
SUPERUSER = "postgres"
#: The roles that replicas copy with are pgreplica's.
REPLICATION = ("saltern_replication", "saltern_replication__2")

#: What every role is that can log in. Every attribute that lets it leave its own database is off.
ATTRIBUTES = {
    "rolcanlogin": ("LOGIN", True),
    "rolsuper": ("SUPERUSER", False),
    "rolcreatedb": ("CREATEDB", False),
    "rolcreaterole": ("CREATEROLE", False),
    "rolreplication": ("REPLICATION", False),
    "rolbypassrls": ("BYPASSRLS", False),
    "rolinherit": ("INHERIT", True),
}

#: What sessions of our own roles begin with, whoever opens them; ``ALTER DATABASE ... SET`` cannot undo it. By name,
#: the text that PostgreSQL keeps, and the values for SQL.
OWN_SETTINGS = {
    "search_path": ("pg_catalog, pg_temp", ("pg_catalog", "pg_temp")),
    "role": ("none", ("none",)),
}


def double(role: str) -> str:
    """Return the name of a role's second login role.

    Example:
        >>> double("demo")
        'demo__2'
    """
    return f"{role}__2"


def logins(role: str, password: str, slot: int = 1, previous: str | None = None) -> dict[str, str | None]:
    """Return who can log in for a role.

    Args:
        role: The role.
        password: The one in force.
        slot: 1 when the role itself is in force, 2 when its double is.
        previous: The password of the other one while that is still good.

    Returns:
        The password of each of the two; None for one that is closed.

    Example:
        >>> logins("demo", "new", 2, "old")
        {'demo': 'old', 'demo__2': 'new'}
    """
    return {role: password if slot == 1 else previous, double(role): previous if slot == 1 else password}


def plan(
    databases: dict[str, dict[str, Any]],
    current: dict[str, Any],
    verifiers: dict[str, str],
    valid: list[str],
    extra: list[str],
    kept: list[dict[str, Any]] | None = None,
) -> list[dict[str, Any]]:
    """Return the steps by which a server has the roles that it should, and they are what they should be.

    Args:
        databases: From ``pgplan.wanted``.
        current: From ``pg.databases``: ``roles`` and ``settings``. Empty for a server that is yet to come.
        verifiers: New ones, by login role; those whose password is right have none.
        valid: The login roles that are in a valid slot; the others are closed.
        extra: Roles that a team's migrations grant rights to; they cannot log in.
        kept: ``user`` and ``owner`` of each app that is leaving: nothing of these roles is changed.

    Returns:
        Steps as ``pgplan.plan``.

    Example:
        >>> [step["subject"] for step in plan({}, {}, {}, [], [])][0]
        'role saltern_reader'
    """
    there, settings = current.get("roles", {}), {role: dict(OWN_SETTINGS) for role in (SUPERUSER, READER, GUARD)}
    steps = plan_role(READER, there.get(READER), None, "can look, and change nothing", groups=READER_GROUPS, peer=True)
    ends = "can end sessions, and read nothing"
    steps += plan_role(GUARD, there.get(GUARD), None, ends, groups=GUARD_GROUPS, peer=True, limit=GUARD_SESSIONS)
    known = {SUPERUSER, READER, GUARD, *REPLICATION}
    for entry in databases.values():
        for key, new in (("user", "can log in, owns nothing"), ("owner", "can log in, owns the app's database only")):
            role, second = entry[key], double(entry[key])
            is_open = {name: name in valid for name in (role, second)}
            limit = entry.get("limits", {}).get(key, -1)
            own = {"login": is_open[role], "limit": limit}
            steps += plan_role(role, there.get(role), verifiers.get(role), new, **own)
            chosen = entry.get("settings", {}).get(key, {})
            settings[role] = {name: (value, (value,)) for name, value in chosen.items()}
            if is_open[second] or second in there:
                own = {"login": is_open[second], "limit": limit, "groups": (role,)}
                steps += plan_role(second, there.get(second), verifiers.get(second), f"logs in as {role}", **own)
                # It acts as the role itself, so what it makes is that role's.
                settings[second] = {**settings[role], "role": (role, (role,))}
            known |= {role, second}
    for role in extra:
        steps += plan_role(role, there.get(role), None, "cannot log in", login=False)
        settings[role], known = {}, known | {role}
    steps += _plan_superuser(there.get(SUPERUSER))
    untouched = {name for entry in kept or [] for key in ("user", "owner") for name in (entry[key], double(entry[key]))}
    known |= untouched
    for role in sorted(set(there) - known):
        steps += plan_stranger(role, there[role])
    gone = {role for role in set(there) - known if is_dropped(there[role])}
    rows = [row for row in current.get("settings", []) if row["role"] not in gone | untouched]
    return steps + plan_settings(settings, rows)


def _name(text: str) -> dict[str, str]:
    return {"identifier": text}


def _step(subject: str, old: Any, new: Any, *statements: list[Any], atomic: bool = False) -> dict[str, Any]:
    step = {"subject": subject, "old": old, "new": new, "database": "postgres", "statements": list(statements)}
    return {**step, "atomic": atomic}


def plan_role(
    role: str,
    there: dict[str, Any] | None,
    verifier: str | None,
    new: str,
    replication: bool = False,
    groups: tuple[str, ...] = (),
    peer: bool = False,
    login: bool = True,
    limit: int = -1,
) -> list[dict[str, Any]]:
    """Return the steps by which a role can log in, or not, and has no right of its own.

    Args:
        role: The role's name.
        there: What ``pg.roles`` found of it; None for a role that is yet to come.
        verifier: A new one; None when its password is right.
        new: What it will be, for the plan.
        replication: Whether it may copy the cluster.
        groups: The roles that it is a member of, and of no other.
        peer: Whether it comes over the socket only, and has no password.
        login: Whether it can log in.
        limit: How many sessions it may have at once; -1 for any number.

    Returns:
        Steps as :func:`plan`.

    Example:
        >>> plan_role("demo", None, "SCRAM-SHA-256$...", "can log in")[0]["subject"]
        'role demo'
    """
    subject = f"role {role}"
    attributes = {**ATTRIBUTES, "rolreplication": ("REPLICATION", replication), "rolcanlogin": ("LOGIN", login)}
    words = [word if on else f"NO{word}" for word, on in attributes.values()]
    options = " ".join([*words, f"CONNECTION LIMIT {limit}"])
    keyless = peer or not login
    secret = [" PASSWORD NULL"] if keyless else [" PASSWORD ", {"literal": verifier}]
    joins = {group: ["GRANT ", _name(group), " TO ", _name(role)] for group in groups}
    if there is None:
        create = ["CREATE ROLE ", _name(role), f" {options}", *secret]
        return [_step(subject, None, new, create, *joins.values(), atomic=True)]
    steps = []
    wrong = {word: there[column] for column, (word, on) in attributes.items() if there[column] != on}
    if there["rolconnlimit"] != limit:
        wrong["CONNECTION LIMIT"] = there["rolconnlimit"]
    if there["expires"]:
        wrong["VALID UNTIL"] = there["expires"]
    if wrong:
        old = ", ".join(f"{word} {value}" for word, value in sorted(wrong.items()))
        alter = ["ALTER ROLE ", _name(role), f" {options} VALID UNTIL 'infinity'"]
        steps.append(_step(f"{subject} attributes", old, options, alter))
    steps += _plan_groups(role, there, groups)
    if verifier or (keyless and there["rolpassword"]):
        old = "another password" if there["rolpassword"] else "no password"
        new = "no password" if keyless else "the password in the pillar"
        steps.append(_step(f"{subject} password", old, new, ["ALTER ROLE ", _name(role), *secret]))
    return steps


def _plan_groups(role: str, there: dict[str, Any], groups: tuple[str, ...]) -> list[dict[str, Any]]:
    """Return steps for memberships, revoked in the name of who granted them: from 16 on nothing else does."""
    steps, kept = [], set()
    for group, grantor, admin in there["member_of"]:
        if group in groups and not admin:
            kept.add(group)
            continue
        revoke = ["REVOKE ", _name(group), " FROM ", _name(role), " GRANTED BY ", _name(grantor), " CASCADE"]
        statements = [revoke, ["GRANT ", _name(group), " TO ", _name(role)]] if group in groups else [revoke]
        new = "a member" if group in groups else False
        old = "may let others in" if admin else True
        steps.append(_step(f"role {role} member of {group}", old, new, *statements, atomic=True))
        kept.add(group)
    for group in groups:
        if group not in kept:
            join = ["GRANT ", _name(group), " TO ", _name(role)]
            steps.append(_step(f"role {role} member of {group}", False, True, join))
    return steps


def _plan_superuser(there: dict[str, Any] | None) -> list[dict[str, Any]]:
    if there is None or not there["rolpassword"]:
        return []
    alter = ["ALTER ROLE ", _name(SUPERUSER), " PASSWORD NULL"]
    return [_step(f"role {SUPERUSER} password", "a password", "no password: it comes over the socket only", alter)]


def is_dropped(there: dict[str, Any]) -> bool:
    """Return whether a stranger's role goes: when it could do something, and nothing hangs on it.

    Args:
        there: What ``pg.databases`` found of it.

    Example:
        >>> is_dropped({"armed": True, "dependents": 0})
        True
    """
    return bool(there["armed"] and not there["dependents"])


def plan_stranger(role: str, there: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the steps by which a role that the site does not know can do nothing.

    It goes when nothing hangs on it; else it stays without any right to log in, as those of an app that left do: what
    it owns may be somebody's data.

    Args:
        role: Its name.
        there: What ``pg.databases`` found of it.

    Returns:
        Steps as :func:`plan`.
    """
    if not there["armed"]:
        return []
    words = [word for column, (word, _) in ATTRIBUTES.items() if column != "rolinherit" and there[column]]
    groups = sorted({group for group, _, _ in there["member_of"]})
    old = ", ".join([*words, *(f"member of {group}" for group in groups), *["a password"] * bool(there["rolpassword"])])
    old = f"of nobody in the site: {old or 'nothing'}"
    if is_dropped(there):
        return [_step(f"role {role}", old, None, ["DROP ROLE ", _name(role)])]
    off = " ".join(f"NO{word}" for column, (word, _) in ATTRIBUTES.items() if column != "rolinherit")
    statements = [["ALTER ROLE ", _name(role), f" {off} PASSWORD NULL"]]
    for group, grantor, _ in there["member_of"]:
        statements.append(["REVOKE ", _name(group), " FROM ", _name(role), " GRANTED BY ", _name(grantor), " CASCADE"])
    return [_step(f"role {role}", old, "can do nothing; what hangs on it stays", *statements, atomic=True)]


def plan_settings(wanted: dict[str, dict[str, Any]], rows: list[dict[str, str]]) -> list[dict[str, Any]]:
    """Return the steps by which these settings of roles are the only ones: a session begins with what the site says.

    Values are not shown: somebody may have put a secret into one.

    Args:
        wanted: For each role settings by name: the text that PostgreSQL keeps, and the values for SQL.
        rows: ``role`` and ``database`` (empty: for all) and ``setting`` (``name=value``) of each that there is.

    Returns:
        Steps as :func:`plan`.

    Example:
        >>> plan_settings({}, [{"role": "", "database": "demo", "setting": "jit=on"}])[0]["subject"]
        'database demo settings'
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
        steps.append(_step(f"{who} settings", old, new, *statements, atomic=True))
    return steps


def _setting(name: str) -> list[Any]:
    """Return a setting's name for SQL: plpgsql.check_asserts is two names."""
    first, *others = name.split(".")
    return [_name(first), *(part for other in others for part in (".", _name(other)))]


def _values(values: tuple[str, ...]) -> list[Any]:
    first, *others = values
    return [{"literal": first}, *(part for other in others for part in (", ", {"literal": other}))]
