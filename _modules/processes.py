"""Background processes and timers of apps. What is done stands in saltern/background/: work.py."""

from __future__ import annotations

from typing import Any

from saltern.background import work
from saltern.host import here


def _here() -> here.Here:
    return here.Here(__pillar__, __context__)


def wanted(app: str, release: str | None = None) -> list[dict[str, Any]]:
    """Return the processes and timers that this host shall run for an app. Changes nothing.

    Args:
        app: name of an app of this host.
        release: id of an installed release; without it the desired one.

    Returns:
        For each: ``name``, ``release``, ``single``, ``files`` (texts by path), ``template`` (the beginning of its
        instances' names); a process also ``instance`` and ``mark``, a timer ``timer`` and ``schedule``.

    Raises:
        CommandExecutionError: no such app, or no build is here.

    Example:
        .. code-block:: bash

            salt-call processes.wanted demo
    """
    return work.wanted(_here(), app, release)


def status(app: str) -> dict[str, Any]:
    """Compare the processes and timers of an app with what this host shall run. Changes nothing.

    Args:
        app: name of an app of this host.

    Returns:
        ``release``, ``running`` (instances and timers that are active) and ``problems``: for each process or timer
        that an apply would put right, what is wrong.

    Example:
        .. code-block:: bash

            salt-call processes.status demo
    """
    return work.status(_here(), app)


def orphans(apps: list[str]) -> list[str]:
    """List apps that have processes or timers on this host though they are not among the given ones.

    Args:
        apps: names of the apps that belong here.

    Example:
        .. code-block:: bash

            salt-call processes.orphans '[demo]'
    """
    return work.orphans(apps)


def converge(app: str, release: str | None = None, keep_old: bool = False) -> list[str]:
    """Let this host run an app's processes and timers, of the release that shall be served and of no other.

    The new release's processes are started and must stay up for a while; then the old ones are told to stop and
    waited for. Of what may run only once the old one stops first. When a new one does not stay up, the new ones are
    stopped and the old ones go on. The last worker of a queue first does what waits there, for as long as a process may
    take to stop; so does one that stays and takes from other queues than before.

    Args:
        app: name of an app of this host.
        release: id of an installed release; without it the desired one.
        keep_old: let old processes run on beside the new ones; without what may run only once. They go when this is
            called again.

    Returns:
        Sentences about tasks that nobody takes any more.

    Raises:
        CommandExecutionError: the release is not installed, its database is not ready for it, systemd does not know
            a schedule, or a process did not stay up; with its last log lines.

    Example:
        .. code-block:: bash

            salt-call processes.converge demo
    """
    return work.converge(_here(), app, release, keep_old)


def remove(app: str) -> None:
    """Stop all processes and timers of an app, and take them out of systemd.

    Args:
        app: the app's name; it need not be in the pillar any more.

    Example:
        .. code-block:: bash

            salt-call processes.remove demo
    """
    work.remove(_here(), app)


def remove_all() -> list[str]:
    """Stop the background work of all apps and take it out of systemd: the host is leaving the fleet.

    Returns:
        The apps that had some.

    Example:
        .. code-block:: bash

            salt-call processes.remove_all
    """
    return work.remove_all(_here())
