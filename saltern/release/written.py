"""What is written down of an app's releases: the ledger, the pin, and what a fleet's deploy has told this host."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from saltern.host import appfiles, places
from saltern.release import installed, ledger


def log(app: str, count: int = 20) -> list[dict[str, Any]]:
    """Return an app's ledger: who deployed what, when, with which result; the newest last."""
    lines: list[dict[str, Any]] = ledger.read(ledger_file(app))
    return lines[-count:] if count else lines


def record(app: str, release: str, result: str, why: str = "", command: str = "") -> None:
    """Write a line into the ledger: who did what with which release, when, with which result."""
    about = installed.manifest(app, release)
    line = {**ledger.stamp(), **{key: about[key] for key in ("id", "build", "commit")}}
    line |= {"command": command} if command else {}
    line |= {"result": result} | ({"why": why} if why else {})
    ledger.append(ledger_file(app), line)


def record_command(app: str, release: str, command: str, exit_code: int) -> None:
    """Write a line into the ledger: who ran which command of a release, when, with which result.

    Args:
        app: name of an app.
        release: id of the release that ran it.
        command: the command, without anything that could be a secret.
        exit_code: its exit code.
    """
    record(app, release, f"exit code {exit_code}", command=command)


def pinned(app: str) -> dict[str, str] | None:
    """Return the pin of an app, or None."""
    try:
        found: dict[str, str] = json.loads(pin_file(app).read_text())
    except FileNotFoundError:
        return None
    return found


def write_pin(app: str, release: str, why: str) -> None:
    """Write the pin itself, without asking whether the release can serve: ``release.pin`` asks.

    Args:
        app: name of an app.
        release: id of an installed release.
        why: a word for those who find it pinned.
    """
    found = {"release": release, **ledger.stamp(), "why": why}
    appfiles.write(pin_file(app), json.dumps(found) + "\n", 0o600)


def pin_file(app: str) -> Path:
    return places.APPS / app / "pin.json"


def ledger_file(app: str) -> Path:
    return places.APPS / app / "ledger.jsonl"


def told(app: str) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads((places.APPS / app / "fleet.json").read_text())
    except FileNotFoundError:
        return {}
    return found


def tell(app: str, told: dict[str, Any]) -> None:
    appfiles.write(places.APPS / app / "fleet.json", json.dumps(told) + "\n", 0o600)
