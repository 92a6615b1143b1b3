"""What this host grants because the site declares a need of it, and who may still use what the site has taken back.

What was granted is remembered in one file; the pillar says what is wanted. Both are granted (saltern/needs/grants.py)
until nothing that was started with it runs any more; then the state ``needs.settled`` takes away what is not wanted.
"""

from __future__ import annotations

import json
import pwd
import socket
import subprocess
from pathlib import Path
from typing import Any

from salt.exceptions import CommandExecutionError

from saltern.host import appfiles
from saltern.needs import grants, readback
from saltern.release import envfile, releases

APPS = Path("/srv/apps")
RECORD = Path("/var/lib/saltern/needs.json")
DATA = Path("/var/lib/apps")
POSTGRES = Path("/etc/postgresql")
NGINX, FIREWALL = "/etc/nginx/nginx.conf", "/etc/nftables.conf"
#: What a host grants, by its own files.
FILES = {
    "firewall": FIREWALL,
    "nginx": NGINX,
    "broker": "/etc/redis/users-broker.conf",
    "cache": "/etc/redis/users-cache.conf",
}
#: States of a unit in which something of it may run.
RUNS = ("active", "activating", "deactivating", "reloading", "refreshing")


# --- what is granted ----------------------------------------------------------------------------------------


def remembered() -> dict[str, Any]:
    """Return what this host grants by its own record; without a good one, by what is in force on it.

    Example:
        salt-call needs.remembered
    """
    there, _ = _record()
    return in_force() if there is None else there


def damage() -> str:
    """Return what is wrong with the record of grants; an empty string when it is good, or there is none yet.

    Example:
        salt-call needs.damage
    """
    return _record()[1]


