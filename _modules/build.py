"""Builds: an app's source and all of its wheels, with hashes, made once and installed anywhere without an index.

A build's id is a pure function of its input: the same input is the same build, on whatever host and day.
"""

from __future__ import annotations

import contextlib
import datetime
import getpass
import gzip
import hashlib
import io
import json
import os
import platform
import re
import shutil
import stat
import subprocess
import tarfile
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from salt.exceptions import CommandExecutionError

BUILDS = Path("/var/lib/saltern/builds")
BIN = Path("/usr/bin")
# Changes when builds of the same input would come out differently, because this file has changed.
FORMAT = 2
# Where there is no Git to say what belongs to the source.
LEFT_OUT = {".git", "__pycache__", ".venv", "node_modules"}
# The one Python that a Debian release ships, for a plan on a host that has none yet.
DEBIAN_PYTHON = {"12": "3.11", "13": "3.13"}

# What the lock is called in a build's input as long as nobody has resolved it: a plan changes nothing.
UNRESOLVED = "unresolved"
# A tag or branch is looked up once for all states of an apply, which must agree on what they install.
LOOKED_UP_SECONDS = 300

WHEEL = re.compile(r"^(?P<name>[^-]+)-(?P<version>[^-]+)(-\d[^-]*)?-[^-]+-[^-]+-[^-]+\.whl$")


# --- pure ---------------------------------------------------------------------------------------------------


def build_id(tree: str, lock: str, python: str, debian: str) -> str:
    """Answers the id of the build that such input makes.

    Args:
        tree: hash of the source tree.
        lock: hash of the lock file.
        python: Python's version, such as ``3.13``.
        debian: Debian's release, such as ``13``.

    Returns:
        12 hex digits.

    Example:
        >>> build_id("aa", "bb", "3.13", "13")
        '6e7c4bb7ed6f'
    """
    text = json.dumps([FORMAT, tree, lock, python, debian])
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def wheel_requirements(hashes: dict[str, str]) -> str:
    """Writes the requirements file that installs exactly the given wheels.

    Args:
        hashes: SHA-256 of each wheel, by file name.

    Returns:
        The text, one line per wheel, in order of name.

    Raises:
        ValueError: a name is not a wheel's.

    Example:
        >>> wheel_requirements({"rpc4django-0.6.3-py3-none-any.whl": "ab12"})
        'rpc4django==0.6.3 --hash=sha256:ab12\\n'
    """
    lines = []
    for filename in sorted(hashes):
        match = WHEEL.match(filename)
        if not match:
            raise ValueError(f"{filename} is not the name of a wheel")
        name = re.sub(r"[-_.]+", "-", match["name"]).lower()
        lines.append(f"{name}=={match['version']} --hash=sha256:{hashes[filename]}\n")
    return "".join(lines)


def tree_hash(source: Path, files: Iterable[str]) -> str:
    """Answers the hash of a source tree: names, contents and the executable bit; no times, no owners.

    Args:
        source: its directory.
        files: paths below it.

    Raises:
        ValueError: a file is neither a plain file nor a link to something inside the source.

    Example:
        >>> len(tree_hash(Path("/srv/saltern/demo"), ["manage.py"]))
        64
    """
    whole = hashlib.sha256()
    for name in sorted(files):
        kind, content = _entry(source, name)
        whole.update(f"{name}\0{kind}\0{hashlib.sha256(content).hexdigest()}\n".encode())
    return whole.hexdigest()


