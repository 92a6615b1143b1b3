"""Redis on this host: what its files shall hold, and what its two servers do at this moment.

Broker and cache (saltern/redis/redisfiles.py) are asked over their sockets in /run, which only root and redis reach, as
a user of root's. What is compared and written is decided by pure functions there.

What a server would do with its files is not worked out here: one is started beside, with the same files, and asked. So
what somebody changed at run time is found whether the files name it or not, and in the very words of this version.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import secrets
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from salt.exceptions import CommandExecutionError

from saltern.redis import redisfiles

__virtualname__ = "redis_server"

#: Passwords of the users that belong to no app. They are made here, and leave the host in no way.
OWN_PASSWORDS = {"saltern-admin": Path("/etc/redis/admin.pass"), "saltern-health": Path("/etc/redis/health.pass")}
#: The password that all apps shared before each had its own; there until nobody uses it any more.
LEGACY = Path("/etc/redis/password.conf")
FIREWALL = "/etc/nftables.conf"
EXPECTED = Path("/var/lib/saltern/redis")
#: Another one when what is noted there gets another form.
FORM = 2
TLS = "/etc/redis/tls"
PROGRAM = "/usr/bin/redis-server"
ANSWER_SECONDS = 5
AT_ONCE = 500


# What the files shall hold.


def files(server: str) -> dict[str, str]:
    """Return a server's ``unit``, the paths of its ``config`` and ``users``, and its ``socket``.

    Args:
        server: ``broker`` or ``cache``.

    Example:
        salt-call redis_server.files cache
    """
    found: dict[str, str] = redisfiles.files_of(server)
    return found


def version() -> tuple[int, int]:
    """Return Redis' minor version on this host, installed or not.

    Raises:
        ValueError: The host has another system.

    Example:
        salt-call redis_server.version
    """
    found: tuple[int, int] = redisfiles.server_version(int(__grains__["osmajorrelease"]))
    return found


def legacy() -> dict[str, Any]:
    """Return the ``port`` and the ``hash`` of the password that all apps once shared, or an empty dict.

    They are those of the broker that was converged by an older Saltern; its clients use them until each has its release
    with a user of its own. Not when a port of today is the same one: then they are cut off at once.

    Example:
        salt-call redis_server.legacy
    """
    settings = __pillar__.get("redis")
    return _legacy([settings["broker_port"], settings["cache_port"]] if settings else [])


def legacy_port(ports: list[int]) -> int:
    """Return the port of the password that all apps once shared; 0 when there is none (:func:`legacy`).

    Args:
        ports: those of today's servers; none on a host without Redis.

    Example:
        salt-call redis_server.legacy_port '[6380, 6381]'
    """
    return int(_legacy(ports).get("port", 0))


def _legacy(ports: list[int]) -> dict[str, Any]:
    try:
        password = re.search(r'^requirepass "(.*)"$', LEGACY.read_text(encoding="utf-8"), re.MULTILINE)
        port = re.search(r"^port (\d+)$", Path(files("broker")["config"]).read_text(encoding="utf-8"), re.MULTILINE)
    except FileNotFoundError:
        return {}
    if not ports or not password or not port or int(port[1]) in (0, *ports):
        return {}
    plain = re.sub(r"\\(.)", r"\1", password[1])
    return {"port": int(port[1]), "hash": redisfiles.hashed(plain)}


def config(server: str, settings: dict[str, Any], listen: list[str]) -> str:
    """Return the text of a server's configuration.

    Args:
        server: ``broker`` or ``cache``.
        settings: The pillar's ``redis``.
        listen: Its addresses (pillar ``wiring:redis``).

    Example:
        salt-call redis_server.config broker '{broker_port: 6380, cache_port: 6381, …}' '[127.0.0.1]'
    """
    port = legacy_port([settings["broker_port"], settings["cache_port"]]) if server == "broker" else 0
    text: str = redisfiles.config(server, settings, listen, port)
    return text


def unit_mb(server: str, settings: dict[str, Any]) -> int:
    """Return where the kernel ends a server, in MiB; saltern/redis/redisfiles.py has the rule.

    Args:
        server: ``broker`` or ``cache``.
        settings: The pillar's ``redis``.

    Example:
        salt-call redis_server.unit_mb broker '{broker_maxmemory_mb: 128}'
    """
    most: int = redisfiles.unit_mb(server, settings)
    return most


def _config(server: str) -> str:
    return config(server, __pillar__["redis"], __pillar__["wiring"]["redis"][server]["listen"])


def own_passwords() -> dict[str, str]:
    """Return the passwords of the users that belong to no app, by user; one that is yet to be made is empty.

    Example:
        salt-call redis_server.own_passwords
    """
    return {
        user: path.read_text(encoding="utf-8").strip() if path.exists() else "" for user, path in OWN_PASSWORDS.items()
    }


def users(server: str) -> str:
    """Return the text of a server's users; it tells hashes of passwords, and no password.

    Args:
        server: ``broker`` or ``cache``.

    Example:
        salt-call redis_server.users cache
    """
    old = legacy().get("hash", "") if server == "broker" else ""
    wanted = __salt__["needs.users"](server)
    text: str = redisfiles.users(wanted, own_passwords(), version(), old)
    return text


def write(path: str, text: str, mode: int = 0o640, group: str = "redis") -> None:
    """Replace a file of Redis, all or nothing; it belongs to root and this group.

    Args:
        path: the file.
        text: its content.
        mode: its mode.
        group: its group.

    Example:
        salt-call redis_server.write /etc/redis/users-cache.conf 'user default reset'
    """
    handle, name = tempfile.mkstemp(dir=Path(path).parent, prefix=".new-")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        shutil.chown(name, "root", group)
        Path(name).chmod(mode)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink()
        raise


def missing_passwords() -> dict[str, str]:
    """Return the users that belong to no app and have no password yet, each with the file that is to have it.

    Example:
        salt-call redis_server.missing_passwords
    """
    return {user: str(path) for user, path in OWN_PASSWORDS.items() if not path.exists()}


def make_own_passwords() -> None:
    """Make the passwords of the users that belong to no app, where they are missing.

    Example:
        salt-call redis_server.make_own_passwords
    """
    for path in missing_passwords().values():
        write(path, secrets.token_urlsafe(32) + "\n", 0o600, "root")


def users_differ(server: str) -> dict[str, str | None]:
    """Return what would change if the file of a server's users were written now: nothing, or old and new in words.

    Args:
        server: ``broker`` or ``cache``.

    Example:
        salt-call redis_server.users_differ cache
    """
    path, wanted = Path(files(server)["users"]), users(server)
    if not path.exists():
        return {"old": None, "new": "written"}
    now = path.read_text(encoding="utf-8")
    mode = path.stat()
    if now == wanted and mode.st_mode & 0o777 == 0o640 and mode.st_uid == 0:
        return {}
    named = redisfiles.users_that_differ(now, wanted)
    return {"old": "other", "new": f"users: {', '.join(named)}" if named else "written"}


def write_users(server: str) -> None:
    """Write the file of a server's users.

    Args:
        server: ``broker`` or ``cache``.

    Example:
        salt-call redis_server.write_users cache
    """
    write(files(server)["users"], users(server))


def shown(values: dict[str, str | None]) -> dict[str, str | None]:
    """Return the rules of a user, old and new, as a plan may show them: without the hashes of passwords.

    Args:
        values: ``old`` and ``new``.

    Example:
        salt-call redis_server.shown '{old: null, new: "on ~demo:*"}'
    """
    found: dict[str, str | None] = redisfiles.shown_change(values["old"], values["new"])
    return found


# What the servers do.


def _say(stream: Any, words: list[str]) -> Any:
    packed = [f"*{len(words)}\r\n".encode()]
    packed += [b"$%d\r\n%s\r\n" % (len(word), word) for word in (text.encode() for text in words)]
    stream.write(b"".join(packed))
    stream.flush()
    return _answer(stream)


def _answer(stream: Any) -> Any:
    """Read one answer of Redis' protocol (RESP2)."""
    line = stream.readline()
    if not line.endswith(b"\r\n"):
        raise OSError("the connection was closed")
    kind, rest = line[:1], line[1:-2].decode()
    if kind == b"-":
        raise CommandExecutionError(rest)
    if kind == b"*":
        return [_answer(stream) for _ in range(int(rest))] if rest != "-1" else None
    if kind == b"$":
        return stream.read(int(rest) + 2)[:-2].decode(errors="replace") if rest != "-1" else None
    return int(rest) if kind == b":" else rest


