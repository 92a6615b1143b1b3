"""The address that the edges share is lost for three seconds at most, whatever ends one of them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise

import pytest
from conftest import WithRole, answer, wait_for
from databases import shell

from lab.apply import apply
from lab.host import Host
from lab.lab import Lab
from lab.load import beside
from lab.served import Page, ca_file, get, pages

MOST_SECONDS = 3.0


@pytest.fixture
def page(lab: Lab) -> Page:
    """The first app's page at the shared address."""
    if "virtual_address" not in lab.fleet:
        pytest.skip("the fleet's edges share no address")
    found = pages(lab.site)[0]
    assert found.address == lab.fleet["virtual_address"]
    return found


@pytest.fixture
def edges(lab: Lab, with_role: WithRole, page: Page) -> Iterator[list[Host]]:
    """The edges, of which one has the address; all are well again at the end."""
    found = with_role("edge")
    yield found
    for host in found:
        if not host.running:
            host.boot()
        shell(host, "systemctl unmask --runtime haproxy keepalived; systemctl start haproxy keepalived")
    wait_for("one edge has the address", lambda: len(holders(found, page)) == 1, 20)
    wait_for("the page", lambda: answers(lab, page), 20)
    time.sleep(3)  # the check has to succeed twice before its host counts as good


def has(host: Host, page: Page) -> bool:
    """Whether a host has the shared address now."""
    return host.running and f" {page.address}/" in shell(host, "ip -oneline -4 address")


def holders(edges: list[Host], page: Page) -> list[Host]:
    """The edges that have the shared address now."""
    return [host for host in edges if has(host, page)]


def answers(lab: Lab, page: Page) -> bool:
    """Whether the page is served, to somebody who comes for the first time."""
    try:
        return get(page, ca_file(lab.site), seconds=0.5)[0] == 200
    except OSError:
        return False


@contextmanager
def visitors(lab: Lab, page: Page) -> Iterator[list[float]]:
    """Ask for the page again and again; gives the moments at which it was served."""
    served: list[float] = []
    stop = threading.Event()

    def visit() -> None:
        while not stop.is_set():
            if answers(lab, page):
                served.append(time.monotonic())
            time.sleep(0.02)

    with beside([visit] * 2, stop):
        yield served


def longest_gap(served: list[float]) -> float:
    """Return the longest time without a page, in seconds."""
    moments = sorted(served)
    return max(later - earlier for earlier, later in pairwise(moments))


