"""The release engine on a directory of its own: real builds, virtual environments and sockets; systemd is played."""

from __future__ import annotations

import contextlib
import http.server
import json
import os
import shutil
import socketserver
import tempfile
import threading
import time
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from salt.exceptions import CommandExecutionError
from test_build import Project, _flip, module, wheel
from test_site_good import MIGRATIONS

from saltern.deploy import serving
from saltern.host import places
from saltern.host.here import Here
from saltern.migrate import migratelint, migrations, staticfiles
from saltern.release import applock, envfile, gate, instances, oneoff, staging, written
from tests.unit.contracts import Played

SECRET = "canary-0123456789"
WHEELS: dict[str, dict[str, bytes]] = {}  # lock: the files that pip collected for it


class Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True


class Systemd:
    """Plays systemctl: a unit that is started is a small HTTP server on the release's socket."""

    def __init__(self, host: Host) -> None:
        self.host, self.servers, self.log = host, {}, []  # type: ignore[var-annotated]

    def __call__(self, *arguments: str) -> str:
        verb, *rest = [one for one in arguments if not one.startswith("--")]
        self.log.append(" ".join([verb, *rest]))
        return getattr(self, verb.replace("-", "_"))(*rest) or ""

    def daemon_reload(self) -> None: ...

    def show(self, pattern: str) -> str:
        if "*" not in pattern:
            state = "active" if self.release(pattern) in self.servers else "inactive"
            return f"ActiveState={state}\nMainPID=0\nNeedDaemonReload=no\n"
        return "\n\n".join(f"Id=app-tiny@{one}.service\nActiveState=active" for one in sorted(self.servers))

    def start(self, unit: str) -> None:
        release = self.release(unit)
        if self.host.behaviour == "does not start":
            raise CommandExecutionError("systemctl start ...: exit code 1")
        host = self.host

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                if host.behaviour == "hangs":
                    time.sleep(10)  # a busy machine must have time to look at the workers meanwhile
                assert self.headers["Host"] == "tiny.test" and self.headers["X-Forwarded-Proto"] == "https"
                good = host.behaviour != "500" or self.path != "/healthz"
                said = "wrong" if host.behaviour == "wrong version" else release
                self.send_response(200 if good else 500)
                self.end_headers()
                self.wfile.write(json.dumps({"release": said}).encode())

            def log_message(self, *_: Any) -> None: ...

        server = Server(str(host.sockets / "tiny" / f"{release}.sock"), Handler)  # type: ignore[arg-type]
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        self.servers[release] = server

    def stop(self, unit: str) -> None:
        if server := self.servers.pop(self.release(unit), None):
            server.shutdown()
            (self.host.sockets / "w/tiny" / f"{self.release(unit)}.sock").unlink(missing_ok=True)
            server.server_close()
            Path(str(server.server_address)).unlink()

    def enable(self, unit: str) -> None:
        self.disable(unit)
        (self.host.units / "multi-user.target.wants" / unit).symlink_to("x")

    def disable(self, unit: str) -> None:
        (self.host.units / "multi-user.target.wants" / unit).unlink(missing_ok=True)

    @staticmethod
    def release(unit: str) -> str:
        return unit.partition("@")[2].removesuffix(".service")


class Joined:
    """The functions of an execution module, by their names."""

    def __init__(self, salt: dict[str, Any], prefix: str) -> None:
        self.salt, self.prefix = salt, prefix

    def __getattr__(self, name: str) -> Any:
        return self.salt[f"{self.prefix}.{name}"]


