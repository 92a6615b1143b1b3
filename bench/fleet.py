"""The fleet's figures: no-change applies, deploys of changed code, and a web host added from a committed image.

Run it on a lab of fleet `ha` that is up, on an otherwise idle machine, with the lab's own Python:

    sudo bin/lab up ha --lab NAME
    sudo $(ls -d /var/cache/saltern/venv/*/bin/python | tail -1) bench/fleet.py --lab NAME

It prints a table for bench/README.md.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

sys.path.extend(str(Path(__file__).resolve().parents[1] / part) for part in ("", "bin"))
from lab import images, served
from lab.fleetchanges import FleetFile, edited, start_minion
from lab.fleetdeploys import demo_of, orchestrate
from lab.host import Host
from lab.images import REPOSITORY_ON_HOST
from lab.lab import Lab

TIMES = 3
NEW, LAST_BYTE = "web9", 29
IMAGE = "bench-fleet"


def main() -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--lab", required=True, help="a lab of fleet ha that is up")
    lab = Lab(parser.parse_args().lab)
    master = lab.master
    assert master, "these figures are of a fleet with a master"
    rows = [
        ("no-change `salt '*' state.apply`", "≤ 15 s", several(lambda: apply_all(master))),
        ("`orch.deploy` of changed code", "≤ 20 s", deploys(lab)),
        ("a web host added from a committed image, to its first page", "≤ 30 s", [added(lab)]),
    ]
    print("| what | goal | median | all |\n| --- | --- | --- | --- |")
    for what, goal, seconds in rows:
        runs = ", ".join(f"{one:.1f}" for one in seconds)
        print(f"| {what} | {goal} | {statistics.median(seconds):.1f} s | {runs} |")


def several(act: Callable[[], object]) -> list[float]:
    """Return the seconds of a few runs."""
    return [timed(act) for _ in range(TIMES)]


def timed(act: Callable[[], object]) -> float:
    """Return the seconds that something takes."""
    began = time.monotonic()
    act()
    return time.monotonic() - began


def apply_all(master: Host) -> None:
    """Apply all states of all hosts, as an operator does."""
    done = master.execute(["salt", "*", "state.apply", "--out=json"], capture=True, cwd=str(REPOSITORY_ON_HOST))
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr


def must(master: Host, name: str, **pillar: str) -> None:
    """Run an orchestration that must end well."""
    done = orchestrate(master, name, **pillar)
    assert done.exit_code == 0, done.text


def deploys(lab: Lab) -> list[float]:
    """Return the seconds of deploys of changed code."""
    master = lab.master
    assert master
    found = []
    with demo_of(lab) as demo:
        for _ in range(TIMES):
            demo.change()
            found.append(timed(lambda: must(master, "orch.deploy", app="demo")))
    return found


def added(lab: Lab) -> float:
    """Return the seconds from the start of a new machine's minion to the first page that it serves."""
    assert lab.master
    like = next(name for name, host in lab.fleet["hosts"].items() if "web" in host["roles"])
    shutil.rmtree(images.IMAGES / IMAGE, ignore_errors=True)
    lab.host(like).commit(IMAGE)
    served.check(lab.site)
    try:
        with tempfile.TemporaryDirectory() as folder, edited(lab, Path(folder)) as fleet:
            return first_page(lab, fleet, lab.fleet["hosts"][like])
    finally:
        shutil.rmtree(images.IMAGES / IMAGE)


def first_page(lab: Lab, fleet: FleetFile, entry: dict) -> float:
    """Add the host, measure, and remove it."""
    assert lab.master
    master = lab.master
    fleet.edit(lambda hosts: hosts.update({NEW: {**entry, "address": fleet.address(LAST_BYTE)}}), image=IMAGE)
    page, ca = served.pages(lab.site)[0], served.ca_file(lab.site)

    def add() -> None:
        start_minion(lab.host(NEW))
        must(master, "orch.add_host", host=NEW)
        while NEW not in served.get(page, ca)[1].decode():
            time.sleep(0.05)

    seconds = timed(add)
    fleet.edit(lambda hosts: hosts.pop(NEW))
    must(master, "orch.remove_host", host=NEW)
    return seconds


if __name__ == "__main__":
    main()
