"""Where things are on a host: the directories that more than one subject knows."""

from __future__ import annotations

from pathlib import Path

BUILDS = Path("/var/lib/saltern/builds")
WORKSHOPS = Path("/var/lib/saltern/workshops")
