"""How much an edge holds, and how much of it one address may have."""

from __future__ import annotations

# What an open connection costs HAProxy: two buffers of 16 KiB and TLS on both sides, seldom all of it at once.
CONNECTION_KB = 64
LEAST_CONNECTIONS, MOST_CONNECTIONS = 1000, 100_000
# So many addresses, each with all that it may have, leave a fifth of the connections to others.
ADDRESSES = 50
# Open files of HAProxy for each connection (to the client and to a web host), and for all the rest.
FILES_EACH, FILES_FOR_THE_REST = 2, 1000
LEAST_PER_ADDRESS, MOST_PER_ADDRESS = 16, 256


def most_by_files(open_files: int) -> int:
    """Return how many connections a process may have that may open so many files.

    Example:
        >>> most_by_files(20000)
        9500
    """
    return (open_files - FILES_FOR_THE_REST) // FILES_EACH


def connections(memory_total_mb: int, share: float, open_files: int) -> int:
    """Return how many connections an edge may hold, from the host's memory and the files that a process may open.

    Rounded down to a sixteenth of a power of two: the kernel reports a few MB more or less after each update.

    Args:
        memory_total_mb: the host's memory in MB, as the kernel reports it.
        share: HAProxy's part of it.
        open_files: how many files a process may have open.

    Example:
        >>> connections(4096, 0.125, 1048576), connections(2048, 0.125, 1048576), connections(4096, 0.125, 8000)
        (8192, 4096, 3500)
    """
    wanted = int(memory_total_mb * share * 1024) // CONNECTION_KB
    step = max(2 ** (wanted.bit_length() - 1) // 16, 1)
    return min(max(wanted // step * step, LEAST_CONNECTIONS), MOST_CONNECTIONS, most_by_files(open_files))


def per_address(most: int) -> int:
    """Return how many of its connections an edge gives to one address.

    Args:
        most: all that it may hold.

    Example:
        >>> per_address(8192), per_address(4096), per_address(100000)
        (131, 65, 256)
    """
    return min(max(most * 4 // 5 // ADDRESSES, LEAST_PER_ADDRESS), MOST_PER_ADDRESS)


def threads(processors: int) -> int:
    """Return how many threads HAProxy has: one for each two processors.

    They lock an app's queue in turn, and one that waits spins. Measured on two processors that the app shares, with 32
    connections for 16 places: 1,400 requests per second with two threads, 1,780 with one; with 16 connections no
    difference (bench/README.md).

    Args:
        processors: of the host.

    Example:
        >>> threads(1), threads(2), threads(8)
        (1, 1, 4)
    """
    return max(1, processors // 2)
