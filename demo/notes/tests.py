"""Tests of the whole project, without Postgres, Redis or root. README.md has the command."""

import io
import json
import logging
import os
import subprocess
import sys
import tempfile
import time
import unittest
import xmlrpc.client
from pathlib import Path
from typing import Any
from unittest.mock import patch

from django.conf import settings
from django.contrib.auth.models import User
from django.core.cache import cache
from django.core.management import CommandError, call_command
from django.db import DatabaseError
from django.db.migrations.recorder import MigrationRecorder
from django.db.utils import OperationalError
from django.test import Client, SimpleTestCase, TestCase, override_settings
from kombu.exceptions import OperationalError as BrokerError
from redis.exceptions import ConnectionError as RedisConnectionError

from demo.cache import breaker
from demo.celery import app as celery
from demo.logs import JsonFormatter, request_id
from notes.figures import KEY
from notes.models import Note
from words.models import WordCount
from words.tasks import MISSED, count, count_missed

PROJECT = Path(__file__).resolve().parent.parent
PRODUCTION = {
    "PATH": os.environ["PATH"],
    "PYTHONDONTWRITEBYTECODE": "1",
    # Port 1: nothing listens there, so whatever wants the database or the cache fails.
    "DATABASE_URL": "postgres://demo:p%40ss@db.example.org:1/demo?hostaddr=127.0.0.1&sslmode=verify-full"
    "&sslrootcert=/etc/ca.crt",
    "CACHE_URL": "redis://:p%40ss@127.0.0.1:1/0",
    "SECRET_KEY": "$starts-with-a-dollar-and-is-long-enough-for-check-deploy-0123456789",
    "ALLOWED_HOSTS": "demo.example.org, www.example.org",
    "CSRF_TRUSTED_ORIGINS": "https://demo.example.org",
    "STATIC_ROOT": "/nonexistent/static",
    "RELEASE_ID": "r42",
    "RELEASE_COMMIT": "abc123",
}
PROXY = {"X-Forwarded-Proto": "https", "Host": "testserver"}


def setUpModule() -> None:
    """Collects the static files once: pages are tested with the strict, hashed names of production."""
    for handler in logging.getLogger().handlers:
        handler.setLevel(logging.CRITICAL + 1)  # a test that expects a line asks for it with assertLogs
    static = unittest.enterModuleContext(tempfile.TemporaryDirectory())
    unittest.enterModuleContext(override_settings(STATIC_ROOT=static))
    call_command("collectstatic", interactive=False, verbosity=0)


def manage(*arguments: str, **environment: str | None) -> subprocess.CompletedProcess[str]:
    """Runs manage.py in the environment of production; a variable given as None is left out."""
    env = {name: value for name, value in (PRODUCTION | environment).items() if value is not None}
    return subprocess.run(
        [sys.executable, "manage.py", *arguments], cwd=PROJECT, env=env, capture_output=True, text=True
    )


class PageTestCase(TestCase):
    """Asks as the proxy does: over TLS that ended before."""

    def setUp(self) -> None:
        cache.clear()
        self.client = Client(headers=PROXY)


