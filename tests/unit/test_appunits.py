"""What systemd and gunicorn are told of an app."""

from __future__ import annotations

import configparser
from typing import Any
from unittest.mock import Mock

import pytest

from saltern.host.sandbox import properties
from saltern.release import appunits, gate
from saltern.site.kinds import ANYBODYS_PORTS
from tests.unit.contracts import load
from tests.unit.test_site_good import default_sysctl

SETTINGS = {
    "wsgi": "demo.wsgi:application",
    "workers": 2,
    "threads": 4,
    "user": "app-demo",
    "memory_max_mb": 512,
    "media_url": None,
    "command_memory_max_mb": None,
    "tmp_max_mb": 256,
    "log_lines_max": 3000,
}


@pytest.mark.parametrize("media", [None, "/media/"])
def test_a_process_sees_its_own_app_alone(media: str | None) -> None:
    lines = appunits.sandbox("demo", SETTINGS | {"media_url": media})
    hidden = " ".join(line for line in lines if line.startswith("TemporaryFileSystem=/run"))
    assert {"/run:ro", "/srv:ro", "/var/lib/apps:ro"} <= set(hidden.partition("=")[2].split())
    shown = [path for line in lines if line.startswith("Bind") for path in line.partition("=")[2].split()]
    own = {"/srv/apps/demo/releases", "/var/lib/apps/demo", *(["/srv/apps/demo/media"] if media else [])}
    assert {path for path in shown if not path.startswith("-/run/systemd/")} == own
    assert not any("dbus" in path or "private" in path for path in shown)
    assert "Environment=HOME=/var/lib/apps/demo" in lines


def test_gunicorn_settings_are_python_that_says_what_was_asked() -> None:
    found: dict[str, Any] = {}
    exec(appunits.gunicorn_conf("demo", "abc-1", SETTINGS), found)
    assert found["bind"] == "unix:/run/apps/demo/abc-1.sock"
    assert (found["workers"], found["threads"], found["worker_class"]) == (2, 4, "gthread")
    assert found["wsgi_app"] == "demo.wsgi:application"
    assert found["control_socket_disable"] is True


@pytest.mark.parametrize("end", [b"", OSError("gone"), ValueError("closed")])
def test_what_an_app_left_of_a_body_is_read_before_its_socket_is_closed(end: bytes | Exception) -> None:
    found: dict[str, Any] = {}
    exec(appunits.gunicorn_conf("demo", "abc-1", SETTINGS), found)
    body = Mock(read=Mock(side_effect=[b"x" * 65536, b"x", end]))
    found["post_request"](None, None, {"wsgi.input": body}, None)
    assert body.read.call_count == 3


def test_unit_gives_requests_the_time_that_gunicorn_gives_them() -> None:
    text = appunits.unit_text("demo", SETTINGS)
    unit = configparser.ConfigParser(strict=False, interpolation=None)
    unit.optionxform = str  # type: ignore[method-assign, assignment]
    unit.read_string(text)
    found: dict[str, Any] = {}
    exec(appunits.gunicorn_conf("demo", "x", SETTINGS), found)
    assert int(unit["Service"]["TimeoutStopSec"]) > found["graceful_timeout"]
    assert unit["Service"]["User"] == "app-demo"
    assert unit["Service"]["MemoryMax"] == "512M"
    assert unit["Service"]["Restart"] == "always" and unit["Service"]["RestartSec"] == "1"
    writable = " ".join(
        line.removeprefix("ReadWritePaths=") for line in text.splitlines() if line.startswith("ReadWrite")
    )
    assert set(writable.split()) == {"/run/apps/demo", "/var/lib/apps/demo"}
    assert "%i" in unit["Service"]["EnvironmentFile"]


def test_a_socket_is_drained_for_as_long_as_a_request_may_take() -> None:
    assert gate.DRAIN_SECONDS == load("_modules", "edge").LONGEST_REQUEST == appunits.LONGEST_REQUEST


def test_media_may_be_written_only_where_there_is_media() -> None:
    media = "/srv/apps/demo/media"
    assert media not in appunits.unit_text("demo", SETTINGS)
    assert media in appunits.unit_text("demo", SETTINGS | {"media_url": "/media/"})


