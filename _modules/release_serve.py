"""Releases, how they get the traffic and lose it: prepare, switch, retire. A part of the execution module release.

Each of the three does only what is missing, so it may be called again after a kill. The deploy lock is held around
them; between the first and the second the new release runs, has proven itself, and nobody asks it.
"""

from __future__ import annotations

import functools
import os
import shutil
import stat
import time
from pathlib import Path

from salt.exceptions import CommandExecutionError

from saltern.host import appfiles, here
from saltern.release import applock, appunits, gate, releases, steps
from saltern.release import rollback as way_back

__virtualname__ = "release"

APPS = Path("/srv/apps")
RUN = Path("/run/apps")
WEB = Path("/run/web")
UNITS = Path("/etc/systemd/system")
TMPFILES = Path("/etc/tmpfiles.d")

KEEP_RELEASES = 3  # the active one, the one to go back to, and one more
KEEP_STATIC_DAYS = 30  # static files that no kept release has: pages in browsers' caches may still name them
ACTIVATE_SECONDS = 600  # of holding the deploy lock: start, gate, and draining and stopping what ran before


def __virtual__() -> str:
    return __virtualname__


def activate(app: str) -> None:
    """Give the traffic to the desired release, if it deserves it, and put right what a killed run left.

    Start, ask until it has answered well several times in a row, switch, wait for what the old release has in
    flight, stop the old one. When the new release does not answer well it is stopped and the old one serves on.

    Args:
        app: name of an app of this host.

    Raises:
        CommandExecutionError: the release is not installed, did not start or did not answer well; with the app's
            last log lines.

    Example:
        .. code-block:: bash

            salt-call release.activate demo
    """
    _serve(app, __salt__["release.desired"](app)["id"])


def prepare(app: str, release: str) -> None:
    """Start an installed release and ask it until it has answered well; it gets no traffic yet.

    Args:
        app: name of an app of this host.
        release: the release's id.

    Raises:
        CommandExecutionError: it did not start or did not answer well; with the app's last log lines.

    Example:
        .. code-block:: bash

            salt-call release.prepare demo 6f1d3c0a9b2e-2fcc3ffb
    """
    __salt__["release.manifest"](app, release)  # refuses one that is not installed
    with applock.hold(APPS / app / ".lock", f"starting {release}", ACTIVATE_SECONDS):
        _prepare(app, release)


def switch(app: str, release: str) -> None:
    """Give the traffic to a release that was prepared; what served before runs on.

    Args:
        app: name of an app of this host.
        release: the release's id.

    Raises:
        CommandExecutionError: it is not running.

    Example:
        .. code-block:: bash

            salt-call release.switch demo 6f1d3c0a9b2e-2fcc3ffb
    """
    with applock.hold(APPS / app / ".lock", f"switching to {release}", ACTIVATE_SECONDS):
        if __salt__["instances.states"](app).get(release) != "active":
            raise CommandExecutionError(f"release {release} of {app} is not running: release.prepare comes first")
        _switch(app, release)


def retire(app: str, release: str) -> None:
    """Stop all releases but the one that has the traffic, when they have answered what they were asked.

    Args:
        app: name of an app of this host.
        release: id of the release that has the traffic.

    Raises:
        CommandExecutionError: it has not.

    Example:
        .. code-block:: bash

            salt-call release.retire demo 6f1d3c0a9b2e-2fcc3ffb
    """
    with applock.hold(APPS / app / ".lock", f"retiring all but {release}", ACTIVATE_SECONDS):
        if __salt__["release.active"](app) != release:
            raise CommandExecutionError(f"release {release} of {app} has not the traffic: release.switch comes first")
        _retire(app, release)


def rollback(app: str, release: str | None = None) -> str:
    """Give the traffic back to an installed release: the one that served before, or the named one. Builds nothing.

    It passes the same gate as any other, and is pinned, so that the next apply does not take it away again:
    ``release.unpin`` hands the choice back to the site.

    Args:
        app: name of an app of this host.
        release: id of an installed release (``release.list``).

    Returns:
        What was done, and what it means for the next apply.

    Raises:
        CommandExecutionError: there is no such release, a migration since then is in the way, or the release did
            not answer well; then what was served is served on, and nothing is pinned.

    Example:
        .. code-block:: bash

            salt-call release.rollback demo
            salt-call release.rollback demo 6f1d3c0a9b2e-2fcc3ffb
    """
    refuse_alone(app, "orch.rollback")
    now = __salt__["release.active"](app)
    target = release or _served_before(app, now)
    __salt__["release.manifest"](app, target)  # refuses one that is not installed
    if target == now:
        raise CommandExecutionError(f"release {target} of {app} is active already: release.pin keeps it so")
    for step, proof in (
        ("static files were not collected", "static.json"),
        ("migrations were not run", "migrated.json"),
    ):
        if not Path(__salt__["release.directory"](app, target), proof).is_file():
            raise CommandExecutionError(f"release {target} of {app} never got as far as to serve: its {step}")
    refuse_migrations(app, target)
    __salt__["django.publish_static"](app, target)
    _serve(app, target, f"rolled back from {now}")
    if "worker" in __pillar__["host"]["roles"]:
        __salt__["processes.converge"](app)  # web and background of one app are of one release
    note = releases.pin_note(app, __salt__["release.pinned"](app))
    return f"Release {target} of {app} has the traffic; before: {now}. {note}"


