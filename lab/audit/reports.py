"""What the auditors print, as figures. Pure functions."""

from __future__ import annotations

import fnmatch
import json
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

Goals = dict[str, Any]


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Args:
        host: the host's id.
        test: what was looked at.
        today: the figure that was found.
        goal: the figure that is wanted.
        passed: whether it is reached.
        notes: what is missing, or what is left and why.
    """

    host: str
    test: str
    today: str
    goal: str
    passed: bool
    notes: list[str] = field(default_factory=list)


def lynis(host: str, report: str, goals: Goals) -> list[Row]:
    """Read Lynis' report file.

    Args:
        host: the host's id.
        report: lines as `key=value` and `key[]=value|value|...`.
        goals: the section `lynis`.

    Example:
        >>> [row.today for row in lynis("app1", "hardening_index=90", {"index": 85, "warnings": 0})]
        ['90', '0']
    """
    found: dict[str, list[str]] = {}
    for line in report.splitlines():
        key, _, value = line.partition("=")
        found.setdefault(key, []).append(value)
    index = int(found.get("hardening_index", ["0"])[0] or 0)
    warnings = [" ".join(text.split("|")[:2]) for text in found.get("warning[]", [])]
    advice = [" ".join(part for part in text.split("|")[:3] if part != "-") for text in found.get("suggestion[]", [])]
    reached = index >= goals["index"]
    return [
        Row(host, "Lynis: hardening index", str(index), f"≥ {goals['index']}", reached, [] if reached else advice),
        Row(
            host,
            "Lynis: warnings",
            str(len(warnings)),
            str(goals["warnings"]),
            len(warnings) <= goals["warnings"] and index > 0,
            warnings,
        ),
    ]


def ssh_audit(host: str, answer: str, policy: str) -> Row:
    """Read `ssh-audit --policy POLICY --json`.

    Args:
        host: the host's id.
        answer: what it printed.
        policy: the policy's name.
    """
    try:
        said = json.loads(answer)
        passed, errors = said["passed"], said["errors"]
    except (ValueError, KeyError):
        return Row(host, f"ssh-audit: {policy}", "no answer", "passes", False, [answer.strip()[-200:]])
    notes = [f"{error['mismatched_field']}: {', '.join(error['actual'])}" for error in errors]
    return Row(host, f"ssh-audit: {policy}", "passes" if passed else f"{len(errors)} differ", "passes", passed, notes)


def sslyze(host: str, service: str, profile: str, printed: str, left: Mapping[str, str]) -> Row:
    """Read what sslyze says about one server and one of Mozilla's profiles.

    Args:
        host: the host's id.
        service: a name of the table of links.
        profile: modern or intermediate.
        printed: what sslyze printed.
        left: findings, by sslyze's names, that are left with their reason.
    """
    verdict = printed.partition("COMPLIANCE AGAINST")[2]
    problems = re.findall(r"^\s+\* (.*)$", verdict, re.MULTILINE)
    compliant = bool(re.search(r"^\s+\S+: OK - Compliant", verdict, re.MULTILINE))
    if not compliant and not problems:
        problems = [line.strip() for line in printed.splitlines() if "ERROR" in line] or ["sslyze said nothing"]
    open_ones = [problem for problem in problems if problem.partition(":")[0] not in left]
    notes = [
        *open_ones,
        *(f"{problem} Left: {left[problem.partition(':')[0]]}" for problem in problems if problem not in open_ones),
    ]
    today = "passes" if compliant else f"{len(open_ones)} differ" if open_ones else f"{len(problems)} left"
    return Row(host, f"sslyze: {service}, Mozilla {profile}", today, "passes", not open_ones, notes)


def exposure(host: str, answer: str, running: list[str], groups: list[Goals]) -> list[Row]:
    """Read `systemd-analyze security --json=short`: for each group its worst running service.

    Args:
        host: the host's id.
        answer: what it printed.
        running: the units that run.
        groups: the section `exposure`.

    Returns:
        A row for each group that has a running service, and one when a service is in none.
    """
    exposed = {entry["unit"]: float(entry["exposure"]) for entry in json.loads(answer) if entry["unit"] in running}
    of_group: dict[str, list[str]] = {}
    for unit in sorted(exposed):
        name = next((g["name"] for g in groups if any(fnmatch.fnmatch(unit, one) for one in g["units"])), "")
        of_group.setdefault(name, []).append(unit)
    rows = []
    for group in groups:
        units = of_group.get(group["name"])
        if units:
            worst = max(exposed[unit] for unit in units)
            over = [f"{unit}: {exposed[unit]}" for unit in units if exposed[unit] > group["at_most"]]
            reason = [group["reason"]] if "reason" in group else []
            test = f"systemd-analyze: {group['name']}"
            rows.append(Row(host, test, str(worst), f"≤ {group['at_most']}", not over, over or reason))
    strangers = [f"{unit}: {exposed[unit]}" for unit in of_group.get("", [])]
    if strangers:
        test = "systemd-analyze: services without a goal"
        rows.append(Row(host, test, str(len(strangers)), "0", False, strangers))
    return rows


def openscap(host: str, profile: str, printed: str, goals: Goals) -> Row:
    """Read what `oscap xccdf eval` prints: a rule and its result, many times.

    Args:
        host: the host's id.
        profile: minimal or intermediary.
        printed: what oscap printed.
        goals: the section `anssi`.

    Returns:
        The percentage of the applicable rules that pass. What is left needs its reason in the goals, or is a finding.
    """
    rules = re.findall(r"^Rule\s+\S*content_rule_(\S+)$", printed, re.MULTILINE)
    results = re.findall(r"^Result\s+(\S+)$", printed, re.MULTILINE)
    found = {rule: result for rule, result in zip(rules, results, strict=False) if rule not in goals["not_of_a_lab"]}
    count = Counter(found.values())
    failed = sorted(rule for rule, result in found.items() if result in ("fail", "error", "unknown"))
    applicable = count["pass"] + len(failed)
    percent = 100 * count["pass"] / applicable if applicable else 0.0
    unexplained = [rule for rule in failed if rule not in goals["left"]]
    passed = percent >= goals[profile] and not unexplained
    notes = [f"{rule}: {goals['left'].get(rule, 'without a reason')}" for rule in failed]
    today = f"{percent:.0f} % ({count['pass']} of {applicable})"
    return Row(host, f"ANSSI BP-028 {profile}", today, f"≥ {goals[profile]} %, each with its reason", passed, notes)


def verified(host: str, printed: str, goals: Goals) -> Row:
    """Read `dpkg --verify`.

    Args:
        host: the host's id.
        printed: one line for each file that is not what its package brought; conffiles have a `c`.
        goals: the section `debsums`.
    """
    changed = [line.split()[-1] for line in printed.splitlines() if not re.match(r"\S+ c ", line) and line.strip()]
    test = "debsums: changed files"
    return Row(host, test, str(len(changed)), str(goals["changed"]), len(changed) <= goals["changed"], changed)
