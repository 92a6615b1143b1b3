"""Reads from replicas of the database, on top of django-multidb-router: fresh, alive, with your own writes.

The router alone sends a reader who has just written to the primary for a fixed time, hopes that every
replica is faster than that, and goes on asking one that is dead. Here instead:

- **Your own writes.** After a write the visitor's cookie holds how far the database's log (WAL) was
  written, and that visitor is served by replicas that have come so far, or else by the primary.
- **Lag and death.** Once a second, beside the requests, each process asks the primary how far it is and
  each replica how far it has come. One that was last level with the primary more than MOST_LAG_SECONDS ago
  is left out, whatever the reason: slow, cut off, paused or dead. One that dies or hangs between two looks
  costs a page that only reads a second try, on the primary.
- **Only pages read from replicas.** Celery's tasks, commands and the shell always use the primary: a task
  is sent because something was written just now, and what it reads decides what it writes.

To use it: replicas in DATABASES, `DATABASE_ROUTERS = ["demo.replicas.Router"]`, and
`demo.replicas.ReadYourWrites` in MIDDLEWARE before all that touches the database; settings.py shows it.
What a view reads in order to decide what to write belongs on the primary: methods other than GET are there
as a whole, so is everything after the first write, `select_for_update()`, and whatever is inside
`with multidb.pinning.use_primary_db:`.
"""

import logging
import os
import random
import socket
import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable
from typing import Any
from weakref import WeakSet

from django.core import signing
from django.db import DEFAULT_DB_ALIAS, connections, transaction
from django.db.backends.signals import connection_created
from django.db.utils import InterfaceError, OperationalError
from django.dispatch import receiver
from django.http import HttpRequest, HttpResponse
from multidb import PinningReplicaRouter
from multidb.pinning import pin_this_thread, this_thread_is_pinned, unpin_this_thread

logger = logging.getLogger(__name__)

CHECK_SECONDS = 1.0
MOST_LAG_SECONDS = 5.0
ANSWER_SECONDS = 3.0  # a replica from which nothing was heard for longer hangs
OVERDUE = "hangs"
COOKIE = "wrote"
# When it ends, each replica in use has what was written before: one with more lag is left out.
COOKIE_SECONDS = int(MOST_LAG_SECONDS) + 5
SAFE_METHODS = ("GET", "HEAD", "OPTIONS", "TRACE")

PRIMARY_POSITION = "SELECT (pg_current_wal_lsn() - '0/0'::pg_lsn)::bigint"
# Without a place it is no replica (any more): the primary of a split brain must not be read from.
REPLICA_POSITION = (
    "SELECT CASE WHEN pg_is_in_recovery() THEN (pg_last_wal_replay_lsn() - '0/0'::pg_lsn)::bigint END"
)

GetResponse = Callable[[HttpRequest], HttpResponse]


