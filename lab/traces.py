"""What of a lab is on this machine, found without asking the lab."""

from __future__ import annotations

import subprocess

from lab.lab import LABS
from lab.machine import processes

LOOK = {
    "mounts": "cat /proc/mounts",
    "links": "ip -o link",
    "tables": "nft list tables",
    "cgroups": "find /sys/fs/cgroup -maxdepth 4 -name 'lab-*'",
    "folders": f"ls {LABS}",
}


def traces(name: str) -> dict[str, str]:
    """Return the lab's mounts, links, tables, processes, cgroups and folders: what to where, empty when there is none.

    Args:
        name: the lab's name, made or not.

    Example:
        >>> any(traces("no-such").values())  # needs root  # doctest: +SKIP
        False
    """
    # nft has no '-' in names, and nspawn cuts those of long links: vb-lab-t-flXXXX.
    names = {"tables": name.replace("-", "_"), "links": f"lab-{name}"[:8]}
    found = {}
    for what, command in LOOK.items():
        out = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=False).stdout
        found[what] = "\n".join(line for line in out.splitlines() if names.get(what, name) in line)
    commands = [b" ".join(words).decode(errors="replace") for _, words in processes()]
    return found | {"processes": "\n".join(command for command in commands if name in command)}
