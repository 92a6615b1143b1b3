"""What is wrong with a site: one line for each problem, all of them at once."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass

from saltern.host import secrettext


@dataclass(frozen=True, order=True)
class Problem:
    """One thing to put right.

    Args:
        file: path of the file, as the user would type it.
        line: line in that file, counted from 1; 0 when there is none.
        key: path of the key, joined by dots; empty for the file as a whole.
        message: what is wrong and what is allowed. Never holds a value that may be a secret.
    """

    file: str
    line: int
    key: str
    message: str

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}" if self.line else self.file
        line = ": ".join(part for part in (place, self.key, self.message) if part)
        # Names come from people's files: one problem stays one line, and a terminal is not told what to do.
        return secrettext.one_line(line)


class SiteError(Exception):
    """A site that cannot be used; `problems` holds every reason, its text shows one on each line."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = sorted(set(problems))
        super().__init__(self.problems)

    def __str__(self) -> str:
        count = len(self.problems)
        head = f"The site has {count} error{'' if count == 1 else 's'}; nothing was changed:"
        return "\n".join([head, *(f"  {problem}" for problem in self.problems)])


def nearest(name: str, allowed: Iterable[str]) -> str:
    """Return what to write instead of `name`: the most similar name if there is one, and all that are allowed.

    Example:
        >>> nearest("postgress", ["postgres", "redis"])
        'did you mean "postgres"? Allowed: postgres, redis'
    """
    names = list(allowed)
    close = difflib.get_close_matches(name, names, n=1)
    hint = f'did you mean "{close[0]}"? Allowed' if close else "allowed"
    return f"{hint}: {', '.join(names) or 'none'}"
