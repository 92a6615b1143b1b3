"""A minion is spared the sync of extensions only when it has its master's very own."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import salt.state
from contracts import ROOT, load

from saltern.host import codedigest


@pytest.fixture
def synced(tmp_path: Path) -> Path:
    """What Salt's sync makes of the links in salt/."""
    folder = tmp_path / "extmods"
    for link in (ROOT / "salt").glob("_*"):
        shutil.copytree(link, folder / link.name.lstrip("_"), ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "modules/__pycache__").mkdir()
    (folder / "modules/__pycache__/code.cpython-311.pyc").write_bytes(b"compiled")
    (folder / "grains").mkdir()
    return folder


def spared(synced: Path, monkeypatch: pytest.MonkeyPatch) -> bool:
    code, digest = load("_modules", "code"), codedigest.of
    code.__opts__ = {"extension_modules": str(synced)}
    compiled: Any = SimpleNamespace(opts={"autoload_dynamic_modules": True})
    monkeypatch.setattr(salt.state.HighState, "stack", [compiled])
    forgotten: list[bool] = []
    code.saltern = SimpleNamespace(forget=lambda: forgotten.append(True))
    answer = code.spare_sync(digest(ROOT / "salt", "_*"))
    assert compiled.opts["autoload_dynamic_modules"] is not answer
    assert bool(forgotten) is not answer, "what was imported before a sync is not what comes with it"
    return answer


def test_the_same_code_is_not_synced_again(synced: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert len(list((synced / "modules").glob("*.py"))) > 10
    assert spared(synced, monkeypatch)


@pytest.mark.parametrize("difference", ["changed", "missing", "added", "of another kind"])
def test_any_other_code_is(synced: Path, monkeypatch: pytest.MonkeyPatch, difference: str) -> None:
    file = synced / "states/daemon.py"
    if difference == "changed":
        file.write_text(file.read_text() + "\n")
    elif difference == "missing":
        file.unlink()
    elif difference == "added":
        shutil.copy(file, file.with_name("old.py"))
    else:
        file.rename(synced / "grains/daemon.py")
    assert not spared(synced, monkeypatch)


def test_outside_of_an_apply_nothing_is_spared(synced: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code, digest = load("_modules", "code"), codedigest.of
    code.__opts__ = {"extension_modules": str(synced)}
    monkeypatch.setattr(salt.state.HighState, "stack", [])
    code.saltern = SimpleNamespace(forget=lambda: None)
    assert not code.spare_sync(digest(ROOT / "salt", "_*"))
