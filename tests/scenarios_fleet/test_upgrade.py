"""Salt is upgraded over the fleet by the step of docs/servers.md, and no minion cuts off its own branch."""

from __future__ import annotations

import re

import pytest
from conftest import apply, run, wait_for

from debian import REPOSITORY
from lab.fleet import connect
from lab.host import Host

LOOP = re.search(r"^master# (for id in .+)$", (REPOSITORY / "docs/servers.md").read_text(), re.MULTILINE)
# The same wheels, which for all that anyone can tell are another Salt: Salt's folder is named after this file.
ANOTHER = """
mkdir -p /root/new/var/cache/saltern && cp -r /var/cache/saltern/wheelhouse /root/new/var/cache/saltern/
for lock in /root/new/var/cache/saltern/wheelhouse/*/requirements.txt; do echo "# $(date +%s)" >> $lock; done
"""

pytestmark = pytest.mark.slow("fleet")


def salt_of(host: Host) -> str:
    """The Salt that the minion runs, by what its process has loaded."""
    pid = run(host, "systemctl", "show", "-p", "MainPID", "--value", "salt-minion").strip()
    return run(host, "sh", "-c", f"grep -sho '/opt/saltern/salt-[0-9a-f]*' /proc/{pid}/maps | sort -u").strip()


def test_salt_is_upgraded_by_the_step_of_the_page(master: Host, minion: Host) -> None:
    assert LOOP
    before = salt_of(minion)
    run(master, "sh", "-c", ANOTHER)
    from_there = LOOP[1].replace("salt/minion var", "salt/minion -C /root/new var")
    loop = from_there.replace("saltern/requirements var", "saltern/requirements -C /root/new var")
    assert loop != LOOP[1]
    run(master, "bash", "-c", loop.replace("tail -n +2", f"grep {minion.id}"))
    assert salt_of(minion) == before, "nothing that runs is disturbed"
    states = apply(master, minion)
    assert states["salt-minion.service"]["changes"]
    wait_for("it restarts", lambda: salt_of(minion) not in (before, ""))
    connect(master, [minion])
    now = salt_of(minion)
    assert now != before and now == run(minion, "readlink", "/opt/saltern/salt").strip()
    assert not [name for name, state in apply(master, minion).items() if state["changes"]]