class Host(Project):
    def __init__(self, home: Path, monkeypatch: pytest.MonkeyPatch, run: Path) -> None:
        super().__init__(home, monkeypatch)
        self.apps, self.sockets, self.units = home / "apps", run, home / "units"
        for path in ("apps/tiny/releases", "apps/tiny/static", "units/multi-user.target.wants", "tmpfiles"):
            (home / path).mkdir(parents=True)
        (run / "tiny").mkdir()
        (run / "w/tiny").mkdir(parents=True)
        self.behaviour, self.static = "good", {"site.css": "1"}
        self.columns, self.size = {"a_thing": ["id", "name"]}, 8192
        self.migrations: list[list[Any]] = [["a", "0001", []]]
        self.applied: set[tuple[str, str]] = set()
        self.additive: list[list[str]] = []
        self.pillar["apps"]["tiny"] |= {
            "hostnames": ["tiny.test"], "wsgi": "tiny:app", "env": {}, "health_path": "/healthz", "workers": 1,
            "version_path": "/-/version", "threads": 1, "user": "app-tiny", "memory_max_mb": 64,
            "command_memory_max_mb": None, "tmp_max_mb": 64, "log_lines_max": 100,
            "health_status": 200, "health_seconds": 1, "manage": "python -m django", "media_url": None,
            "migrations": dict(MIGRATIONS, reversible=[]),
        }  # fmt: skip
        environment = {"SECRET_KEY": SECRET, "DATABASE_URL": "postgres://x"}
        owner = {"DATABASE_URL": "postgres://owner"}
        wired = {"environment": environment, "files": {}, "migration_environment": owner}
        self.pillar["wiring"] |= {"apps": {"tiny": wired}, "together": False}
        self.pillar["secrets"] |= {"apps": {"tiny": {"secret_key": SECRET}}}

        self.systemd, self.gate = Systemd(self), gate
        monkeypatch.setattr(gate, "GATE_PAUSE", 0.01)
        self.sql: dict[str, str] = {}
        self.played = Played(monkeypatch, {"release.one_off": oneoff})
        self.played["release.one_off"] = self.one_off
        monkeypatch.setattr(instances, "_systemctl", self.systemd)
        monkeypatch.setattr(instances, "last_log_lines", lambda app, release: f"Traceback: key is {SECRET}")
        self.django, self.instances, self.fleet, release = (
            module("_modules", name) for name in ("django", "instances", "fleet", "release")
        )
        for own in (self.django, self.instances, self.fleet, release):
            prefix = own.__name__.partition(".")[2]
            self.salt |= {f"{prefix}.{key}": value for key, value in vars(own).items() if callable(value)}
            own.__pillar__, own.__salt__, own.__context__ = self.pillar, self.salt, self.context
        self.parts += [serving, staging, staticfiles, migrations, oneoff, written]
        for constant, path in {"APPS": "apps", "UNITS": "units", "TMPFILES": "tmpfiles", "RUN": "run"}.items():
            monkeypatch.setattr(places, constant, home / path)
        monkeypatch.setattr(places, "SOCKETS", run)
        monkeypatch.setattr(places, "WEB", run / "w")
        self.salt["edge.resting"] = lambda app: None
        self.release = Joined(self.salt, "release")
        monkeypatch.setattr(migrations, "_session", self.session)
        # A sandbox needs systemd.
        plainly = migratelint._plainly
        monkeypatch.setattr(migratelint, "_contained", lambda name, *words: plainly(*words))
        self.installer = self.execute
        self.swap("appfiles", run=self.execute)
        self.swap("sandbox", run=self.sandboxed, end=lambda name: None)
        self.groups: list[str] = []
        monkeypatch.setattr(staging, "group_number", lambda name: self.groups.append(name) or os.getgid())
        for chown in ("chown", "fchown"):
            monkeypatch.setattr(os, chown, lambda *_, **__: None)
        monkeypatch.setattr(shutil, "chown", lambda *_: None)

    def sandboxed(self, name: str, argv: list[str], **walls: Any) -> bytes:
        """Has the real pip fetch the wheels of a lock once for all tests here; how builds do it is test_build's."""
        if name == "install-tiny":
            return self.installed(name, argv, **walls)
        if name != "build-tiny":
            return super().sandboxed(name, argv, **walls)
        asked = json.loads(argv[-1])
        lock, fetched = Path(asked["arguments"][-1]).read_text(), Path(asked["to"])
        if lock not in WHEELS:
            super().sandboxed(name, argv, **walls)
            WHEELS[lock] = {file.name: file.read_bytes() for file in fetched.iterdir()}
        for wheel_name, content in WHEELS[lock].items():
            (fetched / wheel_name).write_bytes(content)
        return b"{}"

    def installed(self, name: str, argv: list[str], **walls: Any) -> bytes:
        """Do without a sandbox what installs a release, which writes to what it was given alone."""
        assert name == "install-tiny" and walls["user"] == walls["group"] == "pkg-tiny" and not walls.get("network")
        release = self.apps / "tiny/releases"
        assert all(Path(path).parent.parent == release for path in walls["writes"])
        self.installer(argv)
        return b""

    def one_off(
        self, app: str, release: str, name: str, arguments: list[str], writable: str = "", environment: str = ""
    ) -> str:
        if self.behaviour == f"{name} fails":
            raise CommandExecutionError(f"{name} failed")
        if name == "first-start-of-django":
            facts = {
                "django": "5.2",
                "static": bool(self.static),
                "migrations": self.migrations,
                "additive": self.additive,
                "columns": self.columns,
            }
            return f"noise\nSALTERN {json.dumps(facts)}\n"
        if name == "collectstatic":
            for file, text in self.static.items():
                path = Path(writable) / file
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text)
            (Path(writable) / "evil").symlink_to("/etc/shadow")
        if name == "sqlmigrate":
            return "SALTERN " + json.dumps({one: {"sql": self.sql.get(one, "")} for one in json.loads(arguments[2])})
        if name == "migrate":
            file = Path(environment)
            assert file.read_text() == 'DATABASE_URL="postgres://owner"\n' and file.stat().st_mode & 0o777 == 0o600
            self.applied |= {(label, migration) for label, migration, _ in self.migrations}
        return ""

    def session(self, here: Here, app: str, release: str) -> Any:
        class Connection:
            info = types.SimpleNamespace(server_version=170005)

            def execute(inner, sql: str, _: Any = None) -> Any:
                since = sorted(self.applied - {("a", "0001")}) if "applied >" in sql else sorted(self.applied)

                class Rows:
                    fetchone = staticmethod(lambda: ["django_migrations"])
                    fetchall = staticmethod(lambda: since if "django_migrations" in sql else [("a_thing", self.size)])

                return Rows

        return contextlib.nullcontext(Connection())

    def state(self, name: str, test: bool = False) -> dict[str, Any]:
        states = module("_states", name.partition(".")[0])
        states.__salt__, states.__opts__ = self.salt, {"test": test}
        result: dict[str, Any] = getattr(states, name.partition(".")[2])("tiny")
        return result

    STEPS = ("build.present", "release.staged", "django.static_collected", "django.migrated", "release.active")

    def apply(self) -> str:
        for step in self.STEPS:
            result = self.state(step)
            assert result["result"] is True, result["comment"]
        active: str = self.release.active("tiny")
        return active

    def edit(self, text: str) -> None:
        (self.source / "manage.py").write_text(text)

    def directory(self, release: str) -> Path:
        return self.apps / "tiny/releases" / release

    def ledger(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in (self.apps / "tiny/ledger.jsonl").read_text().splitlines()]


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Host]:
    with tempfile.TemporaryDirectory(dir="/tmp") as short:  # a socket's path has room for 107 characters
        host = Host(tmp_path, monkeypatch, Path(short))
        yield host
        for release in list(host.systemd.servers):
            host.systemd.stop(f"app-tiny@{release}.service")


