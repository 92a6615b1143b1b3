"""Who still uses a secret that is being replaced: asked of the processes that run and of the sessions that are open.

The pillar says what the old secret is, and only while it is good (``secrets: … previous``); a host asks about itself.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

from salt.exceptions import CommandExecutionError

from saltern.release import envfile

PROC = Path("/proc")
APPS = Path("/srv/apps")
KEYS = {
    "database": "database_password",
    "owner": "owner_password",
    "redis": "redis_password",
    "secret_key": "secret_key",
}
REPLICATION = "replication"
MEANT_TO_BE_OLD = "SECRET_KEY_FALLBACKS"
WAIT_SECONDS = 90  # longer than an answer, or a worker's task, may take


def __virtual__() -> str:
    return "secretuse"


def has_old(environment: bytes, old: str) -> list[str]:
    """Return the variables of a process that hold an old secret, as it is or as it stands in a URL.

    Args:
        environment: the text of /proc/<pid>/environ.
        old: the secret.

    Example:
        >>> has_old(b"A=1\\0DATABASE_URL=postgres://x:s%2Bcret@h/x\\0SECRET_KEY_FALLBACKS=s+cret\\0", "s+cret")
        ['DATABASE_URL']
    """
    forms = {old.encode(), quote(old, safe="").encode()}
    found = []
    for line in environment.split(b"\0"):
        name, _, value = line.partition(b"=")
        if name.decode(errors="replace") != MEANT_TO_BE_OLD and any(form in value for form in forms):
            found.append(name.decode(errors="replace"))
    return found


def old(kind: str, app: str | None = None) -> list[str]:
    """Return who on this host still uses the old one of a secret that is being replaced. Changes nothing.

    Args:
        kind: ``database``, ``owner``, ``redis``, ``secret_key`` or ``replication``.
        app: the app whose secret it is; none for ``replication``.

    Returns:
        One sentence for each process or login role, without values; empty when the old one may go, as far as this host
        can tell. On a fleet all hosts have to be asked.

    CLI Example:

    .. code-block:: bash

        salt-call secretuse.old database demo
        salt '*' saltutil.refresh_pillar wait=True  # else it asks by the pillar that it has in memory
        salt '*' secretuse.old database demo
    """
    found = _sessions(kind, app)
    previous = _held(app).get("previous", {}).get(KEYS.get(kind))
    if app and previous:
        found += _processes(app, __pillar__["apps"][app]["user"], previous)
    return found


def gone(kind: str, app: str | None = None, force: bool = False, seconds: int = WAIT_SECONDS) -> list[str]:
    """Wait until nobody on this host uses the old one of a secret that is being replaced. Changes nothing.

    Args:
        kind: as for ``secretuse.old``.
        app: the same.
        force: answer who uses it, instead of raising.
        seconds: how long it waits at most.

    Returns:
        Who uses it still, when ``force`` says that this is no reason to stop; else nothing.

    Raises:
        CommandExecutionError: it is used still; by whom.

    CLI Example:

    .. code-block:: bash

        salt '*' secretuse.gone database demo
    """
    deadline = time.monotonic() + seconds
    while users := old(kind, app):
        if time.monotonic() >= deadline:
            if force:
                return users
            raise CommandExecutionError(f"the old one stays good, because it is used: {'; '.join(users)}")
        time.sleep(3)
    return []


def _held(app: str | None) -> dict[str, Any]:
    secrets = __pillar__.get("secrets", {})
    found: dict[str, Any] = secrets.get("apps", {}).get(app, {}) if app else secrets
    return found


def _processes(app: str, user: str, previous: str) -> list[str]:
    """Return sentences about the processes of an account that were started with an old secret."""
    try:
        import pwd

        uid = pwd.getpwnam(user).pw_uid
    except KeyError:
        return []
    found = []
    for folder in sorted(PROC.glob("[0-9]*"), key=lambda path: int(path.name)):
        try:
            if folder.stat().st_uid != uid:
                continue
            environment, unit = (folder / "environ").read_bytes(), _unit(folder)
            if b"=" not in environment:
                if "State:\tZ" in (folder / "status").read_text():  # it has ended, and nobody has waited for it
                    continue
                environment = _given(app, unit)
                if not environment:
                    found.append(f"process {folder.name} of {unit} hides its environment and may have it")
                    continue
            if names := has_old(environment, previous):
                found.append(f"process {folder.name} of {unit} was started with it ({', '.join(names)})")
        except OSError:  # it has ended
            continue
    return found


def _given(app: str, unit: str) -> bytes:
    """Return what a unit's release was given: root's file; its own environment a process can overwrite."""
    _, _, release = unit.removesuffix(".service").partition("@")
    try:
        text = (APPS / app / "releases" / release / "env").read_text() if release else ""
    except OSError:
        return b""
    values: dict[str, str] = envfile.values(text)
    return b"\0".join(f"{name}={value}".encode() for name, value in values.items())


def _unit(folder: Path) -> str:
    last = (folder / "cgroup").read_text().strip().rsplit("/", 1)[-1]
    return last if last.endswith((".service", ".scope")) else "no unit"


def _sessions(kind: str, app: str | None) -> list[str]:
    """Return sentences about the sessions of the login role that is not in force, on a host with Postgres."""
    roles = list(_roles(kind, app))
    if "postgres" not in __pillar__["host"]["roles"] or not roles:
        return []
    rows = __salt__["pg.select"]("sessions", __pillar__["postgres"]["port"], [roles])
    if isinstance(rows, str):
        return [f"Postgres is {rows} and cannot be asked"]
    return [f"{row['sessions']} sessions of the login role {row['role']}" for row in rows]


def _roles(kind: str, app: str | None) -> Iterator[str]:
    """Yield the login role that the other one replaces."""
    held = _held(app)
    slot = held.get("logins", {}).get(kind)
    if slot is None:
        return
    if kind == REPLICATION:
        name = "saltern_replication"
    else:
        database = __pillar__["apps"][app]["database"]
        name = database if kind == "database" else f"{database}_owner"
    yield name if slot == 2 else f"{name}__2"
