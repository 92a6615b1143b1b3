"""What in databases belongs, or was opened, to others than their owner and their app: how it is taken back. Pure.

A migration may do what it likes with what is its owner's; it may not open it to others, and what others have put there
does not stay theirs. What is found is SQL text that the server has quoted itself (saltern/postgres/pgsql.py).
"""

from __future__ import annotations

from typing import Any

TRIGGER = "EVENT TRIGGER"
SHOWN = 5  # of each kind in a plan; the rest is counted
#: Our own roles, which come to the database that no app has.
AT_HOME = ("saltern_reader", "saltern_guard")

#: What a server that was made just now opens to everybody.
FRESH = {
    "rights": [
        {"kind": "DATABASE", "identity": name, "grantee": "PUBLIC", "grantor": None, "handed_on": False}
        for name in ("postgres", "template1")
    ],
    "reader": False,
}


def own_roles(entry: dict[str, Any], extra: list[str]) -> list[str]:
    """Return who may have rights in an app's database.

    Args:
        entry: The database, from ``pgplan.wanted``.
        extra: Roles of the site beyond those of its apps.

    Returns:
        Names of roles.

    Example:
        >>> own_roles({"user": "demo", "owner": "demo_owner"}, [])
        ['demo', 'demo_owner', 'pg_database_owner']
    """
    return [entry["user"], entry["owner"], "pg_database_owner", *extra]


def nothing() -> dict[str, list[Any]]:
    """Return what is found in a database that is as it should be.

    Example:
        >>> nothing()["rights"]
        []
    """
    return {"rights": [], "default_rights": [], "strangers": []}


