"""Which build all hosts of an app agree on, by what each of them says."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def in_force(app: str, said: Mapping[str, Any]) -> str:
    """Return the one build that all hosts of an app serve.

    Args:
        app: the app's name.
        said: what each host answers to ``fleet.serves``; anything but a mapping is none.

    Raises:
        ValueError: they do not serve one and the same, or a deploy of other code has begun and not ended.

    Example:
        >>> in_force("demo", {"web1": {"now": {"release": "b-1", "build": "b"}}})
        'b'
    """
    silent = [host for host, one in sorted(said.items()) if not isinstance(one, Mapping) or "now" not in one]
    if silent or not said:
        raise ValueError(f"no release of {app} is served, or told, by: {', '.join(silent) or 'any host'}")
    begun = [host for host, one in sorted(said.items()) if one.get("begun")]
    if begun:
        raise ValueError(
            f"a deploy of {app} has begun on {', '.join(begun)} and not ended: the same command again, or "
            f"orch.rollback, comes first"
        )
    builds = {str(one["now"]["build"]) for one in said.values()}
    if len(builds) > 1:
        each = ", ".join(f"{host} {one['now']['build']}" for host, one in sorted(said.items()))
        raise ValueError(
            f"the hosts of {app} do not serve one build ({each}): orch.deploy or orch.rollback comes first"
        )
    return builds.pop()


def served_before(said: Mapping[str, Any]) -> str | None:
    """Return the one build that all hosts of an app served before, or None where they do not say it.

    Args:
        said: what each host answers to ``fleet.serves``.

    Example:
        >>> served_before({"web1": {"before": {"release": "a-1", "build": "a"}}})
        'a'
    """
    told = [one.get("before") for one in said.values() if isinstance(one, Mapping)]
    builds = {str(one["build"]) if one else None for one in told}
    return builds.pop() if len(builds) == 1 else None