class Watch:
    """Knows which replicas are fresh. Each database is looked at once a second, by a thread of its own.

    Args:
        aliases: The replicas.
        position: Asks a database how far it is, in bytes of the log; None when it is no replica. Raises what
            Django raises when it does not answer.
        cut: Ends this process's connections to a replica that hangs, so that nobody waits for it.
    """

    def __init__(
        self, aliases: list[str], position: Callable[[str], int | None], cut: Callable[[str], None]
    ) -> None:
        self.aliases, self._position, self._cut = aliases, position, cut
        self._lock, self._started = threading.Lock(), False
        self._history: deque[tuple[float, int]] = deque(maxlen=60)  # when the primary was how far
        self._answers: dict[str, tuple[float, int]] = {}  # each replica's last: when, and how far it was
        self._good: set[str] = set()  # as told in the log

    def fresh(self, at_least: int = 0) -> list[str]:
        """Answers the replicas to read from: those that have come so far, and lag too little to matter.

        Args:
            at_least: A position in the log, in bytes.
        """
        self._start()
        return [alias for alias in self.aliases if not self._problem(alias, at_least)]

    def leave_out(self, alias: str) -> None:
        """Leaves a replica out until the next look: somebody has found that it does not answer."""
        self._answers.pop(alias, None)

    def look(self, alias: str) -> None:
        """Looks once at one database."""
        try:
            found = self._position(alias)
        except (OperationalError, InterfaceError):
            found = None
        now = time.monotonic()
        if alias == DEFAULT_DB_ALIAS:
            if found is not None:
                self._history.append((now, found))
        elif found is None:
            self.leave_out(alias)
        else:
            self._answers[alias] = (now, found)

    def tell(self) -> None:
        """Tells what has changed, and ends connections to replicas whose answer is overdue."""
        for alias in self.aliases:
            problem = self._problem(alias)
            if not problem and alias not in self._good:
                self._good.add(alias)
                logger.info("%s is read from", alias)
            elif problem and alias in self._good:
                self._good.discard(alias)
                logger.warning("%s %s, and is left out", alias, problem)
            if problem == OVERDUE:
                self._cut(alias)

    def _problem(self, alias: str, at_least: int = 0) -> str:
        """Answers why a replica is not to be read from, or nothing."""
        answer, now = self._answers.get(alias), time.monotonic()
        if answer is None:
            return "does not answer as a replica"
        when, found = answer
        if now - when > ANSWER_SECONDS:
            return OVERDUE
        if found < at_least:
            return "has not come so far"
        lag = lag_seconds(found, list(self._history), now)
        return f"lags more than {MOST_LAG_SECONDS:g} s" if lag > MOST_LAG_SECONDS else ""

    def _start(self) -> None:
        # Not when the module is imported: a server such as gunicorn forks, and threads do not come along.
        if self._started:
            return
        with self._lock:
            for alias in [] if self._started else [DEFAULT_DB_ALIAS, *self.aliases]:
                threading.Thread(target=self._run, args=[alias], name=f"watch {alias}", daemon=True).start()
            if not self._started:
                threading.Thread(target=self._tell_for_ever, name="watch", daemon=True).start()
            self._started = True

    def _run(self, alias: str) -> None:
        while True:
            self._safely(self.look, alias)
            time.sleep(CHECK_SECONDS)

    def _tell_for_ever(self) -> None:
        while True:
            time.sleep(CHECK_SECONDS)
            self._safely(self.tell)

    @staticmethod
    def _safely(work: Callable[..., None], *arguments: str) -> None:
        try:
            work(*arguments)
        except Exception:  # the thread must not end; without its answers everything reads from the primary
            logger.exception("looking at the replicas failed")


def lag_seconds(position: int, history: list[tuple[float, int]], now: float) -> float:
    """Answers for how long a replica has not had all that the primary has.

    It is level with the primary as it was at some moment; the lag is the age of the last such moment. So it
    needs no clock of the database, an idle primary gives none, and one that is cut off has more each second.

    Args:
        position: How far the replica is.
        history: When the primary was how far, the oldest first.
        now: The present moment, by the same clock.

    Returns:
        Seconds; infinite when it has not been level with any of these.

    Example:
        >>> lag_seconds(150, [(1.0, 100), (2.0, 150), (3.0, 170)], 3.0)
        1.0
    """
    level = [when for when, primary in history if primary <= position]
    return now - max(level) if level else float("inf")


def position(alias: str) -> int | None:
    """Asks a database how far it is, in bytes of the log; None when it should be a replica and is none."""
    connection = connections[alias]
    try:
        with transaction.atomic(using=alias), connection.cursor() as cursor:
            cursor.execute("SET LOCAL statement_timeout = '1s'")
            cursor.execute(PRIMARY_POSITION if alias == DEFAULT_DB_ALIAS else REPLICA_POSITION)
            return cursor.fetchone()[0]
    except (OperationalError, InterfaceError):
        connection.close()
        raise


_open: dict[str, "WeakSet[Any]"] = defaultdict(WeakSet)


