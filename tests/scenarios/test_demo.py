"""What the demo shows of the whole stack, on any fleet: forms, RPC, work in the background, and what an app is told.

What every app must have is asked by tests/hosts, by the site's own words; here is what only the demo can answer.
"""

from __future__ import annotations

import json
import re
import ssl
import time
import xmlrpc.client
from http.cookies import SimpleCookie
from urllib.parse import urlencode
from uuid import uuid4

import pytest

from lab.host import Host
from lab.lab import Lab
from lab.served import Connection, Page, ca_file, get, pages
from saltern.edge import clientheaders

ASKED_FOR = 20  # seconds


def with_role(lab: Lab, role: str) -> list[Host]:
    return [host for host in lab.hosts() if role in lab.fleet["hosts"][host.id]["roles"]]


def page_at(lab: Lab, edge: Host) -> Page:
    demo = next(page for page in pages(lab.site) if page.hostname.startswith("demo."))
    return Page(demo.hostname, edge.address, demo.port)


@pytest.fixture
def page(lab: Lab) -> Page:
    """The demo's first page at the first edge."""
    return page_at(lab, with_role(lab, "edge")[0])


@pytest.fixture
def tls(lab: Lab) -> ssl.SSLContext:
    """A client that trusts only the fleet's own CA."""
    return ssl.create_default_context(cafile=str(ca_file(lab.site)))


def said(host: Host, command: str) -> str:
    done = host.execute(["sh", "-c", command], capture=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.strip()


def ask(page: Page, tls: ssl.SSLContext, method: str, path: str, body: str = "", **headers: str):
    connection = Connection(page, tls)
    connection.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
    answer = connection.getresponse()
    return answer, answer.read().decode()


def rpc(page: Page, tls: ssl.SSLContext) -> xmlrpc.client.ServerProxy:
    """A stock XML-RPC client that reaches the app as a visitor does."""

    class Transport(xmlrpc.client.SafeTransport):
        def make_connection(self, _host):
            return Connection(page, tls)

    return xmlrpc.client.ServerProxy(f"https://{page.hostname}/RPC2", transport=Transport())


def workers(host: Host) -> list[str]:
    """The running processes of the demo on a worker."""
    listed = "systemctl list-units --plain --no-legend --state=active 'app-demo-*@*.service' | cut -d' ' -f1"
    return said(host, listed).split()


def test_the_page_is_served_by_each_edge(lab: Lab) -> None:
    for edge in with_role(lab, "edge"):
        status, body = get(page_at(lab, edge), ca_file(lab.site))
        assert status == 200 and b"</html>" in body, edge.id


def test_the_list_of_headers_stops_all_that_a_client_says_of_itself(page: Page, tls: ssl.SSLContext) -> None:
    """Through the whole stack, and each name as HTTP/1.1, HTTP/2 and WSGI could write it; twice, and as hop by hop."""
    names = clientheaders.examples()
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
    told = {name: seen["headers"].get(f"HTTP_{name.upper().replace('-', '_')}") for name in clientheaders.OURS}
    client = told.pop("X-Forwarded-For")
    assert re.fullmatch(r"[0-9.]+", client) and client != page.address
    assert re.fullmatch(r"[0-9a-f-]{36}", told.pop("X-Request-ID"))
    expected = {"Host": page.hostname, "Port": str(page.port), "Proto": "https"}
    assert told == {f"X-Forwarded-{key}": value for key, value in expected.items()} | {"X-Real-IP": client}
    assert (seen["scheme"], seen["host"], seen["SCRIPT_NAME"], seen["REMOTE_USER"]) == ("https", page.hostname, "", "")


def test_a_client_cannot_claim_another_address_or_scheme(page: Page, tls: ssl.SSLContext) -> None:
    answer, body = ask(page, tls, "GET", "/-/version", X_Forwarded_Proto="http", X_Forwarded_For="127.0.0.1")
    assert answer.status == 200, body  # Django would redirect to https, had it believed the header


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
        Referer=page.url,
    )  # fmt: skip
    assert answer.status == 302, body[:400]
    # As a browser does: the visitor's cookies say what has to be in the next page.
    cookies.load("; ".join(answer.headers.get_all("Set-Cookie", [])))
    _, body = ask(page, tls, "GET", "/", Cookie="; ".join(f"{key}={morsel.value}" for key, morsel in cookies.items()))
    assert text in body


