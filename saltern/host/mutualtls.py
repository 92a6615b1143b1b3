"""HTTPS between hosts of the fleet: each shows its certificate, and takes only one of the fleet's own CA."""

from __future__ import annotations

import contextlib
import functools
import http.client
import shutil
import socket
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

TLS = Path("/etc/saltern/tls")
SECONDS = 10  # without a byte; a host that is off is known by then


class _Connection(http.client.HTTPSConnection):
    """Goes to an address; the name is what the certificate must have, and needs no look-up."""

    def __init__(self, name: str, address: str, port: int, context: ssl.SSLContext) -> None:
        super().__init__(name, port, context=context, timeout=SECONDS)
        self.address, self.tls = address, context

    def connect(self) -> None:
        plain = socket.create_connection((self.address, self.port), SECONDS)
        self.sock = self.tls.wrap_socket(plain, server_hostname=self.host)


def connection(name: str, address: str, port: int) -> http.client.HTTPSConnection:
    """Return a connection, not yet opened, to another host of the fleet.

    Args:
        name: the full name that the host's certificate must have.
        address: the host's address.
        port: its port.

    Raises:
        OSError: this host has no certificate.

    Example:
        >>> asked = connection("web1.example.org", "192.0.2.7", 8080)  # needs a host of a fleet  # doctest: +SKIP
        >>> asked.request("GET", "/", headers={"Host": "shop.example.org"})  # needs the line above  # doctest: +SKIP
    """
    return _Connection(name, address, port, _context())


@contextlib.contextmanager
def server(base: str, address: str) -> Iterator[Callable[..., bytes]]:
    """Open a connection to another host of the fleet.

    Args:
        base: such as ``https://build1.example.org:8843``; the name is checked against the host's certificate.
        address: the host's address.

    Yields:
        A function that fetches a file: ``path``, with its slash, and ``place``, a file to write it to. It answers the
        file's bytes; none when they were written to ``place``.

    Raises:
        OSError: the host was not reached, is not who it should be, or has no such file; the message says which.

    Example:
        >>> with server("https://build1.example.org:8843", "192.0.2.7") as get:  # needs a builder  # doctest: +SKIP
        ...     get("/demo/released.json")[:1]
        b'{'
    """
    url = urlsplit(base)
    try:
        context = _context()
        connection = _Connection(str(url.hostname), address, int(url.port or 443), context)
        with contextlib.closing(connection):
            yield functools.partial(_get, connection, base)
    except http.client.HTTPException as error:
        raise OSError(f"{base}: {type(error).__name__}: {error}") from error


def _context() -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=str(TLS / "ca.crt"))
        context.load_cert_chain(TLS / "host.crt", TLS / "host.key")
    except FileNotFoundError:  # which is what a file is that the other host lacks
        raise OSError(f"{TLS} lacks ca.crt, host.crt or host.key") from None
    return context


def _get(connection: _Connection, base: str, path: str, place: str | Path | None = None) -> bytes:
    connection.request("GET", path)
    answer: Any = connection.getresponse()
    if answer.status == http.HTTPStatus.NOT_FOUND:
        raise FileNotFoundError(f"{base} has no {path}")
    if answer.status != http.HTTPStatus.OK:
        raise OSError(f"{base}{path} answered {answer.status}")
    if place is None:
        return bytes(answer.read())
    with Path(place).open("wb") as file:
        shutil.copyfileobj(answer, file)
    if answer.length:  # what is still to come; reading in parts, Python does not mind
        raise OSError(f"{base}{path} ended {answer.length} bytes too early")
    return b""
