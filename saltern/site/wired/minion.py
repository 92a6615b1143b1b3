"""What a minion is told of its master."""

from __future__ import annotations

import hashlib
from typing import Any

from ..layout import REPOSITORY
from ..relations import only
from ..secretfile import Secrets
from ..site import Site


def told(site: Site, host: str, secrets: Secrets) -> dict[str, Any]:
    """Return where the host's master is, and which Salt the host shall have: that of the master's lock."""
    return {"master": site.fleet.hosts[only(site, "master")].address, "salt": salt_version()}


def salt_version() -> str:
    """Return the digest of Salt's lock, as bin/bootstrap has it in a wheelhouse's name."""
    return hashlib.sha256((REPOSITORY / "requirements/salt.txt").read_bytes()).hexdigest()[:12]
