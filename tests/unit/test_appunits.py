"""What systemd and gunicorn are told of an app."""

from __future__ import annotations

import configparser
from typing import Any
from unittest.mock import Mock

import pytest

from saltern.release import appunits, gate
from tests.unit.contracts import load

SETTINGS = {
    "wsgi": "demo.wsgi:application",
    "workers": 2,
    "threads": 4,
    "user": "app-demo",
    "memory_max_mb": 512,
    "media_url": None,
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
