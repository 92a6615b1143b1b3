"""Releases by their ids and the ledger."""

from __future__ import annotations

import pytest
from salt.exceptions import CommandExecutionError

from saltern.release import releases


def test_id_names_the_build_and_changes_with_any_part() -> None:
    first = releases.release_id("6f1d3c0a9b2e", {"environment": {"A": "1", "B": "2"}})
    assert first.startswith("6f1d3c0a9b2e-") and len(first) == 21
    assert first == releases.release_id("6f1d3c0a9b2e", {"environment": {"B": "2", "A": "1"}})
    assert first != releases.release_id("6f1d3c0a9b2e", {"environment": {"A": "1", "B": "3"}})
    assert first != releases.release_id("000000000000", {"environment": {"A": "1", "B": "2"}})


def test_an_app_that_this_host_has_not_is_an_error_with_those_it_has() -> None:
    with pytest.raises(CommandExecutionError, match='no app "dmeo" on this host; there are: demo, shop'):
        releases.settings({"apps": {"shop": {}, "demo": {}}}, "dmeo")
