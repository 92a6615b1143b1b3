"""Redis' configuration files: the two servers, their users, and what each app may do there.

A host with role redis runs two servers: the broker, whose tasks must not be lost, and the cache, which may forget.
Users stand in the configuration. There is no ``aclfile``: to read it again, Redis 7.0 cuts everybody's connections.
"""

from __future__ import annotations

import hashlib
from typing import Any

#: Of each server: its systemd unit, its configuration, its users, and the socket for root's own work.
SERVERS = {
    "broker": {
        "unit": "redis-server.service",
        "config": "/etc/redis/redis.conf",
        "users": "/etc/redis/users-broker.conf",
        "socket": "/run/redis/admin.sock",
    },
    "cache": {
        "unit": "redis-server@cache.service",
        "config": "/etc/redis/redis-cache.conf",
        "users": "/etc/redis/users-cache.conf",
        "socket": "/run/redis-cache/admin.sock",
    },
}
TLS = "/etc/redis/tls"
#: Debian release -> Redis' minor version in it; what a server does not know, its users' rules may not name.
DEBIAN_VERSIONS = {12: (7, 0), 13: (8, 0)}
#: Subcommands that are younger than the oldest of them.
SINCE = {"client|setinfo": (7, 2)}

#: What an app may do with its own keys and channels: reading and writing, transactions, scripts (which obey the same
#: rules, and without which neither redis-py's locks nor Celery's work), and what a connection needs for itself.
APP_RULES = (
    "-@all +@read +@write +@pubsub +@transaction +eval +evalsha +eval_ro +evalsha_ro +script|load +script|exists"
    " +ping +echo +auth +hello +reset +quit +select +client|setname +client|getname +client|setinfo +client|id"
    " +client|info +acl|whoami +time"
    # Categories hold more than their names say. What is left of them is limited to the app's keys; these are not: they
    # harm everybody, or tell the names of others' keys, and Django's name of a session's key is the session's secret.
    " -@admin -@dangerous -function -fcall -fcall_ro -scan -randomkey -dbsize -pubsub -memory -lolwut"
)
#: What a health check or a collector of metrics asks, and what ends a script that holds everybody up, and forgets all.
HEALTH_RULES = (
    "-@all +ping +script|kill +script|flush +info +auth +hello +quit +client|setname +client|setinfo"
    " +latency|latest +slowlog|len"
)
ADMIN, HEALTH = "saltern-admin", "saltern-health"


def servers() -> list[str]:
    """Return the names of the two servers, the broker first.

    Example:
        >>> servers()
        ['broker', 'cache']
    """
    return list(SERVERS)


def files_of(server: str) -> dict[str, str]:
    """Return a server's ``unit``, the paths of its ``config`` and ``users``, and its ``socket``.

    Args:
        server: ``broker`` or ``cache``.

    Example:
        >>> files_of("cache")["unit"]
        'redis-server@cache.service'
    """
    return SERVERS[server]


def server_version(debian_release: int) -> tuple[int, int]:
    """Return Redis' minor version in a Debian release.

    Args:
        debian_release: 12 or 13.

    Raises:
        ValueError: Saltern does not know this Debian release.

    Example:
        >>> server_version(12)
        (7, 0)
    """
    if debian_release not in DEBIAN_VERSIONS:
        known = " and ".join(str(release) for release in DEBIAN_VERSIONS)
        raise ValueError(f"Saltern's redis role knows Debian {known}; this host has Debian {debian_release}")
    return DEBIAN_VERSIONS[debian_release]


def rules(text: str, version: tuple[int, int]) -> str:
    """Return a user's rules without what a version of Redis does not know.

    Args:
        text: rules, such as ``-@all +client|setinfo``.
        version: of the server.

    Example:
        >>> rules("-@all +ping +client|setinfo", (7, 0))
        '-@all +ping'
    """
    return " ".join(rule for rule in text.split() if version >= SINCE.get(rule[1:], (0, 0)))


