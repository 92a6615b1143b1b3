"""Background work while things happen: releases, kills, removals. No task is lost, and there is never a second beat."""

from __future__ import annotations

import ssl
import threading
import time
import xmlrpc.client
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from lab.apply import Outcome, apply, explain
from lab.host import Host
from lab.lab import Lab
from lab.load import beside
from lab.served import Connection, ca_file, pages

pytestmark = pytest.mark.slow("bookworm")


@pytest.fixture(scope="module")
def site_file(lab: Lab, one: Host) -> Iterator[Path]:
    """The demo's file; what the tests have made of it is undone on the host when all have ended."""
    path = lab.site / "apps" / "demo.yaml"
    yield path
    checked(apply(one))


@pytest.fixture
def app(site_file: Path) -> Iterator[Path]:
    """The demo's file, put back at the end. The host keeps what was deployed until the next apply."""
    before = site_file.read_text()
    yield site_file
    site_file.write_text(before)


def checked(outcome: Outcome) -> Outcome:
    assert outcome.ok, explain(outcome)
    return outcome


def edit(path: Path, change: Callable[[dict], object]) -> None:
    about = yaml.safe_load(path.read_text())
    change(about)
    path.write_text(yaml.safe_dump(about))


def deploy(one: Host, path: Path, **environment: str) -> Outcome:
    """A changed environment is a new release of the same build."""
    edit(path, lambda about: about["env"].update(environment))
    return checked(apply(one))


def deploy_and(
    rpc: xmlrpc.client.ServerProxy, work: Callable[[], object], one: Host, path: Path, **env: str
) -> Outcome:
    """Deploy, and do something when the new release is served and the workers are still those of the old one."""
    before = rpc.demo.version()["release"]
    done = []

    def wait() -> None:
        while rpc.demo.version()["release"] == before:
            time.sleep(0.05)
        done.append(work())

    thread = threading.Thread(target=wait, daemon=True)
    edit(path, lambda about: about["env"].update(env))
    thread.start()
    outcome = apply(one)
    thread.join(30)
    assert done, "the new release was not served"
    return outcome


@pytest.fixture
def rpc(lab: Lab) -> xmlrpc.client.ServerProxy:
    """A stock client that comes as a visitor does."""
    tls = ssl.create_default_context(cafile=str(ca_file(lab.site)))
    page = next(page for page in pages(lab.site) if page.hostname.startswith("demo."))

    class Transport(xmlrpc.client.SafeTransport):
        def make_connection(self, _host):
            return Connection(page, tls)

    return xmlrpc.client.ServerProxy(f"https://{page.hostname}/RPC2", transport=Transport())


def sh(host: Host, command: str) -> str:
    return host.execute(["sh", "-c", command], capture=True).stdout.strip()


def worker(host: Host) -> str:
    return sh(host, "systemctl list-units --plain --no-legend --state=active 'app-demo-worker@*' | cut -d' ' -f1")


def results(rpc: xmlrpc.client.ServerProxy, notes: list[int], seconds: float) -> dict[int, dict]:
    """What workers found out about notes; those that have nothing after so many seconds are missing."""
    found: dict[int, Any] = {}
    until = time.monotonic() + seconds
    while len(found) < len(notes) and time.monotonic() < until:
        found |= {note: said for note in notes if note not in found and (said := rpc.notes.words(note))}
        time.sleep(0.3)
    return found


def test_fifty_tasks_are_done_once_each_while_a_release_is_deployed(one: Host, app: Path, rpc) -> None:
    deploy(one, app, COUNT_SECONDS="0.6", DRILL="1")
    notes: list[int] = []

    def send() -> None:
        notes.extend(rpc.notes.add("drill", "two words") for _ in range(50))

    checked(deploy_and(rpc, send, one, app, DRILL="2"))
    assert len(notes) == 50 and worker(one)
    found = results(rpc, notes, 60)
    assert len(found) == 50, f"{50 - len(found)} tasks are lost"
    assert {said["runs"] for said in found.values()} == {1}, "warm shutdown: what ran has ended, and was not run again"
    assert len({said["release"] for said in found.values()}) == 2, "the switch was to happen in the middle"


