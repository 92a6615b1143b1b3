"""Where the site's files are, and which pillar files a host gets."""

from __future__ import annotations

import re
from collections.abc import Collection
from pathlib import Path
from typing import Any

import yaml

from .document import read_document
from .roles import RANKS, ROLES

REPOSITORY = Path(__file__).resolve().parents[2]
DEFAULTS = REPOSITORY / "pillar"
# First line of a secrets file that is plain YAML; with another one, Salt renders it in the team's own way.
PLAIN = "#!yaml"
GENERATE = "salt-call site.generate_secrets"


def common_name(name: str) -> str:
    """Return the common name of a certificate for a host: a common name holds 64 characters (X.520).

    Example:
        >>> common_name("edge1.example.org")
        'edge1.example.org'
    """
    return name[:64]


def secrets_file(site: Path, host: str) -> Path:
    """Return the pillar file with one host's secrets."""
    return site / "secrets" / f"{host}.sls"


def pillar_files(site: Path, minion_id: str) -> list[str]:
    """Return the pillar SLS names of one host: the defaults of its roles and its own secrets.

    Lenient on purpose: what is wrong with the fleet is told, once and in full, by the external pillar. Here a host that
    is not found gets nothing, and never another host's secrets.

    Args:
        site: the site directory.
        minion_id: the host, as Salt has authenticated it.

    Returns:
        Such as `["base", "web", "secrets.app1"]`; empty for a host that is not in the fleet.
    """
    try:
        fleet: Any = yaml.safe_load((site / "fleet.yaml").read_text(encoding="utf-8"))
        named = fleet["hosts"][minion_id]["roles"]
    except (OSError, UnicodeError, yaml.YAMLError, KeyError, TypeError):
        return []
    if not isinstance(named, list) or not re.fullmatch(r"[a-z0-9-]+", minion_id):
        return []
    files = [role for role in ROLES if role in named]
    return [*files, f"secrets.{minion_id}"] if _usable(secrets_file(site, minion_id)) else files


def _usable(path: Path) -> bool:
    """Return whether Salt can be given a secrets file. Its message for broken YAML would quote the lines around."""
    try:
        with path.open(encoding="utf-8") as file:
            plain = file.readline().strip() == PLAIN
    except (OSError, UnicodeError):
        return False
    return not plain or not read_document(path).problems


def ranks(hosts: dict[str, list[str]], replicas: Collection[str] = ()) -> list[list[str]]:
    """Return hosts in the order in which they need each other: the first rank of any of its roles is a host's.

    Args:
        hosts: each host's roles.
        replicas: those that copy another host of their rank, and so come after it.

    Example:
        >>> ranks({"web1": ["base", "web"], "db1": ["base", "postgres"], "log1": ["base"]})
        [['db1'], ['web1'], ['log1']]
    """
    found: list[list[str]] = [[] for _ in range(len(RANKS) + 1)]
    for host, roles in sorted(hosts.items()):
        found[min((rank for rank, group in enumerate(RANKS) if {*group} & {*roles}), default=-1)].append(host)
    split = [[[h for h in rank if h not in replicas], [h for h in rank if h in replicas]] for rank in found]
    return [part for parts in split for part in parts if part]
