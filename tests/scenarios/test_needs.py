"""A need that goes outlives what still serves: under load it goes from the site, and comes back. Nothing is lost."""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from lab import served
from lab.apply import Outcome, apply, explain
from lab.host import Host
from lab.lab import Lab
from lab.load import FEW, Load
from saltern.site.load import load_site
from saltern.site.secrets import generate_secrets

pytestmark = pytest.mark.slow("trixie")

SOCKETS = {"broker": "/run/redis/admin.sock", "cache": "/run/redis-cache/admin.sock"}
PORTS = {"broker": 6380, "cache": 6381}
WHOLE = 90  # seconds for an apply with a release; it hung 170 and more


def sh(host: Host, command: str) -> str:
    return host.execute(["sh", "-c", command], capture=True).stdout.strip()


def users(host: Host, server: str) -> str:
    said = f"redis-cli --no-auth-warning --user saltern-admin -s {SOCKETS[server]} acl list"
    return sh(host, f'REDISCLI_AUTH="$(cat /etc/redis/admin.pass)" {said}')


def calls(host: Host) -> str:
    return sh(host, "nft list chain inet saltern calls_demo")


def change(path: Path, edit: Callable[[dict[str, Any]], object]) -> None:
    about = yaml.safe_load(path.read_text())
    edit(about)
    path.write_text(yaml.safe_dump(about))


def uncounted(host: Host, run: str) -> int:
    """How many notes of a load have no count: their tasks were taken by the broker and never done."""
    query = (
        "SELECT count(*) FROM public.notes_note n LEFT JOIN public.words_wordcount w ON w.note_id = n.id"
        f" WHERE pg_catalog.starts_with(n.text, '{run} ') AND w.note_id IS NULL"
    )
    return int(sh(host, f"runuser -u postgres -- psql -XAtd demo -c {shlex.quote(query)}"))


@pytest.fixture
def app(lab: Lab, one: Host) -> Iterator[Path]:
    """The demo's file in the lab's site; at the end it is as it was, on the host too."""
    path = lab.site / "apps/demo.yaml"
    before = path.read_text()
    yield path
    path.write_text(before)
    generate_secrets(load_site(lab.site))
    outcome = apply(one)
    assert outcome.ok, explain(outcome)


def under_load(lab: Lab, one: Host, edit: Callable[[], object]) -> tuple[Load, Outcome, Outcome, float]:
    """Plan and apply a change while clients ask: the load, the plan, what was done, and its seconds."""
    load = Load(served.pages(lab.site)[0], served.ca_file(lab.site), dict(FEW))
    with load.running():
        time.sleep(3)
        edit()
        generate_secrets(load_site(lab.site))  # no host is told what it has no need of
        planned = apply(one, plan=True)
        began = time.monotonic()
        did = apply(one)
        took = time.monotonic() - began
        time.sleep(2)
    return load, planned, did, took


def lost_nothing(load: Load, one: Host) -> None:
    assert load.failures == []
    assert len(load.answers) > 100, "too few requests to prove anything"
    until = time.monotonic() + 15
    while uncounted(one, load.run) and time.monotonic() < until:
        time.sleep(0.5)
    assert uncounted(one, load.run) == 0, "a task that was taken was not done"


def as_planned(planned: Outcome, did: Outcome) -> None:
    assert did.ok, explain(did)
    assert planned.changed == did.changed
    name = "what nobody needs any more"
    going = [next((s["changes"] for s in run.states if s["__id__"] == name), None) for run in (planned, did)]
    assert going[0] == going[1]


def test_the_last_celery_process_goes_and_loses_no_request_and_no_task(lab: Lab, one: Host, app: Path) -> None:
    before = app.read_text()
    load, planned, did, took = under_load(
        lab, one, lambda: change(app, lambda about: about.update(processes={}, timers={}))
    )
    as_planned(planned, did)
    assert took < WHOLE
    lost_nothing(load, one)
    assert "app-demo" not in users(one, "broker") and "app-demo" in users(one, "cache")
    assert str(PORTS["broker"]) not in calls(one) and str(PORTS["cache"]) in calls(one)
    assert sh(one, "systemctl list-units --plain --no-legend 'app-demo-*@*'") == ""
    assert apply(one).changed == [] == apply(one, plan=True).changed

    load, planned, did, took = under_load(lab, one, lambda: app.write_text(before))
    as_planned(planned, did)
    lost_nothing(load, one)
    assert "app-demo" in users(one, "broker") and str(PORTS["broker"]) in calls(one)


