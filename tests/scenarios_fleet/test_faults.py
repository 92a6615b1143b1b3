"""Hosts that lose their power, parts of a fleet that cannot see each other, work that is killed: what users notice."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from conftest import WithRole, apply, asked, pings, wait_for

from lab.host import Host
from lab.lab import Lab
from lab.load import Answer, Load

# None is slow by itself: how long a request takes counts here.
CLIENTS = {"get": 2, "get, new connection": 2, "post": 2, "static": 1}
CHANGES_NOTHING = ("get", "get, new connection", "static")
AGAIN = 10.0  # seconds after which everything is answered again


@pytest.fixture
def load(lab: Lab, with_role: WithRole) -> Iterator[Load]:
    """Requests from outside. What may fail is each test's own business."""
    with asked(lab, with_role, CLIENTS) as found:
        yield found


@contextmanager
def without_power(host: Host) -> Iterator[float]:
    """Pull the plug of a host, give the moment, and boot it again whatever happens."""
    try:
        host.power_off()
        yield time.monotonic()
    finally:
        host.boot()


def answers(load: Load, began: float, seconds: float) -> list[Answer]:
    """The requests that began in so many seconds from a moment on, when all of them have ended."""
    time.sleep(max(0.0, began + seconds - time.monotonic()))
    return load.between(began, began + seconds)


def failed(found: list[Answer]) -> list[Answer]:
    assert found, "nobody asked"
    return [answer for answer in found if answer.problem]


def test_a_web_host_without_power_costs_no_page(load: Load, with_role: WithRole) -> None:
    """GETs in flight are answered by another host; a POST that was in flight there may fail, and is never repeated."""
    webs = with_role("web")
    if len(webs) < 2:
        pytest.skip("one web host only")
    with without_power(webs[0]) as began:
        found = answers(load, began - 2, AGAIN + 7)
        assert not [a for a in failed(found) if a.kind in CHANGES_NOTHING], failed(found)
        assert not failed([a for a in found if a.began > began + AGAIN])
    edge = with_role("edge")[0]
    wait_for("it gets requests again", lambda: webs[0].id in up(edge), 30)  # nobody has done anything
    began = time.monotonic()
    assert not failed(answers(load, began, 3))
    assert len(set(load.posted)) == len(load.posted)


def up(edge: Host) -> list[str]:
    """The web hosts that an edge sends requests to."""
    said = edge.execute(
        ["python3", "-c", ASK_HAPROXY],
        capture=True,
    ).stdout
    return [row["svname"] for row in json.loads(said) if row["status"].startswith("UP")]


ASK_HAPROXY = """
import csv, io, json, socket
with socket.socket(socket.AF_UNIX) as admin:
    admin.connect("/run/haproxy/admin.sock")
    admin.sendall(b"show stat\\n")
    text = b"".join(iter(lambda: admin.recv(65536), b"")).decode()
rows = csv.DictReader(io.StringIO(text.removeprefix("# ")))
print(json.dumps([row for row in rows if row["svname"] not in ("FRONTEND", "BACKEND")]))
"""


@pytest.mark.slow("fleet")
@pytest.mark.parametrize("role", ["worker", "redis"])
def test_pages_go_on_without(role: str, load: Load, with_role: WithRole, lab: Lab, primary: Host) -> None:
    """Background work waits, the cache is an empty one; no page fails, and all is used again when it is back."""
    (host, *_) = with_role(role)
    if {"web", "postgres", "edge"} & set(lab.fleet["hosts"][host.id]["roles"]):
        pytest.skip("more than that is on the host")
    with without_power(host) as began:
        found = answers(load, began - 2, AGAIN + 7)
        assert not failed(found)
        assert max(a.seconds for a in found if a.began > began + AGAIN) < 5
    # A task that the broker did not take is sent by the clock, minutes later; those of new notes are done at once.
    wait_for("a note's words are counted", lambda: counted(primary, load.posted[-10]), 90)


def counted(primary: Host, note: str) -> bool:
    """Whether a worker has counted the words of a note."""
    query = f"SELECT words FROM public.words_wordcount JOIN public.notes_note ON id = note_id WHERE text = '{note}'"
    command = ["runuser", "-u", "postgres", "--", "psql", "-XAtd", "demo", "-c", query]
    return bool(primary.execute(command, capture=True).stdout.strip())


