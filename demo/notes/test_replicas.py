"""Tests of demo/replicas.py without Postgres: the databases' positions are made up."""

import json
import socket
import threading
from unittest.mock import patch
from weakref import WeakSet

from django.core.management import call_command
from django.db import DEFAULT_DB_ALIAS
from django.db.utils import OperationalError
from django.http import HttpRequest, HttpResponse
from django.test import RequestFactory, SimpleTestCase, TestCase
from multidb.pinning import unpin_this_thread, use_primary_db

from demo import replicas
from demo.replicas import COOKIE, MOST_LAG_SECONDS, ReadYourWrites, Router, Watch, lag_seconds
from notes.models import Note
from notes.tests import PRODUCTION, manage
from words.tasks import count


class Fleet:
    """Databases whose positions a test sets; an error stands for one that does not answer."""

    def __init__(self, **positions: int | None) -> None:
        self.positions: dict[str, int | Exception | None] = {"default": 100, **positions}
        self.now = 1000.0
        self.cut: list[str] = []
        replicas = [alias for alias in self.positions if alias != "default"]
        self.watch = Watch(replicas, self.position, self.cut.append)
        self.watch._start = lambda: None  # type: ignore[method-assign]  # looks when the test says so

    def position(self, alias: str) -> int | None:
        found = self.positions[alias]
        if isinstance(found, Exception):
            raise found
        return found

    def look(self, seconds: float = 1.0) -> None:
        self.now += seconds
        with patch.object(replicas.time, "monotonic", lambda: self.now):
            for alias in self.positions:
                self.watch.look(alias)
            self.watch.tell()

    def fresh(self, at_least: int = 0) -> list[str]:
        with patch.object(replicas.time, "monotonic", lambda: self.now):
            return self.watch.fresh(at_least)


class WatchTests(SimpleTestCase):
    def setUp(self) -> None:
        logger = patch.object(replicas, "logger")
        self.log = logger.start()
        self.addCleanup(logger.stop)

    def test_nothing_is_read_from_a_replica_before_the_first_look(self) -> None:
        self.assertEqual(Fleet(replica1=100).fresh(), [])

    def test_a_replica_that_is_level_is_read_from(self) -> None:
        fleet = Fleet(replica1=100)
        fleet.look()
        self.assertEqual(fleet.fresh(), ["replica1"])
        self.assertEqual(fleet.fresh(100), ["replica1"])
        self.assertEqual(fleet.fresh(101), [], "it has not come so far")

    def test_one_that_stands_still_is_left_out_after_the_most_lag_and_comes_back(self) -> None:
        fleet = Fleet(replica1=100, replica2=100)
        seconds = 0
        for seconds in range(20):
            fleet.look()
            fleet.positions["default"] = fleet.positions["replica2"] = 200 + seconds
            if "replica1" not in fleet.fresh():
                break
        self.assertTrue(MOST_LAG_SECONDS <= seconds <= MOST_LAG_SECONDS + 2, seconds)
        self.assertEqual(fleet.fresh(), ["replica2"])
        fleet.positions["replica1"] = fleet.positions["default"]
        fleet.look()
        self.assertEqual(fleet.fresh(), ["replica1", "replica2"])

    def test_an_idle_primary_gives_no_lag(self) -> None:
        fleet = Fleet(replica1=100)
        for _ in range(200):
            fleet.look()
        self.assertEqual(fleet.fresh(), ["replica1"])

    def test_one_that_does_not_answer_is_left_out_at_once_and_told_once(self) -> None:
        fleet = Fleet(replica1=100)
        fleet.look()
        fleet.positions["replica1"] = OperationalError("gone")
        for _ in range(3):
            fleet.look()
            self.assertEqual(fleet.fresh(), [])
        self.assertEqual(self.log.warning.call_count, 1)

    def test_one_that_was_promoted_is_left_out(self) -> None:
        fleet = Fleet(replica1=None)
        fleet.look()
        self.assertEqual(fleet.fresh(), [])

    def test_one_that_hangs_is_left_out_and_its_connections_are_ended(self) -> None:
        fleet = Fleet(replica1=100, replica2=100)
        fleet.look()
        fleet.now += replicas.ANSWER_SECONDS + 0.1
        with patch.object(replicas.time, "monotonic", lambda: fleet.now):
            for alias in ("default", "replica2"):
                fleet.watch.look(alias)
            fleet.watch.tell()
        self.assertEqual((fleet.fresh(), fleet.cut), (["replica2"], ["replica1"]))
        fleet.look()
        self.assertEqual(fleet.fresh(), ["replica1", "replica2"])

    def test_a_connection_that_is_cut_ends_the_wait(self) -> None:
        here, there = socket.socketpair()

        class Connection:
            def fileno(self) -> int:
                return here.fileno()

        connection = Connection()
        with here, there, patch.dict(replicas._open, {"replica1": WeakSet([connection])}):
            waiting = threading.Thread(target=here.recv, args=[1])
            waiting.start()
            replicas.cut("replica1")
            waiting.join(5)
            self.assertFalse(waiting.is_alive())
            here.close()
            replicas.cut("replica1")  # closed meanwhile: nothing to do

    def test_the_threads_look_by_themselves(self) -> None:
        looked = threading.Event()

        def position(alias: str) -> int:
            if alias == "replica1":
                looked.set()
            return 1

        watch = Watch(["replica1"], position, self.fail)
        watch.fresh()
        self.assertTrue(looked.wait(5))
        before = threading.active_count()
        watch.fresh()
        self.assertEqual(threading.active_count(), before, "they are started once")

    def test_lag(self) -> None:
        history = [(1.0, 100), (2.0, 150), (3.0, 170)]
        self.assertEqual(lag_seconds(170, history, 3.0), 0.0)
        self.assertEqual(lag_seconds(169, history, 3.0), 1.0)
        self.assertEqual(lag_seconds(99, history, 3.0), float("inf"))


