"""Background processes and timers: what an app runs beside its web processes, each as a unit instance of a release.

A process is ``app-<app>-<name>@<release>.service``, so that two releases can run side by side while one takes over.
Whether a process was started with its unit as it is now on disk, the process itself tells: the hash of the unit's text
is in its environment. So there is nothing to remember, and a run that was killed anywhere is finished by the next.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from salt.exceptions import CommandExecutionError

from saltern.host import appfiles
from saltern.host import here as host
from saltern.release import releases

APPS = Path("/srv/apps")
DATA = Path("/var/lib/apps")
UNITS = Path("/etc/systemd/system")
PROC = Path("/proc")
OWNER = "# Saltern's role worker writes this file for app "  # and the app's name: names alone are ambiguous
HASH = "SALTERN_UNIT"
KEEP_RELEASES = 3  # as on a host with role web
COLD_SECONDS = 10  # for Celery to give its tasks back, when they did not end in time
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
STOP_LIMIT = 2 * (3600 + COLD_SECONDS) + 60  # systemd has ended every process by then: the unit says when


# --- pure ---------------------------------------------------------------------------------------------------


def quoted(argument: str) -> str:
    """Write one argument as systemd's ExecStart reads it.

    Args:
        argument: text on one line.

    Example:
        >>> quoted('50 % of "$HOME"')
        '"50 %% of \\\\"$$HOME\\\\""'
    """
    escaped = argument.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("$", "$$")
    return escaped if re.fullmatch(r"[A-Za-z0-9_.,:/@=+%-]+", escaped) else f'"{escaped}"'


def arguments(app: str, name: str, what: dict[str, Any], settings: dict[str, Any]) -> list[str]:
    """Return what a process or a timer runs: a program in the virtual environment's bin/, and its arguments.

    Args:
        app: the app's name.
        name: the process' name.
        what: the process' settings from the pillar: celery, beat, manage or command.
        settings: the app's settings from the pillar: settings_module.

    Returns:
        Words for ExecStart; ``%i`` and ``%H`` are systemd's specifiers for release and host.

    Example:
        >>> arguments("demo", "clean", {"manage": ["clearsessions"]}, {})
        ['python', '-m', 'django', 'clearsessions']
    """
    if what.get("manage"):
        return ["python", "-m", "django", *map(quoted, what["manage"])]
    if what.get("command"):
        return [quoted(word) for word in what["command"]]
    celery = what.get("celery") or what.get("beat") or {}
    module = celery.get("app") or settings["settings_module"].split(".")[0]
    words = ["python", "-m", "celery", f"--app={module}"]
    if what.get("celery"):
        queues = ",".join(celery["queues"])
        # The release is in its name because for a moment two run on one host.
        node = f"--hostname={name}-%i@%H"
        return [
            *words,
            "worker",
            "--loglevel=INFO",
            f"--queues={queues}",
            f"--concurrency={celery['concurrency']}",
            node,
        ]
    # Only the default scheduler writes this file; others keep what they know elsewhere and pass over it.
    return [*words, "beat", "--loglevel=INFO", f"--schedule={DATA / app / name}.schedule", "--pidfile="]


def service_text(
    app: str, name: str, what: dict[str, Any], settings: dict[str, Any], sandbox: list[str], stop_seconds: int
) -> str:
    """Write the template unit of a process or of a timer's command; its instances are the releases.

    Args:
        app: the app's name.
        name: the name of the process or the timer.
        what: its settings from the pillar.
        settings: the app's settings from the pillar.
        sandbox: the directives that every process of the app has.
        stop_seconds: how long a process may take to stop.

    Example:
        >>> app = {"memory_max_mb": 512}
        >>> "ExecStart=/srv/apps/demo/releases/%i/venv/bin/tick" in service_text(
        ...     "demo", "tick", {"command": ["tick"]}, app, [], 60)
        True
    """
    release = APPS / app / "releases" / "%i"
    is_timer = "schedule" in what
    lines = [
        "[Unit]",
        f"Description={app}, {name}, release %i",
        "After=network.target nftables.service postgresql.service redis-server.service redis-server@cache.service",
        "StartLimitIntervalSec=0",
        "",
        "[Service]",
        f"ExecStart={release}/venv/bin/{' '.join(arguments(app, name, what, settings))}",
        f"WorkingDirectory={release}/src",
        f"EnvironmentFile={release}/env",
        *sandbox,
        f"MemoryMax={what.get('memory_max_mb') or settings['memory_max_mb']}M",
        "TasksMax=512",
        "LimitNOFILE=65536",
        "OOMPolicy=continue",
        f"SyslogIdentifier=app-{app}-{name}",
        "KillMode=mixed",
    ]
    if is_timer:
        lines += ["Type=oneshot", f"TimeoutStartSec={what['max_seconds']}", f"TimeoutStopSec={stop_seconds}"]
    else:
        lines += ["Type=exec", "Restart=always", "RestartSec=1"]
        if what.get("celery"):
            # TERM lets running tasks end. After that QUIT makes Celery give back those that have not, at once;
            # what is killed instead comes back only after the broker's visibility timeout.
            wait = f"kill -TERM $$MAINPID && exec timeout {stop_seconds} tail --pid=$$MAINPID -s 0.1 -f /dev/null"
            lines += [f"ExecStop=-/bin/sh -c '{wait}'", "KillSignal=SIGQUIT"]
            lines += [f"TimeoutStopSec={stop_seconds + COLD_SECONDS}"]
        else:
            lines += [f"TimeoutStopSec={stop_seconds}"]
        lines += ["", "[Install]", "WantedBy=multi-user.target"]
    text = "\n".join([f"{OWNER}{app}.", *lines, ""])
    mark = hashlib.sha256(text.encode()).hexdigest()[:12]
    return text.replace("[Service]\n", f"[Service]\nEnvironment={HASH}={mark}\n", 1)


def timer_text(app: str, name: str, timer: dict[str, Any], release: str) -> str:
    """Write the timer unit of a command; it names the release that runs it.

    Args:
        app: the app's name.
        name: the timer's name.
        timer: the timer's settings from the pillar: schedule.
        release: the release's id.

    Example:
        >>> "Unit=app-demo-clean@r1.service" in timer_text("demo", "clean", {"schedule": "hourly"}, "r1")
        True
    """
    return "\n".join(
        [
            f"{OWNER}{app}.",
            "[Unit]",
            f"Description={app}, {name}, when it is due",
            "",
            "[Timer]",
            f"OnCalendar={timer['schedule']}",
            "Persistent=true",
            "AccuracySec=1s",
            f"Unit=app-{app}-{name}@{release}.service",
            "",
            "[Install]",
            "WantedBy=timers.target",
            "",
        ]
    )


def mark_of(text: str) -> str:
    """Return the hash that a unit's text gives to its processes.

    Args:
        text: the unit.

    Example:
        >>> mark_of("[Service]\\nEnvironment=SALTERN_UNIT=0123456789ab\\n")
        '0123456789ab'
    """
    found = re.search(rf"^Environment={HASH}=(\w+)$", text, re.MULTILINE)
    return found[1] if found else ""


def faults(unit: dict[str, Any], found: dict[str, Any]) -> list[str]:
    """Compare one process or timer with what is on the host.

    Args:
        unit: one of ``wanted``.
        found: what ``_found`` answers.

    Returns:
        What an apply puts right, as short sentences; empty when all is well.

    Example:
        >>> faults({"name": "w", "release": "r1", "files": {"/u/a-w@.service": "x"}},
        ...        {"files": {}, "units": {}, "enabled": []})
        ['it has no unit']
    """
    files, units = found["files"], found["units"]
    if missing := [path for path in unit["files"] if path not in files]:
        return ["it has no unit" if len(missing) == len(unit["files"]) else "half of its units are missing"]
    said = ["its unit is an older one"] if any(files[path] != text for path, text in unit["files"].items()) else []
    if "timer" in unit:
        if units.get(unit["timer"], {}).get("ActiveState") != "active":
            said.append("its timer does not run")
        if unit["timer"] not in found["enabled"]:
            said.append("its timer is not started at boot")
        stale = [one for one in unit["loaded"] if units.get(one, {}).get("NeedDaemonReload") == "yes"]
        return said + (["systemd has not read its unit"] if stale and not said else [])
    own = units.get(unit["instance"], {})
    if own.get("ActiveState") != "active":
        said.append(f"release {unit['release']} is {own.get('ActiveState', 'inactive')}")
    elif own["mark"] not in (unit["mark"], None) and not said:
        said.append("it runs with an older unit")
    if unit["instance"] not in found["enabled"]:
        said.append(f"release {unit['release']} is not started at boot")
    for other, about in sorted(units.items()):
        if other.startswith(unit["template"]) and other != unit["instance"] and about["ActiveState"] != "inactive":
            said.append(f"release {_release_of(other)} is {about['ActiveState']}")
    for other in found["enabled"]:
        if other.startswith(unit["template"]) and other != unit["instance"]:
            said.append(f"release {_release_of(other)} is started at boot")
    return said


def _release_of(instance: str) -> str:
    return instance.partition("@")[2].removesuffix(".service")


def takes_from(command: str) -> tuple[str, list[str]]:
    """Return Celery's app and the queues of the worker that a command starts; no queues when it starts none.

    Args:
        command: a command line, or a unit's text.

    Example:
        >>> takes_from("/x/python -m celery --app=demo worker --loglevel=INFO --queues=a,b --concurrency=2")
        ('demo', ['a', 'b'])
    """
    line = re.search(r"-m celery --app=(\S+) worker .*--queues=(\S+)", command)
    return (line[1].strip('"'), line[2].strip('"').split(",")) if line else ("", [])


def last_consumers(files: dict[str, str], going: list[str]) -> list[dict[str, Any]]:
    """Return the Celery workers that go and leave queues from which nobody takes tasks any more.

    Args:
        files: texts of the app's units by path, as they shall be, and those that go.
        going: the names of the units that go, such as `app-demo-worker`.

    Returns:
        For each ``template`` (the beginning of its instances' names), ``app`` (Celery's), and ``queues``.

    Example:
        >>> unit = "ExecStart=/x/python -m celery --app=demo worker --loglevel=INFO --queues=a,b --concurrency=2"
        >>> last_consumers({"/u/app-demo-worker@.service": unit}, ["app-demo-worker"])[0]["queues"]
        ['a', 'b']
    """
    found, taken = [], set()
    for path, text in sorted(files.items()):
        app, queues = takes_from(text)
        name = Path(path).name.removesuffix("@.service")
        if name in going and queues:
            found.append({"template": f"{name}@", "app": app, "queues": queues})
        else:
            taken |= {*queues}
    for one in found:
        one["queues"] = [queue for queue in one["queues"] if queue not in taken]
    return [one for one in found if one["queues"]]


# --- what shall be and what is ------------------------------------------------------------------------------


def wanted(app: str, release: str | None = None) -> list[dict[str, Any]]:
    """Return the processes and timers that this host shall run for an app. Changes nothing.

    Args:
        app: name of an app of this host.
        release: id of an installed release; without it the desired one.

    Returns:
        For each: ``name``, ``release``, ``single``, ``files`` (texts by path), ``template`` (the beginning of its
        instances' names); a process also ``instance`` and ``mark``, a timer ``timer`` and ``schedule``.

    Raises:
        CommandExecutionError: no such app, or no build is here.

    Example:
        .. code-block:: bash

            salt-call processes.wanted demo
    """
    settings = host.settings(__pillar__, app)
    if "worker" not in __pillar__["host"]["roles"] or not (settings["processes"] or settings["timers"]):
        return []
    release = release or __salt__["release.desired"](app)["id"]
    sandbox = __salt__["release.sandbox"](app)
    here = __pillar__["wiring"]["worker"]["single"]
    units = []
    for name, what in sorted({**settings["processes"], **settings["timers"]}.items()):
        single = what.get("single", True) or what.get("beat") is not None
        if single and not here:
            continue
        stop = what.get("stop_seconds") or __pillar__["worker"]["stop_seconds"]
        text = service_text(app, name, what, settings, sandbox, stop)
        template = f"app-{app}-{name}@"
        instance = f"{template}{release}.service"
        unit = {"name": name, "release": release, "single": single, "template": template}
        unit["files"] = {str(UNITS / f"{template}.service"): text}
        if "schedule" in what:
            timer = f"app-{app}-{name}.timer"
            unit["files"][str(UNITS / timer)] = timer_text(app, name, what, release)
            unit |= {"timer": timer, "schedule": what["schedule"], "loaded": [timer, instance]}
        else:
            unit |= {"instance": instance, "mark": mark_of(text)}
        units.append(unit)
    return units


def status(app: str) -> dict[str, Any]:
    """Compare the processes and timers of an app with what this host shall run. Changes nothing.

    Args:
        app: name of an app of this host.

    Returns:
        ``release``, ``running`` (instances and timers that are active) and ``problems``: for each process or timer
        that an apply would put right, what is wrong.

    Example:
        .. code-block:: bash

            salt-call processes.status demo
    """
    return _status(app, wanted(app), _found(app))


def _status(app: str, units: list[dict[str, Any]], found: dict[str, Any]) -> dict[str, Any]:
    problems = {unit["name"]: said for unit in units if (said := faults(unit, found))}
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
    """List apps that have processes or timers on this host though they are not among the given ones.

    Args:
        apps: names of the apps that belong here.

    Example:
        .. code-block:: bash

            salt-call processes.orphans '[demo]'
    """
    owners = {first[len(OWNER) :].rstrip(".") for first, _ in _own_files().values()}
    return sorted(owners - set(apps))


def _own_files() -> dict[str, tuple[str, str]]:
    """First line and text of each unit that this module has written."""
    found = {}
    for path in [*UNITS.glob("app-*@.service"), *UNITS.glob("app-*.timer")]:
        with contextlib.suppress(FileNotFoundError):
            text = path.read_text()
            if text.startswith(OWNER):
                found[str(path)] = (text.partition("\n")[0], text)
    return found


def _found(app: str) -> dict[str, Any]:
    """Return what is on the host of an app's processes: files, units in systemd's memory, units started at boot."""
    files = {path: text for path, (first, text) in _own_files().items() if first == f"{OWNER}{app}."}
    names = sorted(Path(path).name for path in files)
    patterns = [name.replace("@.", "@*.") for name in names]
    wants = [*(UNITS / "multi-user.target.wants").glob("app-*"), *(UNITS / "timers.target.wants").glob("app-*")]
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
        for variable in (PROC / pid / "environ").read_bytes().split(b"\0"):
            name, _, value = variable.partition(b"=")
            if name == HASH.encode():
                return value.decode()
        return ""
    return None


# --- steps --------------------------------------------------------------------------------------------------


def converge(app: str, release: str | None = None, keep_old: bool = False) -> list[str]:
    """Let this host run an app's processes and timers, of the release that shall be served and of no other.

    The new release's processes are started and must stay up for a while; then the old ones are told to stop and
    waited for. Of what may run only once the old one stops first. When a new one does not stay up, the new ones are
    stopped and the old ones go on. The last worker of a queue first does what waits there, for as long as a process may
    take to stop; so does one that stays and takes from other queues than before.

    Args:
        app: name of an app of this host.
        release: id of an installed release; without it the desired one.
        keep_old: let old processes run on beside the new ones; without what may run only once. They go when this is
            called again.

    Returns:
        Sentences about tasks that nobody takes any more.

    Raises:
        CommandExecutionError: the release is not installed, its database is not ready for it, systemd does not know
            a schedule, or a process did not stay up; with its last log lines.

    Example:
        .. code-block:: bash

            salt-call processes.converge demo
    """
    with appfiles.locked(APPS / app / ".processes.lock"):
        units, found = wanted(app, release), _found(app)
        _check(app, units, found)
        _write(units, found)
        said = _switch(app, [unit for unit in units if "instance" in unit], found, keep_old)
        if timers := [unit["timer"] for unit in units if "timer" in unit and faults(unit, found)]:
            _systemctl("enable", "--quiet", "--now", *timers)
        said += _remove(_leftovers(units, found), found, app, units)
        if units and "web" not in __pillar__["host"]["roles"]:
            if release is None:
                __salt__["fleet.choose"](app, units[0]["release"])
            if not keep_old:
                _remember(app, units[0]["release"])
                _prune(app, units[0]["release"])
        return said


def remove(app: str) -> None:
    """Stop all processes and timers of an app, and take them out of systemd.

    Args:
        app: the app's name; it need not be in the pillar any more.

    Example:
        .. code-block:: bash

            salt-call processes.remove demo
    """
    found = _found(app)
    _remove(_leftovers([], found), found)


def remove_all() -> list[str]:
    """Stop the background work of all apps and take it out of systemd: the host is leaving the fleet.

    Returns:
        The apps that had some.

    Example:
        .. code-block:: bash

            salt-call processes.remove_all
    """
    apps = orphans([])
    for app in apps:
        remove(app)
    return apps


# --- parts of the steps -------------------------------------------------------------------------------------


def _systemctl(*words: str, timeout: int = 120) -> str:
    answer: str = appfiles.run(["systemctl", *words], timeout=timeout)
    return answer


def _check(app: str, units: list[dict[str, Any]], found: dict[str, Any]) -> None:
    """Stop before the first change when it cannot work."""
    for unit in units:
        if "timer" in unit and faults(unit, found):
            try:
                appfiles.run(["systemd-analyze", "calendar", unit["schedule"]])
            except CommandExecutionError as error:
                raise CommandExecutionError(
                    f"{app}: timers.{unit['name']}.schedule: systemd does not take {unit['schedule']!r}: "
                    f"{str(error).splitlines()[-1]}"
                ) from None
    for release in {unit["release"] for unit in units}:
        __salt__["release.manifest"](app, release)
        if pending := __salt__["django.pending"](app, release):
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


def _switch(app: str, units: list[dict[str, Any]], before: dict[str, Any], keep_old: bool) -> list[str]:
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
    said = [line for one in leaving if one["template"] in (*first, *fresh) for line in _drain(app, one, whole)]
    _stop(first)
    for instance in fresh:
        # Restart: the process that runs is of an older unit; for systemd both verbs are one when nothing runs.
        with contextlib.suppress(CommandExecutionError):  # told below, with the log
            _systemctl("restart", instance, timeout=STOP_LIMIT)
    if bad := _unstable(fresh):
        _give_up(app, units, bad, fresh, before)
    _systemctl("enable", "--quiet", "--no-reload", *(unit["instance"] for unit in units))
    stale = [name for name in _found(app)["enabled"] if _is_other(name, units)]
    if stale:
        _systemctl("disable", "--quiet", "--no-reload", *stale)
    if not keep_old:
        rest = [name for name in old if name not in first]
        said += [line for one in leaving if one["template"] in rest for line in _drain(app, one, whole)]
        _stop(rest)
    return said


def _leaving(units: list[dict[str, Any]], found: dict[str, Any]) -> list[dict[str, Any]]:
    """Return workers that run, stay, and leave queues from which nobody here takes any more; as ``last_consumers``.

    What a process takes from, its own command says: the units may be new ones already.
    """
    taken = {queue for unit in units for text in unit["files"].values() for queue in takes_from(text)[1]}
    templates = tuple(unit["template"] for unit in units)
    left = []
    for name, about in sorted(found["units"].items()):
        if name.startswith(templates) and about["ActiveState"] == "active":
            app, queues = takes_from(_command(about["MainPID"]))
            if gone := [queue for queue in queues if queue not in taken]:
                left.append({"template": name, "app": app, "queues": gone})
    return left


def _command(pid: str) -> str:
    try:
        return (PROC / pid / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""


def _is_good(unit: dict[str, Any], found: dict[str, Any]) -> bool:
    about = found.get(unit["instance"], {})
    return about.get("ActiveState") == "active" and about["mark"] in (unit["mark"], None)


def _give_up(app: str, units: list[dict[str, Any]], bad: list[str], fresh: list[str], before: dict[str, Any]) -> None:
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
    said = f"{app}: not up for {_start_seconds()} seconds; {going}. Last log lines of {log}"
    raise CommandExecutionError(__salt__["release.redact"](said))


def _is_other(name: str, units: list[dict[str, Any]]) -> bool:
    return any(name.startswith(unit["template"]) and name != unit["instance"] for unit in units)


def _start_seconds() -> int:
    seconds: int = __pillar__["worker"]["start_seconds"]
    return seconds


def _unstable(instances: list[str]) -> list[str]:
    """Those that are not one and the same process from now until ``start_seconds`` later."""
    if not instances:
        return []
    before = _units(instances)
    until = time.monotonic() + _start_seconds()
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
    names: list[str], found: dict[str, Any], app: str | None = None, units: Sequence[dict[str, Any]] = ()
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
    said = [line for one in last_consumers(files, names) if app for line in _drain(app, one, found)]
    _stop([unit for unit in found["units"] if unit.startswith(starts) and unit not in timers])
    for path in own:
        Path(path).unlink(missing_ok=True)
    _systemctl("daemon-reload")
    return said


def _is_beat(unit: str, found: dict[str, Any]) -> bool:
    text = found["files"].get(str(UNITS / f"{unit.partition('@')[0]}@.service"), "")
    return bool(re.search(r"-m celery --app=\S+ beat ", text))


def _drain(app: str, worker: dict[str, Any], found: dict[str, Any]) -> list[str]:
    """Let the last worker of some queues do what waits there; return what it has not done in time."""
    running = [
        name
        for name, about in found["units"].items()
        if name.startswith(worker["template"]) and about["ActiveState"] == "active"
    ]
    if not running:
        return []
    queues, until = ",".join(worker["queues"]), time.monotonic() + __pillar__["worker"]["stop_seconds"]
    arguments = ["-c", WAITING, worker["app"], queues]
    while True:
        try:
            text = __salt__["release.one_off"](app, _release_of(running[0]), "waiting", arguments)
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
    if releases.last_served(__salt__["release.log"](app, 0)) != release:
        __salt__["release.record"](app, release, "activated")


def _prune(app: str, keep: str) -> None:
    """Remove releases that neither run nor have worked last: the rule of web hosts, for a rollback is to both."""
    running = {_release_of(unit) for unit, about in _found(app)["units"].items() if about["ActiveState"] != "inactive"}
    ids = [one["id"] for one in __salt__["release.list"](app)]
    kept = releases.kept(keep, __salt__["release.log"](app, 0), KEEP_RELEASES)
    if len(kept) == 1:  # nothing but this one is known to have worked: an older Saltern kept no ledger here
        kept.update(ids[:KEEP_RELEASES])
    for release in set(ids) - {*kept, *running}:
        directory = APPS / app / "releases" / release
        (directory / "manifest.json").unlink()  # first: what is half removed is no release
        shutil.rmtree(directory)


def _last_log_lines(unit: str) -> str:
    words = ["journalctl", "--no-pager", "--quiet", "--output=cat", "--lines=20", f"_SYSTEMD_UNIT={unit}"]
    try:
        text: str = appfiles.run(words)
    except CommandExecutionError as error:
        return f"(not to be had: {error})"
    return text.strip() or "(it has logged nothing)"
