"""What visitors see while an app is down or in maintenance, by whatever it is that does not answer."""

from __future__ import annotations

import ssl
import time
from collections.abc import Iterator
from http.client import HTTPResponse

import pytest

from lab.apply import apply, explain
from lab.host import Host
from lab.lab import Lab
from lab.served import Connection, Page, ca_file, pages

FILE = "/static/admin/js/vendor/jquery/jquery.min.js"


class Visitor:
    """A browser that trusts the fleet's CA."""

    def __init__(self, lab: Lab) -> None:
        self.tls = ssl.create_default_context(cafile=str(ca_file(lab.site)))
        self.pages = {page.hostname.split(".")[0]: page for page in pages(lab.site)}

    def sees(self, app: str, path: str = "/", method: str = "GET", body: bytes = b"") -> tuple[HTTPResponse, str]:
        page: Page = self.pages[app]
        connection = Connection(page, self.tls, 15)
        connection.request(method, path, body or None)
        answer = connection.getresponse()
        text = answer.read().decode()
        connection.close()
        return answer, text

    def waits_for(self, app: str, status: int, seconds: float = 20) -> None:
        until = time.monotonic() + seconds
        while self.sees(app)[0].status != status:
            assert time.monotonic() < until, f"{app} did not answer {status}"
            time.sleep(0.2)


@pytest.fixture
def visitor(lab: Lab) -> Visitor:
    return Visitor(lab)


@pytest.fixture(scope="module", autouse=True)
def as_it_was(one: Host) -> Iterator[None]:
    yield
    for app in ("demo", "bugsink"):
        said(one, app, "off")
    on(one, "systemctl start nginx")


def on(host: Host, command: str) -> str:
    done = host.execute(["sh", "-c", command], capture=True)
    assert done.returncode == 0, f"{command}: {done.stdout[-2000:]}{done.stderr[-2000:]}"
    return done.stdout.strip()


def said(host: Host, app: str, *words: str) -> str:
    quoted = " ".join(f"'{word}'" for word in words)
    return on(host, f"cd /srv/saltern && salt-call edge.maintenance {app} {quoted} --out=newline_values_only")


def protected(answer: HTTPResponse, seconds: int | None = None) -> None:
    """Whatever says no, the visitor's browser is told the same."""
    assert answer.getheader("Strict-Transport-Security") and answer.getheader("X-Content-Type-Options") == "nosniff"
    assert answer.getheader("Content-Security-Policy").startswith("default-src 'none'")
    assert answer.getheader("X-Request-ID") and answer.getheader("Cache-Control") == "no-store"
    assert answer.getheader("X-Saltern-Error") is None
    told = int(answer.getheader("Retry-After"))
    assert told == seconds if seconds else told > 0


def test_an_app_that_does_not_run_has_its_own_page_or_ours_with_its_name(one: Host, visitor: Visitor) -> None:
    """nginx says so, and the edge shows the page."""
    for app in ("demo", "bugsink"):
        # Its link leads nowhere for a moment: as good as a dead app, and no unit's restart races with this.
        on(one, f"mv /srv/apps/{app}/current.sock /srv/apps/{app}/away.sock")
    try:
        for app, words in (("demo", "The notes rest"), ("bugsink", "bugsink did not answer as it should")):
            answer, text = visitor.sees(app)
            assert answer.status == 502 and words in text, text
            protected(answer, 10)
    finally:
        for app in ("demo", "bugsink"):
            on(one, f"mv /srv/apps/{app}/away.sock /srv/apps/{app}/current.sock")
    assert visitor.sees("demo")[0].status == 200


def test_so_it_has_while_no_web_host_answers(one: Host, visitor: Visitor) -> None:
    """The edge says so."""
    on(one, "systemctl stop nginx")
    try:
        visitor.waits_for("demo", 503)
        for app, words in (("demo", "The notes rest"), ("bugsink", "bugsink is not available right now")):
            answer, text = visitor.sees(app)
            assert answer.status == 503 and words in text, text
            protected(answer, 10)
    finally:
        on(one, "systemctl start nginx")
        visitor.waits_for("demo", 200)


