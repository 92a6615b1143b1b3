"""Builds, where an app's source comes from: a directory, a Git repository, or the package index alone.

Nothing of a source is opened here. Who owns it reads it, or the app's build user does, in a sandbox; root gets a stream
of bounded size and believes none of it (sourcewalk.py, sourcestream.py). A part of the execution module build.
"""

from __future__ import annotations

import contextlib
import grp
import hashlib
import json
import os
import pwd
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from salt.exceptions import CommandExecutionError

from saltern.build import fetchplaces, gitsource, locks, sourcestream, sourcewalk
from saltern.host import appfiles, sandbox
from saltern.release import releases

__virtualname__ = "build"

BUILDS = Path("/var/lib/saltern/builds")
WORKSHOPS = Path("/var/lib/saltern/workshops")
# A tag or branch is looked up once for all states of an apply, which must agree on what they install.
LOOKED_UP_SECONDS = 300
READ_SECONDS = 300
READ_MEMORY_MB = 512
GIT = "/usr/bin/git"
FETCHED_BY = ("https", "http", "ssh", "git")  # not ext, which runs a command
# What the host's own administrator has set for Git and ssh: names of servers, proxies, who they are.
HOSTS_OWN = ("-/etc/gitconfig", "-/etc/ssh/ssh_config", "-/etc/ssh/ssh_config.d", "-/etc/ssh/ssh_known_hosts")


def __virtual__() -> str:
    return __virtualname__


def source(app: str) -> dict[str, Any]:
    """Return what an app's source is now. Changes nothing; asked once per run of Salt, for all of its states.

    Args:
        app: name of an app of this host.

    Returns:
        ``what``, in a few words; ``commit``; ``tree``, its hash; ``texts`` of the files that locks are made of, None
        for a requirement; ``git``: whether a commit was asked for; ``missing``: a revision that is yet to be fetched.

    Raises:
        CommandExecutionError: it is missing, or holds what no source may hold.

    Example:
        .. code-block:: bash

            salt-call build.source demo
    """
    known: dict[str, dict[str, Any]] = __context__.setdefault("build.source", {})
    if app not in known:
        known[app] = _source(app, None)
    return known[app]


def take_source(app: str, archive: str | Path) -> dict[str, Any]:
    """Pack an app's source as it is now; a Git revision is fetched first.

    Args:
        app: name of an app of this host.
        archive: the .tar.gz to write.

    Returns:
        As ``build.source``; what it says is what was packed.

    Raises:
        CommandExecutionError: as ``build.source``, or the repository does not answer.

    Example:
        .. code-block:: bash

            salt-call build.take_source demo /root/src.tar.gz
    """
    known: dict[str, dict[str, Any]] = __context__.setdefault("build.source", {})
    known[app] = _source(app, Path(archive))
    return known[app]


def _source(app: str, archive: Path | None) -> dict[str, Any]:
    settings = releases.settings(__pillar__, app)
    asked = {name: value for name, value in settings["source"].items() if value is not None}
    if "requirement" in asked:
        if archive:
            _read(app, None, archive)
        about = {"what": asked["requirement"], "commit": "none", "texts": None, "git": False, "missing": False}
        return about | {"tree": hashlib.sha256(b"").hexdigest()}
    if "git" in asked:
        return _git_source(app, asked["git"], asked["revision"], archive)
    directory = _repository() / asked["directory"]
    if not directory.is_dir():
        raise CommandExecutionError(
            f"apps/{app}.yaml: source.directory: {directory} is not a directory on this host. It counts from the "
            f"repository's root ({_repository()}), or is absolute."
        )
    about = _read(app, directory, archive)
    return about | {"what": str(directory), "git": False, "missing": False}


def _read(app: str, directory: Path | None, archive: Path | None, checkout: bool = False) -> dict[str, Any]:
    """Return what a reader tells of a directory, hashed or packed by root; None is a source without files."""
    stream, most = sourcestream.read, _most_bytes()
    with tempfile.TemporaryFile() as told:
        try:
            if directory:
                _tell(app, directory, archive is not None, checkout, told)
            else:
                told.write(b'{"end": true, "commit": "none", "texts": {}}\n')
            told.seek(0)
            if archive is None:
                return dict(stream(told, most))
            return dict(sourcestream.pack(told, archive, most))
        except (OSError, ValueError) as error:
            raise CommandExecutionError(f"source of {app}: {error}") from error


