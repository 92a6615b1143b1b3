"""What the auditors print becomes rows of the table; what nobody declared a goal for is a finding."""

from __future__ import annotations

import fnmatch
import json
from pathlib import Path

import pytest

from lab.audit import reports, run
from saltern.site.links import SERVICES

GOALS = run.goals()
ROOT = Path(__file__).resolve().parents[2]


def scap(**results: str) -> str:
    """What oscap prints for these rules."""
    return "".join(
        f"\nTitle\n\tSomething\nRule\n\txccdf_org.ssgproject.content_rule_{rule}\nResult\n\t{result}\n"
        for rule, result in results.items()
    )


def test_lynis_index_and_warnings_are_two_rows() -> None:
    text = "hardening_index=84\nwarning[]=DBS-1828|readable|file|fix|\nsuggestion[]=USB-1000|Disable drivers|-|-|\n"
    index, warnings = reports.lynis("app1", text, {"index": 85, "warnings": 0})
    assert (index.today, index.passed, index.notes) == ("84", False, ["USB-1000 Disable drivers"])
    assert (warnings.today, warnings.passed, warnings.notes) == ("1", False, ["DBS-1828 readable"])
    assert all(row.passed for row in reports.lynis("app1", "hardening_index=85\n", {"index": 85, "warnings": 0}))


def test_lynis_that_did_not_run_passes_nothing() -> None:
    assert not any(row.passed for row in reports.lynis("app1", "", {"index": 85, "warnings": 0}))


def test_a_rule_that_is_left_needs_its_reason() -> None:
    goals = {"minimal": 50, "left": {}, "not_of_a_lab": {}}
    printed = scap(one="pass", two="fail", three="notapplicable", four="notchecked")
    found = reports.openscap("app1", "minimal", printed, goals)
    assert (found.today, found.passed) == ("50 % (1 of 2)", False)
    assert found.notes == ["two: without a reason"]
    assert reports.openscap("app1", "minimal", printed, goals | {"left": {"two": "why"}}).passed


def test_a_rule_that_a_lab_cannot_have_does_not_count() -> None:
    goals = {"minimal": 100, "left": {}, "not_of_a_lab": {"two": "why"}}
    assert reports.openscap("app1", "minimal", scap(one="pass", two="fail"), goals).passed


@pytest.mark.parametrize("printed", ["", scap(one="error"), scap(one="notapplicable")])
def test_openscap_that_judged_nothing_does_not_pass(printed: str) -> None:
    assert not reports.openscap("app1", "minimal", printed, GOALS["anssi"]).passed


def test_a_service_in_no_group_is_a_finding() -> None:
    answer = json.dumps([{"unit": "odd.service", "exposure": "1.0"}, {"unit": "app-demo@1.service", "exposure": "1.2"}])
    apps, strangers = reports.exposure("app1", answer, ["odd.service", "app-demo@1.service"], GOALS["exposure"])
    assert apps.passed and not strangers.passed
    assert strangers.notes == ["odd.service: 1.0"]


def test_the_worst_of_a_group_counts_and_what_does_not_run_does_not() -> None:
    answer = json.dumps(
        [{"unit": f"app-{n}@1.service", "exposure": e} for n, e in (("a", "1.1"), ("b", "3"), ("c", "9"))]
    )
    (row,) = reports.exposure("app1", answer, ["app-a@1.service", "app-b@1.service"], GOALS["exposure"])
    assert (row.today, row.passed, row.notes) == ("3.0", False, ["app-b@1.service: 3.0"])


def test_ssh_audit() -> None:
    differs = {"passed": False, "errors": [{"mismatched_field": "Ciphers", "actual": ["des"]}]}
    assert reports.ssh_audit("app1", json.dumps(differs), "p").notes == ["Ciphers: des"]
    assert reports.ssh_audit("app1", json.dumps({"passed": True, "errors": []}), "p").passed
    assert not reports.ssh_audit("app1", "Connection refused", "p").passed


@pytest.mark.parametrize(
    ("printed", "passed", "notes"),
    [
        ("COMPLIANCE AGAINST TLS CONFIGURATION\n\n    a:443: OK - Compliant.\n", True, []),
        ("COMPLIANCE AGAINST\n    a:443: FAILED - Not.\n        * tls_curves: X448\n", False, ["tls_curves: X448"]),
        ("  a:443  => ERROR: Could not connect\n", False, ["a:443  => ERROR: Could not connect"]),
        ("", False, ["sslyze said nothing"]),
    ],
)  # fmt: skip
def test_sslyze(printed: str, passed: bool, notes: list[str]) -> None:
    row = reports.sslyze("app1", "https", "modern", printed, {})
    assert (row.passed, row.notes) == (passed, notes)


def test_sslyze_findings_that_are_left_are_shown_with_their_reason() -> None:
    printed = "COMPLIANCE AGAINST\n    a:443: FAILED\n        * lifespan: 365 days\n"
    row = reports.sslyze("app1", "https", "modern", printed, {"lifespan": "because"})
    assert (row.passed, row.today, row.notes) == (True, "1 left", ["lifespan: 365 days Left: because"])
    both = printed + "        * tls_curves: X448\n"
    assert not reports.sslyze("app1", "https", "modern", both, {"lifespan": "because"}).passed


def test_files_that_are_no_conffiles_are_changed_files() -> None:
    printed = "??5?????? c /etc/nginx/nginx.conf\n??5??????   /usr/bin/less\nmissing     /usr/bin/more\n"
    row = reports.verified("app1", printed, {"changed": 0})
    assert (row.passed, row.notes) == (False, ["/usr/bin/less", "/usr/bin/more"])


def test_each_service_between_hosts_has_a_goal_or_a_reason_to_have_none() -> None:
    declared = {*GOALS["tls"], *GOALS["without_tls"]}
    assert {service.name for service in SERVICES} <= declared


def test_each_daemon_that_we_have_a_unit_for_has_a_goal() -> None:
    """From the names of the unit files and drop-ins that roles bring; what only runs for a moment is no daemon."""
    files = [path for path in ROOT.glob("salt/*/files/*.service*") if "Type=oneshot" not in path.read_text()]
    units = {path.name.removesuffix(".conf") for path in files} - {"nftables.service"}
    renamed = {"postgresql.service": "postgresql@17-main.service", "sweep.service": "saltern-edge-sweep.service"}
    units = {renamed.get(unit, unit) for unit in units}
    patterns = [pattern for group in GOALS["exposure"] for pattern in group["units"]]
    assert units and {unit for unit in units if not any(fnmatch.fnmatch(unit, one) for one in patterns)} == set()


def test_each_group_that_is_let_off_says_why() -> None:
    assert [g["name"] for g in GOALS["exposure"] if g["at_most"] > 2.8 and not g.get("reason")] == []
    for rule, reason in {**GOALS["anssi"]["left"], **GOALS["anssi"]["not_of_a_lab"], **GOALS["tls_left"]}.items():
        assert len(reason) > 20, f"{rule} is left without a reason that says something"


def test_each_tls_server_of_nginx_names_its_curves() -> None:
    """Left to OpenSSL it offers X448 and secp521r1, too: seen on a builder that has a host of its own."""
    template = (ROOT / "salt/web/files/nginx.conf.jinja").read_text()
    parts = template.split("ssl_protocols TLSv1.3;")[1:]
    assert len(parts) == 2 and all(
        part.lstrip().startswith("ssl_ecdh_curve X25519:prime256v1:secp384r1;") for part in parts
    )
