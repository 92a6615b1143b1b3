"""What bin/lab, bin/verify and bin/bootstrap need of a bare Debian machine. Only Debian's own python3 is used here."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import time
import tomllib
from pathlib import Path
from typing import NoReturn

REPOSITORY = Path(__file__).resolve().parent.parent
SUPPORTED = {"12": "bookworm", "13": "trixie"}
TOOLS_LOCK = REPOSITORY / "requirements/lab.txt"
# python3-dev and gcc: one of Salt's dependencies has no wheel.
TOOLS_PACKAGES = ["python3-venv", "python3-dev", "gcc", "libc6-dev", "ca-certificates", "git"]


class Refused(Exception):
    """The one clear message that is shown before anything has changed."""


def release() -> str:
    """Return this machine's Debian codename.

    Raises:
        Refused: the machine is not Debian 12 or 13.

    Example:
        >>> release()  # needs Debian  # doctest: +SKIP
        'trixie'
    """
    path = Path("/etc/os-release")
    lines = path.read_text().splitlines() if path.exists() else []
    facts = dict(line.split("=", 1) for line in lines if "=" in line)
    name, version = facts.get("ID", "?").strip('"'), facts.get("VERSION_ID", "?").strip('"')
    if name != "debian" or version not in SUPPORTED:
        raise Refused(f"this machine is {name} {version}; Debian 12 and Debian 13 are supported")
    return SUPPORTED[version]


def version() -> str:
    """Return Saltern's version as pyproject.toml has it, with the commit where Git knows one.

    A server to which only bin/ was carried (docs/servers.md) has neither: "unknown".
    """
    project = REPOSITORY / "pyproject.toml"
    found = tomllib.loads(project.read_text())["project"]["version"] if project.exists() else "unknown"
    command = ["git", "-C", str(REPOSITORY), "rev-parse", "--short=12", "HEAD"]
    if not (REPOSITORY / ".git").exists() or not shutil.which("git"):
        return found
    commit = subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
    return f"{found} ({commit})" if commit else found


def need_root(command: str) -> None:
    """Refuse when not root, with the command to type instead.

    Raises:
        Refused: the caller is not root.
    """
    if os.geteuid() != 0:
        raise Refused(f"this needs root: type  sudo {command}")


def need_disk(folder: str, gib: float) -> None:
    """Refuse when there is less free space than `gib` (GiB) where `folder` is or will be.

    Raises:
        Refused: too little space; the message says how much there is.
    """
    there = Path(folder)
    while not there.exists():
        there = there.parent
    free = shutil.disk_usage(there).free / 2**30
    if free < gib:
        raise Refused(f"{folder} has {free:.1f} GiB free and needs {gib:.1f} GiB: make room, then run this again")


def run(argv: list[str], **kwargs) -> subprocess.CompletedProcess:
    """Run a command quietly; when it fails, exit with its last lines.

    Args:
        argv: the command, no shell.
        **kwargs: passed to subprocess.run.

    Raises:
        Refused: the command failed.
    """
    done = subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, **kwargs)
    if done.returncode:
        tail = "\n".join("    " + line for line in done.stdout.splitlines()[-15:])
        raise Refused(f"'{' '.join(argv)[:200]}' failed with exit code {done.returncode}:\n{tail}")
    return done


def missing_packages(packages: list[str]) -> list[str]:
    """Return those of the Debian packages that are not installed."""
    asked = subprocess.run(
        ["dpkg-query", "-W", "-f", "${Package} ${db:Status-Status}\n", *packages],
        capture_output=True,
        text=True,
        check=False,
    )
    there = {line.split()[0] for line in asked.stdout.splitlines() if line.endswith(" installed")}
    return [name for name in packages if name not in there]


def install_packages(packages: list[str]) -> None:
    """Install Debian packages that are missing, without questions and without recommendations.

    Raises:
        Refused: not root, or apt failed.
    """
    missing = missing_packages(packages)
    if not missing:
        return
    need_root(" ".join(sys.argv))
    env = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    with step(f"apt: {' '.join(missing)}"):
        # A server that boots for the first time may hold the lock for its own updates: wait, don't fail.
        wait = ["-o", "DPkg::Lock::Timeout=300"]
        run(["apt-get", "update", "-q"], env=env)
        run(["apt-get", "install", "-q", "-y", "--no-install-recommends", *wait, *missing], env=env)


class step:
    """Show one line for a piece of work: what, and how long it took.

    Example:
        >>> with step("building"):  # needs eyes  # doctest: +SKIP
        ...     pass
    """

    def __init__(self, text: str):
        self.text = text

    def __enter__(self) -> None:
        self.start = time.monotonic()
        self.live = sys.stderr.isatty()
        if self.live:
            print(f"  … {self.text}", end="", file=sys.stderr, flush=True)

    def __exit__(self, kind, *_) -> None:
        mark = "✗" if kind else "✓"
        start = "\r\033[K" if self.live else ""
        print(f"{start}  {mark} {self.text}  {time.monotonic() - self.start:.1f} s", file=sys.stderr, flush=True)


def digest(*paths: Path, length: int = 12) -> str:
    """Return the first hex digits of the SHA-256 over the content of some files, in order."""
    summed = hashlib.sha256()
    for path in paths:
        summed.update(path.read_bytes())
    return summed.hexdigest()[:length]


def venv_from_lock(folder: Path, lock: Path, *pip_options: str) -> None:
    """Make `folder` a virtual environment with exactly what `lock` names, every file checked by its hash.

    A folder without its mark was interrupted: it is made again.

    Args:
        folder: the environment; its name should carry the lock's digest.
        lock: a requirements file with hashes.
        *pip_options: e.g. '--no-index', '--find-links=DIR'.

    Raises:
        Refused: pip failed; its last lines are in the message.
    """
    mark = folder / ".complete"
    if mark.exists():
        return
    shutil.rmtree(folder, ignore_errors=True)
    folder.parent.mkdir(parents=True, exist_ok=True)
    run(["/usr/bin/python3", "-m", "venv", str(folder)])
    pip = [str(folder / "bin/python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    run([*pip, "--require-hashes", *pip_options, "-r", str(lock)])
    mark.touch()


def tools_python(gib: float, *packages: str) -> Path:
    """Return the Python of the tools, in an environment made from the lock; with everything there this takes no time.

    Args:
        gib: free disk space that is needed where it is not made yet, in GiB.
        *packages: Debian packages that the caller needs besides.

    Raises:
        Refused: no supported Debian, too little space, or a package or wheel that cannot be had.
    """
    codename = release()
    cache = "/var/cache" if os.geteuid() == 0 else os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    name = f"{codename}-{digest(TOOLS_LOCK)}"
    shared, own = Path("/var/cache/saltern/venv") / name, Path(cache) / "saltern/venv" / name
    for folder in (shared, own):
        if (folder / ".complete").exists():
            install_packages(list(packages))
            return folder / "bin/python"
    need_disk(str(own), gib)
    install_packages([*TOOLS_PACKAGES, *packages])
    with step(f"a Python environment of our own, from {TOOLS_LOCK.relative_to(REPOSITORY)}"):
        venv_from_lock(own, TOOLS_LOCK)
    return own / "bin/python"


def become(python: Path, module: str) -> NoReturn:
    """Go on as a module of this repository, with the words that were typed."""
    os.environ["PYTHONPATH"] = os.pathsep.join([str(REPOSITORY), str(REPOSITORY / "bin")])
    os.execv(python, [str(python), "-m", module, *sys.argv[1:]])  # noqa: S606  no shell is wanted
