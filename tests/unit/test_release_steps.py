"""The list of a deploy's steps is the list of what the code comes past, and each can be the last."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from saltern.release import steps

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = ("_modules", "saltern/release", "saltern/migrate", "saltern/background", "saltern/deploy")


def test_every_step_is_in_the_code_once_and_no_other() -> None:
    files = [path for folder in FOLDERS for path in (ROOT / folder).glob("*.py")]
    text = "".join(path.read_text() for path in files if path.name != "steps.py")
    found = re.findall(r'reached(?:"\])?\("([^"]+)"\)', text)
    assert sorted(found) == sorted(steps.STEPS)


def test_an_unknown_step_is_an_error() -> None:
    with pytest.raises(ValueError, match="swiched"):
        steps.reached("swiched")


@pytest.mark.parametrize("step, ends", [("switched", True), ("started", False)])
def test_the_environment_says_where_salt_ends(step: str, ends: bool) -> None:
    code = "from saltern.release import steps; steps.reached('switched')"
    done = subprocess.run(
        [sys.executable, "-c", code], env={"PYTHONPATH": str(ROOT), "SALTERN_KILL_AT": step}, check=False
    )
    assert done.returncode == (-signal.SIGKILL if ends else 0)
