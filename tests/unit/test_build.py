"""Builds: ids, locks, hashes, and a real build of a tiny project from local wheels."""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
from salt.exceptions import CommandExecutionError

from saltern.build import (
    builderword,
    delivery,
    interpreters,
    making,
    packages,
    packing,
    reaching,
    sources,
    sourcestream,
    sourcewalk,
    store,
    workshops,
)
from saltern.host import appfiles, places
from saltern.host.here import Here
from saltern.site.certificates import build_public
from tests.unit.contracts import load, play

KEY = "a-key-of-the-builder-s"
#: What makes builds and hands them on, in which tests play Salt, systemd and the network.
PARTS = (builderword, delivery, interpreters, making, packages, sources, store, workshops)
HASH = "--hash=sha256:" + "0" * 64


def wheel(folder: Path, name: str, version: str, needs: str = "") -> str:
    """Make a wheel with one module and return the line that locks it."""
    path, info = folder / f"{name}-{version}-py3-none-any.whl", f"{name}-{version}.dist-info"
    with zipfile.ZipFile(path, "w") as archive:
        about = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
        files = {
            f"{name}.py": f"version = {version!r}\n",
            f"{info}/METADATA": about + (f"Requires-Dist: {needs}\n" if needs else ""),
            f"{info}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
            f"{info}/RECORD": f"{name}.py,,\n{info}/METADATA,,\n{info}/WHEEL,,\n{info}/RECORD,,\n",
        }
        for file, text in files.items():
            archive.writestr(zipfile.ZipInfo(file), text)  # without today's date: always the same wheel
    return f"{name}=={version} --hash=sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}\n"


def module(folder: str, name: str) -> Any:
    return load(folder, name)


class Forgetful(dict[str, Any]):
    """Salt's __context__, which is new for each run, and here for each question."""

    def setdefault(self, key: str, default: Any = None) -> Any:
        return default