@receiver(connection_created)
def _remember_connection(connection: Any, **_: Any) -> None:
    if connection.alias != DEFAULT_DB_ALIAS:
        _open[connection.alias].add(connection.connection)


def cut(alias: str) -> None:
    """Ends this process's connections to a database that hangs: libpq waits for an answer for ever."""
    for connection in list(_open[alias]):
        try:
            with socket.socket(fileno=os.dup(connection.fileno())) as end:
                end.shutdown(socket.SHUT_RDWR)
        except Exception:  # noqa: S112  it is closed already; each driver says so in its own way
            continue


class _Thread(threading.local):
    """What the request that this thread serves needs; None outside of one: then only the primary will do."""

    at_least: int | None = None
    wrote = False
    read_from: str | None = None


_thread = _Thread()


class Router(PinningReplicaRouter):
    """Sends reads to a replica that is fresh enough for this visitor, and everything else to the primary."""

    watch: Watch | None = None

    def db_for_read(self, model: Any, **hints: Any) -> str:
        """Answers where to read."""
        if _thread.at_least is None or this_thread_is_pinned():
            return DEFAULT_DB_ALIAS
        fresh = watch().fresh(_thread.at_least)
        if _thread.read_from not in fresh:  # one page reads from one database: it must not go back in time
            _thread.read_from = random.choice(fresh) if fresh else None  # noqa: S311
        return _thread.read_from or DEFAULT_DB_ALIAS

    def db_for_write(self, model: Any, **hints: Any) -> str:
        """Answers where to write; what this request reads from now on, it reads there."""
        _thread.wrote = True
        pin_this_thread()
        return DEFAULT_DB_ALIAS


def watch() -> Watch:
    """Answers the process's one watch."""
    if Router.watch is None:
        Router.watch = Watch([alias for alias in connections if alias != DEFAULT_DB_ALIAS], position, cut)
    return Router.watch


def read_from() -> str:
    """Answers the alias that the current request has read from, for people who look."""
    return _thread.read_from or DEFAULT_DB_ALIAS


class ReadYourWrites:
    """Lets a request read from replicas that have what its visitor wrote; repeats one whose replica died."""

    def __init__(self, get_response: GetResponse) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        safe = request.method in SAFE_METHODS
        _thread.at_least, _thread.wrote, _thread.read_from = _written(request), False, None
        (unpin_this_thread if safe else pin_this_thread)()
        try:
            response = self.get_response(request)
            if not safe or _thread.wrote:
                _remember(response, secure=request.is_secure())
            return response
        finally:
            _thread.at_least = None
            unpin_this_thread()

    def process_exception(self, request: HttpRequest, exception: Exception) -> HttpResponse | None:
        """Once more, on the primary, when a replica failed a page that has only read."""
        alias = _thread.read_from
        if alias is None or _thread.wrote or not isinstance(exception, (OperationalError, InterfaceError)):
            return None
        watch().leave_out(alias)
        connections[alias].close()
        logger.warning("%s failed in the middle of a page, which is made anew from the primary", alias)
        _thread.read_from = None
        pin_this_thread()
        match = request.resolver_match
        return match.func(request, *match.args, **match.kwargs) if match else None


def _written(request: HttpRequest) -> int:
    """Answers how far the log was when this visitor last wrote; 0 when that is long ago."""
    try:
        return int(request.get_signed_cookie(COOKIE, default="0", max_age=COOKIE_SECONDS))
    except (signing.BadSignature, ValueError):
        return 0


def _remember(response: HttpResponse, secure: bool) -> None:
    """Gives the visitor how far the log is now; all that this request has written is before it."""
    try:
        written = position(DEFAULT_DB_ALIAS)
    except (OperationalError, InterfaceError):
        return  # it has gone just now, and with it what there was to read
    response.set_signed_cookie(
        COOKIE, str(written), max_age=COOKIE_SECONDS, secure=secure, httponly=True, samesite="Lax"
    )
