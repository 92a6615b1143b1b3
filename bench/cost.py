"""What a change costs: two labs of fleet `single`, one of the code before it and one of the code after it, in turn.

    sudo bin/lab up --lab after                             # here, and in a clone of the code before:  --lab before
    sudo $(ls -d /var/cache/saltern/venv/*/bin/python | tail -1) bench/cost.py applies before after
    sudo $(ls -d /var/cache/saltern/venv/*/bin/python | tail -1) bench/cost.py requests before after

`applies` runs a no-change `salt-call state.apply` on each in turn, `requests` asks each in turn through its edge with
wrk, on connections that are kept. Both print rows for bench/README.md. A machine that does other things too makes all
slower: what counts is processor time, and the ratio of each pair. Processor time is that of all processes of the host,
systemd's, the database's and the sandboxes' among them, less what the host needs in the same time when nobody asks.

A client from one address meets the edge's limits. For `requests` the site of a lab that has them needs high ones, so
that the client is counted and not refused, in its settings.yaml:
`edge: {requests_per_second: 100000, requests_per_second_busy: 100000}`.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

sys.path.extend(str(Path(__file__).resolve().parents[1] / part) for part in ("", "bin"))
from lab import served
from lab.host import ENVIRONMENT, Host
from lab.lab import Lab

IDLE_SECONDS = 5.0
TICK = os.sysconf("SC_CLK_TCK")


@dataclass
class Sample:
    """What one run took: seconds by the clock, processor seconds of the command and of the host; states or requests."""

    wall: float
    command: float
    host: float
    count: int


def host_cpu(host: Host) -> float:
    """Return the processor seconds of a host since its boot, of processes that have ended too."""
    times, parents = {}, {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:  # it has ended meanwhile; its parent has its time
            continue
        times[int(path.parent.name)], parents[int(path.parent.name)] = sum(map(int, fields[11:15])), int(fields[1])
    children: dict[int, list[int]] = {}
    for pid, parent in parents.items():
        children.setdefault(parent, []).append(pid)
    waiting, total = [host.nspawn_pid() or 0], 0
    while waiting:
        pid = waiting.pop()
        total += times.get(pid, 0)
        waiting += children.get(pid, [])
    return total / TICK


def own_cpu() -> float:
    """Return the processor seconds of the commands that this program has run."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def measured(host: Host, idle: float, act: Callable[[], int]) -> Sample:
    """Do something and tell what it took; `idle` is what the host takes in a second when nobody asks."""
    before, command, began = host_cpu(host), own_cpu(), time.monotonic()
    count = act()
    wall, command = time.monotonic() - began, own_cpu() - command
    return Sample(wall, command, host_cpu(host) - before - idle * wall, count)


def idle_cpu(host: Host) -> float:
    """Return the processor seconds that a host takes in a second when nobody asks."""
    before = host_cpu(host)
    time.sleep(IDLE_SECONDS)
    return (host_cpu(host) - before) / IDLE_SECONDS


def apply(host: Host) -> int:
    """Run an apply that changes nothing; return the number of its states."""
    argv = host.argv(["salt-call", "--out=json", "state.apply"], host.home)
    done = subprocess.run(argv, env=ENVIRONMENT, capture_output=True, text=True, check=False)
    states = json.loads(done.stdout)["local"]
    if not isinstance(states, dict) or (bad := [i for i, s in states.items() if s["changes"] or not s["result"]]):
        sys.exit(f"{host.id}: this apply was none that changes nothing: {bad if isinstance(states, dict) else states}")
    return len(states)


def ask(lab: Lab, path: str, seconds: int) -> int:
    """Ask for a page through the edge as fast as it is answered; return how many answers came."""
    page = served.pages(lab.site)[0]
    argv = ["wrk", "-t1", "-c16", f"-d{seconds}s", "-H", f"Host: {page.hostname}", f"https://{page.address}{path}"]
    said = subprocess.run(argv, capture_output=True, text=True, check=True).stdout
    if re.search(r"Non-2xx|Socket errors", said):
        sys.exit(f"{lab.name}: not all were answered well; are its limits high enough?\n{said}")
    found = re.search(r"(\d+) requests in", said)
    return int(found[1]) if found else 0


def in_turn(labs: list[Lab], runs: int, act: Callable[[Lab, Host], int]) -> list[list[Sample]]:
    """Measure the labs in turn, each once before it counts; which comes first changes from pair to pair."""
    hosts = [lab.hosts()[0] for lab in labs]
    for lab, host in zip(labs, hosts, strict=True):
        act(lab, host)
    idle = [idle_cpu(host) for host in hosts]
    found: list[list[Sample]] = [[], []]
    for number in range(runs):
        for which in (0, 1) if number % 2 else (1, 0):
            sample = measured(hosts[which], idle[which], lambda: act(labs[which], hosts[which]))  # noqa: B023
            found[which].append(sample)
            print(f"{number + 1} {labs[which].name}: {sample}", file=sys.stderr, flush=True)
    return found


def row(what: str, unit: str, found: list[list[Sample]], value: Callable[[Sample], float]) -> str:
    """Write one row: medians, the median of the pairs' differences and of their ratios."""
    before, after = [[value(one) for one in samples] for samples in found]
    differ = statistics.median(b - a for a, b in zip(before, after, strict=True))
    ratio = statistics.median(b / a for a, b in zip(before, after, strict=True))
    middle = f"{statistics.median(before):,.2f} | {statistics.median(after):,.2f}"
    return f"| {what}, {unit} | {middle} | {differ:+,.2f} | {ratio:.2f} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["applies", "requests"])
    parser.add_argument("before", help="a lab of fleet single that is up, of the code before the change")
    parser.add_argument("after", help="one of the code after it")
    parser.add_argument("--runs", type=int, default=12, help="pairs (12)")
    parser.add_argument("--seconds", type=int, default=5, help="of each run of wrk (5)")
    parser.add_argument("--path", default="/-/version", help="what wrk asks for (/-/version)")
    options = parser.parse_args()
    labs = [Lab(options.before), Lab(options.after)]
    if options.what == "applies":
        found = in_turn(labs, options.runs, lambda _, host: apply(host))
        rows = [
            row("no-change apply: by the clock", "s", found, lambda one: one.wall),
            row("processor, salt-call and its children", "s", found, lambda one: one.command),
            row("processor, the whole host", "s", found, lambda one: one.host + one.command),
            row("states", "number", found, lambda one: one.count),
        ]
    else:
        found = in_turn(labs, options.runs, lambda lab, _: ask(lab, options.path, options.seconds))
        rows = [
            row(options.path, "requests/s", found, lambda one: one.count / one.wall),
            row("processor of the host for one", "µs", found, lambda one: one.host / one.count * 1e6),
        ]
    load = ", ".join(f"{one:.1f}" for one in os.getloadavg())
    print(f"{datetime.now(UTC):%Y-%m-%d %H:%M}, {os.cpu_count()} cores, load average {load}, {options.runs} pairs\n")
    print(f"| what | {labs[0].name} | {labs[1].name} | difference | ratio |\n| --- | --- | --- | --- | --- |")
    print("\n".join(rows))


if __name__ == "__main__":
    main()
