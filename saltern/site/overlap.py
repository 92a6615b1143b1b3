"""A secret is replaced by overlap: the old one stays good beside the new one until nobody uses it. Pure functions.

They change the content of secrets/shared.yaml, which is all that is remembered of a rotation:

    apps.<app>.<key>             the secret that is in force
    apps.<app>.previous.<key>    the one that it replaces, there only while both are good
    apps.<app>.logins.<name>     1 or 2: the Postgres login role in force. A role has one password, so two take turns.

What belongs to no app stands at the top, in the same form.
"""

from __future__ import annotations

import datetime
import secrets as random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

PASSWORD_BYTES = 32  # 256 bits, 43 characters
SECRET_KEY_BYTES = 48  # Django's check --deploy wants 50 characters; this gives 64
FALLBACK_DAYS = 14  # Django's own SESSION_COOKIE_AGE: until then every session has been signed anew, or has ended


@dataclass(frozen=True)
class Kind:
    """One kind of secret in shared.yaml.

    Args:
        name: what `site.rotate` calls it.
        key: its key in shared.yaml.
        of_app: whether each app has its own.
        login: whether it is the password of two Postgres login roles in turn.
        size: random bytes of a new one.
        days: how long the old one is kept, at least; 0: until nobody uses it.
    """

    name: str
    key: str
    of_app: bool = True
    login: bool = False
    size: int = PASSWORD_BYTES
    days: int = 0


KINDS = (
    Kind("database", "database_password", login=True),
    Kind("owner", "owner_password", login=True),
    Kind("redis", "redis_password"),
    Kind("secret_key", "secret_key", size=SECRET_KEY_BYTES, days=FALLBACK_DAYS),
    Kind("replication", "replication_password", of_app=False, login=True),
    Kind("build_key", "build_key", of_app=False),
)


@dataclass(frozen=True)
class Held:
    """One secret of a site: its kind and, when it is an app's, whose."""

    kind: Kind
    app: str | None = None

    @property
    def key(self) -> str:
        """Return where it stands in shared.yaml, as text."""
        return f"apps.{self.app}.{self.kind.key}" if self.app else self.kind.key

    @property
    def command(self) -> str:
        """Return what rotates it."""
        return f"salt-call site.rotate {self.app + ' ' if self.app else ''}{self.kind.name}"

    def place(self, data: Mapping[str, Any]) -> dict[str, Any]:
        """Return the mapping that holds the secret; an empty one where there is none."""
        at = (data.get("apps") or {}).get(self.app) if self.app else data
        return at if isinstance(at, dict) else {}

    def old(self, data: Mapping[str, Any]) -> str | None:
        """Return the secret that it replaces while that is still good, else None."""
        previous = self.place(data).get("previous")
        return previous.get(self.kind.key) if isinstance(previous, dict) else None


def held(data: Mapping[str, Any]) -> Iterator[Held]:
    """Yield every secret of shared.yaml that has a rotation.

    Args:
        data: the content of shared.yaml.

    Example:
        >>> [one.key for one in held({"replication_password": "x", "apps": {"demo": {"secret_key": "y"}}})]
        ['apps.demo.secret_key', 'replication_password']
    """
    for kind in KINDS:
        for app in sorted(data.get("apps") or {}) if kind.of_app else [None]:
            one = Held(kind, app)
            if kind.key in one.place(data):
                yield one


def find(data: Mapping[str, Any], name: str, app: str | None) -> Held:
    """Return the secret that a name and an app mean.

    Args:
        data: the content of shared.yaml.
        name: a kind's name.
        app: an app's name, or None.

    Raises:
        LookupError: there is no such secret; the message says which there are.

    Example:
        >>> find({"apps": {"demo": {"secret_key": "y"}}}, "secret_key", "demo").key
        'apps.demo.secret_key'
    """
    for one in held(data):
        if (one.kind.name, one.app) == (name, app):
            return one
    there = sorted(f"{one.app} {one.kind.name}" if one.app else one.kind.name for one in held(data))
    raise LookupError(f"there is no secret {f'{app} {name}' if app else name}; there are: {', '.join(there)}")