@pytest.mark.parametrize(
    "manage, arguments",
    [
        ("python -m django", ["-m", "django"]),
        ("python manage.py", ["manage.py"]),
        ("shop-manage", ["/srv/apps/demo/releases/x/venv/bin/shop-manage"]),
    ],
)
def test_how_management_commands_are_run(manage: str, arguments: list[str]) -> None:
    assert appunits.manage_arguments("demo", "x", {"manage": manage}) == arguments


def bounds(lines: list[str]) -> set[str]:
    return {line for line in lines if line.startswith(("MemoryMax=", "TasksMax=", "LimitNOFILE="))}


def one_off(name: str = "migrate", host_mb: int = 4096, **settings: Any) -> list[str]:
    argv = appunits.one_off_command("demo", "x", SETTINGS | settings, name, ["-c", ""], "", "", host_mb)
    return [word.removeprefix("--property=") for word in argv if word.startswith("--property=")]


def test_a_command_of_a_release_is_bounded_as_its_processes_are() -> None:
    """A migration is an app's code as well: without a bound it takes all of the host's memory."""
    unit, command = bounds(appunits.unit_text("demo", SETTINGS).splitlines()), bounds(one_off())
    assert {line.partition("=")[0] for line in unit} == {line.partition("=")[0] for line in command}
    assert len(command) == 3 and "RuntimeMaxSec=3600" in one_off()


@pytest.mark.parametrize(
    "own, asked, host, most",
    [
        (512, None, 4096, 1024),
        (1024, None, 16384, 2048),
        (512, None, 1024, 512),
        (512, None, 512, 512),  # never less than the web processes have
        (512, 3000, 1024, 3000),
    ],
)
def test_a_commands_memory_follows_from_the_apps_and_the_hosts(
    own: int, asked: int | None, host: int, most: int
) -> None:
    found = one_off(host_mb=host, memory_max_mb=own, command_memory_max_mb=asked)
    assert f"MemoryMax={most}M" in found
    settings = SETTINGS | {"memory_max_mb": own, "command_memory_max_mb": asked}
    assert f"memory bound of {most} MiB" in appunits.why_ended("demo", settings, host, "oom-kill")


def test_an_app_tells_systemd_nothing() -> None:
    """EXTEND_TIMEOUT_USEC puts an end off for ever, MAINPID and FDSTORE cost systemd: no unit of an app is heard."""
    lines = appunits.unit_text("demo", SETTINGS).splitlines()
    assert "Type=exec" in lines and "NotifyAccess=none" in lines
    shown = [path for line in lines if line.startswith("Bind") for path in line.partition("=")[2].split()]
    assert not any(path.endswith(("notify", "journal/socket", "journal")) for path in shown)
    pre = next(number for number, line in enumerate(lines) if line.startswith("ExecStartPre=/bin/rm"))
    assert pre < lines.index(next(line for line in lines if line.startswith("ExecStart=")))


def test_what_every_unit_of_an_app_may_fill_is_bounded() -> None:
    lines = appunits.sandbox("demo", SETTINGS | {"tmp_max_mb": 99, "log_lines_max": 1234})
    rooms = {line.partition("=")[2].partition(":")[0]: line for line in lines if line.startswith("TemporaryFileSystem")}
    for place in ("/tmp", "/var/tmp", "/dev/shm"):
        assert ",size=99M," in rooms[place]
    assert {"LogRateLimitIntervalSec=30s", "LogRateLimitBurst=1234"} <= {*lines}
    assert "PrivateTmp=yes" not in lines, "systemd would take that instead, which is the host's disk"


def test_ports_of_daemons_are_closed_to_apps_as_the_site_counts_them() -> None:
    assert f"SocketBindDeny=1-{ANYBODYS_PORTS - 1}" in appunits.sandbox("demo", SETTINGS)
    assert f"SocketBindDeny=1-{ANYBODYS_PORTS - 1}" in properties("x", user="nobody")
    assert default_sysctl()["net.ipv4.ip_unprivileged_port_start"] == str(ANYBODYS_PORTS)
