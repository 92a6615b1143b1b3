"""What Salt tells about the host that it runs on: handed on by its faces, as an argument, to whatever needs it."""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass
from typing import Any

from salt.exceptions import CommandExecutionError


@dataclass(frozen=True)
class Here:
    """This host, in this run of Salt.

    Attributes:
        pillar: what the site says to this host.
        memory: what was asked once in this run, by who asked it; all states of an apply see the same.
    """

    pillar: Mapping[str, Any]
    memory: MutableMapping[str, Any]

    def app(self, name: str) -> dict[str, Any]:
        """Return an app's settings, as ``settings`` does.

        Args:
            name: the app's name.

        Example:
            >>> Here({"apps": {"demo": {"user": "app-demo"}}}, {}).app("demo")
            {'user': 'app-demo'}
        """
        return settings(self.pillar, name)

    def has(self, role: str) -> bool:
        """Return whether this host has a role.

        Args:
            role: its name.

        Example:
            >>> Here({"host": {"roles": ["web"]}}, {}).has("builder")
            False
        """
        return role in self.pillar["host"]["roles"]


def settings(pillar: Mapping[str, Any], app: str) -> dict[str, Any]:
    """Return an app's settings.

    Args:
        pillar: the host's pillar.
        app: the app's name.

    Raises:
        CommandExecutionError: it is no app of this host.

    Example:
        >>> settings({"apps": {"demo": {"user": "app-demo"}}}, "demo")
        {'user': 'app-demo'}
    """
    try:
        found: dict[str, Any] = pillar["apps"][app]
    except KeyError:
        known = ", ".join(sorted(pillar.get("apps", {}))) or "none"
        raise CommandExecutionError(f'no app "{app}" on this host; there are: {known}') from None
    return found