class GuestbookTests(PageTestCase):
    def test_empty(self) -> None:
        response = self.client.get("/")
        self.assertContains(response, "The first page is still white.")
        self.assertContains(response, settings.RELEASE_ID)

    def test_a_note_is_written_and_read_back(self) -> None:
        response = self.client.post("/", {"author": "Ada", "text": "Hello"}, follow=True)
        self.assertEqual(response.redirect_chain, [("/", 302)])
        self.assertContains(response, "Your note is in the database.")
        self.assertContains(response, "<strong>Ada</strong>")
        self.assertEqual(list(Note.objects.values_list("author", "text")), [("Ada", "Hello")])

    def test_newest_first_and_only_the_last(self) -> None:
        for number in range(10):
            Note.objects.create(author=f"author-{number}", text="x")
        body = self.client.get("/").content.decode()
        self.assertLess(body.index("author-9"), body.index("author-2"))
        self.assertNotIn("author-1<", body)
        self.assertIn("8 of 10", body)

    def test_form_errors_are_shown_and_nothing_is_lost(self) -> None:
        response = self.client.post("/", {"author": "", "text": "keep this"})
        self.assertContains(response, "Please tell us your name.", status_code=422)
        self.assertContains(response, "keep this", status_code=422)
        self.assertContains(response, 'aria-invalid="true"', status_code=422)
        self.assertFalse(Note.objects.exists())

    def test_limits(self) -> None:
        for data in ({"author": "a" * 61, "text": "x"}, {"author": "a", "text": "x" * 501}):
            self.assertEqual(self.client.post("/", data).status_code, 422)
        self.assertEqual(self.client.post("/", {"author": "a", "text": "nul\0"}).status_code, 422)

    def test_html_is_escaped(self) -> None:
        Note.objects.create(author="<script>alert(1)</script>", text="<img src=x onerror=alert(1)>")
        response = self.client.get("/")
        self.assertNotContains(response, "<script")
        self.assertNotContains(response, "<img src=x")
        self.assertContains(response, "&lt;script&gt;alert(1)&lt;/script&gt;")

    def test_a_form_without_token_is_refused_with_our_page(self) -> None:
        strict = Client(enforce_csrf_checks=True, headers=PROXY)
        response = strict.post("/", {"author": "Eve", "text": "forged"})
        self.assertContains(response, "This form has gone stale", status_code=403)
        self.assertFalse(Note.objects.exists())


class WordTests(PageTestCase):
    """Without BROKER_URL a task runs at once, when the note is committed."""

    def test_a_note_is_counted_and_the_page_says_so(self) -> None:
        with self.captureOnCommitCallbacks(execute=True):
            self.client.post("/", {"author": "Ada", "text": "three short words"})
        found = WordCount.objects.get()
        self.assertEqual((found.words, found.runs, found.release), (3, 1, settings.RELEASE_ID))
        self.assertContains(self.client.get("/"), "3 words</span>")

    def test_a_task_that_is_delivered_again_does_no_harm(self) -> None:
        note = Note.objects.create(author="Ada", text="one")
        count.delay(note.pk)
        count.delay(note.pk)
        found = WordCount.objects.get()
        self.assertEqual((found.words, found.runs), (1, 2))
        self.assertContains(self.client.get("/"), "1 word</span>")

    def test_a_note_that_is_gone_needs_no_count(self) -> None:
        count.delay(4711)
        self.assertFalse(WordCount.objects.exists())

    def test_the_clock_finds_what_was_missed_and_only_that(self) -> None:
        missed, _fresh = (Note.objects.create(author="Ada", text="one two") for _ in range(2))
        Note.objects.filter(pk=missed.pk).update(created=missed.created - 2 * MISSED)
        self.assertEqual(count_missed.delay().get(), 1)
        self.assertEqual(WordCount.objects.get().note, missed)
        self.assertEqual(count_missed.delay().get(), 0)

    def test_a_broker_that_is_down_costs_no_note(self) -> None:
        down = patch("words.tasks.count.apply_async", side_effect=BrokerError("redis://:hunter2@10.0.0.1"))
        with down, self.assertLogs("words.tasks", "WARNING"), self.captureOnCommitCallbacks(execute=True):
            response = self.client.post("/", {"author": "Ada", "text": "kept"})
        self.assertEqual(response.status_code, 302)
        self.assertTrue(Note.objects.exists())

    def test_the_settings_lose_no_task(self) -> None:
        conf = celery.conf
        self.assertTrue(conf.task_acks_late and conf.task_reject_on_worker_lost)
        self.assertEqual(conf.worker_prefetch_multiplier, 1)
        self.assertEqual(conf.broker_transport_options["visibility_timeout"], 900)


class StatisticsTests(PageTestCase):
    def test_second_visit_is_answered_from_the_cache(self) -> None:
        Note.objects.create(author="Ada", text="one")
        self.assertContains(self.client.get("/statistics/"), "cache miss")
        Note.objects.create(author="Bob", text="two")
        response = self.client.get("/statistics/")
        self.assertContains(response, "cache hit")
        self.assertEqual(response.context["answer"].figures.notes, 1)
        cache.delete(KEY)
        figures = self.client.get("/statistics/").context["answer"].figures
        self.assertEqual((figures.notes, figures.authors, figures.today), (2, 2, 2))


