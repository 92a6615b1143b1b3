"""Accounts of services, and who would be locked out."""

from __future__ import annotations

import types
from pathlib import Path
from typing import Any

import pytest
from salt.exceptions import CommandExecutionError

from tests.unit.contracts import ROOT, load, swap

GOOD = {"group": "app-a", "home": "/nonexistent", "shell": "/usr/sbin/nologin"}


@pytest.fixture
def account(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    own: Any = load("_modules", "account")
    own.ran = []
    own.answers = []

    def run(argv: list[str]) -> str:
        own.ran.append(argv)
        if own.answers and (said := own.answers.pop(0)):
            raise CommandExecutionError(said)
        return ""

    swap(own, "appfiles", run=run)
    own.OUTSIDE = (tmp_path / "linger", tmp_path / "crontabs")
    own._has_group = lambda name: True
    return own


def test_a_service_has_nothing_to_log_in_to(account: Any) -> None:
    assert account.differences(GOOD, "app-a", []) == {}
    assert account.differences(None, "app-a", []) == {"account": {"old": None, "new": "app-a"}}
    other = {"group": "users", "home": "/home/a", "shell": "/bin/bash"}
    assert account.differences(other, "app-a", []).keys() == {"group", "home", "shell"}


def test_what_starts_its_processes_outside_of_its_units_goes(account: Any) -> None:
    account._account = lambda name: GOOD
    for folder in account.OUTSIDE:
        folder.mkdir()
        (folder / "app-a").touch()
        (folder / "ann").touch()
    assert set(account.service_differences("app-a")) == {str(folder / "app-a") for folder in account.OUTSIDE}
    account.make_service("app-a")
    assert account.service_differences("app-a") == {}
    assert all((folder / "ann").exists() for folder in account.OUTSIDE)


def test_one_that_has_processes_is_changed_all_the_same(account: Any) -> None:
    account._account = lambda name: GOOD | {"home": "/var/lib/apps/a"}
    account.answers = ["usermod --gid app-a ...: exit code 8\nusermod: user app-a is currently used by process 7"]
    account.make_service("app-a")
    assert account.ran[1][:4] == ["unshare", "--pid", "--fork", "--mount-proc"] and account.ran[1][4:] == account.ran[0]
    account.answers = ["usermod --gid app-a ...: exit code 10\nno such group"]
    with pytest.raises(CommandExecutionError, match="no such group"):
        account.make_service("app-a")


@pytest.mark.parametrize(
    ("keys", "names"),
    [
        ({}, []),
        ({"root": "ssh-ed25519 AAAA"}, []),
        ({"ann": "ssh-ed25519 AAAA", "root": "ssh-ed25519 AAAA"}, []),
        ({"ann": "ssh-ed25519 AAAA"}, ["ann"]),
        ({"ann": "ssh-ed25519 AAAA", "root": 'command="echo log in as ann" ssh-ed25519 AAAA'}, ["ann"]),
        ({"ann": "# none\n", "app-a": "ssh-ed25519 AAAA"}, []),
    ],
)
def test_nobody_is_locked_out_unsaid(account: Any, tmp_path: Path, keys: dict[str, str], names: list[str]) -> None:
    shells = {"root": "/bin/bash", "ann": "/bin/bash", "app-a": "/usr/sbin/nologin"}
    entries = [
        types.SimpleNamespace(pw_name=name, pw_dir=str(tmp_path / name), pw_shell=shell)
        for name, shell in shells.items()
    ]
    account.pwd = types.SimpleNamespace(getpwall=lambda: entries)
    for name, text in keys.items():
        (tmp_path / name / ".ssh").mkdir(parents=True)
        (tmp_path / name / ".ssh/authorized_keys").write_text(text)
    said = account.locked_out()
    assert bool(said) == bool(names) and all(name in said for name in [*names, *(["base.admins"] if names else [])])


@pytest.mark.parametrize(
    ("config", "word"),
    [
        ("port 22\nlistenaddress [::]:22\nallowusers root ann", ""),
        ("allowgroups ssh sudo", ""),
        ("allowgroups ssh\nallowgroups wheel", "AllowGroups ssh wheel"),
        ("denyusers root\ndenyusers a*@198.51.100.1", "DenyUsers a"),
        ("denyusers root", ""),
        ("denygroups sudo", "DenyGroups sudo"),
        ("denygroups games", ""),
        ("port 22\nport 2222\nlistenaddress 0.0.0.0:22\nlistenaddress 0.0.0.0:2222", ""),
        ("port 22\nlistenaddress 0.0.0.0:2222", "ListenAddress"),
        ("", ""),
    ],
)
def test_what_the_servers_own_sshd_config_adds_is_read_too(account: Any, config: str, word: str) -> None:
    account._sshd_config = lambda: config
    account._groups = lambda name: [name, "sudo"]
    said = account.locked_out(["ann"])
    assert bool(said) is bool(word) and word in said


def test_a_host_without_sshd_plans_too(account: Any, tmp_path: Path) -> None:
    account.SSHD = tmp_path / "none"
    assert account.locked_out(["nobody-of-that-name"]) == ""


def test_the_port_that_the_firewall_lets_in_is_listened_on() -> None:
    assert "Port 22" in (ROOT / "salt/base/files/sshd.conf").read_text().splitlines()
