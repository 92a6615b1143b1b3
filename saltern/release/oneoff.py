"""Commands of an installed release, each as a unit of its own, in the app's sandbox."""

from __future__ import annotations

import contextlib
import time

from salt.exceptions import CommandExecutionError

from saltern.host import appfiles, hostmemory, secrettext
from saltern.host.here import Here
from saltern.release import appunits


def redact(here: Here, text: str) -> str:
    """Return a text that came from an app as it may be shown: no secret of this host's pillar, nothing for a terminal.

    Args:
        text: such as an app's log lines.

    Example:
        >>> redact("connecting as demo")  # needs a pillar  # doctest: +SKIP
        'connecting as demo'
    """
    found: str = secrettext.shown(text, here.pillar.get("secrets", {}))
    return found


def sandbox(here: Here, app: str) -> list[str]:
    """Return the directives of systemd that every process of an app has: its user, and what it may do."""
    found: list[str] = appunits.sandbox(app, here.app(app))
    return found


def one_off(
    here: Here, app: str, release: str, name: str, arguments: list[str], writable: str = "", environment: str = ""
) -> str:
    """Run a command of a release as a transient unit, as the web process runs: user, environment, sandbox.

    One that is still running under this name, because the Salt run that started it was killed, is waited for.
    """
    run = appfiles.run
    asked = ["systemctl", "show", "--property=ActiveState", "--value", f"app-{app}-{name}.service"]
    while run(asked).strip() in ("active", "activating", "deactivating"):
        time.sleep(0.5)
    argv = one_off_command(here, app, release, name, arguments, writable, environment)
    try:
        found: str = run(argv, timeout=appunits.COMMAND_SECONDS + 100)
    except CommandExecutionError as error:
        command, _, said = str(error).partition("\n")
        why = ""
        if "exit code" not in command:
            end_one_off(app, name)
            why = f" {command.partition(' ...: ')[2]}"
        elif ended := why_one_off_ended(here, app, name):
            why = f" {ended}"
        said = redact(here, f"{app}: {name} of release {release} failed:{why}\n{said or error}")
        raise CommandExecutionError(said) from None
    return found


def why_one_off_ended(here: Here, app: str, name: str) -> str:
    """Return which of its bounds ended what ``one_off_command`` started, and what to do; nothing when none did.

    Args:
        app: name of an app of this host.
        name: what the unit is named after: app-<app>-<name>.
    """
    result = appunits.RESULTS / f"app-{app}-{name}"
    try:
        said = result.read_text().strip()
        result.unlink()
    except FileNotFoundError:
        return ""
    return appunits.why_ended(app, here.app(app), hostmemory.mb(), said)


def end_one_off(app: str, name: str) -> None:
    """End what ``one_off_command`` started, if it goes on: it may have been given up because it prints without end.

    Args:
        app: name of an app of this host.
        name: what the unit is named after: app-<app>-<name>.
    """
    for verb in (["kill", "--signal=SIGKILL"], ["stop"]):
        with contextlib.suppress(CommandExecutionError):  # it has ended
            appfiles.run(["systemctl", *verb, f"app-{app}-{name}.service"], timeout=60)


def one_off_command(
    here: Here, app: str, release: str, name: str, arguments: list[str], writable: str = "", environment: str = ""
) -> list[str]:
    """Return the command line that runs a command of a release as a transient unit, as the web process runs.

    Args:
        app: name of an app of this host.
        release: the release's id.
        name: what the unit is named after: app-<app>-<name>.
        arguments: arguments for the release's Python. Never a secret.
        writable: a directory that it may write to, besides the app's own.
        environment: a file whose variables win over the release's own.
    """
    settings = here.app(app)
    make = appunits.one_off_command
    found: list[str] = make(app, release, settings, name, arguments, writable, environment, hostmemory.mb())
    return found
