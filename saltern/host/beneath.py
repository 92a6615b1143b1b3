"""Files below a directory that somebody else has filled: taken over by root, and written to, without following him.

Every step is taken by the handle of the folder before it and never by a path, so a link that is put in the way leads
nowhere. What is not a plain file, a folder or a link within the directory is refused, by its name.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path

SECOND_NAME = "has a second name"
OPEN_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# O_NONBLOCK: a pipe that nobody writes to must not be waited for.
OPEN_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


def leads_outside(place: str, target: str, allowed: Iterable[str] = ()) -> bool:
    """Return whether a symbolic link leads out of the directory that it is in.

    Args:
        place: the folder that the link is in, as a path from the directory: ``""``, ``src/shop``.
        target: what it names.
        allowed: absolute targets that are allowed, each by its beginning; none of their parts may be ``..``.

    Example:
        >>> leads_outside("src", "../lib/a"), leads_outside("src", "../../a"), leads_outside("", "/usr/bin/python3")
        (False, True, True)
    """
    parts = target.split("/")
    if target.startswith("/"):
        return ".." in parts or not any(target.startswith(one) for one in allowed)
    ups = 0
    while ups < len(parts) and parts[ups] in ("..", "."):
        ups += 1
    # ".." behind a name says nothing: the name may be a link itself.
    return ".." in parts[ups:] or parts[:ups].count("..") > len([part for part in place.split("/") if part])


def take_over(
    directory: str | Path, allowed: Iterable[str] = (), drop: bool = False, shared: bool = False
) -> list[str]:
    """Make all below a directory root's: readable for everybody who gets there, writable for root alone.

    Whoever filled it must have no processes any more. Set-user-ID bits and access lists go.

    Args:
        directory: the directory.
        allowed: as for ``leads_outside``; such links stay.
        drop: whether what is refused is deleted instead, links within the directory included.
        shared: whether its files may have second names elsewhere.

    Returns:
        Paths of all plain files, from the directory, in order.

    Raises:
        ValueError: something is there that is neither file nor folder, has a second name, or leads outside.
        OSError: it cannot be changed.

    Example:
        >>> take_over("/srv/apps/demo/releases/x/venv")  # needs root, and what it takes over  # doctest: +SKIP
        []
    """
    allowed, found, root = tuple(allowed), [], str(directory)
    for path, folders, files, handle in os.fwalk(root, follow_symlinks=False):
        place = os.path.relpath(path, root)
        place = "" if place == "." else place
        _make_ours(handle, 0o755)
        for name in [*folders, *files]:
            about = os.lstat(name, dir_fd=handle)
            if stat.S_ISDIR(about.st_mode):
                continue
            own = f"{place}/{name}" if place else name
            problem = _problem(name, handle, about, place, allowed, drop)
            if problem and not (shared and problem == SECOND_NAME):
                if not drop:
                    raise ValueError(f"{own!r} {problem}")
                os.unlink(name, dir_fd=handle)
                continue
            if stat.S_ISLNK(about.st_mode):
                os.chown(name, 0, 0, dir_fd=handle, follow_symlinks=False)
                continue
            with _opened(name, handle, OPEN_FILE) as file:
                _make_ours(file, 0o755 if about.st_mode & 0o100 else 0o644)
            found.append(own)
    return sorted(found)


def write(directory: str | Path, name: str, text: str, mode: int, group: int) -> None:
    """Write a whole file below a directory, and the folders that it needs; no link on the way is followed.

    Args:
        directory: the directory.
        name: path of the file from there.
        text: what it shall hold, written as UTF-8.
        mode: permission bits. No moment exists in which they are wider.
        group: number of the group that it is for; its owner is root.

    Raises:
        ValueError: the path leads out of the directory, or through something that is no folder.
        OSError: the file cannot be written.

    Example:
        >>> write("/srv/apps/demo/releases/x/src", "site.ini", "a=1", 0o640, 995)  # needs root  # doctest: +SKIP
    """
    *folders, last = name.split("/")
    if name.startswith("/") or not last or {"", ".", ".."} & {*folders, last}:
        raise ValueError(f"{name!r} is not a path below {directory}")
    with contextlib.ExitStack() as stack:
        handle = stack.enter_context(_opened(str(directory), None, OPEN_FOLDER))
        for folder in folders:
            with contextlib.suppress(FileExistsError):
                os.mkdir(folder, 0o755, dir_fd=handle)
            try:
                handle = stack.enter_context(_opened(folder, handle, OPEN_FOLDER))
            except NotADirectoryError:  # a link is none either, when it must not be followed
                raise ValueError(f"{name!r}: {folder!r} on its way is a link, or no folder") from None
        beside = f".{last}.{secrets.token_hex(8)}"
        file = os.open(
            beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=handle
        )
        try:
            with os.fdopen(file, "w", encoding="utf-8") as out:
                out.write(text)
                out.flush()
                os.fchown(out.fileno(), 0, group)
                os.fchmod(out.fileno(), mode)
                os.fsync(out.fileno())
            os.rename(beside, last, src_dir_fd=handle, dst_dir_fd=handle)
        except BaseException:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(beside, dir_fd=handle)
            raise


def _problem(
    name: str, handle: int, about: os.stat_result, place: str, allowed: tuple[str, ...], drop: bool
) -> str | None:
    if stat.S_ISLNK(about.st_mode):
        target = os.readlink(name, dir_fd=handle)
        if drop:
            return "is a link"
        return f"is a link to {target!r}, outside of it" if leads_outside(place, target, allowed) else None
    if not stat.S_ISREG(about.st_mode):
        return "is neither a file nor a folder nor a link"
    # Root's own with a second name are what releases share.
    return SECOND_NAME if about.st_nlink > 1 and about.st_uid != 0 else None


def _make_ours(handle: int, mode: int) -> None:
    about = os.fstat(handle)
    if (about.st_uid, about.st_gid) != (0, 0):
        os.fchown(handle, 0, 0)
    for name in os.listxattr(handle):
        if re.fullmatch(r"system\.posix_acl_.*|user\..*|security\.capability", name):
            os.removexattr(handle, name)
    if stat.S_IMODE(about.st_mode) != mode:
        os.fchmod(handle, mode)


@contextlib.contextmanager
def _opened(name: str, handle: int | None, flags: int) -> Iterator[int]:
    found = os.open(name, flags, dir_fd=handle)
    try:
        yield found
    finally:
        os.close(found)
