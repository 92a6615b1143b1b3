"""What a visitor waits while others attack the edge: p95 in calm and under each kind of attack, and whose time it is.

    sudo bin/lab up --lab NAME
    sudo $(ls -d /var/cache/saltern/venv/*/bin/python | tail -1) bench/abuse.py NAME --kind 'request flood' --from 50

The visitor opens a new connection for each page, from an address of its own, as tests/scenarios/test_abuse.py does.
Calm and attack are measured in turn, kind by kind, so that a machine that does other things too slows both. The
attackers run with nice 19, or what `--nice` says: a machine with other work leaves nothing to 19. How much processor
they took, and whose else it was, stands in the last column, in percent of a processor. `--burn` measures what of the
delay is not the edge's at all: as many processes as the machine has processors, with the attackers' nice, that only
count.
"""

from __future__ import annotations

import argparse
import os
import ssl
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

sys.path.extend(str(Path(__file__).resolve().parents[1] / part) for part in ("", "bin", "_pillar"))
from lab import served
from lab.abuse import KINDS, Attack, Target, addresses, attacked
from lab.lab import Lab

TICK = os.sysconf("SC_CLK_TCK")
FILE = "/static/admin/js/vendor/jquery/jquery.min.js"
PATHS = ("/", "/-/version")


def processor(within: int) -> Counter[str]:
    """Return the processor seconds so far by program: a lab host's by name, and this machine's attackers as one."""
    found: Any = Counter()  # of seconds, with fractions
    parents: dict[int, int] = {}
    times: dict[int, tuple[str, float]] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            head, _, rest = path.read_text().rpartition(")")
        except OSError:
            continue
        fields = rest.split()
        number = int(path.parent.name)
        parents[number] = int(fields[1])
        times[number] = (head.partition("(")[2], (int(fields[11]) + int(fields[12])) / TICK)
    for number, (name, seconds) in times.items():
        parent = number
        while parent > 1 and parent != within:
            parent = parents.get(parent, 0)
        if parent == within:
            found[name] += seconds
        elif parents[number] == os.getpid():
            found["(attackers)"] += seconds
    return Counter(found)


def waits(page: served.Page, tls: ssl.SSLContext, seconds: float) -> list[float]:
    """Return how long a visitor waits for each page, in ms, from the connection to the last byte."""
    found: list[float] = []
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        began = time.monotonic()
        connection = served.Connection(page, tls, 30)
        try:
            connection.request("GET", PATHS[len(found) % 2])
            answer = connection.getresponse()
            answer.read()
            good = answer.status == 200
        except OSError:
            good = False
        connection.close()
        found.append((time.monotonic() - began) * 1000 if good else 30_000.0)
        time.sleep(0.05)
    return found


def p95(found: list[float]) -> float:
    return sorted(found)[int(len(found) * 0.95) - 1]


@contextmanager
def burning(nice: int) -> Iterator[None]:
    """Run processes that take what is left of the processors, and touch nothing."""
    code = "while True: pass"
    burners = [
        subprocess.Popen(["nice", "-n", str(nice), sys.executable, "-c", code]) for _ in range(os.cpu_count() or 1)
    ]
    try:
        yield
    finally:
        for burner in burners:
            burner.kill()
            burner.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("lab", help="a lab of fleet single that is up")
    parser.add_argument("--kind", action="append", choices=list(KINDS), help="of attack; all")
    parser.add_argument("--from", dest="sources", action="append", type=int, help="so many addresses; 1 and 50")
    parser.add_argument("--connections", type=int, default=400, help="of the attack, in all (400)")
    parser.add_argument("--seconds", type=float, default=8, help="of each measurement (8)")
    parser.add_argument("--rounds", type=int, default=1, help="(1)")
    parser.add_argument("--nice", type=int, default=19, help="of the attackers (19)")
    parser.add_argument("--burn", action="store_true", help="also measure beside processes that only count")
    options = parser.parse_args()
    lab = Lab(options.lab)
    host = lab.hosts()[0]
    page = next(page for page in served.pages(lab.site) if page.hostname.startswith("demo."))
    tls = ssl.create_default_context(cafile=str(served.ca_file(lab.site)))
    target = Target(page.address, page.hostname, FILE)
    print(
        "| kind | from | calm p50, p95 ms | attacked p50, p95 ms | p95 | answers | processor, % |\n"
        + "| --- " * 7
        + "|"
    )

    def measure(what: str, sources: int) -> None:
        calm = waits(page, tls, options.seconds)
        before, began = processor(host.nspawn_pid() or 0), time.monotonic()
        if what == "(burn)":
            with burning(options.nice):
                hot, held = waits(page, tls, options.seconds), ""
                used = processor(host.nspawn_pid() or 0) - before
        else:
            own = tuple(str(lab.network.subnet[100 + number]) for number in range(sources))
            attack = Attack(what, target, own, options.connections, options.seconds + 2)
            with addresses(lab.network.bridge, own), attacked(attack, options.nice) as ended:
                time.sleep(1)
                hot = waits(page, tls, options.seconds)
                used = processor(host.nspawn_pid() or 0) - before
                done = ended()
            held = f"{sum(done.answers.values())} {done.answers} refused {done.refused}"
        took = time.monotonic() - began
        share = " ".join(f"{name} {100 * each / took:.0f}" for name, each in used.most_common(7))
        middle = [f"{statistics.median(found):.0f}, {p95(found):.0f}" for found in (calm, hot)]
        row = [what, str(sources), *middle, f"{p95(hot) / p95(calm):.1f} ×", held, share]
        print(f"| {' | '.join(row)} |", flush=True)
        time.sleep(2)

    for _ in range(options.rounds):
        for kind in options.kind or list(KINDS):
            for sources in options.sources or [1, 50]:
                measure(kind, sources)
        if options.burn:
            measure("(burn)", 0)
    load = ", ".join(f"{one:.1f}" for one in os.getloadavg())
    print(f"\n{os.cpu_count()} processors, load average {load}")


if __name__ == "__main__":
    main()
