"""Builds: an app's source and all of its wheels, with hashes, made once and installed anywhere without an index.

A build's id is a pure function of its input: the same input is the same build, on whatever host and day. What is done
stands in saltern/build/: making.py first.
"""

from __future__ import annotations

from typing import Any

from saltern.build import interpreters, making, sources, store, workshops
from saltern.host import here


def _here() -> here.Here:
    return here.Here(__pillar__, __context__)


def python(app: str) -> str:
    """Return the version of Python that an app runs on: what its file asks for, or Debian's own.

    Args:
        app: name of an app of this host.

    Returns:
        Such as ``3.13``; the interpreter is /usr/bin/python3.13.

    Raises:
        CommandExecutionError: the app's file asks for one that this host has not.

    Example:
        .. code-block:: bash

            salt-call build.python demo
    """
    return interpreters.python(_here(), app)


def python_missing(app: str, asked: str | None) -> str:
    """Say that this host has not the Python that an app's file asks for; nothing when it has.

    Args:
        app: name of an app.
        asked: the version that it asks for, if any.

    Example:
        .. code-block:: bash

            salt-call build.python_missing demo 3.13
    """
    return interpreters.python_missing(app, asked)


def identify(app: str) -> dict[str, str]:
    """Return the build that the app's source would make now. Changes nothing.

    Args:
        app: name of an app of this host.

    Returns:
        ``id``, and the input it is made of: ``tree``, ``lock`` (hashes), ``python``, ``debian``. Where the lock has
        to be resolved first, or the revision to be fetched, ``lock`` is ``unresolved`` and the id is a stand-in: a plan
        asks no index.

    Raises:
        CommandExecutionError: the source or its lock is missing, or the lock is none.

    Example:
        .. code-block:: bash

            salt-call build.identify demo
    """
    return making.identify(_here(), app)


def current(app: str) -> str | None:
    """Return the id of the newest wanted build, or None. Releases are made of it.

    Args:
        app: name of an app.

    Example:
        .. code-block:: bash

            salt-call build.current demo
    """
    return store.current(app)


def exists(app: str, build: str) -> bool:
    """Return whether a build is here, whole and signed.

    Args:
        app: name of an app.
        build: its id.

    Example:
        .. code-block:: bash

            salt-call build.exists demo 6f1d3c0a9b2e
    """
    return store.exists(app, build)


def verify(app: str, build: str) -> dict[str, Any]:
    """Compare every file of a build with the hashes of its manifest.

    Args:
        app: name of an app.
        build: the build's id.

    Returns:
        The manifest.

    Raises:
        CommandExecutionError: a file is missing, changed or not in the manifest; each is named.

    Example:
        .. code-block:: bash

            salt-call build.verify demo 6f1d3c0a9b2e
    """
    return store.verify(_here(), app, build)


def unsigned(app: str) -> list[str]:
    """Return the builds of an app that the builder's present key has not signed.

    Args:
        app: name of an app of this builder.

    Example:
        .. code-block:: bash

            salt-call build.unsigned demo
    """
    return store.unsigned(_here(), app)


def sign(app: str) -> list[str]:
    """Sign the builds that are older than the key, as far as they are what their manifests say.

    One that has no signature was made before there were any. One with another key's is signed anew if that key is
    still good. What cannot be verified is of no use to anybody, and removed.

    Args:
        app: name of an app of this builder.

    Returns:
        The builds that were removed.

    Raises:
        CommandExecutionError: the current build, or the one that the fleet serves, is damaged, or its signature is
            nobody's.

    Example:
        .. code-block:: bash

            salt-call build.sign demo
    """
    return store.sign(_here(), app)


def make(app: str) -> dict[str, Any]:
    """Build the app's source as it is now, if that build is not here yet, and make it the wanted one.

    Which index the packages come from is the business of pip's own settings on this host (/etc/pip.conf). Every
    download must have a hash of the lock; what comes as source becomes a wheel here, once.

    Args:
        app: name of an app of this host.

    Returns:
        The build's manifest.

    Raises:
        CommandExecutionError: the source or its lock is missing, the lock has no hashes, or pip failed.

    Example:
        .. code-block:: bash

            salt-call build.make demo
    """
    return making.make(_here(), app)


def source(app: str) -> dict[str, Any]:
    """Return what an app's source is now. Changes nothing; asked once per run of Salt, for all of its states.

    Args:
        app: name of an app of this host.

    Returns:
        ``what``, in a few words; ``commit``; ``tree``, its hash; ``texts`` of the files that locks are made of, None
        for a requirement; ``git``: whether a commit was asked for; ``missing``: a revision that is yet to be fetched.

    Raises:
        CommandExecutionError: it is missing, or holds what no source may hold.

    Example:
        .. code-block:: bash

            salt-call build.source demo
    """
    return sources.source(_here(), app)


def build_user(app: str) -> str:
    """Return the system user that an app is built as.

    Args:
        app: the app's name.

    Example:
        .. code-block:: bash

            salt-call build.build_user demo
    """
    return workshops.build_user(app)


def others(apps: list[str]) -> list[str]:
    """Return the apps that have a workshop here and are not among the given ones.

    Args:
        apps: names of apps.

    Example:
        .. code-block:: bash

            salt-call build.others '[demo]'
    """
    return workshops.others(apps)


def forget(app: str) -> None:
    """Remove an app's workshop and build user. Its builds stay.

    Args:
        app: the app's name.

    Raises:
        CommandExecutionError: the user cannot be removed.

    Example:
        .. code-block:: bash

            salt-call build.forget shop
    """
    workshops.forget(app)


def directory(app: str, build: str) -> str:
    """Return where a build is, or would be.

    Args:
        app: name of an app.
        build: its id.

    Example:
        .. code-block:: bash

            salt-call build.directory demo 6f1d3c0a9b2e
    """
    return store.directory(app, build)
