"""Apps in maintenance, as an edge's HAProxy reads them: a map from an app to what visitors are told, and one from
networks to the apps that they reach all the same.

A line of the first map is the app and its words, joined by dots: until when as seconds since 1970 or 0, then in base64
the sentence about that, the message (both as HTML), and all of it as JSON for people.
"""

from __future__ import annotations

import base64
import datetime
import html
import ipaddress
import json
from collections.abc import Iterable
from typing import Any

MESSAGE_CHARACTERS = 500
NETWORKS = 50
MESSAGE = "We will be back as soon as we can."
WORDS = "12:30, today or tomorrow, or 2026-12-24 12:30, in the host's time zone"


def switch(value: Any) -> str:
    """Return `on`, `off` or `status`; YAML, and so Salt's command line, takes the first two for true and false.

    Raises:
        ValueError: it is none of these.

    Example:
        >>> switch(True), switch("off"), switch("status")
        ('on', 'off', 'status')
    """
    found = {True: "on", False: "off"}.get(value, value) if isinstance(value, bool) else value
    if found not in ("on", "off", "status"):
        raise ValueError(f'"{found}" is not allowed; allowed: on, off, status')
    return str(found)


def moment(value: Any, now: datetime.datetime) -> datetime.datetime:
    """Return the moment that somebody wrote down.

    Args:
        value: ``12:30`` or ``2026-12-24 12:30``; YAML, and so Salt's command line, makes the number 750 of 12:30.
        now: the present, with its time zone.

    Raises:
        ValueError: it is none, or has passed.

    Example:
        >>> moment("12:30", datetime.datetime(2026, 12, 24, 13, 0, tzinfo=datetime.timezone.utc)).isoformat()
        '2026-12-25T12:30:00+00:00'
    """
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 24 * 60:
        value = f"{value // 60:02}:{value % 60:02}"
    if isinstance(value, str):
        for form in ("%H:%M", "%Y-%m-%d %H:%M", "%Y-%m-%dT%H:%M"):
            try:
                read = datetime.datetime.strptime(value.strip(), form)
            except ValueError:
                continue
            if form == "%H:%M":
                found = now.replace(hour=read.hour, minute=read.minute, second=0, microsecond=0)
                return found if found > now else found + datetime.timedelta(days=1)
            found = read.replace(tzinfo=now.tzinfo)
            if found <= now:
                raise ValueError(f"until {value} has passed; allowed: {WORDS}")
            return found
    raise ValueError(f'until "{value}" is no time; allowed: {WORDS}')


def networks(value: Any) -> list[str]:
    """Return the networks that somebody wrote down, one or a list.

    Raises:
        ValueError: one is none, or they are too many.

    Example:
        >>> networks("192.0.2.7, 2001:db8::/56")
        ['192.0.2.7/32', '2001:db8::/56']
    """
    texts = value.replace(",", " ").split() if isinstance(value, str) else list(value or [])
    found = []
    for text in texts:
        try:
            found.append(str(ipaddress.ip_network(text)))
        except ValueError:
            raise ValueError(f'allow "{text}" is no address or network; such as 192.0.2.7 or 192.0.2.0/24') from None
    if len(found) > NETWORKS:
        raise ValueError(f"allow has {len(found)} networks; at most {NETWORKS}")
    return sorted(set(found))


def words(message: Any) -> str:
    """Return a message as it may be shown: text on one line.

    Raises:
        ValueError: it is too long, or has other characters.

    Example:
        >>> words(None)
        'We will be back as soon as we can.'
    """
    text = MESSAGE if message is None else str(message).strip()
    if len(text) > MESSAGE_CHARACTERS or not text.isprintable():
        raise ValueError(f"message: allowed is text on one line of at most {MESSAGE_CHARACTERS} characters")
    return text