@override_settings(
    CACHES={"default": {"BACKEND": "demo.cache.RedisCache", "LOCATION": "redis://127.0.0.1:1/0"}}
)
class NoCacheTests(TestCase):
    """Nothing listens on port 1, as when Redis is off."""

    def setUp(self) -> None:
        self.client = Client(headers=PROXY)
        self.addCleanup(setattr, breaker, "_until", breaker._until)

    def test_pages_go_on_and_say_so_once(self) -> None:
        with self.assertLogs("demo.cache", "ERROR") as logs:
            for address in ("/", "/statistics/", "/"):
                self.assertContains(self.client.get(address), "cache-down")
        self.assertEqual(len(logs.records), 1)

    def test_who_is_logged_in_stays_so_and_can_log_out(self) -> None:
        user = User.objects.create_superuser("ada")
        with self.assertLogs("demo.cache", "ERROR"):
            self.client.force_login(user)
        self.assertEqual(self.client.get("/admin/").status_code, 200)
        self.assertEqual(self.client.post("/admin/logout/").status_code, 200)
        self.assertEqual(self.client.get("/admin/").status_code, 302)

    def test_health_names_it_and_the_proxy_may_go_on(self) -> None:
        for path, answer in (("/healthz", (503, "failing")), ("/-/serving", (200, "degraded"))):
            with self.assertLogs("demo", "ERROR"):
                response = self.client.get(path)
            self.assertEqual((response.status_code, response.json()["status"]), answer)
        self.assertEqual(response.json()["checks"]["cache"]["problem"], "does not answer")

    def test_every_call_answers_as_an_empty_cache_does(self) -> None:
        with self.assertLogs("demo.cache", "ERROR"):
            cache.set("key", 1)
        self.assertEqual((cache.get("key", 2), cache.get_many(["key"]), "key" in cache), (2, {}, False))
        self.assertEqual(
            (cache.add("key", 1), cache.touch("key"), cache.delete("key")), (False, False, False)
        )
        self.assertEqual(
            (cache.set_many({"key": 1}), cache.delete_many(["key"]), cache.clear()), ([], None, False)
        )
        self.assertEqual(cache.get_or_set("key", 3), 3)
        with self.assertRaises(ValueError):
            cache.incr("key")

    def test_it_is_asked_again_after_a_pause_by_one_thread(self) -> None:
        with self.assertLogs("demo.cache", "ERROR"):
            cache.get("key")
        self.assertFalse(breaker.may_ask())
        breaker._until = time.monotonic() - 1
        self.assertEqual((breaker.may_ask(), breaker.may_ask()), (True, False))
        with self.assertLogs("demo.cache", "WARNING"):
            breaker.answered()
        self.assertEqual((breaker.may_ask(), breaker.is_open), (True, False))


