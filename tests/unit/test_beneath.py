"""Root's work in directories that somebody else has filled."""

from __future__ import annotations

import os
import socket
import stat
from pathlib import Path
from typing import Any

import pytest

from saltern.host import beneath


@pytest.fixture(autouse=True)
def owners(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Who is made the owner of what; the tests need no root."""
    given: list[Any] = []
    monkeypatch.setattr(
        os, "chown", lambda name, *own, **options: given.append((name, *own, options["follow_symlinks"]))
    )
    monkeypatch.setattr(
        os, "fchown", lambda handle, *own: given.append((str(Path(f"/proc/self/fd/{handle}").readlink()), *own))
    )
    return given


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    directory = tmp_path / "release"
    (directory / "pkg/inner").mkdir(parents=True)
    (directory / "pkg/a.py").write_text("1")
    (directory / "pkg/inner/tool").write_text("2")
    (directory / "pkg/inner/tool").chmod(0o4711)
    (directory / "pkg/a.py").chmod(0o666)
    (directory / "pkg/inner").chmod(0o2777)
    (tmp_path / "outside").write_text("secret")
    (tmp_path / "outside").chmod(0o600)
    return directory


def test_all_is_readable_and_nobody_elses_to_write(tree: Path) -> None:
    (tree / "pkg/link").symlink_to("inner/tool")
    assert beneath.take_over(tree) == ["pkg/a.py", "pkg/inner/tool"]
    modes = {str(path.relative_to(tree)): stat.S_IMODE(path.lstat().st_mode) for path in tree.rglob("*")}
    assert modes == {"pkg": 0o755, "pkg/a.py": 0o644, "pkg/inner": 0o755, "pkg/inner/tool": 0o755, "pkg/link": 0o777}


def _fifo(tree: Path) -> None:
    os.mkfifo(tree / "pkg/evil")


def _socket(tree: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        before = Path.cwd()
        os.chdir(tree / "pkg")  # a socket's path must be short
        server.bind("evil")
        os.chdir(before)


def _link(target: str) -> Any:
    return lambda tree: (tree / "pkg/evil").symlink_to(target)


STRANGERS = {
    "a pipe": _fifo,
    "a socket": _socket,
    "a link to a file of the host": _link("/etc/shadow"),
    "a link above": _link("../../outside"),
    "a link that climbs by a link": _link("inner/../../../outside"),
    "an absolute link that climbs": _link("/usr/bin/../../etc/shadow"),
}


@pytest.mark.parametrize("make", STRANGERS.values(), ids=STRANGERS)
def test_what_is_no_file_or_leads_outside_is_refused_by_its_name(tree: Path, make: Any) -> None:
    make(tree)
    with pytest.raises(ValueError, match="'pkg/evil'"):
        beneath.take_over(tree, allowed=("/usr/bin/",))
    assert stat.S_IMODE((tree.parent / "outside").stat().st_mode) == 0o600


@pytest.mark.parametrize("make", STRANGERS.values(), ids=STRANGERS)
def test_or_dropped_with_every_link(tree: Path, make: Any) -> None:
    make(tree)
    (tree / "pkg/near").symlink_to("a.py")
    assert beneath.take_over(tree, drop=True) == ["pkg/a.py", "pkg/inner/tool"]
    assert not os.path.lexists(tree / "pkg/evil") and not os.path.lexists(tree / "pkg/near")
    assert (tree.parent / "outside").read_text() == "secret"


@pytest.mark.skipif(os.geteuid() == 0, reason="what has two names and is root's is what releases share")
def test_a_second_name_is_refused(tree: Path) -> None:
    os.link(tree.parent / "outside", tree / "pkg/evil")
    with pytest.raises(ValueError, match="second name"):
        beneath.take_over(tree)


def test_an_interpreter_may_be_linked(tree: Path) -> None:
    (tree / "python").symlink_to("/usr/bin/python3.13")
    with pytest.raises(ValueError, match=r"python3\.13"):
        beneath.take_over(tree)
    beneath.take_over(tree, allowed=("/usr/bin/python3",))
    with pytest.raises(ValueError):
        (tree / "python").unlink()
        (tree / "python").symlink_to("/usr/bin/perl")
        beneath.take_over(tree, allowed=("/usr/bin/python3",))


def test_a_file_is_written_through_folders_alone(tree: Path) -> None:
    beneath.write(tree, "conf/site/x.ini", "a=1", 0o640, os.getgid())
    written = tree / "conf/site/x.ini"
    assert written.read_text() == "a=1" and stat.S_IMODE(written.stat().st_mode) == 0o640
    assert [path.name for path in written.parent.iterdir()] == ["x.ini"]
    beneath.write(tree, "conf/site/x.ini", "a=2", 0o640, os.getgid())
    assert written.read_text() == "a=2"


@pytest.mark.parametrize("name", ["../x", "/etc/x", "a/../../x", "a//x", "", "a/"])
def test_a_path_that_leads_out_is_none(tree: Path, name: str) -> None:
    with pytest.raises(ValueError, match="not a path below"):
        beneath.write(tree, name, "x", 0o640, os.getgid())


def test_a_link_on_the_way_is_not_followed_and_one_at_its_end_replaced(tree: Path) -> None:
    outside = tree.parent / "folder"
    outside.mkdir()
    (tree / "conf").symlink_to(outside)
    with pytest.raises(ValueError, match="'conf' on its way is a link"):
        beneath.write(tree, "conf/x.ini", "x", 0o640, os.getgid())
    (tree / "end").symlink_to(tree.parent / "outside")
    beneath.write(tree, "end", "new", 0o640, os.getgid())
    assert not (tree / "end").is_symlink() and (tree.parent / "outside").read_text() == "secret"
    assert list(outside.iterdir()) == []