def less(about: dict[str, Any]) -> None:
    """All that an app can have less of at once, and a release that goes with it."""
    about.update(cache=False, workers=1, threads=1, egress="none", media_url=None)
    about["env"]["LESS"] = "1"


def test_a_cache_and_all_that_can_be_less_go_and_lose_no_request(lab: Lab, one: Host, app: Path) -> None:
    change(app, lambda about: about.update(media_url="/media/"))
    assert apply(one).ok
    load, planned, did, took = under_load(lab, one, lambda: change(app, less))
    as_planned(planned, did)
    assert took < WHOLE
    lost_nothing(load, one)
    assert "app-demo" not in users(one, "cache") and "app-demo" in users(one, "broker")
    assert str(PORTS["cache"]) not in calls(one) and "0.0.0.0/0" not in calls(one)
    assert "location /media/" not in sh(one, "cat /etc/nginx/nginx.conf")
    limit = "SELECT rolconnlimit FROM pg_catalog.pg_roles WHERE rolname = 'demo'"
    assert int(sh(one, f"runuser -u postgres -- psql -XAtc {shlex.quote(limit)}")) < 16
    assert apply(one).changed == []


def test_a_release_that_is_refused_leaves_the_old_one_all_that_it_has(lab: Lab, one: Host, app: Path) -> None:
    def refused(about: dict[str, Any]) -> None:
        about.update(processes={}, timers={}, cache=False, health_path="/nothing-there", health_seconds=3)

    load, _, did, _ = under_load(lab, one, lambda: change(app, refused))
    assert [state["__id__"] for state in did.failed][:1] == ["demo is served"], explain(did)
    lost_nothing(load, one)
    assert all("app-demo" in users(one, server) and str(PORTS[server]) in calls(one) for server in PORTS)
    kept = next(s for s in did.states if s["__id__"] == "what nobody needs any more")
    assert kept["result"] and not kept["changes"] and "Still granted: " in kept["comment"]
    assert "is not of release" in kept["comment"]


@pytest.mark.parametrize("step", ["gate passed", "switched", "old one stopped"])
def test_an_apply_that_dies_in_between_is_gone_on_with(lab: Lab, one: Host, app: Path, step: str) -> None:
    load = Load(served.pages(lab.site)[0], served.ca_file(lab.site), {"get": 1, "post": 1})
    change(app, lambda about: about.update(processes={}, timers={}, cache=False))
    generate_secrets(load_site(lab.site))
    with load.running():
        died = apply(one, environment={"SALTERN_KILL_AT": step})
        assert not died.ok
        assert all("app-demo" in users(one, server) for server in PORTS)
        time.sleep(1)
        healed = apply(one)
        assert healed.ok, explain(healed)
    assert load.failures == []
    assert not any("app-demo" in users(one, server) for server in PORTS)
    assert apply(one).changed == []


RECORD = "/var/lib/saltern/needs.json"


@pytest.mark.parametrize("record", ["none", "damaged"])
def test_a_host_without_a_good_record_takes_nothing_from_what_runs(lab: Lab, one: Host, app: Path, record: str) -> None:
    """As an older Saltern has converged it, or after a disk that was full: the host's own files tell what it grants."""
    sh(one, f"rm -f {RECORD}" if record == "none" else f"echo '{{' > {RECORD}")
    gone = {"processes": {}, "timers": {}, "cache": False, "egress": "none"}
    load, planned, did, took = under_load(lab, one, lambda: change(app, lambda about: about.update(gone)))
    as_planned(planned, did)
    assert took < WHOLE
    lost_nothing(load, one)
    for run in (planned, did):
        said = next(s for s in run.states if s["__id__"] == "what is granted").get("warnings", [])
        assert (RECORD in str(said)) == (record == "damaged")
    assert sh(one, "cat /var/lib/saltern/needs.damaged || true") == ("" if record == "none" else "{")
    assert not any("app-demo" in users(one, server) for server in PORTS)
    assert apply(one).changed == [] == apply(one, plan=True).changed
    sh(one, "rm -f /var/lib/saltern/needs.damaged")