class ReadYourWritesTests(TestCase):
    """A request through the middleware and the router; what it does is the view."""

    def setUp(self) -> None:
        self.fleet = Fleet(replica1=100)
        self.fleet.look()
        # The watch's clock stands still with the fleet's.
        for patcher in (
            patch.object(Router, "watch", self.fleet.watch),
            patch.object(replicas.time, "monotonic", lambda: self.fleet.now),
            patch.object(replicas, "position", self.fleet.position),
        ):
            patcher.start()
            self.addCleanup(patcher.stop)
        self.addCleanup(unpin_this_thread)
        self.router = Router()
        self.read: list[str] = []

    def ask(
        self, method: str = "GET", cookies: dict[str, str] | None = None, write: bool = False
    ) -> HttpResponse:
        def view(request: HttpRequest) -> HttpResponse:
            self.read.append(self.router.db_for_read(Note))
            if write:
                self.router.db_for_write(Note)
            self.read.append(self.router.db_for_read(Note))
            return HttpResponse()

        request = RequestFactory().generic(method, "/", secure=True)
        request.COOKIES.update(cookies or {})
        self.read.clear()
        return ReadYourWrites(view)(request)

    def test_a_page_reads_from_the_replica(self) -> None:
        response = self.ask()
        self.assertEqual(self.read, ["replica1", "replica1"])
        self.assertNotIn(COOKIE, response.cookies)

    def test_after_a_write_the_same_request_reads_from_the_primary(self) -> None:
        response = self.ask(write=True)
        self.assertEqual(self.read, ["replica1", DEFAULT_DB_ALIAS])
        self.assertIn(COOKIE, response.cookies, "a GET that writes, too")

    def test_other_methods_use_the_primary_from_the_start(self) -> None:
        self.ask("POST")
        self.assertEqual(self.read, [DEFAULT_DB_ALIAS, DEFAULT_DB_ALIAS])

    def test_the_writer_reads_from_a_replica_only_when_it_has_what_was_written(self) -> None:
        self.fleet.positions["default"] = 150
        cookie = {COOKIE: self.ask("POST").cookies[COOKIE].value}
        self.fleet.look()
        self.ask(cookies=cookie)
        self.assertEqual(self.read[0], DEFAULT_DB_ALIAS)
        self.ask()
        self.assertEqual(self.read[0], "replica1", "others may read what was there before")
        self.fleet.positions["replica1"] = 150
        self.fleet.look()
        self.ask(cookies=cookie)
        self.assertEqual(self.read[0], "replica1")

    def test_the_cookie_is_closed_to_scripts_and_plain_http_and_is_short(self) -> None:
        morsel = self.ask("POST").cookies[COOKIE]
        self.assertTrue(morsel["httponly"] and morsel["secure"])
        self.assertEqual((morsel["samesite"], morsel["max-age"]), ("Lax", replicas.COOKIE_SECONDS))
        self.assertGreater(replicas.COOKIE_SECONDS, MOST_LAG_SECONDS + replicas.CHECK_SECONDS)

    def test_a_forged_cookie_is_none(self) -> None:
        for value in ("999999", "999999:x:y", ""):
            self.ask(cookies={COOKIE: value})
            self.assertEqual(self.read[0], "replica1")

    def test_what_is_no_page_reads_from_the_primary(self) -> None:
        self.ask()
        self.assertEqual(
            self.router.db_for_read(Note), DEFAULT_DB_ALIAS, "after a request, in the same thread"
        )
        with patch.object(self.fleet.watch, "fresh", side_effect=AssertionError("a replica was asked for")):
            note = Note.objects.create(author="Ada", text="two words")
            count(note.pk)
            call_command("clearsessions")
            self.assertEqual(self.router.db_for_read(Note), DEFAULT_DB_ALIAS)

    def test_a_view_can_ask_for_the_primary(self) -> None:
        def view(request: HttpRequest) -> HttpResponse:
            with use_primary_db:
                self.read.append(self.router.db_for_read(Note))
            self.read.append(self.router.db_for_read(Note))
            return HttpResponse()

        ReadYourWrites(view)(RequestFactory().get("/"))
        self.assertEqual(self.read, [DEFAULT_DB_ALIAS, "replica1"])

    def test_a_page_whose_replica_died_is_made_anew_from_the_primary(self) -> None:
        def view(request: HttpRequest) -> HttpResponse:
            self.read.append(self.router.db_for_read(Note))
            if self.read[-1] == "replica1":
                raise OperationalError("server closed the connection unexpectedly")
            return HttpResponse("whole")

        request = RequestFactory().get("/")
        request.resolver_match = type("Match", (), {"func": staticmethod(view), "args": (), "kwargs": {}})()
        middleware = ReadYourWrites(lambda request: HttpResponse())

        def handler(request: HttpRequest) -> HttpResponse:  # as Django's own
            try:
                return view(request)
            except OperationalError as error:
                answer = middleware.process_exception(request, error)
                if answer is None:
                    raise
                return answer

        middleware.get_response = handler
        connections = {"replica1": type("Connection", (), {"close": staticmethod(lambda: None)})()}
        with self.assertLogs("demo.replicas", "WARNING"), patch.object(replicas, "connections", connections):
            self.assertEqual(middleware(request).content, b"whole")
        self.assertEqual(self.read, ["replica1", DEFAULT_DB_ALIAS])
        self.assertEqual(self.fleet.fresh(), [], "nobody else is sent there before the next look")
        with self.assertRaises(OperationalError):  # the primary's own failure is no reason to try again
            ReadYourWrites(self._fail)(RequestFactory().get("/"))

    @staticmethod
    def _fail(request: HttpRequest) -> HttpResponse:
        raise OperationalError("the primary")


