"""What all apps share of PostgreSQL: one app asks for more than it may have, and another one's statements go on."""

from __future__ import annotations

import re
import subprocess
import time
from collections.abc import Iterator

import pytest
from test_databases import Owner, superuser

from lab.host import Host
from lab.lab import Lab

# Each is one statement; the second text is what its author is told.
OFFENCES = {
    "locks of its session": (
        "SELECT count(pg_advisory_lock(i)) FROM generate_series(1, 10000000) i; SELECT pg_sleep(20)",
        "terminating connection",
    ),
    "locks of its transaction": (
        "BEGIN; SELECT count(pg_advisory_xact_lock_shared(i)) FROM generate_series(1, 10000000) i; SELECT pg_sleep(20)",
        "terminating connection|out of shared memory",
    ),
    "a long text": (
        "SELECT length(string_agg(repeat('x', 1000), ',')) FROM generate_series(1, 900000)",
        "out of memory",
    ),
    "a large array": (
        "SELECT cardinality(array_agg(i)) FROM (SELECT generate_series(1, 90000000) AS i) s",
        "out of memory",
    ),
    "a large sort": (
        "SET work_mem = '8GB'; SELECT count(*) FROM (SELECT i FROM generate_series(1, 90000000) i ORDER BY -i) s",
        "out of memory|temporary file size",
    ),
    "prepared statements without end": (
        "DO $$ BEGIN FOR i IN 1..100000000 LOOP"
        " EXECUTE format('PREPARE p%s AS SELECT %L', i, repeat('x', 9000)); END LOOP; END $$",
        "out of memory",
    ),
}
# It writes, and touches more tables than fit into what a session has of the table of locks by itself.
OTHERS = "BEGIN; CREATE TABLE public.other_app (id int PRIMARY KEY); SELECT count(*) FROM pg_stat_user_tables; ROLLBACK"


@pytest.fixture
def app(lab: Lab, one: Host, applied_again: None) -> Iterator[Owner]:
    yield Owner(lab, one, "database")


def started(host: Host) -> str:
    return superuser(host, "SELECT pg_postmaster_start_time()")


SLOW = ("a large array", "a large sort", "prepared statements without end")


@pytest.mark.parametrize(
    "offence", [pytest.param(name, marks=[pytest.mark.slow("trixie")] * (name in SLOW)) for name in OFFENCES]
)
def test_who_asks_for_too_much_is_refused_and_others_notice_nothing(one: Host, app: Owner, offence: str) -> None:
    statement, told = OFFENCES[offence]
    before, since = started(one), one.execute(["date", "+%s"], capture=True).stdout.strip()
    psql = subprocess.Popen(
        one.argv(["psql", "-XAt", app.url, "-c", statement]),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    asked, failed = 0, []
    deadline = time.monotonic() + 60
    while psql.poll() is None and time.monotonic() < deadline:
        tried = one.execute(["psql", "-XAtU", "postgres", "-d", "bugsink", "-c", OTHERS], capture=True)
        asked += 1
        failed += [tried.stderr] if tried.returncode else []
    _, error = psql.communicate(timeout=60)
    assert re.search(told, error), error
    assert asked and failed == []
    assert started(one) == before, "the server began anew"
    if "terminating" in error:
        log = one.execute(["journalctl", "-u", "postgres-guard", f"--since=@{since}", "-o", "cat"], capture=True).stdout
        assert f"ended a session of {app.login} " in log, log


LISTENS = "(printf 'LISTEN c; BEGIN; SELECT 1;\\n'; exec sleep 60) | psql -XAt '{url}'"
NOTIFIES = (
    "DO $$ BEGIN FOR r IN 1..5 LOOP FOR i IN 1..3000 LOOP PERFORM pg_notify('c', r || ':' || i || repeat('x', 7900));"
    " END LOOP; COMMIT; END LOOP; END $$"
)


@pytest.mark.slow("trixie")
def test_who_keeps_the_queue_of_notify_full_ends(one: Host, app: Owner) -> None:
    listener = subprocess.Popen(
        one.argv(["sh", "-c", LISTENS.format(url=app.url)]), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True
    )
    try:
        assert [listener.stdout.readline().strip() for _ in range(3)] == ["LISTEN", "BEGIN", "1"]
        Owner.sql(app, NOTIFIES)
        deadline = time.monotonic() + 60
        while float(superuser(one, "SELECT pg_notification_queue_usage()")) > 0.01:
            assert time.monotonic() < deadline, "nobody has emptied the queue"
            time.sleep(0.5)
    finally:
        listener.kill()
    assert superuser(one, "SELECT count(*) FROM pg_stat_activity WHERE usename = 'saltern_guard'") == "1"
