"""docs/security-master.md: each line names tests that exist, and the settings are what it says."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

import joining

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs/security-master.md").read_text()
ROWS = [
    line
    for line in PAGE.splitlines()
    if line.startswith("| ") and not line.startswith(("| |", "| ---", "| method |", "| class |"))
]
NAMED = re.findall(r"`([\w/.-]+\.py)::(\w+)`", PAGE)


def settings(role: str) -> dict[str, Any]:
    """What the role writes, with an example in each place."""
    text = (ROOT / f"salt/{role}/files/{role}.conf").read_text()
    return dict(yaml.safe_load(re.sub(r"\{\{ (\w+) \}\}", "/srv/saltern", text)))


MASTER, MINION = settings("master"), settings("minion")


def test_each_line_names_a_test() -> None:
    assert len(ROWS) >= 15
    assert [row for row in ROWS if "::test_" not in row] == []


@pytest.mark.parametrize("path, test", NAMED)
def test_each_named_test_exists(path: str, test: str) -> None:
    assert re.search(rf"^def {test}\(", (ROOT / path).read_text(), re.MULTILINE)


def test_there_is_no_http_interface() -> None:
    assert MASTER["netapi_enable_clients"] == [] and "rest_cherrypy" not in MASTER
    assert not list((ROOT / "salt").rglob("salt-api*"))


def test_no_key_is_accepted_by_itself() -> None:
    assert MASTER["auto_accept"] is False and MASTER["open_mode"] is False
    assert not {"autosign_file", "autosign_grains_dir", "autoreject_file", "reactor", "engines"} & MASTER.keys()


def test_no_old_protocol_is_spoken() -> None:
    assert MASTER["minimum_auth_version"] == 3


def test_both_sides_insist_on_signatures_and_fresh_messages() -> None:
    assert MASTER["sign_pub_messages"] is True and MINION["sign_pub_messages"] is True
    assert MASTER["drop_messages_signature_fail"] is True
    assert 0 < MASTER["request_server_ttl"] <= 60


def test_no_sha1_and_no_small_key() -> None:
    algorithms = [value for conf in (MASTER, MINION) for key, value in conf.items() if key.endswith("_algorithm")]
    assert len(algorithms) == 5 and all(value.endswith("-SHA224") for value in algorithms)
    assert MASTER["keysize"] == joining.KEY_BITS["master"] >= 4096
    assert MINION["keysize"] == joining.KEY_BITS["minion"] >= 2048


def test_nothing_is_given_by_grains() -> None:
    tops = [(ROOT / folder / "top.sls").read_text() for folder in ("salt", "pillar")]
    assert all("opts['id']" in top and "grains[" not in top and "match: grain" not in top for top in tops)
    orchestrations = [*(ROOT / "salt/orch").glob("*.sls"), *(ROOT / "saltern/orch").glob("*.py")]
    assert len(orchestrations) > 20
    assert not any(re.search(r"\bgrains\b|\bgrain\b", path.read_text()) for path in orchestrations)


def test_only_root_gives_orders() -> None:
    assert MASTER["publisher_acl"] == {} and MASTER["external_auth"] == {}
    assert MASTER["peer"] == {} and MASTER["peer_run"] == {}


def test_a_minion_revokes_no_key_and_asks_for_no_pillar_of_its_own_choice() -> None:
    assert MASTER["allow_minion_key_revoke"] is False and MASTER["on_demand_ext_pillar"] == []


def test_no_pillar_is_kept_on_disk() -> None:
    assert MASTER["pillar_cache"] is False and MASTER["minion_data_cache"] is False and MASTER["pillar_opts"] is False
    assert MASTER["keep_jobs_seconds"] <= 86400
    assert "minion_pillar_cache" not in MINION


def test_there_is_no_mine() -> None:
    assert MINION["mine_enabled"] is False


def test_file_roots_hold_neither_pillar_nor_site() -> None:
    roots = [root for env in MASTER["file_roots"].values() for root in env]
    assert roots == ["/srv/saltern/salt", "/var/cache/saltern/wheelhouse"]
