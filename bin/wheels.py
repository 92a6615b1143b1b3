"""Salt's wheels: collected by nobody in particular, and checked against the repository's lock before one is used."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shutil
import stat
from pathlib import Path

from debian import Refused, digest, run

NOBODY = 65534
# All processes of a namespace end with its first one: none of those that compiled is there when root takes the wheels.
AS_NOBODY = [
    *("unshare", "--pid", "--fork", "--kill-child=KILL", "--"),
    *("setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", "--no-new-privs", "--bounding-set=-all"),
]
# The only ones that the index has no wheel of, for some Debian: no other is taken that the lock has no hash of.
COMPILED = ("salt", "timelib")
WHEEL = re.compile(r"(?P<name>[^-]+)-(?P<version>[^-]+)(-\d[^-]*)?-[^-]+-[^-]+-[^-]+\.whl")
REQUIREMENT = re.compile(r"^(?P<name>[A-Za-z0-9._-]+)(\[[^]]*\])?==(?P<version>[^ ;\\]+)[^\\\n]*")


def collect(folder: Path, lock: Path) -> None:
    """Have pip bring every wheel of a lock into `folder`, with a requirements.txt that names the hash of each.

    What has no wheel is compiled, by code that it brings itself: as nobody, who owns nothing else and cannot become
    root. He could change the other wheels, too; so they are looked at again, by root, in a folder of root's.

    Args:
        folder: has an environment in venv/, which goes when it has done its work.
        lock: a requirements file with hashes.

    Raises:
        Refused: pip failed, or a wheel is not what the lock says.
    """
    work = folder / "work"
    work.mkdir(mode=0o700)
    shutil.copy(lock, work / "lock.txt")  # a clone below /root cannot be read by nobody
    os.chown(work, NOBODY, NOBODY)
    os.chown(work / "lock.txt", NOBODY, NOBODY)
    pip = [
        str(folder / "venv/bin/python"),
        "-m",
        "pip",
        "wheel",
        "--quiet",
        "--disable-pip-version-check",
        "--no-cache-dir",
    ]
    own = {"HOME": str(work), "TMPDIR": str(work), "PATH": "/usr/bin:/bin"}
    kept = {
        name: value for name, value in os.environ.items() if name.lower().endswith("_proxy") or name.startswith("PIP_")
    }
    run(
        [*AS_NOBODY, *pip, "--require-hashes", "-r", str(work / "lock.txt"), "-w", str(work / "wheels")],
        cwd=work,
        env={**kept, **own, "LANG": "C.UTF-8"},
    )
    fetch(work / "wheels", folder)
    shutil.rmtree(work)
    lines = [f"./{wheel.name} --hash=sha256:{digest(wheel, length=64)}\n" for wheel in sorted(folder.glob("*.whl"))]
    (folder / "requirements.txt").write_text("".join(lines))
    shutil.rmtree(folder / "venv")
    check(folder, lock, None)


def fetch(filled: Path, folder: Path) -> None:
    """Copy all files of a folder that somebody else has filled; what is looked at is what is copied.

    Args:
        filled: the folder; its parent may be that user's, too.
        folder: a folder of root's.

    Raises:
        Refused: something there is no file, or is one that has a name elsewhere, too.
    """
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    with contextlib.ExitStack() as stack:
        place = filled
        try:
            handle = os.open(filled, flags | os.O_DIRECTORY)
            stack.callback(os.close, handle)
            for name in sorted(os.listdir(handle)):  # noqa: PTH208
                place = filled / name
                with os.fdopen(os.open(name, flags, dir_fd=handle), "rb") as file:
                    about = os.fstat(file.fileno())
                    if not stat.S_ISREG(about.st_mode) or about.st_nlink > 1:
                        raise OSError("it is no file, or has a second name")
                    with (folder / name).open("xb") as copy:
                        shutil.copyfileobj(file, copy)
        except OSError as error:
            raise Refused(f"{place} was put there by what compiled Salt's wheels: {error}") from None


def check(folder: Path, lock: Path, built: str | None) -> str:
    """Answer the requirements to install from `folder`: the repository's lock, and what was compiled.

    Nothing in the folder is believed but the hash of what was compiled, which no lock can know; that is told by the
    sum of all such wheels, which goes another way than the folder.

    Args:
        folder: wheels and a requirements.txt.
        lock: the repository's lock.
        built: what ``built_sum`` was where the wheels were collected; None: it is not known here.

    Raises:
        Refused: a file is a link, is not in the lock, was changed or is one too many; it is named.
    """
    known, compiled, told, text = _locked(lock), {}, _told(folder), lock.read_text()
    for path in sorted(folder.iterdir()):
        if path == folder / "requirements.txt":
            continue
        own, (name, version) = digest(_plain(path), length=64), _named(path)
        if (name, version) not in known:
            raise Refused(f"{path.name} in {folder} is not in {lock.name}: it does not belong there")
        line, hashes = known[name, version]
        if own in hashes:
            continue
        if name not in COMPILED or told.get(path.name) != own or name in compiled:
            raise Refused(f"{path.name} in {folder} has been changed: {lock.name} DOES NOT MATCH it")
        compiled[name] = path.name
        text = text.replace(line, f"{line.rstrip()} --hash=sha256:{own} ", 1)
    if built is not None and built != built_sum(folder, lock):
        raise Refused(f"{', '.join(sorted(compiled.values()))} in {folder}: not what  --built {built}  is the sum of")
    return text


def built_sum(folder: Path, lock: Path) -> str:
    """Answer the SHA-256 of names and hashes of the wheels that the lock does not know, for they were compiled."""
    known, lines = _locked(lock), []
    for path in sorted(folder.glob("*.whl")):
        own = digest(_plain(path), length=64)
        if own not in known.get(_named(path), ("", set()))[1]:
            lines.append(f"{path.name} {own}\n")
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def _plain(path: Path) -> Path:
    if not stat.S_ISREG(path.lstat().st_mode):
        raise Refused(f"{path.name} in {path.parent} is a link or no file: a wheelhouse holds wheels alone")
    return path


def _named(path: Path) -> tuple[str, str]:
    match = WHEEL.fullmatch(path.name)
    return (_normal(match["name"]), match["version"]) if match else (path.name, "")


def _locked(lock: Path) -> dict[tuple[str, str], tuple[str, set[str]]]:
    """Return how each package stands in the lock, and its hashes, by its name and version."""
    found: dict[tuple[str, str], tuple[str, set[str]]] = {}
    hashes: set[str] = set()
    for line in lock.read_text().splitlines():
        if match := REQUIREMENT.match(line):
            hashes = set()
            found[_normal(match["name"]), match["version"]] = (match[0], hashes)
        hashes |= set(re.findall(r"--hash=sha256:([0-9a-f]{64})", line))
    return found


def _told(folder: Path) -> dict[str, str]:
    lines = (folder / "requirements.txt").read_text().splitlines()
    pairs = [re.fullmatch(r"\./(\S+) --hash=sha256:([0-9a-f]{64})", line) for line in lines]
    return {pair[1]: pair[2] for pair in pairs if pair}


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
