"""The lab itself: it heals, it is a quick no-op, it leaves nothing, and it refuses with one message."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import ROOT, beside, bin_lab

from lab.images import IMAGES
from lab.lab import Lab
from lab.tests import AS_NOBODY, readable
from lab.traces import traces


@pytest.fixture
def own(lab: Lab) -> Iterator[Lab]:
    """A second lab beside the one under test, gone at the end."""
    second = Lab(beside(lab, "o"))
    second.destroy()  # what a test that was killed has left
    yield second
    second.destroy()


@pytest.mark.slow("trixie")
def test_a_converged_host_becomes_an_image_that_serves_at_once_and_leaves_nothing(lab: Lab, own: Lab) -> None:
    image = f"{own.name}-image"
    shutil.rmtree(IMAGES / image, ignore_errors=True)
    host = lab.hosts()[0]
    try:
        committed = bin_lab("commit", "--lab", lab.name, host.id, image)
        assert committed.returncode == 0, committed.stderr
        assert host.running
        for moment in (0.6, 1.5, 4.0):  # an up that is killed anywhere is healed by the next
            up = subprocess.Popen(
                [str(ROOT / "bin/lab"), "up", "--lab", own.name, "--image", image], stderr=subprocess.DEVNULL
            )
            time.sleep(moment)
            os.kill(up.pid, signal.SIGKILL)
            up.wait()
        done = bin_lab("up", "--lab", own.name, "--image", image)
        assert done.returncode == 0, done.stderr
        assert "is served" in done.stderr
        ours = (own.hosts()[0].upper / "etc/ssh/ssh_host_ed25519_key.pub").read_text()
        assert ours != (host.upper / "etc/ssh/ssh_host_ed25519_key.pub").read_text(), "a clone has keys of its own"
        again = bin_lab("up", "--lab", own.name)
        assert "was up already" in again.stderr, again.stderr
        assert all(traces(own.name).values()), "the trace finder finds nothing, so it proves nothing below"
        gone = bin_lab("destroy", "--lab", own.name)
        assert gone.returncode == 0, gone.stderr
        assert not any(traces(own.name).values()), traces(own.name)
    finally:
        shutil.rmtree(IMAGES / image, ignore_errors=True)


def test_it_refuses_a_bridge_that_is_not_its_own(own: Lab, lab: Lab) -> None:
    subprocess.run(["ip", "link", "add", f"lab-{own.name}", "type", "bridge"], check=True)
    try:
        done = bin_lab("up", "--lab", own.name, "--image", lab.record.image)
        assert done.returncode == 1
        assert "was not made by this lab" in done.stderr
        bin_lab("destroy", "--lab", own.name)
        assert Path(f"/sys/class/net/lab-{own.name}").exists(), "destroy took away what it did not make"
    finally:
        subprocess.run(["ip", "link", "delete", f"lab-{own.name}"], check=True)


def test_without_root_it_says_so() -> None:
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        command = [*AS_NOBODY, str(readable(Path(folder)) / "bin/lab"), "up"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "sudo bin/lab up" in done.stderr


def up_where(world: str, after: str = "true") -> subprocess.CompletedProcess[str]:
    """Run `bin/lab up` with mounts of its own, which shell commands make; then look at what it did."""
    script = f"{world} && {{ {ROOT}/bin/lab up; code=$?; {after}; exit $code; }}"
    return subprocess.run(["unshare", "--mount", "sh", "-c", script], capture_output=True, text=True, check=False)


def test_on_another_system_it_says_so(tmp_path: Path) -> None:
    (tmp_path / "os-release").write_text('ID=ubuntu\nVERSION_ID="24.04"\n')
    done = up_where(f"mount --bind {tmp_path}/os-release /etc/os-release")
    assert done.returncode == 1
    assert done.stderr == "lab: this machine is ubuntu 24.04; Debian 12 and Debian 13 are supported\n"


def test_without_room_it_says_so_before_anything_has_changed() -> None:
    done = up_where("mount -t tmpfs -o size=3G tmpfs /var/cache/saltern", after="ls -A /var/cache/saltern")
    assert done.returncode == 1
    assert "has 3.0 GiB free and needs 7.5 GiB" in done.stderr
    assert done.stdout == ""


@pytest.mark.parametrize(
    "verb", ["up", "apply", "status", "exec", "ssh", "logs", "reboot", "commit", "down", "destroy", "test"]
)
def test_every_command_has_help(verb: str) -> None:
    done = bin_lab(verb, "--help")
    assert done.returncode == 0
    assert len(done.stdout.splitlines()) > 4
