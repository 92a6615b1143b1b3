"""The deploy lock: one at a time, with a name on it, and nothing that stays behind."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from salt.exceptions import CommandExecutionError

from saltern.release import applock as lock

ROOT = Path(__file__).resolve().parents[2]

HOLDER = f"""
import importlib.util, subprocess, sys, time
spec = importlib.util.spec_from_file_location("applock", {str(ROOT / "saltern/release/applock.py")!r})
applock = importlib.util.module_from_spec(spec)
spec.loader.exec_module(applock)
with applock.hold(sys.argv[1], "a deploy", int(sys.argv[2])):
    if sys.argv[3:]:
        child = subprocess.Popen(["sleep", sys.argv[3]], close_fds=False)
        print(child.pid, flush=True)
    print("held", flush=True)
    time.sleep(60)
"""


def other_process(path: Path, seconds: int, *child: str) -> subprocess.Popen[str]:
    """Start a process that holds the lock for a minute."""
    command = [sys.executable, "-c", HOLDER, str(path), str(seconds), *child]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    while process.stdout.readline().strip() != "held":
        assert process.poll() is None
    return process


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / ".lock"


def test_a_second_one_waits_for_the_first(path: Path) -> None:
    order = []

    def second() -> None:
        with lock.hold(path, "second", 60, wait=10):
            order.append("second")

    with lock.hold(path, "first", 60):
        thread = threading.Thread(target=second)
        thread.start()
        time.sleep(0.3)
        order.append("first")
    thread.join(5)
    assert order == ["first", "second"] and lock.holder(path) is None


def test_who_waits_too_long_is_told_who_holds_it(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    process = other_process(path, 60)
    try:
        started = time.monotonic()
        with pytest.raises(CommandExecutionError) as told, lock.hold(path, "mine", 60, wait=0.5):
            pass
        assert 0.5 <= time.monotonic() - started < 5
        for word in ("a deploy by", f"process {process.pid},", "since 20", "expires 20"):
            assert word in str(told.value)
        assert "waiting for" in caplog.text and f"process {process.pid}" in caplog.text
        owner = lock.holder(path)
        assert owner["alive"] and owner["pid"] == process.pid
    finally:
        process.kill()
        process.wait()


def test_a_killed_holder_leaves_nothing_that_blocks(path: Path) -> None:
    process = other_process(path, 3600)
    process.kill()
    process.wait()
    assert json.loads(path.read_text())["pid"] == process.pid  # its name is still there, and means nothing
    assert lock.holder(path) is None
    with lock.hold(path, "mine", 60, wait=0):
        pass


def test_a_lock_from_before_a_reboot_does_not_block(path: Path) -> None:
    path.write_text(json.dumps({"pid": 1, "boot": "another", "started": 5, "expires": "2999-01-01T00:00:00+00:00"}))
    with lock.hold(path, "mine", 60, wait=0):
        pass


def test_what_a_killed_holder_had_started_keeps_others_out_until_it_ends(path: Path) -> None:
    process = other_process(path, 3600, "1.5")
    process.kill()
    process.wait()
    owner = lock.holder(path)
    assert owner["alive"] is False and "has ended; what it started is still at work" in lock.describe(owner)
    with pytest.raises(CommandExecutionError), lock.hold(path, "mine", 60, wait=0):
        pass
    with lock.hold(path, "mine", 60, wait=10):
        pass


def test_a_holder_that_hangs_loses_the_lock_and_notices(path: Path) -> None:
    with lock.hold(path, "hangs", -5) as still_held:
        still_held()
        with lock.hold(path, "mine", 60, wait=0):
            with pytest.raises(CommandExecutionError, match="has lost the lock"):
                still_held()
            with pytest.raises(CommandExecutionError, match="mine by"), lock.hold(path, "third", 60, wait=0):
                pass
        assert lock.holder(path) is None


def test_of_many_that_find_it_expired_one_at_a_time_gets_it(path: Path) -> None:
    inside, most, failed = 0, 0, []

    def take() -> None:
        nonlocal inside, most
        try:
            with lock.hold(path, "taker", 60, wait=20):
                inside += 1
                most = max(most, inside)
                time.sleep(0.02)
                inside -= 1
        except Exception as error:  # a thread's exception would be lost
            failed.append(error)

    with lock.hold(path, "hangs", -5):
        threads = [threading.Thread(target=take) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
    assert (most, failed) == (1, [])
