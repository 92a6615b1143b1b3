#!/usr/bin/env python3
"""Measure the lab's figures on this machine: sudo python3 bench/figures.py [--cold]

--cold puts the caches aside (and back afterwards) to measure `up` from nothing; apt's packages stay installed. Run it
on an otherwise idle machine. It prints a table for bench/README.md.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import time
from datetime import UTC, datetime
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
CACHE, ASIDE = Path("/var/cache/saltern"), Path("/var/cache/saltern.aside")
LAB = "figures"


def timed(*command: str) -> float:
    """Return the seconds that a command of bin/lab takes; it must succeed."""
    start = time.monotonic()
    subprocess.run([str(ROOT / "bin/lab"), *command], check=True, capture_output=True)
    return time.monotonic() - start


def up() -> float:
    """Return the seconds of an `up` of a fresh lab."""
    subprocess.run([str(ROOT / "bin/lab"), "destroy", "--lab", LAB], capture_output=True, check=False)
    return timed("up", "--lab", LAB)


def cold_up() -> float:
    """Return the seconds of an `up` with no cache at all."""
    CACHE.rename(ASIDE)
    try:
        return up()
    finally:
        subprocess.run([str(ROOT / "bin/lab"), "destroy", "--lab", LAB], capture_output=True, check=False)
        subprocess.run(["rm", "-rf", str(CACHE)], check=True)
        ASIDE.rename(CACHE)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cold", action="store_true", help="measure up from nothing cached, too")
    options = parser.parse_args()
    rows = []
    if options.cold:
        rows.append(("`up`, nothing cached", "≤ 8 min", cold_up()))
    rows.append(("`up`, with caches", "≤ 90 s", up()))
    apply = ["exec", "--lab", LAB, "app1", "--", "salt-call", "state.apply"]
    timed(*apply)
    no_change = statistics.median(timed(*apply) for _ in range(5))
    rows.append(("no-change `salt-call state.apply`, median of 5", "≤ 3 s", no_change))
    rows.append(("`commit`, then `up --image` to a served page", "seconds", from_image()))
    timed("destroy", "--lab", LAB)
    debian = Path("/etc/debian_version").read_text().strip()
    print(f"{datetime.now(UTC):%Y-%m-%d}, {os.cpu_count()} cores, Debian {debian}\n")
    print("| what | goal | measured |\n| --- | --- | --- |")
    for what, goal, seconds in rows:
        print(f"| {what} | {goal} | {seconds:.1f} s |")


def from_image() -> float:
    """Return the seconds from `up --image` of a converged image to its served page."""
    image = f"{LAB}-image"
    timed("commit", "--lab", LAB, "app1", image)
    try:
        return timed("up", "--lab", f"{LAB}-2", "--image", image)
    finally:
        timed("destroy", "--lab", f"{LAB}-2")
        subprocess.run(["rm", "-rf", str(CACHE / "images" / image)], check=True)


if __name__ == "__main__":
    main()
