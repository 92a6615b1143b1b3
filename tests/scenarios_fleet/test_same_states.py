"""Masterless, master and salt-ssh compile the same states for a host."""

from __future__ import annotations

from typing import Any

from conftest import answer

from lab.host import Host


def low(answered: dict[str, Any], host: str) -> list[dict[str, Any]]:
    """What differs in its nature: nothing but the order of keys; Salt's own keys begin with two underscores."""
    chunks = answered[host]
    assert isinstance(chunks, list) and chunks and all(isinstance(chunk, dict) for chunk in chunks), chunks
    return [{key: value for key, value in chunk.items() if key != "__pub_user"} for chunk in chunks]


def test_for_one_host_all_three_compile_to_the_same_low_state(master: Host) -> None:
    masterless = low(answer(master, "salt-call", "state.show_lowstate"), "local")
    by_master = low(answer(master, "salt", master.id, "state.show_lowstate", "--static"), master.id)
    by_ssh = low(answer(master, "salt-ssh", master.id, "state.show_lowstate", "--static"), master.id)
    assert len(masterless) > 20
    assert by_master == masterless
    assert by_ssh == masterless
