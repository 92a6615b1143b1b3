"""The edge's HAProxy at run time: which web hosts get requests, and what an edge sees of an app."""

from __future__ import annotations

import csv
import datetime
import http.client
import io
import json
import os
import re
import signal
import socket
import ssl
import stat
import subprocess
import time
from pathlib import Path
from typing import Any

from salt.exceptions import CommandExecutionError

from saltern.edge import clientheaders, edgelimits, errorpages, plainhttp
from saltern.edge import maintenance as rest
from saltern.host import appfiles, mutualtls
from saltern.release import gate

ADMIN = "/run/haproxy/admin.sock"
OUT = Path("/var/lib/saltern/edge/out.json")
RESTING = Path("/etc/haproxy/resting.map")
THROUGH = Path("/etc/haproxy/through.map")
PAGES = Path("/etc/haproxy/pages")
FOLLOWS = ("bulk_", "crowd_")  # backends whose servers are as well as those of app_
SERVED = "not in maintenance"
CONFIG = Path("/etc/haproxy/haproxy.cfg")
STAND_IN = "saltern-edge-stand-in.service"
HARD_STOP_SECONDS = 60  # as in haproxy.cfg
STANDS_IN_SECONDS = 300
LEAVING = Path("/run/systemd/system/haproxy.service.d/leaving.conf")
NGINX = Path("/etc/nginx/nginx.conf")
PLAIN_LOG = Path("/run/nginx-plain.log")  # nginx adds a line when an edge asks for an app's health without TLS
IPV6 = Path("/proc/net/if_inet6")  # not there when the kernel has none, or was told to have none
LIMITS = Path("/proc/1/limits")
MOST_FILES = 1048576  # LimitNOFILE of HAProxy's unit
LONGEST_REQUEST = 30  # seconds, as saltern/release/appunits.py tells nginx on the web hosts
ANSWER_SECONDS = 5


def listen() -> list[str]:
    """Return how HAProxy listens on a port, with ``%s`` for it: by IPv4, and by IPv6 too when the host has it.

    By two sockets: at one for both, visitors of IPv4 would have addresses such as ``::ffff:192.0.2.7``.

    Example:
        .. code-block:: bash

            salt-call edge.listen
    """
    return [":%s", *([":::%s v6only"] if IPV6.exists() else [])]


def limits(settings: dict[str, Any]) -> dict[str, int]:
    """Return the limits of role edge, those that follow from the host's memory and processors worked out.

    Args:
        settings: the pillar's `edge`.

    Raises:
        CommandExecutionError: the site wants more connections than the host lets a process have; it would not start.

    Example:
        .. code-block:: bash

            salt-call edge.limits '{max_connections: 900, connections_per_address: 9, memory_share: 0.2, threads: 1}'
    """
    told = dict(settings)
    files = _open_files()
    if (told["max_connections"] or 0) > edgelimits.most_by_files(files):
        most = edgelimits.most_by_files(files)
        text = f"edge.max_connections is {told['max_connections']}; this host lets a process open {files} files: {most}"
        raise CommandExecutionError(f"{text} connections at most")
    found = edgelimits.connections(__grains__["mem_total"], told["memory_share"], files)
    most = told["max_connections"] or found
    each = told["connections_per_address"] or edgelimits.per_address(most)
    threads = told["threads"] or edgelimits.threads(__grains__["num_cpus"])
    return told | {"max_connections": most, "connections_per_address": each, "threads": threads}


