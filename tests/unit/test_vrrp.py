"""The interface on which an address is shared."""

from __future__ import annotations

import pytest

from tests.unit.contracts import load

vrrp, firewall = load("_modules", "vrrp"), load("_modules", "firewall")


def test_it_is_the_one_with_the_hosts_own_address() -> None:
    vrrp.__grains__ = {"ip4_interfaces": {"lo": ["127.0.0.1"], "eth0": ["10.0.0.4", "10.0.0.5"], "eth1": []}}
    assert vrrp.interface("10.0.0.5") == "eth0"


def test_a_host_without_its_address_is_told_so() -> None:
    with pytest.raises(ValueError, match=r"no interface of this host has 10\.0\.0\.6, its address in fleet\.yaml"):
        vrrp.interface_with("10.0.0.6", {"eth0": ["10.0.0.4"]})


def test_the_firewall_lets_only_the_other_edges_speak() -> None:
    lines = [line.strip() for line in firewall.ruleset([], ["10.0.0.5", "10.0.0.6"]).splitlines() if "112" in line]
    assert [line.partition(" comment")[0] for line in lines] == [
        "ip saddr { 10.0.0.5, 10.0.0.6 } ip protocol 112 accept"
    ]
    assert "112" not in firewall.ruleset([])
