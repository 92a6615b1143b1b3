"""Git sources: revisions, checkouts, and builds that follow the commit and nothing else."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from salt.exceptions import CommandExecutionError
from test_build import Project

from saltern.build import packing, sources

pytestmark = pytest.mark.skipif(not shutil.which("git"), reason="git is not installed")


class Repository:
    def __init__(self, project: Project) -> None:
        self.project, self.path = project, project.source
        self.git("init", "--initial-branch=main")
        self.first = self.commit("one")
        self.git("tag", "-a", "v1", "-m", "first")
        self.ask("main")

    def git(self, *arguments: str) -> str:
        who = ["-c", "user.name=x", "-c", "user.email=x@x"]
        return subprocess.run(
            ["git", *who, "-C", str(self.path), *arguments], check=True, capture_output=True, text=True
        ).stdout.strip()

    def commit(self, text: str) -> str:
        (self.path / "manage.py").write_text(f"print({text!r})\n")
        (self.path / ".gitattributes").write_text("manage.py export-ignore\n")
        self.git("add", ".")
        self.git("commit", "-m", text)
        return self.git("rev-parse", "HEAD")

    def ask(self, revision: str) -> None:
        source = {"git": f"file://{self.path}", "revision": revision, "directory": None, "requirement": None}
        self.project.pillar["apps"]["tiny"]["source"] = source
        sources._looked_up.clear()  # a new run of Salt


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Repository:
    return Repository(Project(tmp_path, monkeypatch))


def test_a_plan_fetches_nothing_and_a_build_names_its_commit(repository: Repository) -> None:
    project = repository.project
    assert project.identify()["lock"] == "unresolved" and not (project.home / "builds").exists()
    manifest = project.make()
    assert manifest["commit"] == repository.first
    packing.unpack(project.path(manifest["id"]) / "src.tar.gz", project.home / "out")
    assert (project.home / "out/manage.py").read_text() == "print('one')\n"  # export-ignore is not obeyed
    assert not (project.home / "out/.git").exists()
    assert project.make() == manifest


def test_a_branch_is_followed_a_tag_and_a_commit_stay(repository: Repository) -> None:
    project = repository.project
    ids = {"main": project.make()["id"]}
    second = repository.commit("two")
    for revision, commit in (("v1", repository.first), (repository.first, repository.first), ("main", second)):
        repository.ask(revision)
        manifest = project.make()
        assert manifest["commit"] == commit
        ids[revision] = manifest["id"]
    assert ids["v1"] == ids[repository.first] != ids["main"]
    known = {path.name for path in (project.home / "builds/tiny/commits").iterdir()}
    assert known == {f"{repository.first}.json", f"{second}.json"}
    assert {path.name for path in (project.home / "workshops/tiny").iterdir()} == {"git", "home"}


def test_a_known_commit_needs_no_repository(repository: Repository) -> None:
    repository.ask(repository.first)
    manifest = repository.project.make()
    repository.path.rename(repository.path.with_name("gone"))
    sources._looked_up.clear()
    assert repository.project.make() == manifest


@pytest.mark.parametrize(
    "revision, said", [("nowhere", "neither a tag nor a branch nowhere"), ("0" * 40, "holds the commit")]
)
def test_what_is_not_there_is_named(repository: Repository, revision: str, said: str) -> None:
    repository.ask(revision)
    with pytest.raises(CommandExecutionError, match=said):
        repository.project.make()