class HeaderTests(PageTestCase):
    def test_content_security_policy_and_nothing_inline(self) -> None:
        Note.objects.create(author="Ada", text="Hello")
        for address in ("/", "/statistics/", "/RPC2", "/nowhere"):
            response = self.client.get(address)
            policy = response.headers["Content-Security-Policy"]
            self.assertIn("default-src 'self'", policy)
            self.assertNotIn("unsafe", policy)
            for inline in ("<style", "<script", " style=", " onclick=", "javascript:"):
                self.assertNotIn(inline, response.content.decode(), address)

    def test_static_files_have_their_hash_in_the_name(self) -> None:
        page = self.client.get("/").content.decode()
        self.assertRegex(page, r'href="/static/notes/site\.[0-9a-f]{12}\.css"')
        sheet = next(Path(settings.STATIC_ROOT, "notes").glob("site.????????????.css")).read_text()
        self.assertRegex(sheet, r'url\("pans\.[0-9a-f]{12}\.svg"\)')

    def test_unknown_host_is_refused(self) -> None:
        with self.assertLogs("django.security.DisallowedHost"):
            self.assertEqual(self.client.get("/", headers={"Host": "evil.example.org"}).status_code, 400)

    def test_request_id_comes_back(self) -> None:
        given = {"X-Request-ID": "0123456789abcdef"}
        self.assertEqual(self.client.get("/", headers=given).headers["X-Request-ID"], "0123456789abcdef")

    def test_request_id_that_does_not_look_like_one_is_replaced(self) -> None:
        for bad in ("short", "x" * 65, "<script>alert(1)</script>", ""):
            answer = self.client.get("/-/version", headers={"X-Request-ID": bad}).headers["X-Request-ID"]
            self.assertRegex(answer, "^[0-9a-f]{32}$")

    def test_plain_http_is_redirected_but_not_for_probes(self) -> None:
        plain = Client()
        response = plain.get("/")
        self.assertEqual((response.status_code, response.headers["Location"]), (301, "https://testserver/"))
        self.assertEqual(plain.get("/healthz").status_code, 200)
        self.assertEqual(plain.get("/-/version").status_code, 200)


class ErrorPageTests(PageTestCase):
    def test_404(self) -> None:
        self.assertContains(self.client.get("/nowhere"), "This pond is dry", status_code=404)

    def test_500_names_the_request_and_hides_the_reason(self) -> None:
        self.client.raise_request_exception = False
        with (
            patch("notes.views.database_round_trip_ms", side_effect=OperationalError("host=10.0.0.1 user=x")),
            self.assertLogs("django.request", "ERROR"),
        ):
            response = self.client.get("/", headers={"X-Request-ID": "find-me-0001"})
        self.assertContains(response, "find-me-0001", status_code=500)
        self.assertNotContains(response, "10.0.0.1", status_code=500)


class HealthTests(PageTestCase):
    def test_good(self) -> None:
        response = self.client.get("/healthz")
        self.assertEqual(response.status_code, 200)
        body = response.json()
        self.assertEqual(body["status"], "ok")
        self.assertEqual(
            {name: check["ok"] for name, check in body["checks"].items()},
            {"database": True, "cache": True, "migrations": True},
        )
        self.assertIn("no-store", response.headers["Cache-Control"])

    def failing(self, proxy: tuple[int, str] = (503, "failing")) -> dict[str, Any]:
        for path, answer in (("/-/serving", proxy), ("/healthz", (503, "failing"))):
            with self.assertLogs("demo.health", "ERROR"):
                response = self.client.get(path)
            self.assertEqual((response.status_code, response.json()["status"]), answer)
        return response.json()["checks"]

    def test_pending_migration(self) -> None:
        MigrationRecorder.Migration.objects.filter(app="notes", name="0001_initial").delete()
        checks = self.failing()
        self.assertEqual(checks["migrations"]["problem"], "1 pending, the first is notes.0001_initial")
        self.assertTrue(checks["database"]["ok"])

    def test_migrations_of_a_newer_release_are_no_problem(self) -> None:
        MigrationRecorder.Migration.objects.create(app="notes", name="9999_from_the_future")
        self.assertEqual(self.client.get("/healthz").status_code, 200)

    def test_cache_that_does_not_answer_and_its_secrets(self) -> None:
        with patch("demo.health.cache.set", side_effect=RedisConnectionError("redis://:hunter2@10.0.0.1")):
            checks = self.failing((200, "degraded"))
        self.assertEqual(checks["cache"]["problem"], "ConnectionError")
        self.assertNotIn("hunter2", json.dumps(checks))

    def test_cache_that_forgets(self) -> None:
        with patch("demo.health.cache.get", return_value=None):
            self.assertFalse(self.failing((200, "degraded"))["cache"]["ok"])

    def test_database_that_does_not_answer(self) -> None:
        with patch("demo.health.connection.cursor", side_effect=OperationalError("password=hunter2")):
            checks = self.failing()
        self.assertEqual(checks["database"]["problem"], "OperationalError")
        self.assertFalse(checks["migrations"]["ok"])
        self.assertTrue(checks["cache"]["ok"])
        self.assertNotIn("hunter2", json.dumps(checks))

    def test_command(self) -> None:
        out = io.StringIO()
        call_command("health", stdout=out)
        self.assertIn("migrations  ok", out.getvalue())
        with (
            patch("demo.health.cache.get", return_value=None),
            self.assertLogs("demo.health", "ERROR"),
            self.assertRaisesMessage(CommandError, "failing: cache"),
        ):
            call_command("health", stdout=io.StringIO())

    @override_settings(RELEASE_ID="r42", RELEASE_COMMIT="abc123")
    def test_version_needs_no_database(self) -> None:
        with self.assertNumQueries(0):
            response = self.client.get("/-/version")
        self.assertEqual(response.json(), {"release": "r42", "commit": "abc123"})

    def test_a_visitor_sees_what_proxies_say_of_the_request_but_no_cookie(self) -> None:
        headers = {"X-Forwarded-For": "192.0.2.1", "Cookie": "a=secret", "Authorization": "Basic secret"}
        response = self.client.get("/-/request", headers=headers)
        self.assertEqual(response.json()["headers"]["HTTP_X_FORWARDED_FOR"], "192.0.2.1")
        self.assertEqual(response.json()["scheme"], "https")
        self.assertNotIn("secret", response.text)


