"""Builds are the builder's word: for one app, one id and these bytes, and nobody else's."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from salt.exceptions import CommandExecutionError
from test_build import KEY, Project

from saltern.build import builderword, signing, store
from saltern.host import places
from saltern.site.certificates import build_public

OTHER = "another-key-than-the-builder-s"


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    return Project(tmp_path, monkeypatch)


def test_a_signature_is_of_these_bytes_by_one_of_these_keys() -> None:
    made = signing.sign(b"hello", KEY)
    assert signing.is_signed(b"hello", made, [build_public(KEY)])
    assert signing.is_signed(b"hello", made, [build_public(OTHER), build_public(KEY)])
    assert not signing.is_signed(b"hello!", made, [build_public(KEY)])
    assert not signing.is_signed(b"hello", made, [build_public(OTHER)])
    for wrong in ("", "x", made[:-8], "=" * 88, made + made):
        assert not signing.is_signed(b"hello", wrong, [build_public(KEY)])
    assert not signing.is_signed(b"hello", made, []) and not signing.is_signed(b"hello", made, ["AAAA"])


def test_without_the_library_salt_s_own_python_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setattr(signing, "SALT", Path(sys.executable))
    own = signing.sign(b"hello", KEY)
    calls: list[dict[str, Any]] = []

    def missing(asked: dict[str, Any]) -> Any:
        calls.append(asked)
        raise ImportError("no cryptography")

    monkeypatch.setattr(signing, "answer", missing)
    assert signing.sign(b"hello", KEY) == own and signing.is_signed(b"hello", own, [build_public(KEY)])
    assert not signing.is_signed(b"other", own, [build_public(KEY)]) and len(calls) == 3
    monkeypatch.setattr(signing, "SALT", Path("/nonexistent"))
    with pytest.raises(CommandExecutionError, match="cannot check signatures"):
        signing.is_signed(b"hello", own, [])


def _as_anothers(home: Path) -> None:
    about = json.loads((home / "manifest.json").read_text())
    (home / "manifest.json").write_text(json.dumps(about | {"app": "other"}))


def _edited(home: Path) -> None:
    with (home / "manifest.json").open("a") as file:
        file.write("\n")


FORGED: dict[str, tuple[Callable[[Project, Path], object], str]] = {
    "a word more": (lambda project, home: _edited(home), "not the builder's"),
    "no signature": (lambda project, home: (home / "manifest.sig").unlink(), "not signed"),
    "somebody else's": (
        lambda project, home: (home / "manifest.sig").write_text(
            signing.sign(signing.build_text((home / "manifest.json").read_bytes()), OTHER)
        ),
        "not the builder's",
    ),
    "another app's": (lambda project, home: _as_anothers(home), "manifest is that of build .* of other"),
}


@pytest.mark.parametrize("what", FORGED)
def test_a_build_that_is_not_the_builder_s_word_is_refused(project: Project, what: str) -> None:
    build = project.make()["id"]
    forge, said = FORGED[what]
    forge(project, project.path(build))
    with pytest.raises(CommandExecutionError, match=said):
        project.build.verify("tiny", build)


def test_one_app_s_build_is_not_another_s_though_it_is_signed(project: Project) -> None:
    build = project.make()["id"]
    shutil.copytree(project.path(build), project.home / "builds/other" / build)
    with pytest.raises(CommandExecutionError, match="of tiny"):
        project.build.verify("other", build)
    shutil.copytree(project.path(build), project.path("0" * 12))
    with pytest.raises(CommandExecutionError, match=f"is that of build {build}"):
        project.build.verify("tiny", "0" * 12)


def test_builds_of_before_are_signed_if_they_are_whole_and_else_refused(project: Project) -> None:
    build = project.make()["id"]
    project.builder.release("tiny", build)
    home, word = project.path(build), project.path("released.json")
    assert project.build.unsigned("tiny") == [] == project.builder.unsigned("tiny")
    (home / "manifest.sig").unlink()
    told = json.loads(word.read_text())
    word.write_text(json.dumps({key: told[key] for key in ("build", "token")}))
    assert project.build.unsigned("tiny") == [build] and project.builder.unsigned("tiny") == ["released.json"]
    project.build.sign("tiny")
    project.builder.sign("tiny")
    assert project.build.unsigned("tiny") == [] == project.builder.unsigned("tiny")
    assert json.loads(word.read_text()) == told
    project.build.verify("tiny", build)
    (home / "manifest.sig").unlink()
    (home / "src.tar.gz").write_bytes(b"x")
    with pytest.raises(CommandExecutionError, match=r"src.tar.gz has been changed"):
        project.build.sign("tiny")
    assert not (home / "manifest.sig").exists()


def test_a_new_key_signs_what_the_one_before_has_signed_and_nothing_else(project: Project) -> None:
    build = project.make()["id"]
    secrets = project.pillar["secrets"]
    secrets |= {"build_key": OTHER, "build_keys": [build_public(OTHER), build_public(KEY)]}
    project.build.verify("tiny", build)  # both are good
    assert project.build.unsigned("tiny") == [build]
    project.build.sign("tiny")
    secrets["build_keys"] = [build_public(OTHER)]
    project.build.verify("tiny", build)
    secrets |= {"build_key": "a-third-key-of-nobody", "build_keys": [build_public("a-third-key-of-nobody")]}
    with pytest.raises(CommandExecutionError, match="not the builder's"):
        project.build.sign("tiny")


def _newer(project: Project) -> tuple[str, str]:
    """Two builds, the second of which is the current one and the fleet's."""
    old = project.make()["id"]
    (project.source / "manage.py").write_text("print('newer')\n")
    new = project.make()["id"]
    project.builder.release("tiny", new)
    return old, new