def test_a_first_deploy_serves_and_the_second_apply_changes_nothing(host: Host) -> None:
    release = host.apply()
    assert release == host.release.desired("tiny")["id"]
    assert (host.apps / "tiny/current.sock").readlink() == host.sockets / f"w/tiny/{release}.sock"
    assert (host.directory(release) / "venv/bin/python").exists()
    assert (host.directory(release) / "src/manage.py").is_file()
    assert host.release.status("tiny")["problems"] == []
    before = list(host.systemd.log)
    for step in host.STEPS:
        assert host.state(step)["changes"] == {}
    assert all(line.startswith("show") for line in host.systemd.log[len(before) :])


def test_a_plan_from_nothing_is_what_the_apply_then_does(host: Host) -> None:
    planned = {step: host.state(step, test=True) for step in host.STEPS}
    assert all(one["result"] is None for one in planned.values())
    assert not (host.home / "builds").exists() and not host.release.list_("tiny") and host.systemd.servers == {}
    done = {step: host.state(step) for step in host.STEPS}
    assert {step: one["changes"] for step, one in done.items()} == {s: one["changes"] for s, one in planned.items()}


@pytest.mark.parametrize("behaviour", ["does not start", "500", "wrong version"])
def test_a_bad_release_gets_no_traffic(host: Host, behaviour: str) -> None:
    old = host.apply()
    host.edit("bad")
    host.behaviour = behaviour
    for step in host.STEPS[:-1]:
        assert host.state(step)["result"] is True
    result = host.state("release.active")
    assert result["result"] is False and result["changes"] == {}
    assert f"{old} serves on" in result["comment"] and "Traceback" in result["comment"]
    assert SECRET not in result["comment"]
    assert host.release.active("tiny") == old and list(host.systemd.servers) == [old]
    assert f"stop app-tiny@{old}.service" not in host.systemd.log
    assert host.ledger()[-1]["result"] == "refused"
    host.behaviour = "good"  # the database is back, say: nothing else is needed
    new = host.apply()
    assert new != old and list(host.systemd.servers) == [new] and host.ledger()[-1]["result"] == "activated"


