"""Who uses an old secret: asked of processes by their environment and of Postgres by its login roles."""

from __future__ import annotations

import importlib.util
import os
import pwd
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from salt.exceptions import CommandExecutionError

from saltern.site.names import login_of, owner_of
from saltern.site.overlap import KINDS

ROOT = Path(__file__).resolve().parents[2]
OLD = "old+secret/with=signs-Zs9vq3"


@pytest.fixture
def secretuse() -> ModuleType:
    spec = importlib.util.spec_from_file_location("secretuse", ROOT / "_modules/secretuse.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def pillar(kind: str, key: str, slot: int = 2) -> dict[str, Any]:
    user = pwd.getpwuid(os.getuid()).pw_name
    app = {"previous": {key: OLD}, "logins": {"database": slot, "owner": slot}}
    return {
        "host": {"roles": ["base", "postgres"]},
        "postgres": {"port": 5432},
        "apps": {"demo": {"user": user, "database": "demo"}},
        "secrets": {"apps": {"demo": app}, "logins": {"replication": slot}, "previous": {key: OLD}},
    }


def test_it_knows_every_kind(secretuse: ModuleType) -> None:
    of_apps = {kind.name: kind.key for kind in KINDS if kind.of_app}
    assert of_apps == secretuse.KEYS
    # No process of an app has what belongs to no app; those that log in are asked for by their roles.
    assert {kind.name for kind in KINDS if kind.login and not kind.of_app} == {secretuse.REPLICATION}


@pytest.mark.parametrize("form", ["X={}", "URL=postgres://a:{}@h/x"])
@pytest.mark.parametrize("quoted", [False, True])
def test_an_old_secret_is_found_in_any_form(secretuse: ModuleType, form: str, quoted: bool) -> None:
    from urllib.parse import quote

    line = form.format(quote(OLD, safe="") if quoted else OLD)
    found = secretuse.has_old(f"A=1\0{line}\0SECRET_KEY_FALLBACKS={OLD}".encode(), OLD)
    assert found == [line.partition("=")[0]]
    assert secretuse.has_old(f"A=1\0SECRET_KEY_FALLBACKS={OLD}".encode(), OLD) == [], "there it is meant to be"


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind.of_app], ids=lambda kind: kind.name)
def test_a_process_that_was_started_with_it_is_told_without_the_value(
    secretuse: ModuleType, kind: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(secretuse, "__pillar__", pillar(kind.name, kind.key), raising=False)
    monkeypatch.setattr(secretuse, "__salt__", {"pg.select": lambda *_: []}, raising=False)
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, env={"HELD": OLD})
    try:
        said = [line for line in secretuse.old(kind.name, "demo") if f"process {child.pid} " in line]
        assert said and "(HELD)" in said[0] and OLD not in said[0]
    finally:
        child.communicate(b"\n")
    assert not [line for line in secretuse.old(kind.name, "demo") if f"process {child.pid} " in line]


def written(folder: Path, environ: bytes, state: str = "S") -> None:
    """A process of the app, as /proc has it; its unit is an instance of release x."""
    process = folder / "proc/4242"
    process.mkdir(parents=True)
    (process / "environ").write_bytes(environ)
    (process / "status").write_text(f"Name:\tpython\nState:\t{state} (sleeping)\n")
    (process / "cgroup").write_text("0::/system.slice/app-demo-worker@x.service\n")


@pytest.mark.parametrize("environ", [b"", b"\0" * 400, b"gunicorn: worker\0\0\0"])
@pytest.mark.parametrize(
    ("env", "said"),
    [
        (f'A="{OLD}"\n', "process 4242 of app-demo-worker@x.service was started with it (A)"),
        (f'A="a-new-one"\nSECRET_KEY_FALLBACKS="{OLD}"\n', ""),
        (None, "process 4242 of app-demo-worker@x.service hides its environment and may have it"),
    ],
)
def test_who_hides_its_environment_is_asked_for_by_its_release(
    secretuse: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, environ: bytes, env: str | None, said: str
) -> None:
    written(tmp_path, environ)
    release = tmp_path / "apps/demo/releases/x"
    release.mkdir(parents=True)
    if env is not None:
        (release / "env").write_text(env)
    monkeypatch.setattr(secretuse, "__pillar__", pillar("redis", "redis_password"), raising=False)
    monkeypatch.setattr(secretuse, "PROC", tmp_path / "proc")
    monkeypatch.setattr(secretuse, "APPS", tmp_path / "apps", raising=False)
    assert secretuse._processes("demo", pwd.getpwuid(os.getuid()).pw_name, OLD) == ([said] if said else [])


def test_who_has_ended_and_was_not_waited_for_uses_nothing(
    secretuse: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written(tmp_path, b"", state="Z")
    monkeypatch.setattr(secretuse, "PROC", tmp_path / "proc")
    assert secretuse._processes("demo", pwd.getpwuid(os.getuid()).pw_name, OLD) == []


def test_the_environment_is_not_overwritten_by_titles_of_processes() -> None:
    assert "SPT_NOENV=1" in (ROOT / "saltern/release/appunits.py").read_text()


@pytest.mark.parametrize("slot", [1, 2])
@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind.login], ids=lambda kind: kind.name)
def test_sessions_of_the_login_that_is_not_in_force_are_asked_for(
    secretuse: ModuleType, kind: Any, slot: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []

    def select(*arguments: Any) -> list[dict[str, Any]]:
        asked.append(arguments)
        return [{"role": arguments[2][0][0], "sessions": 2}]

    monkeypatch.setattr(secretuse, "__pillar__", pillar(kind.name, kind.key, slot), raising=False)
    monkeypatch.setattr(secretuse, "__salt__", {"pg.select": select}, raising=False)
    role = {"database": "demo", "owner": owner_of("demo"), "replication": "saltern_replication"}[kind.name]
    other = login_of(role, 3 - slot)
    said = secretuse.old(kind.name, "demo" if kind.of_app else None)
    assert f"2 sessions of the login role {other}" in said
    assert asked == [("sessions", 5432, [[other]])]


def test_a_server_that_cannot_be_asked_is_no_empty_answer(
    secretuse: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(secretuse, "__pillar__", pillar("database", "database_password"), raising=False)
    monkeypatch.setattr(secretuse, "__salt__", {"pg.select": lambda *_: "down"}, raising=False)
    assert any("cannot be asked" in line for line in secretuse.old("database", "demo"))


def test_it_waits_until_nobody_uses_the_old_one(secretuse: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    users = [["process 7 has it"], ["process 7 has it"], []]
    monkeypatch.setattr(secretuse, "old", lambda kind, app: users.pop(0))
    monkeypatch.setattr(secretuse.time, "sleep", lambda seconds: None)
    assert secretuse.gone("database", "demo") == [] and users == []


def test_who_uses_it_still_is_told(secretuse: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(secretuse, "old", lambda kind, app: ["process 7 has it"])
    with pytest.raises(CommandExecutionError, match="the old one stays good, because it is used: process 7 has it"):
        secretuse.gone("database", "demo", seconds=0)
    assert secretuse.gone("database", "demo", force=True, seconds=0) == ["process 7 has it"]
