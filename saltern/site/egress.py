"""Where an app's own code may call: `egress` of apps/<app>.yaml, and the addresses that no app calls.

The kernel's filter (nftables) knows addresses, not names: a name would be looked up once, when the rules are loaded,
and be wrong the next day. So names are refused here, with the reason.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Collection
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from .kinds import Allowed, Port
from .model import Model

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

INTERNET = "internet"
NONE = "none"

# What clouds tell their machines of themselves, with keys: no app's file opens it. Nearly all of it is link-local; no
# registry lists the rest, the providers' own pages do.
METADATA = (
    "169.254.0.0/16",
    "fe80::/10",
    "100.100.100.200/32",  # Alibaba
    "168.63.129.16/32",  # Azure's WireServer, a public address
    "192.0.0.192/32",  # Oracle
    "fd00:ec2::/32",  # AWS: metadata, credentials of pods, DNS
    "fd20:ce::254/128",  # Google
    "fd00:c1::a9fe:a9fe/128",  # Oracle
    "fd00:42::42/128",  # Scaleway
)
# Networks of one's own, of which an app's file may open a part. RFC 1918, 6598 and 4193.
PRIVATE = ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "fc00::/7")
LOOPBACK = ("127.0.0.0/8", "::1/128")
# IANA's registries of special-purpose addresses (RFC 6890), and multicast. Of IPv6 only 2000::/3 is the internet, so
# that v4-mapped (::ffff:0:0/96), NAT64 (64:ff9b::/96, 64:ff9b:1::/48), multicast and all that is yet to come are out.
RESERVED = (
    "0.0.0.0/8",
    "192.0.0.0/24",
    "192.0.2.0/24",
    "192.88.99.0/24",
    "198.18.0.0/15",
    "198.51.100.0/24",
    "203.0.113.0/24",
    "224.0.0.0/4",
    "240.0.0.0/4",
    "::/3",
    "2001::/23",  # Teredo, ORCHID, benchmarks
    "2001:db8::/32",
    "2002::/16",  # 6to4: an IPv4 address inside
    "3ffe::/16",
    "3fff::/20",
    "4000::/2",
    "8000::/1",
)
NOT_PUBLIC = (*METADATA, *PRIVATE, *LOOPBACK, *RESERVED)

MOST_OPENINGS, MOST_PORTS = 64, 32


def _translated(ranges: tuple[str, ...]) -> tuple[str, ...]:
    """Return addresses of IPv4 inside ones of IPv6, where a gateway would lead there: NAT64 (RFC 6052), 6to4."""
    known = [network for text in ranges if isinstance(network := ipaddress.ip_network(text), ipaddress.IPv4Network)]
    found = []
    for prefix, behind in (("64:ff9b::", 32), ("2002::", 112)):
        for network in known:
            shifted = int(ipaddress.IPv6Address(prefix)) | int(network.network_address) << (behind - 32)
            found.append(f"{ipaddress.IPv6Address(shifted)}/{network.prefixlen + 128 - behind}")
    return tuple(found)


# To who fetches for a build: an index may stand anywhere, but what is private is none of theirs unless it is the index.
CLOSED_TO_BUILDS = (*PRIVATE, *_translated((*METADATA, *PRIVATE)))


def fetched_from(value: list[str]) -> list[str]:
    """Return networks that builds may be fetched from, as they are; refuse those that nobody reaches.

    Example:
        >>> fetched_from(["10.0.5.0/24"])
        ['10.0.5.0/24']
    """
    for text in value:
        if inside(ipaddress.ip_network(text), METADATA):
            raise ValueError(f"{text} is a metadata or link-local address; nothing is fetched there, take it out")
    return value


def _networks(ranges: tuple[str, ...], like: Network) -> list[Any]:
    found = [ipaddress.ip_network(text) for text in ranges]
    return [network for network in found if network.version == like.version]


def inside(network: Network, ranges: tuple[str, ...]) -> bool:
    """Return whether a network lies in one of some ranges, as a whole.

    Example:
        >>> inside(ipaddress.ip_network("10.1.0.0/16"), PRIVATE)
        True
    """
    return any(network.subnet_of(other) for other in _networks(ranges, network))


def overlapped(network: Network, ranges: tuple[str, ...]) -> str | None:
    """Return the first of some ranges that has an address in common with a network, or None.

    Example:
        >>> overlapped(ipaddress.ip_network("0.0.0.0/0"), PRIVATE)
        '10.0.0.0/8'
    """
    return next((str(other) for other in _networks(ranges, network) if network.overlaps(other)), None)


def _destination(value: str) -> str:
    if value == INTERNET:
        return value
    try:
        network = ipaddress.ip_network(value)
    except ValueError:
        raise ValueError(_why_no_network(value)) from None
    if inside(network, METADATA):
        raise ValueError("a metadata or link-local address; no app reaches it, take the entry out")
    if inside(network, (*PRIVATE, *LOOPBACK)):
        return str(network)
    held = overlapped(network, NOT_PUBLIC)
    if held is not None:
        raise ValueError(f"{held} is in it, which is not the internet; name public networks and private ones apart")
    return str(network)


def _why_no_network(value: str) -> str:
    if "/" in value:
        return "not a network"
    is_name = ":" not in value and not value.rpartition(".")[2][:1].isdigit()
    return "the firewall knows addresses, not names" if is_name else "not an address"


def _ports(value: list[int] | None) -> list[int] | None:
    twice = sorted({port for port in value or [] if (value or []).count(port) > 1})
    if twice:
        raise ValueError(f"named twice: {', '.join(map(str, twice))}; name each once")
    return value


class Opening(Model):
    """One thing that the app may call."""

    to: Annotated[
        str,
        AfterValidator(_destination),
        Allowed("internet, or an address or network such as 203.0.114.0/24, 10.0.5.7 or 2a00:1450::/32; no name"),
    ] = Field(description="Whom it may call.")
    ports: Annotated[list[Port], Field(min_length=1, max_length=MOST_PORTS), AfterValidator(_ports)] | None = Field(
        None, description="On which ports; null: all, which a private address has to be opened without."
    )
    protocol: Annotated[Literal["tcp", "udp"], Allowed("tcp or udp")] | None = Field(
        None, description="By which protocol; null: both."
    )

    @model_validator(mode="after")
    def _check(self) -> Opening:
        if self.ports is None and self.network is not None and inside(self.network, (*PRIVATE, *LOOPBACK)):
            raise ValueError(f"{self.to} is private; say which ports")
        return self

    @property
    def network(self) -> Network | None:
        """Return the network; None for the internet."""
        return None if self.to == INTERNET else ipaddress.ip_network(self.to)

    def overlaps(self, other: Opening) -> bool:
        """Return whether a packet can be of both: one of the two is too much, or half of one.

        Args:
            other: another opening of the same app.
        """
        if self.protocol and other.protocol and self.protocol != other.protocol:
            return False
        if self.ports is not None and other.ports is not None and not {*self.ports} & {*other.ports}:
            return False
        mine, theirs = self.network, other.network
        if mine is None or theirs is None:
            rest = theirs if mine is None else mine
            return rest is None or not inside(rest, (*PRIVATE, *LOOPBACK))
        return mine.version == theirs.version and mine.overlaps(theirs)


def _words(value: Any) -> Any:
    """`none` and `internet` are short for lists."""
    if value == NONE:
        return []
    return [INTERNET] if value == INTERNET else value


def _entry(value: Any) -> Any:
    return {"to": value} if isinstance(value, str) else value


def _once(value: list[Opening]) -> list[Opening]:
    for number, one in enumerate(value):
        for other in value[:number]:
            if one.overlaps(other):
                raise ValueError(f"{other.to} and {one.to} overlap; write each thing in one entry")
    return value


Egress = Annotated[
    list[Annotated[Opening, BeforeValidator(_entry)]],
    Field(max_length=MOST_OPENINGS),
    BeforeValidator(_words),
    AfterValidator(_once),
    Allowed(
        f"none, internet, or a list, at most {MOST_OPENINGS}: internet, an address, a network, {{to, ports, protocol}}"
    ),
]


def parts(openings: list[Opening], for_anyone: Collection[str]) -> dict[str, list[dict[str, Any]]]:
    """Return an app's openings by the place that they have among the rules.

    Args:
        openings: of the app.
        for_anyone: the fleet's addresses on which something is open to anyone.

    Returns:
        `here`: loopback, and what the fleet offers to anyone; it comes before what is closed to all apps. `private`:
        after metadata and the fleet's hosts are out. `public`: after all that is not the internet is out.
    """
    found: dict[str, list[dict[str, Any]]] = {"here": [], "private": [], "public": []}
    for opening in openings:
        found[_place(opening.network, for_anyone)].append(opening.model_dump())
    return found


def _place(network: Network | None, for_anyone: Collection[str]) -> str:
    if network is None:
        return "public"
    one = str(network.network_address) if network.num_addresses == 1 else ""
    if one in for_anyone or inside(network, LOOPBACK):
        return "here"
    return "private" if inside(network, PRIVATE) else "public"
