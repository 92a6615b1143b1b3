"""Redis between two apps on one host: what one does, the other does not feel. What is done by hand is put back."""

from __future__ import annotations

import json
import shlex
import subprocess
import time
from collections.abc import Iterator

import pytest

from lab.apply import apply, explain
from lab.host import Host
from lab.images import REPOSITORY_ON_HOST
from lab.lab import Lab
from saltern.site import redisclients
from saltern.site.load import load_site
from saltern.site.secrets import generate_secrets

SOCKETS = {"broker": "/run/redis/admin.sock", "cache": "/run/redis-cache/admin.sock"}
PORTS = {"broker": 6380, "cache": 6381}
TLS = "--tls --cacert /etc/saltern/tls/ca.crt"
INTRUDER = "app-intruder"
# What an app with this name would have; it is put in by hand, and taken out by the next apply.
PASSWORD = "of-the-intruder-in-this-test"


def sh(host: Host, command: str) -> str:
    return host.execute(["sh", "-c", command], capture=True).stdout.strip()


def admin(host: Host, server: str, *words: str) -> str:
    said = f"timeout 15 redis-cli --no-auth-warning --user saltern-admin -s {SOCKETS[server]} {shlex.join(words)} 2>&1"
    return sh(host, f'REDISCLI_AUTH="$(cat /etc/redis/admin.pass)" {said}')


def as_intruder(host: Host, server: str, *words: str, number: int = 0) -> str:
    """Say something as another app does: over TLS, with its own password."""
    call = f"redis-cli --no-auth-warning --user {INTRUDER} {TLS} -p {PORTS[server]} -n {number}"
    return sh(host, f"REDISCLI_AUTH={PASSWORD} timeout 5 {call} {shlex.join(words)} 2>&1")


@pytest.fixture
def intruder(one: Host) -> Iterator[None]:
    """A second app with a cache and a broker, by the very rules that the demo has."""
    for server in SOCKETS:
        rules = next(
            line for line in admin(one, server, "acl", "list").splitlines() if line.startswith("user app-demo ")
        )
        words = [word.replace("demo:", "intruder:") for word in rules.split()[2:] if not word.startswith("#")]
        assert admin(one, server, "acl", "setuser", INTRUDER, "reset", *words, f">{PASSWORD}") == "OK"
    yield
    healed = apply(one)
    assert healed.ok, explain(healed)
    assert INTRUDER not in admin(one, "broker", "acl", "users") + admin(one, "cache", "acl", "users")


def within(host: Host, server: str, number: int, call: str) -> str:
    """Say something as root in one of the databases; a call as Lua writes it."""
    return admin(host, server, "eval", f"redis.call('select', {number}) return {call}", "0")


def waiting(host: Host) -> str:
    """Let one more task of the demo wait, in a queue that no worker looks at; return how many wait."""
    return within(host, "broker", 1, "redis.call('rpush', 'demo:waiting', 'a task')")


WRITES = [
    ("set", "KEY", "pickle"), ("setex", "KEY", "9", "pickle"), ("getset", "KEY", "pickle"), ("append", "KEY", "x"),
    ("del", "KEY"), ("unlink", "KEY"), ("expire", "KEY", "0"), ("rename", "KEY", "intruder:x"),
    ("rename", "intruder:x", "KEY"), ("copy", "intruder:x", "KEY", "REPLACE"), ("move", "KEY", "3"),
    ("getdel", "KEY"), ("lpush", "KEY", "x"), ("eval", "return redis.call('set', KEYS[1], 'pickle')", "1", "KEY"),
    ("eval", "return redis.call('set', 'KEY', 'pickle')", "0"), ("sort", "intruder:x", "STORE", "KEY"),
    ("restore", "KEY", "0", "x", "REPLACE"), ("migrate", "127.0.0.1", "1", "KEY", "0", "1"), ("flushdb",),
    ("flushall",), ("swapdb", "0", "1"), ("zunionstore", "KEY", "1", "intruder:x"),
    ("lmove", "KEY", "intruder:x", "LEFT", "LEFT"),
]  # fmt: skip
READS = [
    ("get", "KEY"), ("dump", "KEY"), ("mget", "intruder:x", "KEY"), ("type", "KEY"), ("exists", "KEY"),
    ("object", "encoding", "KEY"), ("eval", "return redis.call('get', 'KEY')", "0"),
    ("eval_ro", "return redis.call('get', KEYS[1])", "1", "KEY"), ("scan", "0"), ("keys", "*"), ("randomkey",),
    ("dbsize",), ("info",), ("monitor",), ("client", "list"), ("pubsub", "channels"),
    ("client", "tracking", "on", "bcast"), ("memory", "usage", "KEY"), ("watch", "KEY"),
    ("sort", "intruder:x", "GET", "demo:*"), ("psync", "?", "-1"), ("lrange", "KEY", "0", "-1"),
    ("xread", "STREAMS", "KEY", "0"), ("touch", "KEY"), ("ttl", "KEY"), ("subscribe", "demo:1"), ("psubscribe", "*"),
    ("psubscribe", "demo:/1.celeryev/*"), ("publish", "demo:/1.celery.pidbox", "x"),
]  # fmt: skip


