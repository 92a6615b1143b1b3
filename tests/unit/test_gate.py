"""The gate's view of a socket."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.unit.contracts import load

gate: Any = load("_utils", "gate")


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
    import socket
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
