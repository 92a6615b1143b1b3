"""How an app's packages are brought here: resolved, fetched, and made to wheels where they come as source.

The network and a package's code never meet. What asks the index runs nothing of what it gets (uv with ``--no-build``,
pip with pipfetch.py); what runs a package's code has no network. Both run as the app's build user in a sandbox, and
root takes over plain files whose hashes it has made itself.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from salt.exceptions import CommandExecutionError

from saltern.build import bom, fetchplaces, locks, packing, pipfetch, reaching, workshops
from saltern.host import appfiles, places, sandbox
from saltern.host.here import Here

MOST_FILES = 2000
ROUNDS = 20  # of asking for what a package needs in order to be built
RESOLVE_SECONDS = 1200
FETCH_SECONDS = 1800
CHECK_SECONDS = 300
QUIET = {"PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_NO_INPUT": "1", "PIP_CONFIG_FILE": "/dev/null"}
# A project that is versioned by its repository has none here, and says its requirements all the same.
UNVERSIONED = {"SETUPTOOLS_SCM_PRETEND_VERSION": "0", "PBR_VERSION": "0"}
# What uv says when the project itself would have to be run to tell what it needs.
OWN_CODE = "Building source distributions is disabled"
MISSING = re.compile(r"No matching distribution found for ([^\n]+)")


def resolve(
    here: Here, app: str, found: dict[str, Any], source: dict[str, Any], archive: str | Path, python: str
) -> str:
    """Resolve an app's packages by the index. Runs a package's code only where there is no network.

    Args:
        app: name of an app of this host.
        found: what ``locks.look`` has found.
        source: what ``sources.take_source`` answered.
        archive: what it packed.
        python: version of the app's Python.

    Returns:
        The lock.

    Raises:
        CommandExecutionError: there is no solution, or a package cannot be built.
    """
    texts, interpreter = source["texts"] or {}, f"/usr/bin/python{python}"
    with _shop(app) as home, _readable():
        own = home / "in"
        (own / "local").mkdir()
        if found["asked"]:
            packing.unpack(Path(archive), own / "src")
        lock = ""
        if found["base"] == "uv.lock":
            for name in ("uv.lock", "pyproject.toml"):
                (own / name).write_bytes(texts[name].encode("utf-8", "surrogateescape"))
            lock = _uv(here, app, python, locks.export_arguments(interpreter), None, own)
        elif found["base"]:
            lock = texts[found["base"]]
        if lock:
            locks.checked(lock, found["base"])
        wanted = locks.wanted(found["question"], lock)
        if not wanted and lock:
            return str(lock)
        (own / "pins.txt").write_text(locks.constraints(lock))
        (own / "overrides.txt").write_text(f"{found['question']['gunicorn']}\n")
        inputs = [str(own / "src" / found["asked"])] if found["asked"] else []
        try:
            more = _compiled(here, app, home, python, inputs, wanted)
        except CommandExecutionError as error:
            if found["asked"] != "pyproject.toml" or OWN_CODE not in _said(error):
                raise
            more = _compiled(here, app, home, python, [], [*_needs(here, app, home, python, texts), *wanted])
        return str(locks.checked(locks.joined(lock, more), "what uv has resolved"))


def _compiled(here: Here, app: str, home: Path, python: str, inputs: list[str], wanted: list[str]) -> str:
    """Return what uv resolves. A package that comes as source only is built here first, for uv to read its needs."""
    own = home / "in"
    (own / "wanted.in").write_text("".join(f"{line}\n" for line in wanted))
    arguments = locks.compile_arguments(f"/usr/bin/python{python}", str(own), inputs)
    sources: dict[str, tuple[str, str]] = {}
    for _ in range(ROUNDS):
        try:
            return str(locks.with_sources(_uv(here, app, python, arguments, _settings(), own), sources))
        except CommandExecutionError as error:
            missing = locks.unbuilt(_said(error))
            if not missing:
                raise
            for name, version in missing:
                sources[locks.package(name)] = _local_wheel(here, app, home, python, name, version)
    raise CommandExecutionError(f"{app}: too many packages come as source only")


def wheels(here: Here, app: str, lock: str, python: str, whole: bool, target: str | Path) -> dict[str, str]:
    """Bring a wheel of every package of a lock into a directory of root's.

    Args:
        app: name of an app of this host.
        lock: the lock's text.
        python: version of the app's Python.
        whole: whether to look for what the lock forgot. One that was resolved here forgets nothing, but may have a
            newer gunicorn than a package allows.
        target: an existing directory.

    Returns:
        SHA-256 of each wheel by file name.

    Raises:
        CommandExecutionError: a package is not there, is not what the lock says, or cannot be built.
    """
    target = Path(target)
    with _shop(app) as home, _readable():
        locks.checked(lock, f"the lock of {app}")
        (home / "in/lock.txt").write_text(locks.rewritten(lock))  # pip sees what we have read
        asked = ["--require-hashes", *([] if whole else ["--no-deps"]), "--requirement", str(home / "in/lock.txt")]
        got, needs = _fetch(here, app, home, python, asked, home / "in/got")
        allowed = locks.hashes(lock)
        for name, digest in got.items():
            if digest not in allowed:
                raise CommandExecutionError(f"{app}: {name} was fetched and is not what the lock says ({digest})")
        found = {}
        for name in sorted(got):
            if name.endswith(".whl"):
                found[name] = got[name]
                (home / "in/got" / name).rename(target / name)
                continue
            made = _build(here, app, home, python, home / "in/got" / name, needs.get(name, []))
            wheel, found[made.name] = made, _digest(made)
            wheel.rename(target / made.name)
        if whole and any(not name.endswith(".whl") for name in got):
            _check(here, app, home, python, target, found)
        return found


def _uv(here: Here, app: str, python: str, arguments: list[str], index: dict[str, str] | None, own: Path) -> str:
    uv = os.path.realpath(appfiles.uv())
    network, index = index is not None, index or {}
    proxies = _proxies() if network else {}
    if network:
        _reach(index, proxies)
    settings = locks.uv_settings(index, proxies)
    if network and any((own / "local").iterdir()):
        settings["find-links"] = [*settings.get("find-links", []), str(own / "local")]
    certificates = {name: value for name, value in proxies.items() if not name.lower().endswith("_proxy")}
    printed: bytes = _run(
        here,
        app,
        [f"/usr/bin/python{python}", "-I", "-S", "-c", locks.uv_program(), uv, *arguments],
        what=f"{uv} {' '.join(arguments[:2])} ...",
        network=network,
        reads=[uv, str(own), *(f"-{path}" for path in locks.local_paths(index))],
        directory=str(own),
        stdin=json.dumps(settings).encode(),
        environment=certificates | locks.uv_environment(index),
        seconds=RESOLVE_SECONDS,
    )
    return printed.decode(errors="replace")


def _fetch(
    here: Here, app: str, home: Path, python: str, arguments: list[str], into: Path
) -> tuple[dict[str, str], dict[str, list[str]]]:
    """Fetch packages into a directory of root's; return their hashes, and what those need that come as source."""
    fetched, index = home / "fetched", _settings()
    _reach(index, _proxies())
    workshops.empty(app, fetched)
    printed: bytes = _run(
        here,
        app,
        [_pip_python(python), "-I", "-", json.dumps({"to": str(fetched), "arguments": arguments})],
        what=f"fetching packages of {app}",
        network=True,
        reads=[str(home / "in"), *(f"-{path}" for path in locks.local_paths(index))],
        writes=[str(fetched)],
        stdin=pipfetch.program().encode(),
        environment=QUIET | {"TMPDIR": str(fetched), "HOME": str(fetched)},
        secrets=locks.pip_environment(index) | _proxies(),
        seconds=FETCH_SECONDS,
    )
    # What is needed twice is fetched twice.
    taken = home / "in/taken"
    appfiles.remove(taken)
    for folder in (taken, into):
        folder.mkdir(parents=True, exist_ok=True)
    got = _take(here, app, fetched, taken)
    for name in got:
        (taken / name).replace(into / name)
    told = json.loads(printed.decode().strip().splitlines()[-1])
    plain = pipfetch.is_plain
    return got, {name: [one for one in needs if plain(one)] for name, needs in told.items() if name in got}


