"""A Docker daemon for one test: own folder, socket and bridge, and no firewall rules of its own on this machine."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from debian import digest, run
from lab import images, machine
from lab.network import Network
from lab.output import stage

TOOLS = images.CACHE / "docker"
WAIT_SECONDS = 30
PID = "docker.pid"
CGROUPS, CGROUP = Path("/sys/fs/cgroup"), "saltern-docker"


def tools() -> dict[str, str]:
    """Return an environment in which Debian's docker and dockerd are found.

    Docker is not installed on the machine, where it would start at once and refuse all forwarded packets, those of
    the labs among them: its packages are unpacked into the lab's cache.

    Raises:
        Refused: apt did not get them.
    """
    if not (TOOLS / "usr/sbin/dockerd").exists():
        with stage("Docker from Debian's packages, unpacked beside the lab"):
            part = TOOLS.with_name("docker.part")
            shutil.rmtree(part, ignore_errors=True)
            (part / "debs/partial").mkdir(parents=True)
            run(["apt-get", "update", "-q"])
            names = ["docker.io"] + (["docker-cli"] if _in_debian("docker-cli") else [])  # one package in Debian 12
            options = ["-q", "-y", "--no-install-recommends", "--download-only"]
            run(["apt-get", "install", *options, "-o", f"Dir::Cache::archives={part / 'debs'}", *names])
            for package in sorted((part / "debs").glob("*.deb")):
                run(["dpkg-deb", "--extract", str(package), str(part)])
            shutil.rmtree(part / "debs")
            for name in ("iptables", "ip6tables"):  # what Debian's alternatives would do
                if (part / "usr/sbin/xtables-nft-multi").exists():
                    (part / "usr/sbin" / name).symlink_to("xtables-nft-multi")
            part.rename(TOOLS)
    libraries = next(iter(TOOLS.glob("usr/lib/*-linux-gnu")), TOOLS)
    return {
        "PATH": f"{TOOLS}/usr/bin:{TOOLS}/usr/sbin:{os.environ['PATH']}",
        "LD_LIBRARY_PATH": str(libraries),
        "XTABLES_LIBDIR": str(libraries / "xtables"),
    }


def _in_debian(package: str) -> bool:
    return bool(run(["apt-cache", "search", "--names-only", f"^{package}$"]).stdout)


@contextmanager
def docker(net: Network, folder: Path) -> Iterator[dict[str, str]]:
    """Run a daemon whose containers are on the lab network `net`; nothing of it stays.

    Args:
        net: bridge and address translation for its default network, made and removed here.
        folder: for its images and sockets.

    Yields:
        The environment in which `docker` talks to it.
    """
    end(folder)  # left by a test that was killed
    env = os.environ | tools()
    socket = f"unix://{folder / 'docker.sock'}"
    command = ["dockerd", f"--data-root={folder / 'data'}", f"--exec-root={folder / 'exec'}", f"--host={socket}"]
    command += [f"--pidfile={folder / PID}", f"--bridge={net.bridge}", f"--cgroup-parent=/{CGROUP}"]
    command += ["--iptables=false", "--ip6tables=false", "--ip-masq=false"]
    net.up()
    folder.mkdir(parents=True)
    try:
        with (folder / "dockerd.log").open("w") as log:
            daemon = subprocess.Popen(command, env=env, stdout=log, stderr=log, start_new_session=True)
        env |= {"DOCKER_HOST": socket}
        deadline = time.monotonic() + WAIT_SECONDS
        while subprocess.run(["docker", "info"], env=env, capture_output=True, check=False).returncode:
            assert daemon.poll() is None and time.monotonic() < deadline, (folder / "dockerd.log").read_text()[-2000:]
            time.sleep(0.2)
        yield env
    finally:
        end(folder)
        net.down()


def end(folder: Path) -> None:
    """End the daemon of that folder, with its containers and networks, and remove the folder and their cgroups."""
    record = folder / PID
    pid = int(record.read_text()) if record.exists() else 0
    if pid and str(folder).encode() in _command_line(pid):
        env = os.environ | tools() | {"DOCKER_HOST": f"unix://{folder / 'docker.sock'}"}
        containers = run(["docker", "ps", "--all", "--quiet"], env=env).stdout.split()
        if containers:
            run(["docker", "rm", "--force", *containers], env=env)
        run(["docker", "network", "prune", "--force"], env=env)  # their bridges would outlive the daemon
        os.kill(pid, signal.SIGTERM)
        deadline = time.monotonic() + 60
        while str(folder).encode() in _command_line(pid):
            assert time.monotonic() < deadline, f"dockerd, process {pid}, does not end"
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)
            time.sleep(0.1)
    shutil.rmtree(folder, ignore_errors=True)
    for group in (*CGROUPS.glob(CGROUP), *CGROUPS.glob(f"*/{CGROUP}")):
        for inner in (*sorted(group.rglob("*/"), reverse=True), group):
            inner.rmdir()


def _command_line(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def load_debian(env: dict[str, str], image: images.Image, folder: Path) -> None:
    """Give the daemon a lab image as `debian:CODENAME`, with Salt's wheels and this machine's way to a package index.

    Args:
        env: from `docker`.
        image: a lab image.
        folder: an empty folder, for the mount.
    """
    upper, work, root = folder / "upper", folder / "work", folder / "root"
    images.mount(image, upper, work, root)
    try:
        (root / "etc/pip.conf").write_text(machine.pip_settings())
        lock = digest(images.REPOSITORY / "requirements/salt.txt")
        wheels = next(images.WHEELHOUSE.glob(f"{image.release}-*{lock}"))
        shutil.copytree(wheels, root / images.WHEELHOUSE.relative_to("/") / wheels.name)
        with subprocess.Popen(["tar", "-C", str(root), "--numeric-owner", "-c", "."], stdout=subprocess.PIPE) as tar:
            run(["docker", "import", "-", f"debian:{image.release}"], env=env, stdin=tar.stdout)
        assert tar.returncode == 0
    finally:
        images.unmount(root, work)
