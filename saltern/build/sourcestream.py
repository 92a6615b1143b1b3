"""What root makes of what a reader (``sourcewalk``) prints: checks it, hashes it, packs it. It believes none of it.

A source is a set of plain files and links. No name leads out of it, no link does, none lies behind a link, and their
number and size are bounded. So what is packed here can be unpacked anywhere without following anything.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import io
import json
import os
import pwd
import re
import stat
import tarfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

MOST_FILES = 100_000
LONGEST_LINE = 32 * 1024 * 1024  # the last one holds the texts
LONGEST_NAME = 1000
MOST_LINKS = 40
KINDS = ("file", "program", "link")


# --- pure ---------------------------------------------------------------------------------------------------


def entries(stream: BinaryIO, contents: bool, most_bytes: int) -> Iterator[dict[str, Any]]:
    """Read what a reader has printed, one file after the other, and its end.

    Args:
        stream: what it printed.
        contents: whether each file's bytes stand behind its line.
        most_bytes: of all files together.

    Yields:
        ``name``, ``kind``, ``target`` of a link, ``size`` and ``sha256`` of a file; with contents ``data``, its bytes.
        At last ``end``, with ``commit`` and ``texts``.

    Raises:
        ValueError: it is not what a reader prints, or names what no source may hold.

    Example:
        >>> stream = io.BytesIO(b'{"end": true, "commit": "none", "texts": {}}\\n')
        >>> [entry["commit"] for entry in entries(stream, False, 1000)]
        ['none']
    """
    left = most_bytes
    for _ in range(MOST_FILES + 1):
        line = stream.readline(LONGEST_LINE)
        if not line.endswith(b"\n"):
            raise ValueError("its reader ended too early")
        found = json.loads(line)
        if not isinstance(found, dict):
            raise ValueError("its reader said what no reader says")
        if found.get("end") is True:
            texts = found.get("texts")
            if stream.read(1) or not isinstance(texts, dict) or not all(isinstance(one, str) for one in texts.values()):
                raise ValueError("its reader said more than its end")
            commit = found.get("commit")
            if not isinstance(commit, str) or not re.fullmatch(r"none|[0-9a-f]{40,64}(-dirty)?", commit):
                raise ValueError("its reader told no commit")
            yield {"end": True, "commit": commit, "texts": texts}
            return
        entry = _entry(found)
        if entry["kind"] != "link":
            left -= entry["size"]
            if left < 0:
                raise ValueError(f"it is larger than {most_bytes >> 20} MiB (builder.source_max_mb)")
            if contents:
                data = stream.read(entry["size"])
                if len(data) != entry["size"]:
                    raise ValueError("its reader ended too early")
                entry |= {"data": data, "sha256": hashlib.sha256(data).hexdigest()}
        yield entry
    raise ValueError(f"it holds more than {MOST_FILES} files")


def _entry(found: dict[str, Any]) -> dict[str, Any]:
    name, kind = found.get("name"), found.get("kind")
    if kind not in KINDS or not isinstance(name, str):
        raise ValueError("its reader said what no reader says")
    check_name(name)
    if kind == "link":
        target = found.get("target")
        if not isinstance(target, str) or len(target) > LONGEST_NAME or re.search(r"[\x00-\x1f\x7f]", target):
            raise ValueError(f"{name} is a link to something that has no name")
        target.encode()
        return {"name": name, "kind": kind, "target": target}
    size, digest = found.get("size"), found.get("sha256", "")
    if type(size) is not int or size < 0 or not isinstance(digest, str):
        raise ValueError("its reader said what no reader says")
    return {"name": name, "kind": kind, "size": size, "sha256": digest}


def check_name(name: str) -> None:
    """Raise unless a name is a path beneath the source that every system and every terminal takes.

    Args:
        name: the path.

    Raises:
        ValueError: it is not; the message says why.

    Example:
        >>> check_name("notes/views.py")
    """
    shown = ascii(name)[1:-1]
    try:
        long = len(name.encode()) > LONGEST_NAME
    except UnicodeEncodeError:
        raise ValueError(f"{shown}: its name is not UTF-8") from None
    if long:
        raise ValueError(f"{shown[:80]}...: its name is longer than {LONGEST_NAME} bytes")
    if re.search(r"[\x00-\x1f\x7f-\x9f]", name):
        raise ValueError(f"{shown}: its name has a control character")
    if {"", ".", ".."} & {*name.split("/")}:
        raise ValueError(f"{shown} is not a path beneath the source")


def check_links(links: dict[str, str], names: Iterable[str]) -> None:
    """Raise when a link leads out of the source, by itself or by others, or when a name lies behind a link or a file.

    Args:
        links: target of each link, by name.
        names: all names, the links' included.

    Raises:
        ValueError: one does; it is named.

    Example:
        >>> check_links({"a/link": "../b"}, ["a/link", "b"])
    """
    every = list(names)
    taken = set(every)
    if len(taken) != len(every):
        raise ValueError("it has two files of one name")
    for name in every:
        parts = name.split("/")
        for number in range(1, len(parts)):
            if (way := "/".join(parts[:number])) in taken:
                raise ValueError(f"{name} lies behind {way}, which is no folder")
    for name, target in links.items():
        if not _stays(name, links):
            raise ValueError(f"{name} is a link to {target}, outside the source: put the file itself there")


def _stays(name: str, links: dict[str, str]) -> bool:
    """Follow a link as the kernel would, step by step, and never beyond the top."""
    place: list[str] = []
    parts, followed = name.split("/"), 0
    while parts:
        part = parts.pop(0)
        if part in ("", "."):
            continue
        if part == "..":
            if not place:
                return False
            place.pop()
            continue
        place.append(part)
        if (target := links.get("/".join(place))) is not None:
            followed += 1
            if target.startswith("/"):
                return False
            if followed > MOST_LINKS:
                return True  # it turns in a circle, and leads nowhere
            place.pop()
            parts = [*target.split("/"), *parts]
    return True


def tree_hash(found: Iterable[dict[str, Any]]) -> str:
    """Return the hash of a source: names, contents and the executable bit; no times, no owners.

    Args:
        found: ``name`` and ``kind`` of each file, and its ``sha256`` or ``target``.

    Raises:
        ValueError: links lead out of it; see ``check_links``.

    Example:
        >>> len(tree_hash([{"name": "manage.py", "kind": "file", "sha256": "ab"}]))
        64
    """
    every = sorted(found, key=lambda entry: str(entry["name"]))
    check_links({one["name"]: one["target"] for one in every if one["kind"] == "link"}, [one["name"] for one in every])
    whole = hashlib.sha256()
    for one in every:
        link = one["kind"] == "link"
        digest = hashlib.sha256(one["target"].encode()).hexdigest() if link else one["sha256"]
        whole.update(f"{one['name']}\0{one['kind']}\0{digest}\n".encode())
    return whole.hexdigest()


def read(stream: BinaryIO, most_bytes: int) -> dict[str, Any]:
    """Return what a reader told of a source without its bytes.

    Args:
        stream: what it printed.
        most_bytes: of all files together.

    Returns:
        ``tree``, the hash; ``commit``; ``texts``.

    Raises:
        ValueError: see ``entries`` and ``tree_hash``.
    """
    every = list(entries(stream, False, most_bytes))
    end = every.pop()
    return {"tree": tree_hash(every), "commit": end["commit"], "texts": end["texts"]}


def pack(stream: BinaryIO, archive: str | Path, most_bytes: int) -> dict[str, Any]:
    """Pack a source that a reader has told into a .tar.gz whose bytes depend on its contents only.

    Args:
        stream: what it printed, bytes and all.
        archive: the file to write.
        most_bytes: of all files together.

    Returns:
        As ``read``.

    Raises:
        ValueError: see ``entries`` and ``tree_hash``; the archive must not be used then.
    """
    every: list[dict[str, Any]] = []
    end: dict[str, Any] = {}
    with (
        Path(archive).open("wb") as raw,
        gzip.GzipFile(filename="", mode="wb", fileobj=raw, mtime=0) as zipped,
        tarfile.open(fileobj=zipped, mode="w", format=tarfile.PAX_FORMAT) as tar,
    ):
        for one in entries(stream, True, most_bytes):
            if one.get("end"):
                end = one
                continue
            member = tarfile.TarInfo(one["name"])
            if one["kind"] == "link":
                member.type, member.linkname = tarfile.SYMTYPE, one["target"]
                tar.addfile(member)
            else:
                data = one.pop("data")
                member.size, member.mode = len(data), 0o755 if one["kind"] == "program" else 0o644
                tar.addfile(member, io.BytesIO(data))
            every.append(one)
    return {"tree": tree_hash(every), "commit": end["commit"], "texts": end["texts"]}


def encoded(found: dict[str, Any]) -> str:
    """Write down what ``read`` answered, as text; ``decoded`` reads it.

    Example:
        >>> decoded(encoded({"texts": {"a": "b"}}))
        {'texts': {'a': 'b'}}
    """
    texts = {
        name: base64.b64encode(text.encode("utf-8", "surrogateescape")).decode()
        for name, text in found["texts"].items()
    }
    return json.dumps(found | {"texts": texts}, sort_keys=True)


def decoded(text: str) -> dict[str, Any]:
    """Read what ``encoded`` has written."""
    found: dict[str, Any] = json.loads(text)
    found["texts"] = {
        name: base64.b64decode(text).decode("utf-8", "surrogateescape") for name, text in found["texts"].items()
    }
    return found


# --- on the host --------------------------------------------------------------------------------------------


def reader(directory: str | Path, user: str) -> dict[str, Any]:
    """Return who reads a source directory, and what of the disk he sees: walls of a sandbox.

    Whoever can change a part of its path, or what Git runs in it, reads it himself, and sees what he sees anyway. What
    is root's alone the app's build user reads, out of a view of the disk that holds nothing else.

    Args:
        directory: an absolute path.
        user: the app's build user; nothing: one that exists for this run alone.

    Returns:
        Arguments for ``sandbox.run``.

    Raises:
        OSError: it is not there, or is no directory.

    Example:
        >>> reader("/usr/share", "build-demo")["user"]
        'build-demo'
    """
    owner, shared, real = _owner(Path(directory))
    if owner:
        try:
            person = pwd.getpwuid(owner)
        except KeyError:  # a number without a name on this host: systemd cannot be told it
            return {"user": user, "closed": False}
        return {"user": person.pw_name, "closed": False}
    if shared:
        return {"user": user, "closed": False}
    metadata, trusted = _repository(Path(real))
    found = {"user": user, "closed": True, "reads": [real, *metadata]}
    return found | ({"capability": "CAP_DAC_READ_SEARCH"} if trusted else {})


def _owner(path: Path) -> tuple[int, bool, str]:
    """Return who can change what a path means: the first owner who is not root, or several; and where it leads."""
    parts, place, shared, followed = [*path.parts[1:]], Path("/"), False, 0
    about = place.lstat()
    while True:
        if about.st_uid:
            return about.st_uid, shared, str(path)
        if about.st_mode & 0o022 and not about.st_mode & stat.S_ISVTX:
            shared = True
        if not parts:
            if not stat.S_ISDIR(about.st_mode):
                raise NotADirectoryError(f"{path} is not a directory")
            return 0, shared, str(place)
        part = parts.pop(0)
        if part == "..":
            place = place.parent
            about = place.lstat()
            continue
        beneath = place / part
        about = beneath.lstat()
        if stat.S_ISLNK(about.st_mode):
            if about.st_uid:
                return about.st_uid, shared, str(path)
            followed += 1
            if followed > MOST_LINKS:
                raise OSError(f"{path}: too many links")
            target = beneath.readlink()
            parts = [*(target.parts[1:] if target.is_absolute() else target.parts), *parts]
            place = Path("/") if target.is_absolute() else place
            about = place.lstat()
            continue
        place = beneath


def _repository(directory: Path) -> tuple[list[str], bool]:
    """Return where Git keeps what it knows of a directory that is root's, and whether that is root's, too."""
    for folder in (directory, *directory.parents):
        place = folder / ".git"
        try:
            about = place.lstat()
        except OSError:
            continue
        if not _is_roots(place):
            return [], False
        if stat.S_ISDIR(about.st_mode):
            return [str(place)], True
        if not stat.S_ISREG(about.st_mode) or about.st_size > LONGEST_NAME:
            return [], False
        # A worktree: the file names its own part, which names the whole.
        own = Path(os.path.normpath(folder / place.read_text().removeprefix("gitdir:").strip()))
        found = [place, own]
        if (common := own / "commondir").is_file() and _is_roots(common) and common.stat().st_size < LONGEST_NAME:
            found.append(Path(os.path.normpath(own / common.read_text().strip())))
        return [str(one) for one in found], all(_is_roots(one) for one in found)
    return [], True


def _is_roots(path: Path) -> bool:
    try:
        for one in (path, *path.parents):
            about = one.lstat()
            if about.st_uid or (about.st_mode & 0o022 and not about.st_mode & stat.S_ISVTX):
                return False
            if stat.S_ISLNK(about.st_mode):
                return False
    except OSError:
        return False
    return True
