"""Fetching runs nothing: source packages are read, not asked, and what they ask for is a package's name or nothing."""

from __future__ import annotations

import hashlib
import io
import json
import os
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from salt.exceptions import CommandExecutionError
from test_build import Project, wheel

from saltern.build import bom, pipfetch
from saltern.host import appfiles


def sdist(folder: Path, name: str, setup: str, pyproject: str | None = None) -> str:
    """Make a source package and return the line that locks it."""
    path = folder / f"{name}-1.0.tar.gz"
    files = {"setup.py": setup, "PKG-INFO": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n"}
    files |= {"pyproject.toml": pyproject} if pyproject else {}
    with tarfile.open(path, "w:gz") as tar:
        for file, text in files.items():
            member = tarfile.TarInfo(f"{name}-1.0/{file}")
            member.size = len(text)
            tar.addfile(member, io.BytesIO(text.encode()))
    return f"{name}==1.0 --hash=sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}\n"


BACKEND = '[build-system]\nrequires = ["helper"]\nbuild-backend = "backend"\nbackend-path = ["."]\n'


@pytest.mark.parametrize("pyproject", [None, BACKEND], ids=["setup.py", "a backend of its own"])
def test_fetching_a_source_package_runs_nothing_of_it(tmp_path: Path, pyproject: str | None) -> None:
    index, ran, to = tmp_path / "index", tmp_path / "ran", tmp_path / "to"
    index.mkdir()
    to.mkdir()
    lock = sdist(index, "evil", f"open({str(ran)!r}, 'w')", pyproject)
    (tmp_path / "lock.txt").write_text(lock)
    asked = {"to": str(to), "arguments": ["--require-hashes", "--requirement", str(tmp_path / "lock.txt")]}
    env = {**os.environ, "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(index), "PIP_CONFIG_FILE": "/dev/null"}
    argv = [sys.executable, "-I", "-", json.dumps(asked)]
    done = subprocess.run(argv, input=pipfetch.program(), text=True, capture_output=True, env=env)
    assert done.returncode == 0, done.stderr
    assert not ran.exists() and [path.name for path in to.iterdir()] == ["evil-1.0.tar.gz"]
    needs = json.loads(done.stdout.splitlines()[-1])
    assert needs == {"evil-1.0.tar.gz": ["helper"] if pyproject else ["setuptools>=40.8.0", "wheel"]}


def test_pip_puts_no_variable_into_what_it_reads(tmp_path: Path) -> None:
    (tmp_path / "lock.txt").write_text("--find-links ${PIP_INDEX_URL}\nnone-such==1\n")
    asked = {"to": str(tmp_path), "arguments": ["--requirement", str(tmp_path / "lock.txt")]}
    env = {**os.environ, "PIP_NO_INDEX": "1", "PIP_INDEX_URL": "/secretpw", "PIP_CONFIG_FILE": "/dev/null"}
    argv = [sys.executable, "-I", "-", json.dumps(asked)]
    done = subprocess.run(argv, input=pipfetch.program(), text=True, capture_output=True, env=env)
    assert done.returncode and "secretpw" not in done.stdout + done.stderr


@pytest.mark.parametrize(
    "text",
    ["setuptools", "setuptools>=40.8,<90", "a[b,c] ~= 1.0 ; python_version < '3.13'", "a (>=1,<2)", "Foo.Bar_baz==1.*"],
)
def test_a_requirement_by_name_is_plain(text: str) -> None:
    assert pipfetch.is_plain(text)


@pytest.mark.parametrize(
    "text",
    [
        "a @ https://example.com/a.whl", "https://example.com/a.whl", "./a", "/etc/shadow", "--index-url=https://x",
        "-r /etc/shadow", "-e .", "a\n--index-url=https://x", "a --hash=sha256:ab", "git+ssh://x/y", "", "a" * 500,
        "a==1\\", "a;\n-r x",
    ],
)  # fmt: skip
def test_a_requirement_by_path_option_or_address_is_none(text: str) -> None:
    assert not pipfetch.is_plain(text)
    assert pipfetch.build_requirements(f"[build-system]\nrequires = [{json.dumps(text)}]") == []


@pytest.mark.parametrize("text", ["not toml [", "build-system = 3", "[build-system]\nrequires = 3"])
def test_a_broken_pyproject_breaks_nothing(text: str) -> None:
    assert isinstance(pipfetch.build_requirements(text), list)


def test_code_runs_only_where_there_is_no_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project = Project(tmp_path, monkeypatch)
    lock = wheel(project.index, "gunicorn", "27.0.1") + sdist(project.index, "odd", "1/0", BACKEND)
    wheel(project.index, "helper", "1.0")
    (project.source / "requirements.txt").write_text(lock)
    with pytest.raises(CommandExecutionError):  # it cannot be built; what counts is how it was tried
        project.make()
    tried = [walls for walls in project.walls if walls["name"] == "build-tiny"]
    assert len(tried) >= 3
    for walls in tried:
        fetches = walls["argv"][1:3] == ["-I", "-"]
        assert bool(walls.get("network")) == fetches, walls["argv"]
        assert fetches or "--no-index" in walls["argv"]
        assert walls["user"] == "build-tiny"


def test_a_source_package_cannot_put_another_in_its_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project = Project(tmp_path, monkeypatch)
    backend = """
import zipfile
def build_wheel(folder, *a):
    name = "django-99.0-py3-none-any.whl"
    with zipfile.ZipFile(f"{folder}/{name}", "w") as z:
        z.writestr("django-99.0.dist-info/METADATA", "Metadata-Version: 2.1\\nName: odd\\nVersion: 1.0\\n")
        z.writestr("django-99.0.dist-info/WHEEL", "Wheel-Version: 1.0\\nTag: py3-none-any\\n")
    return name
"""
    path = project.index / "odd-1.0.tar.gz"
    sdist(project.index, "odd", "", BACKEND.replace('"helper"', ""))
    with tarfile.open(path, "w:gz") as tar:
        for file, text in {"pyproject.toml": BACKEND.replace('"helper"', ""), "backend.py": backend}.items():
            member = tarfile.TarInfo(f"odd-1.0/{file}")
            member.size = len(text)
            tar.addfile(member, io.BytesIO(text.encode()))
    own = f"odd==1.0 --hash=sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}\n"
    (project.source / "requirements.txt").write_text(wheel(project.index, "gunicorn", "27.0.1") + own)
    with pytest.raises(CommandExecutionError, match=r"another package|wrong name|inconsistent|django"):
        project.make()
    assert project.build.current("tiny") is None


@pytest.mark.parametrize(
    "wheel, source, is_of",
    [
        ("foo-2015.4.28", "foo-2015.04.28.tar.gz", True),
        ("foo-1.0b2", "foo-1.0-beta2.tar.gz", True),
        ("foo-1.0.post1", "foo-1.0-1.tar.gz", True),
        ("Foo_Bar-1.0", "foo.bar-1.0.zip", True),
        ("foo_bar-1.0", "foo-bar-1.0.0.tar.bz2", True),
        ("foo-2004d", "foo-2004d.tar.gz", True),
        ("zope-5", "zope-5-1.0.tar.gz", False),
        ("zope_5-1.0", "zope-5-1.0.tar.gz", True),
        ("foo-1.0", "foo-1.0.1.tar.gz", False),
        ("foo-1.0", "foo-1.0-beta2.tar.gz", False),
        ("fo-1.0", "foo-1.0.tar.gz", False),
    ],
)
def test_a_wheel_is_known_by_name_and_version_however_written(wheel: str, source: str, is_of: bool) -> None:
    assert bom.is_wheel_of(f"{wheel}-py3-none-any.whl", source) == is_of


STRANGE: dict[str, Callable[[Path], object]] = {
    "a link": lambda made: (made / "a.whl").symlink_to("/etc/shadow"),
    "a FIFO": lambda made: os.mkfifo(made / "a.whl"),
    "a folder": lambda made: (made / "a.whl").mkdir(),
    "a line's end": lambda made: (made / "a\nb").touch(),
    "hidden": lambda made: (made / ".hidden").touch(),
    "too large": lambda made: (made / "a.whl").write_bytes(b"x" * 2000),
    "too many": lambda made: [(made / f"{one}").touch() for one in range(20)],
}


@pytest.mark.parametrize("what", STRANGE)
def test_root_takes_over_plain_files_only(tmp_path: Path, what: str) -> None:
    files: Any = appfiles
    made, into = tmp_path / "made", tmp_path / "into"
    made.mkdir()
    into.mkdir()
    STRANGE[what](made)
    with pytest.raises(ValueError):
        files.take(made, into, 1000, 10)
    (tmp_path / "link").symlink_to(made)
    with pytest.raises(OSError):
        files.take(tmp_path / "link", into, 1000, 10)
