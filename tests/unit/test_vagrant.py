"""The Vagrantfile's container is the same bare Debian as the lab's hosts."""

from __future__ import annotations

import re

from debian import REPOSITORY
from lab import images, machine

DOCKERFILE = (REPOSITORY / "lab/vagrant/Dockerfile").read_text()


def test_a_container_has_the_packages_of_a_lab_host() -> None:
    (installed,) = re.findall(r"--no-install-recommends \\\n(.+?)\\\n", DOCKERFILE)
    assert installed.split() == images.PACKAGES


def test_containers_and_boxes_are_the_newest_debian() -> None:
    newest = machine.known_releases()[0]
    assert f"FROM debian:{newest}" in DOCKERFILE
    assert f'config.vm.box = "debian/{newest}64"' in (REPOSITORY / "Vagrantfile").read_text()