def hashed(password: str) -> str:
    """Return a password as a user's rule has it.

    Args:
        password: the password.

    Example:
        >>> hashed("secret")[:9]
        '#2bb80d53'
    """
    return f"#{hashlib.sha256(password.encode()).hexdigest()}"


def users(
    wanted: list[dict[str, Any]],
    own: dict[str, str],
    version: tuple[int, int],
    legacy: str = "",
) -> str:
    """Return the text of a server's users.

    Args:
        wanted: ``user``, ``keys``, ``broadcasts`` and ``good`` each: the hashes of its passwords, two while the old one
            is still good.
        own: the passwords of :data:`ADMIN` and :data:`HEALTH`.
        version: of the server.
        legacy: the hash of the password that all apps once shared, while somebody still uses it.

    Returns:
        Lines of redis.conf; passwords are hashes, and no line tells one.

    Raises:
        KeyError: a user has no password.

    Example:
        >>> users([], {"saltern-admin": "a", "saltern-health": "b"}, (7, 0)).splitlines()[1]
        'user default reset ~* &* +@all'
    """
    app_rules = rules(APP_RULES, version)
    # It is off and has no password, so nobody is it, but for Redis: what it reads back from the append-only file at a
    # start it does as this user, and a transaction that this user may not do would be lost without a word to anybody
    # (redis issue 14541; in 7.0 and 8.0).
    nobody = "user default reset ~* &* +@all"
    lines = [
        "# Written by Salt as a whole. Passwords are hashes.",
        f"user default reset on {legacy} ~* &* {app_rules} +flushdb" if legacy else nobody,
        f"user {ADMIN} on {hashed(own[ADMIN])} ~* &* +@all",
        f"user {HEALTH} on {hashed(own[HEALTH])} {rules(HEALTH_RULES, version)}",
    ]
    for user in wanted:
        if not user["good"]:
            raise KeyError(user["app"])
        good = " ".join(f"#{one}" for one in user["good"])
        channels = " ".join(f"&{name}" for name in [user["keys"], *user["broadcasts"]])
        lines.append(f"user {user['user']} on {good} ~{user['keys']} resetchannels {channels} {app_rules}")
    return "\n".join([*lines, ""])


def config(server: str, settings: dict[str, Any], listen: list[str], legacy_port: int = 0) -> str:
    """Return the text of a server's configuration.

    Args:
        server: ``broker`` or ``cache``.
        settings: the role's settings from the pillar.
        listen: addresses.
        legacy_port: where clients of the time before TLS connect, while somebody still does.

    Returns:
        Lines of redis.conf.

    Example:
        >>> "maxmemory-policy noeviction" in config("broker", {"broker_port": 1, "broker_maxmemory_mb": 1,
        ...     "max_clients": 9}, ["127.0.0.1"])
        True
    """
    memory = settings[f"{server}_maxmemory_mb"]
    files = SERVERS[server]
    lines = [
        "# Written by Salt as a whole.",
        f"bind {' '.join(listen)}",
        f"port {legacy_port}",
        f"tls-port {settings[f'{server}_port']}",
        f"tls-cert-file {TLS}/host.crt",
        f"tls-key-file {TLS}/host.key",
        "# Who a client is, its user and password say.",
        "tls-auth-clients no",
        "tls-protocols TLSv1.3",
        "# For root and redis: nobody else reaches it, and it wants a password too.",
        f"unixsocket {files['socket']}",
        "unixsocketperm 700",
        "tcp-keepalive 60",
        f"maxclients {settings['max_clients']}",
        "dir /var/lib/redis",
        "databases 16",
        "loglevel notice",
        "# To standard output, and so to the journal, which is bounded.",
        'logfile ""',
        "# What clients send and do not fetch is bounded too: the greediest is cut off.",
        "maxmemory-clients 25%",
        "client-query-buffer-limit 64mb",
        "proto-max-bulk-len 64mb",
        "client-output-buffer-limit normal 64mb 16mb 30",
        "client-output-buffer-limit pubsub 16mb 4mb 30",
        f"maxmemory {memory}mb",
        *(_DURABLE if server == "broker" else _FORGETFUL),
    ]
    if legacy_port:
        lines.append("# The old clients' cache is in here too, until they have gone: what expires may go.")
        lines.append("maxmemory-policy volatile-lru")
    return "\n".join([*lines, f"include {files['users']}", ""])


