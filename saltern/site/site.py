"""A site that has been checked: what everything here is worked out from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from .apps import App
from .fleet import Fleet
from .roles import Settings


@dataclass(frozen=True)
class Site:
    """A site without errors.

    Args:
        path: the site directory.
        fleet: its hosts.
        apps: its apps by name, all defaults filled in.
        settings: the settings of every role, the site's over the defaults.
    """

    path: Path
    fleet: Fleet
    apps: dict[str, App]
    settings: Settings
