"""The part of the host's rules that says what processes may call, by whose they are. Text for nft; nothing is loaded.

A packet of an app's process that begins a connection, or goes on with one, passes its app's chain: what was opened
once does not go on when the rules have changed. Only answers to others' calls pass by the connection.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping, Sequence
from typing import Any

# By TCP's own word, as for what comes in: a `connect` fails at once, and so does a datagram's `send`.
REFUSED = """	chain refused {
		meta l4proto tcp reject with tcp reset
		reject with icmpx admin-prohibited
	}
"""
# A connection whose other side is gone must not keep its place for minutes, or after a cut an app is shut out by its
# own dead attempts: a SYN that nobody answers counts for 120 s, data for 300 s. These are seconds, anew with each
# packet. An idle connection counts as long as it is open.
COUNTED = """	ct timeout counted {
		protocol tcp
		policy = { syn_sent : 6, fin_wait : 15, last_ack : 15, retrans : 15, unack : 15 }
	}
"""
# A connection that is taken up in its middle has the direction of the first packet that was seen: a SYN is no answer.
ANSWERS = ("ct direction reply tcp flags & (syn | ack) != syn accept", "ct direction reply meta l4proto udp accept")

BUILDS = "builds"
# What pip's settings and Git's URLs name, for an hour after somebody has begun to fetch there (firewall.reach).
INDEXES = {"index4": "ipv4_addr", "index6": "ipv6_addr"}


def chains(egress: Mapping[str, Any], uids: Mapping[str, int], former: Sequence[int], resolvers: Sequence[str]) -> str:
    """Write the chains of a host's callers, and the one that sends each packet to its caller's.

    Args:
        egress: ``callers``, ``builds``, ``fleet``, ``metadata`` and ``not_public`` (saltern.wiring); those who fetch
            what is built are the ``users`` of ``builds``.
        uids: the number of each account; one that is missing has no process yet.
        former: the numbers of accounts that were a caller's once; they call nobody.
        resolvers: the addresses of the host's name servers.

    Returns:
        Nothing when there is no caller.

    Example:
        >>> builds = {"users": [], "ports": [], "private": [], "closed": []}
        >>> egress = {"callers": [], "builds": builds, "fleet": [], "metadata": [], "not_public": []}
        >>> chains(egress, {}, [], [])
        ''
        >>> "meta skuid vmap { 990 : goto refused }" in chains(egress, {}, [990], [])
        True
    """
    callers, builds = egress["callers"], egress["builds"]
    numbers = {uids[user]: chain_of(c["name"]) for c in callers for user in c["users"] if user in uids}
    numbers |= {uids[user]: BUILDS for user in builds["users"] if user in uids}
    numbers |= dict.fromkeys(former, "refused")
    if not numbers:
        return ""
    closed = {
        "fleet": [
            'oif "lo" goto refused',
            *_to(egress["fleet"], "goto refused"),
            *_to(egress["metadata"], "goto refused"),
        ],
        "not_public": _to(egress["not_public"], "goto refused"),
    }
    owners = ", ".join(f"{uid} : goto {name}" for uid, name in sorted(numbers.items()))
    text = COUNTED + REFUSED + "".join(_chain(f"closed_{name}", rules) for name, rules in closed.items())
    text += "".join(_chain(chain_of(caller["name"]), _caller(caller, resolvers)) for caller in callers)
    if builds["users"]:
        text += "".join(_set(name, kind) for name, kind in INDEXES.items()) + _chain(BUILDS, _builds(egress, resolvers))
    head = "type filter hook output priority filter; policy accept;"
    return text + _chain("output", [head, f"meta skuid vmap {{ {owners} }}"])


def chain_of(caller: str) -> str:
    """Return the name of a caller's chain; nft has no ``-`` in names.

    Args:
        caller: such as an app's name, which has no ``_``.

    Example:
        >>> chain_of("web-shop")
        'calls_web_shop'
    """
    return f"calls_{caller.replace('-', '_')}"


def _chain(name: str, rules: Sequence[str]) -> str:
    return f"\tchain {name} {{\n" + "".join(f"\t\t{rule}\n" for rule in rules) + "\t}\n"


def _set(name: str, kind: str) -> str:
    return f"\tset {name} {{\n\t\ttype {kind} . inet_service\n\t\tflags timeout\n\t}}\n"


def without_indexes(table: str) -> str:
    """Return a table as nft lists it, without who may be fetched from at this moment.

    Args:
        table: nft's words.

    Example:
        >>> without_indexes("\\tset index4 {\\n\\t\\tflags timeout\\n\\t\\telements = { 10.0.0.9 . 443 }\\n\\t}\\n")
        '\\tset index4 {\\n\\t\\tflags timeout\\n\\t}\\n'
    """
    return re.sub(r"(\tset index[46] \{[^}]*?)\n\t\telements = \{[^}]*\}", r"\1", table)


def _dns(resolvers: Sequence[str]) -> list[str]:
    asked = [{"to": address, "ports": [53], "protocol": None} for address in resolvers]
    return [rule for opening in asked for rule in _accept(opening)]


def _builds(egress: Mapping[str, Any], resolvers: Sequence[str]) -> list[str]:
    """Return the rules of builds: an index may be anywhere, on this host too. What is private is closed
    but for what is named.
    """
    ports = ", ".join(map(str, egress["builds"]["ports"]))
    return [
        *ANSWERS,
        *_dns(resolvers),
        f'oif "lo" tcp dport {{ {ports} }} goto refused',
        *_to(egress["fleet"], "goto refused"),
        *_to(egress["metadata"], "goto refused"),
        *_to(egress["builds"]["private"], "meta l4proto { tcp, udp } accept"),
        "ip daddr . tcp dport @index4 accept",
        "ip6 daddr . tcp dport @index6 accept",
        *_to(egress["builds"]["closed"], "goto refused"),
        "meta l4proto { tcp, udp } accept",
        "goto refused",
    ]


def _caller(caller: Mapping[str, Any], resolvers: Sequence[str]) -> list[str]:
    return [
        *ANSWERS,
        *_dns(resolvers),
        *[rule for opening in (*caller["links"], *caller["here"]) for rule in _accept(opening)],
        "jump closed_fleet",
        *[rule for opening in caller["private"] for rule in _accept(opening)],
        "jump closed_not_public",
        *[rule for opening in caller["public"] for rule in _accept(opening)],
        "goto refused",
    ]


def _accept(opening: Mapping[str, Any]) -> list[str]:
    protocols = [opening["protocol"]] if opening["protocol"] else ["tcp", "udp"]
    match = f"meta l4proto {{ {', '.join(protocols)} }}"
    if opening["ports"]:
        match += f" th dport {{ {', '.join(map(str, sorted(opening['ports'])))} }}"
    if opening["to"] == "internet":
        return [f"{match} accept"]
    most = opening.get("most")
    new = f"{match} ct state new"
    counted = ('ct timeout set "counted"', f"ct count over {most} goto refused") if most else ()
    full = [rule for then in counted for rule in _to([opening["to"]], f"{new} {then}")]
    return full + _to([opening["to"]], f"{match} accept")


def _to(networks: Sequence[str], then: str) -> list[str]:
    """One rule for each family that is among the networks."""
    known = [ipaddress.ip_network(network) for network in networks]
    # Ranges that touch or overlap would be an error within one set.
    found: dict[str, list[Any]] = {
        "ip": list(ipaddress.collapse_addresses(n for n in known if isinstance(n, ipaddress.IPv4Network))),
        "ip6": list(ipaddress.collapse_addresses(n for n in known if isinstance(n, ipaddress.IPv6Network))),
    }
    return [f"{word} daddr {{ {', '.join(map(str, some))} }} {then}" for word, some in found.items() if some]
