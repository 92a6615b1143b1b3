"""One deploy at a time: a lock that tells who holds it, and that nobody has to clear.

It is a flock(2), which the kernel drops when its holder ends, however it ends: there is no pid to look up that may
meanwhile be somebody else's, and nothing that a reboot leaves behind. The commands that a holder runs inherit it, so
an installer that outlives a killed Salt still keeps others out of the directory that it writes to. Two things flock
has not, and they are here: the file says who holds it, and a holder that hangs beyond its time loses it.
"""

from __future__ import annotations

import contextlib
import datetime
import fcntl
import getpass
import json
import logging
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

from salt.exceptions import CommandExecutionError

log = logging.getLogger(__name__)

WAIT_SECONDS = 120  # longer than a warm deploy, shorter than a person's patience
TELL_SECONDS = 10  # between two log lines of one who waits


@contextlib.contextmanager
def hold(path: str | Path, what: str, seconds: int, wait: float | None = None) -> Iterator[Callable[[], None]]:
    """Hold a lock while the body runs; a second one waits, and is told who holds it when that takes too long.

    Args:
        path: the lock file; it is made when missing.
        what: what is done meanwhile, for those who wait.
        seconds: after which the holder counts as hung and loses the lock.
        wait: seconds to wait for another holder; None: WAIT_SECONDS.

    Yields:
        A function that raises when the lock was lost. Call it before a step that two must not do.

    Raises:
        CommandExecutionError: somebody else holds it for longer than ``wait``.
        OSError: the file cannot be made.

    Example:
        >>> with hold("/tmp/example.lock", "an example", 60) as still_held:
        ...     still_held()
    """
    path = Path(path)
    file = _acquire(path, WAIT_SECONDS if wait is None else wait)
    try:
        file.seek(0)
        file.truncate()
        file.write(json.dumps(_owner(what, seconds)))
        file.flush()

        def still_held() -> None:
            if not _is(file, path):
                raise CommandExecutionError(
                    f"{what}: this took more than {seconds} seconds and has lost the lock {path}; "
                    "somebody else is at work now, so nothing more was done here"
                )

        yield still_held
    finally:
        # Emptied, not removed: a file that others wait for must stay the same file.
        with contextlib.suppress(OSError):
            file.truncate(0)
            fcntl.flock(file, fcntl.LOCK_UN)
        file.close()


def holder(path: str | Path) -> dict[str, Any] | None:
    """Return who holds a lock, or None when nobody does.

    Args:
        path: the lock file.

    Returns:
        what, who, pid, started (clock ticks after boot), boot (its id), since, expires, and ``alive``: False when
        the holder was killed and only what it had started is still at work.

    Example:
        >>> holder("/nonexistent")
    """
    with contextlib.suppress(FileNotFoundError), Path(path).open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return _read(file)
    return None


def describe(owner: dict[str, Any] | None) -> str:
    """Say in a sentence who holds a lock.

    Args:
        owner: what ``holder`` answered.

    Example:
        >>> describe({"what": "rollback", "who": "ann", "pid": 7, "since": "12:00", "expires": "12:15", "alive": True})
        'rollback by ann, process 7, since 12:00 (expires 12:15)'
    """
    if not owner or "pid" not in owner:
        return "somebody who has not said who"  # between taking the lock and writing the name
    ended = "" if owner["alive"] else ", which has ended; what it started is still at work"
    return (
        f"{owner['what']} by {owner['who']}, process {owner['pid']}{ended}, since {owner['since']} "
        f"(expires {owner['expires']})"
    )


def _acquire(path: Path, wait: float) -> IO[str]:
    until, told = time.monotonic() + wait, -1e9
    while True:
        file = open(path, "a+", opener=_private)  # noqa: SIM115 - an opener; closed below, or by who holds it
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            owner = _read(file)
            file.close()
            if owner and owner.get("expires", "9") < _now():
                _take_away(path, owner)
            elif time.monotonic() > until:
                raise CommandExecutionError(f"{path} is held: {describe(owner)}. Waited {wait:g} seconds.") from None
            else:
                if time.monotonic() - told > TELL_SECONDS:
                    told = time.monotonic()
                    log.warning("waiting for %s, up to %d seconds: %s", path, until - told, describe(owner))
                time.sleep(0.1)
            continue
        if _is(file, path):
            os.set_inheritable(file.fileno(), True)
            return file
        file.close()  # it was taken away from a hung holder while we waited: wait for the new file


def _private(path: str, flags: int) -> int:
    """Whoever can open a lock can hold it, so root alone can; also one that was made with another mode once."""
    handle = os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    os.fchmod(handle, 0o600)
    return handle


def _take_away(path: Path, owner: dict[str, Any]) -> None:
    """Put a new file in the place of one whose holder hangs; of two who do this, one does."""
    with open(path.with_name(f"{path.name}.expired"), "a", opener=_private) as guard:
        fcntl.flock(guard, fcntl.LOCK_EX)
        with path.open() as file:
            if _read(file) != owner:
                return
        log.warning("taking %s away, its time is over: %s", path, describe(owner))
        fresh = path.with_name(f"{path.name}.new")
        fresh.unlink(missing_ok=True)
        fresh.touch(0o600)
        fresh.replace(path)


def _is(file: IO[str], path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


def _read(file: IO[str]) -> dict[str, Any]:
    file.seek(0)
    try:
        owner: dict[str, Any] = json.loads(file.read())
    except ValueError:
        return {}
    alive = owner.get("boot") == _boot() and owner.get("started") == _started(owner.get("pid", 0))
    return owner | {"alive": alive}


def _owner(what: str, seconds: int) -> dict[str, Any]:
    return {
        "what": what,
        "who": os.environ.get("SUDO_USER") or getpass.getuser(),
        "pid": os.getpid(),
        "started": _started(os.getpid()),
        "boot": _boot(),
        "since": _now(),
        "expires": _now(seconds),
    }


def _now(later: int = 0) -> str:
    moment = datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=later)
    return moment.isoformat(timespec="seconds")


def _boot() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def _started(pid: int) -> int | None:
    """When a process started, which tells it from a later one with its number (proc(5): field 22)."""
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])
    except (FileNotFoundError, ProcessLookupError):
        return None