@contextlib.contextmanager
def _talk(path: str, password: str, seconds: float = ANSWER_SECONDS) -> Iterator[Any]:
    """Give a function that says words to a server as root's user, and answers what it said."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(seconds)
        try:
            connection.connect(path)
            with connection.makefile("rwb") as stream:
                _say(stream, ["AUTH", "saltern-admin", password])
                yield lambda *words: _say(stream, [str(word) for word in words])
        except OSError as error:
            raise CommandExecutionError(f"Redis at {path} does not answer: {error}") from None


def talk(server: str, *words: str) -> Any:
    """Say one command to a server as root's user, and return its answer.

    Args:
        server: ``broker`` or ``cache``.
        words: the command.

    Raises:
        CommandExecutionError: it does not answer, or with an error.

    Example:
        salt-call redis_server.talk broker INFO memory
    """
    with _talk(files(server)["socket"], own_passwords()["saltern-admin"]) as say:
        return say(*words)


def _pairs(flat: list[str]) -> dict[str, str]:
    return dict(zip(flat[::2], flat[1::2], strict=True))


def _state(say: Any) -> dict[str, dict[str, str]]:
    return {
        "settings": _pairs(say("CONFIG", "GET", "*")),
        "users": redisfiles.by_user(say("ACL", "LIST"), version()),
    }


def _started_beside(config_text: str, users_text: str) -> dict[str, dict[str, str]]:
    """Return what a server says that is started with these texts."""
    with tempfile.TemporaryDirectory(prefix="saltern-redis-") as folder:
        shutil.chown(folder, "redis", "redis")
        text = redisfiles.beside(config_text, users_text, folder)
        argv = [PROGRAM, "-", "--supervised", "systemd", "--daemonize", "no"]  # as Debian's units do
        path, deadline = f"{folder}/socket", time.monotonic() + ANSWER_SECONDS
        pipe = subprocess.PIPE
        with subprocess.Popen(
            argv, stdin=pipe, stdout=pipe, stderr=subprocess.STDOUT, user="redis", group="redis", extra_groups=[]
        ) as process:
            try:
                assert process.stdin
                process.stdin.write(text.encode())
                process.stdin.close()
                while not Path(path).exists():
                    if process.poll() is not None or time.monotonic() > deadline:
                        raise CommandExecutionError(f"Redis does not start with these files: {_said(process)}")
                    time.sleep(0.005)
                with _talk(path, own_passwords()["saltern-admin"]) as say:
                    found = _state(say)
            finally:
                process.kill()
    found["settings"] = redisfiles.expected(found["settings"], config_text)
    return found


def _said(process: subprocess.Popen[bytes]) -> str:
    process.kill()
    said = process.stdout.read().decode(errors="replace") if process.stdout else ""
    # A line that is quoted may hold the hash of a password.
    return re.sub(r"#[0-9a-f]{64}", "#...", "; ".join(said.split("\n")[-6:]))


def expected(server: str, keep: bool = True) -> dict[str, dict[str, str]]:
    """Return what a server does that has been started with what its files shall hold.

    Args:
        server: ``broker`` or ``cache``.
        keep: note it down, so that it is found out once for each content; a plan keeps nothing.

    Returns:
        ``settings`` and ``users``, each by name.

    Raises:
        CommandExecutionError: Redis does not start with them.

    Example:
        salt-call redis_server.expected broker
    """
    texts = _config(server), users(server)
    program = Path(PROGRAM).stat()
    key = hashlib.sha256(json.dumps([FORM, *texts, program.st_size, program.st_mtime_ns]).encode()).hexdigest()
    path = EXPECTED / f"{server}.json"
    with contextlib.suppress(OSError, ValueError, KeyError):
        noted = json.loads(path.read_text(encoding="utf-8"))
        if noted["key"] == key:
            found: dict[str, dict[str, str]] = noted["found"]
            return found
    found = _started_beside(*texts)
    if keep:
        EXPECTED.mkdir(mode=0o700, parents=True, exist_ok=True)
        write(str(path), json.dumps({"key": key, "found": found}), 0o600, "root")
    return found


def drift(server: str, keep: bool = True) -> dict[str, dict[str, dict[str, str | None]]]:
    """Return in what a running server differs from its files.

    Args:
        server: ``broker`` or ``cache``.
        keep: as for :func:`expected`.

    Returns:
        ``settings`` and ``users``: by name, what is (old) and what shall be (new).

    Raises:
        CommandExecutionError: it does not answer.

    Example:
        salt-call redis_server.drift cache
    """
    wanted = expected(server, keep)
    with _talk(files(server)["socket"], own_passwords()["saltern-admin"]) as say:
        now = _state(say)
    differences = redisfiles.differences
    return {
        "settings": redisfiles.hidden(differences(now["settings"], wanted["settings"])),
        "users": differences(now["users"], wanted["users"]),
    }


def repair(server: str, found: dict[str, dict[str, dict[str, str | None]]]) -> list[str]:
    """Put a running server right, without a restart: no client is cut off but those of users that are none.

    Args:
        server: ``broker`` or ``cache``.
        found: as :func:`drift` returns it.

    Returns:
        Settings that Redis changes only when it starts.

    Raises:
        CommandExecutionError: it does not answer.

    Example:
        salt-call redis_server.repair cache '{settings: {timeout: {old: "9", new: "0"}}, users: {}}'
    """
    left = []
    with _talk(files(server)["socket"], own_passwords()["saltern-admin"]) as say:
        for name, values in found["settings"].items():
            try:
                say("CONFIG", "SET", name, values["new"] or "")
            except CommandExecutionError:
                left.append(name)
        for user, values in found["users"].items():
            if values["new"] is None:
                say("ACL", "DELUSER", user)
            else:
                say("ACL", "SETUSER", user, "reset", *values["new"].split())
    return left


def inputs(server: str) -> list[str]:
    """Return what a server reads when it starts, for ``daemon.running``. Users reach it while it runs.

    Args:
        server: ``broker`` or ``cache``.

    Example:
        salt-call redis_server.inputs cache
    """
    return [files(server)["config"], TLS]


def not_in_step(unit: str) -> str:
    """Return why a server cannot be told anything at this moment, as ``redis_server.in_step`` will find it, or nothing.

    Args:
        unit: The unit of a server that runs.

    Example:
        salt-call redis_server.not_in_step redis-server.service
    """
    server = next(one for one in redisfiles.servers() if files(one)["unit"] == unit)
    try:
        found = drift(server, keep=False)
    except (OSError, CommandExecutionError) as error:
        return str(error)
    names = [*found["settings"], *(f"user {user}" for user in found["users"])]
    return f"it is not as its files say ({', '.join(names)})" if names else ""


def stale(server: str) -> list[str]:
    """Return what a server has not read yet of what it reads when it starts.

    Args:
        server: ``broker`` or ``cache``.

    Example:
        salt-call redis_server.stale cache
    """
    found: list[str] = __salt__["daemon.inspect"](files(server)["unit"], inputs(server))["stale"]
    return found


def will_start(server: str) -> bool:
    """Return whether an apply starts a server anew, so that a plan need not look at what it does now.

    Args:
        server: ``broker`` or ``cache``.

    Example:
        salt-call redis_server.will_start cache
    """
    named = files(server)
    path = Path(named["config"])
    if not path.exists() or path.read_text(encoding="utf-8") != _config(server):
        return True
    found = __salt__["daemon.inspect"](named["unit"], inputs(server))
    return not found["active"] or any(not path.startswith(TLS) for path in found["stale"])


def restart(server: str) -> str:
    """Start a server anew.

    Args:
        server: ``broker`` or ``cache``.

    Returns:
        An empty string, or what went wrong.

    Example:
        salt-call redis_server.restart cache
    """
    problem: str = __salt__["daemon.act"](files(server)["unit"], "restart", inputs(server))
    return problem


def clients() -> dict[str, dict[str, int]]:
    """Return how many connections each user has at this moment, by server; root's own is left out.

    Example:
        salt-call redis_server.clients
    """
    found: dict[str, dict[str, int]] = {}
    for server in redisfiles.servers():
        counts = found.setdefault(server, {})
        for client in _clients(server):
            counts[client["user"]] = counts.get(client["user"], 0) + 1
    return found


def _clients(server: str) -> list[dict[str, str]]:
    said = talk(server, "CLIENT", "LIST")
    listed = [dict(word.split("=", 1) for word in line.split(" ") if "=" in word) for line in said.splitlines()]
    return [client for client in listed if client["user"] != "saltern-admin"]


def clear(app: str) -> int:
    """Empty the cache of one app. An app itself cannot: FLUSHDB would empty those of all.

    Args:
        app: the app.

    Returns:
        How many keys were there.

    Raises:
        CommandExecutionError: the app has no cache.

    Example:
        salt-call redis_server.clear demo
    """
    known = {user["app"]: user["keys"] for user in __pillar__["wiring"]["redis"]["cache"]["users"]}
    if app not in known:
        raise CommandExecutionError(f"{app} has no cache here; those that have: {', '.join(known) or 'none'}")
    count = 0
    with _talk(files("cache")["socket"], own_passwords()["saltern-admin"]) as say:
        place = "0"
        while True:
            place, keys = say("SCAN", place, "MATCH", known[app], "COUNT", AT_ONCE)
            count += int(say("UNLINK", *keys)) if keys else 0
            if place == "0":
                return count


# The password that all apps once shared.


def legacy_used_by(plan: bool = False) -> list[str]:
    """Return the hosts that still use the shared password, or from which no app has come with its own yet.

    Args:
        plan: leave out this host, whose apps have other releases before the end of an apply.

    Returns:
        Addresses, sorted.

    Example:
        salt-call redis_server.legacy_used_by
    """
    here = {"127.0.0.1"}
    using: set[str] = set()
    moved: set[str] = set()
    for server in redisfiles.servers():
        for client in _clients(server):
            address = client["addr"].rpartition(":")[0]
            here.add(client.get("laddr", "").rpartition(":")[0])
            (using if client["user"] == "default" else moved).add(address)
    settings = __pillar__["redis"]
    ports = (settings["broker_port"], settings["cache_port"])
    others = {
        source
        for entry in __pillar__["wiring"]["base"]["open_ports"]
        if entry["port"] in ports
        for source in entry["sources"]
    }
    return sorted((using | (others - moved)) - (here if plan else set()))


def with_legacy(wiring: dict[str, Any], ports: list[int]) -> dict[str, Any]:
    """Return what the firewall is told, with the old port for the apps on this host while it is still in use.

    Args:
        wiring: ``wiring:base`` of the pillar.
        ports: As for :func:`legacy_port`.

    Example:
        salt-call redis_server.with_legacy '{egress: {callers: []}}' '[]'
    """
    port = legacy_port(ports)
    if not port:
        return wiring
    here = {"to": "127.0.0.1", "ports": [port], "protocol": "tcp"}
    callers = [{**caller, "links": [*caller["links"], here]} for caller in wiring["egress"]["callers"]]
    return {**wiring, "egress": {**wiring["egress"], "callers": callers}}


def end_legacy() -> list[str]:
    """Let nobody in any more with the shared password: in the running broker first, then in its files.

    The old cache, database 0 of the broker, is emptied.

    Returns:
        Keys of tasks that wait where no app looks any more: those without a prefix. They are left alone.

    Example:
        salt-call redis_server.end_legacy
    """
    port, broker = legacy()["port"], files("broker")
    text = redisfiles.settled(Path(broker["config"]).read_text(encoding="utf-8"), port)
    with _talk(broker["socket"], own_passwords()["saltern-admin"]) as say:
        say("ACL", "SETUSER", "default", "reset")
        say("CONFIG", "SET", "port", "0", "maxmemory-policy", "noeviction")
        say("CLIENT", "KILL", "USER", "default")
        say("FLUSHDB", "ASYNC")
        left = _without_prefix(say)
    write(broker["config"], text)
    write_users("broker")  # the configuration has no port for them any more, so they are none now
    __salt__["daemon.adopt"](broker["unit"], inputs("broker"))
    # As its state writes it: the same to the last line, so that the next apply finds nothing to do.
    path, context = "salt://base/files/nftables.conf.jinja", {"granted": __salt__["needs.firewall"]()}
    rules = __salt__["slsutil.renderer"](path=path, default_renderer="jinja", context=context)
    __salt__["firewall.load"](rules)
    write(FIREWALL, rules, 0o644, "root")
    __salt__["daemon.adopt"]("nftables.service", [FIREWALL])
    LEGACY.unlink()
    return left


def _without_prefix(say: Any) -> list[str]:
    prefixes = tuple(user["keys"].rstrip("*") for user in __pillar__["wiring"]["redis"]["broker"]["users"])
    found = []
    for number in range(1, 16):
        say("SELECT", number)
        keys = say("SCAN", "0", "COUNT", AT_ONCE)[1]
        found += [f"database {number}: {key}" for key in keys if not key.startswith(prefixes)]
    return found