def _tell(app: str, directory: Path, contents: bool, checkout: bool, out: Any) -> None:
    settings = releases.settings(__pillar__, app)
    user = build_user(app) if _is_user(build_user(app)) else ""
    walls = {"user": user, "reads": [str(directory)]} if checkout else sourcestream.reader(directory, user)
    asked = {
        "source": str(directory),
        "everything": checkout,
        "texts": [*{*locks.names(), *([settings["lock"]] if settings["lock"] else [])}],
        "contents": contents,
        "privileged": "capability" in walls,
        "most_files": 100_000,
        "most_bytes": _most_bytes(),
    }
    sandbox.run(
        f"read-{app}-{os.getpid()}",
        [_python(), "-I", "-S", "-", json.dumps(asked)],
        what=f"source of {app}: {directory}",
        stdin=sourcewalk.program().encode(),
        out=out,
        most=_most_bytes() + (64 << 20),
        seconds=READ_SECONDS,
        memory_mb=READ_MEMORY_MB,
        **walls,
    )


def _python() -> str:
    """Debian's, or, on a host that has none yet, the one that Salt runs on."""
    return "/usr/bin/python3" if Path("/usr/bin/python3").exists() else os.path.realpath(sys.executable)


def _most_bytes() -> int:
    return int(__pillar__.get("builder", {}).get("source_max_mb", 512)) << 20


# --- Git ----------------------------------------------------------------------------------------------------


def _git_source(app: str, url: str, revision: str, archive: Path | None) -> dict[str, Any]:
    found = {"what": f"{url} at {revision}", "commit": revision, "tree": revision, "texts": None, "git": True}
    when, commit = _looked_up.get((url, revision), (0.0, ""))
    if not commit or time.monotonic() - when > LOOKED_UP_SECONDS:
        if not shutil.which("git"):  # a plan on a bare host: the apply installs it first
            return found | {"missing": True}
        commit = gitsource.commit_of(url, revision, _runner(app, url))
        _looked_up[url, revision] = (time.monotonic(), commit)
    found |= {"commit": commit, "tree": commit}
    if archive is None:
        about = _recorded(app, commit)
        return found | ({"missing": True} if about is None else about | {"commit": commit, "missing": False})
    about = _check_out(app, url, commit, archive)
    return found | about | {"commit": commit, "missing": False}


_looked_up: dict[tuple[str, str], tuple[float, str]] = {}


def _recorded(app: str, commit: str) -> dict[str, Any] | None:
    """Return what is known of a commit that was fetched: it never changes."""
    with contextlib.suppress(FileNotFoundError):
        record = (BUILDS / app / "commits" / f"{commit}.json").read_text(encoding="utf-8")
        return dict(sourcestream.decoded(record))
    # As earlier versions left it: files of root's, in a directory of root's.
    before = BUILDS / app / "checkouts" / commit
    return _of_commit(_read(app, before, None, checkout=True), commit) if before.is_dir() else None


def _of_commit(about: dict[str, Any], commit: str) -> dict[str, Any]:
    """Return what is known of a source with its commit: the same files of another one are another build."""
    return about | {"tree": hashlib.sha256(f"{about['tree']} {commit}".encode()).hexdigest(), "commit": commit}


def _check_out(app: str, url: str, commit: str, archive: Path) -> dict[str, Any]:
    home = Path(open_workshop(app))
    try:
        mirror, files = home / "git", home / "checkout"
        gitsource.fetch(url, commit, mirror, _runner(app, url, writes=[str(mirror)]))
        empty(app, files)
        quiet = _runner(app, "", reads=[str(mirror)], writes=[str(files)])
        gitsource.check_out(commit, mirror, files, quiet)
        about = _of_commit(_read(app, files, archive, checkout=True), commit)
    finally:
        close_workshop(app)
    record = BUILDS / app / "commits" / f"{commit}.json"
    record.parent.mkdir(mode=0o700, exist_ok=True)
    appfiles.write(record, sourcestream.encoded(about) + "\n", 0o600)
    return about


def _runner(app: str, url: str, reads: Any = (), writes: Any = ()) -> Callable[..., str]:
    """Return a function that runs Git as the app's build user: with the network when there is a URL to reach."""
    local = url.startswith("file://")  # it sees what its user sees; the network is nothing to it
    user = build_user(app) if _is_user(build_user(app)) else ""
    home = WORKSHOPS / app / "home"
    # Salt's own names have no meaning where this is called from.
    sandboxed, most = sandbox.run, bounds(app)
    reach, named = __salt__["firewall.reach"], [url, *fetchplaces.of_settings({}, _proxies())]

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


GIT_SETTINGS = (
    ("safe.directory", "*"),
    ("core.hooksPath", "/dev/null"),
    ("core.fsmonitor", "false"),
    ("submodule.recurse", "false"),
)