def _reach(index: dict[str, str], proxies: dict[str, str]) -> None:
    reaching.reach(fetchplaces.of_settings(index, proxies))


def _settings() -> dict[str, str]:
    """Return where packages come from: pip's settings on this host, as root reads them."""
    found: dict[str, str] = locks.pip_settings(locks.pip_files(), os.environ)
    return found


def _proxies() -> dict[str, str]:
    names = ("http_proxy", "https_proxy", "no_proxy", "all_proxy", "ssl_cert_file", "requests_ca_bundle")
    return {name: value for name, value in os.environ.items() if name.lower() in names and value}


def _build(here: Here, app: str, home: Path, python: str, source: Path, needs: list[str]) -> Path:
    """Make the wheel of a source package, or of a project's folder; return where root has it now."""
    links = home / "in/needs" / source.name
    links.mkdir(parents=True)
    if needs:
        _fetch(here, app, home, python, needs, links)
    for _ in range(ROUNDS):
        try:
            return _build_offline(here, app, home, python, source, links)
        except CommandExecutionError as error:
            # What a package says only when it is run: fetched, and tried again.
            missing = [one.strip() for one in MISSING.findall(_said(error))]
            plain = [one for one in missing if pipfetch.is_plain(one) and one not in needs]
            if not plain:
                raise
            needs = [*needs, *plain]
            _fetch(here, app, home, python, plain, links)
    raise CommandExecutionError(f"{app}: {source.name} asks for ever more packages in order to be built")


