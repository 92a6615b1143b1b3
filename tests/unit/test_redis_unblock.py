"""Who ends endless scripts is heard by a Redis that has no place for a new client."""

from __future__ import annotations

import importlib.util
import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from tests.unit.contracts import ROOT


@pytest.fixture
def unblock(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    spec = importlib.util.spec_from_file_location("redis_unblock", ROOT / "salt/redis/files/redis-unblock.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "ANSWER_SECONDS", 0.2)
    return module


def memory(scripts: int) -> str:
    text = f"# Memory\r\nused_memory:900000000\r\nused_memory_vm_total:5000\r\nused_memory_scripts:{scripts}\r\n"
    return f"${len(text)}\r\n{text}"


class Redis:
    """A server that answers as it is told, and has places for so many clients."""

    def __init__(self, path: Path, places: int = 1) -> None:
        self.answers = {"AUTH": "+OK", "PING": "+PONG", "SCRIPT": "+OK", "INFO": memory(1000)}
        self.heard: list[str] = []
        self.places, self.hears = places, threading.Event()
        self.hears.set()
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(str(path))
        self.listener.listen()
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self) -> None:
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            if self.places:
                self.places -= 1
                threading.Thread(target=self.serve, args=(client,), daemon=True).start()
            else:
                client.sendall(b"-ERR max number of clients reached\r\n")
                client.close()

    def serve(self, client: socket.socket) -> None:
        while said := client.recv(4096):
            self.hears.wait()
            word = said.split(b"\r\n")[2].decode()
            self.heard.append(word)
            client.sendall(f"{self.answers[word]}\r\n".encode())


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[Redis]:
    server = Redis(tmp_path / "socket")
    yield server
    server.listener.close()


def test_a_full_server_still_hears_the_word_that_ends_a_script(
    unblock: ModuleType, redis: Redis, tmp_path: Path
) -> None:
    watcher = unblock.Server(str(tmp_path / "socket"), "x")
    watcher.watch()
    assert redis.heard == ["AUTH", "PING", "INFO"] and redis.places == 0
    redis.hears.clear()
    for _ in range(3):  # silent, until the script is five seconds old
        watcher.watch()
    redis.answers["PING"] = "-BUSY a script"
    redis.hears.set()
    watcher.watch()
    assert redis.heard == ["AUTH", "PING", "INFO", "PING", "SCRIPT"], "asked once, over the connection that it has"


def test_a_script_that_has_written_ends_with_its_server(
    unblock: ModuleType, redis: Redis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended: list[int] = []
    monkeypatch.setattr(os, "kill", lambda pid, _: ended.append(pid))
    watcher = unblock.Server(str(tmp_path / "socket"), "x")
    redis.answers.update(PING="-BUSY a script", SCRIPT="-UNKILLABLE it has written")
    for _ in range(unblock.TRIES):
        assert ended == []
        watcher.watch()
    assert ended == [os.getpid()]


def test_no_place_is_no_sign_of_health(unblock: ModuleType, redis: Redis, tmp_path: Path) -> None:
    redis.places = 0
    watcher = unblock.Server(str(tmp_path / "socket"), "x")
    watcher.stuck = 2
    watcher.watch()
    assert watcher.stuck == 2
    redis.places = 1
    watcher.watch()
    assert watcher.stuck == 0


def test_scripts_that_hold_much_memory_are_forgotten(unblock: ModuleType, redis: Redis, tmp_path: Path) -> None:
    watcher = unblock.Server(str(tmp_path / "socket"), "x")
    watcher.watch()
    assert redis.heard == ["AUTH", "PING", "INFO"]
    redis.answers["INFO"] = memory(72_000_000)
    watcher.watch()
    assert redis.heard[3:] == ["PING", "INFO", "SCRIPT"]
    redis.answers["INFO"] = memory(1000)
    watcher.watch()
    assert redis.heard[6:] == ["PING", "INFO"]


def test_a_late_text_is_not_taken_for_the_next_answer(unblock: ModuleType, redis: Redis, tmp_path: Path) -> None:
    watcher = unblock.Server(str(tmp_path / "socket"), "x")
    watcher.watch()
    watcher.rest, watcher.owed = memory(72_000_000).encode()[:40], ("INFO", "memory")
    redis.answers["PING"] = "+PONG"
    assert watcher.whole() is None
    watcher.rest = memory(72_000_000).encode() + b"\r\n"
    assert watcher.answer().endswith("used_memory_scripts:72000000") and watcher.rest == b"" and watcher.owed is None
