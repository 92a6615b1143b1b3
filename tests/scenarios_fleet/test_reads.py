"""The demo's pages read from a replica that is fresh and alive, and whoever has written reads that at once."""

from __future__ import annotations

import re
import ssl
import time
from collections.abc import Iterator
from http.cookies import SimpleCookie
from urllib.parse import urlencode
from uuid import uuid4

import pytest
from databases import UNIT, comes_true, shell, sql

from lab.host import Host
from lab.lab import Lab
from lab.served import Connection, Page, ca_file, pages

MOST_LAG_SECONDS = 5.0  # demo/demo/replicas.py
PRIMARY = "the primary"


class Visitor:
    """Somebody with a browser: keeps cookies, and sees where a page was read from."""

    def __init__(self, lab: Lab):
        self.page: Page = next(page for page in pages(lab.site) if page.hostname.startswith("demo."))
        self.tls = ssl.create_default_context(cafile=str(ca_file(lab.site)))
        self.cookies = SimpleCookie()
        self.status, self.body, self.seconds = 0, "", 0.0

    def _ask(self, method: str, fields: dict[str, str] | None = None) -> None:
        connection = Connection(self.page, self.tls)
        headers = {"Cookie": "; ".join(f"{key}={morsel.value}" for key, morsel in self.cookies.items())}
        headers |= {"Content-Type": "application/x-www-form-urlencoded", "Referer": self.page.url} if fields else {}
        began = time.monotonic()
        connection.request(method, "/", urlencode(fields) if fields else None, headers)
        answer = connection.getresponse()
        self.status, self.body = answer.status, answer.read().decode()
        self.seconds = time.monotonic() - began
        for value in answer.headers.get_all("Set-Cookie", []):
            self.cookies.load(value)
        connection.close()

    def read(self) -> str:
        """Ask for the first page; answers the database that it was read from."""
        self._ask("GET")
        assert self.status == 200, self.body[:300]
        return re.findall(r"<dt>Read from</dt><dd>([^<]+)</dd>", self.body)[0]

    def write(self) -> str:
        """Leave a note; answers its text."""
        self.read()
        token, text = re.findall(r'name="csrfmiddlewaretoken" value="([^"]+)"', self.body)[0], f"note {uuid4()}"
        self._ask("POST", {"csrfmiddlewaretoken": token, "author": "visitor", "text": text})
        assert self.status == 302, self.body[:300]
        return text


@pytest.fixture
def visit(lab: Lab, replica: Host) -> Iterator[type[Visitor] | object]:
    """Make visitors; at the end the replica is well, and read from."""
    yield lambda: Visitor(lab)
    if not replica.running:
        replica.boot()
    shell(replica, f"systemctl start {UNIT}")
    if sql(replica, "select pg_is_wal_replay_paused()") == "t":
        sql(replica, "select pg_wal_replay_resume()")
    used(lambda: Visitor(lab))


def used(visit) -> None:
    """Wait until every process that serves reads from the replica."""
    deadline, in_a_row = time.monotonic() + 30, 0
    while in_a_row < 10:
        in_a_row = in_a_row + 1 if visit().read() != PRIMARY else 0
        assert time.monotonic() < deadline, "the replica is not read from"


def test_a_healthy_replica_is_read_from(primary: Host, replica: Host, visit) -> None:
    used(visit)
    scans = "select seq_scan + coalesce(idx_scan, 0) from pg_stat_user_tables where relname = 'notes_note'"
    before = {host.id: int(sql(host, scans, "demo")) for host in (primary, replica)}
    for _ in range(20):
        assert visit().read() != PRIMARY
    # A backend tells its figures when it is idle, a second later at most.
    assert comes_true(replica, f"select ({scans}) >= {before[replica.id]} + 20", 10, "demo")
    query = "select bool_and(ssl) and count(*) > 0 from pg_stat_activity join pg_stat_ssl using (pid)"
    assert sql(replica, f"{query} where usename = 'demo' and application_name like 'demo %'") == "t"


def test_who_has_written_reads_it_at_once_whatever_the_lag(primary: Host, replica: Host, visit) -> None:
    used(visit)
    writer, other = visit(), visit()
    sql(replica, "select pg_wal_replay_pause()")
    began = time.monotonic()
    text = writer.write()
    for _ in range(5):
        assert writer.read() == PRIMARY and text in writer.body
    # That the replica lags is no tale: somebody else does not see the note there yet.
    assert other.read() != PRIMARY and text not in other.body
    assert time.monotonic() - began < MOST_LAG_SECONDS, "this machine is too slow for the test"

    # What lags too much is left out for everybody.
    time.sleep(MOST_LAG_SECONDS + 3)
    for _ in range(10):
        assert other.read() == PRIMARY and text in other.body

    sql(replica, "select pg_wal_replay_resume()")
    deadline = time.monotonic() + 10  # each process that serves finds out by itself
    while writer.read() == PRIMARY:
        assert text in writer.body and time.monotonic() < deadline
    assert text in writer.body


def test_a_task_finds_what_was_written_just_before_it_was_sent(primary: Host, replica: Host, visit) -> None:
    used(visit)
    sql(replica, "select pg_wal_replay_pause()")
    text = visit().write()
    both = "public.words_wordcount join public.notes_note n on n.id = note_id"
    counted = f"select exists (select from {both} where text = '{text}')"
    assert comes_true(primary, counted, 15, "demo"), "the task did not find the note, or did not run"
    assert sql(replica, counted, "demo") == "f", "the replica had it, so this proves nothing"


FAULTS = {
    "the server is stopped": lambda host: shell(host, f"systemctl stop {UNIT}"),
    "the server is killed": lambda host: shell(host, f"systemctl kill --signal=KILL {UNIT}"),
    "the server hangs": lambda host: shell(host, f"systemctl kill --signal=STOP {UNIT}"),
    "the host loses its power": lambda host: host.power_off(),
}


@pytest.mark.slow("fleet")
@pytest.mark.parametrize("fault", FAULTS)
def test_a_dead_replica_costs_no_page(replica: Host, visit, fault: str) -> None:
    used(visit)
    slowest, asked = 0.0, 0
    deadline, broken = time.monotonic() + 12, False
    try:
        while time.monotonic() < deadline:
            visitor = visit()
            read_from = visitor.read()  # fails on anything but 200
            slowest, asked = max(slowest, visitor.seconds), asked + 1
            if not broken and asked == 20:
                FAULTS[fault](replica)
                broken = True
    finally:
        if fault == "the server hangs":
            shell(replica, f"systemctl kill --signal=CONT {UNIT}")
    print(f"\n{fault}: {asked} pages, the slowest in {slowest:.2f} s")
    assert broken and slowest < 8
    if fault != "the server is killed":  # systemd has it back within a second
        assert read_from == PRIMARY
