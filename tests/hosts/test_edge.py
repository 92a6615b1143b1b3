"""What the world sees: TLS, HTTP/2, the redirect, and nothing for a stranger's host name."""

from __future__ import annotations

import contextlib
import http.client
import re
import socket
import ssl
import time
from collections.abc import Callable
from uuid import uuid4

import pytest
from conftest import reached

from lab.served import NOT_SERVED, Connection, Page
from saltern.site.site import Site

pytestmark = pytest.mark.role("edge")
STRANGER = f"stranger-{uuid4().hex[:8]}.example"  # no site has an app of this name
NOT_BEFORE: dict[str, float] = {}  # by edge: when it may be asked again


@pytest.fixture
def edge_pages(site: Site, from_here: str) -> list[Page]:
    """The first page of each app at this edge host, as this machine finds it."""
    if not site.apps:
        pytest.skip("the site has no apps, so there is no page")
    port = site.settings.edge.https_port
    return [Page(app.hostnames[0], from_here, port) for app in site.apps.values()]


@pytest.fixture
def page(edge_pages: list[Page]) -> Page:
    """One of them, for what the edge itself does."""
    return edge_pages[0]


@pytest.fixture
def pause(host, site: Site) -> Callable[[], None]:
    """Wait until the edge may be asked once more: a client that asks too often is refused, and that is right."""
    settings = site.settings.edge
    most = min(settings.requests_per_second, settings.requests_per_second_busy, settings.new_connections_per_second)

    def wait() -> None:
        time.sleep(max(0.0, NOT_BEFORE.get(host.fleet_id, 0.0) - time.monotonic()))
        NOT_BEFORE[host.fleet_id] = time.monotonic() + 1.5 / most

    return wait


@pytest.fixture
def ask(pause: Callable[[], None], tls: ssl.SSLContext):
    """Ask for a path as a browser does; return the answer and its text."""

    def asked(page: Page, path: str, **headers: str):
        pause()
        with contextlib.closing(Connection(page, tls)) as connection:
            connection.request("GET", path, headers={name.replace("_", "-"): value for name, value in headers.items()})
            answer = connection.getresponse()
            return answer, answer.read().decode(errors="replace")

    return asked


def test_each_app_is_served_over_tls_under_each_of_its_names(site: Site, edge_pages: list[Page], ask) -> None:
    """What an app answers to / is its own affair; that it answers, and not the platform, is ours."""
    for app in site.apps.values():
        for name in app.hostnames:
            answer, _ = ask(Page(name, edge_pages[0].address, edge_pages[0].port), "/")
            assert answer.status not in NOT_SERVED, name


@pytest.mark.disturbs
def test_an_app_that_answers_before_it_has_read_all_is_heard(
    site: Site, edge_pages: list[Page], pause: Callable[[], None], tls: ssl.SSLContext
) -> None:
    """Who uploads with a session that has ended is told so: gunicorn's socket, closed unread, took that along."""
    for page in edge_pages:
        for _ in range(20):
            pause()
            with contextlib.closing(Connection(page, tls)) as connection:
                headers = {"Content-Type": "application/octet-stream"}
                connection.request("POST", "/", body=b"x" * 500_000, headers=headers)
                assert connection.getresponse().status not in NOT_SERVED, page.hostname


def test_one_edge_has_the_address_that_they_share(
    host, site: Site, request: pytest.FixtureRequest, edge_pages: list[Page], ask
) -> None:
    shared = site.fleet.virtual_address
    if shared is None:
        assert not host.run("systemctl is-active keepalived").stdout.startswith("active")
        return
    edges = [reached(request.config, name) for name in site.fleet.with_role("edge")]
    said = [edge.check_output("ip -oneline -4 address") for edge in edges]
    assert sum(f" {shared}/" in text for text in said) == 1
    if host.addr_from_here != host.addr_of_fleet:
        pytest.skip("this machine finds the edges at other addresses than the fleet's, and cannot know the shared one")
    for page in edge_pages:
        answer, _ = ask(Page(page.hostname, shared, page.port), "/")
        assert answer.status not in NOT_SERVED, page.hostname


def test_the_sandbox_of_keepalived_holds(host, site: Site) -> None:
    if site.fleet.virtual_address is None:
        pytest.skip("the edges share no address")
    told = host.check_output("systemd-analyze security keepalived --no-pager")
    assert float(re.findall(r"exposure level for .*: ([\d.]+)", told)[0]) <= 4


