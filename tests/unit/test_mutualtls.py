"""HTTPS between hosts: both show a certificate of the fleet's own CA, over a connection for as many files as wanted."""

from __future__ import annotations

import http.server
import socket
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from saltern.release import gate
from saltern.site.certificates import Pair, make_ca, make_leaf
from tests.unit.contracts import load

NAME = "build1.example.org"  # resolved by nobody
OURS, FOREIGN = make_ca("ours"), make_ca("foreign")
FILES = {"/manifest.json": b"{}", "/big": bytes(range(256)) * 1000}


class Builder(http.server.ThreadingHTTPServer):
    """Has files for those who show a certificate of our CA."""

    daemon_threads = True

    def __init__(self, folder: Path, leaf: Pair) -> None:
        super().__init__(("127.0.0.1", 0), Answer)
        self.connections, self.base = 0, f"https://{NAME}:{self.server_port}"
        self.tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cadata=OURS.cert)
        self.tls.verify_mode = ssl.CERT_REQUIRED
        write(folder, leaf)
        self.tls.load_cert_chain(folder / "host.crt", folder / "host.key")

    def finish_request(self, request: Any, address: Any) -> None:
        self.connections += 1
        with self.tls.wrap_socket(request, server_side=True) as secured:
            super().finish_request(secured, address)

    def handle_error(self, request: Any, address: Any) -> None:
        pass  # the client has to tell


class Answer(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        body = FILES.get(self.path, b"x" * 1000)
        self.send_response({"/missing": 404, "/broken": 500}.get(self.path, 200))
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[:10] if self.path == "/cut" else body)
        self.close_connection = self.path == "/cut"

    def log_message(self, *_: Any) -> None:
        pass


def write(folder: Path, leaf: Pair, ca: Pair = OURS) -> None:
    folder.mkdir(exist_ok=True)
    for name, text in (("ca.crt", ca.cert), ("host.crt", leaf.cert), ("host.key", leaf.key)):
        (folder / name).write_text(text)


@pytest.fixture
def mutualtls(tmp_path: Path) -> Any:
    """The module on a host of the fleet."""
    module: Any = load("saltern/host", "mutualtls")
    module.TLS = tmp_path / "tls"
    write(module.TLS, make_leaf(OURS, ["web1.example.org"]))
    return module


@pytest.fixture
def builder(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Builder]:
    leaf = getattr(request, "param", None) or make_leaf(OURS, [NAME])
    with Builder(tmp_path / "builder", leaf) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def test_all_files_come_over_one_connection(mutualtls: Any, builder: Builder, tmp_path: Path) -> None:
    with mutualtls.server(builder.base, "127.0.0.1") as get:
        assert get("/manifest.json") == b"{}"
        assert get("/big", tmp_path / "big") == b""
        assert get("/manifest.json") == b"{}"
    assert (tmp_path / "big").read_bytes() == FILES["/big"] and builder.connections == 1


@pytest.mark.parametrize(("path", "kind"), [("/missing", FileNotFoundError), ("/broken", OSError)])
def test_what_is_not_to_be_had_is_named_and_not_written(
    mutualtls: Any, builder: Builder, tmp_path: Path, path: str, kind: type
) -> None:
    with mutualtls.server(builder.base, "127.0.0.1") as get, pytest.raises(OSError, match=f"{NAME}.*{path}") as error:
        get(path, tmp_path / "place")
    assert error.type is kind and not (tmp_path / "place").exists()


@pytest.mark.parametrize("written", [False, True])
def test_an_answer_that_ends_too_early_is_an_error(
    mutualtls: Any, builder: Builder, tmp_path: Path, written: bool
) -> None:
    with pytest.raises(OSError, match=NAME), mutualtls.server(builder.base, "127.0.0.1") as get:
        get("/cut", tmp_path / "cut" if written else None)


@pytest.mark.parametrize(
    ("builder", "reason"),
    [(make_leaf(FOREIGN, [NAME]), "unable to get local issuer"), (make_leaf(OURS, ["web2.example.org"]), "mismatch")],
    indirect=["builder"],
    ids=["another CA", "another name"],
)
def test_a_server_that_is_not_who_it_should_be_is_refused(mutualtls: Any, builder: Builder, reason: str) -> None:
    with pytest.raises(ssl.SSLCertVerificationError, match=reason), mutualtls.server(builder.base, "127.0.0.1") as get:
        get("/manifest.json")


def test_a_client_of_another_ca_gets_nothing(mutualtls: Any, builder: Builder) -> None:
    write(mutualtls.TLS, make_leaf(FOREIGN, ["web1.example.org"]))
    with pytest.raises(OSError), mutualtls.server(builder.base, "127.0.0.1") as get:
        get("/manifest.json")
    assert builder.connections == 1, "it was the server who refused"


@pytest.mark.parametrize("name", ["ca.crt", "host.crt", "host.key"])
def test_a_missing_certificate_is_not_taken_for_a_file_that_the_server_lacks(
    mutualtls: Any, builder: Builder, name: str
) -> None:
    (mutualtls.TLS / name).unlink()
    with pytest.raises(OSError) as error, mutualtls.server(builder.base, "127.0.0.1") as get:
        get("/manifest.json")
    assert error.type is OSError and str(mutualtls.TLS) in str(error.value)
    assert builder.connections == 0


def test_a_server_that_is_not_there_is_an_error(mutualtls: Any) -> None:
    with socket.socket() as bound:  # it does not listen, and nobody else can
        bound.bind(("127.0.0.1", 0))
        base = f"https://{NAME}:{bound.getsockname()[1]}"
        with pytest.raises(ConnectionRefusedError), mutualtls.server(base, "127.0.0.1") as get:
            get("/manifest.json")


def test_an_edge_asks_a_web_host_for_a_page(mutualtls: Any, builder: Builder) -> None:
    asked = gate.asked
    assert asked(mutualtls.connection(NAME, "127.0.0.1", builder.server_port), "/page", {}, 5, 100) == (200, b"x" * 100)
