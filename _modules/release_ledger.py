"""Releases, what is remembered of them: the ledger and the pin. A part of the execution module release."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from salt.exceptions import CommandExecutionError

from saltern.host import appfiles
from saltern.release import ledger, releases

__virtualname__ = "release"

APPS = Path("/srv/apps")


def __virtual__() -> str:
    return __virtualname__


def log(app: str, count: int = 20) -> list[dict[str, Any]]:
    """Return an app's ledger: who deployed what, when, with which result; the newest last.

    Args:
        app: name of an app.
        count: how many of the last lines; 0 means all.

    Returns:
        when, who, id, result (activated, repaired, rolled back, refused, pinned, unpinned), and where they are known
        build, commit and ``why``.

    Example:
        .. code-block:: bash

            salt-call release.log demo
            salt-call release.log demo 100
    """
    lines: list[dict[str, Any]] = ledger.read(_ledger(app))
    return lines[-count:] if count else lines


def record(app: str, release: str, result: str, why: str = "", command: str = "") -> None:
    """Write a line into the ledger: who did what with which release, when, with which result.

    Args:
        app: name of an app.
        release: id of an installed release.
        result: a word such as activated.
        why: a reason, without anything that could be a secret.
        command: a command that was run in it, the same.

    Raises:
        CommandExecutionError: the release is not installed.

    Example:
        .. code-block:: bash

            salt-call release.record demo 6f1d3c0a9b2e-2fcc3ffb activated
    """
    about = __salt__["release.manifest"](app, release)
    line = {**ledger.stamp(), **{key: about[key] for key in ("id", "build", "commit")}}
    line |= {"command": command} if command else {}
    line |= {"result": result} | ({"why": why} if why else {})
    ledger.append(_ledger(app), line)


def record_command(app: str, release: str, command: str, exit_code: int) -> None:
    """Write a line into the ledger: who ran which command of a release, when, with which result.

    Args:
        app: name of an app.
        release: id of the release that ran it.
        command: the command, without anything that could be a secret.
        exit_code: its exit code.

    Example:
        .. code-block:: bash

            salt-call release.record_command demo 6f1d3c0a9b2e-2fcc3ffb 'check --deploy' 0
    """
    record(app, release, f"exit code {exit_code}", command=command)


def pin(app: str, release: str | None = None, why: str = "") -> str:
    """Hold an app at an installed release, whatever the site asks for, until ``release.unpin``. Switches nothing.

    Args:
        app: name of an app of this host.
        release: id of an installed release; without it the active one.
        why: a word for those who find it pinned.

    Returns:
        What it means for the next apply.

    Raises:
        CommandExecutionError: no such release is installed, or a migration since then is in the way.

    Example:
        .. code-block:: bash

            salt-call release.pin demo why='audit until Friday'
    """
    now = __salt__["release.active"](app)
    target = release or now
    if target is None:
        raise CommandExecutionError(f"no release of {app} is active: name one of release.list")
    __salt__["release.manifest"](app, target)  # refuses one that is not installed
    if target != now:
        __salt__["release.refuse_alone"](app, "orch.rollback")
        __salt__["release.refuse_migrations"](app, target)
    write_pin(app, target, why)
    record(app, target, "pinned", why)
    pin_now = pinned(app)
    assert pin_now, "it was written a moment ago"
    note: str = releases.pin_note(app, pin_now)
    return note


def write_pin(app: str, release: str, why: str) -> None:
    """Write the pin itself, without asking whether the release can serve: ``release.pin`` asks.

    Args:
        app: name of an app.
        release: id of an installed release.
        why: a word for those who find it pinned.

    Example:
        .. code-block:: bash

            salt-call release.write_pin demo 6f1d3c0a9b2e-2fcc3ffb audit
    """
    found = {"release": release, **ledger.stamp(), "why": why}
    appfiles.write(_pin_file(app), json.dumps(found) + "\n", 0o600)


def unpin(app: str) -> str:
    """Let the site choose the release again. Switches nothing: the next apply does.

    Args:
        app: name of an app of this host.

    Returns:
        What the next apply will do.

    Example:
        .. code-block:: bash

            salt-call release.unpin demo
    """
    found, now = pinned(app), __salt__["release.active"](app)
    if found is None:
        return f"No release of {app} is pinned."
    _pin_file(app).unlink(missing_ok=True)
    line = {**ledger.stamp(), "id": found["release"], "result": "unpinned"}
    ledger.append(_ledger(app), line)
    wanted = __salt__["release.asked_for"](app)["id"]
    then = f"{wanted} stays active" if wanted == now else f"the next state.apply replaces {now} by {wanted}"
    return f"Release {found['release']} of {app} is pinned no more: {then}."


def pinned(app: str) -> dict[str, str] | None:
    """Return the pin of an app, or None.

    Args:
        app: name of an app.

    Returns:
        release, who, when, why.

    Example:
        .. code-block:: bash

            salt-call release.pinned demo
    """
    try:
        found: dict[str, str] = json.loads(_pin_file(app).read_text())
    except FileNotFoundError:
        return None
    return found


def _pin_file(app: str) -> Path:
    return APPS / app / "pin.json"


def _ledger(app: str) -> Path:
    return APPS / app / "ledger.jsonl"
