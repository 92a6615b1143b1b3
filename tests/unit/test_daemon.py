"""What the daemon module finds on a host, with a small fake of systemd and real files."""

from __future__ import annotations

import json
import os
import subprocess
import time
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tests.unit.contracts import load, swap

pure = load("_modules", "daemon")


class Systemd:
    """One unit, and the systemctl calls that were made."""

    def __init__(self, unit_root: Path) -> None:
        self.unit_root = unit_root
        self.properties = dict.fromkeys(pure.PROPERTIES, "")
        self.properties |= {"Id": "web.service", "Names": "web.service", "LoadState": "loaded", "CanReload": "yes"}
        self.properties |= {"ActiveState": "inactive", "SubState": "dead", "UnitFileState": "enabled"}
        self.calls: list[str] = []
        self.broken = ""
        self.starts = 0

    def start(self) -> None:
        """Start the process, as systemctl does or as systemd does after a crash."""
        self.starts += 1
        now = datetime.fromtimestamp(time.time(), UTC).strftime("%Y-%m-%d %H:%M:%S.%f")
        self.properties["ActiveState"], self.properties["SubState"] = "active", "running"
        self.properties |= {"InvocationID": f"invocation {self.starts}", "InactiveExitTimestamp": f"Fri {now} UTC"}

    def run(self, argv: list[str], timeout: float = 60) -> subprocess.CompletedProcess[str]:
        if argv[0] == "journalctl":
            return subprocess.CompletedProcess(argv, 0, "the last line\n", "")
        verb = argv[1]
        if verb == "show":
            text = "".join(f"{key}={value}\n" for key, value in self.properties.items())
            return subprocess.CompletedProcess(argv, 0, text, "")
        self.calls.append(verb)
        if verb == "daemon-reload":
            drop_ins = (self.unit_root / "web.service.d").glob("*.conf")
            self.properties["DropInPaths"] = " ".join(str(path) for path in drop_ins)
        if verb in ("start", "restart"):
            if self.broken:
                self.properties["ActiveState"] = "failed"
                return subprocess.CompletedProcess(argv, 1, "", self.broken)
            self.start()
        return subprocess.CompletedProcess(argv, 0, "", "")


class Host:
    def __init__(self, folder: Path, daemon: ModuleType) -> None:
        self.daemon = daemon
        self.units = folder / "units"
        self.units.mkdir()
        (self.units / "web.service").write_text("[Service]\n")
        self.conf = folder / "web.conf"
        self.conf.write_text("a = 1\n")
        self.systemd = Systemd(self.units)
        self.inputs = [str(self.conf)]
        time.sleep(0.05)  # so that these files are older than the process
        overrides: dict[str, Any] = {"UNIT_ROOTS": (str(self.units),), "STAMPS": folder / "stamps", "SETTLE_SECONDS": 0}
        for name, value in {**overrides, "_run": self.systemd.run}.items():
            setattr(daemon, name, value)

    def act(self, action: str) -> str:
        return self.daemon.act("web", action, self.inputs)

    def inspect(self) -> dict[str, Any]:
        return self.daemon.inspect("web", self.inputs)


@pytest.fixture
def host(tmp_path: Path) -> Host:
    daemon = load("_modules", "daemon")
    daemon.IN_FORCE_SECONDS = 0  # type: ignore[attr-defined]
    return Host(tmp_path, daemon)


def test_a_started_daemon_is_fresh_and_recorded(host: Host) -> None:
    assert host.act("start") == ""
    found = host.inspect()
    assert found["active"] and found["recorded"] and not found["stale"]


def test_one_systemctl_call_when_nothing_is_to_do(host: Host) -> None:
    host.act("start")
    calls = []
    run = host.systemd.run
    host.daemon._run = lambda argv, timeout=60: calls.append(argv) or run(argv)  # type: ignore[attr-defined,func-returns-value]
    host.inspect()
    assert len(calls) == 1


def test_config_written_by_an_apply_that_died_is_stale_until_a_restart(host: Host) -> None:
    host.act("start")
    host.conf.write_text("a = 2\n")
    assert host.inspect()["stale"] == host.inputs
    assert host.inspect()["stale"] == host.inputs, "looking must not make it fresh"
    assert host.act("restart") == ""
    assert host.inspect()["stale"] == []