FAULTS: dict[str, Callable[[Host], object]] = {
    "the host loses its power": lambda host: host.power_off(),
    "the host is shut down": lambda host: host.stop(),
    "haproxy is killed": lambda host: shell(host, "systemctl kill --signal=KILL haproxy"),
    "haproxy is killed and stays away": lambda host: shell(
        host, "systemctl mask --runtime haproxy; systemctl kill --signal=KILL haproxy"
    ),
    "haproxy is stopped": lambda host: shell(host, "systemctl stop haproxy"),
    "haproxy hangs": lambda host: shell(host, "systemctl kill --signal=STOP haproxy"),
    "keepalived is stopped": lambda host: shell(host, "systemctl stop keepalived"),
    "keepalived is killed": lambda host: shell(host, "systemctl kill --signal=KILL keepalived"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_the_address_is_back_within_three_seconds(lab: Lab, edges: list[Host], page: Page, fault: str) -> None:
    (holder,) = holders(edges, page)
    with visitors(lab, page) as served:
        time.sleep(1)
        FAULTS[fault](holder)
        time.sleep(6)
    print(f"\n{fault}: {longest_gap(served):.2f} s without a page")
    if fault == "haproxy hangs":
        shell(holder, "systemctl kill --signal=CONT haproxy")
    assert served[-1] - served[0] > 5, "it is served to the end"
    assert longest_gap(served) <= MOST_SECONDS
    wait_for("one edge has the address", lambda: len(holders(edges, page)) == 1, 5)


def test_it_does_not_come_back_by_itself(lab: Lab, edges: list[Host], page: Page) -> None:
    (holder,) = holders(edges, page)
    shell(holder, "systemctl stop haproxy")
    wait_for("another edge has the address", lambda: holders(edges, page) not in ([], [holder]), 5)
    (other,) = holders(edges, page)
    with visitors(lab, page) as served:
        shell(holder, "systemctl start haproxy")
        time.sleep(5)
        assert holders(edges, page) == [other], "who serves goes on serving"
    assert longest_gap(served) < 1


def test_with_no_edge_that_answers_the_address_stays(lab: Lab, edges: list[Host], page: Page) -> None:
    for host in edges:
        shell(host, "systemctl stop haproxy")
    time.sleep(4)
    assert len(holders(edges, page)) == 1
    for host in edges:
        shell(host, "systemctl start haproxy")
    wait_for("the page, as soon as one answers", lambda: answers(lab, page), 5)


@pytest.mark.slow("fleet")
def test_an_apply_while_the_other_serves_changes_nothing(lab: Lab, edges: list[Host], page: Page) -> None:
    with visitors(lab, page) as served:
        for host in edges:
            outcome = apply(host)
            assert outcome.ok and outcome.changed == []
    assert longest_gap(served) < 1


@pytest.mark.slow("fleet")
def test_without_the_key_the_address_is_given_up(lab: Lab, edges: list[Host], page: Page) -> None:
    path = lab.site / "fleet.yaml"
    before = path.read_text()
    try:
        path.write_text("".join(line for line in before.splitlines(True) if not line.startswith("virtual_address")))
        for host in edges:
            assert "keepalived.service" in apply(host).changed
            assert apply(host).changed == []
        assert holders(edges, page) == []
    finally:
        path.write_text(before)
        for host in edges:
            assert apply(host).ok


@pytest.mark.slow("fleet")
def test_maintenance_of_an_app_is_said_to_every_edge_and_stays(
    lab: Lab, master: Host, edges: list[Host], page: Page
) -> None:
    seen = [page, *(Page(page.hostname, edge.address, page.port) for edge in edges)]
    app, names = page.hostname.split(".")[0], {edge.id for edge in edges}

    def shown() -> set[tuple[int, bool]]:
        found = [get(one, ca_file(lab.site)) for one in seen]
        return {(status, b"We move to a larger house." in body) for status, body in found}

    def say(*words: str) -> dict[str, str]:
        told = answer(master, "salt", "*", "edge.maintenance", app, *words, "--static")
        assert {told[host.id] for host in lab.hosts() if host.id not in names} == {"this host is no edge"}
        return {name: told[name] for name in names}

    try:
        told = say("on", "message=We move to a larger house.")
        assert all(text.startswith("in maintenance since ") for text in told.values()), told
        assert shown() == {(503, True)}
        for host in edges:
            outcome = apply(host)
            assert outcome.ok and outcome.changed == []
            shell(host, "systemctl reload haproxy")
        assert shown() == {(503, True)} and say() == told
        (holder,) = holders(edges, page)
        shell(holder, "systemctl kill --signal=KILL haproxy")
        wait_for("the page, from whichever edge", lambda: _status(lab, page) == 503, 10)
    finally:
        assert set(say("off").values()) == {"not in maintenance"}
    wait_for("the app, from every edge", lambda: {_status(lab, one) for one in seen} == {200}, 10)


def _status(lab: Lab, page: Page) -> int:
    try:
        return get(page, ca_file(lab.site))[0]
    except OSError:
        return 0


# Halts an apply when Salt has read every SLS and begins with the first state, says something, and lets it go on.
MEANWHILE = """
salt-call -l info state.apply --out=json >/tmp/applied.json 2>/tmp/applied.log & apply=$!
until grep -q 'Executing state' /tmp/applied.log; do kill -0 $apply || exit 3; sleep 0.02; done
kill -STOP $apply
{said}
kill -CONT $apply
wait $apply
"""


@pytest.mark.slow("fleet")
def test_an_apply_that_runs_meanwhile_brings_no_host_in_that_is_taken_out(with_role: WithRole) -> None:
    edge, web = with_role("edge")[0], with_role("web")[0]
    out, up = f'"{web.id}": "MAINT', f'"{web.id}": "UP'

    def at_the_edge(command: str) -> str:
        return shell(edge, f"cd {edge.home}; {command}")

    try:
        at_the_edge(MEANWHILE.format(said=f"salt-call edge.take_out {web.id} >/dev/null"))
        assert out in at_the_edge("salt-call edge.status --out=json")
        assert out in at_the_edge("systemctl reload haproxy; sleep 1; salt-call edge.status --out=json")
        at_the_edge(MEANWHILE.format(said=f"salt-call edge.bring_in {web.id} >/dev/null"))
        assert up in at_the_edge("salt-call edge.status --out=json")
    finally:
        at_the_edge(f"salt-call edge.bring_in {web.id}")
