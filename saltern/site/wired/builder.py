"""What the builder is told of the others."""

from __future__ import annotations

from typing import Any

from ..links import clients_of
from ..secretfile import Secrets
from ..site import Site


def told(site: Site, host: str, secrets: Secrets) -> dict[str, Any]:
    """Return where builds are served to other hosts, or None."""
    return {"listen": site.fleet.hosts[host].address if clients_of(site, host, "builds") else None}
