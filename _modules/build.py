"""Builds: an app's source and all of its wheels, with hashes, made once and installed anywhere without an index.

A build's id is a pure function of its input: the same input is the same build, on whatever host and day.
"""

from __future__ import annotations

import datetime
import getpass
import hashlib
import json
import os
import platform
import re
import shutil
import tarfile
from pathlib import Path
from typing import Any

from salt.exceptions import CommandExecutionError

from saltern.build import bom, locks, signing
from saltern.host import appfiles
from saltern.release import releases

BUILDS = Path("/var/lib/saltern/builds")
BIN = Path("/usr/bin")
# Changes when builds of the same input would come out differently, because this file has changed.
FORMAT = 2
# Debian's number of www-data, everywhere (base-passwd): the web server that hands builds on to other hosts.
SERVED_BY = 33
SIGNATURE = "manifest.sig"
HALF = ".manifest."  # begins the name of what a killed run was writing
# The one Python that a Debian release ships, for a plan on a host that has none yet.
DEBIAN_PYTHON = {"12": "3.11", "13": "3.13"}

# What the lock is called in a build's input as long as nobody has resolved it: a plan changes nothing.
UNRESOLVED = "unresolved"

WHEEL = re.compile(r"^(?P<name>[^-]+)-(?P<version>[^-]+)(-\d[^-]*)?-[^-]+-[^-]+-[^-]+\.whl$")


# --- pure ---------------------------------------------------------------------------------------------------


def build_id(tree: str, lock: str, python: str, debian: str) -> str:
    """Return the id of the build that such input makes.

    Args:
        tree: hash of the source tree.
        lock: hash of the lock file.
        python: Python's version, such as ``3.13``.
        debian: Debian's release, such as ``13``.

    Returns:
        12 hex digits.

    Example:
        >>> build_id("aa", "bb", "3.13", "13")
        '4b77cdc0703b'
    """
    text = json.dumps([FORMAT, tree, lock, python, debian])
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def requirements(hashes: dict[str, str]) -> str:
    """Write the requirements file that installs exactly the given wheels.

    Args:
        hashes: SHA-256 of each wheel, by file name.

    Returns:
        The text, one line per wheel, in order of name.

    Raises:
        ValueError: a name is not a wheel's.

    Example:
        >>> requirements({"rpc4django-0.6.3-py3-none-any.whl": "ab12"})
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


def unpack(archive: Path, directory: Path) -> None:
    """Unpack a source that ``build.take_source`` packed, into a new directory.

    Args:
        archive: the .tar.gz.
        directory: where to; it is made.

    Example:
        >>> unpack(Path("src.tar.gz"), Path("src"))  # needs an archive  # doctest: +SKIP
    """
    directory.mkdir(parents=True, exist_ok=True)  # a requirement has no source, so the archive may be empty
    with tarfile.open(archive) as tar:
        # Refuses paths and links that lead outside. Debian 12's Python 3.11.2 does not have it yet; there the
        # verified hash of the archive is all.
        tar.extraction_filter = getattr(tarfile, "data_filter", None)
        tar.extractall(directory)  # noqa: S202 - see above


# --- on the host --------------------------------------------------------------------------------------------


def python(app: str) -> str:
    """Return the version of Python that an app runs on: what its file asks for, or Debian's own.

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
    """Say that this host has not the Python that an app's file asks for; nothing when it has.

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
    """Return the build that the app's source would make now. Changes nothing.

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
    return _identify(app, __salt__["build.source"](app))


def _identify(app: str, source: dict[str, Any]) -> dict[str, str]:
    lock = None if source["missing"] else _lock(app, source)
    found = {
        "tree": source["tree"],
        "lock": UNRESOLVED if lock is None else hashlib.sha256(lock.encode()).hexdigest(),
        "python": python(app),
        "debian": _debian(),
    }
    if lock is None:
        settings = _settings(app)
        asked = json.dumps([settings["source"], settings["lock"], settings["requirements"]], sort_keys=True)
        tree = f"{source['tree']} {asked}"
        return {"id": build_id(tree, **{name: found[name] for name in ("lock", "python", "debian")}), **found}
    return {"id": build_id(**found), **found}


