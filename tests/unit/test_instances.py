"""What systemd remembers of a release that ended badly is no release that an apply would stop for ever."""

from __future__ import annotations

import pytest

from saltern.release import instances


@pytest.mark.parametrize(("ended", "forgotten"), [("failed", True), ("inactive", False)])
def test_a_stopped_release_is_stopped_however_it_ended(monkeypatch, ended: str, forgotten: bool) -> None:
    said: list[str] = []

    def systemctl(*words: str) -> str:
        said.append(words[0])
        return f"ActiveState={ended}\nMainPID=0\nNeedDaemonReload=no\n"

    monkeypatch.setattr(instances, "_systemctl", systemctl)
    instances.stop("demo", "6f1d3c0a9b2e-2fcc3ffb")
    assert said[0] == "stop"
    assert ("reset-failed" in said) is forgotten
