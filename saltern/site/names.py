"""What belongs to an app or a replica in Postgres and Redis, by name. Pure functions."""

from __future__ import annotations

REPLICATION_ROLE = "saltern_replication"


def redis_user(app: str) -> str:
    """Return the app's user in Redis; no app can have the name of one of Redis' own, such as `default`."""
    return f"app-{app}"


def cache_prefix(app: str) -> str:
    """Return what the app's keys in the cache begin with; Django puts a colon behind it."""
    return app


def broker_prefix(app: str) -> str:
    """Return what the app's keys and channels in the broker begin with. The colon keeps `shop` from `shop-2`."""
    return f"{app}:"


def owner_of(database: str) -> str:
    """Return the Postgres role that owns a database and migrates it; the app itself has another one."""
    return f"{database}_owner"


def login_of(role: str, slot: int) -> str:
    """Return the Postgres role that logs in for another one: itself, or in the second slot its double.

    Example:
        >>> login_of("demo", 1), login_of("demo_owner", 2)
        ('demo', 'demo_owner__2')
    """
    return role if slot == 1 else f"{role}__2"


def roles_of(database: str) -> list[str]:
    """Return the names of all Postgres roles that a database has of its own.

    Example:
        >>> roles_of("demo")
        ['demo', 'demo__2', 'demo_owner', 'demo_owner__2']
    """
    return [login_of(role, slot) for role in (database, owner_of(database)) for slot in (1, 2)]


def valid_logins(role: str, slot: int, previous: str | None) -> list[str]:
    """Return the Postgres roles that may log in for another one: the one in force, and the other while it is good.

    Args:
        role: the role that they act as.
        slot: 1 or 2: which of the two is in force.
        previous: the password of the other one, or None.

    Example:
        >>> valid_logins("demo", 2, None), valid_logins("demo", 2, "old")
        (['demo__2'], ['demo', 'demo__2'])
    """
    return [login_of(role, number) for number in (1, 2) if number == slot or previous is not None]


def slot_of(replica: str) -> str:
    """Return the name of the slot that keeps a replica's WAL on the primary; a slot's name has no dashes."""
    return f"saltern_{replica.replace('-', '_')}"
