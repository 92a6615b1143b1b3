"""Redis: two servers, a user for each app with its own keys, TLS, and nobody else."""

from __future__ import annotations

import json
import re

import pytest

from saltern.site.apps import App
from saltern.site.names import redis_user
from saltern.site.site import Site

pytestmark = pytest.mark.role("redis")
SERVERS = {
    "broker": ("redis-server", "/run/redis/admin.sock"),
    "cache": ("redis-server@cache", "/run/redis-cache/admin.sock"),
}
each_server = pytest.mark.parametrize("server", SERVERS)


@pytest.fixture(scope="session")
def ports(site: Site) -> dict[str, int]:
    """Where each server listens."""
    return {"broker": site.settings.redis.broker_port, "cache": site.settings.redis.cache_port}


def needing(server: str, apps: dict[str, App]) -> set[str]:
    """The apps that have a need of a server."""
    return {name for name, app in apps.items() if (app.cache if server == "cache" else app.uses_broker)}


def ask(
    host, server: str, words: str, user: str = "saltern-admin", password: str = "$(cat /etc/redis/admin.pass)"
) -> str:
    command = f"redis-cli --no-auth-warning --user {user} -s {SERVERS[server][1]} {words} 2>&1"
    return host.check_output(f'REDISCLI_AUTH="{password}" {command}')


def test_neither_runs_as_root(host) -> None:
    assert host.check_output("ps -o user= -C redis-server").split() == ["redis", "redis"]


@each_server
def test_only_tls_is_offered_and_its_certificate_is_the_hosts(host, server: str, ports: dict[str, int]) -> None:
    port = ports[server]
    tls = "openssl s_client -CAfile /etc/saltern/tls/ca.crt -verify_return_error -brief </dev/null 2>&1"
    good = host.check_output(f"{tls.replace('s_client', f's_client -connect 127.0.0.1:{port} -verify_ip 127.0.0.1')}")
    assert "TLSv1.3" in good and "Verification: OK" in good
    old = host.run(f"{tls.replace('s_client', f's_client -connect 127.0.0.1:{port} -tls1_2')}")
    assert "TLSv1.2" not in old.stdout.replace("-tls1_2", "")
    assert ask(host, server, "config get port").split() == ["port", "0"]
    listening = host.check_output("ss -Hltnp | grep redis-server | awk '{print $4}'").split()
    assert {address.rpartition(":")[2] for address in listening} == {str(port) for port in ports.values()}


@each_server
def test_without_a_user_nothing_is_answered(host, server: str, ports: dict[str, int], apps: dict[str, App]) -> None:
    call = f"redis-cli --tls --cacert /etc/saltern/tls/ca.crt -p {ports[server]}"
    assert "NOAUTH" in host.check_output(f"{call} get x 2>&1")
    for user in ("default", "saltern-admin", "saltern-health", *map(redis_user, apps)):
        assert "WRONGPASS" in host.check_output(f"{call} --no-auth-warning --user {user} --pass wrong get x 2>&1")


@each_server
def test_no_user_knows_more_than_it_needs(host, server: str, apps: dict[str, App]) -> None:
    """The default user is off, without a password; root's and the health check's are there; an app's has its prefix."""
    users = dict(line.split(" ", 2)[1:] for line in ask(host, server, "acl list").splitlines())
    own = needing(server, apps)
    assert set(users) == {"default", "saltern-admin", "saltern-health", *map(redis_user, own)}
    nobody = users["default"].split()  # it may do everything, for Redis itself: nobody must get in as it
    assert nobody[0] == "off" and "nopass" not in nobody and not any(word.startswith("#") for word in nobody)
    for app in own:
        words = users[redis_user(app)].split()
        assert [word for word in words if word.startswith(("~", "%"))] == [f"~{app}:*"]
        channels = [word for word in words if word.startswith("&")]
        assert channels and all(channel.startswith(f"&{app}:") for channel in channels)
        assert not any("nopass" in word for word in words)


@each_server
def test_an_app_may_say_what_is_declared_and_nothing_else(host, server: str, apps: dict[str, App]) -> None:
    """Every command that this Redis has, tried as each app's user on its own keys."""
    declared = set(DECLARED.split())
    for app in needing(server, apps):
        allowed, known = said(host, server, redis_user(app), f"{app}:")
        assert len(known) > 300
        assert allowed - declared == set(), "may say more than is declared"
        assert (declared & known) - allowed == set(), "may not say what it needs"


def said(host, server: str, user: str, prefix: str) -> tuple[set[str], set[str]]:
    """The commands that a user may say, and all that there are."""
    script = TRY_ALL.replace("SOCKET", SERVERS[server][1]).replace("USER", user).replace("PREFIX", prefix)
    allowed, known = json.loads(host.check_output(f"python3 -c {shell_quoted(script)}"))
    return set(allowed), set(known)


