"""A deploy loses no request, whatever is deployed, taken back or killed. The long run is bench/deploys.py."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab import served
from lab.apply import apply, explain
from lab.deploys import AFTER_IT_BROKE, Demo, demo_of
from lab.host import Host
from lab.lab import Lab
from lab.load import FEW, Load, percentile
from saltern.release.steps import STEPS

SAMPLED = ("packages installed", "Django asked", "migration begun", "gate passed", "switched", "old one drained")

pytestmark = pytest.mark.slow("trixie")


@pytest.fixture(scope="module")
def demo(lab: Lab) -> Iterator[Demo]:
    # A release that answers 500 is asked for health_seconds. The worker stays; one that goes is in test_needs.py.
    with demo_of(lab, lab.hosts()[0], timers={}, health_seconds=12) as demo:
        yield demo


def front_door(lab: Lab) -> tuple[served.Page, Path]:
    return served.pages(lab.site)[0], served.ca_file(lab.site)


def test_deploys_bad_releases_and_rollbacks_lose_no_request(lab: Lab, demo: Demo, record_property) -> None:
    load, served_ids = Load(*front_door(lab), dict(FEW)), []
    with load.running():
        time.sleep(6)
        steady = time.monotonic()
        for _ in range(3):
            demo.change()
            outcome = demo.deploy()
            assert outcome.ok, explain(outcome)
            served_ids.append(demo.active())
        for how in ("does not start", "answers 500", "wrong version", "crash loop"):
            demo.break_it(how)
            refused = demo.deploy()
            assert demo.active() == served_ids[-1]
            assert [state["__id__"] for state in refused.failed][:1] == ["demo is served"], how
            comment = refused.failed[0]["comment"]
            assert f"{served_ids[-1]} serves on" in comment and "Its last log lines:" in comment
            assert ("crash loop" in comment) == (how == "crash loop"), comment
            assert (AFTER_IT_BROKE in comment) == (how != "wrong version"), "the app's own words belong on the screen"
        for release in reversed(served_ids[:-1]):
            assert f"Release {release} of demo has the traffic" in str(demo.call("rollback"))
        time.sleep(1)
    ended = time.monotonic()
    assert load.failures == []
    assert len(load.answers) > 500, "too few requests to prove anything"
    assert load.releases >= set(served_ids) and "other" not in load.releases
    assert sorted(demo.notes(load.run)) == sorted(load.posted), "a note was lost, or written twice"
    assert len(load.styles) >= 3, "each release has a style sheet of its own, and all of them were asked for"
    assert len(list_of_units(demo.host)) == 1
    for name, span in {"steady": (0.0, steady), "deploys": (steady, ended)}.items():
        record_property(f"p99 ms, {name}", round(percentile(load.between(*span), 0.99) * 1000))
    kept = apply(demo.host)  # the site holds a broken release, and the pin still holds the good one
    assert demo.active() == served_ids[0] and "demo is served" not in kept.changed
    assert "pinned by" in next(s["comment"] for s in kept.states if s["__id__"] == "demo is served")
    results = [line["result"] for line in demo.call("log")]  # type: ignore[attr-defined]
    assert results[-9:] == ["activated"] * 3 + ["refused"] * 4 + ["rolled back"] * 2
    demo.call("unpin")


def list_of_units(host: Host) -> list[str]:
    command = ["systemctl", "list-units", "--plain", "--no-legend", "--state=active", "app-demo@*"]
    return host.execute(command, capture=True).stdout.splitlines()


@pytest.fixture
def steps(request: pytest.FixtureRequest) -> tuple[str, ...]:
    """Where deploys are killed: at every step; in the full test, which has samples of what is slow, at some."""
    return SAMPLED if request.config.getoption("--sample") else STEPS


def test_a_deploy_killed_at_any_step_serves_on_and_the_next_one_takes_it_up(
    lab: Lab, demo: Demo, steps: tuple[str, ...]
) -> None:
    """After each single kill: the app is served, one apply brings the new release, and another one changes nothing."""
    demo.change()
    outcome = demo.deploy()
    assert outcome.ok, explain(outcome)
    load = Load(*front_door(lab), clients={"get": 1, "get, new connection": 1, "post": 1})
    with load.running():
        for step in steps:
            before = demo.active()
            if step == "migration begun":
                demo.change(migration=True)
            else:
                demo.change_environment()  # nothing has to be built for it
            died = demo.deploy(kill_at=step)
            assert not died.ok and died.states == [], f"Salt was to end at: {step}"
            assert (demo.active() == before) == (STEPS.index(step) < STEPS.index("switched")), step
            assert served.get(load.page, load.ca)[0] == 200, step
            healed = demo.deploy()
            assert healed.ok, f"{step}: {explain(healed)}"
            assert demo.active() != before and len(list_of_units(demo.host)) == 1, step
            assert demo.deploy().changed == [], step
    assert load.failures == [] and len(load.answers) > 100
    assert sorted(demo.notes(load.run)) == sorted(load.posted)
    status = demo.call("status")
    assert status["problems"] == [] and status["busy"] is None  # type: ignore[index]
