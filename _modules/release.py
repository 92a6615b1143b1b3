"""Releases: a build plus an environment, started, checked, and only then given the traffic.

Every function asks the host how things are and does what is missing, so a run that was killed anywhere is finished
by the next one. Which release nginx sends requests to is one symbolic link, /srv/apps/<app>/current.sock; renaming
a new link over it is the switch (trial: 20 switches lost 0 of 42,449 requests; docs/roles/web.md).

What is done stands in saltern/release/ (which release shall be served: choice.py, with the facts of deciding.py;
installed: staging.py) and saltern/deploy/ (given the traffic: serving.py; the way back: back.py).
"""

from __future__ import annotations

from typing import Any

from saltern.deploy import back, serving
from saltern.host import here, places
from saltern.release import choice, deciding, installed, oneoff, overview, staging, written

__func_alias__ = {"list_": "list"}


def _here() -> here.Here:
    return here.Here(__pillar__, __context__)


def desired(app: str) -> choice.Wanted:
    """Return the release that this host shall serve. Changes nothing.

    On a builder it follows from the source as it is, so that a plan names it before it is built; elsewhere from
    the newest build that has been brought here.

    Args:
        app: name of an app of this host.

    Returns:
        ``id`` of the release and of its ``build``; and ``note``, a sentence, when a pin decides (``release.pin``).

    Raises:
        CommandExecutionError: the source is not buildable, no build is here, or the pinned release has gone.

    Example:
        .. code-block:: bash

            salt-call release.desired demo
    """
    return deciding.desired(_here(), app)


def asked_for(app: str, build: str | None = None) -> choice.Wanted:
    """Return the release that the site asks for, whether one is pinned or not. Changes nothing.

    Args:
        app: name of an app of this host.
        build: the build to make it of; without it the one that the builder has released.

    Returns:
        ``id`` of the release and of its ``build``.

    Raises:
        CommandExecutionError: the source is not buildable, or no build is here.

    Example:
        .. code-block:: bash

            salt-call release.asked_for demo
    """
    return deciding.asked_for(_here(), app, build)


def active(app: str) -> str | None:
    """Return the release that nginx sends requests to, or None.

    Args:
        app: name of an app.

    Example:
        .. code-block:: bash

            salt-call release.active demo
    """
    return installed.active(app)


def directory(app: str, release: str) -> str:
    """Return where a release is, or would be, installed.

    Args:
        app: name of an app.
        release: the release's id.

    Example:
        .. code-block:: bash

            salt-call release.directory demo 6f1d3c0a9b2e-2fcc3ffb
    """
    return installed.directory(app, release)


def is_staged(app: str, release: str) -> bool:
    """Return whether a release is installed on this host, whole.

    Args:
        app: name of an app.
        release: the release's id.

    Example:
        .. code-block:: bash

            salt-call release.is_staged demo 6f1d3c0a9b2e-2fcc3ffb
    """
    return installed.is_staged(app, release)


def manifest(app: str, release: str) -> dict[str, Any]:
    """Return what is known about an installed release.

    Args:
        app: name of an app.
        release: the release's id.

    Returns:
        id, app, build, commit, who and when, and ``django``: version, static files or not, migrations it holds, and
        the columns that its models use.

    Raises:
        CommandExecutionError: it is not installed.

    Example:
        .. code-block:: bash

            salt-call release.manifest demo 6f1d3c0a9b2e-2fcc3ffb
    """
    return installed.manifest(app, release)


def manifests(app: str) -> list[dict[str, Any]]:
    """Return what is known about all installed releases of an app, in no order.

    Args:
        app: name of an app.

    Example:
        .. code-block:: bash

            salt-call release.manifests demo
    """
    return installed.manifests(app)


def list_(app: str) -> list[dict[str, Any]]:
    """List the installed releases of an app, newest first.

    Args:
        app: name of an app.

    Returns:
        id, build, commit, when (it was installed), who, ``active`` (has the traffic), ``pinned``, and ``served``:
        when it last got the traffic, or None.

    Example:
        .. code-block:: bash

            salt-call release.list demo
    """
    return overview.overview(app)


