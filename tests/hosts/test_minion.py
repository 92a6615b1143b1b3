"""Every minion: its master knows it, its files are its own, and it comes back."""

from __future__ import annotations

import pytest

from saltern.site.site import Site

pytestmark = pytest.mark.role("minion")


def test_it_is_accepted_and_hears_its_master(host) -> None:
    assert host.check_output("salt-call test.ping --out=json").split() == ["{", '"local":', "true", "}"]


def test_its_private_key_is_roots_alone(host) -> None:
    assert host.check_output("stat -c '%U %a' /etc/salt/pki/minion/minion.pem") in ("root 400", "root 600")


def test_it_has_no_secrets_of_others(host, site: Site) -> None:
    """Only the master has the site."""
    if "master" not in host.roles:
        for part in ("site", "pillar"):
            assert not host.file(f"{site.settings.master.repository}/{part}").exists


@pytest.mark.disturbs
def test_it_comes_back_after_kill_9(host) -> None:
    before = host.check_output("systemctl show -p MainPID --value salt-minion")
    host.check_output(f"kill -9 {before}")
    wait = "for i in $(seq 150); do [ $(systemctl show -p MainPID --value salt-minion) != %s ] && "
    wait += "systemctl is-active -q salt-minion && break; sleep 0.1; done; systemctl is-active salt-minion"
    assert host.check_output(wait % before) == "active"
