"""Background processes in a directory of their own; systemd is played: what is started, kept and stopped."""

from __future__ import annotations

import contextlib
import sys
from fnmatch import fnmatchcase
from pathlib import Path
from types import SimpleNamespace

import pytest
from salt.exceptions import CommandExecutionError

from saltern.background import unittexts, work
from saltern.host import places
from saltern.migrate import migrations
from saltern.release import deciding, installed, oneoff, overview, written
from tests.unit.contracts import Played, load, play

WHERE = {
    "release.desired": deciding,
    "release.sandbox": oneoff,
    "release.manifest": installed,
    "release.redact": oneoff,
    "release.one_off": oneoff,
    "release.log": written,
    "release.record": written,
    "release.overview": overview,
    "fleet.choose": deciding,
    "django.pending": migrations,
}
CELERY = {"queues": ["celery", "mail"], "concurrency": 3, "app": None}
NOTHING = dict.fromkeys(["celery", "beat", "manage", "command", "stop_seconds", "memory_max_mb"]) | {"single": False}
WORKER, BEAT = {**NOTHING, "celery": CELERY}, {**NOTHING, "beat": {"app": None}}
TIMER = {"schedule": "daily", "manage": ["clearsessions"], "command": None, "max_seconds": 60, "memory_max_mb": None}