def status(app: str) -> dict[str, Any]:
    """Compare the release that shall be served with the one that is.

    Args:
        app: name of an app of this host.

    Returns:
        ``desired``, ``active`` (ids), ``units`` (state of each instance that systemd knows), ``enabled`` (started
        at boot), ``problems``: what an apply would put right, as sentences; ``pinned``: a sentence when a pin
        decides what is desired; ``busy``: who deploys at this moment, or None; ``maintenance``: what the edge on this
        host tells visitors instead (``edge.maintenance``), or None.

    Example:
        .. code-block:: bash

            salt-call release.status demo
    """
    return overview.status(_here(), app, __salt__["edge.resting"](app))


def sandbox(app: str) -> list[str]:
    """Return the directives of systemd that every process of an app has: its user, and what it may do.

    Args:
        app: name of an app of this host.

    Example:
        .. code-block:: bash

            salt-call release.sandbox demo
    """
    return oneoff.sandbox(_here(), app)


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
    return written.log(app, count)


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
    written.record(app, release, result, why, command)


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
    return back.pin(_here(), app, release, why)


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
    return back.unpin(_here(), app)


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
    return written.pinned(app)


def unit_files(app: str) -> dict[str, str]:
    """Return the files that make systemd know an app: texts by path.

    Args:
        app: name of an app of this host.

    Example:
        .. code-block:: bash

            salt-call release.unit_files demo
    """
    return staging.unit_files(_here(), app)


def write_unit_files(app: str) -> None:
    """Write the unit and the tmpfiles.d entry of an app, and make the directory of its sockets now.

    A changed unit is a new release, so nothing has to be restarted here.

    Args:
        app: name of an app of this host.

    Example:
        .. code-block:: bash

            salt-call release.write_unit_files demo
    """
    staging.write_unit_files(_here(), app)


def stage(app: str, wanted: choice.Wanted | None = None) -> dict[str, Any]:
    """Install a release beside the others: source, virtual environment, environment, gunicorn's settings.

    It is installed at its final path, because a virtual environment cannot be moved, and counts as installed when
    its manifest.json is there, which is written last. Only the build's own files are read; no index is asked.

    Args:
        app: name of an app of this host.
        wanted: ``id`` of the release and of its ``build``; without it the desired one (``release.desired``).

    Returns:
        The release's manifest.

    Raises:
        CommandExecutionError: a file of the build is missing or changed (then nothing was touched), or the
            installation failed, or Django does not start in it.

    Example:
        .. code-block:: bash

            salt-call release.stage demo
    """
    return staging.stage(_here(), app, wanted)


def one_off(app: str, release: str, name: str, arguments: list[str], writable: str = "", environment: str = "") -> str:
    """Run a command of a release as a transient unit, as the web process runs: user, environment, sandbox.

    One that is still running under this name, because the Salt run that started it was killed, is waited for.

    Args:
        app: name of an app of this host.
        release: the release's id.
        name: what the unit is named after: app-<app>-<name>.
        arguments: arguments for the release's Python, such as ``["-m", "django", "check"]``. Never a secret.
        writable: a directory that it may write to, besides the app's own.
        environment: a file like the release's own ``env``, whose variables win over that one's.

    Returns:
        What it printed on stdout.

    Raises:
        CommandExecutionError: it failed; with the last lines it printed, secrets blackened.

    Example:
        .. code-block:: bash

            salt-call release.one_off demo 6f1d3c0a9b2e-2fcc3ffb check '["-m", "django", "check"]'
    """
    return oneoff.one_off(_here(), app, release, name, arguments, writable, environment)


