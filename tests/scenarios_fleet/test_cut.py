"""`bin/lab cut` and `bin/lab mend`: two hosts do not reach each other, and nobody else is touched."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator

import pytest

from debian import Refused
from lab.host import Host
from lab.lab import Lab


@pytest.fixture
def mended(lab: Lab) -> Iterator[None]:
    yield
    lab.network.mend()


def reaches(one: Host, other: Host) -> bool:
    """Whether a new connection to the other's sshd opens, which is for everybody."""
    command = ["timeout", "2", "bash", "-c", f"exec 3<>/dev/tcp/{other.address}/22"]
    return one.execute(command, capture=True).returncode == 0


def test_a_cut_parts_two_hosts_and_no_others(lab: Lab, master: Host, minion: Host, mended: None) -> None:
    assert reaches(master, minion) and reaches(minion, master)
    lab.cut(master.id, minion.id)
    lab.cut(minion.id, master.id)  # the same one
    assert not reaches(master, minion)
    assert not reaches(minion, master)
    assert lab.network.cuts() == [tuple(sorted([master.id, minion.id]))]
    others = [host for host in lab.hosts() if host.id not in (master.id, minion.id)]
    assert all(reaches(host, minion) and reaches(host, master) for host in others)
    lab.network.mend()
    assert reaches(master, minion) and reaches(minion, master)
    assert lab.network.cuts() == []


def test_a_cut_ends_connections_by_silence(lab: Lab, master: Host, minion: Host, mended: None) -> None:
    """An open connection is neither refused nor reset: what is sent is never answered."""
    command = f"exec 3<>/dev/tcp/{minion.address}/22; head -n 1 <&3; read go; echo SSH-2.0-x >&3; timeout 2 cat <&3"

    process = subprocess.Popen(
        master.argv(["bash", "-c", command]), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout and process.stdin
    assert process.stdout.readline().startswith("SSH-2.0")
    lab.cut(master.id, minion.id)
    assert process.communicate("go\n", timeout=20)[0] == ""
    assert process.returncode == 124  # still waiting, and ended by timeout


def test_a_cut_needs_two_hosts_of_the_lab(lab: Lab, master: Host) -> None:
    with pytest.raises(Refused, match="itself"):
        lab.cut(master.id, master.id)
    with pytest.raises(Refused, match="no host 'nobody'"):
        lab.cut(master.id, "nobody")
    assert lab.network.cuts() == []