def pack(source: Path, files: Iterable[str], archive: Path) -> None:
    """Packs files into a .tar.gz whose bytes depend on their contents only.

    Args:
        source: directory of the files.
        files: paths below it.
        archive: the file to write.

    Raises:
        ValueError: as for ``tree_hash``.

    Example:
        >>> pack(Path("/srv/saltern/demo"), ["manage.py"], Path("/tmp/src.tar.gz"))
    """
    with (
        archive.open("wb") as raw,
        gzip.GzipFile(filename="", mode="wb", fileobj=raw, mtime=0) as zipped,
        tarfile.open(fileobj=zipped, mode="w", format=tarfile.PAX_FORMAT) as tar,
    ):
        for name in sorted(files):
            kind, content = _entry(source, name)
            member = tarfile.TarInfo(name)
            if kind == "link":
                member.type, member.linkname = tarfile.SYMTYPE, content.decode()
                tar.addfile(member)
            else:
                member.size, member.mode = len(content), 0o755 if kind == "program" else 0o644
                tar.addfile(member, io.BytesIO(content))


def unpack(archive: Path, directory: Path) -> None:
    """Unpacks what ``pack`` made, into a new directory.

    Args:
        archive: the .tar.gz.
        directory: where to; it is made.

    Example:
        >>> unpack(Path("/tmp/src.tar.gz"), Path("/tmp/src"))
    """
    directory.mkdir(parents=True, exist_ok=True)  # a requirement has no source, so the archive may be empty
    with tarfile.open(archive) as tar:
        # Refuses paths and links that lead outside. Debian 12's Python 3.11.2 does not have it yet; there the
        # verified hash of the archive is all.
        tar.extraction_filter = getattr(tarfile, "data_filter", None)
        tar.extractall(directory)  # noqa: S202 - see above


def _entry(source: Path, name: str) -> tuple[str, bytes]:
    path = source / name
    mode = path.lstat().st_mode
    if stat.S_ISLNK(mode):
        target = str(path.readlink())
        if not (path.parent / target).resolve().is_relative_to(source.resolve()):
            raise ValueError(f"{path} is a link to {target}, outside the source: put the file itself there")
        return "link", target.encode()
    if not stat.S_ISREG(mode):
        raise ValueError(f"{path} is neither a file nor a link: a source holds only these")
    return ("program" if mode & 0o100 else "file"), path.read_bytes()


def _walk(source: Path, everything: bool = False) -> list[str]:
    found, left_out = [], set() if everything else LEFT_OUT
    for directory, folders, names in os.walk(source):
        links = [name for name in folders if Path(directory, name).is_symlink()]
        folders[:] = [name for name in folders if name not in left_out and name not in links]
        for name in [*names, *links]:
            if everything or (name not in left_out and not name.endswith(".pyc")):
                found.append(str(Path(directory, name).relative_to(source)))
    return found


# --- on the host --------------------------------------------------------------------------------------------


def python(app: str) -> str:
    """Answers the version of Python that an app runs on: what its file asks for, or Debian's own.

    Args:
        app: name of an app of this host.

    Returns:
        Such as ``3.13``; the interpreter is /usr/bin/python3.13.

    Raises:
        CommandExecutionError: the app's file asks for one that this host has not.

    Example:
        .. code-block:: bash

            salt-call build.python demo
    """
    if problem := python_missing(app, _settings(app)["python"]):
        raise CommandExecutionError(problem)
    return _settings(app)["python"] or _own_python()


def python_missing(app: str, asked: str | None) -> str:
    """Says that this host has not the Python that an app's file asks for; nothing when it has.

    Args:
        app: name of an app.
        asked: the version that it asks for, if any.

    Example:
        .. code-block:: bash

            salt-call build.python_missing demo 3.13
    """
    own = _own_python()
    if not asked or asked == own or (BIN / f"python{asked}").exists():
        return ""
    here = sorted({own, *(path.name.removeprefix("python") for path in BIN.glob("python3.[0-9]*[0-9]"))})
    return (
        f"apps/{app}.yaml: python: {asked} is not on this host, which has {', '.join(here)}. "
        f"Debian {_debian()} brings {own}: take the setting out, or deploy {app} on a Debian that has {asked}."
    )


