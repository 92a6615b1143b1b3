"""Commands that root runs: what it keeps of what they print has a bound, for an app's code is among them."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import Any

import pytest
from salt.exceptions import CommandExecutionError

from saltern.host import appfiles as files
from saltern.host.here import Here
from saltern.release import oneoff
from tests.unit.contracts import play

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def little(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "MOST_PRINTED", 100_000, raising=False)


@pytest.mark.parametrize("where", ["", ">&2"])
def test_what_is_printed_without_end_is_not_kept(where: str) -> None:
    endless = "i=0; while [ $i -lt 30 ]; do head -c 100000 /dev/zero; i=$((i+1)); sleep 0.1; done"
    began = time.monotonic()
    with pytest.raises(CommandExecutionError, match="it printed more than 100000 bytes"):
        files.run(["sh", "-c", f"({endless}) {where}"])
    assert time.monotonic() - began < 2, "it is ended at once"


def test_a_command_says_what_it_said_before() -> None:
    assert files.run(["sh", "-c", "printf 'a\\r\\nb'; echo c >&2"]) == "a\nb"
    with pytest.raises(CommandExecutionError, match=r"^sh -c .*: exit code 3\nout\nerr$"):
        files.run(["sh", "-c", "echo out; echo err >&2; exit 3"])
    with pytest.raises(CommandExecutionError, match=r"not done after 0\.2 seconds"):
        files.run(["sleep", "5"], timeout=0.2)
    with pytest.raises(CommandExecutionError, match=r"not done after 0\.2 seconds"):
        files.run(["sh", "-c", "exec >&- 2>&-; exec sleep 5"], timeout=0.2)
    with pytest.raises(CommandExecutionError, match="/nonexistent does not exist on this host"):
        files.run(["/nonexistent"])


def test_the_unit_of_a_command_that_is_given_up_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[list[str]] = []

    def run(argv: list[str], **options: Any) -> str:
        ran.append(argv)
        return "inactive" if argv[0] == "systemctl" else str(files.run(argv, **options))

    play(monkeypatch, [oneoff], "appfiles", run=run)
    monkeypatch.setattr(oneoff, "one_off_command", lambda *_: ["sh", "-c", "echo last; head -c 200000 /dev/zero"])
    with pytest.raises(CommandExecutionError, match="migrate of release r1 failed: it printed more than 100000 bytes"):
        oneoff.one_off(Here({}, {}), "demo", "r1", "migrate", [])
    assert ["systemctl", "kill", "--signal=SIGKILL", "app-demo-migrate.service"] in ran


def test_only_bounded_readers_run_what_a_release_brings() -> None:
    """A command line of ``one_off_command`` or of a sandbox goes to appfiles or to sandbox.run, and nowhere else."""
    for path in [*(REPOSITORY / "_modules").glob("*.py"), *(REPOSITORY / "saltern").rglob("*.py")]:
        text = path.read_text()
        if re.search(r"one_off_command|sandbox\.command", text):
            assert "subprocess" not in text, path.name
