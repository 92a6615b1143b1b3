"""One host's part in a release of the whole fleet, as orchestrations call it: saltern/deploy/together.py."""

from __future__ import annotations

from typing import Any

from saltern.deploy import together
from saltern.host import here
from saltern.release import deciding


def _here() -> here.Here:
    return here.Here(__pillar__, __context__)


def chosen(app: str) -> str | None:
    """Return the release that the fleet has given to this host; None where each host decides for itself.

    Each deploy has a token. By the builder's word on which one came to a good end, a host that died in the middle of
    one knows on which side it belongs, and a host that missed one takes what the fleet serves now.

    Args:
        app: name of an app of this host.

    Raises:
        CommandExecutionError: a deploy is in progress.

    Example:
        .. code-block:: bash

            salt-call fleet.chosen demo
    """
    return deciding.chosen(_here(), app)


def choose(app: str, release: str) -> None:
    """Write down that this host serves a release, where hosts switch together.

    Args:
        app: name of an app of this host.
        release: id of an installed release.

    Example:
        .. code-block:: bash

            salt-call fleet.choose demo 6f1d3c0a9b2e-2fcc3ffb
    """
    deciding.choose(_here(), app, release)


def install(app: str) -> str:
    """Install the builder's candidate beside what is served, static files too. Nothing of what is served changes.

    Args:
        app: name of an app of this host.

    Returns:
        The release's id.

    Raises:
        CommandExecutionError: the builder cannot be reached, or the release cannot be installed.

    Example:
        .. code-block:: bash

            salt-call fleet.install demo
    """
    return together.install(_here(), app)


def serves(app: str) -> dict[str, Any]:
    """Return what this host serves now, and what it served before the last deploy.

    Args:
        app: name of an app of this host.

    Returns:
        ``now`` and ``before``, each with ``release`` and its ``build``; what there is none of is left out.
        ``unconfirmed``: True while nobody has said that all hosts have switched; ``begun`` as well when that brought
        other code, not only other settings.

    Example:
        .. code-block:: bash

            salt-call fleet.serves demo
    """
    return together.serves(_here(), app)


def waiting() -> list[str]:
    """Return the apps that serve with settings of before: no apply changes those where hosts switch together.

    Example:
        .. code-block:: bash

            salt-call fleet.waiting
    """
    return together.waiting(_here())


def at_rest(seconds: int = 300) -> bool:
    """Wait until nothing applies states on this host: what a killed orchestration has asked for goes on without it.

    Args:
        seconds: how long it waits at most.

    Raises:
        CommandExecutionError: it is at work still; by which job.

    Example:
        .. code-block:: bash

            salt-call fleet.at_rest
    """
    return together.at_rest(__salt__["saltutil.is_running"], seconds)


def take_back(app: str) -> str:
    """Make the release ready that the fleet served before; it is installed still. Nothing of what is served changes.

    Args:
        app: name of an app of this host.

    Returns:
        The release's id.

    Raises:
        CommandExecutionError: this host served none before, or the database was migrated since in a way that the
            older release may not bear.

    Example:
        .. code-block:: bash

            salt-call fleet.take_back demo
    """
    return together.take_back(_here(), app)


def migrate(app: str) -> list[str]:
    """Bring the database to the installed release. On the second host nothing is left to do.

    Args:
        app: name of an app of this host.

    Returns:
        The migrations that were applied.

    Raises:
        CommandExecutionError: a migration is unsafe, or failed.

    Example:
        .. code-block:: bash

            salt-call fleet.migrate demo
    """
    return together.migrate(_here(), app)


def start(app: str) -> str:
    """Start the installed release and ask it until it has answered well. Nobody else asks it yet.

    Args:
        app: name of an app of this host.

    Returns:
        The release's id.

    Raises:
        CommandExecutionError: it did not start or did not answer well; then it was stopped again.

    Example:
        .. code-block:: bash

            salt-call fleet.start demo
    """
    return together.start(_here(), app)


def switch(app: str) -> str:
    """Give this host's requests and background work to the installed release. The old processes run on.

    Args:
        app: name of an app of this host.

    Returns:
        The release that served before.

    Raises:
        CommandExecutionError: a background process did not stay up; then the old ones went on.

    Example:
        .. code-block:: bash

            salt-call fleet.switch demo
    """
    return together.switch(_here(), app)


def confirm(app: str) -> str:
    """End a deploy: stop what served and worked before, when it has done what it was asked.

    Args:
        app: name of an app of this host.

    Returns:
        The release that is served.

    Example:
        .. code-block:: bash

            salt-call fleet.confirm demo
    """
    return together.confirm(_here(), app)


def revert(app: str) -> str | None:
    """Put this host back to what it served before a deploy that failed, wherever that deploy had come to.

    Args:
        app: name of an app of this host.

    Returns:
        The release that is served, or None on a host that served none.

    Raises:
        CommandExecutionError: the old release does not answer any more.

    Example:
        .. code-block:: bash

            salt-call fleet.revert demo
    """
    return together.revert(_here(), app)
