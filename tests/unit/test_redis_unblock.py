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


class Redis:
    """A server that answers as it is told, and has places for so many clients."""

    def __init__(self, path: Path, places: int = 1) -> None:
        self.answers = {"AUTH": "+OK", "PING": "+PONG", "SCRIPT": "+OK"}
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
    assert redis.heard == ["AUTH", "PING"] and redis.places == 0
    redis.hears.clear()
    for _ in range(3):  # silent, until the script is five seconds old
        watcher.watch()
    redis.answers["PING"] = "-BUSY a script"
    redis.hears.set()
    watcher.watch()
    assert redis.heard == ["AUTH", "PING", "PING", "SCRIPT"], "asked once, over the connection that it has"


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