class Project:
    """A Django project of three files, a folder that stands for the index, and the modules that build it."""

    def __init__(self, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.home, self.source, self.index = home, home / "tiny", home / "index"
        self.source.mkdir()
        self.index.mkdir()
        (self.source / "manage.py").write_text("print('hello')\n")
        (self.source / "requirements.txt").write_text(wheel(self.index, "gunicorn", "27.0.1"))
        monkeypatch.setenv("PIP_NO_INDEX", "1")
        monkeypatch.setenv("PIP_FIND_LINKS", str(self.index))
        self.monkeypatch = monkeypatch
        self.files, self.build = appfiles, module("_modules", "build")
        monkeypatch.setattr(places, "BUILDS", home / "builds")
        monkeypatch.setattr(places, "WORKSHOPS", home / "workshops")
        self.pillar: dict[str, Any] = {
            "secrets": {"build_key": KEY, "build_keys": [build_public(KEY)]},
            "host": {"id": "app1", "roles": ["builder", "web"]},
            "builder": {"keep": 3},
            "apps": {
                "tiny": {"source": {"directory": str(self.source)}, "lock": None, "requirements": [], "python": None}
            },
        }
        self.parts: list[Any] = [*PARTS]
        self.builder = module("_modules", "builder")
        self.pillar["wiring"] = {"together": False}
        self.reached: list[str] = []
        self.salt: dict[str, Any] = {}
        self.context: dict[str, Any] = Forgetful()
        for prefix, own in [("build", self.build), ("builder", self.builder)]:
            self.salt |= {f"{prefix}.{key}": value for key, value in vars(own).items() if callable(value)}
            own.__pillar__, own.__context__ = self.pillar, self.context
        monkeypatch.setattr(reaching, "reach", self.reached.extend)
        # No account of its own, and no sandbox: both are the scenarios' business, on a host.
        monkeypatch.setattr(workshops, "give", lambda app, path, mode, own: Path(path).chmod(0o700))
        monkeypatch.setattr(store, "SERVED_BY", os.getegid())
        monkeypatch.setattr(sources, "_looked_up", {})
        monkeypatch.setattr(os, "chown", lambda *arguments: None)
        self.walls: list[dict[str, Any]] = []
        self.swap("appfiles", run=self.execute)
        self.swap("sandbox", run=self.sandboxed)

    def swap(self, name: str, **functions: Any) -> None:
        """Let all modules here see other functions in a module of our package."""
        play(self.monkeypatch, self.parts, name, **functions)

    def sandboxed(
        self,
        name: str,
        argv: list[str],
        *,
        stdin: bytes = b"",
        out: Any = None,
        directory: str | None = None,
        environment: dict[str, str] | None = None,
        secrets: dict[str, str] | None = None,
        **walls: Any,
    ) -> bytes:
        told = {"environment": environment or {}, "secrets": secrets or {}}
        self.walls.append({"name": name, "argv": argv, **told, **walls})
        if "/.python/" in argv[0]:
            argv = [sys.executable, *argv[1:]]
        env = {**os.environ, **(environment or {}), **(secrets or {})}
        done = subprocess.run(argv, input=stdin, capture_output=True, cwd=directory, env=env)
        if done.returncode:
            failed: Any = CommandExecutionError(f"{argv[0]}: {done.stderr.decode()}")
            failed.said = done.stderr.decode()
            raise failed
        if out:
            out.write(done.stdout)
            return b""
        return done.stdout

    def execute(self, argv: list[str], **options: Any) -> str:
        if argv[2:4] == ["-m", "venv"]:  # takes seconds to make, for pip alone, which is here too
            Path(argv[4]).mkdir()
            return ""
        if argv[0] == "sync":  # waits for whatever else the disk has to do
            return ""
        printed: str = self.files.run(argv, **options)
        return printed

    @property
    def here(self) -> Here:
        """As the faces hand it on."""
        return Here(self.pillar, self.context)

    def identify(self) -> dict[str, str]:
        found: dict[str, str] = self.build.identify("tiny")
        return found

    def make(self) -> dict[str, Any]:
        manifest: dict[str, Any] = self.build.make("tiny")
        return manifest

    def path(self, build: str) -> Path:
        return self.home / "builds" / "tiny" / build


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    return Project(tmp_path, monkeypatch)


stream: Any = sourcestream
walk: Any = sourcewalk


def test_id_is_a_pure_function_of_the_input() -> None:
    first = making.build_id("tree", "lock", "3.13", "13")
    assert first == making.build_id("tree", "lock", "3.13", "13")
    assert len(first) == 12 and int(first, 16) >= 0
    others = {
        making.build_id("other", "lock", "3.13", "13"),
        making.build_id("tree", "other", "3.13", "13"),
        making.build_id("tree", "lock", "3.11", "13"),
        making.build_id("tree", "lock", "3.13", "12"),
    }
    assert len(others | {first}) == 5


def test_requirements_of_wheels() -> None:
    text = packing.requirements(
        {"rpc4django-0.6.3-py2.py3-none-any.whl": "aa", "Typing_Extensions-4.16.0-1-py3-none-any.whl": "bb"}
    )
    assert text == "typing-extensions==4.16.0 --hash=sha256:bb\nrpc4django==0.6.3 --hash=sha256:aa\n"
    with pytest.raises(ValueError, match=r"django-5.2.tar.gz is not the name of a wheel"):
        packing.requirements({"django-5.2.tar.gz": "aa"})


def told(source: Path, contents: bool = False, **asked: Any) -> io.BytesIO:
    out = io.BytesIO()
    usual = {"everything": True, "texts": [], "privileged": False, "most_files": 1000, "most_bytes": 1 << 20}
    walk.tell(str(source), {**usual, "contents": contents, **asked}, out)
    out.seek(0)
    return out


def tree(source: Path) -> str:
    return str(stream.read(told(source), 1 << 20)["tree"])


def test_tree_hash_sees_names_contents_and_programs_but_no_times(tmp_path: Path) -> None:
    file = tmp_path / "a.py"
    file.write_text("1")
    first = tree(tmp_path)
    os.utime(file, (1, 1))
    assert tree(tmp_path) == first
    file.chmod(0o755)
    assert tree(tmp_path) != first
    file.chmod(0o644)
    file.write_text("2")
    assert tree(tmp_path) != first


def test_the_hash_of_a_tree_is_what_it_always_was(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("1")
    (tmp_path / "link").symlink_to("a.py")
    assert tree(tmp_path) == "dc37a1420900e214e08bdd9243871da01504d8387cd508e8eb735f75994c1320"


def test_an_archive_depends_on_contents_only_and_unpacks_to_the_same_tree(tmp_path: Path) -> None:
    source = tmp_path / "source"
    (source / "sub").mkdir(parents=True)
    (source / "sub/run").write_text("x")
    (source / "sub/run").chmod(0o700)
    (source / "link").symlink_to("sub/run")
    first = stream.pack(told(source, contents=True), tmp_path / "1.tar.gz", 1000)
    os.utime(source / "sub/run", (1, 1))
    assert stream.pack(told(source, contents=True), tmp_path / "2.tar.gz", 1000) == first
    assert (tmp_path / "1.tar.gz").read_bytes() == (tmp_path / "2.tar.gz").read_bytes()
    packing.unpack(tmp_path / "1.tar.gz", tmp_path / "out")
    assert tree(tmp_path / "out") == tree(source) == first["tree"]


def test_without_git_a_walk_leaves_out_what_is_made(project: Project) -> None:
    first = project.identify()["id"]
    for made in ("__pycache__/manage.pyc", ".venv/bin/python", "node_modules/x.js", "manage.pyc"):
        (project.source / made).parent.mkdir(parents=True, exist_ok=True)
        (project.source / made).write_text("x")
    assert project.identify()["id"] == first
    (project.source / "new.py").write_text("x")
    assert project.identify()["id"] != first


@pytest.mark.skipif(not shutil.which("git"), reason="git is not installed")
def test_git_says_what_belongs_to_the_source(project: Project) -> None:
    def git(*arguments: str) -> None:
        who = ["-c", "user.name=x", "-c", "user.email=x@x"]
        subprocess.run(["git", *who, "-C", str(project.source), *arguments], check=True, capture_output=True)

    git("init")
    (project.source / ".gitignore").write_text("*.log\n")
    git("add", ".")
    git("commit", "-m", "x")
    first = project.identify()["id"]
    assert not project.build.source("tiny")["commit"].endswith("-dirty")
    (project.source / "ignored.log").write_text("x")
    assert project.identify()["id"] == first
    (project.source / "untracked.py").write_text("x")
    assert project.identify()["id"] != first
    assert project.build.source("tiny")["commit"].endswith("-dirty")
    (project.source / "untracked.py").unlink()
    (project.source / "manage.py").unlink()  # tracked, but gone
    assert project.identify()["id"] != first


def test_a_source_is_read_once_in_a_run_of_salt(project: Project) -> None:
    project.build.__context__ = {}
    first = project.build.identify("tiny")
    assert project.build.identify("tiny") == first and len(project.walls) == 1
    (project.source / "manage.py").write_text("print('changed')\n")
    assert project.make()["id"] != first["id"], "what is built is read anew"
    assert project.build.identify("tiny")["id"] == project.build.current("tiny")


def test_a_build_is_made_once(project: Project) -> None:
    wanted = project.identify()["id"]
    assert project.build.current("tiny") is None
    manifest = project.make()
    assert manifest["id"] == wanted == project.build.current("tiny")
    assert (project.path(wanted) / "wheels/gunicorn-27.0.1-py3-none-any.whl").is_file()
    assert "gunicorn==27.0.1 --hash=sha256:" in (project.path(wanted) / "requirements.txt").read_text()
    assert set(manifest["files"]) == {
        "src.tar.gz", "requirements.txt", "lock.txt", "bom.json", "wheels/gunicorn-27.0.1-py3-none-any.whl",
    }  # fmt: skip
    assert project.make() == manifest  # "when" included: nothing was built
    shutil.rmtree(project.index)  # a change of code alone needs no index
    (project.source / "manage.py").write_text("print('changed')\n")
    again = project.make()
    assert again["id"] != wanted and again["id"] == project.build.current("tiny")
    project.build.verify("tiny", again["id"])


def test_what_a_killed_build_left_is_cleaned_up(project: Project) -> None:
    dead = project.path(".building")
    (dead / "wheels").mkdir(parents=True)
    project.make()
    assert not dead.exists()


def build_of_day(project: Project, number: int) -> str:
    """Build another source, and date the build: a second is too coarse for what goes by age."""
    (project.source / "manage.py").write_text(f"print({number})\n")
    made: str = project.make()["id"]
    manifest = project.path(made) / "manifest.json"
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"when": f"2026-01-0{number + 1}"}))
    store.sign_one(project.here, manifest.parent)
    return made