def test_same_content_written_again_is_fresh(host: Host) -> None:
    host.act("start")
    host.conf.write_text("a = 1\n")
    assert host.inspect()["stale"] == []


def test_process_that_systemd_restarted_is_fresh_when_its_files_are_older(host: Host) -> None:
    host.act("start")
    time.sleep(0.05)
    host.systemd.start()
    found = host.inspect()
    assert found["stale"] == [] and not found["recorded"]
    host.daemon.adopt("web", host.inputs)
    assert host.inspect()["recorded"]


def test_process_that_systemd_restarted_is_stale_when_a_file_changed_after_that(host: Host) -> None:
    host.act("start")
    host.systemd.start()
    time.sleep(0.05)
    host.conf.write_text("a = 2\n")
    # An old modification time, as tar and cp -p set it, hides nothing.
    os.utime(host.conf, (0, 0))
    assert host.inspect()["stale"] == host.inputs


def test_config_changed_before_a_crash_was_read_by_the_new_process(host: Host) -> None:
    host.act("start")
    host.conf.write_text("a = 2\n")
    time.sleep(0.05)
    host.systemd.start()
    assert host.inspect()["stale"] == []


def test_drop_in_in_a_new_directory_is_stale_though_systemd_says_no_reload_is_needed(host: Host) -> None:
    host.act("start")
    directory = host.units / "web.service.d"
    directory.mkdir()
    (directory / "x.conf").write_text("[Service]\nRestart=always\n")
    time.sleep(0.05)
    host.systemd.start()  # a crash: the new process still has the old definition
    found = host.inspect()
    assert found["need_daemon_reload"] and found["stale_unit_files"] == [str(directory)]
    host.systemd.calls.clear()
    assert host.act("restart") == ""
    assert host.systemd.calls == ["daemon-reload", "restart"]
    found = host.inspect()
    assert not found["need_daemon_reload"] and not found["stale"]


def test_removed_drop_in_directory_is_stale(host: Host) -> None:
    directory = host.units / "web.service.d"
    directory.mkdir()
    (directory / "x.conf").write_text("[Service]\n")
    host.act("start")
    (directory / "x.conf").unlink()
    directory.rmdir()
    assert host.inspect()["stale_unit_files"] == [str(directory)]


def test_masked_drop_in_is_not_waited_for(host: Host) -> None:
    directory = host.units / "web.service.d"
    directory.mkdir()
    (directory / "x.conf").symlink_to("/dev/null")
    assert not host.inspect()["need_daemon_reload"]


def test_failed_restart_leaves_no_stamp_and_says_why(host: Host) -> None:
    host.act("start")
    host.conf.write_text("a = wrong\n")
    host.systemd.broken = "Job for web.service failed."
    problem = host.act("restart")
    assert "Job for web.service failed." in problem and "the last line" in problem
    assert "journalctl --unit web.service --lines 200" in problem
    host.systemd.broken = ""
    host.systemd.start()
    assert not host.inspect()["recorded"]


def test_daemon_that_dies_at_once_is_no_success(host: Host) -> None:
    def start_and_die() -> None:
        host.systemd.properties |= {"ActiveState": "failed", "SubState": "failed", "Result": "exit-code"}

    host.systemd.start = start_and_die  # type: ignore[method-assign]
    assert "not up and stable" in host.act("start")
    assert not (host.daemon.STAMPS / "web.service.json").exists()


def test_failed_unit_is_reset_before_a_start(host: Host) -> None:
    host.systemd.properties["ActiveState"] = "failed"
    assert host.act("start") == ""
    assert host.systemd.calls == ["daemon-reload", "reset-failed", "start"]


def test_reload_does_not_touch_the_definition(host: Host) -> None:
    host.act("start")
    host.systemd.calls.clear()
    host.conf.write_text("a = 2\n")
    assert host.act("reload") == ""
    assert host.systemd.calls == ["reload"]
    assert host.inspect()["stale"] == []


def test_damaged_stamp_counts_as_none(host: Host) -> None:
    host.act("start")
    (host.daemon.STAMPS / "web.service.json").write_text('{"invocation": ')
    assert not host.inspect()["recorded"]


