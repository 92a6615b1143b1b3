"""Who fetches builds reaches an index, a proxy or a repository that is not public, for an hour."""

from __future__ import annotations

import ipaddress
import socket
import subprocess

from saltern.build import fetchplaces

TABLE = "inet saltern"


def reach(urls: list[str]) -> None:
    """Let those who fetch builds reach for an hour what these URLs name and is not public.

    Nothing of it is written down, and no rule changes: it is not part of what an apply compares. What is closed to them
    in any case, metadata and the fleet's hosts, stays closed.
    """
    elements: dict[str, list[str]] = {"index4": [], "index6": []}
    for host, port in fetchplaces.places(urls):
        for address in _addresses(host, port):
            if not address.is_global:
                elements[f"index{address.version}"].append(f"{address} . {port} timeout 1h")
    for name, some in elements.items():
        for element in some:
            # Taken out first: another hour is not given to what is there. Without our rules nothing is closed either.
            plain = element.removesuffix(" timeout 1h")
            subprocess.run(["nft", "delete", "element", *TABLE.split(), name, f"{{ {plain} }}"], capture_output=True)
            subprocess.run(["nft", "add", "element", *TABLE.split(), name, f"{{ {element} }}"], capture_output=True)


def _addresses(host: str, port: int) -> list[ipaddress.IPv4Address | ipaddress.IPv6Address]:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):  # who fetches will say so
        return []
    return sorted({ipaddress.ip_address(str(where[4][0]).partition("%")[0]) for where in found}, key=str)
