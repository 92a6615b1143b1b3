"""Where an app's source comes from: a directory, a Git repository, or the package index alone.

Nothing of a source is opened here. Who owns it reads it, or the app's build user does, in a sandbox; root gets a stream
of bounded size and believes none of it (sourcewalk.py, sourcestream.py).
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from salt.exceptions import CommandExecutionError

from saltern.build import fetchplaces, gitsource, locks, reaching, sourcestream, sourcewalk, workshops
from saltern.host import appfiles, places, sandbox
from saltern.host.here import Here

# A tag or branch is looked up once for all states of an apply, which must agree on what they install.
LOOKED_UP_SECONDS = 300
READ_SECONDS = 300
READ_MEMORY_MB = 512
GIT = "/usr/bin/git"
FETCHED_BY = ("https", "http", "ssh", "git")  # not ext, which runs a command
# What the host's own administrator has set for Git and ssh: names of servers, proxies, who they are.
HOSTS_OWN = ("-/etc/gitconfig", "-/etc/ssh/ssh_config", "-/etc/ssh/ssh_config.d", "-/etc/ssh/ssh_known_hosts")
GIT_SETTINGS = (
    ("safe.directory", "*"),
    ("core.hooksPath", "/dev/null"),
    ("core.fsmonitor", "false"),
    ("submodule.recurse", "false"),
)
_looked_up: dict[tuple[str, str], tuple[float, str]] = {}


def source(here: Here, app: str) -> dict[str, Any]:
    """Return what an app's source is now. Changes nothing; asked once per run of Salt, for all of its states."""
    known: dict[str, dict[str, Any]] = here.memory.setdefault("build.source", {})
    if app not in known:
        known[app] = _source(here, app, None)
    return known[app]


def take_source(here: Here, app: str, archive: str | Path) -> dict[str, Any]:
    """Pack an app's source as it is now; a Git revision is fetched first.

    Args:
        app: name of an app of this host.
        archive: the .tar.gz to write.

    Returns:
        As ``build.source``; what it says is what was packed.

    Raises:
        CommandExecutionError: as ``build.source``, or the repository does not answer.
    """
    known: dict[str, dict[str, Any]] = here.memory.setdefault("build.source", {})
    known[app] = _source(here, app, Path(archive))
    return known[app]


def _source(here: Here, app: str, archive: Path | None) -> dict[str, Any]:
    settings = here.app(app)
    asked = {name: value for name, value in settings["source"].items() if value is not None}
    if "requirement" in asked:
        if archive:
            _read(here, app, None, archive)
        about = {"what": asked["requirement"], "commit": "none", "texts": None, "git": False, "missing": False}
        return about | {"tree": hashlib.sha256(b"").hexdigest()}
    if "git" in asked:
        return _git_source(here, app, asked["git"], asked["revision"], archive)
    directory = _repository() / asked["directory"]
    if not directory.is_dir():
        raise CommandExecutionError(
            f"apps/{app}.yaml: source.directory: {directory} is not a directory on this host. It counts from the "
            f"repository's root ({_repository()}), or is absolute."
        )
    about = _read(here, app, directory, archive)
    return about | {"what": str(directory), "git": False, "missing": False}


def _read(here: Here, app: str, directory: Path | None, archive: Path | None, checkout: bool = False) -> dict[str, Any]:
    """Return what a reader tells of a directory, hashed or packed by root; None is a source without files."""
    stream, most = sourcestream.read, _most_bytes(here)
    with tempfile.TemporaryFile() as told:
        try:
            if directory:
                _tell(here, app, directory, archive is not None, checkout, told)
            else:
                told.write(b'{"end": true, "commit": "none", "texts": {}}\n')
            told.seek(0)
            if archive is None:
                return dict(stream(told, most))
            return dict(sourcestream.pack(told, archive, most))
        except (OSError, ValueError) as error:
            raise CommandExecutionError(f"source of {app}: {error}") from error


def _tell(here: Here, app: str, directory: Path, contents: bool, checkout: bool, out: Any) -> None:
    settings = here.app(app)
    user = workshops.build_user(app) if workshops.is_user(workshops.build_user(app)) else ""
    walls = {"user": user, "reads": [str(directory)]} if checkout else sourcestream.reader(directory, user)
    asked = {
        "source": str(directory),
        "everything": checkout,
        "texts": [*{*locks.names(), *([settings["lock"]] if settings["lock"] else [])}],
        "contents": contents,
        "privileged": "capability" in walls,
        "most_files": 100_000,
        "most_bytes": _most_bytes(here),
    }
    sandbox.run(
        f"read-{app}-{os.getpid()}",
        [_python(), "-I", "-S", "-", json.dumps(asked)],
        what=f"source of {app}: {directory}",
        stdin=sourcewalk.program().encode(),
        out=out,
        most=_most_bytes(here) + (64 << 20),
        seconds=READ_SECONDS,
        memory_mb=READ_MEMORY_MB,
        **walls,
    )


def _python() -> str:
    """Debian's, or, on a host that has none yet, the one that Salt runs on."""
    return "/usr/bin/python3" if Path("/usr/bin/python3").exists() else os.path.realpath(sys.executable)


def _most_bytes(here: Here) -> int:
    return int(here.pillar.get("builder", {}).get("source_max_mb", 512)) << 20