def plan(databases: dict[str, dict[str, Any]], current: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the steps by which nobody has anything in a database but its owner and its app.

    Args:
        databases: From ``pgplan.wanted``.
        current: From ``pg.databases``: ``shared``, and ``others`` of each database.

    Returns:
        Steps as ``pgplan.plan``. They come after those: what an app had by way of PUBLIC it then has by itself.

    Example:
        >>> [step["new"] for step in plan({}, {})]  # of a cluster as Debian makes it
        ['none', 'open to saltern_reader and saltern_guard']
    """
    steps = _plan_shared(current)
    for name, entry in databases.items():
        found = current.get("databases", {}).get(name, {}).get("others", nothing())
        subject, strangers = f"database {name}", [one for one in found["strangers"] if one["kind"] != TRIGGER]
        if strangers:
            statements = [line for one in strangers for line in _without(one, entry["owner"])]
            old = _shown(f"{one['kind']} {one['identity']} of {one['owner']}" for one in strangers)
            new = f"owned by {entry['owner']}, or gone"
            steps.append(_step(f"{subject} objects of others", old, new, name, *statements))
        if found["rights"]:
            old, statements = _revoked(found["rights"])
            new = f"only {entry['owner']} and {entry['user']}"
            steps.append(_step(f"{subject} rights of others", old, new, name, *statements))
        if found["default_rights"]:
            old = _shown(f"{one['grantee']} on {one['kind']} of {one['role']}" for one in found["default_rights"])
            statements = [_no_default(one) for one in found["default_rights"]]
            steps.append(_step(f"{subject} default rights of others", old, "none", name, *statements))
    return steps


def plan_triggers(databases: dict[str, dict[str, Any]], current: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the steps by which no event trigger is left, before all others: they could run it.

    To drop one runs none, also where a session cannot turn them off (before 17).

    Args:
        databases: From ``pgplan.wanted``.
        current: As for :func:`plan`.

    Returns:
        Steps as ``pgplan.plan``.

    Example:
        >>> plan_triggers({}, {})
        []
    """
    steps = []
    for name in databases:
        found = current.get("databases", {}).get(name, {}).get("others", nothing())["strangers"]
        if triggers := [one for one in found if one["kind"] == TRIGGER]:
            statements = [line for one in triggers for line in _without(one, "")]
            old = _shown(f"{one['identity']} of {one['owner']}" for one in triggers)
            steps.append(_step(f"database {name} event triggers", old, None, name, *statements))
    return steps


def _plan_shared(current: dict[str, Any]) -> list[dict[str, Any]]:
    shared = current.get("shared", FRESH)
    steps = []
    if shared["rights"]:
        old, statements = _revoked(shared["rights"])
        steps.append(_step("rights of others in the cluster", old, "none", "postgres", *statements))
    if not shared["reader"]:
        one, other = ({"identifier": role} for role in AT_HOME)
        grant = ["GRANT CONNECT ON DATABASE postgres TO ", one, ", ", other]
        steps.append(_step("database postgres grants", None, f"open to {' and '.join(AT_HOME)}", "postgres", grant))
    return steps


def _step(subject: str, old: Any, new: Any, database: str, *statements: list[Any]) -> dict[str, Any]:
    # Who waits for a table makes others wait, hence the short timeout. The next apply tries again.
    wait = ["SET LOCAL lock_timeout = '2s'"]
    step = {"subject": subject, "old": old, "new": new, "database": database, "statements": [wait, *statements]}
    return {**step, "atomic": True}


def _shown(words: Any) -> str:
    """Names are whoever's who made the thing: no control characters of theirs reach a terminal."""
    found = ["".join(char if char.isprintable() else "?" for char in word) for word in words]
    more = f", and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
    return ", ".join(found[:SHOWN]) + more


def _revoked(rights: list[dict[str, Any]]) -> tuple[str, list[list[Any]]]:
    """Revoke rights in the name of who gave them: those that the owner gave, from whoever has them; those that somebody
    handed on, with the right to do so. Who has both keeps the right itself, but may not hand it on.
    """
    # By their text: an app may have opened a million large objects, and to look each up in a list would take hours.
    statements: dict[str, list[Any]] = {}
    for one in rights:
        what = f"{one['kind']} {one['identity']} FROM "
        if one["grantor"]:
            statement = [f"REVOKE GRANT OPTION FOR ALL PRIVILEGES ON {what}", _who(one["grantor"]), " CASCADE"]
        elif one["handed_on"]:
            statement = [f"REVOKE GRANT OPTION FOR ALL PRIVILEGES ON {what}", _who(one["grantee"]), " CASCADE"]
        else:
            statement = [f"REVOKE ALL PRIVILEGES ON {what}", _who(one["grantee"]), " CASCADE"]
        statements.setdefault(repr(statement), statement)
    return _shown(f"{one['grantee']} on {one['kind']} {one['identity']}" for one in rights), [*statements.values()]


def _who(role: str) -> Any:
    return "PUBLIC" if role == "PUBLIC" else {"identifier": role}


def _no_default(one: dict[str, Any]) -> list[Any]:
    where = f" IN SCHEMA {one['schema']}" if one["schema"] else ""
    start = ["ALTER DEFAULT PRIVILEGES FOR ROLE ", {"identifier": one["role"]}]
    return [*start, f"{where} REVOKE ALL ON {one['kind']} FROM ", _who(one["grantee"])]


def _without(one: dict[str, Any], owner: str) -> list[list[Any]]:
    what = f"{one['kind']} {one['identity']}"
    if one["kind"] == "SUBSCRIPTION":
        # Else it would be dropped on the other server, too, which may not answer.
        return [[f"ALTER {what} DISABLE"], [f"ALTER {what} SET (slot_name = NONE)"], [f"DROP {what}"]]
    if one["deed"] == "DROP":
        # What stands on something else that goes may be gone by then.
        return [[f"DROP {one['kind']} IF EXISTS {one['identity']} CASCADE"]]
    statements = [[f"ALTER {what} OWNER TO ", {"identifier": owner}]]
    # It was to run with the rights of somebody else: nobody has said that it may with those of the owner.
    return [[f"ALTER {what} SECURITY INVOKER"], *statements] if one["definer"] else statements
