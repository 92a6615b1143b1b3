"""Background processes and timers: what an app runs beside its web processes, each as a unit instance of a release.

A process is ``app-<app>-<name>@<release>.service``, so that two releases can run side by side while one takes over.
Whether a process was started with its unit as it is now on disk, the process itself tells: the hash of the unit's text
is in its environment. So there is nothing to remember, and a run that was killed anywhere is finished by the next.
"""

from __future__ import annotations

import contextlib
import re
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from salt.exceptions import CommandExecutionError

from saltern.background import unittexts
from saltern.host import appfiles, places
from saltern.host.here import Here
from saltern.migrate import migrations
from saltern.release import deciding, installed, oneoff, overview, releases, written

# Asked in a release, as the app: how many tasks wait in some queues. Its own settings say where, and under which names.
WAITING = """
import sys
from celery.app.utils import find_app
from kombu.exceptions import ChannelError
count = 0
with find_app(sys.argv[1]).connection_for_read() as connection:
    channel = connection.default_channel
    for queue in sys.argv[2].split(","):
        if hasattr(channel, "_size"):  # Redis: to declare it asks for a key without the app's prefix, which is refused
            count += channel._size(queue)
            continue
        try:
            count += channel.queue_declare(queue=queue, passive=True).message_count
        except ChannelError:  # nobody has ever sent anything there
            pass
print("\\nSALTERN", count)
"""
STOP_LIMIT = 2 * (3600 + unittexts.COLD_SECONDS) + 60  # systemd has ended every process by then: the unit says when


def wanted(here: Here, app: str, release: str | None = None) -> list[dict[str, Any]]:
    """Return the processes and timers that this host shall run for an app. Changes nothing."""
    settings = here.app(app)
    if not here.has("worker") or not (settings["processes"] or settings["timers"]):
        return []
    release = release or deciding.desired(here, app)["id"]
    sandbox = oneoff.sandbox(here, app)
    single_here = here.pillar["wiring"]["worker"]["single"]
    units = []
    for name, what in sorted({**settings["processes"], **settings["timers"]}.items()):
        single = what.get("single", True) or what.get("beat") is not None
        if single and not single_here:
            continue
        stop = what.get("stop_seconds") or here.pillar["worker"]["stop_seconds"]
        text = unittexts.service_text(app, name, what, settings, sandbox, stop)
        template = f"app-{app}-{name}@"
        instance = f"{template}{release}.service"
        unit = {"name": name, "release": release, "single": single, "template": template}
        unit["files"] = {str(places.UNITS / f"{template}.service"): text}
        if "schedule" in what:
            timer = f"app-{app}-{name}.timer"
            unit["files"][str(places.UNITS / timer)] = unittexts.timer_text(app, name, what, release)
            unit |= {"timer": timer, "schedule": what["schedule"], "loaded": [timer, instance]}
        else:
            unit |= {"instance": instance, "mark": unittexts.mark_of(text)}
        units.append(unit)
    return units


def status(here: Here, app: str) -> dict[str, Any]:
    """Compare the processes and timers of an app with what this host shall run. Changes nothing."""
    return _status(app, wanted(here, app), _found(app))


def _status(app: str, units: list[dict[str, Any]], found: dict[str, Any]) -> dict[str, Any]:
    problems = {unit["name"]: said for unit in units if (said := unittexts.faults(unit, found))}
    for one in _leaving(units, found) if problems else []:
        name = one["template"].partition("@")[0].removeprefix(f"app-{app}-")
        ends = f"nobody takes from {', '.join(one['queues'])} any more, when what waits there is done"
        if ends not in problems.setdefault(name, []):
            problems[name].append(ends)
    for name in _leftovers(units, found):
        problems[name.removeprefix(f"app-{app}-")] = ["it is here, and shall not be"]
    return {
        "release": units[0]["release"] if units else None,
        "running": sorted(name for name, about in found["units"].items() if about["ActiveState"] == "active"),
        "problems": problems,
    }


def _leftovers(units: list[dict[str, Any]], found: dict[str, Any]) -> list[str]:
    """Names of processes and timers whose files are here though nobody wants them."""
    kept = {path for unit in units for path in unit["files"]}
    return sorted({Path(path).name.removesuffix(".timer").partition("@")[0] for path in set(found["files"]) - kept})


def orphans(apps: list[str]) -> list[str]:
    """List apps that have processes or timers on this host though they are not among the given ones."""
    owners = {first[len(unittexts.OWNER) :].rstrip(".") for first, _ in _own_files().values()}
    return sorted(owners - set(apps))


def _own_files() -> dict[str, tuple[str, str]]:
    """First line and text of each unit that this module has written."""
    found = {}
    for path in [*places.UNITS.glob("app-*@.service"), *places.UNITS.glob("app-*.timer")]:
        with contextlib.suppress(FileNotFoundError):
            text = path.read_text()
            if text.startswith(unittexts.OWNER):
                found[str(path)] = (text.partition("\n")[0], text)
    return found


