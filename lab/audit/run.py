"""All auditors on all hosts, and their table."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path

import yaml
from rich.table import Table
from rich.text import Text

from lab import served
from lab.audit import reports, tools
from lab.audit.reports import Goals, Row
from lab.host import Host
from lab.lab import Lab
from lab.output import console, result, say, stage
from saltern.site.links import SERVICES, Service
from saltern.site.load import Site, load_site

GOALS = Path(__file__).with_name("goals.yaml")
AT_ONCE = 3  # each auditor is one process that counts; more than the machine's processors only make each slower


def goals() -> Goals:
    """Return the goals, and what is left with its reason."""
    return yaml.safe_load(GOALS.read_text())


def audit(lab: Lab, hosts: list[Host], wanted: Goals) -> list[Row]:
    """Let every auditor look at each of the hosts.

    Args:
        lab: the lab.
        hosts: hosts of it, which run.
        wanted: the goals.

    Returns:
        The table's rows, by host.
    """
    tools.python()
    site = load_site(lab.site)
    rows: list[Row] = []
    for host in hosts:
        with stage(f"{host.id}: Lynis, ssh-audit, sslyze, systemd-analyze, OpenSCAP, dpkg --verify"):
            rows += _of_host(lab, site, host, wanted)
    return rows


def _of_host(lab: Lab, site: Site, host: Host, wanted: Goals) -> list[Row]:
    tools.settle(host)
    codename = tools.codename(host)
    policy = wanted["ssh_audit"][codename]
    with tools.unpacked(host, codename) as place, ThreadPoolExecutor(AT_ONCE) as threads:
        jobs: list[Callable[[], list[Row]]] = [
            lambda: reports.lynis(host.id, tools.lynis(host, place), wanted["lynis"]),
            lambda: [
                reports.openscap(host.id, profile, tools.openscap(host, place, profile), wanted["anssi"])
                for profile in ("minimal", "intermediary")
            ],
            lambda: [reports.ssh_audit(host.id, tools.ssh_audit(host, policy), policy)],
            lambda: list(_tls(lab, site, host, wanted)),
            lambda: reports.exposure(host.id, *tools.exposure(host), wanted["exposure"]),
            lambda: [reports.verified(host.id, tools.verify(host), wanted["debsums"])],
        ]
        return [row for found in threads.map(lambda job: job(), jobs) for row in found]


def _tls(lab: Lab, site: Site, host: Host, wanted: Goals) -> Iterator[Row]:
    """Every service of the table of links that the host offers, asked on its own address where it has it there."""
    roles = site.fleet.hosts[host.id].roles
    ca, profiles = served.ca_file(lab.site), wanted["tls"]
    for service in SERVICES:
        if service.role not in roles or service.name not in profiles:
            continue
        goal, port = profiles[service.name], service.port(site.settings)
        address = tools.listening(host, port)
        if address is None:
            continue
        starttls = goal.get("starttls")
        if not starttls and not tools.speaks_tls(host, address, port):
            local = address == "127.0.0.1"
            said = "no TLS, loopback only" if local else "no TLS"
            yield Row(host.id, f"sslyze: {service.name}, Mozilla {goal['profile']}", said, "passes", local)
            continue
        name = _name(lab, site, host, service)
        printed = tools.sslyze(host, address, port, goal["profile"], ca, name, starttls)
        yield reports.sslyze(host.id, service.name, goal["profile"], printed, wanted["tls_left"])


def _name(lab: Lab, site: Site, host: Host, service: Service) -> str:
    """Return the name that a client of the service asks for: an app's at the edge, else the host's own."""
    pages = served.pages(lab.site)
    return pages[0].hostname if service.role == "edge" and pages else f"{host.id}.{site.fleet.domain}"


def show(rows: list[Row], as_json: bool) -> None:
    """Print the table, with what is missing or left below it; or all of it as JSON."""
    if as_json:
        result(json.dumps([asdict(row) for row in rows], indent=1, ensure_ascii=False))
        return
    table = Table("host", "test", "today", "goal", "", title="The base of every host")
    for row in rows:
        mark = Text("✓", "green") if row.passed else Text("✗", "red")
        table.add_row(row.host, row.test, row.today, row.goal, mark)
    console.print(table)
    for row in rows:
        if row.notes:
            say((f"{row.host}, {row.test}", "bold"), ("" if row.passed else " missed", "red"))
            for note in row.notes:
                say(f"  - {note}")
