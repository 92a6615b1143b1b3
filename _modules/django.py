"""Django's own steps of a release: collected static files and migrated databases.

Whether there is something to do is asked of what decides it: the files that nginx serves, and the table
django_migrations. Never of what happened to change in this run. What is done stands in saltern/migrate/.
"""

from __future__ import annotations

from typing import Any

from saltern.host import here
from saltern.migrate import commands, migrations, staticfiles


def _here() -> here.Here:
    return here.Here(__pillar__, __context__)


def static_missing(app: str, release: str) -> list[str] | None:
    """Compare a release's static files with those that nginx serves.

    Args:
        app: name of an app.
        release: id of an installed release.

    Returns:
        Files that nginx does not serve as the release has them, or None when they have not been collected.

    Example:
        .. code-block:: bash

            salt-call django.static_missing demo 6f1d3c0a9b2e-2fcc3ffb
    """
    return staticfiles.static_missing(app, release)


def collect_static(app: str, release: str) -> None:
    """Collect a release's static files, once, and let nginx serve them beside those of earlier releases.

    Args:
        app: name of an app of this host.
        release: id of an installed release.

    Raises:
        CommandExecutionError: collectstatic failed.

    Example:
        .. code-block:: bash

            salt-call django.collect_static demo 6f1d3c0a9b2e-2fcc3ffb
    """
    staticfiles.collect_static(_here(), app, release)


def publish_static(app: str, release: str) -> None:
    """Give each collected file of a release a second name where nginx serves it; files of other releases stay.

    A second name costs no space, cannot be half written, and tells by its inode which release a file is of.

    Args:
        app: name of an app.
        release: id of a release whose static files have been collected.

    Example:
        .. code-block:: bash

            salt-call django.publish_static demo 6f1d3c0a9b2e-2fcc3ffb
    """
    staticfiles.publish_static(app, release)


def missing(app: str, release: str) -> list[str] | None:
    """Compare an app's database with what a release needs.

    Django has told, when the release was installed, which migrations the release holds; that cannot change any
    more. What the database has is asked of the database, each time: one query. So this gives the answer of
    ``migrate --check``, without the 0.6 s that Django needs to start.

    Args:
        app: name of an app of this host.
        release: the release's id.

    Returns:
        The migrations that are pending, or None when the database has not been brought to this release yet.

    Raises:
        CommandExecutionError: the database cannot be reached.

    Example:
        .. code-block:: bash

            salt-call django.missing demo 6f1d3c0a9b2e-2fcc3ffb
    """
    return migrations.missing(_here(), app, release)


def pending(app: str, release: str) -> list[str]:
    """List the migrations that a release holds and its database has not.

    Args:
        app: name of an app of this host.
        release: id of an installed release.

    Returns:
        ``app.name`` of each.

    Raises:
        CommandExecutionError: the database cannot be reached.

    Example:
        .. code-block:: bash

            salt-call django.pending demo 6f1d3c0a9b2e-2fcc3ffb
    """
    return migrations.pending(_here(), app, release)


def applied_since(app: str, release: str) -> list[str]:
    """List the migrations that the database got after a release was installed, and that it does not know.

    Args:
        app: name of an app of this host.
        release: id of an installed release.

    Returns:
        ``app.name`` of each, in order of time.

    Raises:
        CommandExecutionError: the database cannot be reached.

    Example:
        .. code-block:: bash

            salt-call django.applied_since demo 6f1d3c0a9b2e-2fcc3ffb
    """
    return migrations.applied_since(_here(), app, release)


def migrate(app: str, release: str) -> list[str]:
    """Bring an app's database to a release, by the release's own code in the app's sandbox, once in the fleet.

    It runs with the database role that owns the database, which no web process knows; how it waits for locks and
    when it tries again stands in saltern/migrate/migraterun.py. What would hurt the serving release is refused before.

    Args:
        app: name of an app of this host.
        release: id of an installed release.

    Returns:
        The migrations that were applied, which may be none.

    Raises:
        CommandExecutionError: the database cannot be reached, a migration is unsafe, or it failed.

    Example:
        .. code-block:: bash

            salt-call django.migrate demo 6f1d3c0a9b2e-2fcc3ffb
    """
    return migrations.migrate(_here(), app, release)


def unsafe(app: str, release: str) -> list[dict[str, str]]:
    """List what in a release's pending migrations would hurt the release that is serving; change nothing.

    On a database without migrations nothing can be hurt. What the app's file allows is left out.

    Args:
        app: name of an app of this host.
        release: id of an installed release.

    Returns:
        ``migration``, ``rule``, ``message``, ``statement`` and ``advice`` of each finding.

    Raises:
        CommandExecutionError: the database cannot be reached, or the SQL cannot be had.

    Example:
        .. code-block:: bash

            salt-call django.unsafe demo 6f1d3c0a9b2e-2fcc3ffb
    """
    return migrations.unsafe(_here(), app, release)


def manage(app: str, *arguments: Any) -> dict[str, Any]:
    """Run a management command of the release that is serving: as its user, in its environment and sandbox.

    It waits for the end, and cannot be asked anything. The command runs with the app's database role, so it cannot
    change tables; that is what migrations are for. Arguments are seen by everybody on the host: no secrets.

    Args:
        app: name of an app of this host.
        arguments: the command and its arguments, each one for itself, or all of them in one text, which is taken
            apart as a shell would do it. In one text numbers such as 1.10 stay as they are written.

    Returns:
        ``release``, ``exit_code`` and ``output`` (stdout and stderr, secrets blackened). The exit code is also
        that of the function; the ledger has a line with it, and with the names of options but not their values.

    Raises:
        CommandExecutionError: no release serves, or no command was given.

    Example:
        .. code-block:: bash

            salt-call django.manage demo 'check --deploy'
            salt-call -- django.manage demo check --deploy
    """
    return commands.manage(_here(), app, *arguments)