def identify(app: str) -> dict[str, str]:
    """Answers the build that the app's source would make now. Changes nothing.

    Args:
        app: name of an app of this host.

    Returns:
        ``id``, and the input it is made of: ``tree``, ``lock`` (hashes), ``python``, ``debian``. Where the lock has
        to be resolved first, or the revision to be fetched, ``lock`` is ``unresolved`` and the id is a stand-in: a plan
        asks no index.

    Raises:
        CommandExecutionError: the source or its lock is missing, or the lock is none.

    Example:
        .. code-block:: bash

            salt-call build.identify demo
    """
    return _identify(app, _source(app))


def _identify(app: str, source: dict[str, Any]) -> dict[str, str]:
    if source["missing"]:
        tree, lock = source["commit"], None
    else:
        lock = _lock(app, source)
        try:
            tree = _tree(source, source["directory"] or Path("/"))
        except (OSError, ValueError) as error:
            raise CommandExecutionError(f"source of {app}: {error}") from error
    found = {
        "tree": tree,
        "lock": UNRESOLVED if lock is None else hashlib.sha256(lock.encode()).hexdigest(),
        "python": python(app),
        "debian": _debian(),
    }
    if lock is None:
        settings = _settings(app)
        asked = json.dumps([settings["source"], settings["lock"], settings["requirements"]], sort_keys=True)
        return {
            "id": build_id(f"{tree} {asked}", **{name: found[name] for name in ("lock", "python", "debian")}),
            **found,
        }
    return {"id": build_id(**found), **found}


def current(app: str) -> str | None:
    """Answers the id of the newest wanted build, or None. Releases are made of it.

    Args:
        app: name of an app.

    Example:
        .. code-block:: bash

            salt-call build.current demo
    """
    link = BUILDS / app / "current"
    return str(link.readlink()) if link.is_symlink() and (link / "manifest.json").is_file() else None


def exists(app: str, build: str) -> bool:
    """Whether a build is here, whole.

    Args:
        app: name of an app.
        build: its id.

    Example:
        .. code-block:: bash

            salt-call build.exists demo 6f1d3c0a9b2e
    """
    return (BUILDS / app / build / "manifest.json").is_file()


def directory(app: str, build: str) -> str:
    """Where a build is, or would be.

    Args:
        app: name of an app.
        build: its id.

    Example:
        .. code-block:: bash

            salt-call build.directory demo 6f1d3c0a9b2e
    """
    return str(BUILDS / app / build)


def verify(app: str, build: str) -> dict[str, Any]:
    """Compares every file of a build with the hashes of its manifest.

    Args:
        app: name of an app.
        build: the build's id.

    Returns:
        The manifest.

    Raises:
        CommandExecutionError: a file is missing, changed or not in the manifest; each is named.

    Example:
        .. code-block:: bash

            salt-call build.verify demo 6f1d3c0a9b2e
    """
    home = BUILDS / app / build
    try:
        manifest: dict[str, Any] = json.loads((home / "manifest.json").read_text())
    except (OSError, ValueError) as error:
        raise CommandExecutionError(f"build {build} of {app}: its manifest cannot be read: {error}") from error
    there = {str(path.relative_to(home)) for path in home.rglob("*") if not path.is_dir()}
    there.discard("manifest.json")
    problems = [f"{name} is missing" for name in sorted(manifest["files"].keys() - there)]
    problems += [f"{name} does not belong to it" for name in sorted(there - manifest["files"].keys())]
    for name in sorted(there & manifest["files"].keys()):
        if __utils__["appfiles.digest"](home / name) != manifest["files"][name]:
            problems.append(f"{name} has been changed since it was built")
    if problems:
        raise CommandExecutionError(
            f"build {build} of {app} is refused: {'; '.join(problems)}. "
            f"Find out why, then remove {home} and apply again: it is built anew."
        )
    return manifest