def fresh(kind: Kind) -> str:
    """Return a new secret of a kind.

    Example:
        >>> len(fresh(KINDS[0]))
        43
    """
    return random.token_urlsafe(kind.size)


def begin(data: dict[str, Any], one: Held, new: str, old: str, today: datetime.date | None = None) -> None:
    """Put a new secret in force, beside the old one. Where logins take turns, the other one is in force then.

    Args:
        data: the content of shared.yaml; it is changed.
        one: the secret.
        new: the one to be in force.
        old: the one that has been in force.
        today: the day from which the days of a kind count.

    Example:
        >>> data = {"apps": {"demo": {"database_password": "old"}}}
        >>> begin(data, find(data, "database", "demo"), "new", "old")
        >>> data["apps"]["demo"]
        {'database_password': 'new', 'previous': {'database_password': 'old'}, 'logins': {'database': 2}}
    """
    place, key = one.place(data), one.kind.key
    place[key] = new
    previous = place["previous"] = {**(place.get("previous") or {}), key: old}
    if one.kind.days:
        until = (today or datetime.date.today()) + datetime.timedelta(days=one.kind.days)
        previous[f"{key}_until"] = until.isoformat()
    if one.kind.login:
        logins = place.get("logins") or {}
        place["logins"] = {**logins, one.kind.name: 3 - logins.get(one.kind.name, 1)}


def finish(data: dict[str, Any], one: Held) -> None:
    """Take the old secret away: only the one in force is good then.

    Args:
        data: the content of shared.yaml; it is changed.
        one: the secret.

    Example:
        >>> data = {"apps": {"demo": {"secret_key": "new", "previous": {"secret_key": "old"}}}}
        >>> finish(data, find(data, "secret_key", "demo"))
        >>> data["apps"]["demo"]
        {'secret_key': 'new'}
    """
    place, key = one.place(data), one.kind.key
    rest = {name: value for name, value in (place.get("previous") or {}).items() if name not in (key, f"{key}_until")}
    place["previous"] = rest
    if not rest:
        del place["previous"]


def mark_ending(data: dict[str, Any], one: Held, is_ending: bool) -> None:
    """Write down that an old secret is being taken away, or that it has gone: a killed rotation goes on there.

    Args:
        data: the content of shared.yaml; it is changed.
        one: the secret.
        is_ending: whether it is.

    Example:
        >>> data = {"apps": {"demo": {"secret_key": "x"}}}
        >>> mark_ending(data, find(data, "secret_key", "demo"), True)
        >>> data["apps"]["demo"]["ending"]
        ['secret_key']
    """
    place, name = one.place(data), one.kind.name
    place["ending"] = sorted(
        {*(place.get("ending") or []), name} if is_ending else {*(place.get("ending") or [])} - {name}
    )
    if not place["ending"]:
        del place["ending"]


def is_due(data: Mapping[str, Any], one: Held, today: datetime.date | None = None) -> bool:
    """Return whether an old secret has been kept for as long as its kind asks.

    Args:
        data: the content of shared.yaml.
        one: the secret.
        today: the day.

    Example:
        >>> is_due({"apps": {"demo": {"secret_key": "a"}}}, Held(KINDS[3], "demo"))
        True
    """
    until = (one.place(data).get("previous") or {}).get(f"{one.kind.key}_until")
    return not until or datetime.date.fromisoformat(until) <= (today or datetime.date.today())


def changed_by_hand(data: Mapping[str, Any], one: Held, known: set[str]) -> str | None:
    """Return the secret that hosts still have when somebody has written another one over it, else None.

    Args:
        data: the content of shared.yaml.
        one: the secret.
        known: what the hosts' files hold of it. A run that was killed leaves some of them with the old one.

    Raises:
        ValueError: it was changed while it is being replaced already, so that a third one would be good nowhere.

    Example:
        >>> changed_by_hand({"apps": {"demo": {"secret_key": "b"}}}, Held(KINDS[3], "demo"), {"a"})
        'a'
    """
    now, old = one.place(data)[one.kind.key], one.old(data)
    if not known or now in known or old in known:
        return None
    if old is not None or len(known) > 1:
        raise ValueError(
            f"was changed by hand while it is being replaced; put back the one that was there, then: {one.command}"
        )
    return next(iter(known))