class SettingsTests(SimpleTestCase):
    code = (
        "import json; from django.conf import settings as s; "
        "print(json.dumps([s.DATABASES, getattr(s, 'DATABASE_ROUTERS', []), s.MIDDLEWARE]))"
    )

    def test_without_replicas_nothing_changes(self) -> None:
        databases, routers, middleware = json.loads(manage("shell", "--no-imports", "-c", self.code).stdout)
        self.assertEqual((list(databases), routers), (["default"], []))
        self.assertNotIn("demo.replicas.ReadYourWrites", middleware)

    def test_with_replicas(self) -> None:
        url = PRODUCTION["DATABASE_URL"]
        urls = f"{url.replace('db.', 'db2.')},{url.replace('db.', 'db3.')}"
        result = manage("shell", "--no-imports", "-c", self.code, REPLICA_URLS=urls)
        databases, routers, middleware = json.loads(result.stdout)
        self.assertEqual(routers, ["demo.replicas.Router"])
        hosts = {alias: entry["HOST"] for alias, entry in databases.items()}
        self.assertEqual(hosts["replica2"], "db3.example.org")
        self.assertEqual(databases["replica1"]["OPTIONS"]["connect_timeout"], 2)
        self.assertEqual(databases["replica1"]["OPTIONS"]["sslmode"], "verify-full")
        sessions = "django.contrib.sessions.middleware.SessionMiddleware"
        self.assertLess(middleware.index("demo.replicas.ReadYourWrites"), middleware.index(sessions))
        self.assertEqual(
            manage("check", "--deploy", "--fail-level", "WARNING", REPLICA_URLS=urls).returncode, 0
        )
