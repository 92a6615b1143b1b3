"""The package as one file, as salt-ssh brings it to a host: it can be imported, and is the same code."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from saltern.host import onefile
from tests.unit.contracts import ROOT

# Without the repository: as on a host. The second process finds what the first has unpacked.
ASK = """
from saltern.build import sourcewalk
from saltern.host import codedigest
import saltern
assert sourcewalk.__file__.startswith(saltern.__path__[0]), "not from the repository"
saltern.forget()
from saltern.postgres import pgtuning
print(len(sourcewalk.program()), codedigest.of.__doc__[:7])
"""


def test_the_package_travels_as_one_file(tmp_path: Path) -> None:
    target = tmp_path / "utils/saltern.py"
    onefile.write(ROOT / "saltern", target)
    before = target.stat().st_mtime_ns
    onefile.write(ROOT / "saltern", target)
    assert target.stat().st_mtime_ns == before, "the same code is not sent again"
    command = [sys.executable, "-c", ASK]
    for _ in range(2):
        done = subprocess.run(command, cwd=tmp_path, env={"PYTHONPATH": str(target.parent)}, capture_output=True)
        assert done.returncode == 0, done.stderr.decode()
    unpacked = [path for path in target.parent.iterdir() if path.name.startswith(".saltern-")]
    assert len(unpacked) == 1 and not [path for path in target.parent.iterdir() if path.name.startswith("tmp")]