def _build_offline(here: Here, app: str, home: Path, python: str, source: Path, links: Path) -> Path:
    work, made = home / "work", home / "made"
    for folder in (work, made):
        workshops.empty(app, folder)
    own = _own_copy(here, app, source, work) if source.is_dir() else source
    _run(here, 
        app,
        [
            _pip_python(python), "-I", "-m", "pip", "wheel", "--quiet", "--no-index", "--find-links", str(links),
            "--no-deps", "--use-pep517", "--no-cache-dir", "--wheel-dir", str(made), str(own),
        ],
        what=f"building {source.name} of {app}",
        reads=[str(home / "in")],
        writes=[str(work), str(made)],
        directory=str(work),
        environment=QUIET | UNVERSIONED | {
            "TMPDIR": str(work), "HOME": str(work), "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(links),
            "SOURCE_DATE_EPOCH": "315532800",
        },
        seconds=int(here.pillar["builder"].get("build_seconds", 3600)),
    )  # fmt: skip
    into = home / "in/made" / hashlib.sha256(source.name.encode()).hexdigest()[:12]
    appfiles.remove(into)
    into.mkdir(parents=True)
    names = list(_take(here, app, made, into))
    if len(names) != 1 or not names[0].endswith(".whl"):
        raise CommandExecutionError(
            f"{app}: {source.name} was built to {', '.join(names) or 'nothing'}, not to a wheel"
        )
    # It may not put another package in the place of its own.
    if source.is_file() and not bom.is_wheel_of(names[0], source.name):
        raise CommandExecutionError(f"{app}: {source.name} was built to {names[0]}, which is another package")
    return into / names[0]


def _own_copy(here: Here, app: str, source: Path, work: Path) -> Path:
    """Copy a project to where its build user may write: setuptools and others put their notes beside the code."""
    _run(
        here,
        app,
        ["/bin/cp", "--recursive", "--no-target-directory", "--", str(source), str(work / "src")],
        what=f"copying the project of {app}",
        reads=[str(source)],
        writes=[str(work)],
    )
    return work / "src"


def _local_wheel(here: Here, app: str, home: Path, python: str, name: str, version: str) -> tuple[str, str]:
    """Build a package that comes as source only, so that uv can read what it needs; its version and its hash."""
    into = home / "in/sources" / name
    wanted = f"{name}=={version}" if version else name
    got, needs = _fetch(here, app, home, python, ["--no-deps", wanted], into)
    ((file, digest),) = got.items()
    if file.endswith(".whl"):
        raise CommandExecutionError(f"{app}: {file} is a wheel, which uv does not take for Python {python}")
    wheel = _build(here, app, home, python, into / file, needs.get(file, []))
    wheel.rename(home / "in/local" / wheel.name)
    return wheel.name.split("-")[1], digest


