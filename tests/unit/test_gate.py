"""The gate's view of a socket."""

from __future__ import annotations

import contextlib
import re
import socket
import threading
import time
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from salt.exceptions import CommandExecutionError

from saltern.release import gate

REPOSITORY = Path(__file__).resolve().parents[2]


def test_connections_on_a_socket_are_counted_without_its_listener() -> None:
    text = """Num       RefCount Protocol Flags    Type St Inode Path
ffff1: 00000002 00000000 00010000 0001 01 100 /run/apps/demo/a.sock
ffff2: 00000003 00000000 00000000 0001 03 101 /run/apps/demo/a.sock
ffff3: 00000002 00000000 00000000 0001 02 102 /run/apps/demo/a.sock
ffff4: 00000003 00000000 00000000 0001 03 103 /run/apps/demo/b.sock
ffff5: 00000003 00000000 00000000 0001 03 104
"""
    assert gate.connections(text, "/run/apps/demo/a.sock") == 2  # one of them not accepted yet
    assert gate.connections(text, "/run/apps/demo/b.sock") == 1
    assert gate.connections(text, "/run/apps/demo/c.sock") == 0


def test_connections_of_a_real_socket(tmp_path: Path) -> None:
    import tempfile

    with tempfile.TemporaryDirectory(dir="/tmp") as short, socket.socket(socket.AF_UNIX) as listener:
        path = f"{short}/s"
        listener.bind(path)
        listener.listen()
        count = lambda: gate.connections(Path("/proc/net/unix").read_text(), path)  # noqa: E731
        assert count() == 0
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(path)
            assert count() == 1  # in the backlog: a stopped gunicorn would forget it
            accepted, _ = listener.accept()
            with accepted:
                assert count() == 1
        assert count() == 0


SETTINGS = {"health_seconds": 1, "workers": 1}
ACTIVE = {"ActiveState": "active", "MainPID": "0"}


def passed(monkeypatch: pytest.MonkeyPatch, answers: list[str | None], seconds: float) -> None:
    """Ask a release that gives these answers, each after so many seconds of a clock of its own."""
    now, given = [0.0], iter(answers)

    def ask(*_: Any) -> str | None:
        now[0] += seconds
        return next(given)

    monkeypatch.setattr(gate, "ask", ask)
    clock = types.SimpleNamespace(sleep=lambda seconds: None, monotonic=lambda: now[0])
    monkeypatch.setattr(gate, "time", clock)
    gate.passed("/x.sock", "x", SETTINGS, lambda: ACTIVE)


def test_one_that_has_begun_to_answer_well_in_time_is_asked_to_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    passed(monkeypatch, ["503", None, None, None], 0.6)


@pytest.mark.parametrize("answers", [["503"] * 9, [None, None, "503", None, None, "503"]])
def test_one_that_is_not_well_when_its_time_is_over_does_not_pass(
    monkeypatch: pytest.MonkeyPatch, answers: list[str | None]
) -> None:
    with pytest.raises(CommandExecutionError, match="Within 1 seconds it did not answer well: 503"):
        passed(monkeypatch, answers, 0.6)


@pytest.fixture
def dripping(tmp_path: Path) -> Iterator[Callable[[bytes], str]]:
    """Start an app that answers with a beginning and then byte after byte, for at most three seconds."""
    stop = threading.Event()

    def start(beginning: bytes) -> str:
        path = str(tmp_path / "s")
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(path)
        listener.listen()

        def serve() -> None:
            with listener, contextlib.suppress(OSError):
                client, _ = listener.accept()
                with client:
                    client.recv(4096)
                    client.sendall(beginning)
                    for _ in range(30):
                        if stop.wait(0.1):
                            return
                        client.sendall(b"x")

        threading.Thread(target=serve, daemon=True).start()
        return path

    yield start
    stop.set()


@pytest.mark.parametrize(
    "beginning",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 65536\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffff\r\n",
        b"HTTP/1.1 200 OK\r\nX-Slow: ",
        b"HTTP/1.1 200 O",
        b"HTTP/1.1 100 Continue\r\n\r\n" * 2,
    ],
    ids=["body", "without length", "chunk", "header", "status", "continue"],
)
def test_an_answer_has_so_long_in_all(
    dripping: Callable[[bytes], str], monkeypatch: pytest.MonkeyPatch, beginning: bytes
) -> None:
    monkeypatch.setattr(gate, "ANSWER_SECONDS", 0.3)
    path, began = dripping(beginning), time.monotonic()
    problem = gate.ask(path, "x", {"hostnames": ["x"], "health_path": "/", "health_status": 200, "version_path": "/"})
    assert problem and problem.startswith("no answer (TimeoutError")
    assert time.monotonic() - began < 1


def test_only_one_function_asks_over_http() -> None:
    """Whoever asks an app must bound the answer as a whole: one way, and mutualtls for the builder's files."""
    ways = [
        path.name
        for folder in ("_modules", "saltern", "_states")
        for path in (REPOSITORY / folder).rglob("*.py")
        if re.search(r"getresponse|urlopen|import requests", path.read_text())
    ]
    assert sorted(ways) == ["gate.py", "mutualtls.py"]