def _found(app: str) -> dict[str, Any]:
    """Return what is on the host of an app's processes: files, units in systemd's memory, units started at boot."""
    files = {path: text for path, (first, text) in _own_files().items() if first == f"{unittexts.OWNER}{app}."}
    names = sorted(Path(path).name for path in files)
    patterns = [name.replace("@.", "@*.") for name in names]
    targets = ("multi-user.target.wants", "timers.target.wants")
    wants = [link for target in targets for link in (places.UNITS / target).glob("app-*")]
    enabled = sorted(link.name for link in wants if link.name.startswith(_beginnings(names)))
    return {"files": files, "units": _units(patterns) if patterns else {}, "enabled": enabled}


def _beginnings(names: list[str]) -> tuple[str, ...]:
    """Return how the instances of templates begin; a timer is its own."""
    return tuple(name.removesuffix(".service").removesuffix(".") if "@" in name else name for name in names)


def _units(patterns: list[str]) -> dict[str, dict[str, Any]]:
    """One question to systemd for all units; what a process was started with is asked of the process."""
    asked = "--property=Id,ActiveState,MainPID,NeedDaemonReload,Result"
    found = {}
    for block in _systemctl("show", asked, *patterns).split("\n\n"):
        about: dict[str, Any] = dict(line.split("=", 1) for line in block.splitlines() if "=" in line)
        if about:
            about["mark"] = _mark(about.get("MainPID", "0"))
            found[about.pop("Id")] = about
    return found


def _mark(pid: str) -> str | None:
    """Return the hash of the unit that a process was started with; None when it has just ended."""
    with contextlib.suppress(OSError):
        for variable in (places.PROC / pid / "environ").read_bytes().split(b"\0"):
            name, _, value = variable.partition(b"=")
            if name == unittexts.HASH.encode():
                return value.decode()
        return ""
    return None


def converge(here: Here, app: str, release: str | None = None, keep_old: bool = False) -> list[str]:
    """Let this host run an app's processes and timers, of the release that shall be served and of no other.

    The new release's processes are started and must stay up for a while; then the old ones are told to stop and
    waited for. Of what may run only once the old one stops first. When a new one does not stay up, the new ones are
    stopped and the old ones go on. The last worker of a queue first does what waits there, for as long as a process may
    take to stop; so does one that stays and takes from other queues than before.
    """
    with appfiles.locked(places.APPS / app / ".processes.lock"):
        units, found = wanted(here, app, release), _found(app)
        _check(here, app, units, found)
        _write(units, found)
        said = _switch(here, app, [unit for unit in units if "instance" in unit], found, keep_old)
        if timers := [unit["timer"] for unit in units if "timer" in unit and unittexts.faults(unit, found)]:
            _systemctl("enable", "--quiet", "--now", *timers)
        said += _remove(here, _leftovers(units, found), found, app, units)
        if units and not here.has("web"):
            if release is None:
                deciding.choose(here, app, units[0]["release"])
            if not keep_old:
                _remember(app, units[0]["release"])
                _prune(app, units[0]["release"])
        return said


def remove(here: Here, app: str) -> None:
    """Stop all processes and timers of an app, and take them out of systemd."""
    found = _found(app)
    _remove(here, _leftovers([], found), found)


def remove_all(here: Here) -> list[str]:
    """Stop the background work of all apps and take it out of systemd: the host is leaving the fleet."""
    apps = orphans([])
    for app in apps:
        remove(here, app)
    return apps


def _systemctl(*words: str, timeout: int = 120) -> str:
    answer: str = appfiles.run(["systemctl", *words], timeout=timeout)
    return answer


def _check(here: Here, app: str, units: list[dict[str, Any]], found: dict[str, Any]) -> None:
    """Stop before the first change when it cannot work."""
    for unit in units:
        if "timer" in unit and unittexts.faults(unit, found):
            try:
                appfiles.run(["systemd-analyze", "calendar", unit["schedule"]])
            except CommandExecutionError as error:
                raise CommandExecutionError(
                    f"{app}: timers.{unit['name']}.schedule: systemd does not take {unit['schedule']!r}: "
                    f"{str(error).splitlines()[-1]}"
                ) from None
    for release in {unit["release"] for unit in units}:
        installed.manifest(app, release)
        if pending := migrations.pending(here, app, release):
            raise CommandExecutionError(
                f"{app}: the database lacks {', '.join(pending)}, which release {release} needs; a host with role web "
                "migrates: apply it first. What ran before runs on."
            )


