"""Ends sessions of an app that take from PostgreSQL what all apps share; run by postgres-guard.service.

PostgreSQL has one table of locks, one of predicate locks and one queue of notifications for the whole cluster, and the
host's memory, and bounds none of them for a role: who fills one shuts everybody out. So this looks thirty times a
second who holds how much. The tables are sized (saltern/postgres/pgtuning.py) so that they are not full before.

It comes as ``saltern_guard``, which sees all sessions and may end those of roles that are no superuser, and reads no
data. Its connection and all that its question needs are kept, for a server whose table of locks is full lets nobody in.
"""

import argparse
import subprocess
import sys
import time
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import IO

EVERY_SECONDS = 0.03
MEMORY_EVERY = 6  # looks
QUEUE_EVERY = 30
#: Of the tables: what one database may hold, and what all may hold together.
OF_ONE, OF_ALL = 0.25, 0.6
#: Who is over that ends with all its sessions that hold so much.
OF_SESSION = 0.02
#: Of the queue of notifications (8 GB): from here on who keeps it from being emptied is ended.
OF_QUEUE = 0.01
#: A session that was told to end has so long before it is counted again.
PATIENCE_SECONDS = 0.3
#: A session that is smaller is no cause of a host without memory.
LEAST_MB = 24
PAGE_MB = 4096 / (1 << 20)
SHARED = Path("/dev/shm")  # noqa: S108 — where PostgreSQL puts what parallel workers share

LIMITS = """
SELECT n.locks OPERATOR(pg_catalog.*) s.places, n.predicates OPERATOR(pg_catalog.*) s.places
FROM (SELECT CAST(pg_catalog.current_setting('max_locks_per_transaction') AS integer) AS locks,
             CAST(pg_catalog.current_setting('max_pred_locks_per_transaction') AS integer) AS predicates) n,
     (SELECT pg_catalog.sum(CAST(pg_catalog.current_setting(name) AS integer)) AS places
      FROM pg_catalog.unnest(ARRAY['max_connections', 'autovacuum_max_workers', 'max_worker_processes',
                                   'max_wal_senders', 'max_prepared_transactions']) u(name)) s
"""
# Prepared, and the names are asked for each time: to ask and to end needs no lock, for the table may be full by then.
SESSIONS = """
SELECT a.pid, coalesce(a.leader_pid, a.pid), a.datid, coalesce(l.locks, 0), coalesce(l.predicates, 0),
       coalesce(CAST(extract(epoch FROM a.xact_start) AS pg_catalog.float8), 0),
       CASE WHEN a.backend_xmin IS NULL THEN 0 ELSE 1 END, pg_catalog.pg_get_userbyid(a.usesysid)
FROM pg_catalog.pg_stat_get_activity(NULL) a
LEFT JOIN (SELECT pid, pg_catalog.count(*) FILTER (WHERE mode OPERATOR(pg_catalog.<>) 'SIReadLock') AS locks,
                  pg_catalog.count(*) FILTER (WHERE mode OPERATOR(pg_catalog.=) 'SIReadLock') AS predicates
           FROM pg_catalog.pg_lock_status() WHERE NOT fastpath GROUP BY pid) l ON l.pid OPERATOR(pg_catalog.=) a.pid
WHERE a.pid OPERATOR(pg_catalog.<>) pg_catalog.pg_backend_pid() AND a.datid IS NOT NULL
  AND a.usesysid IS NOT NULL AND a.usesysid OPERATOR(pg_catalog.<>) 10
  AND pg_catalog.pg_has_role('pg_signal_backend', 'USAGE')
"""
# Of the lock tables alone: how much there is, and the most that one has.
LOCKS = """
SELECT coalesce(pg_catalog.sum(n) FILTER (WHERE NOT predicates), 0),
       coalesce(pg_catalog.sum(n) FILTER (WHERE predicates), 0)
FROM (SELECT mode OPERATOR(pg_catalog.=) 'SIReadLock' AS predicates, pg_catalog.count(*) AS n
      FROM pg_catalog.pg_lock_status() WHERE NOT fastpath GROUP BY 1) held
"""
QUEUE = "SELECT pg_catalog.pg_notification_queue_usage()"