def current(app: str) -> str | None:
    """Return the id of the newest wanted build, or None. Releases are made of it.

    Args:
        app: name of an app.

    Example:
        .. code-block:: bash

            salt-call build.current demo
    """
    link = BUILDS / app / "current"
    return str(link.readlink()) if link.is_symlink() and (link / "manifest.json").is_file() else None


def exists(app: str, build: str) -> bool:
    """Return whether a build is here, whole and signed.

    Args:
        app: name of an app.
        build: its id.

    Example:
        .. code-block:: bash

            salt-call build.exists demo 6f1d3c0a9b2e
    """
    home = BUILDS / app / build
    if not (home / SIGNATURE).is_file():
        return False
    try:
        _, manifest = _manifest_of(app, build, home)
    except CommandExecutionError:
        return False
    return all((home / name).is_file() for name in manifest["files"])


def discard(app: str, build: str) -> None:
    """Remove a build, or what a killed run has left of one.

    Args:
        app: name of an app.
        build: its id.

    Example:
        .. code-block:: bash

            salt-call build.discard demo 6f1d3c0a9b2e
    """
    home = BUILDS / app / build
    (home / "manifest.json").unlink(missing_ok=True)  # first: what is half removed is no build
    if home.exists():
        shutil.rmtree(home)


def directory(app: str, build: str) -> str:
    """Return where a build is, or would be.

    Args:
        app: name of an app.
        build: its id.

    Example:
        .. code-block:: bash

            salt-call build.directory demo 6f1d3c0a9b2e
    """
    return str(BUILDS / app / build)