def _git_source(here: Here, app: str, url: str, revision: str, archive: Path | None) -> dict[str, Any]:
    found = {"what": f"{url} at {revision}", "commit": revision, "tree": revision, "texts": None, "git": True}
    when, commit = _looked_up.get((url, revision), (0.0, ""))
    if not commit or time.monotonic() - when > LOOKED_UP_SECONDS:
        if not shutil.which("git"):  # a plan on a bare host: the apply installs it first
            return found | {"missing": True}
        commit = gitsource.commit_of(url, revision, _runner(here, app, url))
        _looked_up[url, revision] = (time.monotonic(), commit)
    found |= {"commit": commit, "tree": commit}
    if archive is None:
        about = _recorded(here, app, commit)
        return found | ({"missing": True} if about is None else about | {"commit": commit, "missing": False})
    about = _check_out(here, app, url, commit, archive)
    return found | about | {"commit": commit, "missing": False}


def _recorded(here: Here, app: str, commit: str) -> dict[str, Any] | None:
    """Return what is known of a commit that was fetched: it never changes."""
    with contextlib.suppress(FileNotFoundError):
        record = (places.BUILDS / app / "commits" / f"{commit}.json").read_text(encoding="utf-8")
        return dict(sourcestream.decoded(record))
    # As earlier versions left it: files of root's, in a directory of root's.
    before = places.BUILDS / app / "checkouts" / commit
    return _of_commit(_read(here, app, before, None, checkout=True), commit) if before.is_dir() else None


def _of_commit(about: dict[str, Any], commit: str) -> dict[str, Any]:
    """Return what is known of a source with its commit: the same files of another one are another build."""
    return about | {"tree": hashlib.sha256(f"{about['tree']} {commit}".encode()).hexdigest(), "commit": commit}


def _check_out(here: Here, app: str, url: str, commit: str, archive: Path) -> dict[str, Any]:
    home = Path(workshops.open_workshop(app))
    try:
        mirror, files = home / "git", home / "checkout"
        gitsource.fetch(url, commit, mirror, _runner(here, app, url, writes=[str(mirror)]))
        workshops.empty(app, files)
        quiet = _runner(here, app, "", reads=[str(mirror)], writes=[str(files)])
        gitsource.check_out(commit, mirror, files, quiet)
        about = _of_commit(_read(here, app, files, archive, checkout=True), commit)
    finally:
        workshops.close_workshop(app)
    record = places.BUILDS / app / "commits" / f"{commit}.json"
    record.parent.mkdir(mode=0o700, exist_ok=True)
    appfiles.write(record, sourcestream.encoded(about) + "\n", 0o600)
    return about


def _runner(here: Here, app: str, url: str, reads: Any = (), writes: Any = ()) -> Callable[..., str]:
    """Return a function that runs Git as the app's build user: with the network when there is a URL to reach."""
    local = url.startswith("file://")  # it sees what its user sees; the network is nothing to it
    user = workshops.build_user(app) if workshops.is_user(workshops.build_user(app)) else ""
    home = places.WORKSHOPS / app / "home"
    # Salt's own names have no meaning where this is called from.
    sandboxed, most = sandbox.run, workshops.bounds(here, app)
    reach, named = reaching.reach, [url, *fetchplaces.of_settings({}, _proxies())]

    def run(argv: list[str], env: dict[str, str] | None = None, timeout: int = 600, **_: Any) -> str:
        settings = {
            **(env or {}),
            "HOME": str(home),
            "GIT_ALLOW_PROTOCOL": ":".join([*FETCHED_BY, *(["file"] if local else [])]),
            "GIT_SSH_COMMAND": _ssh(home / ".ssh"),
            "GIT_ATTR_NOSYSTEM": "1",
            # One word per variable: Git's own way of settings that no file can change.
            "GIT_CONFIG_COUNT": "4",
            **{f"GIT_CONFIG_KEY_{number}": key for number, (key, _) in enumerate(GIT_SETTINGS)},
            **{f"GIT_CONFIG_VALUE_{number}": value for number, (_, value) in enumerate(GIT_SETTINGS)},
        }
        name = f"git-{app}" if writes else f"ask-{app}-{os.getpid()}"
        if url and not local:
            reach(named)
        printed: bytes = sandboxed(
            name,
            [GIT, *argv[1:]],
            what=" ".join(argv[:3]) + " ...",
            user=user,
            network=bool(url) and not local,
            closed=not local,
            reads=[*HOSTS_OWN, f"-{home}", *reads],
            writes=writes,
            seconds=timeout,
            environment=settings,
            secrets=_proxies(),
            **most,
        )
        return printed.decode(errors="replace")

    return run


def _ssh(keys: Path) -> str:
    """ssh with the keys that were put into the workshop: it looks into the account's home, which there is none of."""
    own = [f"IdentityFile={keys}/{name}" for name in ("id_ed25519", "id_ecdsa", "id_rsa")]
    own += [f"UserKnownHostsFile={keys}/known_hosts", "BatchMode=yes", "PermitLocalCommand=no"]
    return " ".join(["ssh", *(f"-o {one}" for one in own)])


def _proxies() -> dict[str, str]:
    """Return how this host reaches others, as whoever runs Salt has set it; a proxy's URL may hold a password."""
    names = ("http_proxy", "https_proxy", "no_proxy", "all_proxy")
    return {name: value for name, value in os.environ.items() if name.lower() in names and value}


def _repository() -> Path:
    """Return the repository that this file is part of, or /srv/saltern when Salt has copied it to its cache."""
    here = Path(__file__).resolve().parents[2]
    return here if (here / "salt" / "top.sls").is_file() else Path("/srv/saltern")
