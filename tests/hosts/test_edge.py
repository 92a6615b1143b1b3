"""What the world sees: TLS, HTTP/2, the redirect, and nothing for a stranger's host name."""

from __future__ import annotations

import contextlib
import http.client
import json
import re
import socket
import ssl
import xmlrpc.client
from http.cookies import SimpleCookie
from pathlib import Path
from urllib.parse import urlencode
from uuid import uuid4

import pytest
from conftest import reached

from lab.served import Connection, Page, ca_file, get, pages
from saltern.edge import clientheaders

pytestmark = pytest.mark.role("edge")


@pytest.fixture
def page(host, site: Path) -> Page:
    """The demo's page at this edge host."""
    demo = next(page for page in pages(site) if page.hostname.startswith("demo."))
    return Page(demo.hostname, host.addr_of_fleet, demo.port)


@pytest.fixture
def tls(site: Path) -> ssl.SSLContext:
    """A client that trusts only the fleet's own CA."""
    return ssl.create_default_context(cafile=str(ca_file(site)))


def ask(page: Page, tls: ssl.SSLContext, method: str, path: str, body: str = "", **headers: str):
    connection = Connection(page, tls)
    connection.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
    answer = connection.getresponse()
    return answer, answer.read().decode()


def test_the_page_is_served_over_tls(page: Page, site: Path) -> None:
    status, body = get(page, ca_file(site))
    assert status == 200
    assert b"</html>" in body


def test_one_edge_has_the_address_that_they_share(
    host, site: Path, fleet: dict, request: pytest.FixtureRequest
) -> None:
    shared = fleet.get("virtual_address")
    if shared is None:
        assert not host.run("systemctl is-active keepalived").stdout.startswith("active")
        return
    edges = [name for name, entry in fleet["hosts"].items() if "edge" in entry["roles"]]
    said = [reached(request.config, name).check_output("ip -oneline -4 address") for name in edges]
    assert sum(f" {shared}/" in text for text in said) == 1
    assert [get(page, ca_file(site))[0] for page in pages(site)] == [200] * len(pages(site))
    assert {page.address for page in pages(site)} == {shared}


def test_the_sandbox_of_keepalived_holds(host, fleet: dict) -> None:
    if "virtual_address" not in fleet:
        pytest.skip("the edges share no address")
    told = host.check_output("systemd-analyze security keepalived --no-pager")
    assert float(re.findall(r"exposure level for .*: ([\d.]+)", told)[0]) <= 4


def test_the_list_of_headers_stops_all_that_a_client_says_of_itself(page: Page, tls: ssl.SSLContext, host) -> None:
    """Through the whole stack, and each name as HTTP/1.1, HTTP/2 and WSGI could write it; twice, and as hop by hop."""
    utils = clientheaders
    names = utils.examples()
    spelt = [*names, *(name.upper() for name in names), *(name.replace("-", "_") for name in names)]
    for start in range(0, len(spelt), 40):  # HAProxy takes 101 headers
        connection = Connection(page, tls)
        connection.putrequest("GET", "/-/request")
        connection.putheader("Connection", ", ".join(spelt[start : start + 40]))
        for name in spelt[start : start + 40]:
            connection.putheader(name, "forged")
            connection.putheader(name, "forged.example")
        connection.endheaders()
        answer = connection.getresponse()
        text = answer.read().decode()
        assert answer.status == 200, text
        assert "forged" not in text
    seen = json.loads(text)
    told = {name: seen["headers"].get(f"HTTP_{name.upper().replace('-', '_')}") for name in utils.OURS}
    client = told.pop("X-Forwarded-For")
    assert re.fullmatch(r"[0-9.]+", client) and client != host.addr_of_fleet
    assert re.fullmatch(r"[0-9a-f-]{36}", told.pop("X-Request-ID"))
    expected = {"Host": page.hostname, "Port": str(page.port), "Proto": "https"}
    assert told == {f"X-Forwarded-{key}": value for key, value in expected.items()} | {"X-Real-IP": client}
    assert (seen["scheme"], seen["host"], seen["SCRIPT_NAME"], seen["REMOTE_USER"]) == ("https", page.hostname, "", "")


