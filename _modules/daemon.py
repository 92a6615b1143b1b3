"""Daemons under systemd: is the running process the one that its files describe?

``watch`` in Salt is edge triggered: an apply that writes a new configuration and then fails never restarts the daemon,
because the next apply sees no change. This module answers from the truth on the host instead: what was the running
process started with, and what is on disk now?

The memory for that is one small file for each unit, ``/var/lib/saltern/daemons/<unit>.json``: the SHA-256 of each input
and systemd's InvocationID of the process that read them. It is written only after a restart or reload that worked.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from saltern.host import inforce, secrettext

__virtualname__ = "daemon"

STAMPS = Path("/var/lib/saltern/daemons")

#: Where systemd looks for unit files and drop-ins, highest priority first (systemd.unit(5), "Unit File Load Path").
UNIT_ROOTS = (
    "/etc/systemd/system.control",
    "/run/systemd/system.control",
    "/run/systemd/transient",
    "/run/systemd/generator.early",
    "/etc/systemd/system",
    "/run/systemd/system",
    "/run/systemd/generator",
    "/usr/local/lib/systemd/system",
    "/usr/lib/systemd/system",
    "/run/systemd/generator.late",
)

UNIT_TYPES = ("service", "socket", "timer", "target", "path", "mount", "slice")

PROPERTIES = (
    "Id",
    "Names",
    "LoadState",
    "ActiveState",
    "SubState",
    "Result",
    "UnitFileState",
    "NeedDaemonReload",
    "InvocationID",
    "InactiveExitTimestamp",
    "DropInPaths",
    "TriggeredBy",
    "CanReload",
)

#: File systems stamp a change with the kernel's coarse clock, which lags the clock in systemd's timestamps by up to one
#: tick (10 ms at 100 Hz). A file that changed this close to the start counts as newer: one restart too many is cheap.
CLOCK_TICK_SECONDS = 0.02

#: A process that dies of its configuration mostly does so at once; it must still be there after this time.
SETTLE_SECONDS = 0.5

#: How long a daemon may take to begin with what it was told to read again: a signal is answered by nobody.
IN_FORCE_SECONDS = 10

#: How long what systemd has said of all units of a run is taken for what is.
SHOWN_SECONDS = 10


# Pure functions.


def unit_name(name: str) -> str:
    """Return the full name of a unit.

    Args:
        name: A unit's name, with or without its type.

    Returns:
        The name with ``.service`` added when it has no type.

    Example:
        >>> unit_name("postgresql@17-main")
        'postgresql@17-main.service'
        >>> unit_name("ssh.socket")
        'ssh.socket'
    """
    return name if name.rpartition(".")[2] in UNIT_TYPES else f"{name}.service"


def parse_show(text: str) -> dict[str, str]:
    """Read the output of ``systemctl show`` for one unit.

    Args:
        text: Lines of the form ``Key=value``.

    Returns:
        The values by key.

    Example:
        >>> parse_show("LoadState=loaded\\nNames=a.service b.service\\n")
        {'LoadState': 'loaded', 'Names': 'a.service b.service'}
    """
    return dict(line.split("=", 1) for line in text.splitlines() if "=" in line)


def parse_timestamp(text: str) -> float:
    """Read a timestamp as ``systemctl show --timestamp=us+utc`` prints it.

    Args:
        text: ``Fri 2026-11-20 18:11:02.123456 UTC``; empty or ``n/a`` when the event has not happened.

    Returns:
        Seconds since the epoch; 0.0 when the event has not happened.

    Raises:
        ValueError: The text has another form.

    Example:
        >>> parse_timestamp("Thu 1970-01-01 00:00:01.500000 UTC")
        1.5
    """
    if not text or text == "n/a":
        return 0.0
    # Without the weekday: strptime would read it in the locale of this process.
    _, day, clock, _ = text.split()
    moment = datetime.strptime(f"{day} {clock}", "%Y-%m-%d %H:%M:%S.%f")
    return moment.replace(tzinfo=UTC).timestamp()


def unit_file_names(names: list[str]) -> tuple[list[str], list[str]]:
    """Return what the files and the drop-in directories of a unit may be called.

    Args:
        names: The names of the unit, its aliases included.

    Returns:
        Two lists: names of unit files, names of drop-in directories (systemd.unit(5): of the unit, of its template, of
        each prefix that ends in a dash, and of the unit type).

    Example:
        >>> unit_file_names(["app-demo@7.service"])[0]
        ['app-demo@7.service', 'app-demo@.service']
    """
    files: list[str] = []
    directories: list[str] = []
    for name in names:
        stem, _, kind = name.rpartition(".")
        template, at, _ = stem.partition("@")
        own = [name] + ([f"{template}@.{kind}"] if at else [])
        parts = template.split("-")
        prefixes = ["-".join(parts[:end]) + f"-.{kind}" for end in range(1, len(parts))]
        files += own
        directories += [f"{entry}.d" for entry in [*own, *prefixes, kind]]
    return list(dict.fromkeys(files)), list(dict.fromkeys(directories))


def parse_shows(text: str, names: list[str]) -> dict[str, dict[str, str]]:
    """Read the output of ``systemctl show`` for several units: a block for each, in the order in which they were named.

    Args:
        text: Blocks of lines of the form ``Key=value``, with an empty line between two.
        names: The units, as they were named; systemd answers with the name of which this one may be an alias.

    Returns:
        The values by key, by name; nothing when there are not as many blocks as names.

    Example:
        >>> parse_shows("Id=ssh.service\\n\\nId=b.service\\n", ["sshd.service", "b.service"])
        {'sshd.service': {'Id': 'ssh.service'}, 'b.service': {'Id': 'b.service'}}
    """
    blocks = [parse_show(block) for block in text.strip().split("\n\n")]
    return dict(zip(names, blocks, strict=True)) if len(blocks) == len(names) and all(blocks) else {}


def stale_paths(
    inputs: dict[str, tuple[str, float]],
    stamp: dict[str, Any] | None,
    invocation: str,
    started: float,
    unloaded: frozenset[str] = frozenset(),
) -> list[str]:
    """Return the paths that differ from what the running process was started with.

    Args:
        inputs: For each path the SHA-256 of what is on disk, and when it last changed (seconds since the epoch).
        stamp: What was recorded after the last restart or reload, or None.
        invocation: systemd's InvocationID of the running process. When it differs from the stamp's, the process was
            started behind our back (crash, reboot, package upgrade), and only time can tell what it has read.
        started: When the process was started (seconds since the epoch).
        unloaded: Unit files that systemd has not loaded yet: the process cannot have been started with them, however
            old they are.

    Returns:
        The paths, in order.

    Example:
        >>> stale_paths({"/etc/x": ("ab", 5.0)}, None, "id", 9.0)
        []
        >>> stale_paths({"/etc/x": ("ab", 5.0)}, None, "id", 4.0)
        ['/etc/x']
    """
    read = stamp if stamp and stamp["invocation"] == invocation else {"digests": {}, "unit_files": []}
    known: dict[str, str] = read["digests"]
    stale = []
    for path, (digest, changed) in inputs.items():
        if path in known:
            differs = known[path] != digest
        else:
            differs = path in unloaded or changed >= started - CLOCK_TICK_SECONDS
        if differs:
            stale.append(path)
    stale += [path for path in read["unit_files"] if path not in inputs]
    return sorted(stale)


def drop_ins_not_loaded(on_disk: list[str], loaded: list[str]) -> list[str]:
    """Return the directories of the drop-ins that systemd has not read, or has read and that are gone.

    ``NeedDaemonReload`` alone is not enough: systemd 252 answers no when the drop-in's *directory* is new, and starts
    the unit without it.

    Args:
        on_disk: Paths of drop-ins. One with the same file name in a directory of higher priority replaces another.
        loaded: ``DropInPaths`` of the unit.

    Returns:
        The directories.

    Example:
        >>> drop_ins_not_loaded(["/etc/systemd/system/a.service.d/x.conf"], [])
        ['/etc/systemd/system/a.service.d']
    """
    names = {Path(path).name for path in on_disk} ^ {Path(path).name for path in loaded}
    return sorted({str(Path(path).parent) for path in [*on_disk, *loaded] if Path(path).name in names})


def related(inputs: list[str], paths: list[str]) -> list[str]:
    """Return those inputs of a daemon that are, hold or lie below one of some paths.

    Args:
        inputs: What a daemon reads, as recorded.
        paths: Files or directories.

    Returns:
        The inputs, in order.

    Example:
        >>> related(["/etc/web.conf", "/etc/tls"], ["/etc/tls/host.crt"])
        ['/etc/tls']
        >>> related(["/etc/tls/host.crt"], ["/etc/tls"])
        ['/etc/tls/host.crt']
    """
    return sorted(
        one for one in inputs if any(f"{one}/".startswith(f"{p}/") or f"{p}/".startswith(f"{one}/") for p in paths)
    )


# What is on disk.


def _digest_tree(path: Path) -> tuple[str, float]:
    """Return the SHA-256 of a file or of all files below a directory, and its last change.

    The change time (ctime) is used and not the modification time, which tar, rsync and cp -p set to the past.
    """
    if path.is_symlink() and not path.exists():
        return f"broken link to {path.readlink()}", path.lstat().st_ctime
    # A symlink that now points elsewhere is a change too, even if both targets are old. A directory's own change
    # time tells of files that were removed.
    changed = max(path.stat().st_ctime, path.lstat().st_ctime)
    if not path.is_dir():
        return hashlib.sha256(path.read_bytes()).hexdigest(), changed
    total = hashlib.sha256()
    for entry in sorted(path.iterdir()):
        digest, when = _digest_tree(entry)
        total.update(f"{entry.name}\0{digest}\n".encode())
        changed = max(changed, when)
    return total.hexdigest(), changed


def fingerprint(paths: list[str]) -> dict[str, tuple[str, float]]:
    """Return the SHA-256 and the last change of files and directories.

    Args:
        paths: Absolute paths. Those that do not exist are left out.

    Returns:
        For each path: SHA-256 (of a directory: of all names and contents below it), seconds since the epoch.

    Example:
        salt-call daemon.fingerprint '[/etc/redis/redis.conf]'
    """
    return {path: _digest_tree(Path(path)) for path in paths if Path(path).exists()}


def _unit_files(status: dict[str, str]) -> list[str]:
    """Return the unit files and drop-in directories on disk, whether systemd has loaded them or not."""
    files, directories = unit_file_names(status["Names"].split() or [status["Id"]])
    found = [f"{root}/{name}" for root in UNIT_ROOTS for name in [*files, *directories]]
    return [path for path in found if Path(path).exists()]


def _drop_ins(unit_files: list[str]) -> list[str]:
    """Return the drop-ins in these directories. An empty one, or a link to /dev/null, switches another off."""
    confs = [conf for path in unit_files if path.endswith(".d") for conf in Path(path).glob("*.conf")]
    masked = {conf.name for conf in confs if conf.stat().st_size == 0}
    return [str(conf) for conf in confs if conf.name not in masked]


# systemd.


def _run(argv: list[str], timeout: float = 60) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        argv, capture_output=True, text=True, timeout=timeout, check=False, env={**os.environ, "LC_ALL": "C"}
    )


def show(name: str) -> dict[str, str]:
    """Return what systemd knows of a unit.

    Args:
        name: The unit; ``.service`` may be left out.

    Returns:
        The properties listed in ``PROPERTIES``. ``LoadState`` is ``not-found`` when there is no such unit, also when
        systemd does not answer at all (a host that is being installed in a chroot).

    Example:
        salt-call daemon.show redis-server
    """
    unit = unit_name(name)
    unknown = dict.fromkeys(PROPERTIES, "") | {"Id": unit, "LoadState": "not-found", "ActiveState": "inactive"}
    return unknown | parse_show(_asked([unit]))


def _asked(units: list[str]) -> str:
    argv = ["systemctl", "show", *units, "--timestamp=us+utc", f"--property={','.join(PROPERTIES)}"]
    try:
        return _run(argv).stdout
    except FileNotFoundError:
        return ""


def shown(name: str, names: list[str], run: str) -> dict[str, str] | None:
    """Return what systemd knows of a unit, asked once for all units of a run of states.

    A question takes 7 ms and more, and most applies change nothing. Whoever has changed something must not ask this,
    but :func:`show`. An answer is good for ten seconds.

    Args:
        name: The unit; ``.service`` may be left out.
        names: All units of the run.
        run: What tells one run of states from another.

    Returns:
        As :func:`show`; None when it is not known in this way.

    Example:
        salt-call daemon.shown nginx '[nginx, haproxy]' 1
    """
    known = __context__.get("daemon.shown", {})
    if known.get("run") != run:
        units = sorted({unit_name(one) for one in names})
        known = {"run": run, "when": time.monotonic(), "units": parse_shows(_asked(units), units)}
        __context__["daemon.shown"] = known
    if time.monotonic() - known["when"] > SHOWN_SECONDS:
        return None
    found: dict[str, str] | None = known["units"].get(unit_name(name))
    return found


def _stamp_path(unit: str) -> Path:
    return STAMPS / f"{unit}.json"


def _read_stamp(unit: str) -> dict[str, Any] | None:
    """Return the stamp; a damaged one counts as none, which at worst costs one restart."""
    try:
        stamp = json.loads(_stamp_path(unit).read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return None
    complete = isinstance(stamp, dict) and {"invocation", "digests", "unit_files"} <= stamp.keys()
    return stamp if complete else None


def _stamp(invocation: str, inputs: dict[str, tuple[str, float]], unit_files: list[str]) -> dict[str, Any]:
    digests = {path: digest for path, (digest, _) in inputs.items()}
    return {"invocation": invocation, "digests": digests, "unit_files": unit_files}


def _write_stamp(unit: str, stamp: dict[str, Any]) -> None:
    """Record what the running process has read. Only root may read it: digests of secrets are in it."""
    STAMPS.mkdir(mode=0o700, parents=True, exist_ok=True)
    partial = STAMPS / f"{unit}.new"
    partial.touch(mode=0o600)
    partial.write_text(json.dumps(stamp, indent=1, sort_keys=True), encoding="utf-8")
    partial.replace(_stamp_path(unit))


def inspect(name: str, inputs: list[str] | None = None, known: dict[str, str] | None = None) -> dict[str, Any]:
    """Return the state of a daemon and what of its inputs it has not read yet. One ``systemctl`` call, or none.

    Args:
        name: The unit; ``.service`` may be left out.
        inputs: Files and directories that the daemon reads when it starts. The unit's own files and drop-ins are
            always inputs.
        known: What systemd has said of it just now (:func:`shown`).

    Returns:
        ``exists``, ``active``, ``enabled`` (True, False, or None when systemd cannot enable it), ``masked``,
        ``failed``, ``waiting_socket`` (the socket that will start it, or None), ``need_daemon_reload``,
        ``can_reload``, ``state`` (systemd's words), ``stale`` (inputs that changed since the process started),
        ``stale_unit_files`` (those of them that are the unit's own), ``missing`` (inputs that do not exist) and
        ``recorded`` (whether the stamp says all this already).

    Example:
        salt-call daemon.inspect redis-server inputs='[/etc/redis/redis.conf]'
    """
    status = _settled(name, known)
    unit_files = _unit_files(status)
    paths = [*(inputs or []), *unit_files]
    prints = fingerprint(paths)
    stamp = _read_stamp(status["Id"])
    active = status["ActiveState"] in ("active", "reloading", "refreshing")
    not_loaded = drop_ins_not_loaded(_drop_ins(unit_files), status["DropInPaths"].split())
    need_reload = status["LoadState"] == "loaded" and (status["NeedDaemonReload"] == "yes" or bool(not_loaded))
    stale: list[str] = []
    if active:
        stale = stale_paths(
            prints,
            stamp,
            status["InvocationID"],
            parse_timestamp(status["InactiveExitTimestamp"]),
            frozenset(unit_files) if status["NeedDaemonReload"] == "yes" else frozenset(),
        )
        # With other drop-ins than those on disk the process is stale, whatever a stamp says.
        stale = sorted({*stale, *not_loaded})
    enabled = {"disabled": False, "enabled": True, "enabled-runtime": True, "alias": True}
    return {
        "exists": status["LoadState"] != "not-found",
        "active": active,
        "enabled": enabled.get(status["UnitFileState"]),
        "masked": status["LoadState"] == "masked",
        "failed": status["ActiveState"] == "failed",
        "waiting_socket": None if active else _waiting_socket(status),
        "need_daemon_reload": need_reload,
        "can_reload": status["CanReload"] == "yes",
        "state": f"{status['ActiveState']}/{status['SubState']}, result {status['Result'] or 'unknown'}",
        "stale": stale,
        "stale_unit_files": [path for path in stale if path not in (inputs or [])],
        "missing": [path for path in inputs or [] if path not in prints],
        "recorded": stamp == _stamp(status["InvocationID"], prints, unit_files),
    }


def _settled(name: str, known: dict[str, str] | None = None, timeout: float = 30) -> dict[str, str]:
    """Return the status of a unit once a start that is under way has ended (a host that is just booting)."""
    deadline = time.monotonic() + timeout
    status = known or show(name)
    while True:
        # auto-restart: systemd waits between two tries. That is a dead daemon, not one which is starting.
        starting = status["ActiveState"] == "activating" and status["SubState"] != "auto-restart"
        if not starting or time.monotonic() > deadline:
            return status
        time.sleep(0.1)
        status = show(name)


def _waiting_socket(status: dict[str, str]) -> str | None:
    for socket in status["TriggeredBy"].split():
        if socket.endswith(".socket") and show(socket)["ActiveState"] == "active":
            return socket
    return None


def journal(name: str, lines: int = 15) -> str:
    """Return the last lines that a unit logged, and systemd about it.

    Args:
        name: The unit; ``.service`` may be left out.
        lines: How many.

    Returns:
        The lines; empty when there is no journal.

    Example:
        salt-call daemon.journal redis-server
    """
    argv = ["journalctl", "--unit", unit_name(name), "--lines", str(lines), "--no-pager", "--output=cat", "--quiet"]
    try:
        # It tells what strangers have asked of the daemon, too.
        printable: str = secrettext.printable(_run(argv).stdout)
        return printable.strip()
    except FileNotFoundError:
        return ""


def adopt(name: str, inputs: list[str] | None = None) -> None:
    """Record that the running process has read what is on disk. Call it only when :func:`inspect` finds nothing stale.

    Args:
        name: The unit; ``.service`` may be left out.
        inputs: As for :func:`inspect`.

    Example:
        salt-call daemon.adopt redis-server inputs='[/etc/redis/redis.conf]'
    """
    status = show(name)
    unit_files = _unit_files(status)
    prints = fingerprint([*(inputs or []), *unit_files])
    _write_stamp(status["Id"], _stamp(status["InvocationID"], prints, unit_files))


def readers(paths: list[str]) -> dict[str, list[str]]:
    """Return the daemons that run and read some files, by what was recorded when they were started.

    Args:
        paths: Files or directories.

    Returns:
        For each unit those of its inputs that are, hold or lie below one of the paths.

    Example:
        salt-call daemon.readers '[/etc/saltern/tls]'
    """
    return {unit: inputs for unit, inputs, _, _ in _readers(paths)}


def _readers(paths: list[str]) -> Iterator[tuple[str, list[str], dict[str, Any], dict[str, str]]]:
    """Each daemon that runs and reads some files: the unit, those of its inputs, its stamp and what systemd knows."""
    for file in sorted(STAMPS.glob("*.json")):
        unit = file.name.removesuffix(".json")
        stamp = _read_stamp(unit)
        inputs = related(list(stamp["digests"]), paths) if stamp else []
        if stamp and inputs and (status := show(unit))["ActiveState"] in ("active", "reloading", "refreshing"):
            yield unit, inputs, stamp, status


def unread(paths: list[str]) -> dict[str, list[str]]:
    """Return the daemons that run with older versions of some files than those on disk.

    Args:
        paths: Files or directories.

    Returns:
        For each unit those of its inputs that it has not read yet.

    Example:
        salt-call daemon.unread '[/etc/saltern/tls]'
    """
    found = {}
    for unit, inputs, stamp, status in _readers(paths):
        started = parse_timestamp(status["InactiveExitTimestamp"])
        stale = stale_paths(fingerprint(inputs), {**stamp, "unit_files": []}, status["InvocationID"], started)
        if stale:
            found[unit] = stale
    return found


def reread(unit: str, inputs: list[str], timeout: float = 60) -> str:
    """Let a daemon read some of its inputs again by a reload, and record that of these alone.

    What else has changed on disk is found by the next :func:`inspect`, as it would have been.

    Args:
        unit: The unit's full name.
        inputs: Some of its inputs.
        timeout: How long the reload may take, in seconds.

    Returns:
        An empty string when it worked, otherwise what went wrong.

    Example:
        salt-call daemon.reread haproxy.service '[/etc/haproxy/tls/edge.pem]'
    """
    if show(unit)["CanReload"] != "yes":
        return f"{unit} cannot be reloaded; the next apply restarts it"
    prints = fingerprint(inputs)
    stamp = _read_stamp(unit)
    was = inforce.before(unit)
    if problem := _systemctl(unit, "reload", timeout):
        return _failure(unit, problem)
    after = _wait_until_up(unit, timeout)
    if after["ActiveState"] != "active":
        return _failure(unit, f"it was not up and stable after systemctl reload ({after['ActiveState']})")
    # All that it reads: its port may show another file's certificate than the one that is new.
    if problem := _not_in_force(unit, [*inputs, *(stamp["digests"] if stamp else [])], was):
        return _failure(unit, problem)
    if not stamp or stamp["invocation"] != after["InvocationID"]:
        stamp = _stamp(after["InvocationID"], {}, [])
    stamp["digests"] |= {path: digest for path, (digest, _) in prints.items()}
    _write_stamp(unit, stamp)
    return ""


def _not_in_force(unit: str, paths: list[str], was: dict[str, Any]) -> str:
    problem: str = inforce.problem(unit, paths, was, IN_FORCE_SECONDS)
    return problem


def act(
    name: str,
    action: str,
    inputs: list[str] | None = None,
    timeout: float = 60,
    by: str | None = None,
    proof: str | None = None,
) -> str:
    """Start, restart or reload a daemon, wait until it is up and stays up, and record what it has read.

    After a reload it is asked: it must show the certificates that are on disk, and have new workers if it is one that
    starts such. A reload that says yes and does nothing is a failure, and leaves no record.

    Args:
        name: The unit; ``.service`` may be left out.
        action: ``start``, ``restart`` or ``reload``. Before the first two, systemd reads its unit files again.
        inputs: As for :func:`inspect`.
        timeout: How long the daemon may take, in seconds.
        by: An execution function that restarts it in a way of its own, given the unit and the timeout; it answers what
            went wrong, or nothing.
        proof: An execution function that says what a daemon which was reloaded has not taken, or nothing.

    Returns:
        An empty string when it worked, otherwise what went wrong with the last lines of its journal.

    Example:
        salt-call daemon.act redis-server restart inputs='[/etc/redis/redis.conf]'
    """
    unit = unit_name(name)
    if action != "reload":
        problem = reload_systemd()
        if problem:
            return problem
    before = show(unit)
    unit_files = _unit_files(before)
    # Taken before the process reads them: what changes from here on is found by the next apply.
    prints = fingerprint([*(inputs or []), *unit_files])
    if before["ActiveState"] == "failed":
        # Otherwise a unit that has hit its start limit could not be started.
        _run(["systemctl", "reset-failed", unit])
    was = inforce.before(unit) if action == "reload" else {}
    problem = __salt__[by](unit, timeout) if by and action == "restart" else _systemctl(unit, action, timeout)
    if problem:
        return _failure(unit, problem)
    after = _wait_until_up(unit, timeout)
    if after["ActiveState"] != "active":
        state = f"{after['ActiveState']}/{after['SubState']}, result {after['Result']}"
        return _failure(unit, f"it was not up and stable after systemctl {action} ({state})")
    if action == "reload":
        problem = _not_in_force(unit, inputs or [], was) or (__salt__[proof]() if proof else "")
        if problem:
            return _failure(unit, problem)
    _write_stamp(after["Id"], _stamp(after["InvocationID"], prints, unit_files))
    return ""


def _systemctl(unit: str, action: str, timeout: float) -> str:
    try:
        done = _run(["systemctl", action, unit], timeout=timeout)
    except subprocess.TimeoutExpired:
        return f"systemctl {action} did not end within {timeout:g} s"
    return f"systemctl {action} failed: {done.stderr.strip().splitlines()[0]}" if done.returncode else ""


def _wait_until_up(unit: str, timeout: float) -> dict[str, str]:
    """Wait until the unit is active and is the same process half a second later."""
    deadline = time.monotonic() + timeout
    status = show(unit)
    while True:
        previous = status["InvocationID"]
        time.sleep(SETTLE_SECONDS if status["ActiveState"] == "active" else 0.1)
        status = show(unit)
        if status["ActiveState"] == "active" and status["InvocationID"] == previous:
            return status
        if status["ActiveState"] in ("failed", "inactive") or time.monotonic() > deadline:
            # A daemon that comes and goes is not up, whatever it is at this very moment.
            return status | {"ActiveState": "unstable" if status["ActiveState"] == "active" else status["ActiveState"]}


def _failure(unit: str, problem: str) -> str:
    lines = journal(unit) or "(it has logged nothing)"
    return f"{unit}: {problem}. Its last log lines:\n{lines}\nFor more: journalctl --unit {unit} --lines 200"


def reload_systemd() -> str:
    """Let systemd read all unit files again.

    Returns:
        An empty string, or what went wrong.

    Example:
        salt-call daemon.reload_systemd
    """
    done = _run(["systemctl", "daemon-reload"])
    return "" if done.returncode == 0 else f"systemctl daemon-reload failed: {done.stderr.strip()}"


def enable(name: str) -> str:
    """Let a daemon be started at boot.

    Args:
        name: The unit; ``.service`` may be left out.

    Returns:
        An empty string, or what went wrong.

    Example:
        salt-call daemon.enable redis-server
    """
    done = _run(["systemctl", "enable", "--quiet", unit_name(name)])
    return "" if done.returncode == 0 else f"systemctl enable failed: {done.stderr.strip()}"


def stop(name: str, timeout: float = 60) -> str:
    """Stop a daemon, keep it from starting at boot, and forget what it was started with.

    Args:
        name: The unit; ``.service`` may be left out.
        timeout: How long it may take to stop, in seconds.

    Returns:
        An empty string, or what went wrong.

    Example:
        salt-call daemon.stop redis-server
    """
    unit = unit_name(name)
    status = show(unit)
    try:
        stopped = _run(["systemctl", "stop", unit], timeout=timeout)
    except subprocess.TimeoutExpired:
        return _failure(unit, f"it did not stop within {timeout:g} s")
    if stopped.returncode != 0 and status["LoadState"] != "not-found":
        return _failure(unit, f"systemctl stop failed: {stopped.stderr.strip()}")
    if status["UnitFileState"] in ("enabled", "enabled-runtime"):
        disabled = _run(["systemctl", "disable", "--quiet", unit])
        if disabled.returncode != 0:
            return f"{unit}: systemctl disable failed: {disabled.stderr.strip()}"
    _run(["systemctl", "reset-failed", unit])
    _stamp_path(status["Id"]).unlink(missing_ok=True)
    return ""


def in_job(groups: str | None = None) -> bool:
    """Return whether this process is a job of the minion daemon, and not salt-call: it lives in the daemon's cgroup.

    Args:
        groups: the text of /proc/self/cgroup; default: this process's own.

    Example:
        >>> in_job("0::/system.slice/salt-minion.service\\n"), in_job("0::/user.slice/user-0.slice\\n")
        (True, False)
    """
    text = Path("/proc/self/cgroup").read_text(encoding="utf-8") if groups is None else groups
    return any("salt-minion.service" in line.split("/") for line in text.splitlines())


def act_after_job(name: str, action: str) -> str:
    """Let systemd restart or stop a daemon as soon as this process, the job, has ended.

    Args:
        name: The unit; ``.service`` may be left out.
        action: ``restart`` or ``stop``; the latter also keeps it from starting at boot.

    Returns:
        An empty string, or what went wrong.

    Example:
        salt web1 daemon.act_after_job salt-minion restart
    """
    unit = unit_name(name)
    problem = reload_systemd()
    if problem:
        return problem
    verb = {"restart": "restart", "stop": "disable --now"}[action]
    wait = f"tail --pid={os.getpid()} --sleep-interval=0.1 --follow /dev/null; exec systemctl {verb} {unit}"
    later = f"saltern-{action}-{unit}"
    # One that an earlier job has left waiting would be too early for this one.
    _run(["systemctl", "stop", later])
    done = _run(["systemd-run", "--quiet", "--collect", f"--unit={later}", "sh", "-c", wait])
    return "" if done.returncode == 0 else f"systemd-run failed: {done.stderr.strip()}"
