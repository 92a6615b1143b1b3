"""Writing a file that must never be half there."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path


def replace_file(path: Path, text: str) -> None:
    """Replace a file by one with mode 0600, all or nothing, even when the power fails.

    Args:
        path: the file; its folder must exist.
        text: what it shall hold.

    Raises:
        OSError: it cannot be written.

    Example:
        >>> replace_file(Path("/tmp/example"), "hello")
    """
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")  # mkstemp makes it 0600
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink()
        raise
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
