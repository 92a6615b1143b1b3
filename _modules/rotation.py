"""A rotation's part on the host that has the site: the minion of a master asks that master's own files.

The site and what decides about it are where the repository is, and not among a minion's modules; so this runs
``salt-call`` there, as an operator would.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from salt.exceptions import CommandExecutionError

SECONDS = 300  # another rotation, or many hosts' certificates


def __virtual__() -> str:
    return "rotation"


def course(*words: str, finish: bool = False) -> dict[str, Any]:
    """Return how far a rotation is, and which hosts it concerns. Changes nothing.

    Args:
        words: an app and one of its secrets, or a secret that is no app's.
        finish: take an old secret away whose days are not over yet.

    Raises:
        CommandExecutionError: there is no such secret; with all that there are.

    Example:
        .. code-block:: bash

            salt master rotation.course demo database
    """
    found = _site("site.rotation", *words, f"finish={finish}")
    if not isinstance(found, dict):
        raise CommandExecutionError(str(found))
    return found


def move(*words: str, to: str, finish: bool = False) -> str:
    """Bring a rotation further in the site's files, if it is not there yet.

    Args:
        words: an app and one of its secrets, or a secret that is no app's.
        to: ``both``, ``sign``, ``out`` or ``over``.
        finish: take an old secret away whose days are not over yet.

    Returns:
        What was done.

    Raises:
        CommandExecutionError: it cannot be done, with the reason.

    Example:
        .. code-block:: bash

            salt master rotation.move demo database to=both
    """
    return "\n".join(_site("site.rotate", *words, f"step={to}", f"finish={finish}"))


def _site(*arguments: str) -> Any:
    """Run a salt-call where the site is; return what it answers, or raise with its words."""
    place = __pillar__["wiring"].get("renewal", {}).get("site")
    if place is None:
        raise CommandExecutionError(f"{__pillar__['host']['id']} does not have the site: only a master does")
    program = Path(sys.executable).with_name("salt-call")
    command = [str(program), "--out=json", "--log-level=quiet", *arguments]
    done = subprocess.run(
        command, cwd=place, capture_output=True, text=True, errors="replace", check=False, timeout=SECONDS
    )
    try:
        found = json.loads(done.stdout)["local"]
    except (ValueError, KeyError):
        found = None
    if done.returncode or found is None:
        text = str(found or (done.stdout + done.stderr).strip() or f"exit code {done.returncode}")
        raise CommandExecutionError(text.removeprefix("ERROR: ").strip())
    return found