class Host:
    """One host: units on disk and in systemd's memory, and the log of what systemd was told."""

    def __init__(self, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.units, self.proc, self.log = home / "units", home / "proc", []  # type: ignore[var-annotated]
        for path in (self.units / "multi-user.target.wants", self.units / "timers.target.wants", self.proc):
            path.mkdir(parents=True)
        self.active: dict[str, int] = {}
        self.pids, self.broken, self.pending, self.release = iter(range(100, 999)), "", [], "r1"  # type: ignore[var-annotated]
        self.tasks: list[int] = []
        app = {"settings_module": "demo.settings", "memory_max_mb": 512, "user": "app-demo"}
        app |= {"processes": {"worker": WORKER, "beat": BEAT}, "timers": {"clean": TIMER}}
        self.app = app
        self.pillar = {
            "apps": {"demo": app},
            "host": {"roles": ["base", "web", "worker"]},
            "worker": {"start_seconds": 0, "stop_seconds": 60},
            "wiring": {"worker": {"single": True}},
        }
        self.module = load("_modules", "processes")
        self.monkeypatch = monkeypatch
        monkeypatch.setattr(places, "UNITS", self.units)
        monkeypatch.setattr(places, "PROC", self.proc)
        self.module.__context__ = {}
        self.module.__pillar__ = self.pillar
        self.salt = Played(monkeypatch, WHERE)
        for name, function in {
            "release.desired": lambda app: {"id": self.release},
            "release.sandbox": lambda app: ["NoNewPrivileges=yes"],
            "release.manifest": lambda app, release: {},
            "release.redact": lambda text: text.replace("hunter2", "********"),
            "django.pending": lambda app, release: self.pending,
            "release.one_off": self.waiting,
        }.items():
            self.salt[name] = function
        write = lambda path, text, mode: Path(path).write_text(text)  # noqa: E731
        play(monkeypatch, [work], "appfiles", locked=lambda path: contextlib.nullcontext(), write=write, run=self.run)

    def run(self, argv: list[str], timeout: int = 0) -> str:
        words = [word for word in argv[1:] if not word.startswith("--")]
        if argv[0] == "journalctl":
            return "no module; password hunter2"
        if argv[0] == "systemd-analyze":
            if words[1] == "*-02-31":
                raise CommandExecutionError("systemd-analyze ...: exit code 1\nFailed to parse")
            return ""
        if words[0] == "show":
            return self.show(words[1:])
        self.log.append(" ".join(words))
        for unit in words[1:]:
            self.do(words[0], unit, "--now" in argv)
        return ""

    def do(self, verb: str, unit: str, now: bool) -> None:
        wants = self.units / ("timers.target.wants" if unit.endswith(".timer") else "multi-user.target.wants") / unit
        if verb in ("stop", "restart"):
            self.active.pop(unit, None)
        starts = verb in ("start", "restart") or now
        if starts and not (self.broken and self.broken in unit):
            self.active.setdefault(unit, next(self.pids))
            template = self.units / (unit.partition("@")[0] + "@.service")
            mark = unittexts.mark_of(template.read_text()) if "@" in unit else ""
            (self.proc / str(self.active[unit])).mkdir(exist_ok=True)
            (self.proc / str(self.active[unit]) / "environ").write_text(f"A=b\0SALTERN_UNIT={mark}\0")
            starts = (
                next((line for line in template.read_text().splitlines() if "ExecStart=" in line), "") if mark else ""
            )
            (self.proc / str(self.active[unit]) / "cmdline").write_text("\0".join(starts.split()[0:]))
        if verb == "enable":
            wants.unlink(missing_ok=True)
            wants.symlink_to("x")
        if verb == "disable":
            wants.unlink(missing_ok=True)

    def show(self, patterns: list[str]) -> str:
        found = {unit for unit in self.active for pattern in patterns if fnmatchcase(unit, pattern)}
        found |= {pattern for pattern in patterns if "*" not in pattern}
        state = {unit: "active" if unit in self.active else "inactive" for unit in found}
        return "\n\n".join(
            f"Id={unit}\nActiveState={now}\nMainPID={self.active.get(unit, 0)}\nNeedDaemonReload=no"
            for unit, now in sorted(state.items())
        )

    def waiting(self, app: str, release: str, name: str, arguments: list[str]) -> str:
        """How many tasks wait: those of the test's list, one by one."""
        self.log.append(f"ask how many wait in {arguments[-1]}")
        return f"noise of the app\nSALTERN {self.tasks.pop(0) if self.tasks else 0}\n"

    def converge(self) -> None:
        self.log.clear()
        self.module.converge("demo")

    def problems(self) -> dict[str, list[str]]:
        return self.module.status("demo")["problems"]


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    return Host(tmp_path, monkeypatch)


def test_from_nothing_to_all_of_it_and_then_nothing_to_do(host: Host) -> None:
    assert host.problems() == {name: ["it has no unit"] for name in ("beat", "clean", "worker")}
    host.converge()
    assert set(host.active) == {"app-demo-beat@r1.service", "app-demo-worker@r1.service", "app-demo-clean.timer"}
    assert host.problems() == {}
    assert sorted(path.name for path in host.units.glob("*.wants/*")) == sorted(host.active)


def test_a_new_release_overlaps_with_the_old_but_for_what_is_single(host: Host) -> None:
    host.converge()
    host.release = "r2"
    assert "release r2 is inactive" in host.problems()["worker"] and "release r1 is active" in host.problems()["worker"]
    host.converge()
    order = host.log
    assert order.index("stop app-demo-beat@r1.service") < order.index("restart app-demo-beat@r2.service")
    assert order.index("restart app-demo-worker@r2.service") < order.index("stop app-demo-worker@r1.service")
    assert set(host.active) == {"app-demo-beat@r2.service", "app-demo-worker@r2.service", "app-demo-clean.timer"}
    assert "Unit=app-demo-clean@r2.service" in (host.units / "app-demo-clean.timer").read_text()
    assert host.problems() == {}


def test_in_a_fleet_the_old_ones_work_on_until_all_hosts_have_switched(host: Host) -> None:
    host.converge()
    host.release = "r2"
    host.module.converge("demo", keep_old=True)
    working = ["app-demo-beat@r2.service", "app-demo-worker@r1.service", "app-demo-worker@r2.service"]
    assert sorted(unit for unit in host.active if "@" in unit) == working
    assert work._found("demo")["enabled"] == [
        "app-demo-beat@r2.service", "app-demo-clean.timer", "app-demo-worker@r2.service",
    ], "after a power cut only the new ones start"  # fmt: skip
    host.converge()
    assert "app-demo-worker@r1.service" not in host.active
    assert host.module.status("demo")["problems"] == {}


def test_a_changed_setting_restarts_what_it_concerns_and_nothing_else(host: Host) -> None:
    host.converge()
    host.app["processes"] = {"worker": {**WORKER, "celery": {**CELERY, "concurrency": 5}}, "beat": BEAT}
    assert host.problems() == {"worker": ["its unit is an older one"]}
    host.converge()
    assert [line for line in host.log if "restart" in line] == ["restart app-demo-worker@r1.service"]


def test_a_run_that_died_after_it_wrote_the_unit_is_finished(host: Host) -> None:
    host.converge()
    host.app["processes"] = {"worker": {**WORKER, "memory_max_mb": 99}, "beat": BEAT}
    for unit in host.module.wanted("demo"):
        for path, text in unit["files"].items():
            Path(path).write_text(text)
    assert host.problems() == {"worker": ["it runs with an older unit"]}
    host.converge()
    assert host.problems() == {}


@pytest.mark.parametrize("broken", ["worker@r2", "beat@r2"])
def test_a_release_that_does_not_stay_up_is_stopped_and_the_old_one_goes_on(host: Host, broken: str) -> None:
    host.converge()
    before = {path: path.read_text() for path in host.units.glob("app-*")}
    host.release, host.broken = "r2", broken
    with pytest.raises(CommandExecutionError) as error:
        host.converge()
    assert "no module" in str(error.value) and "hunter2" not in str(error.value)
    assert set(host.active) == {"app-demo-beat@r1.service", "app-demo-worker@r1.service", "app-demo-clean.timer"}
    assert {path: path.read_text() for path in host.units.glob("app-*")} == before
    host.broken = ""
    host.converge()
    assert host.problems() == {}


def test_nothing_starts_before_the_database_is_ready(host: Host) -> None:
    host.converge()
    host.release, host.pending = "r2", ["notes.0002"]
    with pytest.raises(CommandExecutionError, match=r"lacks notes\.0002"):
        host.converge()
    assert host.log == [] and "app-demo-worker@r1.service" in host.active


def test_a_schedule_that_systemd_refuses_stops_before_the_first_change(host: Host) -> None:
    host.app["timers"] = {"clean": {**TIMER, "schedule": "*-02-31"}}
    with pytest.raises(CommandExecutionError, match=r"timers\.clean\.schedule"):
        host.converge()
    assert host.log == [] and not list(host.units.glob("app-*"))


def test_what_is_gone_from_the_site_is_stopped_and_removed(host: Host) -> None:
    host.converge()
    host.app["processes"], host.app["timers"] = {"worker": WORKER}, {}
    assert host.problems() == {name: ["it is here, and shall not be"] for name in ("beat", "clean")}
    host.converge()
    assert set(host.active) == {"app-demo-worker@r1.service"}
    assert [path.name for path in host.units.glob("app-*")] == ["app-demo-worker@.service"]
    assert host.problems() == {}


def test_the_last_worker_of_a_queue_does_what_waits_there_first(host: Host) -> None:
    host.monkeypatch.setattr(work.time, "sleep", lambda seconds: None)
    host.converge()
    host.app["processes"], host.app["timers"], host.tasks = {}, {}, [3, 1, 0]
    host.log.clear()
    assert host.module.converge("demo") == []
    said = [line for line in host.log if line.startswith(("stop", "ask"))]
    assert [line.split(" ")[0] for line in said] == ["stop", "ask", "ask", "ask", "stop"], "beat sends none any more"
    assert "beat" in said[0] and "worker" not in said[0] and said[1].endswith("celery,mail") and "worker" in said[-1]


def test_a_worker_whose_queues_another_one_takes_from_just_goes(host: Host) -> None:
    host.app["processes"] = {"worker": WORKER, "second": {**NOTHING, "celery": CELERY}}
    host.converge()
    host.app["processes"] = {"second": {**NOTHING, "celery": CELERY}}
    host.converge()
    assert not [line for line in host.log if line.startswith("ask")]
    assert list(host.active) != []


def test_what_waits_for_longer_than_a_worker_may_take_to_stop_is_told(host: Host) -> None:
    host.pillar["worker"]["stop_seconds"] = -1
    host.converge()
    host.app["processes"], host.tasks = {}, [7]
    assert host.module.converge("demo") == ["demo: 7 tasks wait in celery,mail, and nobody takes them any more"]
    assert not [unit for unit in host.active if "worker" in unit]


@pytest.mark.parametrize("broker", ["redis", "another"])
def test_how_many_tasks_wait_is_asked_as_the_broker_lets_the_app(
    host: Host, broker: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """To declare a queue kombu asks EXISTS without the app's prefix: refused, and nobody's tasks were waited for."""

    class NotFound(Exception):
        pass

    class Channel:
        def queue_declare(self, queue: str, passive: bool) -> SimpleNamespace:
            assert broker == "another", "No permissions to access a key"
            if queue == "new":
                raise NotFound
            return SimpleNamespace(message_count=3)

    channel = Channel()
    if broker == "redis":
        channel._size = {"celery": 3, "new": 0}.__getitem__  # type: ignore[attr-defined]
    connection = contextlib.nullcontext(SimpleNamespace(default_channel=channel))
    utils = SimpleNamespace(find_app=lambda name: SimpleNamespace(connection_for_read=lambda: connection))
    for name, module in {
        "celery": SimpleNamespace(),
        "celery.app": SimpleNamespace(),
        "celery.app.utils": utils,
    }.items():
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setitem(sys.modules, "kombu", SimpleNamespace())
    monkeypatch.setitem(sys.modules, "kombu.exceptions", SimpleNamespace(ChannelError=NotFound))
    monkeypatch.setattr(sys, "argv", ["-c", "demo", "celery,new"])
    exec(work.WAITING, {})
    assert capsys.readouterr().out.endswith("SALTERN 3\n")


def rename(host: Host, single: bool = False) -> None:
    host.app["processes"]["worker"] = {**WORKER, "single": single, "celery": {**CELERY, "queues": ["celery", "post"]}}


def test_a_queue_that_a_staying_worker_leaves_is_emptied_before_it_restarts(host: Host) -> None:
    host.converge()
    rename(host)
    said = host.problems()["worker"]
    assert said == ["its unit is an older one", "nobody takes from mail any more, when what waits there is done"]
    host.tasks = [2, 0]
    host.monkeypatch.setattr(work.time, "sleep", lambda seconds: None)
    host.converge()
    asked, restarted = host.log.index("ask how many wait in mail"), host.log.index("restart app-demo-worker@r1.service")
    assert host.log.count("ask how many wait in mail") == 2 and asked < restarted
    assert host.problems() == {}


def test_a_new_release_takes_from_the_new_queue_while_the_old_one_empties_the_old(host: Host) -> None:
    host.converge()
    rename(host)
    host.release = "r2"
    host.converge()
    order = ["restart app-demo-worker@r2.service", "ask how many wait in mail", "stop app-demo-worker@r1.service"]
    assert [line for line in host.log if line in order] == order


def test_in_a_fleet_the_queue_is_emptied_when_the_old_ones_go(host: Host) -> None:
    host.converge()
    rename(host)
    host.release = "r2"
    host.log.clear()
    host.module.converge("demo", keep_old=True)
    assert not [line for line in host.log if line.startswith("ask")]
    host.converge()
    assert host.log.index("ask how many wait in mail") < host.log.index("stop app-demo-worker@r1.service")


def test_a_single_worker_empties_it_before_it_stops_and_beat_sends_nothing_more(host: Host) -> None:
    host.app["processes"]["worker"] = {**WORKER, "single": True}
    host.converge()
    rename(host, single=True)
    host.release = "r2"
    host.converge()
    order = ["stop app-demo-beat@r1.service", "ask how many wait in mail", "restart app-demo-worker@r2.service"]
    assert [line for line in host.log if line in order] == order


def test_a_queue_that_goes_with_a_worker_and_that_a_staying_one_leaves_too_is_emptied(host: Host) -> None:
    host.app["processes"]["second"] = {**WORKER, "celery": {**CELERY, "queues": ["mail"]}}
    host.converge()
    rename(host)
    del host.app["processes"]["second"]
    host.tasks = [0, 1, 0]
    host.monkeypatch.setattr(work.time, "sleep", lambda seconds: None)
    host.converge()
    assert host.log.count("ask how many wait in mail") == 3


def test_an_app_that_is_gone_leaves_nothing_and_others_alone(host: Host) -> None:
    host.converge()
    (host.units / "app-demo@.service").write_text("# Saltern's role web writes this file.")
    assert host.module.orphans(["demo"]) == [] and host.module.orphans([]) == ["demo"]
    host.module.remove("demo")
    assert host.active == {} and [path.name for path in host.units.glob("app-*")] == ["app-demo@.service"]


@pytest.fixture
def two(host: Host) -> Host:
    """One app's name begins with the other's, and with that of its process."""
    host.pillar["apps"]["demo-worker"] = host.app  # type: ignore[index]
    for app in ("demo", "demo-worker"):
        host.module.converge(app)
    (host.units / "app-demo@.service").write_text("# Saltern's role web writes this file.")
    host.log.clear()
    return host


def test_a_host_that_leaves_ends_the_work_of_all_apps_timers_first(two: Host) -> None:
    two.pillar["apps"] = {}
    assert len(two.active) == 6 and two.module.remove_all() == ["demo", "demo-worker"]
    assert two.active == {} and not list(two.units.glob("*.wants/*"))
    assert [path.name for path in two.units.glob("app-*")] == ["app-demo@.service"]
    stops = [line for line in two.log if line.startswith("stop ")]
    of_timers = [number for number, line in enumerate(stops) if ".timer" in line]
    assert of_timers == [0, len(stops) // 2], "none starts its command once more"
    two.log.clear()
    assert two.module.remove_all() == [] == two.log


@pytest.mark.parametrize("dies_at", range(12))
def test_a_host_that_died_while_it_left_ends_the_rest_the_next_time(two: Host, dies_at: int) -> None:
    def run(argv: list[str], timeout: int = 0) -> str:
        if len(two.log) == dies_at:
            raise CommandExecutionError("killed")
        return two.run(argv)

    play(two.monkeypatch, [work], "appfiles", run=run)
    with pytest.raises(CommandExecutionError, match="killed"):
        two.module.remove_all()
    play(two.monkeypatch, [work], "appfiles", run=two.run)
    two.module.remove_all()
    assert two.active == {} and not list(two.units.glob("*.wants/*"))
    assert [path.name for path in two.units.glob("app-*")] == ["app-demo@.service"]


@pytest.mark.parametrize("has_ledger", [True, False])
def test_what_worked_last_stays_however_many_were_refused_since(host: Host, tmp_path: Path, has_ledger: bool) -> None:
    """As on web hosts: where one switches alone to a release that was refused elsewhere, a rollback has a way back."""
    worked, refused = ["r1", "r2", "r3"], ["bad1", "bad2", "bad3"]
    lines = [{"id": one, "result": "activated"} for one in worked] if has_ledger else []
    lines += [{"id": one, "result": "refused"} for one in refused]
    host.pillar["host"]["roles"] = ["base", "worker"]
    host.monkeypatch.setattr(places, "APPS", tmp_path / "apps")
    installed = [*reversed(refused), *reversed(worked), "r0"]
    for one in installed:
        (tmp_path / "apps/demo/releases" / one).mkdir(parents=True)
        (tmp_path / "apps/demo/releases" / one / "manifest.json").touch()
    for name, function in {
        "release.overview": lambda app: [{"id": one} for one in installed],
        "release.log": lambda app, count: lines,
        "release.record": lambda app, release, result: lines.append({"id": release, "result": result}),
        "fleet.choose": lambda app, release: None,
    }.items():
        host.salt[name] = function
    host.release = "r3"
    host.converge()
    left = {path.name for path in (tmp_path / "apps/demo/releases").iterdir()}
    assert left == ({"r1", "r2", "r3"} if has_ledger else {"r3", *refused})
    assert lines[-1]["id"] == ("bad3" if has_ledger else "r3"), "written down once"


def test_on_another_host_nothing_single_runs(host: Host) -> None:
    host.converge()
    host.pillar["wiring"] = {"worker": {"single": False}}
    host.converge()
    assert set(host.active) == {"app-demo-worker@r1.service"}


def test_the_unit_of_a_worker(host: Host) -> None:
    text = (next(unit for unit in host.module.wanted("demo") if unit["name"] == "worker"))["files"].popitem()[1]
    assert "venv/bin/python -m celery --app=demo worker --loglevel=INFO --queues=celery,mail --concurrency=3" in text
    assert "timeout 60 tail --pid=$$MAINPID" in text and "KillSignal=SIGQUIT" in text and "TimeoutStopSec=70" in text
    assert "NoNewPrivileges=yes" in text and "EnvironmentFile=/srv/apps/demo/releases/%i/env" in text


@pytest.mark.parametrize(
    "argument, written",
    [("--all", "--all"), ("50 %", '"50 %%"'), ('a "b" \\', '"a \\"b\\" \\\\"'), ("$HOME", '"$$HOME"'), (";", '";"')],
)
def test_arguments_reach_the_program_as_they_are(argument: str, written: str) -> None:
    assert unittexts.quoted(argument) == written
