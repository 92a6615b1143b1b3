"""What the person at the terminal sees: stages with their time, states as they finish, quiet when not a terminal."""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.status import Status
from rich.text import Text

# Text is text: much of it was written by others, and no word in it is a style (`[red]`) or a picture (`:cd:`, as in a
# fingerprint). Whoever wants a style gives it beside the text.
console = Console(stderr=True, highlight=False, soft_wrap=True, markup=False, emoji=False)
_started = time.monotonic()
_status: list[Status] = []


# What a terminal would obey; rich takes only some of it away. What hosts and apps have said is shown without.
CONTROL = re.compile(
    r"\x1b\[[0-?]*[ -/]*[@-~]|[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff]"
)


def styled(*parts: str | tuple[str, str]) -> Text:
    """Return text for a terminal, without what a terminal would obey.

    Args:
        parts: text, or text and its style.

    Example:
        >>> str(styled("a fingerprint: 80:CD:", ("[red]", "bold")))
        'a fingerprint: 80:CD:[red]'
    """
    split = [(part, "") if isinstance(part, str) else part for part in parts]
    return Text.assemble(*((CONTROL.sub("", text), style) for text, style in split))


def say(*parts: str | tuple[str, str]) -> None:
    """Print one line to the person: text, or text and its style."""
    console.print(styled(*parts))


def result(text: str) -> None:
    """Print what was asked for on standard output, as it is, for people and pipes alike."""
    print(text, flush=True)


@contextmanager
def stage(text: str) -> Iterator[None]:
    """Show a stage while it runs, then one line with how long it took and how long all has taken so far."""
    start = time.monotonic()
    with console.status(styled(text)) as status:
        _status.append(status)
        try:
            yield
        except BaseException:
            say("  ", ("✗", "red"), f" {text}  ", _times(start))
            raise
        finally:
            _status.pop()
    say("  ", ("✓", "green"), f" {text}  ", _times(start))


def detail(*parts: str | tuple[str, str]) -> None:
    """Show what the current stage is doing; only on a terminal, where it is overwritten."""
    if _status:
        _status[-1].update(styled(*parts))


def _times(start: float) -> tuple[str, str]:
    now = time.monotonic()
    return f"{now - start:.1f} s · {now - _started:.0f} s so far", "dim"


def fail(text: str) -> None:
    """Print why the command failed and exit with 1."""
    say(("lab:", "red"), f" {text}")
    sys.exit(1)
