"""bin/bootstrap refuses what does not fit together, in one clear line and before anything is done."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

import joining

BOOTSTRAP = Path(__file__).resolve().parents[2] / "bin/bootstrap"
GOOD = ":".join(["ab"] * 32)


@pytest.mark.parametrize(
    "words, told",
    [
        (["minion"], "a minion needs --master ADDRESS and --fingerprint SHA256"),
        (["minion", "--master", "10.0.0.1"], "a minion needs"),
        (["minion", "--master", "10.0.0.1 -v", "--fingerprint", GOOD], "is no address"),
        (["minion", "--master", "10.0.0.1", "--fingerprint", "ab:cd"], "is no SHA-256 of a key"),
        (["--master", "10.0.0.1"], "--master is for a minion"),
        (["master", "--fingerprint", GOOD], "--fingerprint is for a minion"),
        (["accept", "--id", "web1"], "accept needs --id ID and --fingerprint"),
        (["accept", "--fingerprint", GOOD], "accept needs"),
    ],
)
def test_bad_input_is_told_in_one_message(words: list[str], told: str) -> None:
    done = subprocess.run(["/usr/bin/python3", str(BOOTSTRAP), *words], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("bootstrap: ") and told in done.stderr
    assert done.stderr.count("\n") == 1 and done.stdout == ""


@pytest.fixture
def keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A master with one minion's key waiting."""
    monkeypatch.setattr(joining, "MASTER_KEYS", tmp_path)
    monkeypatch.setattr(joining, "KEY_SECONDS", 0)
    monkeypatch.setitem(joining.KEY_BITS, "minion", 1024)
    joining.make_keys(tmp_path / "made", "minion")
    (tmp_path / "minions_pre").mkdir()
    (tmp_path / "minions_pre/web1").write_text((tmp_path / "made/minion.pub").read_text().strip())
    return tmp_path


def test_a_key_is_accepted_only_by_its_fingerprint(keys: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[list[str]] = []
    monkeypatch.setattr(joining, "run", lambda argv: ran.append(argv))
    with pytest.raises(joining.Refused, match="and not that"):
        joining.accept("web1", GOOD)
    with pytest.raises(joining.Refused, match="no minion web2 has sent its key"):
        joining.accept("web2", GOOD)
    assert ran == []
    assert "accepted" in joining.accept("web1", joining.fingerprint((keys / "made/minion.pub").read_text()))
    assert ran == [["salt-key", "--yes", "--accept", "web1"]]


def test_keys_that_are_there_stay(keys: Path) -> None:
    before = (keys / "made/minion.pem").read_text()
    joining.make_keys(keys / "made", "minion")
    assert (keys / "made/minion.pem").read_text() == before
    assert (keys / "made/minion.pem").stat().st_mode & 0o777 == 0o400


def test_the_first_apply_finds_the_minions_files_as_role_minion_writes_them() -> None:
    files = joining.minion_files("web1", "10.0.0.1", GOOD)
    assert "{{" not in "".join(files.values())
    assert "\nmaster: 10.0.0.1\n" in files["/etc/salt/minion"]
    assert "log_level: info" in files["/etc/salt/minion"]
