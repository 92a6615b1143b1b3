"""Redis: a password, loopback or the declared address, nothing else."""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.role("redis")


def test_without_the_password_nothing_is_answered(host) -> None:
    address = host.check_output("ss -Hltn 'sport = :6379' | awk '{print $4}' | head -1").rsplit(":", 1)[0]
    assert "NOAUTH" in host.check_output(f"redis-cli -h {address} get x")
    assert "WRONGPASS" in host.check_output(f"redis-cli -h {address} --no-auth-warning -a wrong get x 2>&1")


def test_it_does_not_run_as_root(host) -> None:
    assert host.check_output("ps -o user= -C redis-server") == "redis"


def test_memory_is_bounded(host) -> None:
    password = "$(cut -d'\"' -f2 /etc/redis/password.conf)"
    assert int(host.check_output(f'REDISCLI_AUTH="{password}" redis-cli config get maxmemory | tail -1')) > 0
