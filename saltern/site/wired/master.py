"""What the master is told of its minions."""

from __future__ import annotations

from typing import Any

from ..secretfile import Secrets
from ..site import Site


def told(site: Site, host: str, secrets: Secrets) -> dict[str, Any]:
    """Return where the master listens, and for whom: all hosts with role minion, itself too."""
    return {"listen": site.fleet.hosts[host].address, "minions": site.fleet.with_role("minion")}