@pytest.mark.parametrize("path", ["/", "/no-such-page", "{static}no-such-file", "/admin/"])
@pytest.mark.parametrize("name", ["", STRANGER], ids=["its name", "a stranger's"])
def test_every_answer_has_the_headers_that_protect_a_visitor(
    site: Site, edge_pages: list[Page], ask, path: str, name: str
) -> None:
    for page, app in zip(edge_pages, site.apps.values(), strict=True):
        answer, body = ask(page, path.format(static=app.static_url), **({"Host": name} if name else {}))
        assert answer.getheader("Strict-Transport-Security") == "max-age=63072000"
        assert answer.getheader("X-Content-Type-Options") == "nosniff"
        assert re.fullmatch(r"[0-9a-f-]{36}", answer.getheader("X-Request-ID"))
        if name or (path.startswith("{static}") and app.error_pages is None):  # the platform's own error page
            assert "<!doctype html>" in body and "nginx" not in body and "HAProxy" not in body
            assert answer.getheader("Content-Security-Policy").startswith("default-src 'none'")


@pytest.mark.parametrize(
    ("target", "name", "status"),
    [
        ("/a?b=c", "{}", 301),
        ("//evil.example/a", "{}", 301),
        ("/", "{}:80", 301),
        ("/", "{}:8443", 301),
        ("http://{}/x", "{}", 301),
        ("http://evil.example/", "evil.example", 421),
        ("http://evil.example/", "{}", 400),
        ("http://{}/", "evil.example", 400),
        ("/", "evil.example", 421),
        ("/", "{}.", 421),
        ("/", "{}.evil.example", 421),
        ("/", "evil.example:{}", 421),
        ("/", "", 421),
        ("/", "127.0.0.1", 421),
        ("/", None, 421),
    ],
)
def test_plain_http_leads_to_the_apps_own_names_only(
    site: Site, page: Page, pause, target: str, name: str | None, status: int
) -> None:
    pause()
    connection = http.client.HTTPConnection(page.address, site.settings.edge.http_port, timeout=5)
    connection.putrequest("GET", target.format(page.hostname), skip_host=True)
    if name is not None:
        connection.putheader("Host", name.format(page.hostname))
    connection.endheaders()
    answer = connection.getresponse()
    assert answer.status == status
    where = answer.getheader("Location")
    assert where is None if status != 301 else where.startswith(page.url)
    if status != 400:  # what HAProxy cannot read it answers by itself
        assert answer.getheader("X-Content-Type-Options") == "nosniff"


HOST = b"Host: %s\r\n"
# What HAProxy refuses before it has a request. Before 3.2 such an answer has no setting (haproxy/haproxy#3032).
NO_REQUEST = {
    "garbage": b"\0\1\2garbage\r\n\r\n",
    "no version": b"GET /\r\n\r\n",
    "a space in a name": b"GET / HTTP/1.1\r\n" + HOST + b"A B: c\r\n\r\n",
    "two hosts": b"GET / HTTP/1.1\r\n" + HOST + b"Host: other.example\r\n\r\n",
    "another authority": b"GET http://other.example/ HTTP/1.1\r\n" + HOST + b"\r\n",
    "two lengths": b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\n",
    "no length": b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: x\r\n\r\n",
    "no chunk": b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
    "an unknown coding": b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: foo\r\n\r\n",
    "a huge cookie": b"GET / HTTP/1.1\r\n" + HOST + b"Cookie: " + b"a" * 20000 + b"\r\n\r\n",
    "a long line": b"GET /" + b"a" * 20000 + b" HTTP/1.1\r\n" + HOST + b"\r\n",
    "many headers": b"GET / HTTP/1.1\r\n" + HOST + b"A: b\r\n" * 120 + b"\r\n",
    "a null": b"GET /\0 HTTP/1.1\r\n" + HOST + b"\r\n",
    "bytes that are no text": b"GET /\xff\xfe HTTP/1.1\r\n" + HOST + b"\r\n",
}
A_REQUEST = {
    "a version to come": b"GET / HTTP/3.0\r\n" + HOST + b"\r\n",
    "no host": b"GET / HTTP/1.1\r\n\r\n",
    "a proxy's": b"CONNECT x.example:443 HTTP/1.1\r\nHost: x.example:443\r\n\r\n",
    "a trace": b"TRACE / HTTP/1.1\r\n" + HOST + b"\r\n",
    "all of the server": b"OPTIONS * HTTP/1.1\r\n" + HOST + b"\r\n",
    "a small method": b"get / HTTP/1.1\r\n" + HOST + b"\r\n",
    "an expectation": b"GET / HTTP/1.1\r\n" + HOST + b"Expect: 200-maybe\r\n\r\n",
    "another's name": b"GET / HTTP/1.1\r\nHost: " + STRANGER.encode() + b"\r\n\r\n",
}


def head_of(page: Page, port: int, tls: ssl.SSLContext | None, said: bytes) -> str:
    """The header of the answer to these bytes, in lower case; by plain HTTP without a TLS context."""
    with socket.create_connection((page.address, port), timeout=5) as raw:
        connection = tls.wrap_socket(raw, server_hostname=page.hostname) if tls else raw
        connection.sendall(said.replace(b"%s", page.hostname.encode()))
        found = b""
        with contextlib.suppress(ConnectionResetError):  # it closes while there is more to read
            while b"\r\n\r\n" not in found and (data := connection.recv(65536)):
                found += data
    return found.split(b"\r\n\r\n")[0].decode("latin-1").lower()


