"""A file to which lines are only ever added: what happened, one JSON object a line.

A writer that is killed leaves half a line at worst. It is skipped when the file is read, and the next line starts
anew, so nothing else is lost with it.
"""

from __future__ import annotations

import datetime
import getpass
import json
import os
from pathlib import Path
from typing import Any


def stamp() -> dict[str, str]:
    """Return the time, and who is at work.

    Returns:
        ``when`` (UTC, to the millisecond) and ``who`` (before sudo).

    Example:
        >>> sorted(stamp())
        ['when', 'who']
    """
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")
    return {"when": now, "who": os.environ.get("SUDO_USER") or getpass.getuser()}


def append(path: str | Path, line: dict[str, Any]) -> None:
    """Add a line, on disk when this returns.

    Args:
        path: the file; it is made (0640) when missing.
        line: JSON values by name.

    Raises:
        OSError: the file cannot be written.

    Example:
        >>> append("/tmp/example.jsonl", {"result": "activated"})
    """
    handle = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o640)
    try:
        size = os.fstat(handle).st_size
        whole = size == 0 or os.pread(handle, 1, size - 1) == b"\n"
        # One write, so that two writers do not mix their lines.
        os.write(handle, (("" if whole else "\n") + json.dumps(line) + "\n").encode())
        os.fsync(handle)
    finally:
        os.close(handle)


def read(path: str | Path) -> list[dict[str, Any]]:
    """Return the lines, oldest first, without those that were not written to their end.

    Args:
        path: the file; one that is missing has no lines.

    Example:
        >>> read("/nonexistent")
        []
    """
    try:
        text = Path(path).read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return []
    found = []
    for line in text.splitlines():
        try:
            value = json.loads(line)
        except ValueError:
            continue
        if isinstance(value, dict):
            found.append(value)
    return found
