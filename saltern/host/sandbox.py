"""The one way in which root runs what is not ours: a unit with a user, a view of the disk and bounds of its own.

What runs in it sees an empty root directory with Debian's /usr and what it was given, and nothing else: no other file
of the host, no process, no device, no socket, and the network only when that was asked for. It gets no capability,
cannot get any, and is the child of PID 1, so it inherits no lock and no open file of ours. Where root's side was
killed, the next run of the same name ends it, and its own time does at the latest.

Two pure functions say what systemd is told (``properties``, ``command``); ``run`` does it and bounds what comes back.
"""

from __future__ import annotations

import contextlib
import os
import re
import selectors
import subprocess
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

from salt.exceptions import CommandExecutionError

# Below it each sandbox has its empty root directory, in which systemd makes the places that things are mounted on.
ROOTS = Path("/run/saltern/sandboxes")
# Debian's own: readable to everybody on every host. A leading "-": not every host has it.
SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "-/lib32", "-/lib64", "-/etc/alternatives", "-/etc/ld.so.cache")
FACTS = ("/etc/passwd", "/etc/group", "-/etc/localtime", "-/etc/os-release", "-/etc/mime.types", "-/etc/debian_version")
# What it takes to find a host by its name, and to know it by its certificate.
NAMES = ("-/etc/resolv.conf", "-/etc/hosts", "-/etc/nsswitch.conf", "-/etc/gai.conf", "-/etc/services")
CERTIFICATES = ("-/etc/ssl/certs", "-/etc/ssl/openssl.cnf", "-/usr/local/share/ca-certificates")
MOST_PRINTED = 8 * 1024 * 1024
LOOK_SECONDS = 0.5  # between two looks at how much disk is used
SPARE_MB = 512  # of its file system stay free, whatever a sandbox may use
DEEPEST = 100  # folders in each other
OPEN_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
ENDS_SECONDS = 10  # between SIGTERM and SIGKILL

# What is kept from anybody's code, in an app's own unit (release/appunits.py) as in a sandbox.
KERNEL = (
    "PrivateIPC=yes",
    "RemoveIPC=yes",
    "KeyringMode=private",
    "ProtectProc=invisible",
    "ProcSubset=pid",
    "ProtectClock=yes",
    "ProtectHostname=yes",
    "ProtectKernelLogs=yes",
    "ProtectKernelModules=yes",
    "ProtectKernelTunables=yes",
    "ProtectControlGroups=yes",
    "InaccessiblePaths=-/sys/fs/cgroup",  # names, processes and figures of every other unit
    "LockPersonality=yes",
    "RestrictRealtime=yes",
    "RestrictSUIDSGID=yes",
    "RestrictNamespaces=yes",
    # Ports of daemons: where systemd can tell the kernel so (not Debian 12's, nor in a container), and everywhere by
    # base.sysctl.
    "SocketBindDeny=1-32767",
)
WALLS = (
    "UMask=0077",
    "NoNewPrivileges=yes",
    "ProtectSystem=strict",
    "PrivateMounts=yes",
    "PrivateDevices=yes",
    "DevicePolicy=closed",
    *KERNEL,
    "SystemCallArchitectures=native",
    "SystemCallFilter=@system-service",
    "SystemCallFilter=~@privileged @resources @debug @mount @module @raw-io @reboot @swap @keyring",
    "SystemCallFilter=~io_uring_setup io_uring_enter io_uring_register",  # it opens sockets past the filter of families
    "SystemCallFilter=@chown setpriority",  # to itself; cp and make do so
    "SystemCallErrorNumber=EPERM",
    "LimitCORE=0",
    "LimitNOFILE=4096",
    "OOMPolicy=kill",
    "KillMode=control-group",
    "SendSIGHUP=no",
    f"TimeoutStopSec={ENDS_SECONDS}",
    "CPUWeight=20",  # who is being served on this host comes first
    "IOWeight=20",
)
CLOSED = (
    "MountAPIVFS=yes",
    "TemporaryFileSystem=/run:mode=0755,size=4M",  # that of systemd 252 has no bound, and everybody may write to it
    "TemporaryFileSystem=/tmp:mode=1777,size=256M,nr_inodes=64k",
    "TemporaryFileSystem=/dev/shm:mode=1777,size=64M,nr_inodes=16k",
    # systemd shows the journal's sockets to every unit with a root directory: its own name stands beside what it says.
    "LogRateLimitIntervalSec=30s",
    "LogRateLimitBurst=200",
)
OPEN = (
    "ProtectHome=read-only",
    "InaccessiblePaths=-/run/systemd/private -/run/dbus -/run/saltern",
)
NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,100}")
CONTROL = re.compile(
    r"\x1b\[[0-?]*[ -/]*[@-~]|[^\n\t\x20-\x7e\u00a0-\U0010ffff]|[\u200b-\u200f\u2028-\u202e\u2066-\u2069]"
)