def restart(unit: str = "haproxy.service", timeout: float = 60) -> str:
    """Restart HAProxy while another one stands in, so that its ports are never closed and no answer is cut off.

    Linux lets several processes of root listen on one port when all ask for it, and HAProxy does. The old one is told
    to end its last requests, which its hard-stop-after bounds; systemd then starts the new one.

    Args:
        unit: HAProxy's unit, running, whose definition systemd has read again.
        timeout: how long the start of each may take, in seconds.

    Returns:
        What went wrong, or nothing.

    Example:
        .. code-block:: bash

            salt-call edge.restart
    """
    old = _shown(unit)
    _run(["systemctl", "stop", STAND_IN])  # of a restart that was killed
    # It goes by itself when whoever asked for it was killed: it has the configuration of now for ever.
    lines = ("Type=notify", "KillMode=mixed", f"LimitNOFILE={MOST_FILES}", f"RuntimeMaxSec={STANDS_IN_SECONDS}")
    properties = [f"--property={line}" for line in lines]
    command = ["/usr/sbin/haproxy", "-Ws", "-f", str(CONFIG)]
    stands_in = not _run(["systemd-run", "--quiet", "--collect", f"--unit={STAND_IN}", *properties, *command])
    if not stands_in:
        return _run(["systemctl", "restart", unit])
    try:
        if int(old["MainPID"]) <= 1:
            return _run(["systemctl", "restart", unit])
        os.kill(int(old["MainPID"]), signal.SIGUSR1)
        until, now = time.monotonic() + timeout + HARD_STOP_SECONDS, old
        while now["InvocationID"] == old["InvocationID"] or now["ActiveState"] != "active":
            if time.monotonic() > until:
                return _run(["systemctl", "restart", unit])
            time.sleep(0.1)
            now = _shown(unit)
        return ""
    finally:
        if (stand_in := int(_shown(STAND_IN)["MainPID"])) > 1:  # 0 would be this process and all of its group
            os.kill(stand_in, signal.SIGUSR1)


def _shown(unit: str) -> dict[str, str]:
    wanted = ["MainPID", "InvocationID", "ActiveState"]
    done = subprocess.run(
        ["systemctl", "show", unit, f"--property={','.join(wanted)}"], capture_output=True, text=True, check=False
    )
    return dict.fromkeys(wanted, "0") | dict(line.split("=", 1) for line in done.stdout.splitlines() if "=" in line)


