"""Masterless, master and salt-ssh compile the same states for a host."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from conftest import answer, apply, path_on

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


def test_a_minion_with_other_code_gets_its_masters(master: Host, minion: Host) -> None:
    """The sync of extensions is spared only where nothing would come of it (salt/top.sls)."""
    synced = path_on(minion, "/var/cache/salt/minion/extmods")
    before = {path.relative_to(synced): path.read_text() for path in synced.rglob("*.py")}
    assert Path("modules/code.py") in before and Path("utils/saltern/host/codedigest.py") in before
    (synced / "modules/vrrp.py").write_text("raise RuntimeError('of another master')\n")
    (synced / "utils/saltern/host/appfiles.py").write_text("raise RuntimeError('of another master')\n")
    (synced / "modules/daemon.py").unlink()
    apply(master, minion)
    assert {path.relative_to(synced): path.read_text() for path in synced.rglob("*.py")} == before