_DURABLE = (
    "# A full broker refuses tasks, and loses none.",
    "maxmemory-policy noeviction",
    "# Every write is logged, at most one second of them is lost in a crash. The log replaces snapshots, whose fork",
    "# can double the memory at a moment of its own choosing.",
    "appendonly yes",
    "appendfsync everysec",
    'save ""',
    "aof-load-truncated yes",
    "auto-aof-rewrite-percentage 100",
    "auto-aof-rewrite-min-size 64mb",
)
_FORGETFUL = (
    "# When it is full, what was not used for longest goes; nothing of it outlives the server.",
    "maxmemory-policy allkeys-lru",
    "appendonly no",
    'save ""',
)


def unit_mb(server: str, settings: dict[str, Any]) -> int:
    """Return where the kernel ends a server, in MiB: far above what it holds when all that is bounded is full.

    That is its data, twice while the log is written anew (the child shares what does not change), clients' buffers of a
    quarter, and what a script takes while it runs, which Redis bounds by nothing.

    Args:
        server: ``broker`` or ``cache``.
        settings: the role's settings from the pillar.

    Example:
        >>> unit_mb("broker", {"broker_maxmemory_mb": 128})
        640
    """
    return int(settings[f"{server}_maxmemory_mb"]) * 5 // 2 + 320


def settled(text: str, legacy_port: int) -> str:
    """Return the broker's configuration as it is when nobody of the time before TLS is left.

    Args:
        text: what :func:`config` made with this legacy port.
        legacy_port: the port.

    Example:
        >>> settled("port 6379\\n", 6379)
        'port 0\\n'
    """
    lines = text.replace(f"port {legacy_port}\n", "port 0\n", 1).splitlines()
    kept = [
        line for line in lines if line != "maxmemory-policy volatile-lru" and not line.startswith("# The old clients")
    ]
    return "\n".join([*kept, ""])


def declared(text: str) -> dict[str, str]:
    """Return the settings in a configuration by name, each as CONFIG GET gives it back when it needs no conversion.

    Args:
        text: lines of redis.conf without includes.

    Example:
        >>> declared('port 0\\n# x\\nsave ""\\nuser a on\\n')
        {'port': '0', 'save': ''}
    """
    found = {}
    for line in text.splitlines():
        name, _, value = line.strip().partition(" ")
        if name and not name.startswith("#") and name not in ("include", "user"):
            found[name] = value.strip('"')
    return found


#: What a server that is started beside the real one does otherwise.
_BESIDE = {"port": "0", "tls-port": "0", "dir": "{folder}", "unixsocket": "{folder}/socket", "appendonly": "no"}


def beside(config: str, users: str, folder: str) -> str:
    """Return the configuration of a server with the same settings and users, but without port and data.

    Args:
        config: the server's configuration.
        users: the text of its users.
        folder: an empty folder of its own.

    Example:
        >>> beside("port 1\\ninclude /etc/x\\n", "user a\\n", "/tmp/x").splitlines()[:3]
        ['port 1', 'user a', 'port 0']
    """
    own = [line for line in config.splitlines() if not line.startswith("include ")]
    other = [f"{name} {value.format(folder=folder)}" for name, value in _BESIDE.items()]
    return "\n".join([*own, *users.splitlines(), *other, ""])


def expected(asked: dict[str, str], config: str) -> dict[str, str]:
    """Return the settings of the real server by those of the one beside it.

    Args:
        asked: what that one answered to CONFIG GET.
        config: the server's configuration.

    Example:
        >>> expected({"port": "0", "timeout": "0"}, "port 6379\\n")
        {'port': '6379', 'timeout': '0'}
    """
    # The limit of open files decides over maxclients, and is another one there.
    return asked | {name: value for name, value in declared(config).items() if name in {*_BESIDE, "maxclients"}}


