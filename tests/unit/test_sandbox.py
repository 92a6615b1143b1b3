"""Sandboxes: what systemd is told, and the bounds that root keeps while one runs."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from saltern.host import sandbox


def told(**walls: Any) -> list[str]:
    return sandbox.properties("build-demo", **{"user": "build-demo", **walls})


@pytest.mark.parametrize("user", ["root", "0", 0])
def test_nobody_is_root_in_one(user: Any) -> None:
    with pytest.raises(ValueError, match="root"):
        told(user=user)
    with pytest.raises(ValueError, match="root"):
        told(group=user)


@pytest.mark.parametrize("walls", [{}, {"network": True}, {"closed": False}, {"user": ""}], ids=str)
def test_each_has_all_walls_and_every_bound(walls: dict[str, Any]) -> None:
    found = told(**walls)
    names = {one.partition("=")[0] for one in found}
    assert {"MemoryMax", "RuntimeMaxSec", "TasksMax", "LimitFSIZE", "LimitCORE", "Nice"} <= names
    assert {"NoNewPrivileges=yes", "CapabilityBoundingSet=", "AmbientCapabilities=", "PrivateUsers=yes"} <= {*found}
    assert any(one.startswith("SystemCallFilter=~@privileged") for one in found)
    assert {"User", "DynamicUser"} & names


def test_it_sees_what_it_was_given_and_else_only_debian() -> None:
    found = told(reads=["/srv/a", ("/srv/b", "/b")], writes=["/var/lib/c"])
    binds = [one.partition("=")[2].lstrip("-") for one in found if one.startswith("Bind")]
    ours = [one for one in binds if not one.startswith(("/usr", "/bin", "/sbin", "/lib", "/etc/"))]
    assert ours == ["/srv/a", "/srv/b:/b", "/var/lib/c"]
    secret = ("/etc/shadow", "/etc/saltern", "/etc/ssl/private", "/etc/pip.conf", "/etc")
    assert not [one for one in binds if one in secret]
    assert "RootDirectory=/run/saltern/sandboxes/build-demo" in found


def test_without_network_it_finds_no_name_and_no_socket() -> None:
    assert "PrivateNetwork=yes" in told()
    assert not [one for one in told() if "resolv.conf" in one]
    assert "PrivateNetwork=yes" not in told(network=True)


@pytest.mark.parametrize("path", ["relative", "/a\nUser=root", "/a%h", ""])
def test_a_path_that_systemd_would_read_otherwise_is_refused(path: str) -> None:
    for walls in ({"reads": [path]}, {"writes": [(path, "/x")]}, {"reads": [("/x", path)]}):
        with pytest.raises(ValueError, match="not a path"):
            told(**walls)


def test_a_path_with_blanks_and_colons_is_one_path() -> None:
    assert 'BindReadOnlyPaths="/srv/a b:c"' in told(reads=["/srv/a b:c"])


@pytest.mark.parametrize("name", ["", "../x", "Demo", "a b", "a/b"])
def test_a_name_is_no_path(name: str) -> None:
    with pytest.raises(ValueError, match="name of a sandbox"):
        sandbox.properties(name, user="build-demo")


def test_systemd_puts_no_variable_into_an_argument() -> None:
    assert sandbox.command("x", ["/bin/echo", "$HOME"], user="nobody")[-1] == "$$HOME"


def test_what_strangers_print_obeys_no_terminal() -> None:
    text = "a\x1b]0;title\x07b\x1b[2Jc\rd\u202ee\x9bf\n\tg"
    assert sandbox.printable(text) == "a]0;titlebcdef\n\tg"


def test_disk_is_counted_without_following_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sandbox, "SPARE_MB", 0)
    (tmp_path / "link").symlink_to("/usr")
    (tmp_path / "small").write_bytes(b"x")
    assert not sandbox.disk_problem(tmp_path, 1)
    (tmp_path / "big").write_bytes(b"x" * (2 << 20))
    assert "more than 1 MiB" in sandbox.disk_problem(tmp_path, 1)
    (tmp_path / "big").unlink()
    for number in range(300):
        (tmp_path / f"{number}").touch()
    assert "more than 1 MiB" in sandbox.disk_problem(tmp_path, 1), "many empty files"


@pytest.mark.parametrize("kind", ["link", "pipe"])
def test_a_folder_that_becomes_something_else_is_not_opened(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sandbox, "SPARE_MB", 0)
    place, outside = tmp_path / "tree/d", tmp_path / "outside"
    for path in (place, outside):
        path.mkdir(parents=True)
    real, flags = os.open, []

    def swapped(name: Any, how: int, *rest: Any, **more: Any) -> int:
        if name == "d":
            place.rmdir()
            place.symlink_to(outside) if kind == "link" else os.mkfifo(place)
            flags.append(how)
            how |= os.O_NONBLOCK  # else this very test would wait for ever
        found = real(name, how, *rest, **more)
        assert name != "d", f"root has opened a {kind}"
        return found

    monkeypatch.setattr(os, "open", swapped)
    assert sandbox.disk_problem(tmp_path / "tree", 1) == ""
    assert flags and flags[0] & os.O_NONBLOCK


def test_folders_in_folders_end_somewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sandbox, "SPARE_MB", 0)
    tmp_path.joinpath(*["d"] * 150).mkdir(parents=True)
    assert "deep" in sandbox.disk_problem(tmp_path, 100)
    monkeypatch.setattr(sandbox, "SPARE_MB", 1 << 40)
    assert "are free" in sandbox.disk_problem(tmp_path, 100)


@pytest.mark.parametrize("text", ["https://me:pw@x/", "http://pw@x", "git+ssh://a:p@pw@x/", "https%3A%2F%2Fme:pw%40x"])
def test_no_password_of_an_address_is_told(text: str) -> None:
    assert "pw" not in sandbox.redacted(f"failed: {text} and more") and "x" in sandbox.redacted(text)


def test_a_sandbox_can_be_entered_whatever_the_umask(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """That of salt-ssh is 077: nobody but root could begin in a sandbox's root directory."""
    monkeypatch.setattr(sandbox, "ROOTS", tmp_path / "sandboxes")
    before = os.umask(0o077)
    try:
        sandbox._make_folder(tmp_path / "sandboxes/one")
    finally:
        os.umask(before)
    modes = [path.stat().st_mode & 0o777 for path in (tmp_path / "sandboxes", tmp_path / "sandboxes/one")]
    assert modes == [0o755, 0o755]
