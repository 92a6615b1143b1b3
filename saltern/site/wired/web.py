"""What a web host is told of the others: its edges."""

from __future__ import annotations

from typing import Any

from ..layout import common_name
from ..relations import LOOPBACK, full_name, users, web_listen
from ..secretfile import Secrets
from ..site import Site


def told(site: Site, host: str, secrets: Secrets) -> dict[str, Any]:
    """Return where nginx listens, and whom it serves: by the names in their certificates, and the addresses that these
    edges come from.

    An edge on the same host comes from the host's own address as soon as nginx listens there and not on loopback.
    """
    listen = web_listen(site, host)
    edges = users(site, host, "pages", "edge")
    sources = [LOOPBACK] if listen == LOOPBACK else [site.fleet.hosts[edge].address for edge in edges]
    subjects = [common_name(full_name(site, edge)) for edge in edges]
    return {"listen": listen, "edges": sources if edges else [], "edge_subjects": subjects}