def differences(now: dict[str, str], wanted: dict[str, str]) -> dict[str, dict[str, str | None]]:
    """Return what differs between two sets of values, by name.

    Args:
        now: what is.
        wanted: what shall be.

    Example:
        >>> differences({"a": "1", "b": "2"}, {"a": "1", "b": "3", "c": "4"})
        {'b': {'old': '2', 'new': '3'}, 'c': {'old': None, 'new': '4'}}
    """
    names = [*wanted, *(name for name in now if name not in wanted)]
    return {
        name: {"old": now.get(name), "new": wanted.get(name)} for name in names if now.get(name) != wanted.get(name)
    }


#: Settings whose value may be somebody's password.
_HIDDEN = ("requirepass", "masterauth", "tls-key-file-pass", "tls-client-key-file-pass")


def hidden(found: dict[str, dict[str, str | None]]) -> dict[str, dict[str, str | None]]:
    """Return differences of settings without passwords that somebody has set.

    Args:
        found: as :func:`differences` returns them.

    Example:
        >>> hidden({"requirepass": {"old": "secret", "new": ""}})
        {'requirepass': {'old': '(not shown)', 'new': ''}}
    """
    return {name: {**values, "old": "(not shown)"} if name in _HIDDEN else values for name, values in found.items()}


def by_user(listed: list[str], version: tuple[int, int] = (8, 0)) -> dict[str, str]:
    """Return the answer to ACL LIST by user: each user's rules, in a form that can be compared.

    Redis 7.0 works them out from what a user may do: categories, then single commands, in an order that is another one
    in each process. Newer ones repeat them as they were given, and there the order has a meaning.

    Args:
        listed: lines such as ``user demo on #... ~demo:*``.
        version: of the server.

    Example:
        >>> by_user(["user demo on sanitize-payload ~demo:* -@all +set +get"], (7, 0))
        {'demo': 'on ~demo:* -@all +get +set'}
    """
    found = {}
    for line in listed:
        # What is the default is written, or not, by the way in which a user was made.
        words = [word for word in line.split()[2:] if word != "sanitize-payload"]
        if version < (7, 2):
            single = [word for word in words if word[0] in "+-" and word[1:2] != "@"]
            words = [*(word for word in words if word not in single), *sorted(single)]
        found[line.split()[1]] = " ".join(words)
    return found


def shown(rules: str | None) -> str | None:
    """Return a user's rules without hashes, for a plan.

    Args:
        rules: as :func:`by_user` gives them.

    Example:
        >>> shown("on #2bb80d53 ~demo:*")
        'on (1 password) ~demo:*'
    """
    if rules is None:
        return None
    words = rules.split()
    passwords = [word for word in words if word.startswith("#")]
    if not passwords:
        return " ".join(words)
    count = f"({len(passwords)} password{'s' if len(passwords) > 1 else ''})"
    return " ".join(count if word == passwords[0] else word for word in words if word not in passwords[1:])


def shown_change(old: str | None, new: str | None) -> dict[str, str | None]:
    """Return the rules of a user before and after, for a plan; a change of passwords alone is told in words.

    Args:
        old: the rules that are.
        new: those that shall be.

    Example:
        >>> shown_change("on #2bb80d53", "on #fcf730b6")
        {'old': 'on (1 password)', 'new': 'on (1 password), another one'}
    """
    before, after = shown(old), shown(new)
    return {"old": before, "new": f"{after}, another one" if before == after else after}


def users_that_differ(now: str, wanted: str) -> list[str]:
    """Return the names of the users in whose lines two texts differ, sorted.

    Args:
        now: a file of users.
        wanted: another one.

    Example:
        >>> users_that_differ("user a on\\nuser b on\\n", "user a on\\nuser c on\\n")
        ['b', 'c']
    """
    one, other = (by_user([line for line in text.splitlines() if line.startswith("user ")]) for text in (now, wanted))
    return sorted(name for name in {*one, *other} if one.get(name) != other.get(name))
