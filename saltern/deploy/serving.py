"""How releases get the traffic and lose it: prepare, switch, retire.

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

from saltern.host import appfiles, places
from saltern.host.here import Here
from saltern.release import applock, appunits, deciding, gate, installed, instances, oneoff, releases, steps, written

KEEP_STATIC_DAYS = 30  # static files that no kept release has: pages in browsers' caches may still name them
ACTIVATE_SECONDS = 600  # of holding the deploy lock: start, gate, and draining and stopping what ran before


def activate(here: Here, app: str) -> None:
    """Give the traffic to the desired release, if it deserves it, and put right what a killed run left.

    Start, ask until it has answered well several times in a row, switch, wait for what the old release has in
    flight, stop the old one. When the new release does not answer well it is stopped and the old one serves on.
    """
    serve(here, app, deciding.desired(here, app)["id"])


def prepare(here: Here, app: str, release: str) -> None:
    """Start an installed release and ask it until it has answered well; it gets no traffic yet."""
    installed.manifest(app, release)  # refuses one that is not installed
    with applock.hold(places.APPS / app / ".lock", f"starting {release}", ACTIVATE_SECONDS):
        _prepare(here, app, release)


def switch(app: str, release: str) -> None:
    """Give the traffic to a release that was prepared; what served before runs on."""
    with applock.hold(places.APPS / app / ".lock", f"switching to {release}", ACTIVATE_SECONDS):
        if instances.states(app).get(release) != "active":
            raise CommandExecutionError(f"release {release} of {app} is not running: release.prepare comes first")
        _switch(app, release)


def retire(app: str, release: str) -> None:
    """Stop all releases but the one that has the traffic, when they have answered what they were asked."""
    with applock.hold(places.APPS / app / ".lock", f"retiring all but {release}", ACTIVATE_SECONDS):
        if installed.active(app) != release:
            raise CommandExecutionError(f"release {release} of {app} has not the traffic: release.switch comes first")
        _retire(app, release)


def prune(app: str, keep: int = places.KEEP_RELEASES) -> list[str]:
    """Remove old releases now: never the active one nor a pinned one. Each deploy does so with the default."""
    if keep < 1:
        raise CommandExecutionError("keep: at least 1, the release that is active")
    with applock.hold(places.APPS / app / ".lock", "removing old releases", ACTIVATE_SECONDS):
        now = installed.active(app)
        if now is None:
            raise CommandExecutionError(f"no release of {app} is active, so none of them is old")
        return _remove_old(app, now, keep)


def orphans(apps: list[str]) -> list[str]:
    """List apps that this host still knows though they are not among the given ones."""
    found = []
    for path in places.UNITS.glob("app-*@.service"):
        if appunits.is_ours(path.read_text()):
            found.append(path.name.removeprefix("app-").removesuffix("@.service"))
    return sorted(set(found) - set(apps))


def remove(app: str) -> None:
    """Stop an app and take it out of systemd. Its releases, its data and its user stay."""
    (places.APPS / app / "current.sock").unlink(missing_ok=True)
    _stop_others(app, None)
    (places.TMPFILES / f"app-{app}.conf").unlink(missing_ok=True)
    # Last: while it is there, ``orphans`` finds the app again.
    (places.UNITS / f"app-{app}@.service").unlink(missing_ok=True)
    instances.reload()


def serve(here: Here, app: str, release: str, pin_why: str | None = None) -> None:
    """Prepare, switch, retire; with ``pin_why`` the release is pinned when it has passed the gate."""
    installed.manifest(app, release)  # refuses one that is not installed
    lock = applock.hold(places.APPS / app / ".lock", f"activating {release}", ACTIVATE_SECONDS)
    with lock as still_held:
        _prepare(here, app, release)
        still_held()
        if pin_why is not None:
            written.write_pin(app, release, pin_why)
        _switch(app, release)
        deciding.choose(here, app, release)
        _retire(app, release)


def _prepare(here: Here, app: str, release: str) -> None:
    """Start a release and ask it; one that does not answer well is stopped, unless it is the one that serves."""
    reached, before = steps.reached, installed.active(app)
    settings = here.app(app)
    try:
        instances.start(app, release)
        publish(app, release)
        reached("started")
        state = functools.partial(instances.state, app, release)
        gate.passed(_socket(app, release), release, settings, state)
    except CommandExecutionError as error:
        lines = instances.last_log_lines(app, release)
        if before != release:
            _stop(app, release)
        written.record(app, release, "refused", oneoff.redact(here, str(error)))
        serving = f"{before} serves on" if before and before != release else "nothing else can serve"
        said = f"release {release} of {app} gets no traffic; {serving}. {error}\nIts last log lines:\n{lines}"
        raise CommandExecutionError(oneoff.redact(here, said)) from None
    reached("gate passed")


def _switch(app: str, release: str) -> None:
    """Give the traffic to a release that runs; what served before runs on."""
    # Before the switch: after a crash in between, both start at boot and the link still says which one serves.
    instances.enable(app, release)
    steps.reached("enabled")
    appfiles.point(places.APPS / app / "current.sock", _socket(app, release))
    steps.reached("switched")


def _retire(app: str, release: str) -> None:
    """Stop all releases but the one that serves, write down that it does, and remove what is old."""
    reached = steps.reached
    _stop_others(app, release)
    # What was enabled and disabled makes every unit of the host say that systemd has not read it.
    instances.reload()
    last = releases.last_served(written.log(app, 0))
    result = "rolled back" if written.pinned(app) else "activated"
    written.record(app, release, "repaired" if last == release else result)
    reached("recorded")
    _remove_old(app, release)
    reached("pruned")


def _stop_others(app: str, keep: str | None) -> None:
    """Stop every other release, when it has answered what it was asked."""
    reached = steps.reached
    states = instances.states(app)
    running = {release for release, state in states.items() if state != "inactive"}
    for other in sorted((running | set(instances.enabled(app))) - {keep}):
        instances.disable(app, other)
        reached("old one disabled")
        gate.drain(places.SOCKETS / app / f"{other}.sock")  # the kernel knows connections by this name
        reached("old one drained")
        _stop(app, other)
        reached("old one stopped")


def _remove_old(app: str, active: str, keep: int = places.KEEP_RELEASES) -> list[str]:
    """Remove old releases, and static files that no release has had for a long time."""
    kept = releases.kept(active, written.log(app, 0), keep)
    if pin := written.pinned(app):
        kept.add(pin["release"])
    gone = sorted({one["id"] for one in installed.manifests(app)} - kept)
    for release in gone:
        directory = Path(installed.directory(app, release))
        (directory / "manifest.json").unlink()  # first: what is half removed is no release
        shutil.rmtree(directory)
        _forget_socket(app, release)
    # A served file is a second name of the release's file (django.publish_static), so with one name left it belongs
    # to no release any more; and its ctime is when the other name went.
    before = time.time() - KEEP_STATIC_DAYS * 86400
    for path in (places.APPS / app / "static").rglob("*"):
        about = path.lstat()
        if path.is_file() and about.st_nlink == 1 and about.st_ctime < before:
            path.unlink()
    return gone


def _stop(app: str, release: str) -> None:
    instances.stop(app, release)
    _forget_socket(app, release)  # left behind when it crashed


def _forget_socket(app: str, release: str) -> None:
    for path in (_socket(app, release), places.SOCKETS / app / f"{release}.sock"):
        path.unlink(missing_ok=True)


def _socket(app: str, release: str) -> Path:
    return places.WEB / app / f"{release}.sock"


def publish(app: str, release: str) -> None:
    """Give a running release's socket its second name, by which nginx connects. The unit does so at each start.

    What is published is the socket itself: a link that the app put there is refused, whenever it does so.
    """
    place, own = _socket(app, release), places.SOCKETS / app / f"{release}.sock"
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