def _needs(here: Here, app: str, home: Path, python: str, texts: dict[str, str]) -> list[str]:
    """Return what a project needs where only its own code can tell: built without network, its wheel is read."""
    needs = pipfetch.build_requirements(texts.get("pyproject.toml"))
    wheel = _build(here, app, home, python, home / "in/src", needs)
    told = bom.metadata(wheel).get_all("Requires-Dist") or []
    found = [one for one in told if not re.search(r"\bextra\s*==", one)]
    if strange := [one for one in found if not pipfetch.is_plain(one)]:
        raise CommandExecutionError(f"{app}: its project needs {strange[0]!a}, which is no package of the index")
    return found


def _check(here: Here, app: str, home: Path, python: str, target: Path, hashes: dict[str, str]) -> None:
    """Look whether wheels that were built here need something that the lock has forgotten."""
    (home / "in/all.txt").write_text(packing.requirements(hashes))
    workshops.empty(app, home / "fetched")
    _run(here, 
        app,
        [
            _pip_python(python), "-I", "-m", "pip", "download", "--quiet", "--no-index", "--find-links", str(target),
            "--require-hashes", "--only-binary", ":all:", "--dest", str(home / "fetched"),
            "--requirement", str(home / "in/all.txt"),
        ],
        what=f"what the lock of {app} has forgotten",
        reads=[str(home / "in"), str(target)],
        writes=[str(home / "fetched")],
        environment=QUIET | {"TMPDIR": str(home / "fetched"), "HOME": str(home / "fetched"), "PIP_NO_CACHE_DIR": "1"},
        seconds=CHECK_SECONDS,
    )  # fmt: skip


@contextlib.contextmanager
def _shop(app: str) -> Iterator[Path]:
    home = Path(workshops.open_workshop(app))
    try:
        yield home
    finally:
        workshops.close_workshop(app)


@contextlib.contextmanager
def _readable() -> Iterator[None]:
    """Let the build user read what root puts in front of him, whatever umask root has; the workshop is closed."""
    before = os.umask(0o022)
    try:
        yield
    finally:
        os.umask(before)


def _run(here: Here, app: str, argv: list[str], **walls: Any) -> bytes:
    printed: bytes = sandbox.run(
        f"build-{app}",
        argv,
        user=workshops.build_user(app),
        **workshops.bounds(here, app),
        **{**walls, "reads": [f"-{places.WORKSHOPS / '.python'}", *walls.get("reads", ())]},
    )
    return printed


def _take(here: Here, app: str, folder: Path, into: Path) -> dict[str, str]:
    most = int(here.pillar["builder"].get("disk_max_mb", 4096)) << 20
    try:
        found: dict[str, str] = appfiles.take(folder, into, most, MOST_FILES)
    except ValueError as error:
        raise CommandExecutionError(f"{app}: {error}") from error
    return found


def _pip_python(version: str) -> str:
    """Return the Python that has Debian's pip: a virtual environment of root's that all apps share and none changes.

    Debian's python3 has no pip itself. It is made anew when Debian's pip or Python has changed.
    """
    interpreter = Path(f"/usr/bin/python{version}")
    parts = [interpreter, *sorted(Path("/usr/share/python-wheels").glob("*.whl"))]
    facts = [(str(part), part.stat().st_mtime_ns, part.stat().st_size) for part in parts if part.exists()]
    place = places.WORKSHOPS / ".python" / f"{version}-{hashlib.sha256(repr(facts).encode()).hexdigest()[:12]}"
    if not (place / "whole").exists():
        place.parent.mkdir(mode=0o755, exist_ok=True)
        for old in place.parent.glob(f"{version}-*"):
            appfiles.remove(old)
        appfiles.run([str(interpreter), "-I", "-m", "venv", str(place)])
        (place / "whole").touch()
    return str(place / "bin/python")


def _digest(path: Path) -> str:
    found: str = appfiles.digest(path)
    return found


def _said(error: Exception) -> str:
    return str(getattr(error, "said", "")) or str(error)