GUTTED: dict[str, Callable[[Path], object]] = {
    "the manifest alone": lambda home: [shutil.rmtree(home / "wheels"), *[
        (home / name).unlink() for name in ("manifest.sig", "src.tar.gz", "bom.json")
    ]],
    "no signature, a wheel missing": lambda home: [(home / "manifest.sig").unlink(), shutil.rmtree(home / "wheels")],
    "no manifest": lambda home: (home / "manifest.json").unlink(),
    "half a manifest": lambda home: [(home / "manifest.sig").unlink(), (home / "manifest.json").write_text("{")],
    "a key of nobody's": lambda home: (home / "manifest.sig").write_text(signing.sign(b"x", OTHER)),
}  # fmt: skip


@pytest.mark.parametrize("what", GUTTED)
def test_what_a_killed_removal_has_left_stops_no_build(project: Project, what: str) -> None:
    old, new = _newer(project)
    GUTTED[what](project.path(old))
    (project.source / "manage.py").write_text("print('newest')\n")
    newest = project.make()["id"]
    left = project.path(old) / "manifest.json"
    assert project.build.current("tiny") == newest and project.build.exists("tiny", new) and not left.exists()
    (project.source / "manage.py").write_text("print('hello')\n")
    assert project.make()["id"] == old
    project.build.verify("tiny", old)


def test_a_gutted_build_is_not_here_and_is_made_anew(project: Project) -> None:
    old, _ = _newer(project)
    shutil.rmtree(project.path(old) / "wheels")
    assert not project.build.exists("tiny", old)
    (project.source / "manage.py").write_text("print('hello')\n")
    project.make()
    project.build.verify("tiny", old)


@pytest.mark.parametrize("what", ["no signature, a wheel missing", "a key of nobody's", "half a manifest"])
def test_a_build_in_use_that_cannot_be_verified_is_told_with_the_way_out(project: Project, what: str) -> None:
    _, new = _newer(project)
    GUTTED[what](project.path(new))
    (project.source / "manage.py").write_text("print('newest')\n")
    with pytest.raises(CommandExecutionError, match=r"emove .*and apply again"):
        project.make()
    assert (project.path(new) / "manifest.json").exists()


