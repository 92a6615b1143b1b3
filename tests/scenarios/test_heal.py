"""Whatever was interrupted is healed by the next apply."""

from __future__ import annotations

import pytest
from conftest import change

from lab.apply import apply, explain
from lab.host import Host


def kill_salt(host: Host) -> None:
    """End the apply that runs on the host, without warning."""
    host.execute(["pkill", "-KILL", "-f", "salt-call state.apply"])


CASES = [
    # role, setting, a file that the daemon's state requires: it is made to fail after the config was written
    ("redis", {"broker_maxmemory_mb": 65}, "/etc/systemd/system/redis-server.service.d/saltern.conf"),
    (
        "postgres",
        {"settings": {"log_min_duration_statement": "777ms"}},
        "/etc/systemd/system/postgresql@*-main.service.d/saltern.conf",
    ),
]


@pytest.mark.parametrize("role, values, required", CASES, ids=[case[0] for case in CASES])
def test_a_daemon_gets_the_config_of_an_apply_that_then_failed(one: Host, settings, role, values, required) -> None:
    """With `watch`, the second apply would be green and the daemon would keep its old config for ever."""
    change(settings, role, **values)
    one.execute(["sh", "-c", f"set -e; file=$(ls {required}); mv $file $file.away; mkdir $file"])
    try:
        failed = apply(one)
    finally:
        one.execute(["sh", "-c", f"set -e; file=$(ls -d {required}); rmdir $file; mv $file.away $file"])
    assert not failed.ok
    assert any(state["name"].endswith(CONFIG[role]) and state["changes"] for state in failed.states)
    assert running_config(one, role) != expected(role), "the daemon has it already, so this proves nothing"
    healed = apply(one)
    assert healed.ok, explain(healed)
    assert running_config(one, role) == expected(role)
    assert apply(one).changed == []


CONFIG = {"redis": "/redis.conf", "postgres": "/postgresql.conf"}


def running_config(host: Host, role: str) -> str:
    """Ask the running daemon, not its file."""
    commands = {
        "redis": "REDISCLI_AUTH=$(cat /etc/redis/admin.pass) redis-cli --no-auth-warning --user saltern-admin"
        " -s /run/redis/admin.sock config get maxmemory | tail -1",
        "postgres": "runuser -u postgres -- psql -XAtc 'show log_min_duration_statement'",
    }
    return host.execute(["sh", "-c", commands[role]], capture=True).stdout.strip()


def expected(role: str) -> str:
    return {"redis": str(65 * 1024 * 1024), "postgres": "777ms"}[role]


def test_a_plug_pulled_in_the_middle_of_an_apply_is_healed(one: Host, settings) -> None:
    def power_off(name: str, _milliseconds: float) -> None:
        if "/etc/nginx/nginx.conf" in name:
            one.power_off()

    change(settings, "redis", broker_maxmemory_mb=66)
    assert not apply(one, on_state=power_off).ok
    one.boot()
    healed = apply(one)
    assert healed.ok, explain(healed)
    assert apply(one).changed == []


def test_an_apply_that_was_killed_is_a_failure(one: Host) -> None:
    outcome = apply(one, on_state=lambda name, _ms: kill_salt(one))
    assert not outcome.ok
    assert outcome.exit_code != 0
