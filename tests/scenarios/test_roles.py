"""A role that the fleet took from a host is stopped there, its data stay, and giving it back brings everything back."""

from __future__ import annotations

import json

from lab import served
from lab.apply import apply, explain
from lab.host import Host
from lab.images import REPOSITORY_ON_HOST
from lab.lab import Lab
from saltern.layout import STOPPABLE


def stop(host: Host, role: str, *words: str) -> dict:
    command = ["salt-call", "state.apply", f"{role}.absent", "--out=json", *words]
    done = host.execute(command, capture=True, cwd=str(REPOSITORY_ON_HOST))
    assert done.returncode == 0, done.stdout + done.stderr
    return {state["__id__"]: state for state in json.loads(done.stdout)["local"].values()}


def running(host: Host) -> set[str]:
    units = ["haproxy", "nginx", "redis-server", "postgresql@*", "app-*"]
    listed = host.execute(
        ["systemctl", "list-units", "--state=running", "--plain", "--no-legend", *units], capture=True
    )
    return {line.split()[0] for line in listed.stdout.splitlines()}


def test_roles_are_taken_and_given_back(lab: Lab, one: Host) -> None:
    count = ["runuser", "-u", "postgres", "--", "psql", "-XAtd", "demo", "-c", "select count(*) from notes_note"]
    before = one.execute(count, capture=True).stdout
    assert before.strip(), "there is no table, so nothing below proves that its rows stay"
    assert len(running(one)) >= 5
    for role in STOPPABLE:
        planned = {name for name, state in stop(one, role, "test=True").items() if state["result"] is None}
        stopped = {name for name, state in stop(one, role).items() if state["changes"]}
        assert planned == stopped and stopped
        assert not any(state["changes"] for state in stop(one, role).values())
    assert running(one) == set()
    back = apply(one)
    assert back.ok, explain(back)
    assert served.check(lab.site)
    assert one.execute(count, capture=True).stdout == before
    assert apply(one).changed == []


def test_a_host_without_roles_has_them_stopped_by_the_highstate(lab: Lab, one: Host) -> None:
    """What Salt compiles for a host that is only base."""
    fleet = lab.site / "fleet.yaml"
    apps = {path: path.read_text() for path in (lab.site / "apps").glob("*.yaml")}
    before = fleet.read_text()
    try:
        for path in apps:
            path.unlink()
        fleet.write_text(before.replace(before[before.index("roles: [") : before.index("]") + 1], "roles: [base]"))
        command = ["salt-call", "state.show_top", "--out=json"]
        top = one.execute(command, capture=True, cwd=str(REPOSITORY_ON_HOST))
        assert {f"{role}.absent" for role in STOPPABLE} < set(json.loads(top.stdout)["local"]["base"]), top.stdout
    finally:
        fleet.write_text(before)
        for path, text in apps.items():
            path.write_text(text)
