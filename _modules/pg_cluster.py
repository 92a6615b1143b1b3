"""PostgreSQL clusters: whether one is there, and how one is made. A part of the execution module pg."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

__virtualname__ = "pg"

MARKERS = Path("/var/lib/saltern/postgres")


def __virtual__() -> str:
    return __virtualname__


def cluster_status(major: int, cluster: str) -> dict[str, bool]:
    """Return whether a cluster is there.

    Args:
        major: PostgreSQL's major version.
        cluster: The cluster's name.

    Returns:
        ``config`` and ``data`` (whether each part is there), ``interrupted`` (whether :func:`create_cluster` was
        killed while it made it), ``standby`` (whether it is a copy of another server).

    Example:
        salt-call pg.cluster_status 17 main
    """
    return {
        "config": Path(f"/etc/postgresql/{major}/{cluster}/postgresql.conf").exists(),
        "data": Path(f"/var/lib/postgresql/{major}/{cluster}/PG_VERSION").exists(),
        "interrupted": (MARKERS / f"{major}-{cluster}.creating").exists(),
        "standby": Path(f"/var/lib/postgresql/{major}/{cluster}/standby.signal").exists(),
    }


def create_cluster(major: int, cluster: str, port: int) -> str:
    """Create a cluster with data checksums, UTF-8, and no way in but the socket.

    A marker says that it is being made: what a killed run left behind is removed by the next one, and only then.

    Args:
        major: PostgreSQL's major version; its server must be installed.
        cluster: The cluster's name.
        port: The TCP port.

    Returns:
        An empty string, or what went wrong.

    Example:
        salt-call pg.create_cluster 17 main 5432
    """
    marker = MARKERS / f"{major}-{cluster}.creating"
    directories = [Path(f"/{top}/postgresql/{major}/{cluster}") for top in ("etc", "var/lib")]
    if marker.exists():
        for directory in directories:
            shutil.rmtree(directory, ignore_errors=True)
    MARKERS.mkdir(mode=0o700, parents=True, exist_ok=True)
    marker.touch()
    argv = ["pg_createcluster", str(major), cluster, "--port", str(port), "--encoding=UTF8", "--locale=C.UTF-8", "--"]
    argv += ["--data-checksums", "--auth-local=peer", "--auth-host=scram-sha-256"]
    try:
        done = subprocess.run(
            argv, capture_output=True, text=True, check=False, env={**os.environ, "LC_ALL": "C.UTF-8"}
        )
    except FileNotFoundError:
        return "pg_createcluster is not there: the package postgresql-common is missing"
    if done.returncode != 0:
        return f"pg_createcluster {major} {cluster} failed: {(done.stderr or done.stdout).strip()}"
    marker.unlink()
    return ""