def test_an_app_neither_reads_nor_writes_what_another_has(one: Host, intruder) -> None:
    """Its session, into which it would write a pickle; its queue; its channels."""
    admin(one, "cache", "set", "demo:1:session", "the demo's")
    waiting(one)
    for server, key, number in (("cache", "demo:1:session", 0), ("broker", "demo:waiting", 1)):
        before = within(one, server, number, f"redis.sha1hex(redis.call('dump', '{key}'))")
        assert before
        assert as_intruder(one, server, "set", "intruder:x", "its own", number=number) == "OK"
        for words in (*WRITES, *READS):
            said = as_intruder(one, server, *(word.replace("KEY", key) for word in words), number=number)
            refused = any(no in said for no in ("NOPERM", "no permissions", "can't access", "ACL failure"))
            assert refused, f"{words} on {server}: {said}"
        after = within(one, server, number, f"redis.sha1hex(redis.call('dump', '{key}'))")
        assert after == before


def test_an_app_without_a_need_has_no_way_in(one: Host) -> None:
    """Bugsink declares none: no user, no password, no address, and the firewall lets its account to no port."""
    for server in SOCKETS:
        assert "app-bugsink" not in admin(one, server, "acl", "users")
    # Releases of an older Saltern that are kept have the password that is good no more.
    serving = "systemctl list-units --plain --no-legend 'app-bugsink@*' | cut -d' ' -f1"
    release = f"/srv/apps/bugsink/releases/$({serving} | sed 's/.*@//; s/.service//')"
    assert sh(one, f"ls {release}/env"), "there is no release, so this proves nothing"
    assert sh(one, f"grep -riE 'redis|CACHE_|BROKER_' {release}/env; find /var/lib/apps/bugsink -name '*redis*'") == ""
    call = "import socket, sys; socket.create_connection(('127.0.0.1', int(sys.argv[1])), 3)"
    for port in PORTS.values():
        said = sh(one, f'runuser -u app-bugsink -- python3 -c "{call}" {port} 2>&1')
        assert "refused" in said or "unreachable" in said or "not permitted" in said, said
        assert sh(one, f'runuser -u app-demo -- python3 -c "{call}" {port} 2>&1') == "", "the demo gets there"


FILL = """
import os, redis
cache = redis.Redis.from_url(os.environ["CACHE_URL"])
for number in range(400):
    cache.set(f"intruder:{number}", b"x" * 1000000)
"""


def test_a_cache_that_one_app_fills_loses_no_task_of_another(one: Host, intruder) -> None:
    """400 MB through a cache of 128; the broker keeps what waits, and takes more."""
    held = waiting(one)
    (python, *_) = sh(one, "ls -d /srv/apps/demo/releases/*/venv/bin/python").splitlines()
    url = f"rediss://{INTRUDER}:{PASSWORD}@127.0.0.1:{PORTS['cache']}/0?ssl_ca_certs=/etc/saltern/tls/ca.crt"
    filled = one.execute(["env", f"CACHE_URL={url}", python, "-c", FILL], capture=True)
    assert filled.returncode == 0, filled.stderr
    evicted = admin(one, "cache", "info", "stats")
    assert "evicted_keys:0\r" not in evicted + "\r" and "evicted_keys:0\n" not in evicted, "it was not full"
    assert within(one, "broker", 1, "redis.call('llen', 'demo:waiting')") == held
    assert within(one, "broker", 1, "redis.call('del', 'demo:waiting')") == "1"


