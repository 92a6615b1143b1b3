"""What renews certificates writes all of them and nothing else, and whoever reads one can do so while it runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from conftest import Masterless

PLACES = ("/etc/saltern/tls", "/etc/postgresql/tls", "/etc/redis/tls", "/etc/haproxy/tls")
HARMLESS = {("pkg", "installed"), ("file", "directory"), ("daemon", "reread")}


def low_of(masterless: Masterless, *command: str) -> list[dict[str, Any]]:
    done = masterless.call(*command, host="app1", release="trixie")
    assert done.returncode == 0, done.stdout + done.stderr
    return list(json.loads(done.stdout)["local"])


def holds_certificate(chunk: dict[str, Any]) -> bool:
    return chunk["state"] == "file" and "-----BEGIN" in str(chunk.get("contents"))


def test_a_renewal_writes_every_certificate_and_nothing_else(masterless: Masterless) -> None:
    """A role that gets a copy of its own must be among them: else it serves the old one until somebody applies."""
    whole, renewal = low_of(masterless, "state.show_lowstate"), low_of(masterless, "state.show_low_sls", "base.renewal")
    written = {chunk["name"]: chunk["contents"] for chunk in whole if holds_certificate(chunk)}
    assert len(written) == 8
    assert {chunk["name"]: chunk["contents"] for chunk in renewal if holds_certificate(chunk)} == written
    assert {Path(name).parent for name in written} == {Path(place) for place in PLACES}
    (reread,) = [chunk for chunk in renewal if chunk["state"] == "daemon"]
    assert sorted(reread["paths"]) == sorted(PLACES)
    others = [chunk for chunk in renewal if not holds_certificate(chunk)]
    files = {chunk["name"] for chunk in others if (chunk["state"], chunk["fun"]) not in HARMLESS}
    assert files <= {"/etc/postgresql-common/createcluster.d/saltern.conf"}


def test_whoever_reads_a_certificate_reads_a_new_one_without_a_restart(masterless: Masterless) -> None:
    def is_certificate(path: str) -> bool:
        return any(f"{path}/".startswith(f"{place}/") for place in PLACES)

    daemons = [chunk for chunk in low_of(masterless, "state.show_lowstate") if chunk["state"] == "daemon"]
    readers = {chunk["name"]: chunk for chunk in daemons if any(map(is_certificate, chunk.get("inputs") or []))}
    assert len(readers) == 5, "nginx, HAProxy, Postgres, two of Redis"
    for name, chunk in readers.items():
        reload = chunk.get("reload")
        missing = [
            path for path in chunk["inputs"] if is_certificate(path) and reload is not True and path not in reload
        ]
        assert not missing, f"{name} restarts for {missing}"
