"""A lab's fleet.yaml, edited as an operator edits it, for tests and bench/: hosts come, are replaced, and go."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import yaml

from lab.host import Host
from lab.lab import Lab, Record


class FleetFile:
    """A lab's own copy of its fleet.yaml."""

    def __init__(self, lab: Lab, path: Path):
        self.lab, self.path = lab, path

    def edit(self, change: Callable[[dict], object], image: str | None = None) -> None:
        """Change the hosts, and let the lab make the machines that are new.

        Args:
            change: given the mapping `hosts`.
            image: what new machines boot from; the lab's own image when not given.
        """
        found = yaml.safe_load(self.path.read_text())
        change(found["hosts"])
        self.path.write_text(yaml.safe_dump(found, sort_keys=False))
        self.lab.make(self.lab.record.fleet, image=image)

    def address(self, last: int) -> str:
        """Return an address of the fleet's network."""
        return next(iter(self.lab.fleet["hosts"].values()))["address"].rpartition(".")[0] + f".{last}"


@contextmanager
def edited(lab: Lab, folder: Path) -> Iterator[FleetFile]:
    """Give the lab a fleet of its own to edit; afterwards it has the hosts that it had before.

    Args:
        lab: a lab with a master.
        folder: a scratch folder.
    """
    record = lab.record
    before = set(lab.fleet["hosts"])
    copy = folder / Path(record.fleet).name
    shutil.copytree(record.fleet, copy, ignore=shutil.ignore_patterns("secrets"))
    lab.write(Record(**{**vars(record), "fleet": str(copy)}))
    try:
        yield FleetFile(lab, copy / "fleet.yaml")
    finally:
        new = set(lab.fleet["hosts"]) - before
        lab.write(record)
        lab.refresh_site()
        for host in lab.left_over():
            lab.drop(host.id)
        for name in new:
            (lab.site / f"secrets/{name}.sls").unlink(missing_ok=True)


def start_minion(host: Host) -> None:
    """Start a new machine's minion, as `bin/bootstrap minion` does when its master's address is set."""
    done = host.execute(["systemctl", "enable", "--now", "--quiet", "salt-minion"], capture=True)
    assert done.returncode == 0, done.stderr
