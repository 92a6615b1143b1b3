"""Clients that ask an app without pause while something is done to it, and that forgive nothing.

Each client is a thread that goes through the front door, by TLS: GET and POST, on connections that are kept and on new
ones, some that send or read slowly. None asks a second time: a connection that breaks, an answer that is cut short or
has another status than it should is a failed request. Each POST writes a note with a text of its own, so that the
database can tell whether one was lost or done twice.
"""

from __future__ import annotations

import http.client
import re
import ssl
import threading
import time
import urllib.parse
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from lab.served import Connection, Page

PAUSE = 0.2  # seconds between two requests of a client: busy, but with CPU left on two cores for the deploy itself
SECONDS = 60  # until a client gives up: longer than nginx and HAProxy wait, so that it is they who fail
# How many clients of each kind: sixteen.
CLIENTS = {"get": 5, "get, new connection": 3, "post": 3, "static": 2, "slow reader": 2, "slow sender": 1}
# Eight, for tests, where other labs share the machine.
FEW = {"get": 2, "get, new connection": 2, "post": 1, "static": 1, "slow reader": 1, "slow sender": 1}
SLOW = ("slow reader", "slow sender")  # their times are their own doing


@dataclass(frozen=True)
class Answer:
    """One request: what kind, when it began, how many seconds it took, and what was wrong with it, if anything."""

    kind: str
    began: float  # time.monotonic()
    seconds: float
    problem: str = ""


@dataclass
class Load:
    """The answers so far; thread-safe, because list.append is.

    Args:
        page: the app's first page, and where to ask for it.
        ca: the certificate to trust.
        clients: how many of each kind.
    """

    page: Page
    ca: Path
    clients: dict[str, int] = field(default_factory=lambda: dict(CLIENTS))
    run: str = field(default_factory=lambda: uuid.uuid4().hex[:8])
    answers: list[Answer] = field(default_factory=list)
    posted: list[str] = field(default_factory=list)  # texts of notes that were thanked for
    styles: set[str] = field(default_factory=set)  # static files that any page has named so far
    releases: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.context = ssl.create_default_context(cafile=str(self.ca))
        self.stop = threading.Event()

    @property
    def failures(self) -> list[Answer]:
        """Return the requests that failed."""
        return [answer for answer in self.answers if answer.problem]

    def between(self, began: float, ended: float) -> list[Answer]:
        """Return the requests that began in a span of time.monotonic()."""
        return [answer for answer in self.answers if began <= answer.began < ended]

    @contextmanager
    def running(self) -> Iterator[Load]:
        """Let all clients ask while the body runs; on return each has finished its last request."""
        clients = [
            partial(self._client, kind, number) for kind, count in self.clients.items() for number in range(count)
        ]
        with beside(clients, self.stop):
            yield self

    def _client(self, kind: str, number: int) -> None:
        kinds: dict[str, Callable[[_Browser, int], None]] = {
            "get": _get, "get, new connection": _get, "post": _post, "static": _static,
            "slow reader": _read_slowly, "slow sender": _send_slowly,
        }  # fmt: skip
        browser, count = _Browser(self, f"{kind} {number}"), 0
        while not self.stop.is_set():
            began, problem, count = time.monotonic(), "", count + 1
            try:
                kinds[kind](browser, count)
            except (OSError, http.client.HTTPException, _Wrong) as error:
                problem = f"{type(error).__name__}: {error}"
                browser.close()
            self.answers.append(Answer(kind, began, time.monotonic() - began, problem))
            if kind == "get, new connection":
                browser.close()
            self.stop.wait(PAUSE)
        browser.close()


@contextmanager
def beside(work: Iterable[Callable[[], object]], stop: threading.Event) -> Iterator[None]:
    """Run each piece of work in a thread of its own, beside the body.

    Args:
        work: what ends soon after `stop` is set, at the latest SECONDS later.
        stop: set when the body has ended.
    """
    threads = [threading.Thread(target=piece, daemon=True) for piece in work]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join(SECONDS + 5)