@pytest.mark.parametrize("path", ["/", "/no-such-page", "/static/no-such-file", "/admin/"])
@pytest.mark.parametrize("name", ["", "stranger.example"], ids=["its name", "a stranger's"])
def test_every_answer_has_the_headers_that_protect_a_visitor(
    page: Page, tls: ssl.SSLContext, path: str, name: str
) -> None:
    answer, body = ask(page, tls, "GET", path, **({"Host": name} if name else {}))
    assert answer.getheader("Strict-Transport-Security") == "max-age=63072000"
    assert answer.getheader("X-Content-Type-Options") == "nosniff"
    assert re.fullmatch(r"[0-9a-f-]{36}", answer.getheader("X-Request-ID"))
    if name or path.startswith("/static"):
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
def test_plain_http_leads_to_the_apps_own_names_only(page: Page, target: str, name: str | None, status: int) -> None:
    connection = http.client.HTTPConnection(page.address, 80, timeout=5)
    connection.putrequest("GET", target.format(page.hostname), skip_host=True)
    if name is not None:
        connection.putheader("Host", name.format(page.hostname))
    connection.endheaders()
    answer = connection.getresponse()
    assert answer.status == status
    where = answer.getheader("Location")
    assert where is None if status != 301 else where.startswith(f"https://{page.hostname}/")
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
    "another's name": b"GET / HTTP/1.1\r\nHost: stranger.example\r\n\r\n",
}


def head_of(page: Page, tls: ssl.SSLContext | None, said: bytes) -> str:
    """The header of the answer to these bytes, in lower case; by plain HTTP without a TLS context."""
    with socket.create_connection((page.address, page.port if tls else 80), timeout=5) as raw:
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
    page: Page, tls: ssl.SSLContext, kind: str, secure: bool
) -> None:
    head = head_of(page, tls if secure else None, {**A_REQUEST, **NO_REQUEST}[kind])
    if kind in NO_REQUEST:
        bare = {"content-length", "cache-control", "connection", "content-type"}
        assert not head or head.splitlines()[0] == "http/1.1 400 bad request"
        assert {line.split(":")[0] for line in head.splitlines()[1:]} <= bare
        return
    assert "x-content-type-options: nosniff" in head
    assert ("strict-transport-security: max-age=63072000" in head) == secure


def test_the_edge_listens_by_ipv6_too(host) -> None:
    if not host.file("/proc/net/if_inet6").exists:
        pytest.skip("the host has no IPv6")
    for scheme, port in (("http", 80), ("https", 443)):
        listening = host.check_output(f"ss -Hltn 'sport = :{port}' | awk '{{print $4}}' | sort -u").split()
        assert listening == [f"0.0.0.0:{port}", f"[::]:{port}"]
        asked = f"curl -sk -o /dev/null -w '%{{http_code}}' -H 'Host: stranger.example' {scheme}://[::1]:{port}"
        assert host.run(asked).stdout == "421"


def test_only_the_host_itself_may_ask_whether_it_answers(page: Page, tls: ssl.SSLContext) -> None:
    answer, _ = ask(page, tls, "GET", "/-/edge")
    assert answer.status == 404


def test_http_is_redirected_to_https(page: Page) -> None:
    connection = http.client.HTTPConnection(page.address, 80, timeout=5)
    connection.request("GET", "/some/page?x=1", headers={"Host": page.hostname})
    answer = connection.getresponse()
    assert (answer.status, answer.getheader("Location")) == (301, f"https://{page.hostname}/some/page?x=1")


def test_http2_is_spoken(page: Page, tls: ssl.SSLContext) -> None:
    tls.set_alpn_protocols(["h2", "http/1.1"])
    with socket.create_connection((page.address, page.port), timeout=5) as raw:
        assert tls.wrap_socket(raw, server_hostname=page.hostname).selected_alpn_protocol() == "h2"


def test_old_tls_is_refused(page: Page, tls: ssl.SSLContext) -> None:
    tls.minimum_version, tls.maximum_version = ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1
    tls.set_ciphers("ALL:@SECLEVEL=0")
    with socket.create_connection((page.address, page.port), timeout=5) as raw, pytest.raises(ssl.SSLError):
        tls.wrap_socket(raw, server_hostname=page.hostname)