def _run(command: list[str]) -> str:
    """Run a command; return what it says when it fails."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return "" if done.returncode == 0 else f"{' '.join(command[:2])}: {(done.stdout + done.stderr).strip()}"


def takes_plain_http(port: int, host: str, hosts: dict[str, Any]) -> bool:
    """Return whether nginx, on a web host, has to take plain HTTP from edges beside TLS: saltern/edge/plainhttp.py.

    Args:
        port: the port of role web.
        host: the host's id.
        hosts: the fleet's hosts with their `roles`.

    Example:
        .. code-block:: bash

            salt-call edge.takes_plain_http 8080 app1 '{app1: {roles: [web, edge]}}'
    """
    try:
        config = NGINX.read_text(encoding="utf-8")
    except FileNotFoundError:
        return False
    asked = PLAIN_LOG.stat().st_mtime if PLAIN_LOG.exists() else 0.0
    alone = [name for name, one in hosts.items() if "edge" in one["roles"]] == [host]
    return plainhttp.is_to_stay(config, port, alone, time.time() - asked)


def client_headers(proxy: str) -> list[Any]:
    """Return what headers of clients a proxy takes away; see saltern/edge/clientheaders.py.

    Args:
        proxy: ``haproxy`` or ``nginx``.

    Example:
        .. code-block:: bash

            salt-call edge.client_headers nginx
    """
    return clientheaders.at_the_edge() if proxy == "haproxy" else clientheaders.by_nginx()


def mark() -> str:
    """Return the header by which nginx tells an edge that an answer is its own, and no app's.

    Example:
        .. code-block:: bash

            salt-call edge.mark
    """
    return errorpages.mark()


def pages() -> list[dict[str, Any]]:
    """Return the pages for visitors whom no app answers, as HAProxy takes them.

    Example:
        .. code-block:: bash

            salt-call edge.pages
    """
    return errorpages.pages()


def app_pages(apps: dict[str, Any]) -> dict[str, Any]:
    """Return what visitors of each app see in its place: its own pages, and ours with its name.

    Args:
        apps: for each app its own `pages` by name, without their texts: those may be more than a command line holds.

    Returns:
        By app ``errors`` (a list, before those of all apps) and ``maintenance``, as HAProxy takes them; under ``files``
        app, name and what is ``replaced`` in the text of each page that has a file, by path, and under ``strays``
        files beside them that nobody needs.

    Example:
        .. code-block:: bash

            salt-call edge.app_pages '{demo: {pages: [down, maintenance]}}'
    """
    found = {
        app: {
            "errors": errorpages.of_app(app, told["pages"]),
            "maintenance": errorpages.maintenance(app, told["pages"]),
        }
        for app, told in sorted(apps.items())
    }
    files = errorpages.page_files({app: told["pages"] for app, told in apps.items()})
    return {"apps": found, "files": files, "strays": sorted({str(path) for path in PAGES.glob("*")} - set(files))}


def hosts_map(apps: dict[str, Any]) -> str:
    """Return HAProxy's map from host names to apps.

    Args:
        apps: the pillar's apps.

    Example:
        .. code-block:: bash

            salt-call edge.hosts_map "{demo: {hostnames: [demo.example.org]}}"
    """
    return "".join(f"{name} {app}\n" for app in sorted(apps) for name in apps[app]["hostnames"])


def files_map(apps: dict[str, Any]) -> str:
    """Return HAProxy's map of what nginx serves from the disk: beginnings of an app and a path.

    Args:
        apps: the pillar's apps.

    Example:
        .. code-block:: bash

            salt-call edge.files_map "{demo: {static_url: /static/, media_url: null}}"
    """
    urls = [(app, url) for app in sorted(apps) for url in (apps[app]["static_url"], apps[app]["media_url"]) if url]
    return "".join(f"{app}{url} file\n" for app, url in urls)


def out() -> list[str]:
    """Return the web hosts that get no requests because somebody took them out, sorted.

    Example:
        .. code-block:: bash

            salt-call edge.out
    """
    try:
        return sorted(json.loads(OUT.read_text()))
    except FileNotFoundError:
        return []


def take_out(host: str, seconds: int = LONGEST_REQUEST, may_be_unknown: bool = False) -> int:
    """Send no new requests to a web host, and wait until it has answered those that it has.

    It stays out, also after a restart of HAProxy, until ``edge.bring_in``.

    Args:
        host: id of a web host.
        seconds: how long to wait for its last answer; then the connection is cut.
        may_be_unknown: a host that HAProxy does not know yet is out from the moment when it does.

    Returns:
        Connections that had to be cut.

    Raises:
        CommandExecutionError: HAProxy does not know the host, or would have no other for an app.

    Example:
        .. code-block:: bash

            salt-call edge.take_out web1
    """
    servers = _servers(host, may_be_unknown)
    for backend in sorted({backend for backend, _ in servers}):
        others = [row for row in _stat() if row["pxname"] == backend and _is_server(row) and row["svname"] != host]
        if not any(row["status"].startswith("UP") for row in others):
            raise CommandExecutionError(f"{host} stays: no other host is up for {backend.partition('_')[2]}")
    _change_out({host}, set())
    for backend, name in servers:
        _command(f"set server {backend}/{name} state drain")
    until = time.monotonic() + seconds
    while (left := sum(int(row["scur"]) for row in _stat() if row["svname"] == host)) and time.monotonic() < until:
        time.sleep(0.05)
    for backend, name in servers:
        _command(f"set server {backend}/{name} state maint")
        if left:
            _command(f"shutdown sessions server {backend}/{name}")
    return left


def bring_in(host: str) -> str:
    """Send requests to a web host again, as soon as it answers health checks.

    Args:
        host: id of a web host.

    Returns:
        The host's id.

    Raises:
        CommandExecutionError: it did not become healthy.

    Example:
        .. code-block:: bash

            salt-call edge.bring_in web1
    """
    _change_out(set(), {host})
    resting = {row["pxname"] for row in _stat() if row["svname"] == host and row["status"].startswith("MAINT")}
    for backend, name in _servers(host):
        if backend in resting:
            # HAProxy takes a server that leaves maintenance for up before it has asked it. While it drains it gets
            # nothing, and from down only a good check brings it up.
            _command(f"set server {backend}/{name} state drain")
            if not backend.startswith(FOLLOWS):  # it has no health of its own
                _command(f"set server {backend}/{name} health down")
        _command(f"set server {backend}/{name} state ready")
    until = time.monotonic() + LONGEST_REQUEST
    while down := [row["pxname"] for row in _stat() if row["svname"] == host and not row["status"].startswith("UP")]:
        if time.monotonic() > until:
            asked = ", ".join(backend for backend in down if not backend.startswith(FOLLOWS)) or ", ".join(down)
            raise CommandExecutionError(f"{host} does not answer health checks of {asked}")
        time.sleep(0.1)
    return host


def forget(host: str) -> None:
    """Forget that a host was taken out: it has left the fleet, and another one of that name may come.

    Args:
        host: id of a host that this edge sends no requests to any more.

    Raises:
        CommandExecutionError: HAProxy knows it still.

    Example:
        .. code-block:: bash

            salt-call edge.forget web3
    """
    if _servers(host, may_be_unknown=True):
        raise CommandExecutionError(f"{host} is one of this edge's web hosts: edge.bring_in sends it requests again")
    if host in out():
        _change_out(set(), {host})


def leave(seconds: int = LONGEST_REQUEST) -> str:
    """End this host's work as an edge: it is leaving the fleet, and web hosts will refuse it.

    The address that it may share with others goes first, so that they have it; then HAProxy ends what it was asked.

    Args:
        seconds: how long to wait for the last answer; then the connection is cut.

    Returns:
        ``left``; ``no edge`` where HAProxy does not run.

    Raises:
        CommandExecutionError: systemd does not stop a daemon.

    Example:
        .. code-block:: bash

            salt-call edge.leave
    """
    main = int(_shown("haproxy.service")["MainPID"])
    if _shown("keepalived.service")["ActiveState"] == "active":
        _stop("keepalived.service")
    if main < 2:
        return "no edge"
    LEAVING.parent.mkdir(parents=True, exist_ok=True)
    LEAVING.write_text("[Service]\nRestart=no\n", encoding="utf-8")  # else systemd would start it again; gone at a boot
    _raise(_run(["systemctl", "daemon-reload"]))
    os.kill(main, signal.SIGUSR1)
    until = time.monotonic() + seconds
    while _shown("haproxy.service")["ActiveState"] == "active" and time.monotonic() < until:
        time.sleep(0.2)
    _stop("haproxy.service")
    return "left"


def _stop(unit: str) -> None:
    _raise(_run(["systemctl", "disable", "--quiet", "--now", unit]))


def _raise(problem: str) -> None:
    if problem:
        raise CommandExecutionError(problem)


def maintenance(app: str, to: Any = "status", message: Any = None, until: Any = None, allow: Any = None) -> str:
    """Put an app into maintenance at this edge, or end it: each visitor is answered 503 with the page for it.

    At once, without a deploy or a reload, until ``off``: a restart and an apply leave it as it is. Each edge
    has its own: ``salt '*' edge.maintenance demo on``. Requests of this very host get through, as ``edge.sees`` needs.

    Args:
        app: name of an app.
        to: ``on`` (once more to change what is told), ``off`` or ``status``.
        message: what visitors read, on one line.
        until: when the app is expected back, ``12:30`` or ``2026-12-24 12:30`` in the host's time zone; only told.
        allow: networks that reach the app all the same: one, several with commas, or a list.

    Returns:
        How it is now.

    Raises:
        CommandExecutionError: no such app, a value that is not allowed, or HAProxy does not do it.

    Example:
        .. code-block:: bash

            salt-call edge.maintenance demo on until=14:30 allow=192.0.2.0/24 message='We move to a larger machine.'
            salt-call edge.maintenance demo off
    """
    if "edge" not in __pillar__["host"]["roles"]:
        return "this host is no edge"
    if app not in __pillar__["apps"]:
        raise CommandExecutionError(f'no app "{app}"; there are {", ".join(sorted(__pillar__["apps"]))}')
    try:
        wanted = rest.switch(to)
        told = _told(message, until, allow)
    except ValueError as error:
        raise CommandExecutionError(str(error)) from None
    if wanted != "on" and (message, until, allow) != (None, None, None):
        raise CommandExecutionError(f"message, until and allow go with on, not with {wanted}")
    if wanted != "status":
        with appfiles.locked(lock()):
            apps = {name: one for name, one in _resting().items() if name != app}
            _rest(apps | ({app: told} if wanted == "on" else {}))
    return _how(app)


def status() -> dict[str, Any]:
    """Return how this edge serves each app: ``maintenance``, a sentence or None, and what it sees of each web host.

    Example:
        .. code-block:: bash

            salt-call edge.status
    """
    rows = _stat()
    seen = {
        app: {row["svname"]: row["status"] for row in rows if row["pxname"] == f"app_{app}" and _is_server(row)}
        for app in __pillar__["apps"]
    }
    how = {app: _how(app) for app in seen}
    return {app: {"maintenance": None if how[app] == SERVED else how[app], "hosts": seen[app]} for app in sorted(seen)}


def resting(app: str) -> str | None:
    """Return what is told of an app in maintenance, as a sentence, by this edge's file; None of one that is not.

    Args:
        app: name of an app.

    Example:
        .. code-block:: bash

            salt-call edge.resting demo
    """
    return rest.sentence(_resting().get(app))  # type: ignore[no-any-return]


def maintenance_maps() -> dict[str, str]:
    """Return the two files that keep apps in maintenance, as they shall be: without apps that have gone.

    Example:
        .. code-block:: bash

            salt-call edge.maintenance_maps
    """
    return _maps({app: told for app, told in _resting().items() if app in __pillar__["apps"]})


def lock() -> str:
    """Return the lock of the files in which stands what people say at run time: held from reading to writing.

    Example:
        .. code-block:: bash

            salt-call edge.lock
    """
    return f"{RESTING}.lock"


def maps_differ() -> dict[str, Any]:
    """Return how the files that keep apps in maintenance are other than they shall be, as the changes of a state.

    Example:
        .. code-block:: bash

            salt-call edge.maps_differ
    """
    found = {path: _on_disk(Path(path)) for path in maintenance_maps()}
    wanted = {path: {"mode": "0o644", "lines": text.splitlines()} for path, text in maintenance_maps().items()}
    return {path: {"old": found[path], "new": wanted[path]} for path in wanted if found[path] != wanted[path]}


def keep_maps() -> None:
    """Write the files that keep apps in maintenance as they shall be; whoever calls it holds the lock.

    Raises:
        OSError: a file cannot be written.

    Example:
        .. code-block:: bash

            salt-call edge.keep_maps
    """
    for path, text in maintenance_maps().items():
        appfiles.write(path, text, 0o644)


def sees(app: str) -> str:
    """Ask for an app through this edge, and each web host that it may choose: all must give the same release.

    Args:
        app: name of an app.

    Returns:
        What the app's version page says; without one, that it is well.

    Raises:
        CommandExecutionError: an answer is not good, or two differ.

    Example:
        .. code-block:: bash

            salt-call edge.sees demo
    """
    settings = __pillar__["apps"][app]
    webs = [web for web in __pillar__["wiring"]["edge"]["webs"] if web["host"] not in out()]
    path = settings["version_path"] or settings["health_path"]
    asked = [("this edge", _through_haproxy(settings["hostnames"][0], path)) for _ in range(2 * len(webs))]
    asked += [(web["host"], _from_web(web, settings["hostnames"][0], path)) for web in webs]
    for who, (status, _) in asked:
        if status != (200 if settings["version_path"] else settings["health_status"]):
            raise CommandExecutionError(f"{app}: {path} answered {status}, asked of {who}")
    answers = {body for _, (_, body) in asked}
    if settings["version_path"] and len(answers) != 1:
        raise CommandExecutionError(f"{app}: hosts serve different releases: {' and '.join(sorted(answers))}")
    return answers.pop() if settings["version_path"] else f"{path} is well"


def _open_files() -> int:
    """Return what systemd can give a service: in a container, what it has itself."""
    found = re.search(r"(?m)^Max open files +\d+ +(\d+)", LIMITS.read_text())
    return min(int(found[1]), MOST_FILES) if found else MOST_FILES


def _through_haproxy(name: str, path: str) -> tuple[int, str]:
    # It is this very host: whose certificate it shows is the business of clients, not of this question.
    unchecked = ssl.create_default_context()
    unchecked.check_hostname, unchecked.verify_mode = False, ssl.CERT_NONE
    port = __pillar__["edge"]["https_port"]
    return _asked(http.client.HTTPSConnection("127.0.0.1", port, timeout=ANSWER_SECONDS, context=unchecked), name, path)


def _from_web(web: dict[str, Any], name: str, path: str) -> tuple[int, str]:
    return _asked(mutualtls.connection(web["name"], web["address"], web["port"]), name, path)


def _asked(connection: http.client.HTTPConnection, name: str, path: str) -> tuple[int, str]:
    try:
        status, body = gate.asked(connection, path, {"Host": name}, ANSWER_SECONDS, 4096)
        return status, body.decode(errors="replace").strip()
    except (OSError, http.client.HTTPException) as error:
        raise CommandExecutionError(f"{path} of {name}: no answer ({type(error).__name__}: {error})") from None


def _told(message: Any, until: Any, allow: Any) -> dict[str, Any]:
    now = datetime.datetime.now().astimezone().replace(microsecond=0)
    moment = None if until is None else rest.moment(until, now).isoformat()
    words, networks = rest.words(message), rest.networks(allow)
    return {"message": words, "until": moment, "allow": networks, "since": now.isoformat()}


def _resting() -> dict[str, Any]:
    """Return the apps in maintenance, by the file that HAProxy reads when it starts."""
    try:
        found: dict[str, Any] = rest.read(RESTING.read_text())
    except FileNotFoundError:
        return {}
    return found


def _on_disk(path: Path) -> dict[str, Any] | None:
    try:
        about = path.lstat()
        if not stat.S_ISREG(about.st_mode) or (about.st_uid, about.st_gid) != (0, 0):
            return {"mode": "not root's file", "lines": []}
        return {"mode": oct(stat.S_IMODE(about.st_mode)), "lines": path.read_text(errors="replace").splitlines()}
    except FileNotFoundError:
        return None


def _maps(apps: dict[str, Any]) -> dict[str, str]:
    # Who still gets through is there before anybody is sent away.
    return {str(THROUGH): rest.through(apps), str(RESTING): rest.resting(apps)}


def _rest(apps: dict[str, Any]) -> None:
    """Have it so in the files, for a HAProxy that starts, and in the one that runs."""
    for name, text in _maps(apps).items():
        appfiles.write(name, text, 0o644)
    for name, text in _maps(apps).items():
        found = re.search(r"New version created: (\d+)", _command(f"prepare map {name}"))
        if not found:
            raise CommandExecutionError(f"HAProxy does not know {name} yet: apply the edge's states, which make it so")
        for order in rest.orders(name, found[1], text.splitlines()):
            _command(order)


def _how(app: str) -> str:
    """Return how it is by the file, and by the HAProxy that runs."""
    line = next((one for one in _maps(_resting())[str(RESTING)].splitlines() if one.startswith(f"{app} ")), None)
    runs = re.findall(rf"(?m)^0x[0-9a-f]+ ({re.escape(app)} \S+)$", _command(f"show map {RESTING}"))
    kept = resting(app)
    if runs == ([line] if line else []):
        return f"in maintenance {kept}" if kept else SERVED
    return f"HAProxy does not what it was told ({f'maintenance {kept}' if kept else SERVED}): say on or off once more"


def _change_out(more: set[str], fewer: set[str]) -> None:
    with appfiles.locked(lock()):
        _write_out(set(out()) - fewer | more)


def _write_out(hosts: set[str]) -> None:
    OUT.parent.mkdir(parents=True, exist_ok=True)
    appfiles.write(OUT, json.dumps(sorted(hosts)) + "\n", 0o600)  # no app's business on a host that is both
    # HAProxy may start again before the next apply: it reads the very text here that the template would make.
    if CONFIG.is_file():
        line = lambda found: found[1] + (" disabled" if found[2] in hosts else "")  # noqa: E731
        text = re.sub(r"(?m)^( +server (\S+) .*?)(?: disabled)?$", line, CONFIG.read_text())
        appfiles.write(CONFIG, text, 0o644)


def _servers(host: str, may_be_unknown: bool = False) -> list[tuple[str, str]]:
    """Backend and name of each server that is this host."""
    found = [(row["pxname"], row["svname"]) for row in _stat() if row["svname"] == host]
    if not found and not may_be_unknown:
        known = sorted({row["svname"] for row in _stat() if _is_server(row)})
        raise CommandExecutionError(f'HAProxy knows no web host "{host}"; it knows {", ".join(known) or "none"}')
    return found


def _is_server(row: dict[str, str]) -> bool:
    return row["svname"] not in ("FRONTEND", "BACKEND")


def _stat() -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(_command("show stat").removeprefix("# "))))


def _command(text: str) -> str:
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as admin:
            admin.settimeout(ANSWER_SECONDS)
            admin.connect(ADMIN)
            admin.sendall(f"{text}\n".encode())
            answer = b"".join(iter(lambda: admin.recv(65536), b"")).decode()
    except OSError as error:
        raise CommandExecutionError(f"HAProxy's socket {ADMIN} does not answer: {error}") from None
    if text.startswith(("set ", "add ", "commit ")) and answer.strip():
        raise CommandExecutionError(f"HAProxy on `{text}`: {answer.strip()}")
    return answer