def verify(app: str, build: str) -> dict[str, Any]:
    """Compare every file of a build with the hashes of its manifest.

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
    _, manifest = _manifest_of(app, build, home)
    there = {str(path.relative_to(home)) for path in home.rglob("*") if not path.is_dir()}
    there = {name for name in there if name not in ("manifest.json", SIGNATURE) and not name.startswith(HALF)}
    problems = __salt__["build.unfit"](app, build, home)
    problems += [f"{name} is missing" for name in sorted(manifest["files"].keys() - there)]
    problems += [f"{name} does not belong to it" for name in sorted(there - manifest["files"].keys())]
    for name in sorted(there & manifest["files"].keys()):
        if appfiles.digest(home / name) != manifest["files"][name]:
            problems.append(f"{name} has been changed since it was built")
    if problems:
        raise CommandExecutionError(
            f"build {build} of {app} is refused: {'; '.join(problems)}. "
            f"Find out why, then remove {home} and apply again: it is built anew."
        )
    return manifest


def unfit(app: str, build: str, home: str | Path) -> list[str]:
    """Say what keeps a build's manifest from being the builder's word about this app and this build.

    Args:
        app: name of an app.
        build: the build's id.
        home: where it is.

    Returns:
        Sentences' ends; none when all is well.

    Raises:
        CommandExecutionError: its manifest cannot be read.

    Example:
        .. code-block:: bash

            salt-call build.unfit demo 6f1d3c0a9b2e /var/lib/saltern/builds/demo/6f1d3c0a9b2e
    """
    raw, manifest = _manifest_of(app, build, Path(home))
    found = []
    if (manifest.get("app"), manifest.get("id")) != (app, build):
        found.append(f"its manifest is that of build {manifest.get('id')} of {manifest.get('app')}")
    try:
        signature = (Path(home) / SIGNATURE).read_text()
    except OSError:
        return [*found, "it is not signed: apply the builder's states, which does so"]
    if not signing.is_signed(signing.build_text(raw), signature.strip(), _keys()):
        found.append("its signature is not the builder's")
    return found


def unsigned(app: str) -> list[str]:
    """Return the builds of an app that the builder's present key has not signed.

    Args:
        app: name of an app of this builder.

    Example:
        .. code-block:: bash

            salt-call build.unsigned demo
    """
    if not (BUILDS / app).is_dir():
        return []
    found = []
    for home in sorted(_directories(app)):
        if not (home / "manifest.json").is_file():
            continue
        signature = (home / SIGNATURE).read_text().strip() if (home / SIGNATURE).is_file() else ""
        text = signing.build_text((home / "manifest.json").read_bytes())
        if not signature or not signing.is_signed(text, signature, _keys()[:1]):
            found.append(home.name)
    return found


def sign(app: str) -> list[str]:
    """Sign the builds that are older than the key, as far as they are what their manifests say.

    One that has no signature was made before there were any. One with another key's is signed anew if that key is
    still good. What cannot be verified is of no use to anybody, and removed.

    Args:
        app: name of an app of this builder.

    Returns:
        The builds that were removed.

    Raises:
        CommandExecutionError: the current build, or the one that the fleet serves, is damaged, or its signature is
            nobody's.

    Example:
        .. code-block:: bash

            salt-call build.sign demo
    """
    gone = []
    for build in unsigned(app):
        try:
            _sign_anew(app, build)
        except CommandExecutionError:
            if build in _used(app):
                raise
            discard(app, build)
            gone.append(build)
    return gone


def _sign_anew(app: str, build: str) -> None:
    home = BUILDS / app / build
    for half in home.glob(f"{HALF}*"):
        half.unlink()
    if (home / SIGNATURE).exists():
        verify(app, build)
        _sign(home)
        return
    _sign(home)
    try:
        verify(app, build)
    except CommandExecutionError:
        (home / SIGNATURE).unlink()
        raise


def _used(app: str) -> set[str | None]:
    """Return the builds that releases are made of: the newest, the one in force, and the one before that."""
    released = __salt__["builder.released"](app) or {}
    return {current(app), released.get("build"), released.get("before")}


def _sign(home: Path) -> None:
    text = signing.build_text((home / "manifest.json").read_bytes())
    made = signing.sign(text, __pillar__["secrets"]["build_key"])
    appfiles.write(home / SIGNATURE, f"{made}\n", 0o644)


def _keys() -> list[str]:
    found: list[str] = __pillar__["secrets"]["build_keys"]
    return found


def _manifest_of(app: str, build: str, home: Path) -> tuple[bytes, dict[str, Any]]:
    try:
        raw = (home / "manifest.json").read_bytes()
        manifest: dict[str, Any] = json.loads(raw)
        if not isinstance(manifest["files"], dict):
            raise ValueError("it names no files")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CommandExecutionError(
            f"build {build} of {app}: its manifest cannot be read: {error}. "
            f"Remove {home} and apply again: it is built anew."
        ) from error
    return raw, manifest


def make(app: str) -> dict[str, Any]:
    """Build the app's source as it is now, if that build is not here yet, and make it the wanted one.

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
    close(app)
    with appfiles.locked(home / ".lock"):
        for dead in home.glob(".building*"):  # nobody else holds the lock, so nobody is at work in them
            appfiles.remove(dead)
        sign(app)
        work = home / ".building"
        work.mkdir(mode=0o700)
        try:
            source = __salt__["build.take_source"](app, work / "src.tar.gz")
            lock = _lock(app, source) or _resolve(app, source, work / "src.tar.gz")
            wanted = _identify(app, source)
            final = home / wanted["id"]
            if not exists(app, wanted["id"]):
                _build(app, wanted, source, lock, work)
                discard(app, wanted["id"])  # what a killed run has left of it
                work.rename(final)
        except ValueError as error:
            raise CommandExecutionError(f"build of {app}: {error}") from error
        finally:
            appfiles.remove(work)
        appfiles.point(home / "current", wanted["id"])
        _prune(app)
        manifest: dict[str, Any] = json.loads((final / "manifest.json").read_text())
        return manifest


def close(app: str) -> None:
    """Make the directory of an app's builds, or close it: to all but root and the web server, which hands them on.

    Args:
        app: name of an app of this host.

    Example:
        .. code-block:: bash

            salt-call build.close demo
    """
    for path in (BUILDS, BUILDS / app):
        path.mkdir(mode=0o750, exist_ok=True, parents=True)
        os.chown(path, 0, SERVED_BY)
        path.chmod(0o750)


