"""Releases, the pure part: ids, the environment file, gunicorn's settings, the unit."""

from __future__ import annotations

import configparser
from pathlib import Path
from typing import Any

import pytest

from tests.unit.contracts import load

release: Any = load("_modules", "release")

SETTINGS = {
    "wsgi": "demo.wsgi:application",
    "workers": 2,
    "threads": 4,
    "user": "app-demo",
    "memory_max_mb": 512,
    "media_url": None,
}


def test_id_names_the_build_and_changes_with_any_part() -> None:
    first = release.release_id("6f1d3c0a9b2e", {"environment": {"A": "1", "B": "2"}})
    assert first.startswith("6f1d3c0a9b2e-") and len(first) == 21
    assert first == release.release_id("6f1d3c0a9b2e", {"environment": {"B": "2", "A": "1"}})
    assert first != release.release_id("6f1d3c0a9b2e", {"environment": {"A": "1", "B": "3"}})
    assert first != release.release_id("000000000000", {"environment": {"A": "1", "B": "2"}})


@pytest.mark.parametrize(
    "value", ["", "plain", 'a "b" $c `d` \\e', "\\\\", "é ü", " spaces ", "a=b#c;d'e", "\\n", "%%"]
)
def test_environment_is_read_back_as_written(value: str) -> None:
    written = release.environment_file({"ONE": value, "TWO": "2"})
    assert release.read_environment(written) == {"ONE": value, "TWO": "2"}


def test_environment_of_more_than_one_line_is_refused() -> None:
    with pytest.raises(ValueError, match="environment variable KEY"):
        release.environment_file({"KEY": 'a"\nPATH="/tmp'})


def test_gunicorn_settings_are_python_that_says_what_was_asked() -> None:
    found: dict[str, Any] = {}
    exec(release.gunicorn_conf("demo", "abc-1", SETTINGS), found)
    assert found["bind"] == "unix:/run/apps/demo/abc-1.sock"
    assert (found["workers"], found["threads"], found["worker_class"]) == (2, 4, "gthread")
    assert found["wsgi_app"] == "demo.wsgi:application"
    assert found["control_socket_disable"] is True


def test_unit_gives_requests_the_time_that_gunicorn_gives_them() -> None:
    text = release.unit_text("demo", SETTINGS)
    unit = configparser.ConfigParser(strict=False, interpolation=None)
    unit.optionxform = str  # type: ignore[method-assign, assignment]
    unit.read_string(text)
    found: dict[str, Any] = {}
    exec(release.gunicorn_conf("demo", "x", SETTINGS), found)
    assert int(unit["Service"]["TimeoutStopSec"]) > found["graceful_timeout"]
    assert unit["Service"]["User"] == "app-demo"
    assert unit["Service"]["MemoryMax"] == "512M"
    assert unit["Service"]["Restart"] == "always" and unit["Service"]["RestartSec"] == "1"
    assert unit["Service"]["ReadWritePaths"] == "/run/apps/demo /var/lib/apps/demo"
    assert "%i" in unit["Service"]["EnvironmentFile"]


def test_connections_on_a_socket_are_counted_without_its_listener() -> None:
    text = """Num       RefCount Protocol Flags    Type St Inode Path
ffff1: 00000002 00000000 00010000 0001 01 100 /run/apps/demo/a.sock
ffff2: 00000003 00000000 00000000 0001 03 101 /run/apps/demo/a.sock
ffff3: 00000002 00000000 00000000 0001 02 102 /run/apps/demo/a.sock
ffff4: 00000003 00000000 00000000 0001 03 103 /run/apps/demo/b.sock
ffff5: 00000003 00000000 00000000 0001 03 104
"""
    assert release.connections(text, "/run/apps/demo/a.sock") == 2  # one of them not accepted yet
    assert release.connections(text, "/run/apps/demo/b.sock") == 1
    assert release.connections(text, "/run/apps/demo/c.sock") == 0


def test_connections_of_a_real_socket(tmp_path: Path) -> None:
    import socket
    import tempfile

    with tempfile.TemporaryDirectory(dir="/tmp") as short, socket.socket(socket.AF_UNIX) as listener:
        path = f"{short}/s"
        listener.bind(path)
        listener.listen()
        count = lambda: release.connections(Path("/proc/net/unix").read_text(), path)  # noqa: E731
        assert count() == 0
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(path)
            assert count() == 1  # in the backlog: a stopped gunicorn would forget it
            accepted, _ = listener.accept()
            with accepted:
                assert count() == 1
        assert count() == 0


def test_secrets_are_blackened_in_every_form_they_come_in() -> None:
    secret = 'a"b\\c d/e'
    release.__pillar__ = {"secrets": {"apps": {"demo": {"secret_key": secret, "short": "abc"}}}}
    for form in (secret, repr(secret), f"postgres://demo:{release.quote(secret, '')}@db", f'"{secret}"'):
        text = release.redact(f"before abc {form} after")
        assert "d/e" not in text and "d%2Fe" not in text
        assert text.startswith("before abc ") and text.endswith(" after")
