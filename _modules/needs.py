"""What this host grants because the site declares a need of it, and who may still use what the site has taken back.

What was granted is remembered in one file; the pillar says what is wanted. Both are granted (saltern/needs/grants.py)
until nothing that was started with it runs any more; then the state ``needs.settled`` takes away what is not wanted.
"""

from __future__ import annotations

import json
import pwd
import subprocess
from pathlib import Path
from typing import Any

from salt.exceptions import CommandExecutionError

from saltern.host import appfiles
from saltern.needs import grants
from saltern.release import envfile, releases

APPS = Path("/srv/apps")
RECORD = Path("/var/lib/saltern/needs.json")
NGINX, FIREWALL = "/etc/nginx/nginx.conf", "/etc/nftables.conf"
#: States of a unit in which something of it may run.
RUNS = ("active", "activating", "deactivating", "reloading", "refreshing")


# --- what is granted ----------------------------------------------------------------------------------------


def remembered() -> dict[str, Any]:
    """Return what this host grants by its own record; nothing where there is none yet, or it is damaged.

    Example:
        salt-call needs.remembered
    """
    try:
        found = json.loads(RECORD.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return {}
    grants: dict[str, Any] = found if isinstance(found, dict) else {}
    whole = all(isinstance(one, dict) and {"part", "app", "client"} <= one.keys() for one in grants.values())
    return grants if whole else {}


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

    Args:
        grants: As :func:`granted` returns them.

    Example:
        salt-call needs.remember '{}'
    """
    if grants == remembered():
        return
    RECORD.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    appfiles.write(RECORD, json.dumps(grants, indent=1, sort_keys=True) + "\n", 0o600)


def base(wiring: dict[str, Any] | None = None) -> dict[str, Any]:
    """Return ``wiring:base`` of the pillar with all that is granted, for the firewall.

    Args:
        wiring: What the pillar says; all that is known where salt-ssh renders, whose functions have no pillar.

    Example:
        salt-call needs.base
    """
    if wiring is not None and "wiring" not in __pillar__:
        return wiring
    # An app that is no more may have lost its account, too: then nothing of it runs.
    there = {
        name: one
        for name, one in granted().items()
        if one["part"] != "calls" or one["app"] in __pillar__["apps"] or all(map(_has_account, one["users"]))
    }
    found: dict[str, Any] = grants.base(__pillar__["wiring"]["base"], there)
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


def postgres(wiring: dict[str, Any] | None = None) -> dict[str, Any]:
    """Return the clients of the databases, those that are ``leaving``, and the replicas.

    Args:
        wiring: ``wiring:postgres`` of the pillar; as for :func:`base`.

    Example:
        salt-call needs.postgres
    """
    if wiring is not None and "wiring" not in __pillar__:
        return {"clients": wiring["clients"], "leaving": [], "replicas": wiring["replicas"]}
    found: dict[str, Any] = grants.postgres(granted(), __pillar__["apps"])
    return found


def pages() -> dict[str, Any]:
    """Return the edges that nginx serves, and the URLs of each app's files.

    Example:
        salt-call needs.pages
    """
    found: dict[str, Any] = grants.pages(granted())
    return found


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
    """The release that the site asks for, on all hosts in the end; or the one that somebody has pinned."""
    if pin := __salt__["release.pinned"](app):
        return str(pin["release"])
    return str(__salt__["release.asked_for"](app)["id"])


def _environment(app: str, release: str) -> dict[str, str]:
    """What a release was given: root's file."""
    try:
        text = (APPS / app / "releases" / release / "env").read_text(encoding="utf-8")
    except OSError:
        return {}
    found: dict[str, str] = envfile.values(text)
    return found


def going(plan: bool = False) -> dict[str, Any]:
    """Return what may be taken away now.

    Other hosts may use what they were given until somebody who knows all of them says ``applied_everywhere`` in the
    pillar (orch.settle).

    Args:
        plan: Answer for the time after an apply.

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
    hosts = {} if __pillar__.get("applied_everywhere") else __pillar__["fleet"]["hosts"]
    others = set(hosts) - {__pillar__["host"]["id"]}
    apps = [host for host in others if {"web", "worker"} & {*hosts[host]["roles"]}]
    left = grants.left(before, now, list(said), bool(others), bool(apps))
    changes = grants.fewer(before, left)
    kept = sorted(grants.fewer(left, now))
    return {
        "left": left,
        "changes": changes,
        "parts": grants.parts(list(changes), before),
        "kept": kept,
        "why": [sentence for app in sorted(said) for sentence in said[app]],
    }


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


def close_firewall() -> None:
    """Load and write the firewall's rules as they shall be now.

    Example:
        salt-call needs.close_firewall
    """
    # As its state writes it: the same to the last line, so that the next apply finds nothing to do.
    text = __salt__["slsutil.renderer"](path="salt://base/files/nftables.conf.jinja", default_renderer="jinja")
    __salt__["firewall.load"](text)
    appfiles.write(FIREWALL, text, 0o644)
    __salt__["daemon.adopt"]("nftables.service", [FIREWALL])


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
    plain = __salt__["edge.takes_plain_http"]()  # as its state has it
    text = __salt__["slsutil.renderer"](
        path="salt://web/files/nginx.conf.jinja", default_renderer="jinja", context={"plain": plain}
    )
    appfiles.write(NGINX, text, 0o644)
    _raise(__salt__["daemon.act"]("nginx.service", "reload", [NGINX, "/etc/saltern/tls"]))


def close_databases() -> None:
    """Write pg_hba.conf and reload it; the roles are the business of ``pg.databases_present``.

    Raises:
        CommandExecutionError: Postgres does not take it.

    Example:
        salt-call needs.close_databases
    """
    version = __salt__["pg.version"]()
    directory = f"/etc/postgresql/{version}/main"
    found = postgres()
    text = __salt__["pg.hba"](found["clients"] + found["leaving"], found["replicas"])
    path = f"{directory}/pg_hba.conf"
    if Path(path).read_text(encoding="utf-8") == text:
        return
    __salt__["redis_server.write"](path, text, 0o640, "postgres")
    _raise(
        __salt__["daemon.act"](
            f"postgresql@{version}-main.service",
            "reload",
            __salt__["pg.inputs"](bool(__pillar__["wiring"]["postgres"]["primary"])),
        )
    )


def _raise(problem: str) -> None:
    if problem:
        raise CommandExecutionError(problem)
