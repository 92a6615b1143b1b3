"""Management commands that people run in the release that is serving."""

from __future__ import annotations

import os
import re
import shlex
from typing import Any

from salt.exceptions import CommandExecutionError

from saltern.host import appfiles
from saltern.host.here import Here
from saltern.release import installed, oneoff, written


def told(words: list[str]) -> str:
    """Return a management command as it may be written down: any value could be a secret.

    Args:
        words: the command and its arguments.

    Example:
        >>> told(["createsuperuser", "--noinput", "--email=a@b.c", "x"])
        'createsuperuser --noinput --email=... ...'
    """
    command, *arguments = words
    shown = [re.sub(r"=.*", "=...", one, flags=re.DOTALL) if one.startswith("--") else "..." for one in arguments]
    return " ".join([command, *shown])


def manage(here: Here, app: str, *arguments: Any) -> dict[str, Any]:
    """Run a management command of the release that is serving: as its user, in its environment and sandbox.

    It waits for the end, and cannot be asked anything. The command runs with the app's database role, so it cannot
    change tables; that is what migrations are for. Arguments are seen by everybody on the host: no secrets.
    """
    words = shlex.split(str(arguments[0])) if len(arguments) == 1 else [str(one) for one in arguments]
    release = installed.active(app)
    if not words or release is None:
        raise CommandExecutionError(f"{app}: " + ("no release is serving" if words else "which command?"))
    name = f"manage-{os.getpid()}"
    argv = oneoff.one_off_command(here, app, release, name, ["-m", "django", *words])
    code, printed, _, problem = appfiles.bounded(argv, together=True)
    if problem:
        oneoff.end_one_off(app, name)
        problem = f"{problem}: ended"
    ended = oneoff.why_one_off_ended(here, app, name)
    written.record_command(app, release, told(words), code)
    here.memory["retcode"] = code
    output = oneoff.redact(here, printed.decode(errors="replace")).strip()
    return {
        "release": release,
        "exit_code": code,
        "output": "\n".join(one for one in (output, problem or ended) if one),
    }
