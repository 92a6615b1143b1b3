"""How much memory this host has."""

from __future__ import annotations

import os


def mb() -> int:
    """Return the host's memory, in MiB.

    Example:
        >>> mb() > 0
        True
    """
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 1024**2