def test_stamps_are_for_root_only(host: Host) -> None:
    host.act("start")
    stamp = host.daemon.STAMPS / "web.service.json"
    assert stamp.stat().st_mode & 0o777 == 0o600
    assert host.daemon.STAMPS.stat().st_mode & 0o777 == 0o700
    assert set(json.loads(stamp.read_text())) == {"invocation", "digests", "unit_files"}


def test_stop_forgets_the_stamp(host: Host) -> None:
    host.act("start")
    assert host.daemon.stop("web") == ""
    assert host.systemd.calls[-3:] == ["stop", "disable", "reset-failed"]
    assert not (host.daemon.STAMPS / "web.service.json").exists()


def test_unknown_unit(host: Host) -> None:
    host.daemon._run = lambda argv, timeout=60: subprocess.CompletedProcess(argv, 0, "", "")  # type: ignore[attr-defined]
    found = host.inspect()
    assert not found["exists"] and not found["active"]


def test_directory_input(tmp_path: Path) -> None:
    def digest() -> str:
        return pure.fingerprint([str(tmp_path)])[str(tmp_path)][0]

    seen = [digest()]
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "a.conf").write_text("1")
    seen.append(digest())
    (tmp_path / "sub" / "a.conf").rename(tmp_path / "sub" / "b.conf")
    seen.append(digest())
    (tmp_path / "link").symlink_to("nowhere")
    seen.append(digest())
    assert len(set(seen)) == 4


def test_removed_file_changes_the_time_of_its_directory(tmp_path: Path) -> None:
    (tmp_path / "a.conf").write_text("1")
    time.sleep(0.05)
    before = time.time() - 0.02
    (tmp_path / "a.conf").unlink()
    assert pure.fingerprint([str(tmp_path)])[str(tmp_path)][1] >= before


@pytest.mark.parametrize(
    ("name", "files", "directories"),
    [
        ("redis-server.service", ["redis-server.service"], ["redis-server.service.d", "redis-.service.d", "service.d"]),
        (
            "postgresql@17-main.service",
            ["postgresql@17-main.service", "postgresql@.service"],
            ["postgresql@17-main.service.d", "postgresql@.service.d", "service.d"],
        ),
        ("ssh.socket", ["ssh.socket"], ["ssh.socket.d", "socket.d"]),
    ],
)
def test_unit_file_names(name: str, files: list[str], directories: list[str]) -> None:
    assert pure.unit_file_names([name]) == (files, directories)


@pytest.mark.parametrize("text", ["", "n/a"])
def test_no_timestamp(text: str) -> None:
    assert pure.parse_timestamp(text) == 0.0


def test_file_of_the_same_clock_tick_counts_as_newer() -> None:
    assert pure.stale_paths({"/etc/x": ("ab", 8.99)}, None, "id", 9.0) == ["/etc/x"]


def test_stamp_of_another_process_does_not_count() -> None:
    stamp = {"invocation": "old", "digests": {"/etc/x": "ab"}, "unit_files": ["/gone"]}
    assert pure.stale_paths({"/etc/x": ("ab", 10.0)}, stamp, "new", 9.0) == ["/etc/x"]


def with_certificates(host: Host) -> Path:
    """Start the daemon with a folder of certificates beside its configuration."""
    folder = host.conf.with_name("tls")
    folder.mkdir()
    (folder / "host.crt").write_text("old\n")
    time.sleep(0.05)
    host.inputs = [str(host.conf), str(folder)]
    assert host.act("start") == ""
    host.systemd.calls.clear()
    return folder


def test_who_reads_a_file_is_known_by_what_it_was_started_with(host: Host) -> None:
    folder = with_certificates(host)
    for asked in (folder, folder / "host.crt"):
        assert host.daemon.readers([str(asked)]) == {"web.service": [str(folder)]}
    assert host.daemon.readers([f"{folder}.old", "/etc/other"]) == {}
    host.systemd.properties["ActiveState"] = "failed"
    assert host.daemon.readers([str(folder)]) == {}, "an apply starts it"