def line(app: str, told: dict[str, Any]) -> str:
    """Return an app's line of the map.

    Args:
        app: name of an app.
        told: `message`, `until` (an aware moment as ISO 8601, or None), `allow` (networks) and `since`.

    Example:
        >>> line("demo", {"message": "x", "until": None, "allow": [], "since": "y"}).split(".")[:2]
        ['demo 0', '']
    """
    until = datetime.datetime.fromisoformat(told["until"]) if told["until"] else None
    at = int(until.timestamp()) if until else 0
    expected = f"We expect to be back by {until:%H:%M} on {until.day} {until:%B %Y} ({until:%Z})." if until else ""
    shown = [html.escape(expected), html.escape(told["message"]), json.dumps(told, sort_keys=True)]
    return ".".join([f"{app} {at}", *(base64.b64encode(part.encode()).decode() for part in shown)])


def read(text: str) -> dict[str, dict[str, Any]]:
    """Return what a map says, by app; lines that are none are passed over, as a map that was never written is.

    Example:
        >>> read(line("demo", {"message": "x", "until": None, "allow": [], "since": "y"}))["demo"]["message"]
        'x'
    """
    found: dict[str, dict[str, Any]] = {}
    for one in text.splitlines():
        try:
            app, value = one.split(" ")
            told = json.loads(base64.b64decode(value.split(".")[3], validate=True))
            found[app] = {key: told[key] for key in ("message", "until", "allow", "since")}
        except (ValueError, LookupError, TypeError):
            continue
    return found


def resting(apps: dict[str, dict[str, Any]]) -> str:
    """Return the map from apps in maintenance to what visitors are told.

    Example:
        >>> resting({})
        ''
    """
    return "".join(f"{line(app, told)}\n" for app, told in sorted(apps.items()))


def through(apps: dict[str, dict[str, Any]]) -> str:
    """Return the map from networks to the apps that they reach all the same.

    HAProxy takes the narrowest network alone, so each names the apps of those around it, too.

    Example:
        >>> print(through({"shop": {"allow": ["10.1.0.0/16"]}, "demo": {"allow": ["10.0.0.0/8"]}}), end="")
        10.0.0.0/8 .demo.
        10.1.0.0/16 .demo.shop.
    """
    allowed = {app: [ipaddress.ip_network(one) for one in told["allow"]] for app, told in apps.items()}
    every = {one for found in allowed.values() for one in found}
    lines = []
    for network in sorted(every, key=lambda one: (one.version, one)):  # type: ignore[arg-type,return-value]
        names = sorted(app for app, found in allowed.items() if any(_inside(network, other) for other in found))
        lines.append(f"{network} .{'.'.join(names)}.\n")
    return "".join(lines)


def _inside(network: Any, other: Any) -> bool:
    return network.version == other.version and network.subnet_of(other)


def sentence(told: dict[str, Any] | None) -> str | None:
    """Return what an operator reads of an app in maintenance; None of one that is not.

    Example:
        >>> sentence({"message": "x", "until": None, "allow": ["192.0.2.7/32"], "since": "2026-12-24T12:00:00+00:00"})
        'since 2026-12-24T12:00:00+00:00; 192.0.2.7/32 still get through; visitors read: x'
    """
    if told is None:
        return None
    parts = [f"since {told['since']}"]
    parts += [f"until {told['until']}"] if told["until"] else []
    parts += [f"{', '.join(told['allow'])} still get through"] if told["allow"] else []
    return "; ".join([*parts, f"visitors read: {told['message']}"])


def orders(name: str, version: str, lines: Iterable[str]) -> list[str]:
    """Return HAProxy's orders that fill a new version of a map; it is in force all at once with the last one.

    Args:
        name: the map's file.
        version: the number that `prepare map` gave.
        lines: of the map.

    Example:
        >>> orders("/x.map", "3", ["a b"])
        ['add map @3 /x.map a b', 'commit map @3 /x.map']
    """
    return [*(f"add map @{version} {name} {one}" for one in lines), f"commit map @{version} {name}"]