class ClientTransport(xmlrpc.client.Transport):
    """Lets the stock ServerProxy talk to Django's test client."""

    def __init__(self, client: Client) -> None:
        super().__init__()
        self.client = client

    def single_request(self, host: Any, handler: str, request_body: Any, verbose: bool = False) -> Any:
        response = self.client.post(handler, request_body, content_type="text/xml")
        assert response.status_code == 200, response.status_code
        parser, unmarshaller = self.getparser()
        parser.feed(response.content)
        parser.close()
        return unmarshaller.close()


class RPCTests(PageTestCase):
    def setUp(self) -> None:
        # With the CSRF check on, because RPC clients have no token.
        self.client = Client(enforce_csrf_checks=True, headers=PROXY)
        transport = ClientTransport(self.client)
        self.proxy: Any = xmlrpc.client.ServerProxy("https://testserver", transport=transport)

    def json_call(self, method: str, *parameters: Any) -> dict[str, Any]:
        payload = {"jsonrpc": "2.0", "id": 7, "method": method, "params": list(parameters)}
        answer = self.client.post("/RPC2", json.dumps(payload), content_type="application/json").json()
        self.assertEqual(answer["id"], 7)
        return answer

    def test_xml_rpc(self) -> None:
        identifier = self.proxy.notes.add("Ada", "Hello, Łódź & <b>")
        self.assertEqual(Note.objects.get().pk, identifier)
        self.assertEqual(self.proxy.notes.count(), 1)
        (note,) = self.proxy.notes.latest(5)
        self.assertEqual((note["author"], note["text"]), ("Ada", "Hello, Łódź & <b>"))
        self.assertEqual(self.proxy.demo.version()["release"], settings.RELEASE_ID)
        self.assertEqual(self.proxy.system.methodSignature("notes.add"), ["int", "string", "string"])

    def test_json_rpc(self) -> None:
        identifier = self.json_call("notes.add", "Ada", "Hello")["result"]
        self.assertEqual(Note.objects.get().pk, identifier)
        self.assertEqual(self.json_call("notes.count")["result"], 1)
        self.assertEqual(self.json_call("notes.latest", 1)["result"][0]["text"], "Hello")
        self.assertEqual(self.json_call("notes.words", identifier)["result"], {})
        count.delay(identifier)
        self.assertEqual(self.json_call("notes.words", identifier)["result"]["words"], 1)
        self.assertEqual(self.json_call("notes.words", "1")["error"]["code"], -32602)

    def test_the_forms_rules_hold_here_too(self) -> None:
        with self.assertRaisesRegex(xmlrpc.client.Fault, "author: Please tell us your name") as caught:
            self.proxy.notes.add("", "x")
        self.assertEqual(caught.exception.faultCode, -32602)
        self.assertIn("at most 500", self.json_call("notes.add", "Ada", "x" * 501)["error"]["message"])
        self.assertEqual(self.json_call("notes.add", ["Ada"], 5)["error"]["code"], -32602)
        self.assertEqual(self.json_call("notes.latest", 101)["error"]["code"], -32602)
        self.assertFalse(Note.objects.exists())

    def test_a_database_error_is_logged_and_not_told(self) -> None:
        for call in (self.proxy.notes.count, lambda: self.json_call("notes.count")["error"]["message"]):
            with (
                patch("notes.rpc.Note.objects.count", side_effect=DatabaseError("user=hunter2")),
                self.assertLogs("notes.rpc", "ERROR") as logs,
            ):
                try:
                    told = str(call())
                except xmlrpc.client.Fault as fault:
                    told = fault.faultString
            self.assertIn("the log has the reason", told)
            self.assertNotIn("hunter2", told)
            self.assertIn("hunter2", logs.output[0])

    def test_multicall_cannot_go_round_permissions(self) -> None:
        self.assertNotIn("system.multicall", self.proxy.system.listMethods())
        with self.assertRaises(xmlrpc.client.Fault):
            self.proxy.system.multicall([{"methodName": "notes.count", "params": []}])

    def test_entity_bombs_are_refused(self) -> None:
        bomb = '<!DOCTYPE x [<!ENTITY a "boom">]><methodCall><methodName>&a;</methodName></methodCall>'
        response = self.client.post("/RPC2", bomb, content_type="text/xml")
        self.assertIn("EntitiesForbidden", response.content.decode())

    def test_the_page_lists_the_methods(self) -> None:
        response = self.client.get("/RPC2")
        self.assertContains(response, "notes.add")
        self.assertContains(response, "https://testserver/RPC2")