def _proxies() -> dict[str, str]:
    """Return how this host reaches others, as whoever runs Salt has set it; a proxy's URL may hold a password."""
    names = ("http_proxy", "https_proxy", "no_proxy", "all_proxy")
    return {name: value for name, value in os.environ.items() if name.lower() in names and value}


# --- workshops ----------------------------------------------------------------------------------------------


def build_user(app: str) -> str:
    """Return the system user that an app is built as.

    Args:
        app: the app's name.

    Example:
        .. code-block:: bash

            salt-call build.build_user demo
    """
    return str(releases.build_user(app))


def _is_user(name: str) -> bool:
    try:
        pwd.getpwnam(name)
    except KeyError:
        return False
    return True


def others(apps: list[str]) -> list[str]:
    """Return the apps that have a workshop here and are not among the given ones.

    Args:
        apps: names of apps.

    Example:
        .. code-block:: bash

            salt-call build.others '[demo]'
    """
    if not WORKSHOPS.is_dir():
        return []
    return sorted(path.name for path in WORKSHOPS.iterdir() if not path.name.startswith(".") and path.name not in apps)


def forget(app: str) -> None:
    """Remove an app's workshop and build user. Its builds stay.

    Args:
        app: the app's name.

    Raises:
        CommandExecutionError: the user cannot be removed.

    Example:
        .. code-block:: bash

            salt-call build.forget shop
    """
    user = build_user(app)
    if _is_user(user):
        appfiles.run(["userdel", user])
    with contextlib.suppress(KeyError):
        grp.getgrnam(user)
        appfiles.run(["groupdel", user])
    appfiles.remove(WORKSHOPS / app)


def open_workshop(app: str) -> str:
    """Make an app's workshop, where its build user fetches and builds, and clear what a killed run has left there.

    It and its ``home`` are root's, and the build user may look; ``git`` is his; ``in`` is what root puts before him.

    Args:
        app: name of an app of this host.

    Returns:
        Its path.

    Example:
        .. code-block:: bash

            salt-call build.open_workshop demo
    """
    home = WORKSHOPS / app
    WORKSHOPS.mkdir(mode=0o755, exist_ok=True)
    give = __salt__["build.give"]
    home.mkdir(mode=0o700, exist_ok=True)
    give(app, home, 0o750, False)
    close_workshop(app)
    for name, mode, own in (("home", 0o750, False), ("git", 0o700, True), ("in", 0o750, False)):
        (home / name).mkdir(mode=0o700, exist_ok=True)
        give(app, home / name, mode, own)
    return str(home)


def close_workshop(app: str) -> None:
    """Remove from an app's workshop all that the next build makes anew.

    Args:
        app: name of an app of this host.

    Example:
        .. code-block:: bash

            salt-call build.close_workshop demo
    """
    for path in (WORKSHOPS / app).iterdir():
        if path.name not in ("home", "git"):
            appfiles.remove(path)


def empty(app: str, path: str | Path) -> None:
    """Make an empty directory of a build user's, in place of what is there.

    Args:
        app: name of an app of this host.
        path: the directory; the one around it is root's.

    Example:
        .. code-block:: bash

            salt-call build.empty demo /var/lib/saltern/workshops/demo/made
    """
    appfiles.remove(path)
    Path(path).mkdir(mode=0o700)
    __salt__["build.give"](app, path, 0o700, True)


def give(app: str, path: str | Path, mode: int, own: bool) -> None:
    """Let an app's build user have a directory, or look into it. Follows no link.

    Args:
        app: name of an app of this host.
        path: the directory; the one around it is root's.
        mode: permission bits.
        own: whether it is his.

    Example:
        .. code-block:: bash

            salt-call build.give demo /var/lib/saltern/workshops/demo/git 0o700 True
    """
    person = pwd.getpwnam(build_user(app))
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        os.fchown(handle, person.pw_uid if own else 0, person.pw_gid)
        os.fchmod(handle, mode)
    finally:
        os.close(handle)


def bounds(app: str) -> dict[str, Any]:
    """Return what an app's build may use: the site's bounds, as arguments for a sandbox.

    Args:
        app: name of an app of this host.

    Example:
        .. code-block:: bash

            salt-call build.bounds demo
    """
    builder = __pillar__.get("builder", {})
    disk = int(builder.get("disk_max_mb", 4096))
    found: dict[str, Any] = {"memory_mb": int(builder.get("memory_max_mb", 2048)), "file_mb": disk}
    home = WORKSHOPS / app
    return found | ({"disk": (str(home), disk)} if home.is_dir() else {})


def _repository() -> Path:
    """Return the repository that this file is part of, or /srv/saltern when Salt has copied it to its cache."""
    here = Path(__file__).resolve().parent.parent
    return here if (here / "salt" / "top.sls").is_file() else Path("/srv/saltern")