def refuse_alone(app: str, orchestration: str) -> None:
    """Raise where several hosts serve an app under a master: one of them alone must not serve another release.

    Args:
        app: name of an app of this host.
        orchestration: what does it for all of them.

    Raises:
        CommandExecutionError: how it is done there.

    Example:
        .. code-block:: bash

            salt-call release.refuse_alone demo orch.rollback
    """
    if __pillar__["wiring"]["together"]:
        raise CommandExecutionError(
            f"all hosts of {app} switch together. On the master: salt-run state.orchestrate {orchestration} "
            f'pillar=\'{{"app": "{app}"}}\''
        )


def _served_before(app: str, now: str | None) -> str:
    """Return the installed release that was deployed before the active one."""
    for older in releases.before(now, __salt__["release.log"](app, 0)):
        if __salt__["release.is_staged"](app, older):
            return str(older)
    raise CommandExecutionError(f"no release of {app} that served before {now} is installed; see release.list {app}")


def refuse_migrations(app: str, target: str) -> None:
    """Raise when the database has been migrated since, in a way that an older release might not bear.

    Args:
        app: name of an app of this host.
        target: id of an installed release.

    Raises:
        CommandExecutionError: which migrations are in the way, and what to do.

    Example:
        .. code-block:: bash

            salt-call release.refuse_migrations demo 6f1d3c0a9b2e-2fcc3ffb
    """
    about = __salt__["release.manifest"](app, target)
    applied = __salt__["django.applied_since"](app, target)
    declared = here.settings(__pillar__, app)["migrations"]["reversible"]
    if found := way_back.in_the_way(applied, about, __salt__["release.manifests"](app), declared):
        raise CommandExecutionError(
            f"release {target} of {app} may not bear what was migrated since: {', '.join(found)}. If the older code "
            f"works on after it, say so in apps/{app}.yaml: `migrations: {{reversible: [{', '.join(found)}]}}`; else "
            "deploy a newer release that puts things right."
        )


def prune(app: str, keep: int = KEEP_RELEASES) -> list[str]:
    """Remove old releases now: never the active one nor a pinned one. Each deploy does so with the default.

    Args:
        app: name of an app of this host.
        keep: how many stay, the active one included; those that served last.

    Returns:
        Ids of the releases that were removed.

    Raises:
        CommandExecutionError: ``keep`` is less than 1, or no release is active.

    Example:
        .. code-block:: bash

            salt-call release.prune demo
            salt-call release.prune demo 1
    """
    if keep < 1:
        raise CommandExecutionError("keep: at least 1, the release that is active")
    with applock.hold(APPS / app / ".lock", "removing old releases", ACTIVATE_SECONDS):
        now = __salt__["release.active"](app)
        if now is None:
            raise CommandExecutionError(f"no release of {app} is active, so none of them is old")
        return _remove_old(app, now, keep)


def orphans(apps: list[str]) -> list[str]:
    """List apps that this host still knows though they are not among the given ones.

    Args:
        apps: names of the apps that belong here.

    Example:
        .. code-block:: bash

            salt-call release.orphans '[demo]'
    """
    found = []
    for path in UNITS.glob("app-*@.service"):
        if appunits.is_ours(path.read_text()):
            found.append(path.name.removeprefix("app-").removesuffix("@.service"))
    return sorted(set(found) - set(apps))


def remove(app: str) -> None:
    """Stop an app and take it out of systemd. Its releases, its data and its user stay.

    Args:
        app: the app's name.

    Example:
        .. code-block:: bash

            salt-call release.remove demo
    """
    (APPS / app / "current.sock").unlink(missing_ok=True)
    _stop_others(app, None)
    (TMPFILES / f"app-{app}.conf").unlink(missing_ok=True)
    # Last: while it is there, ``orphans`` finds the app again.
    (UNITS / f"app-{app}@.service").unlink(missing_ok=True)
    __salt__["instances.reload"]()


def _serve(app: str, release: str, pin_why: str | None = None) -> None:
    """Prepare, switch, retire; with ``pin_why`` the release is pinned when it has passed the gate."""
    __salt__["release.manifest"](app, release)  # refuses one that is not installed
    lock = applock.hold(APPS / app / ".lock", f"activating {release}", ACTIVATE_SECONDS)
    with lock as still_held:
        _prepare(app, release)
        still_held()
        if pin_why is not None:
            __salt__["release.write_pin"](app, release, pin_why)
        _switch(app, release)
        __salt__["fleet.choose"](app, release)
        _retire(app, release)