@dataclass(frozen=True)
class Session:
    """A session of an app, or a process that works for one."""

    pid: int
    leader: int
    database: str
    locks: int
    predicates: int
    since: float
    snapshot: bool
    role: str
    memory_mb: float = 0.0
    shared_mb: float = 0.0


def sessions(rows):
    """Return the sessions of an answer."""
    return [
        Session(int(pid), int(leader), database, int(locks), int(held), float(since), snapshot == "1", role)
        for pid, leader, database, locks, held, since, snapshot, role in rows
    ]


def greediest(found, measure):
    """Return the session that has the most, of the database that has the most, and how much that database has."""
    sums: dict[str, float] = defaultdict(float)
    each: dict[tuple[str, int], float] = defaultdict(float)
    for one in found:
        sums[one.database] += measure(one)
        each[one.database, one.leader] += measure(one)
    if not sums:
        return None, 0.0
    database = max(sums, key=sums.__getitem__)
    leader = max((key for key in each if key[0] == database), key=each.__getitem__)[1]
    return next((one for one in found if one.pid == leader), None), sums[database]


def oldest(found):
    """Return who has had a snapshot or a transaction for longest: it keeps what others have left from being removed."""
    return min((one for one in found if one.since), key=lambda one: (not one.snapshot, one.since), default=None)


def over_locks(found, most):
    """Return who is to end so that the table of locks does not fill, each with the reason."""
    one, held = greediest(found, lambda session: session.locks)
    total = sum(session.locks for session in found)
    if one is None or (held <= most * OF_ONE and total <= most * OF_ALL):
        return []
    reason = f"its app holds {held:.0f} of the {most} locks that all apps share"
    of_it = [each for each in found if each.database == one.database and each.locks > most * OF_SESSION]
    return [(each, reason) for each in of_it or [one]]


def over_predicates(found, total, most):
    """Return the same of predicate locks. Those of transactions that have ended are kept for who began before."""
    if total <= most * OF_ONE:
        return []
    one, held = greediest(found, lambda session: session.predicates)
    if one is None or not one.since or held < total / 2:
        one = oldest(found)
    reason = f"{total} of the {most} predicate locks that all apps share are held, and its transaction keeps them"
    return [(one, reason)] if one else []


def over_memory(found, most_mb, shared_mb):
    """Return the same of memory, in MiB: what sessions have of their own, and what parallel workers share."""
    total = sum(session.memory_mb for session in found)
    if shared_mb > most_mb / 2:
        parallel = {session.leader for session in found if session.leader != session.pid}
        one = max((s for s in found if s.pid in parallel), key=lambda session: session.shared_mb, default=None)
        if one:
            return [(one, f"its parallel workers are the largest, and share {shared_mb:.0f} MiB")]
    ends, left = [], found
    while sum(session.memory_mb for session in left) > most_mb:
        one, held = greediest(left, lambda session: session.memory_mb)
        if one is None or sum(s.memory_mb for s in left if s.leader == one.pid) < LEAST_MB:
            break
        ends.append((one, f"its app's sessions have {held:.0f} MiB, and all {total:.0f} of {most_mb}"))
        left = [session for session in left if session.leader != one.pid]
    return ends


def over_queue(found, usage):
    """Return the same of the queue of NOTIFY. A session that listens and does not end its transaction keeps it."""
    one = min((one for one in found if one.since), key=lambda one: one.since, default=None)
    if usage <= OF_QUEUE:
        return []
    return [(one, f"the queue of NOTIFY is {usage:.1%} full, and its transaction is the oldest")] if one else []


def measured(session):
    """Return the session with its memory, private and shared; as it was when it has just ended."""
    try:
        _, resident, shared = Path(f"/proc/{session.pid}/statm").read_text().split()[:3]
    except OSError:
        return session
    sizes = {"memory_mb": (int(resident) - int(shared)) * PAGE_MB, "shared_mb": int(shared) * PAGE_MB}
    return Session(**{**vars(session), **sizes})


