"""The host's firewall: one table of nftables, written from the fleet's links and compared with what the kernel has."""

from __future__ import annotations

import ipaddress
import pwd
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from salt.exceptions import CommandExecutionError

from saltern.build import reaching, workshops
from saltern.firewall import egressrules

TABLE = "inet saltern"

# "Goes on": the kernel begins to track connections with the first of these rules, and takes the next packet of an
# older one for a new connection. Without a SYN none can be opened, so such packets do no harm; refused, they would cut
# a minion off from its master in the middle of the very apply that brings the firewall.
HEAD = """#!/usr/sbin/nft -f
# Written by Salt (salt/base) from the fleet's links. Only this table is ours; others' stay.
table inet saltern
delete table inet saltern
table inet saltern {
	chain input {
		type filter hook input priority filter; policy drop;
		iif "lo" accept
		ct state established,related accept
		ct state invalid drop
		tcp flags & (syn | rst) == 0 accept comment "goes on"
		meta l4proto { icmp, ipv6-icmp } accept
		ip6 saddr fe80::/10 udp dport 546 accept comment "DHCPv6"
"""
# Refused aloud: who is shut out by mistake learns it at once, and not after a timeout. By TCP's own word, because the
# kernel sends few ICMP errors a second.
TAIL = """		meta l4proto tcp reject with tcp reset
		reject with icmpx admin-prohibited
	}
"""
RESOLVERS = Path("/etc/resolv.conf")
DATA = Path("/var/lib/apps")  # a directory for each app, and each is its account's


# --- pure ---------------------------------------------------------------------------------------------------


def ruleset(open_ports: list[dict[str, Any]], vrrp_from: Sequence[str] = (), calls: str = "") -> str:
    """Write the host's rules as a file for ``nft -f``, which replaces the old table in one step.

    Args:
        open_ports: ``port``, ``sources`` (addresses and networks; empty means anyone) and ``why`` of each.
        vrrp_from: addresses of the hosts that share an address with this one, and speak VRRP (IP protocol 112) to it.
        calls: chains for what goes out (egressrules.py).

    Example:
        >>> "tcp dport 22 accept" in ruleset([{"port": 22, "sources": [], "why": "people"}])
        True
    """
    rules = [line for entry in open_ports for line in _rules(entry)]
    if vrrp_from:
        rules.append(
            f'ip saddr {{ {", ".join(vrrp_from)} }} ip protocol 112 accept comment "the edges\' shared address"'
        )
    return HEAD + "".join(f"\t\t{line}\n" for line in rules) + TAIL + calls + "}\n"


def name_servers(text: str) -> list[str]:
    """Read the addresses of the name servers from a resolv.conf(5), in order, each once.

    Args:
        text: the file.

    Example:
        >>> name_servers("search a.test\\nnameserver 10.0.0.2\\nnameserver fe80::1%eth0\\nnameserver x\\n")
        ['10.0.0.2', 'fe80::1']
    """
    found = []
    for words in (line.split() for line in text.splitlines()):
        if words[:1] == ["nameserver"] and len(words) > 1:
            try:
                found.append(str(ipaddress.ip_address(words[1].partition("%")[0])))
            except ValueError:
                continue
    return list(dict.fromkeys(found))


def _rules(entry: dict[str, Any]) -> list[str]:
    accept = f'tcp dport {entry["port"]} accept comment "{entry["why"]}"'
    if not entry["sources"]:
        return [accept]
    networks = [ipaddress.ip_network(source) for source in entry["sources"]]
    families = {"ip": 4, "ip6": 6}
    by_family = {word: sorted(str(n) for n in networks if n.version == version) for word, version in families.items()}
    return [f"{word} saddr {{ {', '.join(found)} }} {accept}" for word, found in by_family.items() if found]


# --- on the host --------------------------------------------------------------------------------------------


