"""Releases by their ids: what makes one, what differs from the wanted one, which to go back to and which to keep."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from saltern.host import here

SERVED = ("activated", "repaired", "rolled back")  # results in the ledger of a release that got the traffic


def release_id(build: str, parts: dict[str, Any]) -> str:
    """Return the id of the release that a build and what it runs with make.

    Args:
        build: the build's id.
        parts: environment and settings, JSON values; another value anywhere is another release.

    Returns:
        ``<build>-<8 hex digits>``.

    Example:
        >>> release_id("6f1d3c0a9b2e", {"environment": {}})
        '6f1d3c0a9b2e-b2b45e64'
    """
    text = json.dumps(parts, sort_keys=True)
    return f"{build}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"


def problems(
    wanted: str, now: str | None, units: dict[str, str], enabled: list[str], lines: list[dict[str, Any]]
) -> list[str]:
    """Compare the release that shall be served with what is there.

    Args:
        wanted: its id.
        now: the one that has the traffic, or None.
        units: ActiveState by release.
        enabled: the releases that are started at boot.
        lines: the app's ledger.

    Returns:
        What an apply would put right, as sentences.

    Example:
        >>> problems("a", None, {"a": "active"}, ["a"], [])
        ['no release is active']
    """
    found = []
    if now != wanted:
        found.append(f"{now or 'no release'} is active")
    if units.get(wanted) != "active":
        found.append(f"{wanted} is not running ({units.get(wanted, 'inactive')})")
    if wanted not in enabled:
        found.append(f"{wanted} is not started at boot")
    if now == wanted and last_served(lines) != now:
        found.append(f"{now} is not in the ledger")  # killed between the switch and its record
    for other in sorted(set(enabled) - {wanted}):
        found.append(f"{other} is started at boot")
    for other in sorted(key for key, state in units.items() if key != wanted and state != "inactive"):
        found.append(f"{other} is {units[other]}")
    return found


def last_served(lines: list[dict[str, Any]]) -> str | None:
    """Return the release that got the traffic last, by the ledger.

    Args:
        lines: the app's ledger.

    Example:
        >>> last_served([{"id": "a", "result": "activated"}, {"id": "b", "result": "refused"}])
        'a'
    """
    return next((line["id"] for line in reversed(lines) if line["result"] in SERVED), None)


def when_served(lines: list[dict[str, Any]]) -> dict[str, str]:
    """Return when each release got the traffic last.

    Args:
        lines: the app's ledger.

    Example:
        >>> when_served([{"id": "a", "result": "activated", "when": "noon"}])
        {'a': 'noon'}
    """
    return {line["id"]: line["when"] for line in lines if line["result"] in SERVED}


def before(now: str | None, lines: list[dict[str, Any]]) -> list[str]:
    """List the releases to go back to, the nearest first.

    A release that was rolled back to keeps its place, so that a second rollback goes further back and not to and fro.

    Args:
        now: the one that has the traffic, or None.
        lines: the app's ledger.

    Example:
        >>> before("b", [{"id": "a", "result": "activated"}, {"id": "b", "result": "activated"}])
        ['a']
    """
    deployed = [line["id"] for line in lines if line["result"] == "activated"]
    order = list(dict.fromkeys(reversed(deployed)))
    older = order[order.index(now) + 1 :] if now in order else order
    return [one for one in older if one != now]


def kept(active: str, lines: list[dict[str, Any]], keep: int) -> set[str]:
    """Return the releases that stay: the active one, and those that served last. A refused one is no use.

    Args:
        active: the one that has the traffic.
        lines: the app's ledger.
        keep: how many, the active one included.

    Example:
        >>> sorted(kept("b", [{"id": "a", "result": "activated"}, {"id": "c", "result": "refused"}], 3))
        ['a', 'b']
    """
    served = [line["id"] for line in lines if line["result"] in SERVED and line["id"] != active]
    return {active, *list(dict.fromkeys(reversed(served)))[: keep - 1]}


def environment(pillar: Mapping[str, Any], app: str) -> dict[str, str]:
    """Return the variables that an app runs with: the site's, and over them what the fleet's wiring gives.

    Args:
        pillar: the host's pillar.
        app: the app's name.

    Raises:
        CommandExecutionError: it is no app of this host.

    Example:
        >>> environment({"apps": {"a": {"env": {"X": "1"}}}, "wiring": {"apps": {"a": {"environment": {}}}}}, "a")
        {'X': '1'}
    """
    return {**here.settings(pillar, app)["env"], **pillar["wiring"]["apps"][app]["environment"]}


def pin_note(app: str, pin: dict[str, str]) -> str:
    """Say in a sentence that a release is pinned, by whom and since when.

    Args:
        app: the app's name.
        pin: release, who, when, why.

    Example:
        >>> pin_note("a", {"release": "x", "who": "ann", "when": "2026-11-21T12:00:00.000", "why": ""})[:52]
        'Release x is pinned by ann since 2026-11-21T12:00:00'
    """
    why = f" ({pin['why']})" if pin.get("why") else ""
    return (
        f"Release {pin['release']} is pinned by {pin['who']} since {pin['when'][:19]}{why}: what the site asks for "
        f"is not served until `salt-call release.unpin {app}`."
    )
