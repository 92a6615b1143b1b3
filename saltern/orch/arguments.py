"""What an operator tells an orchestration, checked: one sentence says what is wrong, and nothing is done."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .fleet import KNOWN, Fleet


class Refused(Exception):
    """An orchestration that cannot be; the text says why, in one sentence."""


def given(pillar: Mapping[str, Any], takes: tuple[str, ...], name: str) -> dict[str, Any]:
    """Return what the operator typed.

    Args:
        pillar: the master's pillar, which Salt merges that into.
        takes: the arguments that the orchestration has.
        name: the orchestration.

    Raises:
        Refused: there is another one, such as a misspelt name.

    Example:
        >>> given({"ranks": [], "plan": True}, ("hosts", "plan"), "apply")
        {'plan': True}
    """
    typed = {key: value for key, value in pillar.items() if key not in KNOWN}
    if others := sorted({*map(str, typed)} - {*takes}):
        allowed = ", ".join(takes) if takes else "none"
        raise Refused(f"orch.{name} has no argument {', '.join(others)}; allowed: {allowed}")
    return {key: value for key, value in typed.items() if value is not None}


def flag(told: Mapping[str, Any], name: str) -> bool:
    """Return an argument that is true or false; false when it is not there.

    Args:
        told: the arguments.
        name: which one.

    Raises:
        Refused: it is something else.

    Example:
        >>> flag({"plan": True}, "plan"), flag({}, "plan")
        (True, False)
    """
    value = told.get(name, False)
    if not isinstance(value, bool):
        raise Refused(f"{name}: {value!r} is none; allowed: true, false")
    return value


def app(told: Mapping[str, Any], fleet: Fleet) -> str:
    """Return the app that is meant.

    Args:
        told: the arguments.
        fleet: the fleet.

    Raises:
        Refused: it is not named, or there is no such app.
    """
    value = told.get("app")
    if not isinstance(value, str) or value not in fleet.apps:
        there = f"one of {', '.join(fleet.apps)}" if fleet.apps else "but the site has none"
        raise Refused(f"""name an app: pillar='{{"app": "..."}}', {there}""")
    return value


def host(told: Mapping[str, Any], allowed: list[str], kind: str) -> str:
    """Return the host that is meant.

    Args:
        told: the arguments.
        allowed: the hosts that it can be.
        kind: what those are, such as `a web host`.

    Raises:
        Refused: it is not named, or is none of those.
    """
    value = told.get("host")
    if not isinstance(value, str) or value not in allowed:
        there = f"one of {', '.join(allowed)}" if allowed else "but the fleet has none"
        raise Refused(f"""name {kind}: pillar='{{"host": "..."}}', {there}""")
    return value