def make(app: str) -> dict[str, Any]:
    """Builds the app's source as it is now, if that build is not here yet, and makes it the wanted one.

    Which index the packages come from is the business of pip's own settings on this host (/etc/pip.conf). Every
    download must have a hash of the lock; what comes as source becomes a wheel here, once.

    Args:
        app: name of an app of this host.

    Returns:
        The build's manifest.

    Raises:
        CommandExecutionError: the source or its lock is missing, the lock has no hashes, or pip failed.

    Example:
        .. code-block:: bash

            salt-call build.make demo
    """
    home = BUILDS / app
    home.mkdir(parents=True, exist_ok=True)
    with __utils__["appfiles.locked"](home / ".lock"):
        for dead in home.glob(".building-*"):  # nobody else holds the lock, so nobody is at work in them
            shutil.rmtree(dead)
        source = _source(app, fetch=True)
        lock = _lock(app, source) or _resolve(app, source)
        wanted = _identify(app, source)
        final = home / wanted["id"]
        if not exists(app, wanted["id"]):
            work = home / f".building-{wanted['id']}"
            work.mkdir(mode=0o755)
            try:
                _build(app, wanted, source, lock, work)
                if final.exists():
                    shutil.rmtree(final)  # has no manifest, so it is no build
                work.rename(final)
            except ValueError as error:
                raise CommandExecutionError(f"build of {app}: {error}") from error
            finally:
                shutil.rmtree(work, ignore_errors=True)
        __utils__["appfiles.point"](home / "current", wanted["id"])
        _prune(app, source)
        manifest: dict[str, Any] = json.loads((final / "manifest.json").read_text())
        return manifest


def _build(app: str, wanted: dict[str, str], source: dict[str, Any], lock: str, work: Path) -> None:
    directory, files = source["directory"] or work, source["files"]
    pack(directory, files, work / "src.tar.gz")
    # Somebody may be editing: what was packed must be what the id says.
    unpack(work / "src.tar.gz", work / "check")
    if _tree(source, work / "check") != wanted["tree"]:
        raise CommandExecutionError(f"source of {app}: {directory} changed while it was being built; apply again")
    shutil.rmtree(work / "check")
    (work / "wheels").mkdir()
    (work / "lock.txt").write_text(lock)
    if not _reuse_wheels(app, wanted, work):
        _make_wheels(work, wanted["python"], whole=lock == source["lock"])
    digest = __utils__["appfiles.digest"]
    hashes = {wheel.name: digest(wheel) for wheel in (work / "wheels").iterdir()}
    (work / "requirements.txt").write_text(wheel_requirements(hashes))
    about = {"id": wanted["id"], "commit": source["commit"]}
    (work / "bom.json").write_text(__utils__["bom.make"](app, about, (work / "wheels").iterdir(), hashes))
    inside = sorted(path for path in work.rglob("*") if path.is_file())
    manifest = {
        "app": app,
        **wanted,
        "commit": source["commit"],
        "source": source["what"],
        "who": os.environ.get("SUDO_USER") or getpass.getuser(),
        "when": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "files": {str(path.relative_to(work)): digest(path) for path in inside},
    }
    # What the rename makes visible must also survive a power cut.
    __utils__["appfiles.run"](["sync", "--file-system", str(work)])
    __utils__["appfiles.write"](work / "manifest.json", json.dumps(manifest, indent=1) + "\n", 0o644)


def _make_wheels(work: Path, python: str, whole: bool) -> None:
    """Lets pip fetch what the lock names; by a virtual environment, because Debian's python3 has no pip.

    A lock that the team has made is also checked for what it forgot. One that uv has resolved here forgets nothing,
    but may have a newer gunicorn than a package allows, so pip must not look at that again.
    """
    run = __utils__["appfiles.run"]
    run([f"/usr/bin/python{python}", "-m", "venv", str(work / "pip")])
    run(
        [
            str(work / "pip/bin/python"), "-m", "pip", "wheel", "--quiet", "--require-hashes",
            *([] if whole else ["--no-deps"]),
            "--requirement", str(work / "lock.txt"), "--wheel-dir", str(work / "wheels"),
        ],
        cwd=work,
        env={"PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_NO_INPUT": "1"},
        timeout=3600,
    )  # fmt: skip
    shutil.rmtree(work / "pip")