def test_a_stock_xmlrpc_client_works_through_the_whole_stack(page: Page, tls: ssl.SSLContext) -> None:
    server = rpc(page, tls)
    before = server.notes.count()
    server.notes.add("xmlrpc", f"by a stock client {uuid4()}")
    assert server.notes.count() == before + 1


def test_json_rpc_works_through_the_whole_stack(page: Page, tls: ssl.SSLContext) -> None:
    def call(method: str, *params: str) -> int:
        asked = json.dumps({"jsonrpc": "2.0", "id": 7, "method": method, "params": params})
        answer, body = ask(page, tls, "POST", "/RPC2", asked, Content_Type="application/json")
        assert answer.status == 200, body[:400]
        return json.loads(body)["result"]

    before = call("notes.count")
    call("notes.add", "json", f"by a JSON-RPC call {uuid4()}")
    assert call("notes.count") == before + 1


def test_a_task_that_a_visitor_causes_is_done_by_a_worker(lab: Lab, page: Page, tls: ssl.SSLContext) -> None:
    """A note is left over the edge; a worker counts its words and says of which release it is."""
    server = rpc(page, tls)
    note = server.notes.add("worker test", "exactly four words here")
    until = time.monotonic() + ASKED_FOR
    while not (found := server.notes.words(note)) and time.monotonic() < until:
        time.sleep(0.2)
    assert (found["words"], found["runs"]) == (4, 1)
    assert found["release"] in "".join(unit for host in with_role(lab, "worker") for unit in workers(host))


def test_logs_are_json_with_their_release(lab: Lab) -> None:
    """Celery's banner is text; what the demo's code logs in a worker is one JSON object a line, with its release."""
    for host in with_role(lab, "worker"):
        for unit in workers(host):
            lines = said(host, f"journalctl --no-pager -q -o cat _SYSTEMD_UNIT='{unit}'").splitlines()
            told = [json.loads(line) for line in lines if line.startswith("{")]
            assert told and {line["release"] for line in told} == {unit.partition("@")[2].removesuffix(".service")}


def test_the_running_release_tells_its_commit(lab: Lab) -> None:
    for host in with_role(lab, "web"):
        socket = said(host, "readlink /srv/apps/demo/current.sock")
        name = page_at(lab, with_role(lab, "edge")[0]).hostname
        asked = f"curl -s --unix-socket {socket} -H 'Host: {name}' http://x/-/version"
        answered = json.loads(said(host, asked))
        assert answered["release"] in socket
        assert re.fullmatch(r"[0-9a-f]{40}(-dirty)?", answered["commit"])


def test_djangos_own_check_for_deployment_finds_nothing(lab: Lab) -> None:
    """As `salt-call django.manage demo 'check --deploy'` runs it: in the release that serves, as the web process."""
    for host in with_role(lab, "web"):
        command = f"cd {host.home} && salt-call --out=json django.manage demo 'check --deploy --fail-level WARNING'"
        found = json.loads(said(host, command))["local"]
        assert found["exit_code"] == 0, found["output"]


def test_static_files_carry_the_hash_of_their_content(lab: Lab) -> None:
    """So nginx lets them be kept for ever, which tests/hosts asks of whatever an app has."""
    for host in with_role(lab, "web"):
        assert re.search(r"\.[0-9a-f]{12}\.css$", said(host, "ls -R /srv/apps/demo/static"), re.MULTILINE)