def activate(app: str) -> None:
    """Give the traffic to the desired release, if it deserves it, and put right what a killed run left.

    Start, ask until it has answered well several times in a row, switch, wait for what the old release has in
    flight, stop the old one. When the new release does not answer well it is stopped and the old one serves on.

    Args:
        app: name of an app of this host.

    Raises:
        CommandExecutionError: the release is not installed, did not start or did not answer well; with the app's
            last log lines.

    Example:
        .. code-block:: bash

            salt-call release.activate demo
    """
    serving.activate(_here(), app)


def prepare(app: str, release: str) -> None:
    """Start an installed release and ask it until it has answered well; it gets no traffic yet.

    Args:
        app: name of an app of this host.
        release: the release's id.

    Raises:
        CommandExecutionError: it did not start or did not answer well; with the app's last log lines.

    Example:
        .. code-block:: bash

            salt-call release.prepare demo 6f1d3c0a9b2e-2fcc3ffb
    """
    serving.prepare(_here(), app, release)


def switch(app: str, release: str) -> None:
    """Give the traffic to a release that was prepared; what served before runs on.

    Args:
        app: name of an app of this host.
        release: the release's id.

    Raises:
        CommandExecutionError: it is not running.

    Example:
        .. code-block:: bash

            salt-call release.switch demo 6f1d3c0a9b2e-2fcc3ffb
    """
    serving.switch(app, release)


def retire(app: str, release: str) -> None:
    """Stop all releases but the one that has the traffic, when they have answered what they were asked.

    Args:
        app: name of an app of this host.
        release: id of the release that has the traffic.

    Raises:
        CommandExecutionError: it has not.

    Example:
        .. code-block:: bash

            salt-call release.retire demo 6f1d3c0a9b2e-2fcc3ffb
    """
    serving.retire(app, release)


def rollback(app: str, release: str | None = None) -> str:
    """Give the traffic back to an installed release: the one that served before, or the named one. Builds nothing.

    It passes the same gate as any other, and is pinned, so that the next apply does not take it away again:
    ``release.unpin`` hands the choice back to the site.

    Args:
        app: name of an app of this host.
        release: id of an installed release (``release.list``).

    Returns:
        What was done, and what it means for the next apply.

    Raises:
        CommandExecutionError: there is no such release, a migration since then is in the way, or the release did
            not answer well; then what was served is served on, and nothing is pinned.

    Example:
        .. code-block:: bash

            salt-call release.rollback demo
            salt-call release.rollback demo 6f1d3c0a9b2e-2fcc3ffb
    """
    return back.rollback(_here(), app, release)


def prune(app: str, keep: int = places.KEEP_RELEASES) -> list[str]:
    """Remove old releases now: never the active one nor a pinned one. Each deploy does so with the default.

    Args:
        app: name of an app of this host.
        keep: how many stay, the active one included; those that served last.

    Returns:
        Ids of the releases that were removed.

    Raises:
        CommandExecutionError: ``keep`` is less than 1, or no release is active.

    Example:
        .. code-block:: bash

            salt-call release.prune demo
            salt-call release.prune demo 1
    """
    return serving.prune(app, keep)


def orphans(apps: list[str]) -> list[str]:
    """List apps that this host still knows though they are not among the given ones.

    Args:
        apps: names of the apps that belong here.

    Example:
        .. code-block:: bash

            salt-call release.orphans '[demo]'
    """
    return serving.orphans(apps)


def remove(app: str) -> None:
    """Stop an app and take it out of systemd. Its releases, its data and its user stay.

    Args:
        app: the app's name.

    Example:
        .. code-block:: bash

            salt-call release.remove demo
    """
    serving.remove(app)


def publish(app: str, release: str) -> None:
    """Give a running release's socket its second name, by which nginx connects. The unit does so at each start.

    What is published is the socket itself: a link that the app put there is refused, whenever it does so.

    Args:
        app: name of an app of this host.
        release: id of a release that runs.

    Raises:
        CommandExecutionError: there is no socket.

    Example:
        .. code-block:: bash

            salt-call release.publish demo 6f1d3c0a9b2e-2fcc3ffb
    """
    serving.publish(app, release)
