"""When each host may install updates and restart its daemons: never two hosts of one role at the same time. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from .roles import ALL

DAY_MINUTES = 24 * 60
DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
# What every host has, or all under a master: they say nothing of what may be away at the same time.
EVERYBODY = frozenset(name for name, role in ALL.items() if role.everywhere)


def slots(roles: Mapping[str, Collection[str]]) -> dict[str, int]:
    """Return each host's place in the row of windows; hosts that share a role have different ones.

    Args:
        roles: the roles of each host.

    Returns:
        Numbers from 0, as few as the order of the ids allows: a host takes the first that no host before it needs.

    Example:
        >>> slots({"web1": ["base", "web"], "web2": ["base", "web"], "db1": ["base", "postgres"]})
        {'db1': 0, 'web1': 0, 'web2': 1}
    """
    taken: dict[str, int] = {}
    for host in sorted(roles):
        own = set(roles[host]) - EVERYBODY
        others = {slot for other, slot in taken.items() if own & set(roles[other])}
        taken[host] = next(number for number in range(len(roles)) if number not in others)
    return taken


def minutes_of(clock: str) -> int:
    """Return the minutes since midnight of a time such as 03:00.

    Example:
        >>> minutes_of("03:30")
        210
    """
    hours, _, minutes = clock.partition(":")
    return int(hours) * 60 + int(minutes)


def calendar(days: Collection[str], first: str, minutes: int, slot: int) -> str:
    """Return when a host's window begins, as systemd's OnCalendar; one after midnight is of the next day.

    Args:
        days: of DAYS, on which the first window begins.
        first: when the first window begins, such as 23:00.
        minutes: how long each is.
        slot: the host's place.

    Example:
        >>> calendar(["sun"], "23:30", 30, 1)
        'Mon *-*-* 00:00:00'
        >>> calendar(DAYS, "03:00", 30, 1)
        '*-*-* 03:30:00'
    """
    start = minutes_of(first) + slot * minutes
    later, clock = divmod(start, DAY_MINUTES)
    named = [day.capitalize() for number, day in enumerate(DAYS) if DAYS[(number - later) % 7] in days]
    every = "" if len(named) == len(DAYS) else ",".join(named) + " "
    return f"{every}*-*-* {clock // 60:02}:{clock % 60:02}:00"
