"""The Vagrantfile, by a real `vagrant up` with provider docker, as docs/vagrant.md has it."""

from __future__ import annotations

import ipaddress
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import dockerd
import pytest

from debian import REPOSITORY, Refused, install_packages
from lab import images
from lab.lab import FLEETS, LABS, fleet_prefix
from lab.network import Network
from lab.served import Page, get
from lab.tests import VAGRANT

pytestmark = pytest.mark.slow("bookworm")  # its container is Debian 13, whatever the lab's hosts are

# No lab's: a lab that is made at the same time might choose the next one.
NETWORK = Network("t-vagrant", ipaddress.IPv4Network("10.199.0.0/24"))
PREFIX = "10.199.1"
FOLDER = LABS.parent / "t-docker"


def blocks(said: str, pattern: str) -> str:
    """Return the states of what `salt-call state.apply` says in which a pattern is found, and how it ended."""
    states = re.split(r"^ *(?:\w+: )?-+\n", said, flags=re.MULTILINE)
    return "\n".join([*(state for state in states if re.search(pattern, state)), said[-200:]])


def changed(said: str) -> str:
    return blocks(said, r"Changes: +\n.*\S")


@dataclass
class Machine:
    """Whoever types `vagrant` in a clone of the repository, with fleet single and the demo alone."""

    env: dict[str, str]
    fleet: Path

    def vagrant(self, *words: str) -> str:
        done = subprocess.run(
            ["vagrant", *words], cwd=REPOSITORY, env=self.env, capture_output=True, text=True, check=False, timeout=600
        )
        bad = blocks(done.stdout, r"Result: (False|Fail)") + done.stdout[-1000:] + done.stderr[:2000]
        assert done.returncode == 0, bad  # Ruby says first what it is
        return done.stdout

    def docker(self, *words: str) -> list[str]:
        done = subprocess.run(["docker", *words], env=self.env, capture_output=True, text=True, check=True)
        return done.stdout.splitlines()


def version_of(env: dict[str, str], *command: str) -> tuple[int, ...]:
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=True)
    return tuple(int(part) for part in re.findall(r"\d+", done.stdout)[:3])


@pytest.fixture(scope="module")
def machine() -> Iterator[Machine]:
    try:
        install_packages([VAGRANT])
        dockerd.tools()
    except Refused as why:
        pytest.skip(f"Vagrant and Docker are not to be had here: {why}")
    image = images.salted("trixie")
    with dockerd.docker(NETWORK, FOLDER) as env:
        vagrant, docker = version_of(env, "vagrant", "--version"), version_of(env, "docker", "--version")
        if vagrant < (2, 4, 2) and docker >= (25,):  # as in Debian 13
            pytest.skip(f"Vagrant {vagrant} dies of the networks of Docker {docker}: hashicorp/vagrant issue 13371")
        fleet = FOLDER / "fleet"
        shutil.copytree(FLEETS / "single", fleet, ignore=shutil.ignore_patterns("secrets", "bugsink*"))
        listed = (fleet / "fleet.yaml").read_text().replace(f"{fleet_prefix(fleet)}.", f"{PREFIX}.")
        (fleet / "fleet.yaml").write_text(listed)
        dockerd.load_debian(env, image, FOLDER / "image")
        env |= {"VAGRANT_HOME": str(FOLDER / "home"), "VAGRANT_DOTFILE_PATH": str(FOLDER / "dot"), "FLEET": str(fleet)}
        yield Machine(env, fleet)


def ca_of(machine: Machine) -> Path:
    place = FOLDER / "ca.crt"
    place.write_text(machine.vagrant("ssh", "app1", "--command", "cat /srv/saltern/site/secrets/ca/ca.crt"))
    return place


def test_up_serves_the_page_again_changes_nothing_and_destroy_leaves_nothing(machine: Machine) -> None:
    machine.vagrant("up", "--provider=docker")
    (container,) = machine.docker("ps", "--quiet")
    (where,) = machine.docker("port", container, "443/tcp")
    address, port = where.split(":")
    status, body = get(Page("demo.saltern.test", address, int(port)), ca_of(machine))
    assert status == 200 and b"<h1" in body, body[:500]

    ca = ca_of(machine).read_text()
    again = machine.vagrant("provision")
    assert re.search(r"Succeeded: \d+\n.*Failed: +0\n", again), changed(
        again
    )  # with changes: Succeeded: 76 (changed=1)
    assert ca_of(machine).read_text() == ca, "the secrets stay"
    assert not (machine.fleet / "secrets").exists(), "and never leave the machine that made them"

    machine.vagrant("destroy", "-f")
    assert not machine.docker("ps", "--all", "--quiet")
    assert sorted(machine.docker("network", "ls", "--format={{.Name}}")) == ["bridge", "host", "none"]
    assert machine.docker("images", "--format={{.Repository}}:{{.Tag}}") == ["debian:trixie"]
