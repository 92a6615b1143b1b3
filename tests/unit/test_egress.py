"""What processes may call: the ranges, and the rules as nft understands them."""

from __future__ import annotations

import ipaddress
import random
import re
from pathlib import Path

import pytest

from saltern.build import fetchplaces as places
from saltern.build import reaching
from saltern.firewall import egressrules as rules
from saltern.release import appunits as units
from saltern.site.egress import CLOSED_TO_BUILDS, LOOPBACK, METADATA, NOT_PUBLIC, PRIVATE, Opening, inside
from tests.unit.contracts import load

firewall = load("_modules", "firewall")

ANYWHERE = {"to": "internet", "ports": None, "protocol": None}
CALLER = {
    "name": "web-shop",
    "users": ["app-web-shop"],
    "links": [{"to": "127.0.0.1", "ports": [5432], "protocol": "tcp", "most": 30}],
    "here": [],
    "private": [{"to": "10.9.0.0/16", "ports": [25, 465], "protocol": "tcp"}],
    "public": [ANYWHERE],
}
EGRESS = {
    "callers": [CALLER],
    "builds": {"apps": [], "users": [], "ports": [22, 5432], "private": ["10.1.0.0/16"], "closed": [*CLOSED_TO_BUILDS]},
    "fleet": ["10.0.0.1", "10.0.0.2"],
    "metadata": list(METADATA),
    "not_public": list(NOT_PUBLIC),
}


def test_what_is_not_public_is_what_python_takes_for_not_global() -> None:
    """Another list of the same: each of its addresses that is not global is closed, and hardly any other."""
    pick = random.Random(10)
    for _ in range(20000):
        for bits, kind in ((32, ipaddress.IPv4Address), (128, ipaddress.IPv6Address)):
            address = kind(pick.getrandbits(bits))
            if not address.is_global or address.is_multicast:
                assert inside(ipaddress.ip_network(address), NOT_PUBLIC), address
    for public in ("1.1.1.1", "9.9.9.9", "93.184.216.34", "223.255.255.1", "2606:4700::1111", "2a00:1450::1"):
        assert not inside(ipaddress.ip_network(public), NOT_PUBLIC)


@pytest.mark.parametrize(
    "address",
    [
        "169.254.169.254",
        "168.63.129.16",
        "100.127.255.255",
        "fd00:ec2::254",
        "fd20:ce::254",
        "fe80::a9fe:a9fe",
        "::ffff:169.254.169.254",
        "::a9fe:a9fe",
        "64:ff9b::a9fe:a9fe",
        "64:ff9b:1::a",
        "2002:a9fe:a9fe::1",
        "2001:0:a9fe::1",
        "5f00::1",
    ],
)
def test_each_form_of_what_nobody_reaches_is_closed(address: str) -> None:
    assert inside(ipaddress.ip_network(address), NOT_PUBLIC)


def test_nothing_that_may_be_opened_is_part_of_what_is_only_reserved() -> None:
    for text in (*PRIVATE, *LOOPBACK):
        assert inside(ipaddress.ip_network(text), NOT_PUBLIC)


@pytest.mark.parametrize(
    "one, other, both",
    [
        ({"to": "internet"}, {"to": "8.8.8.0/24"}, True),
        ({"to": "internet", "ports": [443]}, {"to": "8.8.8.0/24", "ports": [25]}, False),
        ({"to": "internet"}, {"to": "10.0.0.0/8", "ports": [25]}, False),
        ({"to": "10.0.0.0/8", "ports": [25]}, {"to": "10.1.0.0/16", "ports": [25], "protocol": "udp"}, True),
        (
            {"to": "10.0.0.0/8", "ports": [53], "protocol": "tcp"},
            {"to": "10.1.1.1", "ports": [53], "protocol": "udp"},
            False,
        ),
        ({"to": "8.8.8.8"}, {"to": "2606:4700::/32"}, False),
        ({"to": "internet", "ports": [80]}, {"to": "internet", "ports": [443]}, False),
        ({"to": "internet"}, {"to": "internet", "ports": [443]}, True),
    ],
)
def test_two_openings_overlap_when_a_packet_can_be_of_both(one: dict, other: dict, both: bool) -> None:
    first, second = Opening.model_validate(one), Opening.model_validate(other)
    assert first.overlaps(second) is both and second.overlaps(first) is both


def test_an_apps_packets_pass_its_chain_in_this_order() -> None:
    text = rules.chains(EGRESS, {"app-web-shop": 990}, [], ["10.0.0.53", "fe80::1"])
    chain = text.partition("chain calls_web_shop {\n")[2].partition("\t}")[0].split("\n\t\t")
    assert [line.strip() for line in chain] == [
        *rules.ANSWERS,
        "ip daddr { 10.0.0.53/32 } meta l4proto { tcp, udp } th dport { 53 } accept",
        "ip6 daddr { fe80::1/128 } meta l4proto { tcp, udp } th dport { 53 } accept",
        'ip daddr { 127.0.0.1/32 } meta l4proto { tcp } th dport { 5432 } ct state new ct timeout set "counted"',
        "ip daddr { 127.0.0.1/32 } meta l4proto { tcp } th dport { 5432 } ct state new ct count over 30 goto refused",
        "ip daddr { 127.0.0.1/32 } meta l4proto { tcp } th dport { 5432 } accept",
        "jump closed_fleet",
        "ip daddr { 10.9.0.0/16 } meta l4proto { tcp } th dport { 25, 465 } accept",
        "jump closed_not_public",
        "meta l4proto { tcp, udp } accept",
        "goto refused",
    ]
    assert "meta skuid vmap { 990 : goto calls_web_shop }" in text