def _reuse_wheels(app: str, wanted: dict[str, str], work: Path) -> bool:
    """Takes the wheels of an earlier build of the same lock, so that a change of code alone needs no index."""
    for manifest in _manifests(app):
        if all(manifest[key] == wanted[key] for key in ("lock", "python", "debian")):
            try:
                verify(app, manifest["id"])
            except CommandExecutionError:
                continue
            shutil.copytree(BUILDS / app / manifest["id"] / "wheels", work / "wheels", dirs_exist_ok=True)
            return True
    return False


def _manifests(app: str) -> list[dict[str, Any]]:
    """The manifests of all builds of an app, newest first."""
    manifests = [
        json.loads((path / "manifest.json").read_text()) for path in _directories(app) if exists(app, path.name)
    ]
    return sorted(manifests, key=lambda manifest: str(manifest["when"]), reverse=True)


def _directories(app: str) -> list[Path]:
    """The builds of an app; their names are all 12 hex digits, unlike ``current``."""
    return [path for path in (BUILDS / app).iterdir() if re.fullmatch(r"[0-9a-f]{12}", path.name)]


def _prune(app: str, source: dict[str, Any]) -> None:
    keep = {manifest["id"] for manifest in _manifests(app)[: __pillar__["builder"]["keep"]]}
    keep |= {current(app), (__salt__["builder.released"](app) or {}).get("build")}
    for path in _directories(app):
        if path.name not in keep:
            shutil.rmtree(path)
    for path in (BUILDS / app / "checkouts").glob("*"):  # the Git mirror beside it has them all
        if path != source["directory"]:
            shutil.rmtree(path)


# --- the source and its lock --------------------------------------------------------------------------------


def _settings(app: str) -> dict[str, Any]:
    found: dict[str, Any] = __utils__["releases.settings"](__pillar__, app)
    return found


def _source(app: str, fetch: bool = False) -> dict[str, Any]:
    """Where the app's code is on this host.

    Returns:
        ``directory`` (None for a requirement), ``files`` in it, ``commit``, ``what`` in a few words, ``lock`` (the text
        of the lock if the source holds a whole one), ``missing``: a revision that has not been fetched yet, and
        ``git``: whether a commit was asked for.
    """
    asked = {name: value for name, value in _settings(app)["source"].items() if value is not None}
    found: dict[str, Any] = {
        "directory": None,
        "files": [],
        "commit": "none",
        "lock": None,
        "missing": False,
        "git": "git" in asked,
    }
    if "requirement" in asked:
        return found | {"what": asked["requirement"]}
    if "git" in asked:
        return _git_source(app, asked["git"], asked["revision"], fetch, found)
    directory = _repository() / asked["directory"]
    if not directory.is_dir():
        raise CommandExecutionError(
            f"apps/{app}.yaml: source.directory: {directory} is not a directory on this host. It counts from the "
            f"repository's root ({_repository()}), or is absolute."
        )
    files = {"directory": directory, "files": _source_files(directory)}
    return found | files | {"commit": _commit(directory), "what": str(directory)}


def _git_source(app: str, url: str, revision: str, fetch: bool, found: dict[str, Any]) -> dict[str, Any]:
    run = __utils__["appfiles.run"]
    when, commit = _looked_up.get((url, revision), (0.0, ""))
    if not commit or time.monotonic() - when > LOOKED_UP_SECONDS:
        if not shutil.which("git"):  # a plan on a bare host: the apply installs it first
            return found | {"commit": revision, "what": f"{url} at {revision}", "missing": True}
        commit = __utils__["gitsource.commit_of"](url, revision, run)
        _looked_up[url, revision] = (time.monotonic(), commit)
    found |= {"commit": commit, "what": f"{url} at {revision}"}
    directory = BUILDS / app / "checkouts" / commit
    if not directory.is_dir():
        if not fetch:
            return found | {"missing": True}
        directory.parent.mkdir(exist_ok=True)
        __utils__["gitsource.check_out"](url, commit, BUILDS / app / "git", directory, run)
    return found | {"directory": directory, "files": _walk(directory, everything=True)}