def _record() -> tuple[dict[str, Any] | None, str]:
    try:
        found = json.loads(RECORD.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None, ""
    except (OSError, ValueError) as error:
        return None, f"{RECORD} cannot be read: {error}"
    return (found, "") if grants.sound(found) else (None, f"{RECORD} is no list of grants")


def in_force() -> dict[str, Any]:
    """Return what this host grants by its own files: of firewall, Redis, Postgres and nginx, and of the releases.

    So a host that an older Saltern has converged, or whose record is damaged, takes nothing from what runs there.

    Example:
        salt-call needs.in_force
    """
    wiring = __pillar__["wiring"]
    known = wiring.get("postgres", {}).get("clients", [])
    port = __pillar__["postgres"]["port"] if "postgres" in __pillar__ else None
    return _by_files(wiring.get("base", {}).get("egress", {}).get("callers", []), known, port)


def _by_files(callers: list[dict[str, Any]], known: list[dict[str, Any]], port: int | None) -> dict[str, Any]:
    """Return what is granted by the host's own files, with the site's accounts, databases' clients and port."""
    texts = {name: text for name, path in FILES.items() if (text := _text(Path(path)))}
    texts["hba"] = "".join(_text(path) for path in sorted(POSTGRES.glob("*/main/pg_hba.conf")))
    found: dict[str, Any] = readback.grants(texts, _released(callers), known, grants.spoken)
    let_in = [one["let_in"] for one in found.values() if "limits" in one.get("let_in", {})]
    allowed = _sessions([client[who] for client in let_in for who in client["limits"]], port)
    for client in let_in:
        client["limits"] = {who: allowed.get(client[who], number) for who, number in client["limits"].items()}
    return found


def _sessions(names: list[str], port: int | None) -> dict[str, int]:
    """Return how many sessions each role may have; none where Postgres does not say, or sets no limit."""
    try:
        found = __salt__["pg.roles"](sorted({*names}), port) if names and port else {}
    except CommandExecutionError:
        return {}
    return {name: one["rolconnlimit"] for name, one in found.items() if one["rolconnlimit"] > 0}


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _released(callers: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return the apps of which there are releases here: what these were told, and whom their code runs as."""
    users = {one["name"]: one["users"] for one in callers}
    found: dict[str, dict[str, Any]] = {}
    for path in sorted(APPS.glob("*/releases/*/env")):
        app = path.parts[-4]
        about = found.setdefault(app, {"environments": [], "users": users.get(app) or _owner(app)})
        about["environments"].append(envfile.values(_text(path)))
    return found


def _owner(app: str) -> list[str]:
    """Return the account of an app that the site has no more: its data are its own."""
    try:
        uid = (DATA / app).lstat().st_uid
        return [pwd.getpwuid(uid).pw_name] if uid else []  # root calls whom it likes
    except (OSError, KeyError):
        return []


def wanted() -> dict[str, Any]:
    """Return what the site grants on this host.

    Example:
        salt-call needs.wanted
    """
    found: dict[str, Any] = grants.wanted(__pillar__)
    return found


def granted() -> dict[str, Any]:
    """Return what is in force: what the site grants, and what it granted before, until nobody can use that any more.

    Example:
        salt-call needs.granted
    """
    before, now = remembered(), wanted()
    found: dict[str, Any] = grants.both(before, now) if before != now else now
    return found


def new() -> dict[str, Any]:
    """Return what the site grants that this host did not grant before, as the changes of a state.

    Example:
        salt-call needs.new
    """
    found: dict[str, Any] = grants.more(remembered(), granted())
    return found


def remember(grants: dict[str, Any]) -> None:
    """Write down what is granted; before it is, so that a killed apply has forgotten nothing.

    A damaged record is set aside, as needs.damaged.

    Args:
        grants: As :func:`granted` returns them.

    Example:
        salt-call needs.remember '{}'
    """
    there, damaged = _record()
    if grants == there:
        return
    RECORD.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    if damaged:
        RECORD.replace(RECORD.with_suffix(".damaged"))
    appfiles.write(RECORD, json.dumps(grants, indent=1, sort_keys=True) + "\n", 0o600)


def base(wiring: dict[str, Any], apps: list[str], settings: dict[str, Any]) -> dict[str, Any]:
    """Return ``wiring:base`` of the pillar with all that is granted, for the firewall.

    Args:
        wiring: ``wiring:base``.
        apps: Names of the site's apps.
        settings: The ports in the settings of the host's roles.

    Example:
        salt-call needs.base '{open_ports: [], egress: {callers: []}}' '[demo]' '{postgres: {port: 5432}}'
    """
    # An app that is no more may have lost its account, too: then nothing of it runs.
    there = {
        name: one
        for name, one in _with_before({"wiring": {"base": wiring}, "apps": {}, **settings}, None).items()
        if one["part"] != "calls" or one["app"] in apps or all(map(_has_account, one["users"]))
    }
    found: dict[str, Any] = grants.base(wiring, there)
    return found


def firewall() -> dict[str, Any]:
    """Return what the firewall is told, as salt/base/granted.jinja works it out before a state runs.

    Example:
        salt-call needs.firewall
    """
    settings = {role: own for role, own in __pillar__.items() if isinstance(own, dict)}
    ports = {role: {k: v for k, v in own.items() if str(k).endswith("port")} for role, own in settings.items()}
    found = base(
        __pillar__["wiring"]["base"], list(__pillar__["apps"]), {role: own for role, own in ports.items() if own}
    )
    given: dict[str, Any] = __salt__["redis_server.with_legacy"](found, list(ports.get("redis", {}).values()))
    return given


def _with_before(pillar: dict[str, Any], port: int | None) -> dict[str, Any]:
    """Return what a part of the pillar grants, and all that was granted before."""
    before, _ = _record()
    if before is None:
        wiring = pillar["wiring"]
        callers = wiring.get("base", {}).get("egress", {}).get("callers", [])
        before = _by_files(callers, wiring.get("postgres", {}).get("clients", []), port)
    found: dict[str, Any] = grants.both(before, grants.wanted(pillar))
    return found


def _has_account(user: str) -> bool:
    try:
        pwd.getpwnam(user)
    except KeyError:
        return False
    return True


def users(server: str) -> list[dict[str, Any]]:
    """Return the users that a server of Redis has, with the hashes of their passwords.

    Args:
        server: ``broker`` or ``cache``.

    Example:
        salt-call needs.users cache
    """
    found: list[dict[str, Any]] = grants.users(server, granted())
    return found


def postgres(wiring: dict[str, Any], apps: list[str], port: int) -> dict[str, Any]:
    """Return the clients of the databases, those that are ``leaving``, and the replicas.

    Args:
        wiring: ``wiring:postgres`` of the pillar.
        apps: Names of the site's apps.
        port: The server's port.

    Example:
        salt-call needs.postgres '{clients: [], replicas: []}' '[]' 5432
    """
    granted_now = _with_before({"wiring": {"postgres": wiring}, "apps": {}}, port)
    found: dict[str, Any] = grants.postgres(granted_now, apps)
    return found


def pages() -> dict[str, Any]:
    """Return the edges that nginx serves, where it listens, and the URLs of each app's files.

    Example:
        salt-call needs.pages
    """
    found: dict[str, Any] = grants.pages(granted())
    now = grants.pages(wanted())["listens"]
    found["listens"] = [one for one in found["listens"] if one in now or _is_here(one.rpartition(":")[0])]
    return found


def _is_here(address: str) -> bool:
    """Return whether the host has an address; nginx starts on no other."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as one:
        try:
            one.bind((address, 0))
        except OSError:
            return False
    return True


# --- who may still use it -----------------------------------------------------------------------------------


def running() -> list[dict[str, str]]:
    """Return what runs of apps' code on this host: ``unit``, ``app`` and ``release`` of each, commands among them.

    Example:
        salt-call needs.running
    """
    asked = "--property=Id,ActiveState,WorkingDirectory"
    argv = ["systemctl", "show", "app-*.service", asked]
    try:
        done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=60)
    except FileNotFoundError:  # a host that is being installed in a chroot
        return []
    except subprocess.TimeoutExpired:
        raise CommandExecutionError("systemd does not say what runs: no answer within 60 s") from None
    if done.returncode:  # no answer is not "nothing runs"
        raise CommandExecutionError(f"systemd does not say what runs: {done.stderr.strip()[:200]}")
    found = []
    for block in done.stdout.split("\n\n"):
        about = dict(line.split("=", 1) for line in block.splitlines() if "=" in line)
        whose = grants.of_unit(about.get("WorkingDirectory", "").lstrip("!-"))
        if whose and about["ActiveState"] in RUNS:
            found.append({"unit": about["Id"], "app": whose[0], "release": whose[1]})
    return found


def held(plan: bool = False) -> dict[str, list[str]]:
    """Return the apps of which something runs here that may have been started with more than the site gives now.

    That is: anything of another release than the one that the site asks for, or than the one that is pinned; a process
    that the site has no more; and what was told of a server that is not the app's any more, whatever else is wrong.

    Args:
        plan: Answer for the time after an apply: what it stops runs no more.

    Returns:
        By app sentences that say why; apps that hold nothing are left out.

    Example:
        salt-call needs.held
        salt '*' needs.held
    """
    found: dict[str, list[str]] = {}
    by_app: dict[str, list[dict[str, str]]] = {}
    for one in running():
        by_app.setdefault(one["app"], []).append(one)
    for app, units in by_app.items():
        try:
            said = _held_by(app, units, plan)
        except CommandExecutionError as error:  # what is not known is held
            said = [str(error)]
        if said:
            found[app] = said
    return found


def _held_by(app: str, units: list[dict[str, str]], plan: bool) -> list[str]:
    if app not in __pillar__["apps"] or "wiring" not in __pillar__ or app not in __pillar__["wiring"].get("apps", {}):
        return [f"{one['unit']} runs" for one in units if not plan or "@" not in one["unit"]]
    right, processes = _right(app), __salt__["processes.wanted"](app)
    # Commands are no instances, and belong to nobody's plan.
    own = (f"app-{app}@", *(unit["template"] for unit in processes))
    if plan:
        after = __salt__["release.desired"](app)["id"]
        timers = tuple(unit["template"] for unit in processes if "timer" in unit)
        # What a timer or a person has started ends by itself.
        units = [
            one
            for one in units
            if "@" not in one["unit"]
            or one["unit"].startswith(timers)
            or (one["release"] == after and one["unit"].startswith(own))
        ]
    said, given = [], releases.environment(__pillar__, app)
    for one in units:
        if one["release"] != right:
            said.append(f"{one['unit']} is not of release {right}")
        elif "@" in one["unit"] and not one["unit"].startswith(own):
            said.append(f"{one['unit']} is to go")
        elif more := grants.excess(_environment(app, one["release"]), given):
            said.append(f"{one['unit']} was started with {', '.join(more)}")
    return said


def _right(app: str) -> str:
    """Return the release that the site asks for, on all hosts in the end; or the one that somebody has pinned."""
    if pin := __salt__["release.pinned"](app):
        return str(pin["release"])
    return str(__salt__["release.asked_for"](app)["id"])


def _environment(app: str, release: str) -> dict[str, str]:
    """Return what a release was given: root's file."""
    try:
        text = (APPS / app / "releases" / release / "env").read_text(encoding="utf-8")
    except OSError:
        return {}
    found: dict[str, str] = envfile.values(text)
    return found


def going(plan: bool = False, elsewhere: dict[str, dict[str, list[str]]] | None = None) -> dict[str, Any]:
    """Return what may be taken away now.

    Other hosts may use what they were given until somebody who knows all of them says what is held there (orch.settle):
    by ``held_elsewhere`` in the pillar, or ``applied_everywhere``, when nothing is.

    Args:
        plan: Answer for the time after an apply.
        elsewhere: What :func:`held` answered on the other hosts, by host; ``held_elsewhere`` when not given.

    Returns:
        ``left`` (what stays in force), ``changes`` (what goes, by the words for it), ``parts`` (what has to be put
        right for it), ``kept`` (what is not wanted and stays) and ``why`` (sentences).

    Example:
        salt-call needs.going
    """
    before, now = granted(), wanted()
    if before == now:
        return {"left": now, "changes": {}, "parts": [], "kept": [], "why": []}
    said = held(plan)
    told = _told() if elsewhere is None else elsewhere
    left = grants.left(before, now, list(said), _fleet(), told)
    changes = grants.fewer(before, left)
    why = [sentence for app in sorted(said) for sentence in said[app]]
    why += [
        f"{host}: {sentence}"
        for host, apps in sorted((told or {}).items())
        for app in sorted(apps)
        for sentence in apps[app]
    ]
    return {
        "left": left,
        "changes": changes,
        "parts": grants.parts(list(changes), before),
        "kept": sorted(grants.fewer(left, now)),
        "why": why,
    }


def _told() -> dict[str, Any] | None:
    """Return what other hosts hold, by the pillar of this run; None when it does not say."""
    if "held_elsewhere" in __pillar__:
        found: dict[str, Any] = __pillar__["held_elsewhere"]
        return found
    return {} if __pillar__.get("applied_everywhere") else None


def _fleet() -> dict[str, Any]:
    port = __pillar__.get("web", {}).get("port")
    return {"host": __pillar__["host"]["id"], "hosts": __pillar__["fleet"]["hosts"], "web_port": port}


def settling(elsewhere: dict[str, dict[str, list[str]]]) -> dict[str, list[str]]:
    """Return what ``orch.settle`` would take away on this host, and what it would leave.

    Args:
        elsewhere: What :func:`held` answered on the other hosts, by host.

    Returns:
        ``going``, ``kept`` and ``why``: what is granted, in words, and sentences that say who may still use it.

    Example:
        salt-call needs.settling '{web1: {demo: [app-demo@r1.service is not of release r2]}}'
    """
    found = going(elsewhere=elsewhere)
    return {"going": sorted(found["changes"]), "kept": found["kept"], "why": found["why"]}


def forgotten() -> list[str]:
    """Make sure that nothing is granted to hosts that the fleet does not have.

    Raises:
        CommandExecutionError: Something is.

    Example:
        salt '*' needs.forgotten
    """
    found: list[str] = grants.strangers(granted(), _fleet())
    if found:
        raise CommandExecutionError(
            f"still granted to hosts that are not in the fleet: {'; '.join(found)}. Apply this host, then orch.settle"
        )
    return found


def kept() -> list[str]:
    """Return what this host grants though the site does not want it any more.

    Example:
        salt '*' saltutil.refresh_pillar wait=True  # else it answers by the pillar that it has in memory
        salt '*' needs.kept
    """
    return sorted(grants.fewer(granted(), wanted()))


def users_of(part: str, plan: bool = False) -> list[str]:
    """Return what may still use a daemon that the fleet has taken from this host.

    Args:
        part: ``redis`` or ``postgres``.
        plan: Answer for the time after an apply.

    Returns:
        Grants that are in force, in words.

    Example:
        salt-call needs.users_of redis
    """
    found = going(plan)
    return [name for name in found["kept"] if found["left"][name]["part"] == part]


# --- taking it away -----------------------------------------------------------------------------------------


def unapplied(parts: list[str]) -> str:
    """Return what is not as the last apply would have it; to take something away would change that as well.

    Args:
        parts: Of :func:`going`.

    Returns:
        A sentence, or an empty string.

    Example:
        salt-call needs.unapplied '[pages, redis]'
    """
    given = __pillar__["host"]["roles"]
    found = []
    if {"calls", "ports"} & {*parts} and _text(Path(FIREWALL)) != _firewall():
        found.append(FIREWALL)
    if "pages" in parts and "web" in given and _text(Path(NGINX)) != _nginx():
        found.append(NGINX)
    if "redis" in parts and "redis" in given:
        servers = grants.servers()
        found += [f"users of the {one}" for one in servers if __salt__["redis_server.users_differ"](one)]
    if "postgres" in parts and "postgres" in given and _text(Path(_hba_path())) != _hba():
        found.append(_hba_path())
    host = __pillar__["host"]["id"]
    return f"Nothing was taken away, for {', '.join(found)} would change in more: apply {host} first" if found else ""


def close_firewall() -> None:
    """Load and write the firewall's rules as they shall be now.

    Example:
        salt-call needs.close_firewall
    """
    text = _firewall()
    __salt__["firewall.load"](text)
    appfiles.write(FIREWALL, text, 0o644)
    __salt__["daemon.adopt"]("nftables.service", [FIREWALL])


def _firewall() -> str:
    # As its state writes it: the same to the last line, so that the next apply finds nothing to do.
    path, context = "salt://base/files/nftables.conf.jinja", {"granted": firewall()}
    return str(__salt__["slsutil.renderer"](path=path, default_renderer="jinja", context=context))


def close_redis() -> None:
    """Write the users of Redis, and take from the running servers those that are none any more.

    Example:
        salt-call needs.close_redis
    """
    for server in grants.servers():
        if __salt__["redis_server.users_differ"](server):
            __salt__["redis_server.write_users"](server)
        __salt__["redis_server.repair"](server, __salt__["redis_server.drift"](server))


def close_pages() -> None:
    """Write nginx' configuration and reload it.

    Raises:
        CommandExecutionError: nginx does not take it.

    Example:
        salt-call needs.close_pages
    """
    appfiles.write(NGINX, _nginx(), 0o644)
    _raise(__salt__["daemon.act"]("nginx.service", "reload", [NGINX, "/etc/saltern/tls"]))


def _nginx() -> str:
    hosts, host = __pillar__["fleet"]["hosts"], __pillar__["host"]["id"]
    plain = __salt__["edge.takes_plain_http"](__pillar__["web"]["port"], host, hosts)
    context = {"plain": plain}  # as its state has it
    path = "salt://web/files/nginx.conf.jinja"
    return str(__salt__["slsutil.renderer"](path=path, default_renderer="jinja", context=context))


def close_databases() -> None:
    """Write pg_hba.conf and reload it; the roles are the business of ``pg.databases_present``.

    Raises:
        CommandExecutionError: Postgres does not take it.

    Example:
        salt-call needs.close_databases
    """
    path, text = _hba_path(), _hba()
    if Path(path).read_text(encoding="utf-8") == text:
        return
    __salt__["redis_server.write"](path, text, 0o640, "postgres")
    _raise(
        __salt__["daemon.act"](
            f"postgresql@{__salt__['pg.version']()}-main.service",
            "reload",
            __salt__["pg.inputs"](bool(__pillar__["wiring"]["postgres"]["primary"])),
            proof="pg.not_taken",
        )
    )


def _hba_path() -> str:
    return str(POSTGRES / str(__salt__["pg.version"]()) / "main/pg_hba.conf")


def _hba() -> str:
    wiring, port = __pillar__["wiring"]["postgres"], __pillar__["postgres"]["port"]
    found = postgres(wiring, list(__pillar__["apps"]), port)
    return str(__salt__["pg.hba"](found["clients"] + found["leaving"], found["replicas"]))


def _raise(problem: str) -> None:
    if problem:
        raise CommandExecutionError(problem)