# --- pure ---------------------------------------------------------------------------------------------------


def properties(
    name: str,
    *,
    user: str | int,
    group: str | int | None = None,
    reads: Iterable[str | tuple[str, str]] = (),
    writes: Iterable[str | tuple[str, str]] = (),
    closed: bool = True,
    network: bool = False,
    memory_mb: int = 1024,
    seconds: int = 600,
    tasks: int = 256,
    file_mb: int = 1024,
    nice: int = 10,
    directory: str = "",
    environment: Mapping[str, str] | None = None,
    environment_file: str = "",
    capability: str = "",
) -> list[str]:
    """Return the directives of systemd for a sandbox.

    Args:
        name: the sandbox's, of small letters, digits and hyphens; two of one name never run at once.
        user: who it runs as, by name or number; nothing: a user that exists for this run alone. Never root.
        group: its group; None: the user's own.
        reads: paths that it may read besides Debian's own, each alone or with the path at which it is seen; ``-``
            before it when it may be missing. Directories with all that is below. Only where nobody but root can change
            a part of the path: PID 1 looks it up and follows links.
        writes: the same, to write to.
        closed: whether these paths are all of the disk that it sees. If not, it sees what its user sees.
        network: whether there is any; loopback is the host's own then.
        memory_mb: most memory, in MiB.
        seconds: longest time that it may take.
        tasks: most processes and threads.
        file_mb: largest file that it may write, in MiB.
        nice: as in nice(1).
        directory: where it starts.
        environment: variables. Never a secret: every user of the host can ask systemd for them.
        environment_file: a file of variables that may be secret, read by PID 1.
        capability: the one capability that it gets, or none.

    Returns:
        One directive per item.

    Raises:
        ValueError: the name is none, the user is root, a path or a variable cannot be told to systemd.

    Example:
        >>> properties("build-demo", user="build-demo", group="build-demo")[:2]
        ['User=build-demo', 'Group=build-demo']
    """
    if not NAME.fullmatch(name):
        raise ValueError(f"{name!r} is not a name of a sandbox")
    if str(user) in ("root", "0") or str(group) in ("root", "0"):
        raise ValueError(f"sandbox {name}: root is what it is there to avoid")
    found = [f"User={user}", *([f"Group={group}"] if group is not None else [])] if user != "" else ["DynamicUser=yes"]
    found += [*WALLS, f"CapabilityBoundingSet={capability}", f"AmbientCapabilities={capability}"]
    # Within a user namespace of its own a capability would be worth nothing.
    found += [] if capability else ["PrivateUsers=yes"]
    if network:
        found += ["RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6"]
    else:
        found += ["PrivateNetwork=yes", "RestrictAddressFamilies=AF_UNIX"]
    if closed:
        own = [*SYSTEM, *FACTS, *CERTIFICATES, *(NAMES if network else ())]
        found += [f"RootDirectory={ROOTS / name}", *CLOSED, *(f"BindReadOnlyPaths={_path(one)}" for one in own)]
        found += [f"BindReadOnlyPaths={_bind(one)}" for one in reads]
        found += [f"BindPaths={_bind(one)}" for one in writes]
    else:
        found += [*OPEN, *(f"ReadWritePaths={_path(str(one))}" for one in writes)]
    found += [
        f"MemoryMax={int(memory_mb)}M",
        "MemorySwapMax=0",
        f"RuntimeMaxSec={int(seconds)}",
        f"TasksMax={int(tasks)}",
        f"LimitFSIZE={int(file_mb)}M",
        f"Nice={int(nice)}",
    ]
    found += [f"WorkingDirectory={_path(directory)}"] if directory else []
    found += [f"Environment={_quoted(f'{key}={value}')}" for key, value in sorted((environment or {}).items())]
    return found + ([f"EnvironmentFile={_path(environment_file)}"] if environment_file else [])