def test_the_new_release_is_enabled_before_the_switch_and_the_old_stopped_after_it(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = host.apply()
    host.edit("2")
    point = host.files.point

    def logged(link: Path, target: Path) -> None:
        host.systemd.log.append({"current.sock": "switch", "current": "build"}.get(link.name, link.name))
        point(link, target)

    host.swap("appfiles", point=logged)
    host.systemd.log.clear()
    new = host.apply()
    log = [line for line in host.systemd.log if not line.startswith("show")]
    assert log == [
        "build", f"start app-tiny@{new}.service", f"enable app-tiny@{new}.service", "switch",
        f"disable app-tiny@{old}.service", f"stop app-tiny@{old}.service", "daemon-reload",
    ]  # fmt: skip


def test_an_open_connection_keeps_the_old_release_alive(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    import socket

    old = host.apply()
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(host.sockets / f"tiny/{old}.sock"))
        started = time.monotonic()
        threading.Timer(0.5, client.close).start()
        host.edit("2")
        monkeypatch.setattr(gate, "DRAIN_SECONDS", 10)
        for step in host.STEPS[:-1]:
            host.state(step)
        host.state("release.active")
        assert time.monotonic() - started > 0.5 and old not in host.systemd.servers


def test_a_changed_secret_is_another_release_of_the_same_build(host: Host) -> None:
    old = host.apply()
    host.pillar["wiring"]["apps"]["tiny"]["environment"]["SECRET_KEY"] = 'new "one" $x'
    built = host.build.current("tiny")
    assert host.state("build.present")["changes"] == {}
    new = host.apply()
    assert new != old and new.partition("-")[0] == old.partition("-")[0] == built
    env = host.directory(new) / "env"
    assert env.stat().st_mode & 0o777 == 0o600
    assert envfile.values(env.read_text())["SECRET_KEY"] == 'new "one" $x'


@pytest.mark.parametrize(
    "key, value", [("workers", 3), ("memory_max_mb", 128), ("wsgi", "other:app"), ("env", {"A": "b"})]
)
def test_a_changed_setting_is_another_release(host: Host, key: str, value: Any) -> None:
    before = host.release.desired("tiny")
    host.pillar["apps"]["tiny"][key] = value
    after = host.release.desired("tiny")
    assert after["id"] != before["id"] and after["build"] == before["build"]


def test_a_flipped_byte_is_refused_before_anything_is_touched(host: Host) -> None:
    old = host.apply()
    host.edit("2")
    host.state("build.present")
    build = host.build.current("tiny")
    _flip(next((host.path(build) / "wheels").iterdir()))
    result = host.state("release.staged")
    assert result["result"] is False and "gunicorn-27.0.1-py3-none-any.whl has been changed" in result["comment"]
    assert [path.name for path in (host.apps / "tiny/releases").iterdir()] == [old]


@pytest.mark.parametrize("step", ["first-start-of-django", "collectstatic", "migrate"])
def test_a_step_that_failed_is_done_by_the_next_apply(host: Host, step: str) -> None:
    host.behaviour = f"{step} fails"
    results = [
        host.state(one)["result"]
        for one in host.STEPS[: 4 if step == "migrate" else 3 if step == "collectstatic" else 2]
    ]
    assert results[-1] is False
    host.behaviour = "good"
    host.apply()
    assert host.release.status("tiny")["problems"] == []


def test_packages_are_unpacked_once_and_scripts_name_their_own_release(host: Host, tmp_path: Path) -> None:
    fresh: list[bool] = []

    def execute(argv: list[str], **options: Any) -> str:
        if argv[0] == "/bin/sh":
            fresh.append(argv[-1] != "")  # uv is given
        return host.execute(argv, **options)

    host.installer = execute
    old = host.directory(host.apply())
    script = "venv/bin/activate"  # every environment has it
    assert str(old) in (old / script).read_text()
    host.edit("2")
    new = host.directory(host.apply())
    assert fresh == [True, False]
    assert str(new) in (new / script).read_text() and str(old) not in (new / script).read_text()
    assert str(old) in (old / script).read_text() and str(new) not in (old / script).read_text()
    shared = next(path.relative_to(old) for path in old.glob("venv/lib/*/site-packages/gunicorn.py"))
    assert (new / shared).samefile(old / shared), "what no release changes takes no space twice"
    lock = host.source / "requirements.txt"
    lock.write_text(lock.read_text() + wheel(host.index, "more", "1"))
    newest = host.directory(host.apply())
    assert list(newest.glob("venv/lib/*/site-packages/more.py")) and fresh == [True, False, True]


def test_an_extra_file_goes_through_no_link_of_the_source(host: Host) -> None:
    (host.source / "conf").symlink_to("tiny")
    (host.source / "tiny").mkdir()
    (host.source / "tiny/x").write_text("x")
    host.pillar["wiring"]["apps"]["tiny"]["files"] = {"conf/local.ini": SECRET}
    with pytest.raises(AssertionError, match=r"apps/tiny.yaml: files: .*'conf' on its way is a link"):
        host.apply()


def test_a_killed_installation_is_thrown_away_and_done_again(host: Host) -> None:
    half = host.directory(host.release.desired("tiny")["id"])
    other = host.directory("aaaaaaaaaaaa-00000000")
    for path in (half, other):
        (path / "venv").mkdir(parents=True)
        (path / "venv/broken").write_text("x")
    assert not host.release.is_staged("tiny", half.name)
    host.apply()
    assert not (half / "venv/broken").exists() and not other.exists()


def test_what_a_killed_switch_left_is_put_right(host: Host) -> None:
    old = host.apply()
    host.edit("2")
    new = host.apply()
    # Killed after the switch: the old one still runs and both start at boot; then somebody disabled the new one.
    host.systemd.start(f"app-tiny@{old}.service")
    host.systemd.enable(f"app-tiny@{old}.service")
    host.systemd.disable(f"app-tiny@{new}.service")
    planned = host.state("release.active", test=True)
    assert planned["result"] is None and f"{new} is not started at boot" in planned["changes"]["old"]
    done = host.state("release.active")
    assert done["changes"] == planned["changes"] and list(host.systemd.servers) == [new]
    assert host.release.status("tiny")["problems"] == [] and host.ledger()[-1]["result"] == "repaired"


def test_a_release_that_was_stopped_by_hand_is_started(host: Host) -> None:
    release = host.apply()
    host.systemd.stop(f"app-tiny@{release}.service")
    assert host.state("release.active")["changes"]["old"] == f"{release} is not running (inactive)"
    assert list(host.systemd.servers) == [release]


def test_old_releases_go_but_not_those_that_served_last(host: Host) -> None:
    served = []
    for number in range(4):
        host.edit(str(number))
        served.append(host.apply())
    host.edit("bad")
    host.behaviour = "500"
    for step in host.STEPS:
        host.state(step)
    refused = host.release.desired("tiny")["id"]
    host.behaviour = "good"
    host.edit("4")
    served.append(host.apply())
    assert {path.name for path in (host.apps / "tiny/releases").iterdir()} == set(served[-3:])
    assert refused not in {one["id"] for one in host.release.list_("tiny")}
    assert [one["active"] for one in host.release.list_("tiny")].count(True) == 1


def test_static_files_of_old_and_new_are_served_together(host: Host) -> None:
    host.static = {"site.1.css": "old", "site.css": "old"}
    host.apply()
    host.edit("2")
    host.static = {"site.2.css": "new", "site.css": "new", "sub/x.js": "x"}
    new = host.apply()
    served = host.apps / "tiny/static"
    assert {str(path.relative_to(served)): path.read_text() for path in served.rglob("*") if path.is_file()} == {
        "site.1.css": "old", "site.2.css": "new", "site.css": "new", "sub/x.js": "x",
    }  # fmt: skip
    assert not (served / "evil").is_symlink()  # a link of the app's leads nowhere
    (served / "site.css").unlink()
    (served / "sub/x.js").unlink()
    (served / "sub/x.js").write_text("tampered")
    planned = host.state("django.static_collected", test=True)
    assert planned["changes"] == {"old": "2 files missing", "new": new}
    assert host.state("django.static_collected")["changes"] == planned["changes"]
    assert (served / "sub/x.js").read_text() == "x"


def test_an_app_without_static_files_is_fine(host: Host) -> None:
    host.static = {}
    host.apply()
    assert host.state("django.static_collected")["changes"] == {}


def test_a_database_that_lost_a_migration_gets_it_again(host: Host) -> None:
    release = host.apply()
    host.applied.clear()
    result = host.state("django.migrated")
    assert result["changes"] == {"old": "1 migration pending", "new": release} and "a.0001" in result["comment"]
    assert host.applied == {("a", "0001")}


def test_a_killed_migrate_is_run_again_even_when_no_migration_is_pending(host: Host) -> None:
    for step in host.STEPS[:3]:
        host.state(step)
    release = host.release.desired("tiny")["id"]
    host.applied = {("a", "0001")}
    (host.directory(release) / "migrating").touch()  # Django makes permissions after the last migration
    ran: list[str] = []

    def one_off(app: str, release: str, name: str, *rest: Any, **more: Any) -> str:
        ran.append(name)
        return host.one_off(app, release, name, *rest, **more)

    host.played["release.one_off"] = one_off
    host.state("django.migrated")
    assert ran == ["migrate"] and not (host.directory(release) / "migrating").exists()
    host.edit("2")
    host.apply()
    assert "migrate" not in ran[1:]  # nothing pending, nothing killed: Django is not started


def test_an_app_that_left_the_site_is_stopped_and_its_data_stays(host: Host) -> None:
    release = host.apply()
    host.swap("appfiles", run=lambda *_, **__: "")
    host.release.write_unit_files("tiny")
    (host.units / "app-foreign@.service").write_text("[Service]\n")  # not ours
    assert host.release.orphans(["tiny"]) == []
    assert host.release.orphans([]) == ["tiny"]
    host.release.remove("tiny")
    assert host.systemd.servers == {} and host.instances.enabled("tiny") == []
    assert not (host.units / "app-tiny@.service").exists() and host.release.orphans([]) == []
    assert (host.units / "app-foreign@.service").exists()
    assert host.directory(release).is_dir() and host.release.active("tiny") is None


def test_where_hosts_switch_together_none_goes_back_alone(host: Host) -> None:
    first = host.apply()
    host.edit("2")
    second = host.apply()
    host.pillar["wiring"]["together"] = True
    for go_back in (host.release.rollback, lambda app: host.release.pin(app, first)):
        with pytest.raises(CommandExecutionError, match=r"salt-run state\.orchestrate orch\.rollback"):
            go_back("tiny")
    assert host.release.active("tiny") == second and host.release.pinned("tiny") is None


def test_a_rollback_selects_pins_and_builds_nothing(host: Host) -> None:
    first = host.apply()
    host.edit("2")
    host.static = {"site.css": "2"}
    second = host.apply()
    builds = {path.name for path in (host.home / "builds/tiny").iterdir()}
    host.systemd.log.clear()
    said = host.release.rollback("tiny")
    assert first in said and second in said and "release.unpin tiny" in said
    assert host.release.active("tiny") == first and list(host.systemd.servers) == [first]
    assert (host.apps / "tiny/static/site.css").read_text() == "1"
    assert {path.name for path in (host.home / "builds/tiny").iterdir()} == builds
    assert host.ledger()[-1] | {"id": first, "result": "rolled back"} == host.ledger()[-1]
    for step in host.STEPS:  # the next apply keeps it, and says why
        result = host.state(step)
        assert result["changes"] == {} and result["result"] is True
    assert "pinned by" in result["comment"] and "release.unpin" in result["comment"]
    host.edit("3")
    host.state("build.present")
    assert host.state("release.staged")["changes"] == {} and host.release.desired("tiny")["id"] == first
    third = host.release.asked_for("tiny")["id"]
    assert f"replaces {first} by {third}" in host.release.unpin("tiny")
    assert host.apply() == third and host.release.pinned("tiny") is None


def test_a_second_rollback_goes_further_back(host: Host) -> None:
    served = []
    for number in range(3):
        host.edit(str(number))
        served.append(host.apply())
    host.release.rollback("tiny")
    assert host.release.active("tiny") == served[1]
    host.release.rollback("tiny")
    assert host.release.active("tiny") == served[0]
    with pytest.raises(CommandExecutionError, match="no release of tiny that served before"):
        host.release.rollback("tiny")
    host.release.rollback("tiny", served[2])
    assert host.release.active("tiny") == served[2]


@pytest.mark.parametrize("behaviour", ["does not start", "500", "wrong version"])
def test_a_rollback_passes_the_same_gate_and_pins_nothing_when_it_fails(host: Host, behaviour: str) -> None:
    first = host.apply()
    host.edit("2")
    second = host.apply()
    host.behaviour = behaviour
    with pytest.raises(CommandExecutionError, match=f"{second} serves on"):
        host.release.rollback("tiny")
    assert host.release.active("tiny") == second and list(host.systemd.servers) == [second]
    assert host.release.pinned("tiny") is None
    assert host.ledger()[-1] | {"id": first, "result": "refused"} == host.ledger()[-1]


def test_a_rollback_is_refused_for_a_migration_and_names_it(host: Host) -> None:
    first = host.apply()
    host.edit("2")
    host.migrations = [["a", "0001", []], ["a", "0002", []], ["a", "0003", []]]
    host.additive = [["a", "0002"]]
    second = host.apply()
    with pytest.raises(CommandExecutionError) as refused:
        host.release.rollback("tiny")
    assert "a.0003" in str(refused.value) and "a.0002" not in str(refused.value)
    assert "apps/tiny.yaml" in str(refused.value) and host.release.active("tiny") == second
    with pytest.raises(CommandExecutionError, match=r"a\.0003"):
        host.release.pin("tiny", first)
    host.pillar["apps"]["tiny"]["migrations"]["reversible"] = ["a.0003"]
    host.release.rollback("tiny")
    assert host.release.active("tiny") == first


def test_a_rollback_names_what_is_wrong_with_its_target(host: Host) -> None:
    first = host.apply()
    with pytest.raises(CommandExecutionError, match="is not installed"):
        host.release.rollback("tiny", "aaaaaaaaaaaa-00000000")
    with pytest.raises(CommandExecutionError, match="is active already"):
        host.release.rollback("tiny", first)
    host.edit("2")
    host.state("build.present")
    host.state("release.staged")
    with pytest.raises(CommandExecutionError, match="never got as far as to serve"):
        host.release.rollback("tiny", host.release.desired("tiny")["id"])


def test_a_pin_holds_and_is_never_pruned(host: Host) -> None:
    first = host.apply()
    assert "pinned by" in host.release.pin("tiny", why="audit")
    host.edit("2")
    assert host.apply() == first and "audit" in host.state("release.active")["comment"]
    host.release.unpin("tiny")
    assert "No release" in host.release.unpin("tiny")
    served = [host.apply()]
    host.release.pin("tiny", first)
    (host.apps / "tiny/pin.json").rename(host.home / "pin.json")
    for number in range(3, 5):
        host.edit(str(number))
        if number == 4:
            (host.home / "pin.json").rename(host.apps / "tiny/pin.json")
            host.release.prune("tiny", 1)
            break
        served.append(host.apply())
    assert {one["id"] for one in host.release.list_("tiny")} == {first, served[-1]}
    assert [line["result"] for line in host.release.log("tiny") if line["id"] == first] == [
        "activated", "pinned", "unpinned", "pinned",
    ]  # fmt: skip


def test_a_deploy_that_meets_another_is_told_of_it(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    host.apply()
    host.edit("2")
    host.state("build.present")
    monkeypatch.setattr(applock, "WAIT_SECONDS", 0.2)
    with applock.hold(host.apps / "tiny/.lock", "a rollback", 60):
        result = host.state("release.staged")
        assert result["result"] is False and "a rollback by" in result["comment"] and "since 20" in result["comment"]
        assert "a rollback by" in host.release.status("tiny")["busy"]
    assert host.state("release.staged")["result"] is True and host.release.status("tiny")["busy"] is None


def test_workers_that_die_one_after_the_other_are_a_crash_loop(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    old = host.apply()
    host.edit("2")
    host.behaviour = "hangs"
    host.pillar["apps"]["tiny"]["health_seconds"] = 300
    pids = iter(range(1000))
    monkeypatch.setattr(host.gate, "_children", lambda main: {str(next(pids))})
    started = time.monotonic()
    results = [host.state(step) for step in host.STEPS]
    assert time.monotonic() - started < 100, "it waited as for one that is slow"
    assert "crash loop" in results[-1]["comment"]
    assert host.release.active("tiny") == old and "crash loop" in host.ledger()[-1]["why"]


DROP = 'ALTER TABLE "a_thing" DROP COLUMN "name" CASCADE;'


def new_migration(host: Host, sql: str) -> None:
    host.apply()
    host.edit("2")
    host.migrations = [*host.migrations, ["a", "0002", []]]
    host.sql = {"a.0002": f"BEGIN;\n{sql}\nCOMMIT;"}
    for step in host.STEPS[:3]:
        host.state(step)


def test_an_unsafe_migration_is_refused_and_not_run(host: Host) -> None:
    new_migration(host, DROP)
    old = host.release.active("tiny")
    result = host.state("django.migrated")
    assert result["result"] is False and result["changes"] == {}
    for part in ("a.0002", "ban-drop-column", DROP, f"{old} serves on", "allow_unsafe: [a.0002]"):
        assert part in result["comment"]
    assert ("a", "0002") not in host.applied
    assert host.release.active("tiny") == old


def test_an_unsafe_migration_that_the_site_allows_is_run_without_a_new_release(host: Host) -> None:
    new_migration(host, DROP)
    wanted = host.release.desired("tiny")["id"]
    assert host.state("django.migrated")["result"] is False
    host.pillar["apps"]["tiny"]["migrations"]["allow_unsafe"] = ["a.0002"]
    assert host.apply() == wanted
    assert ("a", "0002") in host.applied


def test_a_column_that_the_serving_release_does_not_use_may_go(host: Host) -> None:
    host.columns = {"a_thing": ["id"]}
    new_migration(host, DROP)
    assert host.state("django.migrated")["result"] is True


def test_nothing_is_refused_on_an_empty_database(host: Host) -> None:
    host.apply()
    host.applied.clear()
    host.edit("2")
    host.migrations = [["a", "0001", []], ["a", "0002", []]]
    assert host.apply() and ("a", "0002") in host.applied


@pytest.mark.parametrize("behaviour", ["good", "migrate fails"])
def test_the_owners_password_is_on_disk_only_while_it_is_needed(host: Host, behaviour: str) -> None:
    host.behaviour = behaviour
    for step in host.STEPS[:4]:
        host.state(step)
    assert list((host.home / "run").iterdir()) == []
    assert not [path for path in host.apps.rglob("*") if path.is_file() and b"postgres://owner" in path.read_bytes()]


def test_extra_files_are_the_app_s_alone_and_another_text_is_another_release(host: Host) -> None:
    host.pillar["wiring"]["apps"]["tiny"]["files"] = {"conf/local.py": f"KEY = '{SECRET}'\n"}
    first = host.apply()
    file = host.directory(first) / "src/conf/local.py"
    assert file.read_text() == f"KEY = '{SECRET}'\n" and file.stat().st_mode & 0o777 == 0o640
    assert host.groups == ["app-tiny"]
    host.pillar["wiring"]["apps"]["tiny"]["files"] = {"conf/local.py": "KEY = 'other'\n"}
    second = host.apply()
    assert second != first and second.partition("-")[0] == first.partition("-")[0]


def test_an_app_without_health_and_version_pages_passes_the_gate(host: Host) -> None:
    settings = host.pillar["apps"]["tiny"]
    settings |= {"version_path": None, "health_path": "/", "health_status": 302}
    for step in host.STEPS[:-1]:
        assert host.state(step)["result"] is True
    assert "/ answered 200 and not 302" in host.state("release.active")["comment"]
    settings["health_status"] = 200
    host.behaviour = "wrong version"
    assert host.apply()


def test_an_activation_that_was_killed_before_its_line_gets_it_from_the_next_apply(host: Host) -> None:
    host.apply()
    host.edit("2")
    new = host.apply()
    ledger = host.apps / "tiny/ledger.jsonl"
    ledger.write_text("".join(ledger.read_text().splitlines(keepends=True)[:-1]))
    assert host.state("release.active")["changes"]["old"] == f"{new} is not in the ledger"
    assert host.ledger()[-1] | {"id": new, "result": "activated"} == host.ledger()[-1]
    assert host.state("release.active")["changes"] == {}