def test_a_task_that_outlasts_the_shutdown_is_given_to_the_new_release_at_once(one: Host, app: Path, rpc) -> None:
    edit(app, lambda about: about["processes"]["worker"].update(stop_seconds=2))
    deploy(one, app, COUNT_SECONDS="45", DRILL="3")
    old, notes = worker(one), []

    def send() -> None:
        notes.extend(rpc.notes.add("drill", "long") for _ in range(2))

    checked(deploy_and(rpc, send, one, app, COUNT_SECONDS="0", DRILL="4"))
    assert len(notes) == 2 and worker(one) and worker(one) != old
    found = results(rpc, notes, 15)  # the visibility timeout is 900 seconds
    assert len(found) == 2, "a task that was cut off was not given back"
    assert {said["release"] for said in found.values()} == {worker(one).partition("@")[2].removesuffix(".service")}


@pytest.mark.parametrize("whom, within", [("one child", 15), ("main", 40), ("all", 40)])
def test_a_task_whose_worker_is_killed_is_delivered_again(one: Host, app: Path, rpc, whom: str, within: int) -> None:
    """The whole worker: after the visibility timeout. One of its processes: at once."""
    deploy(one, app, COUNT_SECONDS="4", VISIBILITY_SECONDS="10" if whom != "one child" else "900")
    note = rpc.notes.add("drill", "killed in the middle")
    time.sleep(2)
    unit = worker(one)
    if whom == "one child":
        pid = sh(one, f"systemctl show -P MainPID '{unit}'")
        sh(one, f"pkill -KILL -P {pid}")
    else:
        sh(one, f"systemctl kill -s KILL --kill-who={whom} '{unit}'")
    assert not rpc.notes.words(note), "it had ended before it was killed, so this proves nothing"
    found = results(rpc, [note], within)
    assert found and found[note]["words"] == 4


def test_there_are_never_two_beats_and_never_none_for_long(one: Host, app: Path) -> None:
    counts, stop = [], threading.Event()

    def watch() -> None:
        while not stop.is_set():
            counts.append((time.monotonic(), int(sh(one, "pgrep -u app-demo -fc 'celery --app=demo beat' || true"))))

    with beside([watch], stop):
        deploy(one, app, DRILL="5")
    assert max(count for _, count in counts) == 1
    without = [when for when, count in counts if count == 0]
    assert not without or max(without) - min(without) < 5
    assert counts[-1][1] == 1


def test_a_worker_that_does_not_start_leaves_the_old_one_at_work(one: Host, app: Path, rpc) -> None:
    before = worker(one)
    edit(app, lambda about: about["processes"]["worker"]["celery"].update(app="nothing_like_this"))
    refused = apply(one)
    assert [state["__id__"] for state in refused.failed] == ["processes of demo"]
    assert "nothing_like_this" in refused.failed[0]["comment"], "the log is not on the screen"
    assert worker(one) == before
    assert results(rpc, [rpc.notes.add("drill", "still counted")], 20)


def test_an_apply_that_dies_before_the_workers_switch_is_healed(one: Host, app: Path, rpc) -> None:
    old = worker(one)
    # Salt gives itself another title, so that pidof does not find it.
    died = deploy_and(rpc, lambda: sh(one, "pkill -KILL -f 'salt-call [s]tate.apply'"), one, app, DRILL="6")
    assert not died.ok
    healed = checked(apply(one))
    assert "processes of demo" in healed.changed
    assert worker(one) and worker(one) != old
    assert checked(apply(one)).changed == []


def test_what_the_site_file_no_longer_has_is_removed_as_planned(one: Host, app: Path) -> None:
    checked(apply(one))  # what the tests before have left
    edit(app, lambda about: (about["processes"].pop("beat"), about.pop("timers")))
    edit(
        app, lambda about: about["processes"].update(tick={"command": ["python", "-c", "import time; time.sleep(1e6)"]})
    )
    planned, did = checked(apply(one, plan=True)), checked(apply(one))
    # Another program has other sessions and connections: what is granted changes with it.
    assert planned.changed == did.changed and "processes of demo" in did.changed
    changes = [next(s["changes"] for s in run.states if s["__id__"] == "processes of demo") for run in (planned, did)]
    assert changes[0] == changes[1] and set(changes[0]) == {"beat", "clear-sessions", "tick"}
    left = sh(
        one, "ls /etc/systemd/system | grep app-demo-; systemctl list-units --plain --no-legend --all 'app-demo-*'"
    )
    assert "beat" not in left and "clear-sessions" not in left
    assert "app-demo-tick@" in left
    assert checked(apply(one)).changed == []