def test_a_new_certificate_is_read_by_a_reload_and_nothing_else_is_taken_for_read(host: Host) -> None:
    folder = with_certificates(host)
    assert host.daemon.unread([str(folder)]) == {}
    (folder / "host.crt").write_text("new\n")
    host.conf.write_text("a = 2\n")
    (host.units / "web.service").write_text("[Service]\nNice=1\n")
    assert host.daemon.unread([str(folder)]) == {"web.service": [str(folder)]}
    assert host.daemon.reread("web.service", [str(folder)]) == ""
    assert host.systemd.calls == ["reload"]
    assert host.daemon.unread([str(folder)]) == {}
    assert host.inspect()["stale"] == sorted([str(host.conf), str(host.units / "web.service")])


def test_a_new_certificate_after_a_crash(host: Host) -> None:
    folder = with_certificates(host)
    host.systemd.start()
    assert host.daemon.unread([str(folder)]) == {}
    time.sleep(0.05)
    (folder / "host.crt").write_text("new\n")
    assert host.daemon.unread([str(folder)]) == {"web.service": [str(folder)]}
    assert host.daemon.reread("web.service", [str(folder)]) == ""
    assert host.daemon.unread([str(folder)]) == {} and host.inspect()["stale"] == []


def test_what_cannot_be_reloaded_is_left_to_an_apply(host: Host) -> None:
    folder = with_certificates(host)
    host.systemd.properties["CanReload"] = "no"
    (folder / "host.crt").write_text("new\n")
    assert "the next apply restarts it" in host.daemon.reread("web.service", [str(folder)])
    assert host.systemd.calls == [] and host.daemon.unread([str(folder)])


def test_one_question_for_all_units_of_a_run_is_good_for_that_run_and_not_for_long(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    daemon, asked, clock = host.daemon, [], [100.0]
    monkeypatch.setattr(daemon, "__context__", {}, raising=False)
    monkeypatch.setattr(daemon.time, "monotonic", lambda: clock[0])

    def run(argv: list[str], timeout: float = 60) -> subprocess.CompletedProcess[str]:
        units = [word for word in argv[2:] if not word.startswith("--")]
        asked.append(units)
        return subprocess.CompletedProcess(argv, 0, "\n".join(f"Id={unit}\nActiveState=active\n" for unit in units), "")

    monkeypatch.setattr(daemon, "_run", run)
    names = ["web", "ssh.socket", "db@1"]
    assert [daemon.shown(name, names, "run 1")["Id"] for name in names] == ["web.service", "ssh.socket", "db@1.service"]
    assert asked == [["db@1.service", "ssh.socket", "web.service"]]
    assert daemon.shown("other", names, "run 1") is None, "one that was not asked for is not known"
    clock[0] += daemon.SHOWN_SECONDS + 1
    assert daemon.shown("web", names, "run 1") is None
    assert daemon.shown("web", names, "run 2") and len(asked) == 2


@pytest.mark.parametrize("text", ["", "Id=a.service\n", "Id=a.service\n\nId=b.service\n\nId=c.service\n"])
def test_an_answer_for_other_units_than_were_asked_for_is_none(text: str) -> None:
    assert pure.parse_shows(text, ["a", "b"]) == {}


def test_a_unit_that_was_just_starting_is_asked_for_again(host: Host) -> None:
    host.act("start")
    starting = {**host.daemon.show("web"), "ActiveState": "activating", "SubState": "start"}
    assert host.daemon.inspect("web", host.inputs, starting)["active"]


def test_a_reload_that_says_yes_and_does_nothing_is_not_recorded(host: Host) -> None:
    """By an apply and by the timer: the plan after it is not empty."""
    folder = with_certificates(host)
    (folder / "host.crt").write_text("new\n")
    swap(host.daemon, "inforce", problem=lambda unit, paths, was, seconds: f"it shows another than {paths[0]}")
    assert f"it shows another than {folder}" in host.daemon.reread("web.service", [str(folder)])
    assert f"it shows another than {host.conf}" in host.act("reload")
    assert host.daemon.unread([str(folder)]) == {"web.service": [str(folder)]}
    assert host.inspect()["stale"] == [str(folder)]


def test_what_a_daemon_has_not_taken_is_not_recorded(host: Host) -> None:
    host.act("start")
    host.conf.write_text("a = 2\n")
    host.daemon.__salt__ = {"web.not_taken": lambda: "it refuses line 2"}  # type: ignore[attr-defined]
    assert "it refuses line 2" in host.daemon.act("web", "reload", host.inputs, proof="web.not_taken")
    assert host.inspect()["stale"] == [str(host.conf)]
