"""Releases as systemd has them: each is an instance of its app's unit, ``app-<app>@<release>.service``.

Whether a release deserves to run is the business of the execution module release; this one only asks and tells systemd.
"""

from __future__ import annotations

from saltern.release import instances


def states(app: str) -> dict[str, str]:
    """Return ActiveState of every instance that systemd has in memory, by release.

    Args:
        app: name of an app.

    Example:
        .. code-block:: bash

            salt-call instances.states demo
    """
    return instances.states(app)


def state(app: str, release: str) -> dict[str, str]:
    """Return what systemd knows about one release's unit.

    Args:
        app: name of an app.
        release: the release's id.

    Returns:
        ActiveState, MainPID and NeedDaemonReload.

    Example:
        .. code-block:: bash

            salt-call instances.state demo 6f1d3c0a9b2e-2fcc3ffb
    """
    return instances.state(app, release)


def enabled(app: str) -> list[str]:
    """List the releases that are started at boot.

    Args:
        app: name of an app.

    Example:
        .. code-block:: bash

            salt-call instances.enabled demo
    """
    return instances.enabled(app)


def start(app: str, release: str) -> None:
    """Return when gunicorn has said that it is ready, at once when it runs already.

    Args:
        app: name of an app of this host.
        release: id of an installed release.

    Raises:
        CommandExecutionError: it was not ready in time, or ended.

    Example:
        .. code-block:: bash

            salt-call instances.start demo 6f1d3c0a9b2e-2fcc3ffb
    """
    instances.start(app, release)


def stop(app: str, release: str) -> None:
    """Return when a release has ended; gunicorn answers before what it was asked.

    Args:
        app: name of an app.
        release: the release's id.

    Raises:
        CommandExecutionError: systemd could not stop it.

    Example:
        .. code-block:: bash

            salt-call instances.stop demo 6f1d3c0a9b2e-2fcc3ffb
    """
    instances.stop(app, release)


def enable(app: str, release: str) -> None:
    """Let a release be started at boot. Systemd reads it later: call ``reload`` when all is done.

    Args:
        app: name of an app.
        release: the release's id.

    Example:
        .. code-block:: bash

            salt-call instances.enable demo 6f1d3c0a9b2e-2fcc3ffb
    """
    instances.enable(app, release)


def disable(app: str, release: str) -> None:
    """Let a release no longer be started at boot. Systemd reads it later: call ``reload`` when all is done.

    Args:
        app: name of an app.
        release: the release's id.

    Example:
        .. code-block:: bash

            salt-call instances.disable demo 6f1d3c0a9b2e-2fcc3ffb
    """
    instances.disable(app, release)


def reload() -> None:
    """Let systemd read its units again.

    Example:
        .. code-block:: bash

            salt-call instances.reload
    """
    instances.reload()


def last_log_lines(app: str, release: str) -> str:
    """Return what a release's processes printed last. It may hold secrets: ``release.redact``.

    Args:
        app: name of an app.
        release: the release's id.

    Example:
        .. code-block:: bash

            salt-call instances.last_log_lines demo 6f1d3c0a9b2e-2fcc3ffb
    """
    return instances.last_log_lines(app, release)
