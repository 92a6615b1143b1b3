"""Builds on their way from the builder to the hosts that install them, and which of them the fleet serves.

What is done stands in saltern/build/: builderword.py and delivery.py.
"""

from __future__ import annotations

from typing import Any

from saltern.build import builderword, delivery
from saltern.host import here


def _here() -> here.Here:
    return here.Here(__pillar__, __context__)


def released(app: str) -> dict[str, str] | None:
    """Return what the fleet serves: the builder's word, or, while the builder is away, its last one.

    Args:
        app: name of an app of this host.

    Returns:
        ``build`` and ``token``; None when nothing has been released yet.

    Raises:
        CommandExecutionError: the builder cannot be reached, and never was.

    Example:
        .. code-block:: bash

            salt-call builder.released demo
    """
    return builderword.released(_here(), app)


def candidate(app: str) -> dict[str, str]:
    """Return what a deploy in progress is about: the builder's word.

    Args:
        app: name of an app of this host.

    Returns:
        ``build`` and ``token``.

    Raises:
        CommandExecutionError: the builder cannot be reached, or no deploy has begun.

    Example:
        .. code-block:: bash

            salt-call builder.candidate demo
    """
    return builderword.candidate(_here(), app)


def propose(app: str) -> str:
    """Build the app as its source is now, and make that build the candidate of a new deploy.

    Args:
        app: name of an app of this builder.

    Returns:
        The build's id.

    Raises:
        CommandExecutionError: it cannot be built.

    Example:
        .. code-block:: bash

            salt-call builder.propose demo
    """
    return delivery.propose(_here(), app)


def propose_same(app: str, said: dict[str, Any]) -> str:
    """Make the build that the fleet serves the candidate of a new deploy: it brings settings, and no new source.

    Args:
        app: name of an app of this builder.
        said: what each host of the app answers to ``fleet.serves``.

    Returns:
        The build's id.

    Raises:
        CommandExecutionError: hosts do not serve one and the same build, or this builder has it no more.

    Example:
        .. code-block:: bash

            salt-call builder.propose_same demo '{web1: {now: {release: 6f1d3c0a9b2e-2fcc3ffb, build: 6f1d3c0a9b2e}}}'
    """
    return delivery.propose_same(_here(), app, said)


def propose_back(app: str, said: dict[str, Any] | None = None) -> str:
    """Make the build that the fleet served before the candidate of a new deploy: a rollback. Builds nothing.

    Args:
        app: name of an app of this builder.
        said: what each host of the app answers to ``fleet.serves``; without it what is written down here decides.

    Returns:
        The build's id.

    Raises:
        CommandExecutionError: the fleet has served nothing before.

    Example:
        .. code-block:: bash

            salt-call builder.propose_back demo
    """
    return delivery.propose_back(_here(), app, said)


def accept(app: str) -> str:
    """Make the candidate what the fleet serves: a deploy has come to its good end.

    Args:
        app: name of an app of this builder.

    Returns:
        The build's id.

    Raises:
        CommandExecutionError: there is no candidate.

    Example:
        .. code-block:: bash

            salt-call builder.accept demo
    """
    return builderword.accept(_here(), app)


def must_release(app: str, build: str) -> bool:
    """Return whether the newest build becomes the fleet's by itself: always, where hosts need not switch together.

    Args:
        app: name of an app of this builder.
        build: id of its newest build.

    Example:
        .. code-block:: bash

            salt-call builder.must_release demo 6f1d3c0a9b2e
    """
    return builderword.must_release(_here(), app, build)


def release(app: str, build: str) -> None:
    """Make a build what the fleet serves, without a deploy.

    Args:
        app: name of an app of this builder.
        build: id of a build that is here.

    Raises:
        CommandExecutionError: the build is not here.

    Example:
        .. code-block:: bash

            salt-call builder.release demo 6f1d3c0a9b2e
    """
    delivery.release(_here(), app, build)


def remember(app: str, found: dict[str, str]) -> None:
    """Keep the builder's word on what the fleet serves, for when the builder is away; remove other builds' files.

    Args:
        app: name of an app of this host.
        found: ``build`` and ``token``.

    Example:
        .. code-block:: bash

            salt-call builder.remember demo '{build: 6f1d3c0a9b2e, token: 0a1b}'
    """
    delivery.remember(_here(), app, found)


def unsigned(app: str) -> list[str]:
    """Return which of the builder's words on an app its present key has not signed.

    Args:
        app: name of an app of this builder.

    Example:
        .. code-block:: bash

            salt-call builder.unsigned demo
    """
    return builderword.unsigned(_here(), app)


def sign(app: str) -> None:
    """Sign the builder's words on an app that are older than its key.

    Args:
        app: name of an app of this builder.

    Example:
        .. code-block:: bash

            salt-call builder.sign demo
    """
    builderword.sign(_here(), app)


def fetch(app: str, build: str) -> None:
    """Bring a build here from the builder, whole and checked, or not at all; also one that an earlier key has signed.

    Args:
        app: name of an app of this host.
        build: the build's id.

    Raises:
        CommandExecutionError: the builder cannot be reached or has no such build, or a file is not what the
            build's manifest says.

    Example:
        .. code-block:: bash

            salt-call builder.fetch demo 6f1d3c0a9b2e
    """
    delivery.fetch(_here(), app, build)