@pytest.mark.parametrize("secure", [True, False], ids=["https", "http"])
@pytest.mark.parametrize("kind", [*A_REQUEST, *NO_REQUEST])
def test_whatever_is_said_the_answer_protects_or_is_haproxys_bare_one(
    site: Site, page: Page, tls: ssl.SSLContext, pause, kind: str, secure: bool
) -> None:
    pause()
    port = page.port if secure else site.settings.edge.http_port
    head = head_of(page, port, tls if secure else None, {**A_REQUEST, **NO_REQUEST}[kind])
    if kind in NO_REQUEST:
        bare = {"content-length", "cache-control", "connection", "content-type"}
        assert not head or head.splitlines()[0] == "http/1.1 400 bad request"
        assert {line.split(":")[0] for line in head.splitlines()[1:]} <= bare
        return
    assert "x-content-type-options: nosniff" in head
    assert ("strict-transport-security: max-age=63072000" in head) == secure


def test_the_edge_listens_by_ipv6_too(host, site: Site) -> None:
    if not host.file("/proc/net/if_inet6").exists:
        pytest.skip("the host has no IPv6")
    for scheme, port in (("http", site.settings.edge.http_port), ("https", site.settings.edge.https_port)):
        listening = host.check_output(f"ss -Hltn 'sport = :{port}' | awk '{{print $4}}' | sort -u").split()
        assert listening == [f"0.0.0.0:{port}", f"[::]:{port}"]
        asked = f"curl -sk -o /dev/null -w '%{{http_code}}' -H 'Host: {STRANGER}' {scheme}://[::1]:{port}"
        assert host.run(asked).stdout == "421"


def test_only_the_host_itself_may_ask_whether_it_answers(page: Page, ask) -> None:
    """To all others it is a path like any that the app does not know."""
    (asked, _), (other, _) = ask(page, "/-/edge"), ask(page, f"/-/{uuid4().hex}")
    assert (asked.status, asked.getheader("Content-Type")) == (other.status, other.getheader("Content-Type"))


def test_http_is_redirected_to_https(site: Site, edge_pages: list[Page], pause) -> None:
    for page in edge_pages:
        pause()
        connection = http.client.HTTPConnection(page.address, site.settings.edge.http_port, timeout=5)
        connection.request("GET", "/some/page?x=1", headers={"Host": page.hostname})
        answer = connection.getresponse()
        assert (answer.status, answer.getheader("Location")) == (301, f"{page.url}some/page?x=1")


def test_http2_is_spoken(page: Page, tls: ssl.SSLContext) -> None:
    tls.set_alpn_protocols(["h2", "http/1.1"])
    with socket.create_connection((page.address, page.port), timeout=5) as raw:
        assert tls.wrap_socket(raw, server_hostname=page.hostname).selected_alpn_protocol() == "h2"


def test_old_tls_is_refused(page: Page, tls: ssl.SSLContext) -> None:
    tls.minimum_version, tls.maximum_version = ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1
    tls.set_ciphers("ALL:@SECLEVEL=0")
    with socket.create_connection((page.address, page.port), timeout=5) as raw, pytest.raises(ssl.SSLError):
        tls.wrap_socket(raw, server_hostname=page.hostname)


@pytest.mark.parametrize("name", [STRANGER, "{}.evil.example", ""], ids=["a stranger's", "its own and more", "none"])
def test_a_wrong_host_name_is_refused(page: Page, ask, name: str) -> None:
    answer, _ = ask(page, "/", Host=name.format(page.hostname))
    assert answer.status in (400, 421)
    assert answer.getheader("Set-Cookie") is None, "an app has answered"


def test_browsers_are_told_to_stay_on_https(page: Page, ask) -> None:
    for path in ("/", "/no-such-page"):
        answer, _ = ask(page, path)
        assert int(re.findall(r"max-age=(\d+)", answer.getheader("Strict-Transport-Security"))[0]) >= 31536000


def test_a_client_cannot_claim_another_address_or_scheme(edge_pages: list[Page], ask) -> None:
    """Django would redirect to https, or refuse the host, had it believed one of the headers."""
    forged = {"X_Forwarded_Proto": "http", "X_Forwarded_For": "127.0.0.1", "X_Forwarded_Host": STRANGER}
    for page in edge_pages:
        plain, _ = ask(page, "/")
        answer, body = ask(page, "/", Forwarded="proto=http", **forged)
        assert (answer.status, answer.getheader("Location")) == (plain.status, plain.getheader("Location")), body[:400]
        assert STRANGER not in body
