"""What an edge is told of the others: its web hosts, its peers."""

from __future__ import annotations

from typing import Any

from ..errorpages import read as read_pages
from ..relations import full_name, peers, web_listen
from ..secretfile import Secrets
from ..site import Site


def told(site: Site, host: str, secrets: Secrets) -> dict[str, Any]:
    """Return the web hosts that the edge sends requests to, the address that it shares with its peers, or None, and
    the pages that apps bring, by app and by status.
    """
    port, shared = site.settings.web.port, None
    if site.fleet.virtual_address:
        # Two fleets in one network must differ in it; their addresses do.
        number = int(site.fleet.virtual_address.rpartition(".")[2]) or 255
        shared = {"address": site.fleet.virtual_address, "peers": peers(site, host), "router_id": number}
    webs = [
        {"host": web, "name": full_name(site, web), "address": web_listen(site, web), "port": port}
        for web in site.fleet.with_role("web")
    ]
    pages = {
        name: read_pages(site.path / "apps", app.error_pages)[0]
        for name, app in sorted(site.apps.items())
        if app.error_pages
    }
    return {"webs": webs, "virtual_address": shared, "pages": pages}