@pytest.mark.parametrize("signal", ["KILL", "TERM"])
def test_what_was_acknowledged_is_there_after_a_restart_transactions_and_scripts_too(one: Host, signal: str) -> None:
    """Redis reads its file back as its default user, and drops the transactions that this one may not do."""
    said = "\n".join(["select 1", "multi", "rpush demo:kept one", "rpush demo:kept two", "exec", "get demo:none"])
    admin(one, "broker", "eval", "redis.call('select', 1) redis.call('del', 'demo:kept')", "0")
    call = f"redis-cli --no-auth-warning --user saltern-admin -s {SOCKETS['broker']}"
    sh(one, f'printf %s {shlex.quote(said)} | REDISCLI_AUTH="$(cat /etc/redis/admin.pass)" {call}')
    within(one, "broker", 1, "redis.call('rpush', 'demo:kept', 'three', 'four')")
    count = "redis.call('llen', 'demo:kept')"
    assert within(one, "broker", 1, count) == "4"
    main_pid = "systemctl show --value --property=MainPID redis-server"
    before, deadline = sh(one, main_pid), time.monotonic() + 30
    one.execute(["systemctl", "kill", f"--signal={signal}", "--kill-whom=main", "redis-server"])
    while sh(one, main_pid) in (before, "0") or not (left := within(one, "broker", 1, count)).isdigit():
        assert time.monotonic() < deadline, "it is not back"
        time.sleep(0.3)
    assert left == "4", "acknowledged, and lost"
    assert apply(one).ok


@pytest.mark.slow("bookworm")
@pytest.mark.parametrize("script", ["while true do end", "redis.call('set', 'intruder:x', 1) while true do end"])
def test_an_endless_script_is_ended_and_loses_no_task_of_another(one: Host, intruder, script: str) -> None:
    """Redis has one thread and no limit for a script; one that has written goes with the server, which comes back."""
    held = waiting(one)
    command = f"redis-cli --no-auth-warning --user {INTRUDER} {TLS} -p {PORTS['broker']} eval {shlex.quote(script)} 0"
    sh(one, f"REDISCLI_AUTH={PASSWORD} systemd-run --quiet --collect -E REDISCLI_AUTH sh -c {shlex.quote(command)}")
    time.sleep(1)
    assert "PONG" not in sh(one, f"timeout 1 redis-cli -s {SOCKETS['broker']} ping"), (
        "it is not deaf, so this proves nothing"
    )
    until = time.monotonic() + 30
    while admin(one, "broker", "ping") != "PONG" and time.monotonic() < until:
        time.sleep(0.5)
    assert within(one, "broker", 1, "redis.call('llen', 'demo:waiting')") == held
    assert within(one, "broker", 1, "redis.call('del', 'demo:waiting')") == "1"


# Connections that never say a word.
CROWD = """
import socket, sys, time
held = []
for _ in range(900):
    try:
        held.append(socket.create_connection(("127.0.0.1", int(sys.argv[1])), 3))
    except OSError:
        break
print(len(held), flush=True)
time.sleep(4)
"""