class _Wrong(Exception):
    """An answer that is not the one that was due."""


class _Browser:
    """One client: its connection, its cookie, its token."""

    def __init__(self, load: Load, name: str):
        self.load, self.name, self.token, self.cookie = load, name, "", ""
        self.connection = Connection(load.page, load.context, SECONDS)

    def close(self) -> None:
        self.connection.close()

    def get(self, path: str, piece: int = 0) -> str:
        self.connection.request("GET", path)
        answer = self.connection.getresponse()
        body = b""
        while piece and not answer.isclosed() and len(body) < 4096:
            body += answer.read(piece)
            time.sleep(0.02)
        text = (body + answer.read()).decode()
        if answer.status != 200:
            raise _Wrong(f"GET {path}: {answer.status}")
        for header, value in answer.getheaders():
            if header.lower() == "set-cookie" and value.startswith("csrftoken="):
                self.cookie = value.partition(";")[0]
        return text

    def page(self, path: str = "/", piece: int = 0) -> str:
        text = self.get(path, piece)
        if "</html>" not in text:
            raise _Wrong(f"GET {path}: the page has no end")
        self.load.styles |= set(re.findall(r'(/static/[^"]+\.css)"', text))
        if found := re.search(r'name="csrfmiddlewaretoken" value="([^"]+)"', text):
            self.token = found[1]
        return text

    def post(self, note: str, pieces: int = 1) -> None:
        if not self.token:
            self.page()
        form = {"csrfmiddlewaretoken": self.token, "author": self.name, "text": note}
        body = urllib.parse.urlencode(form).encode()
        self.connection.putrequest("POST", "/")
        headers = {"Content-Type": "application/x-www-form-urlencoded", "Content-Length": str(len(body))}
        for header, value in (headers | {"Cookie": self.cookie, "Referer": self.load.page.url}).items():
            self.connection.putheader(header, value)
        self.connection.endheaders()
        size = -(-len(body) // pieces)
        for start in range(0, len(body), size):
            time.sleep(0.3 if start else 0)
            self.connection.send(body[start : start + size])
        answer = self.connection.getresponse()
        answer.read()
        if answer.status != 302:
            raise _Wrong(f"POST: {answer.status}")
        self.load.posted.append(note)


def _get(browser: _Browser, count: int) -> None:
    if count % 4 == 0:
        found = re.search(r'"release": "([^"]+)"', browser.get("/-/version"))
        browser.load.releases.add(found[1] if found else "none")
    else:
        browser.page("/statistics/" if count % 4 == 2 else "/")


def _post(browser: _Browser, count: int) -> None:
    browser.post(f"{browser.load.run} {browser.name} {count}")


def _static(browser: _Browser, count: int) -> None:
    """Ask for every style sheet that any page has ever named, in turn: those of replaced releases too."""
    if count % 10 == 1 or not browser.load.styles:
        browser.page()
    styles = sorted(browser.load.styles)
    if not browser.get(styles[count % len(styles)]):
        raise _Wrong("an empty style sheet")


def _read_slowly(browser: _Browser, _count: int) -> None:
    browser.page(piece=128)


def _send_slowly(browser: _Browser, count: int) -> None:
    browser.post(f"{browser.load.run} {browser.name} {count}", pieces=6)


def percentile(answers: Sequence[Answer], part: float) -> float:
    """Return the seconds within which a part of the requests was answered; slow clients are left out.

    Args:
        answers: any.
        part: 0.99 for p99.

    Example:
        >>> percentile([Answer("get", 0, 0.1), Answer("get", 0, 0.3)], 0.5)
        0.1
    """
    times = sorted(answer.seconds for answer in answers if answer.kind not in SLOW)
    return times[max(0, -(-int(len(times) * part * 1000) // 1000) - 1)] if times else 0.0