def wanted(wiring: Mapping[str, Any]) -> dict[str, Any]:
    """Return the rules that this host shall have, by what the fleet says and the accounts and name servers it has.

    Accounts stand in them by number: with a name that is gone, the kernel would take none of the rules at boot.

    Args:
        wiring: ``open_ports``, ``vrrp_from`` and ``egress`` of the host (pillar ``wiring:base``).

    Returns:
        ``rules``, a file for ``nft -f``, and ``missing``: the accounts that are not there yet, and so not in it.

    Example:
        .. code-block:: bash

            salt-call firewall.wanted "$(salt-call pillar.get wiring:base --out=json | jq -c .local)"
    """
    builds = wiring["egress"]["builds"]
    egress = wiring["egress"] | {"builds": builds | {"users": [workshops.build_user(app) for app in builds["apps"]]}}
    users = [user for caller in (*egress["callers"], egress["builds"]) for user in caller["users"]]
    uids = {user: uid for user in users if (uid := _uid(user)) is not None}
    # Of what was an app's, and the fleet has taken away, nothing should run any more; what does calls nobody.
    former = {path.lstat().st_uid for path in DATA.glob("*")} - {0, *uids.values()}
    resolvers = name_servers(RESOLVERS.read_text(encoding="utf-8", errors="replace")) if RESOLVERS.is_file() else []
    calls = egressrules.chains(egress, uids, sorted(former), resolvers)
    return {
        "rules": ruleset(wiring["open_ports"], wiring["vrrp_from"], calls),
        "missing": [user for user in users if user not in uids],
    }


def _uid(user: str) -> int | None:
    try:
        return pwd.getpwnam(user).pw_uid
    except KeyError:
        return None


def loaded() -> str | None:
    """Return our table as the kernel has it, in nft's words; None when it is not there.

    Example:
        .. code-block:: bash

            salt-call firewall.loaded
    """
    if shutil.which("nft") is None:
        return None
    command = ["nft", "list", "table", *TABLE.split()]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    if done.returncode:
        return None
    table: str = egressrules.without_indexes(done.stdout)
    return table.strip()


def reach(urls: list[str]) -> None:
    """Let those who fetch builds reach for an hour what these URLs name and is not public.

    Nothing of it is written down, and no rule changes: it is not part of what an apply compares. What is closed to them
    in any case, metadata and the fleet's hosts, stays closed.

    Args:
        urls: of an index, a proxy or a Git repository.

    Example:
        .. code-block:: bash

            salt-call firewall.reach '[https://index.example.org/simple]'
    """
    reaching.reach(urls)


def unknown_addresses(known: list[str]) -> list[str]:
    """Return the public addresses of this host that the site does not know, and so closes to no app of other hosts.

    Args:
        known: those that fleet.yaml has.

    Example:
        .. code-block:: bash

            salt-call firewall.unknown_addresses '[192.0.2.7]'
    """
    here = [
        one for key in ("ip4_interfaces", "ip6_interfaces") for own in __grains__.get(key, {}).values() for one in own
    ]
    there = {ipaddress.ip_address(one) for one in known}
    found = {ipaddress.ip_address(str(one).partition("%")[0]) for one in here if one}
    return sorted(str(one) for one in found - there if one.is_global)


def understood(rules: str) -> str | None:
    """Return how the kernel would list a ruleset; loaded for a moment where nothing can reach it.

    Args:
        rules: a file for ``nft -f``.

    Returns:
        nft's words; None when nft is not installed yet.

    Raises:
        CommandExecutionError: nft does not accept the rules.

    Example:
        .. code-block:: bash

            salt-call firewall.understood "$(cat /etc/nftables.conf)"
    """
    if shutil.which("nft") is None:
        return None
    return _given(rules, "unshare", "--net", "sh", "-c", f"nft -f - && nft list table {TABLE}").strip()


def load(rules: str) -> None:
    """Load a ruleset in one step: there is no moment without rules.

    Args:
        rules: a file for ``nft -f``.

    Raises:
        CommandExecutionError: nft does not accept them; then nothing has changed.

    Example:
        .. code-block:: bash

            salt-call firewall.load "$(cat /etc/nftables.conf)"
    """
    _given(rules, "nft", "-f", "-")


def _given(rules: str, *command: str) -> str:
    done = subprocess.run(command, input=rules, capture_output=True, text=True, check=False, timeout=60)
    if done.returncode:
        raise CommandExecutionError(f"nft does not accept the rules: {done.stderr.strip()}")
    return done.stdout