@pytest.mark.slow("trixie")
def test_maintenance_begins_and_ends_without_a_reload_and_is_no_drift(one: Host, visitor: Visitor) -> None:
    worker = "systemctl show -p MainPID haproxy; cat /proc/$(systemctl show -P MainPID haproxy)/task/*/children"
    before = on(one, worker)
    assert "in maintenance since" in said(one, "demo", "on", 'message=We <move> & "grow"; 100 %[src]', "until=23:59")
    try:
        for path in ("/", FILE, "/no-such-page", "/-/version"):
            answer, text = visitor.sees("demo", path)
            assert answer.status == 503 and "The notes are being looked after" in text
            assert "We &lt;move&gt; &amp; &quot;grow&quot;; 100 %[src] We expect to be back by 23:59 on " in text
            protected(answer)
            assert 120 <= int(answer.getheader("Retry-After")) <= 86400
        assert visitor.sees("demo", "/", "POST", b"x" * 2000)[0].status == 503
        assert visitor.sees("bugsink")[0].status < 400, "another app is served"
        assert on(one, worker) == before
        assert "release" in on(one, "cd /srv/saltern && salt-call edge.sees demo --out=json"), (
            "a deploy sees its release"
        )
        assert "visitors read" in on(one, "cd /srv/saltern && salt-call release.status demo --out=json")
        planned = apply(one, plan=True)
        assert planned.ok and not planned.changed, explain(planned)
        on(one, "systemctl restart haproxy")
        visitor.waits_for("bugsink", 302)
        assert visitor.sees("demo")[0].status == 503, "a restart forgot it"
        address = visitor.pages["demo"].address.rsplit(".", 1)[0] + ".0/24"
        assert "still get through" in said(one, "demo", "on", f"allow={address}")
        assert visitor.sees("demo")[0].status == 200
    finally:
        assert said(one, "demo", "off").endswith("not in maintenance")
    answer, _ = visitor.sees("demo")
    assert answer.status == 200 and answer.getheader("Retry-After") is None


# Halts an apply when Salt has read every SLS and begins with the first state, says things, and lets it go on.
MEANWHILE = """
cd /srv/saltern
salt-call -l info state.apply --out=json >/tmp/applied.json 2>/tmp/applied.log & apply=$!
until grep -q 'Executing state' /tmp/applied.log; do kill -0 $apply || exit 3; sleep 0.02; done
kill -STOP $apply
{said}
kill -CONT $apply
wait $apply
"""


def test_an_apply_that_runs_meanwhile_undoes_nothing_that_is_said(one: Host, visitor: Visitor) -> None:
    say = "salt-call edge.maintenance demo {} >/dev/null; salt-call edge.{} web-to-come {} >/dev/null"
    try:
        on(one, MEANWHILE.format(said=say.format("on", "take_out", "may_be_unknown=True")))
        assert "in maintenance since " in said(one, "demo") and visitor.sees("demo")[0].status == 503
        assert "web-to-come" in on(one, "cat /var/lib/saltern/edge/out.json")
        on(one, MEANWHILE.format(said=say.format("off", "forget", "")))
        assert said(one, "demo").endswith("not in maintenance") and visitor.sees("demo")[0].status == 200
        assert "web-to-come" not in on(one, "cat /var/lib/saltern/edge/out.json")
    finally:
        said(one, "demo", "off")


def test_a_haproxy_that_was_just_reading_its_files_has_it_a_second_later(one: Host, visitor: Visitor) -> None:
    """As if it had been told while it was reloaded: the files say so, and it does not."""
    try:
        said(one, "demo", "on")
        on(one, "systemctl stop saltern-edge-sweep.service")
        tell = "import socket; s = socket.socket(socket.AF_UNIX); s.connect('/run/haproxy/admin.sock'); "
        tell += "s.sendall(b'clear map /etc/haproxy/resting.map\\n'); s.recv(99)"
        on(one, f'python3 -c "{tell}"')
        assert visitor.sees("demo")[0].status == 200
        on(one, "systemctl start saltern-edge-sweep.service")
        visitor.waits_for("demo", 503, 5)
        assert "in maintenance since " in said(one, "demo")
    finally:
        said(one, "demo", "off")
