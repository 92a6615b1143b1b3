"""bin/bootstrap on a bare Debian server, as docs/servers.md has it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import beside

from debian import REPOSITORY, digest
from lab import images
from lab.host import Host
from lab.lab import Lab

WHEELS = Path("/root/wheels")


@pytest.fixture(scope="module")
def bare(lab: Lab) -> Iterator[Host]:
    """A host with Debian alone, no Salt, no index settings, and the wheelhouse brought along."""
    server = Lab(beside(lab, "b"))
    server.destroy()
    server.make("single", image=images.load(lab.record.image).parent)
    host = server.hosts()[0]
    host.execute(["rm", "-f", "/etc/pip.conf", "/etc/salt/minion.d/id.conf"])
    lock = digest(REPOSITORY / "requirements/salt.txt")
    built = next(images.WHEELHOUSE.glob(f"{lab.record.release}-*{lock}"))
    shutil.copytree(built, host.root / WHEELS.relative_to("/"))
    yield host
    server.destroy()


def bootstrap(host: Host) -> tuple[int, str]:
    command = ["./bin/bootstrap", "--id", host.id, "--wheelhouse", str(WHEELS)]
    done = host.execute(command, capture=True, cwd=str(images.REPOSITORY_ON_HOST))
    return done.returncode, done.stdout + done.stderr


def test_a_flipped_byte_is_refused(bare: Host) -> None:
    wheel = next((bare.root / WHEELS.relative_to("/")).glob("salt-*.whl"))
    before = wheel.read_bytes()
    wheel.write_bytes(before[:5000] + bytes([before[5000] ^ 1]) + before[5001:])
    code, said = bootstrap(bare)
    wheel.write_bytes(before)
    assert code == 1
    assert f"{wheel.name} in {WHEELS} has been changed" in said
    assert not (bare.root / "usr/local/bin/salt-call").is_symlink()


def test_it_ends_with_a_working_masterless_minion(bare: Host) -> None:
    code, said = bootstrap(bare)
    assert code == 0, said
    code, again = bootstrap(bare)
    assert code == 0 and "offline" not in again, "run again, it does only what is missing"
    planned = bare.execute(
        ["salt-call", "state.apply", "test=True", "--out=json"], capture=True, cwd=str(images.REPOSITORY_ON_HOST)
    )
    assert planned.returncode == 0, planned.stdout[-3000:]
    assert "/etc/haproxy/haproxy.cfg" in planned.stdout
