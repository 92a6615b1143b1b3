"""A daemon that was reloaded is asked whether it has read its files: over real sockets, of real processes."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from saltern.host import inforce
from saltern.site.certificates import make_ca, make_leaf

OLD, NEW = "old", "new"


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Two certificates of one name, each with its key in a file."""
    folder = tmp_path_factory.mktemp("pairs")
    authority = make_ca("test")
    for name in (OLD, NEW):
        pair = make_leaf(authority, ["localhost"])
        (folder / f"{name}.pem").write_text(pair.cert + authority.cert + pair.key)
    return {name: folder / f"{name}.pem" for name in (OLD, NEW)}


@contextmanager
def server(certificate: Path | None, postgres: bool = False) -> Iterator[tuple[str, int]]:
    """Show a certificate, to Postgres' clients alone if so; without one it says something and hangs up."""
    listener = socket.create_server(("127.0.0.1", 0))

    def answer() -> None:
        while True:
            try:
                one, _ = listener.accept()
            except OSError:
                return
            with one:
                one.settimeout(2)
                try:
                    if certificate is None:
                        one.sendall(b"SSH-2.0-x\r\n")
                        continue
                    if postgres:
                        if one.recv(8) != inforce.SSL_REQUEST:
                            continue
                        one.sendall(b"S")
                    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
                    context.load_cert_chain(certificate)
                    with context.wrap_socket(one, server_side=True) as secure:
                        secure.recv(1)
                except OSError:
                    continue

    threading.Thread(target=answer, daemon=True).start()
    try:
        yield listener.getsockname()
    finally:
        listener.close()


@pytest.mark.parametrize("postgres", [False, True])
def test_what_a_port_shows_is_compared_with_what_is_on_disk(
    pairs: dict[str, Path], postgres: bool, monkeypatch
) -> None:
    with server(pairs[OLD], postgres) as where, server(None) as silent:
        monkeypatch.setattr(inforce, "places", lambda unit: {where, silent})
        told = inforce.problem("x.service", [str(pairs[NEW])], {"workers": set()}, 0)
        assert told == f"after systemctl reload it still shows an older certificate: 127.0.0.1 port {where[1]}"
        assert inforce.problem("x.service", [str(pairs[OLD].parent)], {"workers": set()}, 0) == ""


def test_a_server_that_answers_nobody_has_not_read_it(pairs: dict[str, Path], monkeypatch) -> None:
    monkeypatch.setattr(inforce, "ANSWER_SECONDS", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        monkeypatch.setattr(inforce, "places", lambda unit: {deaf.getsockname()})
        told = inforce.problem("x.service", [str(pairs[NEW])], {"workers": set()}, 0)
        assert told == "after systemctl reload it shows no certificate"
        assert inforce.problem("x.service", [], {"workers": set()}, 0) == "", "it reads none"


def test_the_first_certificate_of_a_file_is_the_one_that_is_shown(pairs: dict[str, Path], tmp_path: Path) -> None:
    assert len(inforce.leaves([str(pairs[OLD]), str(pairs[NEW])])) == 2
    (tmp_path / "binary").write_bytes(bytes(range(256)))
    assert inforce.leaves([str(tmp_path), str(tmp_path / "none")]) == set()


@pytest.mark.parametrize("unit", inforce.NEW_WORKERS)
def test_a_daemon_that_starts_no_new_worker_has_refused(unit: str, monkeypatch) -> None:
    monkeypatch.setattr(inforce, "workers", lambda name: {11})
    assert "no new process" in inforce.problem(unit, [], {"workers": {11}}, 0)
    assert inforce.problem(unit, [], {"workers": {10}}, 0) == ""


def test_processes_and_ports_are_those_of_the_unit(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        for pid, parent, group in (
            (11, 1, "/system.slice/a.service"),
            (12, 11, "/system.slice/a.service"),
            (13, 1, "/b.service"),
        ):
            folder = tmp_path / str(pid)
            (folder / "fd").mkdir(parents=True)
            (folder / "cgroup").write_text(f"1:name=systemd:{group}\n0::{group}\n")
            (folder / "stat").write_text(f"{pid} (a) name) S {parent} 0\n")
        (tmp_path / "12/fd/3").symlink_to(Path(f"/proc/self/fd/{listener.fileno()}").readlink())
        (tmp_path / "net").symlink_to("/proc/net")
        assert inforce.processes("a.service", tmp_path) == {11: 1, 12: 11}
        assert inforce.places("a.service", tmp_path) == {listener.getsockname()}
        assert inforce.places("b.service", tmp_path) == set()