def shell_quoted(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"


# ACL DRYRUN asks whether a user may say a command, and says nothing of it. Some keys stand behind their number.
TRY_ALL = r"""
import json, subprocess
def cli(*words):
    secret = open("/etc/redis/admin.pass").read().strip()
    argv = ["redis-cli", "--no-auth-warning", "--user", "saltern-admin", "-s", "SOCKET", "--no-raw"]
    done = subprocess.run(argv, input="\n".join(words), env={"REDISCLI_AUTH": secret, "PATH": "/usr/bin"},
                          capture_output=True, text=True)
    return done.stdout
known = [line.split('"')[1] for line in cli("COMMAND LIST").splitlines() if '"' in line]
words = {}
for name in known:
    spoken = name.replace("|", " ")
    for count in range(0, 9):
        for tail in (["PREFIXk"] * count, ["1"] + ["PREFIXk"] * count, ["x", "1"] + ["PREFIXk"] * count):
            words.setdefault(name, []).append(f"ACL DRYRUN USER {spoken} {' '.join(tail)}")
flat = [(name, line) for name, lines in words.items() for line in lines]
answers = cli(*(line for _, line in flat)).splitlines()
allowed = {name for (name, _), answer in zip(flat, answers) if answer == "OK"}
print(json.dumps([sorted(allowed), known]))
"""
# All of it is limited to the app's own keys and channels, or concerns nothing but its own connection. What is not
# here harms others (FLUSHDB, CONFIG, ...), tells of them (SCAN, RANDOMKEY, PUBSUB, MEMORY, ...), or is of no use.
DECLARED = """
    acl|whoami append auth bitcount bitfield bitfield_ro bitop bitpos blmove blmpop blpop brpop brpoplpush bzmpop
    bzpopmax bzpopmin client|getname client|id client|info client|setinfo client|setname copy decr decrby del
    discard dump echo eval eval_ro evalsha evalsha_ro exec exists expire expireat expiretime geoadd geodist geohash
    geopos georadius georadius_ro georadiusbymember georadiusbymember_ro geosearch geosearchstore get getbit getdel
    getex getrange getset hdel hello hexists hexpire hexpireat hexpiretime hget hgetall hgetdel hgetex hincrby
    hincrbyfloat hkeys hlen hmget hmset hpersist hpexpire hpexpireat hpexpiretime hpttl hrandfield hscan hset
    hsetex hsetnx hstrlen httl hvals incr incrby incrbyfloat lcs lindex linsert llen lmove lmpop lpop lpos lpush
    lpushx lrange lrem lset ltrim mget move mset msetnx multi object|encoding object|freq object|idletime
    object|refcount persist pexpire pexpireat pexpiretime pfadd pfcount pfmerge ping psetex pttl publish
    punsubscribe quit rename renamenx reset rpop rpoplpush rpush rpushx sadd scard script|exists script|load sdiff
    sdiffstore select set setbit setex setnx setrange sinter sintercard sinterstore sismember smembers smismember
    smove spop spublish srandmember srem sscan ssubscribe strlen subscribe substr sunion sunionstore sunsubscribe
    time touch ttl type unlink unsubscribe unwatch watch xack xadd xautoclaim xclaim xdel xgroup|create
    xgroup|createconsumer xgroup|delconsumer xgroup|destroy xgroup|setid xinfo|consumers xinfo|groups xinfo|stream
    xlen xpending xrange xread xreadgroup xrevrange xsetid xtrim zadd zcard zcount zdiff zdiffstore zincrby zinter
    zintercard zinterstore zlexcount zmpop zmscore zpopmax zpopmin zrandmember zrange zrangebylex zrangebyscore
    zrangestore zrank zrem zremrangebylex zremrangebyrank zremrangebyscore zrevrange zrevrangebylex
    zrevrangebyscore zrevrank zscan zscore zunion zunionstore
"""


@each_server
def test_memory_is_bounded_and_a_full_broker_loses_nothing(host, server: str) -> None:
    found = dict(re.findall(r"(\S+)\n(\S+)", ask(host, server, "config get maxmemory*")))
    assert int(found["maxmemory"]) > 0 and found["maxmemory-clients"] == "25%"
    assert found["maxmemory-policy"] == {"broker": "noeviction", "cache": "allkeys-lru"}[server]
    durable = ask(host, server, "config get appendonly").split()[1]
    assert durable == {"broker": "yes", "cache": "no"}[server]


@each_server
def test_what_a_script_takes_ends_at_the_unit_and_not_at_the_host(host, server: str, site: Site) -> None:
    unit = SERVERS[server][0]
    said = host.check_output(f"systemctl show {unit} -p MemoryMax,OOMPolicy").splitlines()
    most, policy = map(dict(line.split("=", 1) for line in said).__getitem__, ("MemoryMax", "OOMPolicy"))
    held = getattr(site.settings.redis, f"{server}_maxmemory_mb") * 2**20
    assert 2.5 * held < int(most) < 2.5 * held + 2**29 and policy == "continue"


@each_server
def test_the_health_checks_user_sees_figures_and_no_keys(host, server: str) -> None:
    password = "$(cat /etc/redis/health.pass)"
    assert ask(host, server, "ping", "saltern-health", password) == "PONG"
    assert "used_memory:" in ask(host, server, "info memory", "saltern-health", password)
    for words in ("get some:1:x", "config get maxmemory", "acl list", "client list", "keys '*'"):
        assert "NOPERM" in ask(host, server, words, "saltern-health", password)


def test_passwords_and_keys_are_for_those_who_need_them(host) -> None:
    listed = host.check_output("stat -c '%a %U %G %n' /etc/redis /etc/redis/* /etc/redis/tls/* /run/redis*/admin.sock")
    modes = {line.split()[3]: line.split()[:3] for line in listed.splitlines()}
    assert modes["/etc/redis"] == ["750", "root", "redis"], "what root reads in it nobody else can replace"
    assert modes["/etc/redis/admin.pass"] == modes["/etc/redis/health.pass"] == ["600", "root", "root"]
    assert all(mode[0][-1] == "0" for mode in modes.values()), modes
    assert host.run("grep -rhoE '^requirepass|user [^#]* >' /etc/redis/").stdout == "", "a password in clear"
