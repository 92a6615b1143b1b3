"""The gate: a release is asked over its own socket, as nginx asks, before it gets traffic; and a socket is drained.

What systemd knows is given as functions, so nothing here starts, stops or writes anything.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import functools
import http.client
import io
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from salt.exceptions import CommandExecutionError

GATE_ANSWERS = 3  # good answers in a row before a release gets traffic
GATE_PAUSE = 0.05  # seconds between two questions
CRASHES = 3  # whole sets of workers that may come and go while a release is asked; a fourth is a crash loop
ANSWER_SECONDS = 5  # a health page that takes longer counts as none
DRAIN_SECONDS = 30  # the longest request (appunits.py): nobody waits for an answer any longer


def passed(path: str | Path, release: str, settings: dict[str, Any], state: Callable[[], dict[str, str]]) -> None:
    """Return when a release has answered well several times in a row.

    Args:
        path: the release's socket.
        release: its id, which its version page must name.
        settings: the app's settings from the pillar: health_path, health_status, health_seconds,
            version_path, hostnames, workers.
        state: answers ActiveState and MainPID of the release's unit, as systemd has them now.

    Raises:
        CommandExecutionError: it did not; with a sentence that says what it did instead.

    Example:
        >>> passed("/x.sock", "x", {"health_seconds": 1}, lambda: {"ActiveState": "failed", "MainPID": "0"})
        Traceback (most recent call last):
            ...
        salt.exceptions.CommandExecutionError: It ended while it was being asked; before that: it has not been asked.
    """
    seconds = settings["health_seconds"]
    until, good, problem = time.monotonic() + seconds, 0, "it has not been asked"
    workers: set[str] = set()
    while good < GATE_ANSWERS:
        if not good and time.monotonic() > until:  # one that has begun to answer well is asked to the end
            raise CommandExecutionError(f"Within {seconds} seconds it did not answer well: {problem}.")
        unit = state()
        if unit["ActiveState"] != "active":
            raise CommandExecutionError(f"It ended while it was being asked; before that: {problem}.")
        found = _ask_and_watch(str(path), release, settings, unit["MainPID"], workers)
        good, problem = (0, found) if found else (good + 1, problem)
        if good < GATE_ANSWERS:
            time.sleep(GATE_PAUSE)


def _ask_and_watch(path: str, release: str, settings: dict[str, Any], main: str, workers: set[str]) -> str | None:
    """Ask, and see meanwhile whether worker after worker dies: gunicorn itself then stays, and a question hangs."""
    most = settings["workers"] * (CRASHES + 1)
    pool = concurrent.futures.ThreadPoolExecutor(1)
    try:
        answer = pool.submit(ask, path, release, settings)
        while not concurrent.futures.wait([answer], timeout=GATE_PAUSE).done:
            workers |= _children(main)
            if len(workers) > most:
                raise CommandExecutionError("Its workers end as soon as they start (a crash loop).")
        return answer.result()
    finally:
        pool.shutdown(wait=False)  # a question that hangs ends with the unit


def _children(process: str) -> set[str]:
    try:
        return set(Path(f"/proc/{process}/task/{process}/children").read_text().split())
    except OSError:
        return set()


def ask(path: str, release: str, settings: dict[str, Any]) -> str | None:
    """Return what is wrong with a release's answers, or None.

    Args:
        path: the release's socket.
        release: its id.
        settings: the app's settings from the pillar.

    Raises:
        CommandExecutionError: it is another release that answers, which no time will change.

    Example:
        >>> ask("/nonexistent", "x", {"health_path": "/", "hostnames": ["x"]})
        'no answer (FileNotFoundError: [Errno 2] No such file or directory)'
    """
    host = settings["hostnames"][0]
    try:
        code, _ = _get(path, host, settings["health_path"])
        if code != settings["health_status"]:
            return f"{settings['health_path']} answered {code} and not {settings['health_status']}"
        if settings["version_path"]:
            code, body = _get(path, host, settings["version_path"])
            if code != 200:
                return f"{settings['version_path']} answered {code}"
            if release not in body:
                raise CommandExecutionError(f"{settings['version_path']} answered without the release's id.")
    except (OSError, http.client.HTTPException) as error:
        return f"no answer ({type(error).__name__}: {error})"
    return None


def _get(socket_path: str, host: str, page: str) -> tuple[int, str]:
    """Ask as nginx does: real host name, and the word that the client came by HTTPS."""
    headers = {"Host": host, "X-Forwarded-Proto": "https", "X-Forwarded-For": "127.0.0.1", "Connection": "close"}
    status, body = asked(_UnixConnection(socket_path), page, headers, ANSWER_SECONDS)
    return status, body.decode(errors="replace")


def asked(
    connection: http.client.HTTPConnection, page: str, headers: dict[str, str], seconds: float, most: int = 65536
) -> tuple[int, bytes]:
    """Ask an app for a page, and close the connection. The answer has so long in all, not from byte to byte.

    Args:
        connection: to whom, not yet opened, with a timeout of its own for that.
        page: the path.
        headers: what else is said.
        seconds: until all of the answer must be there.
        most: bytes of its body that are read.

    Returns:
        The status, and the body's beginning.

    Raises:
        OSError: there was no answer, or not in time.
        http.client.HTTPException: it was none that HTTP knows.

    Example:
        >>> asked(http.client.HTTPConnection("127.0.0.1", 1, timeout=1), "/", {}, 1)
        Traceback (most recent call last):
            ...
        ConnectionRefusedError: [Errno 111] Connection refused
    """
    until = time.monotonic() + seconds
    with contextlib.closing(connection):
        connection.connect()
        connection.response_class = functools.partial(_Answer, until=until)  # type: ignore[assignment]
        connection.request("GET", page, headers=headers)
        answer = connection.getresponse()
        return answer.status, answer.read(most)


class _Answer(http.client.HTTPResponse):
    def __init__(self, sock: socket.socket, *rest: Any, until: float, **more: Any) -> None:
        super().__init__(sock, *rest, **more)
        self.fp = io.BufferedReader(_InTime(self.fp.detach(), sock, until))


class _InTime(io.RawIOBase):
    """What comes by a socket until a point in time."""

    def __init__(self, raw: Any, sock: socket.socket, until: float) -> None:
        self.raw, self.sock, self.until = raw, sock, until

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> Any:
        left = self.until - time.monotonic()
        if left <= 0:
            raise TimeoutError("the whole answer took too long")
        self.sock.settimeout(left)
        return self.raw.readinto(buffer)

    def close(self) -> None:
        self.raw.close()
        super().close()


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=ANSWER_SECONDS)
        self.path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(ANSWER_SECONDS)
        self.sock.connect(self.path)


def drain(path: str | Path) -> None:
    """Wait until a socket has no connection: a stopped gunicorn forgets those that it has not accepted yet.

    Args:
        path: the socket; it may be missing.

    Example:
        >>> drain("/nonexistent")
    """
    until, calm = time.monotonic() + DRAIN_SECONDS, 0
    while calm < 3 and time.monotonic() < until:
        calm = 0 if connections(Path("/proc/net/unix").read_text(), str(path)) else calm + 1
        time.sleep(0.05)


def connections(sockets: str, path: str) -> int:
    """Count the connections on a unix socket's server side, those that nobody has accepted yet included.

    Args:
        sockets: the text of /proc/net/unix.
        path: path of the socket.

    Example:
        >>> connections("0: 00000003 00000000 00000000 0001 03 11111 /run/apps/demo/a.sock", "/run/apps/demo/a.sock")
        1
    """
    count = 0
    for line in sockets.splitlines():
        fields = line.split(maxsplit=7)
        # Columns: address, references, protocol, flags, type, state, inode, path. Flag 0x10000 is the listener.
        if len(fields) == 8 and fields[7] == path and not int(fields[3], 16) & 0x10000:
            count += 1
    return count