def command(name: str, argv: list[str], **walls: Any) -> list[str]:
    """Return the command line that runs something in a sandbox; its stdin and stdout are the caller's.

    ``run`` does so. Who runs it by himself makes ``ROOTS / name`` first, an empty directory of root's.

    Args:
        name: the sandbox's.
        argv: what is run: an absolute path and its arguments. Never a secret.
        walls: as for ``properties``.

    Example:
        >>> command("build-demo", ["/usr/bin/true"], user="build-demo")[-2:]
        ['--', '/usr/bin/true']
    """
    # The description would otherwise be the whole command, in the journal too.
    head = ["systemd-run", "--quiet", "--pipe", "--wait", "--collect"]
    head += [f"--unit={unit(name)}", f"--description=Saltern's sandbox {name}"]
    return [*head, *(f"--property={one}" for one in properties(name, **walls)), "--"] + [
        part.replace("$", "$$")  # systemd would put variables there
        for part in argv
    ]


def unit(name: str) -> str:
    """Return the unit that a sandbox is.

    Example:
        >>> unit("build-demo")
        'saltern-sandbox-build-demo.service'
    """
    return f"saltern-sandbox-{name}.service"


def printable(text: str) -> str:
    """Return text that a stranger has printed, without what a terminal would obey.

    Example:
        >>> printable("\\x1b[31mred\\x07")
        'red'
    """
    return CONTROL.sub("", text.replace("\r\n", "\n"))


def redacted(text: str) -> str:
    """Return text without what stands before the host in a URL: a name, a password.

    Example:
        >>> redacted("no answer from https://me:secret@index.example/simple")
        'no answer from https://***@index.example/simple'
    """
    return re.sub(r"(?<=://)[^\s/?#]*@|(?<=%3A%2F%2F)[^\s/?#&]*?%40", "***@", text, flags=re.IGNORECASE)


def _bind(path: str | tuple[str, str]) -> str:
    return _path(path) if isinstance(path, str) else f"{_path(path[0])}:{_path(path[1])}"


def _path(path: str) -> str:
    if not path.removeprefix("-").startswith("/") or re.search(r"[\x00-\x1f\x7f%]", path):
        raise ValueError(f"{path!r} is not a path that systemd can be told")
    return _quoted(path) if re.search(r"[\s\"'\\:]", path) else path


def _quoted(text: str) -> str:
    if re.search(r"[\x00-\x08\x0a-\x1f\x7f]", text):
        raise ValueError("a control character cannot be told to systemd")
    text = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{text}"'


# --- on the host --------------------------------------------------------------------------------------------


