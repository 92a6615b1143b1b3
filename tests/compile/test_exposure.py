"""No minion can read the pillar, the site or Salt's configuration through the file server."""

from __future__ import annotations

import json

import pytest
import yaml
from conftest import ROOT, Masterless

HIDDEN = [
    "pillar/top.sls",
    "../pillar/top.sls",
    "site/fleet.yaml",
    "secrets/app1.sls",
    "etc/masterless/minion",
    "Saltfile",
]


@pytest.mark.parametrize("path", HIDDEN)
def test_a_minion_cannot_fetch_it(masterless: Masterless, path: str) -> None:
    done = masterless.call("cp.get_file_str", f"salt://{path}", host="app1", release="trixie")
    assert not json.loads(done.stdout)["local"]


def test_a_minion_can_fetch_what_it_should(masterless: Masterless) -> None:
    done = masterless.call("cp.get_file_str", "salt://top.sls", host="app1", release="trixie")
    assert "pillar['host']['roles']" in json.loads(done.stdout)["local"]


def test_no_file_root_holds_more_than_states() -> None:
    """For every Salt configuration in the repository, and for the Saltfile."""
    roots = [root for section in _saltfile().values() for root in section.get("file_root", [])]
    for path in (ROOT / "etc").rglob("*"):
        if path.is_file() and path.name in ("minion", "master"):
            settings = yaml.safe_load(path.read_text())
            roots += [root for env in settings.get("file_roots", {}).values() for root in env]
    assert roots
    for root in roots:
        place = (ROOT / root).resolve()
        if str(place) == "/var/cache/salt/ssh/package":  # etc/ssh/roster puts one file there, for salt-ssh alone
            continue
        assert place == ROOT / "salt", (
            f"{root}: only salt/ is served; everything under a file root can be read by minions"
        )


def _saltfile() -> dict:
    return yaml.safe_load((ROOT / "Saltfile").read_text())
