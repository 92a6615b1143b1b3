"""Reads a source directory: what belongs to it, as Git sees it, and each file's hash or bytes. Runs in a sandbox.

This file is a whole program of its own: root gives its text to Debian's Python in a sandbox, which runs it as the
source's owner or as the app's build user (``sourcestream.reader`` says which). What it prints is read by
``sourcestream``, which believes none of it.

No path is followed: each folder and each file is opened beneath the one before it, and a link in between is an error.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import stat
import subprocess
import sys
from typing import Any, BinaryIO

# Where there is no Git to say what belongs to the source.
LEFT_OUT = {".git", "__pycache__", ".venv", "node_modules"}
DEEPEST = 100  # folders in each other
MOST_LINKS = 40  # followed for one text, as the kernel does
MOST_TEXT = 16 * 1024 * 1024
GIT_SECONDS = 60
# Whatever the repository's own configuration says: it names programs, and all of this is asked for without them.
GIT = ("--no-optional-locks", "-c", "safe.directory=*", "-c", "core.fsmonitor=false", "-c", "core.hooksPath=/dev/null")
# What root has put before a build user is mounted piece by piece.
QUIET = {
    "GIT_DISCOVERY_ACROSS_FILESYSTEM": "1",
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_TERMINAL_PROMPT": "0",
    "HOME": "/",
}


class Unfit(Exception):
    """The source holds something that no source may hold; the message names it."""


def program() -> str:
    """Return the text of this program.

    Example:
        >>> program().startswith('\"\"\"Reads a source directory')
        True
    """
    with open(__file__, encoding="utf-8") as file:  # noqa: PTH123 - this program starts without pathlib, 10 ms sooner
        return file.read()


def listed(source: str) -> list[str] | None:
    """Return what belongs to the source as Git sees it, tracked and new but not ignored; None without Git.

    Args:
        source: the directory.
    """
    try:
        found = _git(source, "ls-files", "-z", "--cached", "--others", "--exclude-standard").split("\0")
    except OSError:
        return None
    return sorted({name for name in found if name}) or None


def commit(source: str) -> str:
    """Return the commit of the source, ``-dirty`` behind it where files differ; ``none`` without Git.

    Args:
        source: the directory.
    """
    try:
        found = _git(source, "rev-parse", "HEAD").strip()
        dirty = _git(source, "status", "--porcelain", "--", ".").strip()
    except OSError:
        return "none"
    return f"{found}-dirty" if dirty else found


def walked(root: int, everything: bool) -> list[str]:
    """Return all files below a directory, but for LEFT_OUT.

    Args:
        root: the open directory.
        everything: LEFT_OUT, too.
    """
    found: list[str] = []
    left_out = set() if everything else LEFT_OUT
    for folder, folders, names, handle in os.fwalk(".", dir_fd=root):
        if folder.count("/") > DEEPEST:
            raise Unfit(f"{_told(folder)}: more than {DEEPEST} folders in each other")
        links = [name for name in folders if stat.S_ISLNK(os.lstat(name, dir_fd=handle).st_mode)]
        folders[:] = [name for name in folders if name not in left_out and name not in links]
        for name in [*names, *links]:
            if everything or (name not in left_out and not name.endswith(".pyc")):
                found.append(os.path.normpath(os.path.join(folder, name)))  # noqa: PTH118
    return sorted(found)


def opened(root: int, name: str) -> tuple[int, str]:
    """Open the folder of a file, beneath the source and through no link.

    Args:
        root: the open source directory.
        name: path of the file below it.

    Returns:
        The open folder, to be closed, and the file's own name.

    Raises:
        Unfit: a part of the path is a link.
        FileNotFoundError: it is not there.
    """
    *folders, last = name.split("/")
    if last in ("", ".", "..") or {"", ".", ".."} & {*folders}:
        raise Unfit(f"{_told(name)} is not a path beneath the source")
    handle = os.dup(root)
    for number, folder in enumerate(folders):
        try:
            inner = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=handle)
        except OSError as error:
            if error.errno in (errno.ENOTDIR, errno.ELOOP):
                way = "/".join(folders[: number + 1])
                raise Unfit(f"{_told(name)} would be read through {_told(way)}, which is no folder") from None
            raise
        finally:
            os.close(handle)
        handle = inner
    return handle, last


def entry(root: int, name: str, privileged: bool) -> tuple[str, str, BinaryIO | None]:
    """Return what a file is.

    Args:
        root: the open source directory.
        name: path of the file below it.
        privileged: whether this process reads more than its user may.

    Returns:
        ``file``, ``program`` or ``link``; the link's target; the open file.

    Raises:
        Unfit: it is neither, or a second name of a file that is not everybody's.
        FileNotFoundError: it is not there.
    """
    handle, last = opened(root, name)
    try:
        about = os.lstat(last, dir_fd=handle)
        if stat.S_ISLNK(about.st_mode):
            return "link", os.readlink(last, dir_fd=handle), None
        if not stat.S_ISREG(about.st_mode):
            raise Unfit(f"{_told(name)} is neither a file nor a link: a source holds only these")
        # A FIFO may have taken its place since; opening must not wait for somebody to write to it.
        inner = os.open(last, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC, dir_fd=handle)
    finally:
        os.close(handle)
    about = os.fstat(inner)
    problem = "" if stat.S_ISREG(about.st_mode) else "changed while it was being read"
    if privileged and about.st_nlink > 1 and not about.st_mode & 0o004:
        problem = "is a second name of a file that not everybody may read: put a copy there"
    if problem:
        os.close(inner)
        raise Unfit(f"{_told(name)} {problem}")
    return ("program" if about.st_mode & 0o100 else "file"), "", os.fdopen(inner, "rb")


def text(root: int, name: str) -> bytes | None:
    """Return the bytes of a file, through links as long as they stay beneath the source; None when it is not there.

    Args:
        root: the open source directory.
        name: path of the file below it.

    Raises:
        Unfit: a link leads out of the source, or the file is too large.
    """
    place: list[str] = []
    parts, links = name.split("/"), 0
    while parts:
        part = parts.pop(0)
        if part in ("", "."):
            continue
        if part == "..":
            if not place:
                raise Unfit(f"{_told(name)} leads out of the source")
            place.pop()
            continue
        try:
            handle, last = opened(root, "/".join([*place, part]))
        except (FileNotFoundError, NotADirectoryError):
            return None
        try:
            mode = os.lstat(last, dir_fd=handle).st_mode
            target = os.readlink(last, dir_fd=handle) if stat.S_ISLNK(mode) else None
        except FileNotFoundError:
            return None
        finally:
            os.close(handle)
        if target is None:
            place.append(part)
            continue
        links += 1
        if links > MOST_LINKS or target.startswith("/"):
            raise Unfit(f"{_told(name)} is a link to {_told(target)}, outside the source")
        parts = [*target.split("/"), *parts]
    try:
        kind, _, file = entry(root, "/".join(place), False)
    except FileNotFoundError:
        return None
    if file is None:
        raise Unfit(f"{_told(name)} changed while it was being read ({kind})")
    with file:
        found = file.read(MOST_TEXT + 1)
    if len(found) > MOST_TEXT:
        raise Unfit(f"{_told(name)} has more than {MOST_TEXT} bytes")
    return found


def tell(source: str, asked: dict[str, Any], out: BinaryIO) -> None:
    """Print the whole source: a line of JSON for each file, its bytes behind it when they are asked for, and an end.

    Args:
        source: the directory.
        asked: ``everything``: without Git and leaving nothing out; ``texts``: names of files to tell at the end;
            ``contents``: whether bytes are asked for; ``privileged``; ``most_files``, ``most_bytes``: bounds.
        out: where to.

    Raises:
        Unfit: see ``entry``; or a bound is reached.
    """
    root = os.open(source, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    by_git = None if asked["everything"] else listed(source)
    names = by_git or walked(root, asked["everything"])
    if len(names) > asked["most_files"]:
        raise Unfit(f"it holds {len(names)} files; {asked['most_files']} are allowed")
    left = asked["most_bytes"]
    for name in names:
        try:
            kind, target, file = entry(root, name, asked["privileged"])
        except FileNotFoundError:
            if by_git:  # a tracked file may be gone from the folder
                continue
            raise Unfit(f"{_told(name)} went away while it was being read") from None
        about: dict[str, Any] = {"name": name, "kind": kind}
        if file is None:
            _print(out, about | {"target": target})
            continue
        with file:
            size = os.fstat(file.fileno()).st_size
            left -= size
            if left < 0:
                raise Unfit(f"it is larger than {asked['most_bytes'] >> 20} MiB (builder.source_max_mb)")
            if asked["contents"]:
                _print(out, about | {"size": size})
            digest = _copy(file, size, out if asked["contents"] else None, name)
            if not asked["contents"]:
                _print(out, about | {"size": size, "sha256": digest})
    texts = {name: found.decode("utf-8", "surrogateescape") for name in asked["texts"] if (found := text(root, name))}
    empty = [name for name in asked["texts"] if text(root, name) == b""]
    end = {"end": True, "texts": texts | dict.fromkeys(empty, "")}
    _print(out, end | {"commit": "none" if asked["everything"] else commit(source)})


def _copy(file: BinaryIO, size: int, out: BinaryIO | None, name: str) -> str:
    whole, left = hashlib.sha256(), size
    while left:
        part = file.read(min(left, 1 << 20))
        if not part:
            raise Unfit(f"{_told(name)} changed while it was being read")
        left -= len(part)
        whole.update(part)
        if out:
            out.write(part)
    if file.read(1):
        raise Unfit(f"{_told(name)} changed while it was being read")
    return whole.hexdigest()


def _print(out: BinaryIO, line: dict[str, Any]) -> None:
    out.write(json.dumps(line).encode() + b"\n")


def _told(name: str) -> str:
    return ascii(name)[1:-1]


def _git(source: str, *arguments: str) -> str:
    argv = ["git", *GIT, "-C", source, *arguments]
    # PATH is systemd's; what the reader's own variables say does not count.
    env = {"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8", **QUIET}
    try:
        done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, env=env, timeout=GIT_SECONDS)
    except subprocess.TimeoutExpired:
        raise Unfit(f"git {arguments[0]} took more than {GIT_SECONDS} seconds") from None
    if done.returncode:
        raise OSError(done.stderr.decode(errors="replace"))
    return os.fsdecode(done.stdout)


def main() -> int:
    """Read as it is asked to by its one argument; the exit code says whether all of it was told."""
    asked = json.loads(sys.argv[1])
    try:
        tell(asked["source"], asked, sys.stdout.buffer)
        sys.stdout.flush()
    except (Unfit, OSError, UnicodeError) as error:
        with contextlib.suppress(OSError):
            sys.stderr.write(f"{ascii(str(error))[1:-1]}\n")
        return 3
    return 0


if __name__ == "__main__" and len(sys.argv) == 2:
    sys.exit(main())
