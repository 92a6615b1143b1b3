"""Releases by their ids and the ledger."""

from __future__ import annotations

from typing import Any

import pytest
from salt.exceptions import CommandExecutionError

from saltern.build import agreed
from saltern.host import here
from saltern.release import releases


def test_id_names_the_build_and_changes_with_any_part() -> None:
    first = releases.release_id("6f1d3c0a9b2e", {"environment": {"A": "1", "B": "2"}})
    assert first.startswith("6f1d3c0a9b2e-") and len(first) == 21
    assert first == releases.release_id("6f1d3c0a9b2e", {"environment": {"B": "2", "A": "1"}})
    assert first != releases.release_id("6f1d3c0a9b2e", {"environment": {"A": "1", "B": "3"}})
    assert first != releases.release_id("000000000000", {"environment": {"A": "1", "B": "2"}})


def test_an_app_that_this_host_has_not_is_an_error_with_those_it_has() -> None:
    with pytest.raises(CommandExecutionError, match='no app "dmeo" on this host; there are: demo, shop'):
        here.settings({"apps": {"shop": {}, "demo": {}}}, "dmeo")


WEB = {"now": {"release": "b-1", "build": "b"}, "before": {"release": "a-1", "build": "a"}}


def test_in_force_is_the_one_build_that_all_hosts_serve() -> None:
    other_settings = {"now": {"release": "b-2", "build": "b"}}
    assert agreed.in_force("demo", {"web1": WEB, "worker1": other_settings}) == "b"


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ({}, "no release of demo is served, or told, by: any host"),
        ({"web1": WEB, "web2": None}, "by: web2$"),
        ({"web1": WEB, "web2": {}}, "by: web2$"),
        ({"web1": WEB, "web2": "'fleet.serves' is not available."}, "by: web2$"),
        ({"web1": WEB, "web2": {"now": {"release": "c-1", "build": "c"}}}, r"one build \(web1 b, web2 c\)"),
        ({"web1": WEB | {"begun": True}, "web2": WEB}, "has begun on web1 and not ended"),
    ],
)
def test_where_no_build_is_in_force_a_sentence_says_why(said: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        agreed.in_force("demo", said)


def test_what_served_before_is_the_word_of_all_hosts_or_of_none() -> None:
    assert agreed.served_before({"web1": WEB, "web2": WEB}) == "a"
    for other in (None, {"now": WEB["now"]}, {"before": {"release": "c-1", "build": "c"}}):
        assert agreed.served_before({"web1": WEB, "web2": other or {}}) is None
    assert agreed.served_before({}) is None
