"""Whether a daemon that was told to read its files again has done so: asked of the daemon, for a reload may say yes and
do nothing. A signal has no answer, and a server that refuses what it reads goes on with what it had.
"""

from __future__ import annotations

import contextlib
import re
import socket
import ssl
import struct
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

PROC = Path("/proc")
PEM = re.compile(r"-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----", re.DOTALL)
#: These answer a reload with new workers, and one that they refuse with none.
NEW_WORKERS = ("haproxy.service", "nginx.service")
#: PostgreSQL's SSLRequest (its manual, 53.2): length and code; the answer S is for yes.
SSL_REQUEST = struct.pack("!II", 8, 80877103)
ANSWER_SECONDS = 3
LOOK_SECONDS = 0.1

Place = tuple[str, int]


def leaves(paths: Iterable[str]) -> set[bytes]:
    """Return the first certificate of each file, which is the one that a daemon shows of it.

    Args:
        paths: files and directories; what has no certificate does not matter.

    Returns:
        The certificates in DER.

    Example:
        >>> leaves(["/nonexistent"])
        set()
    """
    found = set()
    for path in paths:
        for file in sorted(Path(path).rglob("*")) if Path(path).is_dir() else [Path(path)]:
            with contextlib.suppress(OSError):
                if first := PEM.search(file.read_text(encoding="utf-8", errors="replace")):
                    found.add(ssl.PEM_cert_to_DER_cert(first[0]))
    return found


def processes(unit: str, proc: Path = PROC) -> dict[int, int]:
    """Return the processes of a unit, each with its parent.

    Args:
        unit: the unit's full name.
        proc: where the kernel tells of processes.

    Example:
        >>> processes("no-such.service")
        {}
    """
    found = {}
    for folder in proc.glob("[0-9]*"):
        with contextlib.suppress(OSError, ValueError):
            groups = (folder / "cgroup").read_text(encoding="utf-8").splitlines()
            if any(unit in line.partition(":")[2].partition(":")[2].split("/") for line in groups):
                status = (folder / "stat").read_text(encoding="utf-8", errors="replace")
                found[int(folder.name)] = int(status.rpartition(")")[2].split()[1])
    return found


def workers(unit: str) -> set[int]:
    """Return those processes of a unit that another one of it has started.

    Example:
        >>> workers("no-such.service")
        set()
    """
    known = processes(unit)
    return {pid for pid, parent in known.items() if parent in known}


def places(unit: str, proc: Path = PROC) -> set[Place]:
    """Return where a unit listens for TCP; what listens on all addresses is asked on loopback.

    Args:
        unit: the unit's full name.
        proc: as for ``processes``.

    Example:
        >>> places("no-such.service")
        set()
    """
    sockets = {entry for pid in processes(unit, proc) for entry in _sockets(proc / str(pid) / "fd")}
    found = set()
    for name, family in (("tcp", socket.AF_INET), ("tcp6", socket.AF_INET6)):
        with contextlib.suppress(OSError):
            for line in (proc / "net" / name).read_text(encoding="utf-8").splitlines()[1:]:
                fields = line.split()
                if fields[3] == "0A" and fields[9] in sockets:
                    found.add(_place(fields[1], family))
    return found


def _sockets(folder: Path) -> Iterator[str]:
    with contextlib.suppress(OSError):
        for entry in folder.iterdir():
            with contextlib.suppress(OSError):
                if (target := str(entry.readlink())).startswith("socket:["):
                    yield target.removeprefix("socket:[").removesuffix("]")


def _place(local: str, family: int) -> Place:
    number, port = local.split(":")
    words = [bytes.fromhex(number[start : start + 8])[::-1] for start in range(0, len(number), 8)]
    address = socket.inet_ntop(family, b"".join(words))
    everywhere = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - nothing listens here
    return everywhere.get(address, address), int(port, 16)


def shown(where: Place) -> bytes | None:
    """Return the certificate that is shown at a port, in DER; None where nobody speaks TLS, as Postgres' clients too.

    Args:
        where: address and port.

    Example:
        >>> shown(("127.0.0.1", 1)) is None
        True
    """
    asks = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    asks.check_hostname, asks.verify_mode = False, ssl.CERT_NONE  # which one it is decides, not whether it is good
    for first in (b"", SSL_REQUEST):
        with contextlib.suppress(OSError), socket.create_connection(where, ANSWER_SECONDS) as plain:
            if first:
                plain.sendall(first)
                if plain.recv(1) != b"S":
                    continue
            with asks.wrap_socket(plain) as secure:
                return secure.getpeercert(binary_form=True)
    return None


def before(unit: str) -> dict[str, Any]:
    """Return what is to be kept in mind of a unit until it has been reloaded: its workers.

    Args:
        unit: the unit's full name.

    Example:
        >>> before("no-such.service")
        {'workers': set()}
    """
    return {"workers": workers(unit) if unit in NEW_WORKERS else set()}


def problem(unit: str, paths: Iterable[str], was: dict[str, Any], seconds: float) -> str:
    """Say what a daemon that has been told to read its files goes on to do without them; wait until it does not.

    Args:
        unit: the unit's full name.
        paths: what it reads.
        was: from ``before``.
        seconds: how long to wait.

    Example:
        >>> problem("no-such.service", [], {"workers": set()}, 0)
        ''
    """
    wanted = leaves(paths)
    until = time.monotonic() + seconds
    while True:
        found = _problem(unit, wanted, was)
        if not found or time.monotonic() >= until:
            return found
        time.sleep(LOOK_SECONDS)


def _problem(unit: str, wanted: set[bytes], was: dict[str, Any]) -> str:
    if unit in NEW_WORKERS and not workers(unit) - was["workers"]:
        return "it has no new process after systemctl reload, so it goes on with what it had"
    if not wanted:
        return ""
    found = {where: shown(where) for where in sorted(places(unit))}
    old = [f"{where[0]} port {where[1]}" for where, one in found.items() if one is not None and one not in wanted]
    if old:
        return f"after systemctl reload it still shows an older certificate: {', '.join(old)}"
    # One that hangs shows nothing. Whoever reads certificates shows one somewhere, if it listens at all.
    return "after systemctl reload it shows no certificate" if found and not any(found.values()) else ""