def run(
    name: str,
    argv: list[str],
    *,
    what: str = "",
    stdin: bytes = b"",
    out: BinaryIO | None = None,
    most: int = MOST_PRINTED,
    secrets: Mapping[str, str] | None = None,
    disk: tuple[str | Path, int] | None = None,
    **walls: Any,
) -> bytes:
    """Run something in a sandbox, wait for its end and return what it printed.

    Args:
        name: the sandbox's. One of this name that a killed run has left is ended first.
        argv: what is run: an absolute path and its arguments. Never a secret.
        what: what is being done, for errors.
        stdin: what it reads.
        out: an open file, which root writes, for what it prints, instead of memory.
        most: bytes that it may print; more is an error.
        secrets: variables that no command line and no other user may see.
        disk: a directory, and how many MiB the files below it may use together; more is an error.
        walls: as for ``properties``.

    Returns:
        What it printed on stdout; nothing when it went to ``out``.

    Raises:
        CommandExecutionError: it failed, or went beyond a bound; with the last lines it printed, and all that it
            printed on stderr as ``said``.
        ValueError: as for ``properties``.

    Example:
        >>> run("example", ["/usr/bin/id", "--user", "--name"], user="nobody")  # needs systemd  # doctest: +SKIP
        b'nobody\\n'
    """
    what = what or " ".join(argv[:2])
    with contextlib.ExitStack() as stack:
        if secrets:
            walls["environment_file"] = stack.enter_context(_environment_file(name, secrets))
        line = command(name, argv, **walls)
        root = ROOTS / name
        if root.exists():  # what a killed run has left; whoever ends in order takes it away
            _end(name)
        _make_folder(root)
        printed: Any = out or stack.enter_context(tempfile.SpooledTemporaryFile(max_size=1 << 20))
        said = stack.enter_context(tempfile.TemporaryFile())
        given = stack.enter_context(tempfile.TemporaryFile())
        given.write(stdin)
        given.seek(0)
        began, seconds, ended = time.monotonic(), walls.get("seconds", 600), False
        try:
            code, problem = _watch(line, given, printed, said, most, disk)
            ended = not problem
            if code and not problem and time.monotonic() - began >= seconds:
                problem = f"not done after {seconds} seconds"
        finally:
            if not ended:
                _end(name)
            with contextlib.suppress(OSError):  # else the next run has it
                _remove_empty(root)
        if not problem and code == 0:
            if out:
                return b""
            printed.seek(0)
            return bytes(printed.read())
        said.seek(max(0, said.tell() - 100_000))
        lines = redacted(printable(said.read().decode(errors="replace"))).strip().splitlines()
        failed = CommandExecutionError("\n".join([f"{what}: {problem or f'exit code {code}'}", *lines[-20:]]))
        failed.said = "\n".join(lines)
        raise failed


def _watch(
    line: list[str], given: Any, printed: Any, said: Any, most: int, disk: tuple[str | Path, int] | None
) -> tuple[int, str]:
    """Run the command line to its end; return its exit code, and the bound that it broke."""
    try:
        process = subprocess.Popen(line, stdin=given, stdout=subprocess.PIPE, stderr=subprocess.PIPE, close_fds=False)
    except FileNotFoundError as error:
        raise CommandExecutionError(f"{error.filename} does not exist on this host") from error
    bounds = {process.stdout: (printed, most), process.stderr: (said, MOST_PRINTED)}
    counts = dict.fromkeys(bounds, 0)
    looked = time.monotonic()
    with process, selectors.DefaultSelector() as selector:
        for pipe in bounds:
            selector.register(pipe, selectors.EVENT_READ)  # type: ignore[arg-type]
        try:
            while selector.get_map():
                for key, _ in selector.select(LOOK_SECONDS):
                    stream: Any = key.fileobj
                    part = os.read(stream.fileno(), 1 << 16)
                    if not part:
                        selector.unregister(stream)
                        continue
                    target, limit = bounds[stream]
                    counts[stream] += len(part)
                    if counts[stream] > limit:
                        return 1, f"it printed more than {limit} bytes"
                    target.write(part)
                if disk and time.monotonic() - looked > LOOK_SECONDS:
                    if problem := disk_problem(*disk):
                        return 1, problem
                    looked = time.monotonic()
            code = process.wait()
            return code, (disk_problem(*disk) if disk else "")
        finally:
            if process.poll() is None:
                process.terminate()


