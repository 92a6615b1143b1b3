"""The pages that an app brings for when it cannot answer: read from the site, as text that may be shown."""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path

from .errors import nearest

# HAProxy sends such an answer from one buffer of 16 KiB, header included.
PAGE_BYTES = 12 * 1024
MAINTENANCE_BYTES = 8 * 1024  # and a message of 3,000
# What an edge or nginx says in an app's place; the other errors come before an app is known.
STATUSES = (403, 404, 405, 413, 429, 500, 502, 503, 504)
MAINTENANCE = "maintenance"
PLACEHOLDERS = ("{message}", "{until}")  # of the page for maintenance alone
DOWN = "down"  # for those of 502, 503 and 504 that have no page of their own
NAMES = (*(f"{status}.html" for status in STATUSES), f"{DOWN}.html", f"{MAINTENANCE}.html")
CONTROL = re.compile("[\0-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")


def read(apps: Path, folder: str) -> tuple[dict[str, str], list[tuple[str, str]]]:
    """Read the pages in a folder of the site, through no link: one could lead to the secrets beside it.

    Args:
        apps: the site's folder apps/.
        folder: the folder below it, as an app's `error_pages` names it.

    Returns:
        The text of each page by `503`, `maintenance` and so on; and what is wrong, as pairs of a path and a sentence.

    Example:
        >>> read(Path("site/apps"), "no-such-folder")
        ({}, [('site/apps/no-such-folder', 'the folder does not exist')])
    """
    where = str(apps / folder)
    try:
        handle = _folder(apps, folder)
    except FileNotFoundError:
        return {}, [(where, "the folder does not exist")]
    except OSError:
        return {}, [(where, "is no folder, or is reached by a link, which is not followed")]
    found: dict[str, str] = {}
    problems: list[tuple[str, str]] = []
    try:
        for name in sorted(os.listdir(handle)):  # noqa: PTH208 - by the very folder's handle
            if name not in NAMES:
                problems.append((f"{where}/{name}", f"is not a page; {nearest(name, NAMES)}"))
                continue
            text, problem = _page(handle, name)
            if problem:
                problems.append((f"{where}/{name}", problem))
            found[name.removesuffix(".html")] = text
    finally:
        os.close(handle)
    if not found and not problems:
        problems.append((where, f"has no page; allowed: {', '.join(NAMES)}"))
    return found, problems


def _folder(apps: Path, folder: str) -> int:
    handle = os.open(apps, os.O_RDONLY | os.O_DIRECTORY)
    for part in Path(folder).parts:
        above = handle
        try:
            handle = os.open(part, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=above)
        finally:
            os.close(above)
    return handle


def _page(folder: int, name: str) -> tuple[str, str]:
    """Return a page's text, and what is wrong with it."""
    most = MAINTENANCE_BYTES if name.startswith(MAINTENANCE) else PAGE_BYTES
    try:
        # A pipe without a writer would be waited for.
        handle = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=folder)
    except OSError:
        return "", "cannot be read; a link is not followed"
    try:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            return "", "is no file"
        content = os.read(handle, most + 1)
    finally:
        os.close(handle)
    if len(content) > most:
        return "", f"is larger than {most} bytes, which is the most; put styles into it and nothing to load"
    try:
        text = content.decode()
    except UnicodeDecodeError:
        return "", "is not UTF-8 text"
    if CONTROL.search(text):
        return "", "has control characters; allowed: text"
    twice = [one for one in PLACEHOLDERS if text.count(one) > 1]
    if twice and name.startswith(MAINTENANCE):
        return "", f"has {twice[0]} more than once; allowed: once"
    return (text, "") if text.strip() else ("", "is empty")