def test_who_fetches_reaches_nothing_private_but_what_is_named() -> None:
    egress = EGRESS | {"builds": EGRESS["builds"] | {"users": ["build-shop"]}}
    text = rules.chains(egress, {"build-shop": 991}, [], [])
    lines = [line.strip() for line in text.partition("chain builds {\n")[2].partition("\t}")[0].splitlines()]
    named = lines.index("ip daddr . tcp dport @index4 accept")
    refused = [number for number, line in enumerate(lines) if line.endswith("goto refused")]
    assert "169.254.0.0/16" in "".join(lines[:named]) and "10.0.0.1/32" in "".join(lines[:named]), "closed in any case"
    assert lines[named - 1] == "ip daddr { 10.1.0.0/16 } meta l4proto { tcp, udp } accept"
    assert "ip daddr { 10.0.0.0/8, 100.64.0.0/10, 172.16.0.0/12, 192.168.0.0/16 } goto refused" in lines[named:]
    assert lines[-2:] == ["meta l4proto { tcp, udp } accept", "goto refused"] and refused[-2] < len(lines) - 2
    assert "64:ff9b::a9fe:0/112" in "".join(lines) and "2002:a00::/24" in "".join(lines)


@pytest.mark.parametrize(
    ("urls", "named"),
    [
        (["https://me:p@ss@a.test/simple/"], [("a.test", 443)]),
        (["ssh://git@b.test:2222/x.git", "git@b.test:x.git", "b.test:x/y"], [("b.test", 2222), ("b.test", 22)]),
        (["git+https://c.test/x", "http://[fd00::7]:3141/root"], [("c.test", 443), ("fd00::7", 3141)]),
        (["p.test:3128", "http://p.test:3128/"], [("p.test", 3128)]),
        (["file:///srv", "/srv/wheels", "", "https://x.test:port/"], []),
    ],
)
def test_what_urls_name_is_a_host_and_a_port(urls: list[str], named: list[tuple[str, int]]) -> None:
    assert places.places(urls) == named


def test_pips_settings_and_proxies_name_places() -> None:
    settings = {"index-url": "https://a.test/s", "extra-index-url": "https://b.test/s\nhttps://c.test/s", "cert": "/x"}
    urls = places.of_settings(settings, {"HTTPS_PROXY": "http://p.test:1", "no_proxy": "x", "ssl_cert_file": "/y"})
    assert [host for host, _ in places.places(urls)] == ["a.test", "b.test", "c.test", "p.test"]