def test_old_builds_go_but_never_the_current_one(project: Project) -> None:
    project.pillar["builder"]["keep"] = 2
    ids = []
    for number in range(4):
        ids.append(build_of_day(project, number))
    left = {path.name for path in project.path("").iterdir()} - {".lock", "current"}
    assert ids[3] in left and ids[0] not in left and len(left) == 2
    (project.source / "manage.py").write_text("print(2)\n")
    project.pillar["builder"]["keep"] = 1
    assert project.make()["id"] == ids[2]
    assert project.build.exists("tiny", ids[2])


def test_what_the_fleet_served_before_stays_whatever_was_refused_since(project: Project) -> None:
    project.pillar["builder"]["keep"] = 1
    ids = []
    for number in range(5):
        ids.append(build_of_day(project, number))
        if number < 2:  # the other three are refused
            note = {"build": ids[-1], "token": "t"} | ({"before": ids[0]} if number else {})
            (project.path("") / "released.json").write_text(json.dumps(note))
    left = {one for one in ids if project.build.exists("tiny", one)}
    assert {ids[0], ids[1], ids[4]} <= left and ids[2] not in left, [ids.index(one) for one in left]


def test_a_wrong_hash_stops_the_build_and_leaves_nothing(project: Project) -> None:
    (project.source / "requirements.txt").write_text(f"gunicorn==27.0.1 {HASH}\n")
    with pytest.raises(CommandExecutionError, match="DO NOT MATCH THE HASHES"):
        project.make()
    assert project.build.current("tiny") is None
    assert [path.name for path in project.path("").iterdir()] == [".lock"]


