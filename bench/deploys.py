"""The long proof: deploys, bad releases and rollbacks under load, and what they cost, as a dated report.

Run it on a lab of fleet `single` that is up, from the repository's root, with the lab's own Python:

    sudo bin/lab up --lab NAME
    sudo $(ls -d /var/cache/saltern/venv/*/bin/python | tail -1) bench/deploys.py --lab NAME

It writes bench/reports/<date>-deploys.md (about six minutes on two idle cores) and fails when a request did.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

sys.path.extend(str(Path(__file__).resolve().parents[1] / part) for part in ("", "bin"))
from debian import REPOSITORY
from lab import served
from lab.apply import explain
from lab.deploys import Demo, demo_of
from lab.host import Host
from lab.lab import Lab
from lab.load import CLIENTS, Load, beside, percentile

GOOD, ROLLBACKS, WARM = 10, 3, 3
BAD_ONES = ("does not start", "answers 500", "wrong version")
STEADY_SECONDS = 30
UNIT_STOPPED = "9d1aaa27d60140bd96365438aad20286"  # systemd's own id of that message (systemd.messages-catalog)
REPORTS = REPOSITORY / "bench/reports"


@dataclass
class Span:
    """Something that was done while the clients asked."""

    what: str
    began: float
    ended: float
    served: float | None = None  # seconds from command until the first answer of the other release


def main() -> int:
    """Run everything and write the report."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--lab", required=True, help="a lab of fleet single that is up")
    lab = Lab(parser.parse_args().lab)
    host = lab.hosts()[0]
    load = Load(served.pages(lab.site)[0], served.ca_file(lab.site))
    with demo_of(lab, host, say) as demo:
        warm = [timed_deploy(demo) for _ in range(WARM)]
        alone = [timed_rollback(demo, load) for _ in range(2)]
        demo.call("unpin")
        must(demo)
        with load.running():
            spans = under_load(demo, load)
        lost = sorted(load.posted) != sorted(demo.notes(load.run))
    text = report(lab, host, load, spans, warm, alone, lost)
    REPORTS.mkdir(exist_ok=True)
    path = REPORTS / f"{datetime.now(UTC):%Y-%m-%d}-deploys.md"
    path.write_text(text)
    print(f"{text}\nwritten to {path}")
    return 1 if load.failures or lost else 0


def say(line: str) -> None:
    """Tell how far it has come."""
    print(f"{datetime.now(UTC):%H:%M:%S} {line}", file=sys.stderr, flush=True)


def must(demo: Demo) -> None:
    """Deploy a release that must be served."""
    outcome = demo.deploy()
    if not outcome.ok:
        sys.exit(explain(outcome))


def timed_deploy(demo: Demo) -> tuple[float, float]:
    """Return the seconds of a deploy of changed code until the old web processes have ended, and until all has."""
    say("warm deploy, without load")
    demo.change()
    old, began = f"app-demo@{demo.active()}.service", time.time()
    must(demo)
    return ended(demo.host, old) - began, time.time() - began


def ended(host: Host, unit: str) -> float:
    """Return when systemd last said that it had stopped a unit, as time.time() does."""
    asked = ["journalctl", "--output=json", "--lines=1", "_PID=1", f"UNIT={unit}", f"MESSAGE_ID={UNIT_STOPPED}"]
    found = json.loads(host.execute(asked, capture=True).stdout)
    return int(found["__REALTIME_TIMESTAMP"]) / 1e6


def timed_rollback(demo: Demo, load: Load) -> float:
    """Return the seconds from the rollback's command to the first answer of the other release."""
    say("rollback, without load")
    return until_served(load, lambda: demo.call("rollback"))


def until_served(load: Load, act: Callable[[], object]) -> float:
    """Run something in this thread, ask for the version in another, and return when it was another one."""

    def version() -> str:
        return served.get(load.page, load.ca, "/-/version")[1].decode()

    before = version()
    found: list[float] = []

    def watch() -> None:
        while not found and not stop.is_set():
            if version() != before:
                found.append(time.monotonic())
            time.sleep(0.02)

    stop, began = threading.Event(), time.monotonic()
    with beside([watch], stop):
        act()
        time.sleep(0.2)
    return found[0] - began if found else float("nan")