_looked_up: dict[tuple[str, str], tuple[float, str]] = {}


def _tree(source: dict[str, Any], directory: Path) -> str:
    """Hash of the source. From Git, the commit counts too: the same files of another commit are another build."""
    tree = tree_hash(directory, source["files"])
    return hashlib.sha256(f"{tree} {source['commit']}".encode()).hexdigest() if source["git"] else tree


def _lock(app: str, source: dict[str, Any]) -> str | None:
    """The app's lock: of the source, or as it was resolved before; None when nobody has resolved it yet."""
    found = _look(app, source)
    if "text" in found:
        source["lock"] = found["text"]
        text: str = found["text"]
        return text
    record = _record(app, found)
    return record.read_text() if record.is_file() else None


def _look(app: str, source: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = __utils__["locks.look"](app, source["directory"], _settings(app), python(app), _debian())
    return found


def _record(app: str, found: dict[str, Any]) -> Path:
    return BUILDS / app / "locks" / f"{__utils__['locks.key'](found['question'])}.txt"


def _resolve(app: str, source: dict[str, Any]) -> str:
    """Resolves the app's packages, records the lock for ever and answers it."""
    found = _look(app, source)
    index = __utils__["locks.uv_environment"](
        __utils__["locks.pip_settings"](__utils__["locks.pip_files"](), os.environ)
    )
    run, uv = __utils__["appfiles.run"], __utils__["appfiles.uv"]()
    with tempfile.TemporaryDirectory(prefix="saltern-lock-") as work:
        text: str = __utils__["locks.resolve"](found, source["directory"], Path(work), uv, run, index)
    record = _record(app, found)
    record.parent.mkdir(exist_ok=True)
    asked = json.dumps(found["question"], sort_keys=True)
    __utils__["appfiles.write"](record, f"# Resolved once by Saltern, for {asked}\n{text}", 0o644)
    return record.read_text()


def _repository() -> Path:
    """The repository that this file is part of, or /srv/saltern when Salt has copied it to its cache."""
    here = Path(__file__).resolve().parent.parent
    return here if (here / "salt" / "top.sls").is_file() else Path("/srv/saltern")


def _source_files(source: Path) -> list[str]:
    """What belongs to the source: as Git sees it (tracked, and new but not ignored), else all but LEFT_OUT."""
    with contextlib.suppress(CommandExecutionError):
        listed = _git(source, "ls-files", "-z", "--cached", "--others", "--exclude-standard").split("\0")
        # A tracked file may be gone from the folder.
        if files := [name for name in listed if name and os.path.lexists(source / name)]:
            return files
    return _walk(source)


def _commit(source: Path) -> str:
    try:
        commit = _git(source, "rev-parse", "HEAD").strip()
        dirty = _git(source, "status", "--porcelain", "--", ".").strip()
    except CommandExecutionError:
        return "none"
    return f"{commit}-dirty" if dirty else commit


def _git(source: Path, *arguments: str) -> str:
    # A bind-mounted repository belongs to somebody else, which git refuses without being told.
    # Without optional locks it never writes to it.
    argv = ["git", "--no-optional-locks", "-c", "safe.directory=*", "-C", str(source), *arguments]
    try:
        done = subprocess.run(argv, capture_output=True, text=True, timeout=60)
    except FileNotFoundError as error:
        raise CommandExecutionError("git is not installed") from error
    if done.returncode:
        raise CommandExecutionError(done.stderr.strip())
    return done.stdout


def _own_python() -> str:
    """Version of Debian's Python, such as ``3.13``; /usr/bin/python3 is a link to it, which a bare host has not."""
    match = re.search(r"python(\d+\.\d+)$", os.path.realpath(BIN / "python3"))
    return match[1] if match else DEBIAN_PYTHON[_debian()]


def _debian() -> str:
    return platform.freedesktop_os_release()["VERSION_ID"]