def _write(units: list[dict[str, Any]], found: dict[str, Any]) -> None:
    differing = {
        path: text for unit in units for path, text in unit["files"].items() if found["files"].get(path) != text
    }
    for path, text in differing.items():
        appfiles.write(path, text, 0o644)
    # Asked, because a reload takes systemd 0.1 s and more; "yes" is what a run that was killed may have left.
    if differing or any(about.get("NeedDaemonReload") == "yes" for about in found["units"].values()):
        _systemctl("daemon-reload")


def _switch(here: Here, app: str, units: list[dict[str, Any]], before: dict[str, Any], keep_old: bool) -> list[str]:
    """From whatever runs to exactly the wanted instances, started at boot; answers what nobody takes any more."""
    if not units:
        return []
    whole = _found(app)
    found = whole["units"]
    single = tuple(unit["template"] for unit in units if unit["single"])
    old = [
        name for name, about in sorted(found.items()) if _is_other(name, units) and about["ActiveState"] != "inactive"
    ]
    first = [name for name in old if name.startswith(single)] if single else []
    fresh = [unit["instance"] for unit in units if not _is_good(unit, found)]
    leaving = _leaving(units, whole)
    if leaving:
        _stop([name for name in first if _is_beat(name, whole)])  # lest it sends what nobody takes
    said = [line for one in leaving if one["template"] in (*first, *fresh) for line in _drain(here, app, one, whole)]
    _stop(first)
    for instance in fresh:
        # Restart: the process that runs is of an older unit; for systemd both verbs are one when nothing runs.
        with contextlib.suppress(CommandExecutionError):  # told below, with the log
            _systemctl("restart", instance, timeout=STOP_LIMIT)
    if bad := _unstable(here, fresh):
        _give_up(here, app, units, bad, fresh, before)
    _systemctl("enable", "--quiet", "--no-reload", *(unit["instance"] for unit in units))
    stale = [name for name in _found(app)["enabled"] if _is_other(name, units)]
    if stale:
        _systemctl("disable", "--quiet", "--no-reload", *stale)
    if not keep_old:
        rest = [name for name in old if name not in first]
        said += [line for one in leaving if one["template"] in rest for line in _drain(here, app, one, whole)]
        _stop(rest)
    return said


def _leaving(units: list[dict[str, Any]], found: dict[str, Any]) -> list[dict[str, Any]]:
    """Return workers that run, stay, and leave queues from which nobody here takes any more; as ``last_consumers``.

    What a process takes from, its own command says: the units may be new ones already.
    """
    taken = {queue for unit in units for text in unit["files"].values() for queue in unittexts.takes_from(text)[1]}
    templates = tuple(unit["template"] for unit in units)
    left = []
    for name, about in sorted(found["units"].items()):
        if name.startswith(templates) and about["ActiveState"] == "active":
            app, queues = unittexts.takes_from(_command(about["MainPID"]))
            if gone := [queue for queue in queues if queue not in taken]:
                left.append({"template": name, "app": app, "queues": gone})
    return left