@pytest.mark.slow("fleet")
def test_a_replica_without_power_costs_no_page(load: Load, replica: Host) -> None:
    with without_power(replica) as began:
        found = answers(load, began - 2, AGAIN + 7)
        assert not [a for a in failed(found) if a.began > began + AGAIN]
        assert not failed(found)


@pytest.mark.slow("fleet")
def test_an_edge_without_power_is_forgotten_within_seconds(load: Load, with_role: WithRole, lab: Lab) -> None:
    """Connections to it end, that is all: the other has the address that both share."""
    shared = lab.fleet.get("virtual_address")
    if not shared:
        pytest.skip("the edges share no address")
    held = [edge for edge in with_role("edge") if f" {shared}/" in edge.execute(["ip", "-4", "a"], capture=True).stdout]
    assert len(held) == 1
    with without_power(held[0]) as began:
        found = answers(load, began + AGAIN, 5)
        assert not failed(found)
    began = time.monotonic()
    assert not [a for a in failed(answers(load, began + 5, 5))]


@pytest.mark.slow("fleet")
def test_a_master_that_is_down_changes_nothing(load: Load, master: Host, with_role: WithRole, lab: Lab) -> None:
    if {"web", "edge", "postgres", "redis"} & set(lab.fleet["hosts"][master.id]["roles"]):
        pytest.skip("the master is more than that")
    with without_power(master) as began:
        assert not failed(answers(load, began - 2, 8))
    webs = with_role("web")
    wait_for("its minions answer", lambda: pings(master, webs[0]), 90)


@pytest.mark.slow("fleet")
def test_an_apply_that_is_killed_converges_on_the_next(master: Host, with_role: WithRole, lab: Lab) -> None:
    """The minion's job is killed while it writes; the next apply needs nothing else, and ends what was begun."""
    web = with_role("web")[0]
    nginx, firewall = "/etc/nginx/nginx.conf", "/etc/nftables.conf"
    web.execute(["sh", "-c", f"echo '# old' >> {nginx}; echo '# old' >> {firewall}"])
    job = master.execute(["salt", "--async", web.id, "state.apply"], capture=True)
    assert job.returncode == 0, job.stderr
    wait_for("the firewall is written", lambda: "# old" not in (web.root / firewall.lstrip("/")).read_text(), 60)
    web.execute(["systemctl", "kill", "--signal=KILL", "salt-minion"])
    assert "# old" in (web.root / nginx.lstrip("/")).read_text(), "it was killed too late to be in the middle"
    wait_for("the minion answers", lambda: pings(master, web), 60)
    states = apply(master, web)
    assert nginx in [state["name"] for state in states.values() if state["changes"]]
    assert not [name for name, state in apply(master, web).items() if state["changes"]]


def test_a_cut_between_web_and_database_is_named_and_heals(
    lab: Lab, load: Load, with_role: WithRole, primary: Host, request: pytest.FixtureRequest
) -> None:
    """The edges leave the web host out; it says itself what it misses; after mend it is back without anybody."""
    webs, edges = with_role("web"), with_role("edge")
    web = webs[-1]
    request.addfinalizer(lab.network.mend)
    began = time.monotonic()
    lab.cut(web.id, primary.id)
    found = answers(load, began, AGAIN + 6)
    assert not [a for a in failed(found) if a.began > began + AGAIN], failed(found)
    assert all(web.id not in up(edge) for edge in edges)
    health = health_of(web)
    assert health["status"] == "failing" and health["checks"]["database"]["problem"] == "OperationalError"
    logged = web.execute(["journalctl", "-o", "cat", "-u", "app-demo@*", "--since=-30s"], capture=True).stdout
    assert "health check failed: database" in logged
    lab.network.mend()
    wait_for("it gets requests again", lambda: all(web.id in up(edge) for edge in edges), 20)
    assert health_of(web)["status"] == "ok"
    began = time.monotonic()
    assert not failed(answers(load, began, 3))


def health_of(web: Host) -> dict:
    """What the app on a web host says of itself, whatever the edges think of it."""
    command = ["python3", "-c", ASK_HEALTH]
    said = web.execute(command, capture=True)
    assert said.returncode == 0, said.stderr
    return json.loads(said.stdout)


ASK_HEALTH = """
import http.client, socket
class Here(http.client.HTTPConnection):
    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(30)
        self.sock.connect("/srv/apps/demo/current.sock")
ask = Here("demo.saltern.test")
ask.request("GET", "/healthz", headers={"X-Forwarded-Proto": "https"})
print(ask.getresponse().read().decode())
"""