def test_a_removal_begins_with_the_manifest(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    old, new = _newer(project)

    def killed(path: Path, **_: Any) -> None:
        assert not (path / "manifest.json").exists()
        raise KeyboardInterrupt

    project.pillar["builder"]["keep"] = 0
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", killed)
        with pytest.raises(KeyboardInterrupt):
            store.prune(project.here, "tiny")
        with pytest.raises(KeyboardInterrupt):
            project.builder.remember("tiny", {"build": new, "token": "x"})
    project.builder.remember("tiny", {"build": new, "token": "x"})
    assert not project.path(old).exists() and project.path(new).exists()


def test_what_a_killed_signing_was_writing_is_no_damage(project: Project) -> None:
    _, new = _newer(project)
    (project.path(new) / ".manifest.sig.abcd").write_text("half")
    project.build.verify("tiny", new)
    (project.path(new) / "manifest.sig").unlink()
    project.build.sign("tiny")
    assert not (project.path(new) / ".manifest.sig.abcd").exists()


class Served:
    """What answers for the builder: the files of a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.asked = folder, list[str]()

    @contextlib.contextmanager
    def __call__(self) -> Iterator[Callable[..., bytes]]:
        yield self.get

    def get(self, path: str, place: Path | None = None) -> bytes:
        self.asked.append(path)
        content = (self.folder / path.lstrip("/")).read_bytes()
        if place:
            Path(place).write_bytes(content)
            return b""
        return content


def _web(project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Served:
    """The same app on another host, which has the public half alone."""
    project.make()
    project.builder.release("tiny", project.build.current("tiny"))
    served = Served(project.home / "builds")
    monkeypatch.setattr(places, "BUILDS", tmp_path / "web")
    project.pillar["host"]["roles"] = ["web"]
    project.pillar["wiring"]["builds"] = {"url": "https://build1:8843", "address": "10.0.0.1"}
    del project.pillar["secrets"]["build_key"]
    monkeypatch.setattr(builderword, "server", lambda _: served())
    return served


def test_another_host_takes_what_the_builder_has_signed(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    served = _web(project, tmp_path, monkeypatch)
    word = project.builder.released("tiny")
    assert word and set(word) == {"build", "token"}
    project.builder.fetch("tiny", word["build"])
    project.build.verify("tiny", word["build"])
    assert sorted(path.name for path in (tmp_path / "web/tiny").iterdir()) == [".lock", word["build"]]
    assert f"/tiny/{word['build']}/manifest.sig" in served.asked


def test_another_host_takes_the_same_build_anew_when_the_key_has_changed(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A release of it with other settings needs it once more, and the old key is good no more."""
    served = _web(project, tmp_path, monkeypatch)
    word = project.builder.released("tiny")
    assert word
    project.builder.fetch("tiny", word["build"])
    manifest = served.folder / "tiny" / word["build"]
    text = signing.build_text((manifest / "manifest.json").read_bytes())
    (manifest / "manifest.sig").write_text(signing.sign(text, OTHER) + "\n")
    project.pillar["secrets"]["build_keys"] = [build_public(OTHER)]
    with pytest.raises(CommandExecutionError, match="its signature is not the builder's"):
        project.build.verify("tiny", word["build"])
    project.builder.fetch("tiny", word["build"])
    project.build.verify("tiny", word["build"])


@pytest.mark.parametrize("what", FORGED)
def test_another_host_fetches_no_file_of_a_build_that_is_not_signed(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    served = _web(project, tmp_path, monkeypatch)
    word = project.builder.released("tiny")
    assert word
    FORGED[what][0](project, served.folder / "tiny" / word["build"])
    with pytest.raises(CommandExecutionError):
        project.builder.fetch("tiny", word["build"])
    assert not project.build.exists("tiny", word["build"])
    assert not [path for path in served.asked if path.endswith((".whl", ".tar.gz"))]


def test_the_builder_s_word_is_of_this_app_and_this_kind(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    served = _web(project, tmp_path, monkeypatch)
    said = json.loads((served.folder / "tiny/released.json").read_text())
    for place, name in (("other/released.json", "released"), ("tiny/candidate.json", "candidate")):
        (served.folder / place).parent.mkdir(exist_ok=True)
        (served.folder / place).write_text(json.dumps(said))
        with pytest.raises(CommandExecutionError, match="is not signed by it"):
            getattr(project.builder, name)(place.partition("/")[0])
    for changed in ({"build": "0" * 12}, {"token": "x"}, {"before": "0" * 12}, {"signature": ""}):
        (served.folder / "tiny/released.json").write_text(json.dumps(said | changed))
        with pytest.raises(CommandExecutionError, match="is not signed by it"):
            project.builder.released("tiny")


def test_no_news_of_a_builder_of_before_needs_no_signature(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    served = _web(project, tmp_path, monkeypatch)
    word = project.builder.released("tiny")
    assert word
    project.builder.remember("tiny", word)
    (served.folder / "tiny/released.json").write_text(json.dumps(word))
    assert project.builder.released("tiny") == word
    (served.folder / "tiny/released.json").write_text(json.dumps(word | {"token": "new"}))
    project.builder.__context__.clear()
    assert project.builder.released("tiny") == word, "its last good word, while it cannot be believed"