def _command(pid: str) -> str:
    try:
        return (places.PROC / pid / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""


def _is_good(unit: dict[str, Any], found: dict[str, Any]) -> bool:
    about = found.get(unit["instance"], {})
    return about.get("ActiveState") == "active" and about["mark"] in (unit["mark"], None)


def _give_up(
    here: Here, app: str, units: list[dict[str, Any]], bad: list[str], fresh: list[str], before: dict[str, Any]
) -> None:
    """Put the old units back and let what ran run on.

    New ones that nothing can stand in for go on trying: it may be the database's fault.
    """
    log = "\n".join(f"{instance}:\n{_last_log_lines(instance)}" for instance in bad)
    templates = tuple(unit["template"] for unit in units)
    ran = [
        name
        for name, about in before["units"].items()
        if name.startswith(templates) and about["ActiveState"] == "active"
    ]
    if ran:
        for path, text in before["files"].items():
            appfiles.write(path, text, 0o644)
        _systemctl("daemon-reload")
        replaced = tuple(f"{name.partition('@')[0]}@" for name in ran)
        _stop([instance for instance in fresh if instance.startswith(replaced) and instance not in ran])
        for name in ran:
            _systemctl("restart" if name in fresh else "start", "--no-block", name)
    going = f"{', '.join(sorted(ran))} run on" if ran else "nothing else can run"
    said = f"{app}: not up for {_start_seconds(here)} seconds; {going}. Last log lines of {log}"
    raise CommandExecutionError(oneoff.redact(here, said))


def _is_other(name: str, units: list[dict[str, Any]]) -> bool:
    return any(name.startswith(unit["template"]) and name != unit["instance"] for unit in units)


def _start_seconds(here: Here) -> int:
    seconds: int = here.pillar["worker"]["start_seconds"]
    return seconds


def _unstable(here: Here, instances: list[str]) -> list[str]:
    """Those that are not one and the same process from now until ``start_seconds`` later."""
    if not instances:
        return []
    before = _units(instances)
    until = time.monotonic() + _start_seconds(here)
    while True:
        now = _units(instances)
        bad = [
            one
            for one in instances
            if now.get(one, {}).get("ActiveState") != "active" or now[one]["MainPID"] != before[one]["MainPID"]
        ]
        if bad or time.monotonic() > until:
            return bad
        time.sleep(0.25)


def _stop(instances: list[str]) -> None:
    """Stop instances, all at once, and return when they have."""
    if not instances:
        return
    _systemctl("stop", *instances, timeout=STOP_LIMIT)
    # A process that was killed because it did not stop in time leaves its unit failed, which nobody needs to see.
    with contextlib.suppress(CommandExecutionError):
        _systemctl("reset-failed", *instances)


def _remove(
    here: Here, names: list[str], found: dict[str, Any], app: str | None = None, units: Sequence[dict[str, Any]] = ()
) -> list[str]:
    """Stop, then forget; the files go last, for as long as they are there this is found again."""
    if not names:
        return []
    own = [path for path in found["files"] if Path(path).name.removesuffix(".timer").partition("@")[0] in names]
    starts = _beginnings([Path(path).name for path in own])
    enabled = [unit for unit in found["enabled"] if unit.startswith(starts)]
    if enabled:
        _systemctl("disable", "--quiet", "--no-reload", *enabled)
    timers = [unit for unit in found["units"] if unit.startswith(starts) and unit.endswith(".timer")]
    # First, lest one starts its command once more, or sends what nobody takes.
    _stop([*timers, *(unit for unit in found["units"] if unit.startswith(starts) and _is_beat(unit, found))])
    files = {path: found["files"][path] for path in own} | {
        p: text for unit in units for p, text in unit["files"].items()
    }
    said = [line for one in unittexts.last_consumers(files, names) if app for line in _drain(here, app, one, found)]
    _stop([unit for unit in found["units"] if unit.startswith(starts) and unit not in timers])
    for path in own:
        Path(path).unlink(missing_ok=True)
    _systemctl("daemon-reload")
    return said


def _is_beat(unit: str, found: dict[str, Any]) -> bool:
    text = found["files"].get(str(places.UNITS / f"{unit.partition('@')[0]}@.service"), "")
    return bool(re.search(r"-m celery --app=\S+ beat ", text))


def _drain(here: Here, app: str, worker: dict[str, Any], found: dict[str, Any]) -> list[str]:
    """Let the last worker of some queues do what waits there; return what it has not done in time."""
    running = [
        name
        for name, about in found["units"].items()
        if name.startswith(worker["template"]) and about["ActiveState"] == "active"
    ]
    if not running:
        return []
    queues, until = ",".join(worker["queues"]), time.monotonic() + here.pillar["worker"]["stop_seconds"]
    arguments = ["-c", WAITING, worker["app"], queues]
    while True:
        try:
            text = oneoff.one_off(here, app, unittexts.release_of(running[0]), "waiting", arguments)
            waiting = int(text.rpartition("SALTERN ")[2])
        except (CommandExecutionError, ValueError):
            return [f"{app}: how many tasks wait in {queues} could not be asked; nobody takes them any more"]
        if not waiting:
            return []
        if time.monotonic() > until:
            return [f"{app}: {waiting} tasks wait in {queues}, and nobody takes them any more"]
        time.sleep(1)


def _remember(app: str, release: str) -> None:
    """Write into the ledger that this host has worked with a release; a host with role web does it when it serves."""
    if releases.last_served(written.log(app, 0)) != release:
        written.record(app, release, "activated")


def _prune(app: str, keep: str) -> None:
    """Remove releases that neither run nor have worked last: the rule of web hosts, for a rollback is to both."""
    units = _found(app)["units"].items()
    running = {unittexts.release_of(unit) for unit, about in units if about["ActiveState"] != "inactive"}
    ids = [one["id"] for one in overview.overview(app)]
    kept = releases.kept(keep, written.log(app, 0), places.KEEP_RELEASES)
    if len(kept) == 1:  # nothing but this one is known to have worked: an older Saltern kept no ledger here
        kept.update(ids[: places.KEEP_RELEASES])
    for release in set(ids) - {*kept, *running}:
        directory = places.APPS / app / "releases" / release
        (directory / "manifest.json").unlink()  # first: what is half removed is no release
        shutil.rmtree(directory)


def _last_log_lines(unit: str) -> str:
    words = ["journalctl", "--no-pager", "--quiet", "--output=cat", "--lines=20", f"_SYSTEMD_UNIT={unit}"]
    try:
        text: str = appfiles.run(words)
    except CommandExecutionError as error:
        return f"(not to be had: {error})"
    return text.strip() or "(it has logged nothing)"