class AdminTests(PageTestCase):
    def test_notes_are_in_the_admin(self) -> None:
        note = Note.objects.create(author="Ada", text="Hello")
        self.assertEqual(self.client.get("/admin/notes/note/").status_code, 302)
        self.client.force_login(User.objects.create_superuser("ops"))
        self.assertContains(self.client.get("/admin/notes/note/"), "Ada")
        self.assertContains(self.client.get(f"/admin/notes/note/{note.pk}/change/"), "Hello")


class LogTests(SimpleTestCase):
    def test_a_line_is_json_with_release_and_request(self) -> None:
        record = logging.LogRecord("shop", logging.INFO, __file__, 1, "sold %s\nforged line", ("tea",), None)
        record.fields = {"price": 3}
        token = request_id.set("abcdef12")
        self.addCleanup(request_id.reset, token)
        text = JsonFormatter("r42").format(record)
        self.assertNotIn("\n", text)
        line = json.loads(text)
        self.assertEqual(
            {name: line[name] for name in ("level", "logger", "message", "release", "request_id", "price")},
            {
                "level": "INFO",
                "logger": "shop",
                "message": "sold tea\nforged line",
                "release": "r42",
                "request_id": "abcdef12",
                "price": 3,
            },
        )

    def test_djangos_own_lines_have_the_request_id_too(self) -> None:
        with self.assertLogs("django.request", "WARNING") as logs:
            Client(headers=PROXY).get("/nowhere", headers={"X-Request-ID": "find-me-0002"})
        line = json.loads(JsonFormatter("r42").format(logs.records[0]))
        self.assertEqual(line["request_id"], "find-me-0002")

    def test_exceptions_stay_on_one_line(self) -> None:
        try:
            raise ValueError("broken")
        except ValueError:
            record = logging.LogRecord("shop", logging.ERROR, __file__, 1, "no", (), sys.exc_info())
        text = JsonFormatter("r42").format(record)
        self.assertNotIn("\n", text)
        self.assertIn("ValueError: broken", json.loads(text)["exception"])

    def test_a_request_is_logged_once_without_its_query(self) -> None:
        with self.assertLogs("demo.request", "INFO") as logs:
            Client(headers=PROXY).get("/nowhere?token=hunter2")
        (record,) = logs.records
        self.assertEqual((record.fields["path"], record.fields["status"]), ("/nowhere", 404))
        self.assertNotIn("hunter2", str(vars(record)["fields"]) + record.getMessage())


