"""Units of background processes and timers, as texts; and what differs from them on a host. Pure."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Any

from saltern.host import places
from saltern.release import appunits

OWNER = "# Saltern's role worker writes this file for app "  # and the app's name: names alone are ambiguous
HASH = "SALTERN_UNIT"
COLD_SECONDS = 10  # for Celery to give its tasks back, when they did not end in time


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
    return [*words, "beat", "--loglevel=INFO", f"--schedule={places.DATA / app / name}.schedule", "--pidfile="]


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
    release = places.APPS / app / "releases" / "%i"
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
        *appunits.bounds(what.get("memory_max_mb") or settings["memory_max_mb"]),
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
            said.append(f"release {release_of(other)} is {about['ActiveState']}")
    for other in found["enabled"]:
        if other.startswith(unit["template"]) and other != unit["instance"]:
            said.append(f"release {release_of(other)} is started at boot")
    return said


def release_of(instance: str) -> str:
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
