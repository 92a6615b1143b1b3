"""The address that the edges share is lost for three seconds at most, whatever ends one of them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise

import pytest
from conftest import WithRole, wait_for
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