def shared_mb():
    """Return what PostgreSQL's parallel workers share, in MiB."""
    total = 0
    for path in SHARED.glob("PostgreSQL.*"):
        try:
            total += path.stat().st_blocks * 512
        except OSError:
            continue
    return total / (1 << 20)


class Server:
    """PostgreSQL, over a psql that stays."""

    END = "\x1e"

    def __init__(self, psql):
        self.psql = subprocess.Popen(
            psql, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
        )
        self.questions: IO[str] = self.psql.stdin  # type: ignore[assignment]
        self.answers: IO[str] = self.psql.stdout  # type: ignore[assignment]

    def ask(self, sql):
        """Return the rows of an answer; a line that is none is said, and is what it says."""
        self.questions.write(f"{sql.strip()};\n\\echo {self.END}\n")
        self.questions.flush()
        rows: list[list[str]] = []
        for line in self.answers:
            line = line.rstrip("\n")
            if line == self.END:
                return rows
            if line.startswith(("ERROR:", "FATAL:", "psql:", "HINT:", "DETAIL:", "server closed")):
                print(line, flush=True)
            elif line:
                rows.append(line.split("\t"))
        raise ConnectionError("psql has ended")


class Guard:
    """Looks, and ends who takes too much."""

    def __init__(self, server, memory_mb):
        self.server, self.memory_mb = server, memory_mb
        (row,) = server.ask(LIMITS)
        self.locks, self.predicates = int(row[0]), int(row[1])
        for name, question in (("sessions", SESSIONS), ("locks", LOCKS), ("queue", QUEUE)):
            server.ask(f"PREPARE {name} AS {question}")
        self.told: dict[int, float] = {}
        self.looks = 0

    def look(self):
        """Look once: at the locks each time, at what takes longer to fill now and then."""
        self.looks += 1
        memory, queue = self.looks % MEMORY_EVERY == 0, self.looks % QUEUE_EVERY == 0
        ((held, predicates),) = self.server.ask("EXECUTE locks") or [("0", "0")]
        full = int(held) > self.locks * OF_ONE, int(predicates) > self.predicates * OF_ONE
        if not (any(full) or memory or queue):
            return
        found = self.sessions()
        ends = []
        if full[0]:
            ends += over_locks(found, self.locks)
        if full[1]:
            ends += over_predicates(found, int(predicates), self.predicates)
        if memory:
            ends += over_memory([measured(one) for one in found], self.memory_mb, shared_mb())
        if queue:
            usage = self.server.ask("EXECUTE queue")
            ends += over_queue(found, float(usage[0][0]) if usage else 0.0)
        for session, reason in {one.pid: (one, why) for one, why in ends}.values():
            self.end(session, reason)

    def sessions(self):
        """Return the sessions, without those that are just ending."""
        now = time.monotonic()
        self.told = {pid: when for pid, when in self.told.items() if now - when < PATIENCE_SECONDS}
        return [one for one in sessions(self.server.ask("EXECUTE sessions")) if one.leader not in self.told]

    def end(self, session, reason):
        """End a session, and say whose it was."""
        self.told[session.pid] = time.monotonic()
        self.server.ask(f"SELECT pg_catalog.pg_terminate_backend({session.pid})")
        print(f"ended a session of {session.role} (process {session.pid}): {reason}", flush=True)


def main(words):
    parser = argparse.ArgumentParser()
    parser.add_argument("--memory-mb", type=int, required=True)
    parser.add_argument("psql", nargs="+")
    options = parser.parse_args(words)
    guard = Guard(Server(options.psql), options.memory_mb)
    while True:
        guard.look()
        time.sleep(EVERY_SECONDS)


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except (ConnectionError, BrokenPipeError) as error:  # the server stops, or does not know the role yet
        sys.exit(str(error))
