"""The master: a user of its own that reads no more than it needs, and minions that a person has accepted."""

from __future__ import annotations

import json
import time

import pytest

pytestmark = pytest.mark.role("master")

BACK_WITHIN = 60  # seconds; `salt` alone waits 15 for one that does not answer
AS_SALT = "setpriv --reuid=salt --regid=salt --init-groups"


def test_it_does_not_run_as_root(host) -> None:
    owners = host.check_output("ps -eo user=,unit= | awk '$2 == \"salt-master.service\" {print $1}'")
    assert set(owners.split()) == {"salt"}


def test_the_fleets_minions_are_accepted_and_nobody_else(host, fleet: dict) -> None:
    keys = json.loads(host.check_output("salt-key -L --out=json"))
    wanted = sorted(name for name, entry in fleet["hosts"].items() if "minion" in entry["roles"])
    assert sorted(keys["minions"]) == wanted
    assert (keys["minions_pre"], keys["minions_rejected"], keys["minions_denied"]) == ([], [], [])


def test_every_minion_answers(host, fleet: dict) -> None:
    """A minion finds a master that was killed a moment ago, as other tests do, again after some seconds."""
    wanted = {name: True for name, entry in fleet["hosts"].items() if "minion" in entry["roles"]}
    deadline = time.monotonic() + BACK_WITHIN
    while (answer := json.loads(host.check_output("salt '*' test.ping --out=json --static"))) != wanted:
        assert time.monotonic() < deadline, f"answers: {answer}"


def test_it_reads_hosts_secrets_and_not_what_only_root_needs(host, fleet: dict) -> None:
    secrets = "/srv/saltern/site/secrets"
    for name in fleet["hosts"]:
        assert host.run(f"{AS_SALT} test -r {secrets}/{name}.sls").rc == 0
    for name in ("shared.yaml", "ca/ca.key"):
        assert host.run(f"test -f {secrets}/{name}").rc == 0, "it is not there, so the next line proves nothing"
        assert host.run(f"{AS_SALT} test -r {secrets}/{name}").rc == 1


def test_nobody_else_reads_secrets_keys_or_the_answers_of_jobs(host) -> None:
    nobody = "setpriv --reuid=65534 --regid=65534 --clear-groups"
    for place in ("/srv/saltern/site/secrets", "/etc/salt/pki/master", "/var/cache/salt/master"):
        assert host.run(f"{nobody} ls {place}").rc != 0
        assert host.run(f"{AS_SALT} ls {place}").rc == 0


def test_the_sandbox_holds(host) -> None:
    exposure = host.check_output("systemd-analyze security salt-master.service --no-pager | tail -1")
    assert float(exposure.split("level for salt-master.service: ")[1].split()[0]) < 3


def test_it_listens_on_its_two_ports_at_its_address_only(host, fleet: dict) -> None:
    address = fleet["hosts"][host.fleet_id]["address"]
    listening = host.check_output("ss -Hltn 'sport >= :4505 and sport <= :4506' | awk '{print $4}'").split()
    assert sorted(set(listening)) == [f"{address}:4505", f"{address}:4506"]