def _build(app: str, wanted: dict[str, str], source: dict[str, Any], lock: str, work: Path) -> None:
    (work / "wheels").mkdir(mode=0o755)
    (work / "lock.txt").write_text(lock)
    digest = appfiles.digest
    if _reuse_wheels(app, wanted, work):
        hashes = {wheel.name: digest(wheel) for wheel in (work / "wheels").iterdir()}
    else:
        whole = lock == (source["texts"] or {}).get(_look(app, source)["base"])
        hashes = __salt__["build.wheels"](app, lock, wanted["python"], whole, work / "wheels")
    (work / "requirements.txt").write_text(requirements(hashes))
    about = {"id": wanted["id"], "commit": source["commit"]}
    (work / "bom.json").write_text(bom.make(app, about, (work / "wheels").iterdir(), hashes))
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
    for path in (work, *work.rglob("*")):  # who gets there is decided by the directory around it
        path.chmod(0o755 if path.is_dir() else 0o644)
    # What the rename makes visible must also survive a power cut.
    appfiles.run(["sync", "--file-system", str(work)])
    appfiles.write(work / "manifest.json", json.dumps(manifest, indent=1) + "\n", 0o644)
    _sign(work)


def _reuse_wheels(app: str, wanted: dict[str, str], work: Path) -> bool:
    """Take the wheels of an earlier build of the same lock, so that a change of code alone needs no index."""
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
    """Return the manifests of all builds of an app, newest first."""
    manifests = [
        json.loads((path / "manifest.json").read_text()) for path in _directories(app) if exists(app, path.name)
    ]
    return sorted(manifests, key=lambda manifest: str(manifest["when"]), reverse=True)


def _directories(app: str) -> list[Path]:
    """Return the builds of an app; their names are all 12 hex digits, unlike ``current``."""
    return [path for path in (BUILDS / app).iterdir() if re.fullmatch(r"[0-9a-f]{12}", path.name)]


def _prune(app: str) -> None:
    keep = {manifest["id"] for manifest in _manifests(app)[: __pillar__["builder"]["keep"]]}
    keep |= _used(app)
    for path in _directories(app):
        if path.name not in keep:
            discard(app, path.name)
    for name in ("git", "checkouts"):  # where earlier versions fetched, as root
        appfiles.remove(BUILDS / app / name)


# --- the source and its lock --------------------------------------------------------------------------------


def _settings(app: str) -> dict[str, Any]:
    found: dict[str, Any] = releases.settings(__pillar__, app)
    return found


def _lock(app: str, source: dict[str, Any]) -> str | None:
    """Return the app's lock: of the source, or as it was resolved before; None when nobody has resolved it yet."""
    found = _look(app, source)
    if "text" in found:
        return str(found["text"])
    record = _record(app, found)
    return record.read_text() if record.is_file() else None


def _look(app: str, source: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = locks.look(app, source["what"], source["texts"], _settings(app), python(app), _debian())
    return found


def _record(app: str, found: dict[str, Any]) -> Path:
    return BUILDS / app / "locks" / f"{locks.key(found['question'])}.txt"


def _resolve(app: str, source: dict[str, Any], archive: Path) -> str:
    """Resolve the app's packages, record the lock for ever and return it."""
    found = _look(app, source)
    text = __salt__["build.resolve"](app, found, source, archive, python(app))
    record = _record(app, found)
    record.parent.mkdir(exist_ok=True)
    asked = json.dumps(found["question"], sort_keys=True)
    appfiles.write(record, f"# Resolved once by Saltern, for {asked}\n{text}", 0o644)
    return record.read_text()


def _own_python() -> str:
    """Version of Debian's Python, such as ``3.13``; /usr/bin/python3 is a link to it, which a bare host has not."""
    match = re.search(r"python(\d+\.\d+)$", os.path.realpath(BIN / "python3"))
    return match[1] if match else DEBIAN_PYTHON[_debian()]


def _debian() -> str:
    return platform.freedesktop_os_release()["VERSION_ID"]
