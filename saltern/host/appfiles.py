"""Files and commands, for the execution modules build, release and django.

Everything that others may look at is written beside its place and renamed into it, so that a killed run leaves
the old thing or the new one, never half of it.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import re
import selectors
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from salt.exceptions import CommandExecutionError

MOST_PRINTED = 8 * 1024 * 1024  # that is kept of a command, as of a sandbox


def digest(path: str | Path) -> str:
    """Return the SHA-256 of a file.

    Args:
        path: the file.

    Returns:
        64 hex digits.

    Raises:
        OSError: the file cannot be read.

    Example:
        >>> digest("/dev/null")[:8]
        'e3b0c442'
    """
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write(path: str | Path, text: str, mode: int) -> None:
    """Write a whole file at once: it is there with all of its text and its mode, or as it was before.

    Args:
        path: the file; its directory must exist.
        text: what it shall hold, written as UTF-8.
        mode: permission bits, such as 0o600. No moment exists in which they are wider.

    Raises:
        OSError: the file cannot be written.

    Example:
        >>> write("/tmp/example", "hello", 0o600)
    """
    path = Path(path)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            os.fchmod(file.fileno(), mode)
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            Path(name).unlink()
        raise


def point(link: str | Path, target: str | Path) -> None:
    """Let a symbolic link point somewhere else, without a moment in which it is missing.

    Args:
        link: the link, which may not exist yet.
        target: what it shall name; it need not exist.

    Raises:
        OSError: the link cannot be made.

    Example:
        >>> point("/srv/apps/demo/current.sock", "/run/apps/demo/4f2a.sock")  # needs an app  # doctest: +SKIP
    """
    link = Path(link)
    beside = link.with_name(f".{link.name}.new")
    beside.unlink(missing_ok=True)
    beside.symlink_to(target)
    beside.replace(link)


def remove(path: str | Path) -> None:
    """Remove a file, or a directory with all that is below, however deep it is and whoever made it; follow nothing.

    Args:
        path: what to remove; it may be missing. The directory around it must be root's.

    Raises:
        CommandExecutionError: it cannot be removed.

    Example:
        >>> remove("/tmp/nonexistent")
    """
    if os.path.lexists(path):
        run(["rm", "--recursive", "--force", "--one-file-system", "--", str(path)])


def take(source: str | Path, target: str | Path, most_bytes: int, most_files: int) -> dict[str, str]:
    """Copy what a stranger has made, as far as it is plain files with plain names, each of which becomes root's.

    Args:
        source: the stranger's directory; nobody is at work in it any more.
        target: an existing directory of root's.
        most_bytes: of all files together.
        most_files: their number.

    Returns:
        SHA-256 of each file, as it was written, by name.

    Raises:
        ValueError: something else is there, or more than that; it is named.

    Example:
        >>> take("/tmp/nonexistent", "/tmp", 1000, 10)
        Traceback (most recent call last):
        ...
        FileNotFoundError: [Errno 2] No such file or directory: '/tmp/nonexistent'
    """
    found: dict[str, str] = {}
    folder = os.open(source, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        for name in sorted(os.listdir(folder)):  # noqa: PTH208 - an open folder, not a path
            if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._+!-]{0,200}", name):
                raise ValueError(f"{ascii(name)[1:-1]} is no name of a package")
            if len(found) == most_files:
                raise ValueError(f"more than {most_files} files were made")
            handle = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder)
            with open(handle, "rb") as file, Path(target, name).open("xb") as copy:  # noqa: PTH123
                if not stat.S_ISREG(os.fstat(handle).st_mode):
                    raise ValueError(f"{name} is not a plain file")
                whole = hashlib.sha256()
                while part := file.read(1 << 20):
                    most_bytes -= len(part)
                    if most_bytes < 0:
                        raise ValueError(f"what was made is too large, at {name}")
                    whole.update(part)
                    copy.write(part)
                os.fchmod(copy.fileno(), 0o644)
            found[name] = whole.hexdigest()
    except OSError as error:
        raise ValueError(f"what was made cannot be taken over: {error}") from error
    finally:
        os.close(folder)
    return found


@contextlib.contextmanager
def locked(path: str | Path) -> Iterator[None]:
    """Hold a lock while the body runs; a second run waits. The kernel drops it with its process, so none is stale.

    Args:
        path: the lock file; it is made when missing.

    Raises:
        OSError: the file cannot be made.

    Example:
        >>> with locked("/tmp/example.lock"):
        ...     pass
    """
    # Whoever can open a lock file can hold it.
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600), "w") as file:  # noqa: PTH123
        os.fchmod(file.fileno(), 0o600)
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def run(
    argv: list[str], *, cwd: str | Path | None = None, env: dict[str, str] | None = None, timeout: int = 600
) -> str:
    """Run a command and return what it printed on stdout.

    Args:
        argv: the command and its arguments; no shell reads them. Never a secret: every user sees them.
        cwd: directory to run it in.
        env: variables over those of this process.
        timeout: seconds until it is killed.

    Returns:
        The text on stdout.

    Raises:
        CommandExecutionError: it is missing, took too long, printed too much or failed; with the last lines it printed.

    Example:
        >>> run(["echo", "hello"])
        'hello\\n'
    """
    what = " ".join(argv[:3])
    code, out, err, problem = bounded(argv, cwd=cwd, env=env, timeout=timeout)
    printed, said = _text(out), _text(err)
    if problem or code:
        last = "\n".join((printed + said).strip().splitlines()[-20:])
        raise CommandExecutionError(f"{what} ...: {problem or f'exit code {code}'}\n{last}".rstrip())
    return printed


def bounded(
    argv: list[str],
    *,
    cwd: str | Path | None = None,
    env: dict[str, str] | None = None,
    timeout: float | None = None,
    together: bool = False,
) -> tuple[int, bytes, bytes, str]:
    """Run a command and keep what it prints, up to MOST_PRINTED: an app's code could fill root's memory.

    Args:
        argv: the command and its arguments. Never a secret.
        cwd: directory to run it in.
        env: variables over those of this process.
        timeout: seconds until it is killed; None: it bounds itself.
        together: whether stderr is kept in stdout, in the order in which things were printed.

    Returns:
        Exit code, stdout, stderr, and the bound that it broke: then it has been killed, and what systemd started for
        it may still run.

    Raises:
        CommandExecutionError: it is missing.

    Example:
        >>> bounded(["echo", "hello"])
        (0, b'hello\\n', b'', '')
    """
    try:
        process = subprocess.Popen(
            argv,
            cwd=cwd,
            env={**os.environ, **(env or {})},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT if together else subprocess.PIPE,
            close_fds=False,  # Python's own are closed anyway; what is inheritable is a lock (applock.py)
        )
    except FileNotFoundError as error:
        raise CommandExecutionError(
            f"{' '.join(argv[:3])} ...: {error.filename} does not exist on this host"
        ) from error
    kept: dict[Any, bytearray] = {pipe: bytearray() for pipe in (process.stdout, process.stderr) if pipe}
    with process:
        try:
            problem = _keep(kept, timeout)
            if not problem:
                process.wait(timeout)
        except subprocess.TimeoutExpired:
            problem = f"not done after {timeout} seconds"
        finally:
            if process.poll() is None:
                process.kill()
    out, err = bytes(kept[process.stdout]), bytes(kept.get(process.stderr, b""))
    return process.returncode, out, err, problem


def _keep(kept: dict[Any, bytearray], timeout: float | None) -> str:
    """Read pipes to their ends; return that one has no end in sight."""
    until = None if timeout is None else time.monotonic() + timeout
    with selectors.DefaultSelector() as selector:
        for pipe in kept:
            selector.register(pipe, selectors.EVENT_READ)
        while selector.get_map():
            left = None if until is None else until - time.monotonic()
            if left is not None and left <= 0:
                return f"not done after {timeout} seconds"
            for key, _ in selector.select(left):
                part = os.read(key.fd, 1 << 16)
                if not part:
                    selector.unregister(key.fileobj)
                kept[key.fileobj] += part
                if len(kept[key.fileobj]) > MOST_PRINTED:
                    return f"it printed more than {MOST_PRINTED} bytes"
    return ""


def _text(printed: bytes) -> str:
    return printed.decode(errors="replace").replace("\r\n", "\n").replace("\r", "\n")


def uv() -> str:
    """Return the path of uv in Salt's own environment; over salt-ssh another Python runs this.

    Raises:
        CommandExecutionError: it is not there.

    Example:
        >>> uv()  # needs what bin/bootstrap installs  # doctest: +SKIP
        '/opt/saltern/salt/bin/uv'
    """
    for path in (Path(sys.executable).with_name("uv"), Path("/opt/saltern/salt/bin/uv")):
        if os.access(path, os.X_OK):
            return str(path)
    raise CommandExecutionError(
        f"uv is neither beside {sys.executable} nor in /opt/saltern/salt/bin: bin/bootstrap installs it with Salt"
    )