def disk_problem(directory: str | Path, most_mb: int) -> str:
    """Say that the files below a directory use too much of the disk; nothing when they do not.

    Opens nothing but folders. What is deleted and still open is not counted, so that its file system is looked at, too.

    Args:
        directory: the directory.
        most_mb: MiB that they may use together; a file counts as at least 4 KiB, so that their number is bounded.

    Example:
        >>> disk_problem("/nonexistent", 100)
        ''
    """
    try:
        system = os.statvfs(directory)
    except FileNotFoundError:
        return ""
    if system.f_bavail * system.f_frsize < SPARE_MB << 20:
        return f"less than {SPARE_MB} MiB of the disk are free"
    used = 0
    try:
        for size in _sizes(os.open(directory, OPEN_FOLDER)):
            used += size
            if used > most_mb << 20:
                return f"it used more than {most_mb} MiB of the disk"
    except _TooDeep:
        return f"it made folders more than {DEEPEST} deep"
    return ""


class _TooDeep(Exception):
    pass


def _sizes(folder: int, depth: int = 0) -> Iterator[int]:
    """Yield what each file and folder below an open folder uses; closes it.

    Who fills it is at work: what was a folder may be a link or a pipe by the time that it is opened. os.fwalk would
    open that, as root, and see only then what it has.
    """
    folders = []
    try:
        if depth > DEEPEST:
            raise _TooDeep
        yield 4096
        with os.scandir(folder) as entries:
            for entry in entries:
                with contextlib.suppress(OSError):
                    if entry.is_dir(follow_symlinks=False):
                        folders.append(entry.name)
                    else:
                        yield max(4096, entry.stat(follow_symlinks=False).st_blocks * 512)
        for name in folders:
            try:
                inner = os.open(name, OPEN_FOLDER, dir_fd=folder)
            except OSError:  # it is none any more
                continue
            yield from _sizes(inner, depth + 1)
    finally:
        os.close(folder)


def _end(name: str) -> None:
    """End a sandbox that is still there, however it came to be; all of its processes."""
    state = ["systemctl", "show", "--property=ActiveState", "--value", unit(name)]
    asked = subprocess.run(state, stdin=subprocess.DEVNULL, capture_output=True, text=True).stdout.strip()
    if asked not in ("", "inactive"):
        for verb in (["kill", "--signal=SIGKILL"], ["stop"], ["reset-failed"]):
            subprocess.run(["systemctl", *verb, unit(name)], stdin=subprocess.DEVNULL, capture_output=True)


def end(name: str) -> None:
    """End a sandbox of this name, if one that a killed run has left is still there; return when it has ended.

    Args:
        name: the sandbox's.

    Example:
        >>> end("example")
    """
    _end(name)


@contextlib.contextmanager
def _environment_file(name: str, secrets: Mapping[str, str]) -> Any:
    _make_folder(ROOTS)
    handle, path = tempfile.mkstemp(prefix=f".{name}.", dir=ROOTS)  # mode 0600, on a file system in memory
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            for key, value in sorted(secrets.items()):
                if re.search(r"[\x00-\x1f\x7f]", key + value):
                    raise ValueError(f"sandbox {name}: the value of {key} has a control character")
                text = value.replace("\\", "\\\\").replace('"', '\\"').replace("$", "\\$").replace("`", "\\`")
                file.write(f'{key}="{text}"\n')
        yield path
    finally:
        Path(path).unlink(missing_ok=True)


def _make_folder(folder: Path) -> None:
    """Make a folder that others may enter, whatever the umask: that of salt-ssh is 077, and lets nobody in."""
    for path in dict.fromkeys((ROOTS.parent, ROOTS, folder)):
        if not path.is_dir():
            path.mkdir(parents=True, exist_ok=True)
            path.chmod(0o755)


def _remove_empty(root: Path) -> None:
    """Remove the places that things were mounted on: empty directories and files. Follows nothing, crosses nothing."""
    device = root.lstat().st_dev
    for directory, folders, files in os.walk(root, topdown=False):
        for file in files:
            path = Path(directory, file)
            if path.lstat().st_dev == device and path.lstat().st_size == 0:
                path.unlink()
        for folder in folders:
            path = Path(directory, folder)
            if path.is_symlink():
                path.unlink()
            else:
                path.rmdir()
    root.rmdir()