class EnvironmentTests(SimpleTestCase):
    """manage.py in a new process, with the settings of production and no server to talk to."""

    def test_all_missing_variables_in_one_line(self) -> None:
        for command in ("check", "migrate", "collectstatic"):
            result = manage(command, SECRET_KEY=None, DATABASE_URL="", STATIC_ROOT=None)
            self.assertEqual(result.returncode, 1)
            self.assertEqual(result.stdout, "")
            self.assertEqual(len(result.stderr.strip().splitlines()), 1, result.stderr)
            self.assertIn("missing in the environment: SECRET_KEY, DATABASE_URL, STATIC_ROOT", result.stderr)

    def test_unknown_log_level(self) -> None:
        result = manage("check", LOG_LEVEL="LOUD")
        self.assertEqual(result.returncode, 1)
        self.assertIn("LOG_LEVEL is 'LOUD', allowed: DEBUG, INFO", result.stderr)

    def test_check_deploy_is_clean_without_any_server(self) -> None:
        result = manage("check", "--deploy", "--fail-level", "WARNING")
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertIn("no issues", result.stdout)

    def test_collectstatic_needs_no_server(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            result = manage("collectstatic", "--noinput", STATIC_ROOT=folder)
            self.assertEqual(result.returncode, 0, result.stderr)
            self.assertTrue(Path(folder, "staticfiles.json").is_file())

    def test_settings_from_the_environment(self) -> None:
        names = ["DATABASES", "CACHES", "ALLOWED_HOSTS", "SECRET_KEY", "DEBUG", "SESSION_COOKIE_SECURE"]
        code = (
            "import json; from django.conf import settings as s; "
            f"print(json.dumps({{n: getattr(s, n) for n in {names}}}))"
        )
        result = manage("shell", "--no-imports", "-c", code)
        values = json.loads(result.stdout)
        database = values["DATABASES"]["default"]
        self.assertEqual((database["HOST"], database["PASSWORD"]), ("db.example.org", "p@ss"))
        self.assertEqual(
            database["OPTIONS"],
            {
                "connect_timeout": 5,
                "tcp_user_timeout": 5000,
                "keepalives_idle": 3,
                "keepalives_interval": 1,
                "application_name": "demo r42",
                "hostaddr": "127.0.0.1",
                "sslmode": "verify-full",
                "sslrootcert": "/etc/ca.crt",
            },
        )
        self.assertEqual(values["CACHES"]["default"]["LOCATION"], PRODUCTION["CACHE_URL"])
        self.assertEqual(values["ALLOWED_HOSTS"], ["demo.example.org", "www.example.org"])
        self.assertEqual(values["SECRET_KEY"], PRODUCTION["SECRET_KEY"])
        self.assertIs(values["DEBUG"], False)
        self.assertIs(values["SESSION_COOKIE_SECURE"], True)

    def test_debug_needs_no_collected_files_and_no_https(self) -> None:
        code = (
            "from django.core.management import call_command; from django.test import Client; "
            "call_command('migrate', verbosity=0); answer = Client(headers={'Host': 'localhost'}).get('/'); "
            "print(answer.status_code, b'/static/notes/site.css' in answer.content)"
        )
        local = {
            "DATABASE_URL": "sqlite://:memory:",
            "CACHE_URL": "locmemcache://",
            "ALLOWED_HOSTS": "localhost",
        }
        result = manage("shell", "--no-imports", "-c", code, DEBUG="1", STATIC_ROOT=None, **local)
        self.assertIn("200 True", result.stdout, result.stderr)

    def test_no_migration_is_forgotten(self) -> None:
        result = manage(
            "makemigrations",
            "--check",
            "--dry-run",
            DATABASE_URL="sqlite://:memory:",
            CACHE_URL="locmemcache://",
        )
        self.assertEqual(result.returncode, 0, result.stdout + result.stderr)