def under_load(demo: Demo, load: Load) -> list[Span]:
    """Do all that shall lose no request, and return what was done when."""
    spans: list[Span] = []

    def during(what: str, act: Callable[[], object]) -> None:
        say(what)
        began = time.monotonic()
        until = act()
        spans.append(Span(what, began, time.monotonic(), until if isinstance(until, float) else None))

    def good() -> None:
        demo.change()
        must(demo)

    def bad(how: str) -> None:
        demo.break_it(how)
        before = demo.active()
        if demo.deploy().ok or demo.active() != before:
            sys.exit(f"a release that {how} was accepted")

    time.sleep(3)  # connections, first pages
    during("steady", lambda: time.sleep(STEADY_SECONDS))
    for number in range(GOOD):
        during("deploy", good)
        if number in (2, 5, 8):
            during("refused: " + BAD_ONES[number // 3], lambda how=BAD_ONES[number // 3]: bad(how))  # type: ignore[misc]
    for _ in range(ROLLBACKS):
        during("rollback", lambda: until_served(load, lambda: demo.call("rollback")))
        if len([span for span in spans if span.what == "rollback"]) == 2:
            demo.call("unpin")
            good()
            good()
    during("steady", lambda: time.sleep(STEADY_SECONDS))
    return spans


def report(
    lab: Lab, host: Host, load: Load, spans: list[Span], warm: list[tuple[float, float]], alone: list[float], lost: bool
) -> str:
    """Write the report."""
    commit = subprocess.run(
        ["git", "-C", str(REPOSITORY), "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False
    ).stdout.strip()
    cpu = re.search(r"model name\s*: (.*)", open("/proc/cpuinfo").read())  # noqa: PTH123, SIM115
    rows = []
    for what in dict.fromkeys(span.what for span in spans):
        of = [span for span in spans if span.what == what]
        answers = [one for span in of for one in load.between(span.began, span.ended)]
        rows.append(
            f"| {what} | {len(of)} | {statistics.median(span.ended - span.began for span in of):.1f} "
            f"| {len(answers)} | {sum(bool(one.problem) for one in answers)} "
            f"| {percentile(answers, 0.5) * 1000:.0f} | {percentile(answers, 0.99) * 1000:.0f} "
            f"| {percentile(answers, 1) * 1000:.0f} |"
        )

    def p99(steady: bool) -> float:
        return percentile(
            [a for s in spans if (s.what == "steady") == steady for a in load.between(s.began, s.ended)], 0.99
        )

    served_after = [span.served for span in spans if span.served is not None]
    count = len(load.answers)
    lines = [
        f"# Deploys under load, {datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        "",
        f"`bench/deploys.py`, commit {commit}, Debian {lab.record.release}, host {host.id}; client and host on "
        f"one machine: {os.cpu_count()} × {cpu[1] if cpu else platform.machine()}, load average "
        f"{', '.join(f'{one:.1f}' for one in os.getloadavg())} at the end.",
        "",
        f"{sum(CLIENTS.values())} clients ({', '.join(f'{n} {kind}' for kind, n in CLIENTS.items())}), by TLS through "
        "HAProxy and nginx to gunicorn, Postgres and Redis. None asks twice.",
        "",
        f"**{len(load.failures)} of {count:,} requests failed** (95 %: fewer than {3 / count:.1e} do). "
        f"{len(load.posted):,} notes were thanked for; "
        + ("**the database has others.**" if lost else "the database has each of them, once."),
        "",
        "| while | times | median s | requests | failed | p50 ms | p99 ms | max ms |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
        *rows,
        "",
        "Times are those of clients that are not slow themselves.",
        "",
        "| what | goal | measured |",
        "| --- | --- | --- |",
        f"| p99 while something is deployed ÷ p99 of steady state | ≤ 2 | {p99(False) / p99(True):.1f} |",
        f"| warm deploy of changed code, without load: command to the old web processes' end, median of {WARM} "
        f"| ≤ 10 s | {statistics.median(web for web, _ in warm):.1f} s |",
        "| the same, to the command's own end: workers have switched too, and the new ones stayed up for 3 s | "
        f"| {statistics.median(whole for _, whole in warm):.1f} s |",
        f"| rollback without load: command to first answer, worst of {len(alone)} | ≤ 2 s | {max(alone):.1f} s |",
        f"| rollback under load: the same, worst of {len(served_after)} | | {max(served_after):.1f} s |",
        "",
    ]
    lines += [f"- failed: {one.kind}: {one.problem}" for one in load.failures[:20]]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
