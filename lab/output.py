"""What the person at the terminal sees: stages with their time, states as they finish, quiet when not a terminal."""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.status import Status

console = Console(stderr=True, highlight=False, soft_wrap=True)
_started = time.monotonic()
_status: list[Status] = []


# What a terminal would obey; rich takes only some of it away. What hosts and apps have said is shown without.
CONTROL = re.compile(
    r"\x1b\[[0-?]*[ -/]*[@-~]|[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff]"
)


def say(text: str = "") -> None:
    """Print one line to the person (rich markup)."""
    console.print(CONTROL.sub("", text))


def result(text: str) -> None:
    """Print what was asked for on standard output, as it is, for people and pipes alike."""
    print(text, flush=True)


@contextmanager
def stage(text: str) -> Iterator[None]:
    """Show a stage while it runs, then one line with how long it took and how long all has taken so far."""
    start = time.monotonic()
    with console.status(text) as status:
        _status.append(status)
        try:
            yield
        except BaseException:
            console.print(f"  [red]✗[/] {text}  {_times(start)}")
            raise
        finally:
            _status.pop()
    console.print(f"  [green]✓[/] {text}  {_times(start)}")


def detail(text: str) -> None:
    """Show what the current stage is doing; only on a terminal, where it is overwritten."""
    if _status:
        _status[-1].update(CONTROL.sub("", text))


def _times(start: float) -> str:
    now = time.monotonic()
    return f"[dim]{now - start:.1f} s · {now - _started:.0f} s so far[/]"


def fail(text: str) -> None:
    """Print why the command failed and exit with 1."""
    console.print(f"[red]lab:[/] {CONTROL.sub('', text)}", markup=True)
    sys.exit(1)
