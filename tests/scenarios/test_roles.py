"""A role that the fleet took from a host is stopped there, its data stay, and giving it back brings everything back."""

from __future__ import annotations

import json

from lab import served
from lab.apply import apply, explain
from lab.host import Host
from lab.images import REPOSITORY_ON_HOST
from lab.lab import Lab
from saltern.site.roles import STOPPABLE


def stop(host: Host, roles: list[str], *words: str) -> dict:
    command = ["salt-call", "state.apply", ",".join(f"{role}.absent" for role in roles), "--out=json", *words]
    done = host.execute(command, capture=True, cwd=str(REPOSITORY_ON_HOST))
    assert done.returncode == 0, done.stdout + done.stderr
    return {state["__id__"]: state for state in json.loads(done.stdout)["local"].values()}


def running(host: Host) -> set[str]:
    units = [
        "haproxy.service",
        "nginx.service",
        "redis-server.service",
        "redis-server@cache.service",
        "redis-unblock.service",
        "postgresql@*",
        "postgres-guard.service",
        "app-*",
    ]
    listed = host.execute(
        ["systemctl", "list-units", "--state=running", "--plain", "--no-legend", *units], capture=True
    )
    return {line.split()[0] for line in listed.stdout.splitlines()}


def test_roles_are_taken_and_given_back(lab: Lab, one: Host) -> None:
    count = ["runuser", "-u", "postgres", "--", "psql", "-XAtd", "demo", "-c", "select count(*) from public.notes_note"]
    before = one.execute(count, capture=True).stdout
    assert before.strip(), "there is no table, so nothing below proves that its rows stay"
    assert len(running(one)) >= 5
    roles = [role for role in STOPPABLE if role in lab.fleet["hosts"][one.id]["roles"]]
    planned = {name for name, state in stop(one, roles, "test=True").items() if state["result"] is None}
    stopped = {name: state["__sls__"] for name, state in stop(one, roles).items() if state["changes"]}
    assert planned == set(stopped)
    assert set(stopped.values()) == {f"{role}.absent" for role in roles}
    assert not any(state["changes"] for state in stop(one, roles).values())
    assert running(one) == set()
    back = apply(one)
    assert back.ok, explain(back)
    assert {page.status for page in served.check(lab.site)} == {200}
    assert one.execute(count, capture=True).stdout == before
    assert apply(one).changed == []