@pytest.mark.parametrize("name", ["stranger.example", "demo.saltern.test.evil.example", ""])
def test_a_wrong_host_name_is_refused(page: Page, tls: ssl.SSLContext, name: str) -> None:
    answer, body = ask(page, tls, "GET", "/", Host=name)
    assert answer.status in (400, 421)
    assert "note" not in body.lower()


def test_browsers_are_told_to_stay_on_https(page: Page, tls: ssl.SSLContext) -> None:
    for path in ("/", "/no-such-page"):
        answer, _ = ask(page, tls, "GET", path)
        assert int(re.findall(r"max-age=(\d+)", answer.getheader("Strict-Transport-Security"))[0]) >= 31536000


def test_a_client_cannot_claim_another_address_or_scheme(page: Page, tls: ssl.SSLContext) -> None:
    answer, body = ask(page, tls, "GET", "/-/version", X_Forwarded_Proto="http", X_Forwarded_For="127.0.0.1")
    assert answer.status == 200, body  # Django would redirect to https, had it believed the header


@pytest.mark.disturbs
def test_a_form_writes_a_row_that_the_next_page_reads(page: Page, tls: ssl.SSLContext) -> None:
    answer, body = ask(page, tls, "GET", "/")
    cookies = SimpleCookie(answer.getheader("Set-Cookie"))
    token = re.findall(r'name="csrfmiddlewaretoken" value="([^"]+)"', body)[0]
    text = f"round trip {uuid4()}"
    fields = dict.fromkeys(re.findall(r'<(?:input|textarea)[^>]* name="(\w+)"', body), "tester")
    fields |= {"csrfmiddlewaretoken": token}
    fields[re.findall(r'<textarea[^>]* name="(\w+)"', body)[0]] = text
    answer, body = ask(
        page, tls, "POST", "/", urlencode(fields),
        Content_Type="application/x-www-form-urlencoded",
        Cookie="; ".join(f"{key}={morsel.value}" for key, morsel in cookies.items()),
        Referer=f"https://{page.hostname}/",
    )  # fmt: skip
    assert answer.status == 302, body[:400]
    # As a browser does: the visitor's cookies say what has to be in the next page.
    cookies.load("; ".join(answer.headers.get_all("Set-Cookie", [])))
    _, body = ask(page, tls, "GET", "/", Cookie="; ".join(f"{key}={morsel.value}" for key, morsel in cookies.items()))
    assert text in body


@pytest.mark.disturbs
def test_a_stock_xmlrpc_client_works_through_the_whole_stack(page: Page, tls: ssl.SSLContext) -> None:
    class Transport(xmlrpc.client.SafeTransport):
        def make_connection(self, _host):
            return Connection(page, tls)

    server = xmlrpc.client.ServerProxy(f"https://{page.hostname}/RPC2", transport=Transport())
    before = server.notes.count()
    server.notes.add("xmlrpc", f"by a stock client {uuid4()}")
    assert server.notes.count() == before + 1


@pytest.mark.disturbs
def test_json_rpc_works_through_the_whole_stack(page: Page, tls: ssl.SSLContext) -> None:
    def call(method: str, *params: str) -> int:
        asked = json.dumps({"jsonrpc": "2.0", "id": 7, "method": method, "params": params})
        answer, body = ask(page, tls, "POST", "/RPC2", asked, Content_Type="application/json")
        assert answer.status == 200, body[:400]
        return json.loads(body)["result"]

    before = call("notes.count")
    call("notes.add", "json", f"by a JSON-RPC call {uuid4()}")
    assert call("notes.count") == before + 1


def test_the_edge_answers_only_where_declared(host, fleet: dict) -> None:
    """From this machine, a stranger to the fleet: 22, 80 and 443 are open, and nothing else that the host runs."""
    listening = {int(port) for port in re.findall(r":(\d+)\s", host.check_output("ss -Hltn | awk '{print $4\" \"}'"))}
    open_ports = {port for port in listening if _connects(host.addr_of_fleet, port)}
    assert open_ports == {22, 80, 443}


def _connects(address: str, port: int) -> bool:
    try:
        socket.create_connection((address, port), timeout=2).close()
    except OSError:
        return False
    return True
