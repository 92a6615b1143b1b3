"""Releases as systemd has them: each is an instance of its app's unit, ``app-<app>@<release>.service``."""

from __future__ import annotations

from salt.exceptions import CommandExecutionError

from saltern.host import appfiles, places


def unit(app: str, release: str) -> str:
    """Return the name of a release's unit.

    Args:
        app: name of an app.
        release: the release's id.

    Example:
        >>> unit("demo", "6f1d3c0a9b2e-2fcc3ffb")
        'app-demo@6f1d3c0a9b2e-2fcc3ffb.service'
    """
    return f"app-{app}@{release}.service"


def states(app: str) -> dict[str, str]:
    """Return ActiveState of every instance that systemd has in memory, by release."""
    text = _systemctl("show", f"app-{app}@*.service", "--property=Id", "--property=ActiveState")
    blocks = [_properties(block) for block in text.split("\n\n")]
    return {_release(one["Id"]): one["ActiveState"] for one in blocks if one}


def state(app: str, release: str) -> dict[str, str]:
    """Return what systemd knows about one release's unit."""
    return _properties(_systemctl("show", unit(app, release), "--property=ActiveState,MainPID,NeedDaemonReload"))


def enabled(app: str) -> list[str]:
    """List the releases that are started at boot."""
    links = (places.UNITS / "multi-user.target.wants").glob(f"app-{app}@*.service")
    return sorted(_release(link.name) for link in links)


def start(app: str, release: str) -> None:
    """Return when a release's socket takes connections, at once when it runs already."""
    found = state(app, release)
    # Asked, because a reload takes systemd 0.1 s and more; "yes" is what a run that was killed may have left.
    if found["NeedDaemonReload"] == "yes":
        reload()
    if found["ActiveState"] != "active":
        try:
            _systemctl("start", unit(app, release))
        except CommandExecutionError:
            raise CommandExecutionError("It did not start in time, or ended at once.") from None


def stop(app: str, release: str) -> None:
    """Return when a release has ended; gunicorn answers before what it was asked."""
    try:
        _systemctl("stop", unit(app, release))
    except CommandExecutionError:  # whatever puts its end off: a release must not hold up the ones after it
        _systemctl("kill", "--signal=SIGKILL", unit(app, release))
        _systemctl("stop", unit(app, release))
    if state(app, release)["ActiveState"] == "failed":  # how it ended is remembered, and it would be stopped for ever
        _systemctl("reset-failed", unit(app, release))


def enable(app: str, release: str) -> None:
    """Let a release be started at boot. Systemd reads it later: call ``reload`` when all is done."""
    _systemctl("enable", "--quiet", "--no-reload", unit(app, release))


def disable(app: str, release: str) -> None:
    """Let a release no longer be started at boot. Systemd reads it later: call ``reload`` when all is done."""
    _systemctl("disable", "--quiet", "--no-reload", unit(app, release))


def reload() -> None:
    """Let systemd read its units again."""
    _systemctl("daemon-reload")


def last_log_lines(app: str, release: str) -> str:
    """Return what a release's processes printed last. It may hold secrets: ``release.redact``."""
    wanted = ["--lines=80", f"_SYSTEMD_UNIT={unit(app, release)}"]  # two workers' tracebacks and gunicorn's own
    try:
        found: str = appfiles.run(["journalctl", "--no-pager", "--quiet", "--output=cat", *wanted])
    except CommandExecutionError as error:
        return f"(not to be had: {error})"
    return found.strip()


def _release(unit: str) -> str:
    return unit.partition("@")[2].removesuffix(".service")


def _properties(text: str) -> dict[str, str]:
    return dict(line.split("=", 1) for line in text.splitlines() if "=" in line)


def _systemctl(*arguments: str) -> str:
    found: str = appfiles.run(["systemctl", *arguments], timeout=120)
    return found
