"""A lab's network: one bridge, one nftables table with its NAT, and one with its cuts, all named after the lab."""

from __future__ import annotations

import ipaddress
import json
import subprocess
from pathlib import Path

from debian import Refused, run
from lab import machine

FORWARDING = Path("/proc/sys/net/ipv4/ip_forward")


class Network:
    """The bridge, NAT and cuts of one lab.

    Args:
        name: the lab's name.
        subnet: what its hosts' addresses come from; the first address is the bridge's.

    Example:
        >>> Network("single", ipaddress.ip_network("10.77.0.0/24")).gateway
        IPv4Address('10.77.0.1')
    """

    def __init__(self, name: str, subnet: ipaddress.IPv4Network):
        self.subnet = subnet
        self.gateway = subnet[1]
        self.bridge = f"lab-{name}"[:15]  # Linux allows 15 characters
        self.table = f"saltern_{name.replace('-', '_')}"
        self.owner = f"saltern lab {name}"

    def up(self) -> None:
        """Make what is missing.

        Raises:
            Refused: a bridge of that name is not ours, or the subnet is in use elsewhere on this machine.
        """
        if not self._bridge_is_ours():
            self._refuse_taken_subnet()
            run(["ip", "link", "add", self.bridge, "type", "bridge"])
            run(["ip", "link", "set", self.bridge, "alias", self.owner])
        run(["ip", "address", "replace", f"{self.gateway}/{self.subnet.prefixlen}", "dev", self.bridge])
        run(["ip", "link", "set", self.bridge, "up"])
        if FORWARDING.read_text().strip() != "1":
            FORWARDING.write_text("1\n")
        rules = f"""
            table ip {self.table} {{}}
            delete table ip {self.table}
            table ip {self.table} {{
                chain postrouting {{
                    type nat hook postrouting priority srcnat
                    ip saddr {self.subnet} ip daddr != {self.subnet} masquerade
                }}
            }}
        """
        run(["nft", "-f", "-"], input=rules)

    def down(self) -> None:
        """Take away the bridge and the tables, when they are ours."""
        self.mend()
        if self._bridge_is_ours():
            run(["ip", "link", "delete", self.bridge])
        if self._has_table("ip"):
            run(["nft", "delete", "table", "ip", self.table])

    def cut(self, one: tuple[str, str], other: tuple[str, str]) -> None:
        """Let no frame pass between two hosts any more, neither new connections nor those that there are, nor ARP.

        Frames between two ports of a bridge are seen by a table of the family `bridge` alone. The ports keep their
        names when a host is booted anew, so the cut holds.

        Args:
            one: a host's id, and the name of its port.
            other: the same of another host.
        """
        name = json.dumps(" ".join(sorted([one[0], other[0]])))
        pairs = [f'"{a}" . "{b}" comment {name}' for a, b in ((one[1], other[1]), (other[1], one[1]))]
        rules = f"""
            table bridge {self.table} {{
                set cuts {{
                    typeof iifname . oifname
                }}
                chain forward {{
                    type filter hook forward priority filter
                }}
            }}
            flush chain bridge {self.table} forward
            add rule bridge {self.table} forward iifname . oifname @cuts drop
            add element bridge {self.table} cuts {{ {", ".join(pairs)} }}
        """
        run(["nft", "-f", "-"], input=rules)

    def cuts(self) -> list[tuple[str, str]]:
        """Return the pairs of hosts that are cut off from each other, by their ids, sorted."""
        if not self._has_table("bridge"):
            return []
        said = json.loads(run(["nft", "--json", "list", "set", "bridge", self.table, "cuts"]).stdout)
        (found,) = (entry["set"] for entry in said["nftables"] if "set" in entry)
        return sorted({(a, b) for a, b in (entry["elem"]["comment"].split() for entry in found.get("elem", []))})

    def mend(self) -> None:
        """Undo all cuts."""
        if self._has_table("bridge"):
            run(["nft", "delete", "table", "bridge", self.table])

    def _has_table(self, family: str) -> bool:
        command = ["nft", "list", "table", family, self.table]
        return subprocess.run(command, capture_output=True, check=False).returncode == 0

    def _bridge_is_ours(self) -> bool:
        place = Path("/sys/class/net") / self.bridge
        if not place.exists():
            return False
        if (place / "ifalias").read_text().strip() != self.owner:
            raise Refused(f"the network interface {self.bridge} was not made by this lab: rename or remove it first")
        return True

    def _refuse_taken_subnet(self) -> None:
        routes = subprocess.run(["ip", "-4", "route"], capture_output=True, text=True, check=True).stdout
        for route in routes.splitlines():
            target = route.split()[0]
            if target != "default" and self.subnet.overlaps(ipaddress.ip_network(target, strict=False)):
                raise Refused(f"{self.subnet} is already routed on this machine ({route.strip()})")


def resolvers() -> str:
    """Return a resolv.conf for lab hosts: this machine's own name servers, or their uplinks behind systemd-resolved."""
    uplinks = Path("/run/systemd/resolve/resolv.conf")
    path = uplinks if machine.has_systemd() and uplinks.exists() else Path("/etc/resolv.conf")
    return path.read_text()
