"""What a worker is told of the others."""

from __future__ import annotations

from typing import Any

from ..secretfile import Secrets
from ..site import Site


def told(site: Site, host: str, secrets: Secrets) -> dict[str, Any]:
    """Return whether this host runs what may run only once: beat, single processes, timers."""
    return {"single": runs_single(site, host)}


def runs_single(site: Site, host: str) -> bool:
    """Tell whether a host is the first of the workers by id, on every host alike and whatever runs now.

    Args:
        site: the site.
        host: the id of a host with role worker.
    """
    return site.fleet.with_role("worker")[0] == host
