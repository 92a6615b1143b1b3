"""What Saltern decides and does, as plain Python. Salt's folders (_modules, _states, _pillar) are its face."""

from __future__ import annotations

import sys
from pathlib import Path

_stamp: int | None = None


def forget() -> None:
    """Let all of this package be read again by the next import: its files have changed, or are about to.

    Example:
        >>> forget()  # needs a process of its own  # doctest: +SKIP
    """
    for name in [name for name in sys.modules if name.startswith(f"{__name__}.")]:
        del sys.modules[name]
        globals().pop(name.removeprefix(f"{__name__}."), None)


def forget_old_code() -> None:
    """Let changed files of this package be read again: a master runs for months, and `git pull` changes them.

    All of them at once: a class of a module that was read twice is two.

    Example:
        >>> forget_old_code()  # needs a process of its own  # doctest: +SKIP
    """
    global _stamp
    stamp = max(path.stat().st_mtime_ns for path in Path(__file__).parent.rglob("*.py"))
    if _stamp not in (None, stamp):
        forget()
    _stamp = stamp