@pytest.mark.parametrize("server", SOCKETS)
def test_connections_that_never_log_in_take_no_places_of_others(lab: Lab, one: Host, server: str) -> None:
    counted = redisclients.most(load_site(lab.site), server)
    (most,) = [number for (_, app), number in counted.items() if app == "demo"]
    become = ["setpriv", "--reuid=app-demo", "--clear-groups", "python3", "-c", CROWD, str(PORTS[server])]
    crowd = subprocess.Popen(one.argv(become), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
    assert crowd.stdout is not None
    opened = int(crowd.stdout.readline())  # in all; one that ended meanwhile has given its place to another
    assert 0 < opened <= most * 1.05 and most < 900
    assert admin(one, server, "ping") == "PONG"
    crowd.wait(30)


def plan(host: Host) -> dict[str, dict]:
    command = ["salt-call", "state.apply", "redis", "test=True", "--out=json"]
    done = host.execute(command, capture=True, cwd=str(REPOSITORY_ON_HOST))
    return {state["__id__"]: state for state in json.loads(done.stdout)["local"].values()}


DRIFT = [
    ("broker", ("config", "set", "timeout", "7"), "timeout"),
    ("broker", ("config", "set", "maxmemory-policy", "allkeys-random"), "maxmemory-policy"),
    ("broker", ("config", "set", "appendonly", "no"), "appendonly"),
    ("broker", ("config", "set", "port", "6379"), "port"),
    ("cache", ("config", "set", "tls-protocols", "TLSv1.2"), "tls-protocols"),
    ("cache", ("config", "set", "requirepass", "known-to-me"), "user default"),
    ("cache", ("acl", "setuser", "stranger", "on", "nopass", "~*", "&*", "+@all"), "user stranger"),
    ("cache", ("acl", "setuser", "app-demo", "~*", "+@all"), "user app-demo"),
    ("broker", ("acl", "setuser", "app-demo", ">another-password-of-it"), "user app-demo"),
    ("broker", ("acl", "deluser", "saltern-health"), "user saltern-health"),
    ("broker", ("acl", "setuser", "saltern-health", "+@all", "~*"), "user saltern-health"),
]


def test_what_somebody_changed_at_run_time_is_planned_and_put_back_without_a_restart(one: Host) -> None:
    """Every kind of it at once: settings that the files name and that they do not, users that are and that are not."""
    healed = apply(one)
    assert healed.ok, explain(healed)
    pids = sh(one, "pgrep -x redis-server")
    waiting(one)
    for server, words, _ in DRIFT:
        assert admin(one, server, *words) in ("OK", "1"), words
    planned = plan(one)
    for server in SOCKETS:
        assert {name for s, _, name in DRIFT if s == server} <= set(planned[server]["changes"]), planned[server]
    said = json.dumps(planned)
    assert "another-password" not in said and "known-to-me" not in said
    healed = apply(one)
    assert healed.ok, explain(healed)
    assert set(healed.changed) == set(SOCKETS)
    assert sh(one, "pgrep -x redis-server") == pids, "nothing was restarted"
    assert within(one, "broker", 1, "redis.call('del', 'demo:waiting')") == "1"
    assert apply(one).changed == []


@pytest.mark.slow("bookworm")
def test_a_server_that_does_not_know_root_any_more_is_started_anew(one: Host) -> None:
    """Somebody took root's user away at run time: there is no other way in."""
    assert admin(one, "cache", "acl", "setuser", "saltern-admin", "off", "resetpass") == "OK"
    assert "WRONGPASS" in admin(one, "cache", "ping")
    assert plan(one)["cache"]["result"] is None
    healed = apply(one)
    assert healed.ok, explain(healed)
    assert healed.changed == ["cache"]
    assert admin(one, "cache", "ping") == "PONG"
    assert apply(one).changed == []


@pytest.mark.slow("bookworm")
def test_a_renewed_certificate_is_read_while_the_servers_run(one: Host, lab: Lab) -> None:
    """They go on, and so do their clients; the plan says so."""
    pids = sh(one, "pgrep -x redis-server")
    serial = "openssl x509 -noout -serial"
    shown = f"openssl s_client -connect 127.0.0.1:{{}} </dev/null 2>/dev/null | {serial}"
    before = {server: sh(one, shown.format(port)) for server, port in PORTS.items()}
    generate_secrets(load_site(lab.site), renew=["tls"])
    planned = plan(one)
    for unit in ("redis-server.service", "redis-server@cache.service"):
        assert planned[unit]["changes"]["process"]["new"] == "reloaded"
    healed = apply(one)
    assert healed.ok, explain(healed)
    now = sh(one, f"{serial} -in /etc/redis/tls/host.crt")
    for server, port in PORTS.items():
        assert sh(one, shown.format(port)) == now != before[server]
    assert sh(one, "pgrep -x redis-server") == pids
