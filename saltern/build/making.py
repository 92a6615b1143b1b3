"""A build is made: of the source as it is, its lock and all of its wheels. Its id is a pure function of its input."""

from __future__ import annotations

import datetime
import getpass
import hashlib
import json
import os
import shutil
from pathlib import Path
from typing import Any

from salt.exceptions import CommandExecutionError

from saltern.build import bom, interpreters, locks, packages, packing, sources, store
from saltern.host import appfiles, places
from saltern.host.here import Here

# Changes when builds of the same input would come out differently, because this file has changed.
FORMAT = 2
# What the lock is called in a build's input as long as nobody has resolved it: a plan changes nothing.
UNRESOLVED = "unresolved"


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


def identify(here: Here, app: str) -> dict[str, str]:
    """Return the build that the app's source would make now. Changes nothing."""
    return _identify(here, app, sources.source(here, app))


def _identify(here: Here, app: str, source: dict[str, Any]) -> dict[str, str]:
    lock = None if source["missing"] else _lock(here, app, source)
    found = {
        "tree": source["tree"],
        "lock": UNRESOLVED if lock is None else hashlib.sha256(lock.encode()).hexdigest(),
        "python": interpreters.python(here, app),
        "debian": interpreters.debian(),
    }
    if lock is None:
        settings = here.app(app)
        asked = json.dumps([settings["source"], settings["lock"], settings["requirements"]], sort_keys=True)
        tree = f"{source['tree']} {asked}"
        return {"id": build_id(tree, **{name: found[name] for name in ("lock", "python", "debian")}), **found}
    return {"id": build_id(**found), **found}


def make(here: Here, app: str) -> dict[str, Any]:
    """Build the app's source as it is now, if that build is not here yet, and make it the wanted one.

    Which index the packages come from is the business of pip's own settings on this host (/etc/pip.conf). Every
    download must have a hash of the lock; what comes as source becomes a wheel here, once.
    """
    home = places.BUILDS / app
    store.close(app)
    with appfiles.locked(home / ".lock"):
        for dead in home.glob(".building*"):  # nobody else holds the lock, so nobody is at work in them
            appfiles.remove(dead)
        store.sign(here, app)
        work = home / ".building"
        work.mkdir(mode=0o700)
        try:
            source = sources.take_source(here, app, work / "src.tar.gz")
            lock = _lock(here, app, source) or _resolve(here, app, source, work / "src.tar.gz")
            wanted = _identify(here, app, source)
            final = home / wanted["id"]
            if not store.exists(app, wanted["id"]):
                _build(here, app, wanted, source, lock, work)
                store.discard(app, wanted["id"])  # what a killed run has left of it
                work.rename(final)
        except ValueError as error:
            raise CommandExecutionError(f"build of {app}: {error}") from error
        finally:
            appfiles.remove(work)
        appfiles.point(home / "current", wanted["id"])
        store.prune(here, app)
        manifest: dict[str, Any] = json.loads((final / "manifest.json").read_text())
        return manifest


def _build(here: Here, app: str, wanted: dict[str, str], source: dict[str, Any], lock: str, work: Path) -> None:
    (work / "wheels").mkdir(mode=0o755)
    (work / "lock.txt").write_text(lock)
    digest = appfiles.digest
    if _reuse_wheels(here, app, wanted, work):
        hashes = {wheel.name: digest(wheel) for wheel in (work / "wheels").iterdir()}
    else:
        whole = lock == (source["texts"] or {}).get(_look(here, app, source)["base"])
        hashes = packages.wheels(here, app, lock, wanted["python"], whole, work / "wheels")
    (work / "requirements.txt").write_text(packing.requirements(hashes))
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
    store.sign_one(here, work)


def _reuse_wheels(here: Here, app: str, wanted: dict[str, str], work: Path) -> bool:
    """Take the wheels of an earlier build of the same lock, so that a change of code alone needs no index."""
    for manifest in store.manifests(app):
        if all(manifest[key] == wanted[key] for key in ("lock", "python", "debian")):
            try:
                store.verify(here, app, manifest["id"])
            except CommandExecutionError:
                continue
            shutil.copytree(places.BUILDS / app / manifest["id"] / "wheels", work / "wheels", dirs_exist_ok=True)
            return True
    return False


def _lock(here: Here, app: str, source: dict[str, Any]) -> str | None:
    """Return the app's lock: of the source, or as it was resolved before; None when nobody has resolved it yet."""
    found = _look(here, app, source)
    if "text" in found:
        return str(found["text"])
    record = _record(app, found)
    return record.read_text() if record.is_file() else None


def _look(here: Here, app: str, source: dict[str, Any]) -> dict[str, Any]:
    python, debian = interpreters.python(here, app), interpreters.debian()
    found: dict[str, Any] = locks.look(app, source["what"], source["texts"], here.app(app), python, debian)
    return found


def _record(app: str, found: dict[str, Any]) -> Path:
    return places.BUILDS / app / "locks" / f"{locks.key(found['question'])}.txt"


def _resolve(here: Here, app: str, source: dict[str, Any], archive: Path) -> str:
    """Resolve the app's packages, record the lock for ever and return it."""
    found = _look(here, app, source)
    text = packages.resolve(here, app, found, source, archive, interpreters.python(here, app))
    record = _record(app, found)
    record.parent.mkdir(exist_ok=True)
    asked = json.dumps(found["question"], sort_keys=True)
    appfiles.write(record, f"# Resolved once by Saltern, for {asked}\n{text}", 0o644)
    return record.read_text()
