"""The master: a user of its own that reads no more than it needs, and minions that a person has accepted."""

from __future__ import annotations

import json
import time

import pytest

from saltern.site.fleet import Fleet
from saltern.site.site import Site

pytestmark = pytest.mark.role("master")

BACK_WITHIN = 60  # seconds; `salt` alone waits 15 for one that does not answer
AS_SALT = "setpriv --reuid=salt --regid=salt --init-groups"


def test_it_does_not_run_as_root(host) -> None:
    owners = host.check_output("ps -eo user=,unit= | awk '$2 == \"salt-master.service\" {print $1}'")
    assert set(owners.split()) == {"salt"}


def test_the_fleets_minions_are_accepted_and_nobody_else(host, fleet: Fleet) -> None:
    keys = json.loads(host.check_output("salt-key -L --out=json"))
    assert sorted(keys["minions"]) == fleet.with_role("minion")
    assert (keys["minions_pre"], keys["minions_rejected"], keys["minions_denied"]) == ([], [], [])


def test_every_minion_answers(host, fleet: Fleet) -> None:
    """A minion finds a master that was killed a moment ago, as other tests do, again after some seconds."""
    wanted = dict.fromkeys(fleet.with_role("minion"), True)
    deadline = time.monotonic() + BACK_WITHIN
    while (said := host.run("salt '*' test.ping --out=json --static")) and json.loads(said.stdout or "{}") != wanted:
        assert time.monotonic() < deadline, f"answers: {said.stdout}{said.stderr}"


@pytest.fixture
def secrets(site: Site) -> str:
    """Where the site's secrets are on the master."""
    return f"{site.settings.master.repository}/site/secrets"


def test_it_reads_hosts_secrets_and_not_what_only_root_needs(host, site: Site, secrets: str) -> None:
    for name in site.fleet.hosts:
        assert host.run(f"{AS_SALT} test -r {secrets}/{name}.sls").rc == 0, name
    shared = ["shared.yaml"] if site.apps else []  # passwords are apps'
    for name in (*shared, "ca/ca.key"):  # with people of a team, both lie there encrypted
        found = host.check_output(f"ls {secrets}/{name} {secrets}/{name}.age 2>/dev/null || true").split()
        assert found, f"{name} is not there, so the next line proves nothing"
        for file in found:
            assert host.run(f"{AS_SALT} test -r {file}").rc == 1 or file.endswith(".age"), file


def test_nobody_else_reads_secrets_keys_or_the_answers_of_jobs(host, secrets: str) -> None:
    nobody = "setpriv --reuid=65534 --regid=65534 --clear-groups"
    for place in (secrets, "/etc/salt/pki/master", "/var/cache/salt/master"):
        assert host.run(f"{nobody} ls {place}").rc != 0
        assert host.run(f"{AS_SALT} ls {place}").rc == 0


def test_the_sandbox_holds(host) -> None:
    exposure = host.check_output("systemd-analyze security salt-master.service --no-pager | tail -1")
    assert float(exposure.split("level for salt-master.service: ")[1].split()[0]) < 3


def test_it_listens_on_its_two_ports_at_its_address_only(host) -> None:
    listening = host.check_output("ss -Hltn 'sport >= :4505 and sport <= :4506' | awk '{print $4}'").split()
    assert sorted(set(listening)) == [f"{host.addr_of_fleet}:4505", f"{host.addr_of_fleet}:4506"]