def test_a_named_lock_without_hashes_is_refused_with_the_way_out(project: Project) -> None:
    (project.source / "requirements.txt").write_text("gunicorn==27.0.1\n")
    project.pillar["apps"]["tiny"]["lock"] = "requirements.txt"
    with pytest.raises(CommandExecutionError, match=r"requirements.txt is not a lock: line 1: .*--generate-hashes"):
        project.identify()


@pytest.mark.parametrize(
    "damage, named",
    [
        (lambda home: _flip(home / "src.tar.gz"), "src.tar.gz has been changed"),
        (lambda home: next((home / "wheels").iterdir()).unlink(), "gunicorn-27.0.1-py3-none-any.whl is missing"),
        (
            lambda home: (home / "wheels/evil-1-py3-none-any.whl").write_text("x"),
            "evil-1-py3-none-any.whl does not belong",
        ),
        (lambda home: (home / "manifest.json").write_text("{"), "manifest cannot be read"),
    ],
)
def test_a_damaged_build_is_refused(project: Project, damage: Any, named: str) -> None:
    build = project.make()["id"]
    project.build.verify("tiny", build)
    damage(project.path(build))
    with pytest.raises(CommandExecutionError, match=named):
        project.build.verify("tiny", build)


def _flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def test_a_python_that_the_host_has_is_part_of_the_build_s_id(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(interpreters, "BIN", project.home / "bin")
    interpreters.BIN.mkdir()
    for name in ("python3.12", "python3.13"):
        (interpreters.BIN / name).touch()
    (interpreters.BIN / "python3").symlink_to("python3.13")
    first = project.identify()
    project.pillar["apps"]["tiny"]["python"] = "3.13"
    assert project.identify() == first
    project.pillar["apps"]["tiny"]["python"] = "3.12"
    other = project.identify()
    assert other["python"] == "3.12" and other["id"] != first["id"]


def test_a_python_that_the_host_has_not_is_an_error_with_those_it_has(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(interpreters, "BIN", project.home / "bin")
    interpreters.BIN.mkdir()
    (interpreters.BIN / "python3.13").touch()
    (interpreters.BIN / "python3").symlink_to("python3.13")
    project.pillar["apps"]["tiny"]["python"] = "3.9"
    for refuse in (lambda: project.build.python("tiny"), project.identify):
        with pytest.raises(CommandExecutionError, match=r"apps/tiny.yaml: python: 3.9 is not .* which has 3.13"):
            refuse()