def _prepare(app: str, release: str) -> None:
    """Start a release and ask it; one that does not answer well is stopped, unless it is the one that serves."""
    reached, before = steps.reached, __salt__["release.active"](app)
    settings = here.settings(__pillar__, app)
    try:
        __salt__["instances.start"](app, release)
        publish(app, release)
        reached("started")
        state = functools.partial(__salt__["instances.state"], app, release)
        gate.passed(_socket(app, release), release, settings, state)
    except CommandExecutionError as error:
        redact, lines = __salt__["release.redact"], __salt__["instances.last_log_lines"](app, release)
        if before != release:
            _stop(app, release)
        __salt__["release.record"](app, release, "refused", redact(str(error)))
        serving = f"{before} serves on" if before and before != release else "nothing else can serve"
        raise CommandExecutionError(
            redact(f"release {release} of {app} gets no traffic; {serving}. {error}\nIts last log lines:\n{lines}")
        ) from None
    reached("gate passed")


def _switch(app: str, release: str) -> None:
    """Give the traffic to a release that runs; what served before runs on."""
    # Before the switch: after a crash in between, both start at boot and the link still says which one serves.
    __salt__["instances.enable"](app, release)
    steps.reached("enabled")
    appfiles.point(APPS / app / "current.sock", _socket(app, release))
    steps.reached("switched")


def _retire(app: str, release: str) -> None:
    """Stop all releases but the one that serves, write down that it does, and remove what is old."""
    reached = steps.reached
    _stop_others(app, release)
    # What was enabled and disabled makes every unit of the host say that systemd has not read it.
    __salt__["instances.reload"]()
    last = releases.last_served(__salt__["release.log"](app, 0))
    result = "rolled back" if __salt__["release.pinned"](app) else "activated"
    __salt__["release.record"](app, release, "repaired" if last == release else result)
    reached("recorded")
    _remove_old(app, release)
    reached("pruned")


def _stop_others(app: str, keep: str | None) -> None:
    """Stop every other release, when it has answered what it was asked."""
    reached = steps.reached
    states = __salt__["instances.states"](app)
    running = {release for release, state in states.items() if state != "inactive"}
    for other in sorted((running | set(__salt__["instances.enabled"](app))) - {keep}):
        __salt__["instances.disable"](app, other)
        reached("old one disabled")
        gate.drain(RUN / app / f"{other}.sock")  # the kernel knows connections by this name
        reached("old one drained")
        _stop(app, other)
        reached("old one stopped")


def _remove_old(app: str, active: str, keep: int = KEEP_RELEASES) -> list[str]:
    """Remove old releases, and static files that no release has had for a long time."""
    kept = releases.kept(active, __salt__["release.log"](app, 0), keep)
    if pin := __salt__["release.pinned"](app):
        kept.add(pin["release"])
    gone = sorted({one["id"] for one in __salt__["release.manifests"](app)} - kept)
    for release in gone:
        directory = Path(__salt__["release.directory"](app, release))
        (directory / "manifest.json").unlink()  # first: what is half removed is no release
        shutil.rmtree(directory)
        _forget_socket(app, release)
    # A served file is a second name of the release's file (django.publish_static), so with one name left it belongs
    # to no release any more; and its ctime is when the other name went.
    before = time.time() - KEEP_STATIC_DAYS * 86400
    for path in (APPS / app / "static").rglob("*"):
        about = path.lstat()
        if path.is_file() and about.st_nlink == 1 and about.st_ctime < before:
            path.unlink()
    return gone


def _stop(app: str, release: str) -> None:
    __salt__["instances.stop"](app, release)
    _forget_socket(app, release)  # left behind when it crashed


def _forget_socket(app: str, release: str) -> None:
    for path in (_socket(app, release), RUN / app / f"{release}.sock"):
        path.unlink(missing_ok=True)


def _socket(app: str, release: str) -> Path:
    return WEB / app / f"{release}.sock"


def publish(app: str, release: str) -> None:
    """Give a running release's socket its second name, by which nginx connects. The unit does so at each start.

    What is published is the socket itself: a link that the app put there is refused, whenever it does so.

    Args:
        app: name of an app of this host.
        release: id of a release that runs.

    Raises:
        CommandExecutionError: there is no socket.

    Example:
        .. code-block:: bash

            salt-call release.publish demo 6f1d3c0a9b2e-2fcc3ffb
    """
    place, own = _socket(app, release), RUN / app / f"{release}.sock"
    beside = place.with_name(f"{place.name}.new")
    beside.unlink(missing_ok=True)
    try:
        if os.path.lexists(place) and os.path.samestat(place.lstat(), own.lstat()):
            return
        os.link(own, beside, follow_symlinks=False)
    except OSError as error:
        raise CommandExecutionError(f"It has no socket that can be published: {error}.") from None
    if not stat.S_ISSOCK(beside.lstat().st_mode):
        beside.unlink()
        raise CommandExecutionError("It has put something else in its socket's place.")
    beside.replace(place)