def test_only_what_is_not_public_is_let_in_for_an_hour(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[list[str]] = []
    monkeypatch.setattr(reaching.subprocess, "run", lambda command, **kwargs: said.append(command))
    firewall.reach(["http://10.0.5.7:3141/simple", "https://1.1.1.1/simple", "http://[fd00::7]/simple", "https://%/"])
    added = [command[5:] for command in said if command[1] == "add"]
    assert added == [["index4", "{ 10.0.5.7 . 3141 timeout 1h }"], ["index6", "{ fd00::7 . 80 timeout 1h }"]]


def test_what_is_let_in_for_an_hour_is_no_drift() -> None:
    rest = "\t\tflags timeout\n\t}\n\tchain builds {\n\t\ttcp dport { 22, 80 } accept\n\t}\n"
    listed = "\tset index4 {\n\t\ttype ipv4_addr . inet_service\n\t\tflags timeout\n"
    elements = "\t\telements = { 10.0.0.9 . 3128 timeout 1h expires 59m58s,\n\t\t\t     10.0.0.9 . 443 timeout 1h }\n"
    assert rules.without_indexes(listed + elements + "\t}\n" + rest) == listed + "\t}\n" + rest
    assert rules.without_indexes(rest) == rest


def test_public_addresses_that_the_site_does_not_name_are_told() -> None:
    firewall.__grains__ = {
        "ip4_interfaces": {"lo": ["127.0.0.1"], "eth0": ["10.0.0.1", "93.184.216.34"]},
        "ip6_interfaces": {"eth0": ["fe80::1%eth0", "2a01:4f8::7"]},
    }
    assert firewall.unknown_addresses(["10.0.0.1"]) == ["2a01:4f8::7", "93.184.216.34"]
    assert firewall.unknown_addresses(["10.0.0.1", "93.184.216.34", "2a01:04f8:0::7"]) == []


def test_an_account_that_is_not_there_yet_has_no_rule_and_one_that_was_an_apps_calls_nobody() -> None:
    assert "skuid" not in rules.chains(EGRESS, {}, [], [])
    assert "meta skuid vmap { 991 : goto refused }" in rules.chains(EGRESS, {}, [991], [])


def test_several_accounts_of_a_caller_have_one_chain() -> None:
    egress = EGRESS | {"callers": [CALLER | {"users": ["build-shop", "fetch-shop"]}]}
    text = rules.chains(egress, {"build-shop": 5, "fetch-shop": 6}, [], [])
    assert "vmap { 5 : goto calls_web_shop, 6 : goto calls_web_shop }" in text


def test_an_apps_processes_start_only_where_the_kernel_has_its_chain() -> None:
    settings = {"user": "x", "media_url": None, "tmp_max_mb": 64, "log_lines_max": 100}
    for app in ("demo", "web-shop"):
        (check,) = [line for line in units.sandbox(app, settings) if line.startswith("ExecStartPre=")]
        assert f" inet saltern {rules.chain_of(app)} " in check


def test_the_hosts_rules_name_accounts_by_number(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    uids = {"app-web-shop": 990}
    monkeypatch.setattr(firewall, "_uid", uids.get)
    monkeypatch.setattr(firewall, "RESOLVERS", tmp_path / "resolv.conf")
    monkeypatch.setattr(firewall, "DATA", tmp_path / "apps")
    (tmp_path / "resolv.conf").write_text("# DHCP\nnameserver 10.0.0.53\nnameserver nonsense\nnameserver\n")
    found = firewall.wanted({"open_ports": [], "vrrp_from": [], "egress": EGRESS})
    assert found["missing"] == [] and "vmap { 990 : goto calls_web_shop }" in found["rules"]
    assert "ip daddr { 10.0.0.53/32 } meta l4proto { tcp, udp } th dport { 53 } accept" in found["rules"]
    uids.clear()
    found = firewall.wanted({"open_ports": [], "vrrp_from": [], "egress": EGRESS})
    assert found["missing"] == ["app-web-shop"] and "skuid" not in found["rules"]


def test_an_app_opens_no_more_connections_than_it_needs_to_the_database() -> None:
    """Who has not logged in takes a place on the server too, and no role's limit counts it."""
    text = rules.chains(EGRESS, {"app-web-shop": 990}, [], [])
    lines = [line.strip() for line in text.splitlines() if "5432" in line]
    assert "ct state new ct count over 30 goto refused" in lines[1] and lines[2].endswith("accept")


def test_a_place_is_not_kept_for_a_connection_that_is_dead() -> None:
    """After a cut an app was shut out by its own attempts: a SYN without an answer counts for two minutes."""
    text = rules.chains(EGRESS, {"app-web-shop": 990}, [], [])
    (policy,) = re.findall(r"ct timeout counted {\n\t\tprotocol tcp\n\t\tpolicy = { (.+) }", text)
    seconds = dict(entry.split(" : ") for entry in policy.split(", "))
    assert set(seconds) == {"syn_sent", "fin_wait", "last_ack", "retrans", "unack"}, "an idle one is alive, and counts"
    assert max(map(int, seconds.values())) <= 15
    lines = [line for line in text.splitlines() if "ct count" in line or "ct timeout set" in line]
    assert len(lines) == 2
    assert lines[0].replace('ct timeout set "counted"', "") == lines[1].replace("ct count over 30 goto refused", "")


def test_who_fetches_for_builds_reaches_any_index_and_no_daemon_of_the_fleet() -> None:
    egress = EGRESS | {
        "callers": [],
        "builds": {"apps": ["shop"], "users": ["build-shop"], "ports": [22, 5432], "private": [], "closed": []},
    }
    text = rules.chains(egress, {"build-shop": 992}, [], ["10.0.0.53"])
    chain = text.partition("chain builds {\n")[2].partition("\t}")[0].split("\n\t\t")
    told = [line.strip() for line in chain]
    assert told[: len(rules.ANSWERS)] == [*rules.ANSWERS]
    assert told[len(rules.ANSWERS) + 1] == 'oif "lo" tcp dport { 22, 5432 } goto refused'
    assert "ip daddr { 10.0.0.1/32, 10.0.0.2/32 } goto refused" in told
    assert any("169.254.0.0/16" in line and line.endswith("goto refused") for line in told)
    assert told[-2:] == ["meta l4proto { tcp, udp } accept", "goto refused"]
    assert "vmap { 992 : goto builds }" in text


def test_a_plan_tells_the_rules_of_accounts_that_are_still_to_be_made_and_an_apply_insists_on_them() -> None:
    state, loaded = load("_states", "firewall"), []
    state.__salt__ = {
        "firewall.wanted": lambda wiring: {"rules": "table inet saltern {}", "missing": ["app-shop"]},
        "firewall.loaded": lambda: "table inet saltern {}",
        "firewall.understood": lambda rules: rules,
        "firewall.load": loaded.append,
    }
    state.__opts__ = {"test": True}
    planned = state.enforced("the firewall", {})
    assert planned["result"] is None and planned["changes"] and "app-shop" in planned["comment"]
    state.__opts__ = {"test": False}
    refused = state.enforced("the firewall", {})
    assert refused["result"] is False and "no account app-shop" in refused["comment"] and not loaded
