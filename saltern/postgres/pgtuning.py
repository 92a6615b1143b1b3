"""PostgreSQL's sizes for a host: memory, connections, parallel workers."""

from __future__ import annotations

import re

#: Beside connections and workers: autovacuum's and those that send WAL.
OTHER_PROCESSES = 14


def budget_mb(memory_total_mb: int, share: float) -> int:
    """Return how much of a host's memory PostgreSQL is sized for.

    Rounded down to a sixteenth of a power of two: the kernel reports a few MB more or less after each update, and
    that must not restart the server.

    Args:
        memory_total_mb: The host's memory in MB, as the kernel reports it.
        share: PostgreSQL's share of it, above 0 and up to 1. Less than 1 where apps run on the same host.

    Returns:
        Memory in MB, at least 256.

    Raises:
        ValueError: The share is out of range.

    Example:
        >>> budget_mb(24105, 0.5), budget_mb(24090, 0.5)
        (11776, 11776)
    """
    if not 0 < share <= 1:
        raise ValueError(f"postgres.memory_share is {share}; it must be above 0 and at most 1")
    wanted = int(memory_total_mb * share)
    step = max(2 ** (wanted.bit_length() - 1) // 16, 1)
    return max(wanted // step * step, 256)


def connections(memory_mb: int, cpus: int, wanted: int | None, needed: int, conf: str = "") -> int | None:
    """Return how many connections a server is to allow.

    Another number is a restart, which costs requests: an app that needs fewer than before is no reason for one.

    Args:
        memory_mb: Memory for PostgreSQL in MB.
        cpus: Number of CPUs.
        wanted: What the settings say, or None.
        needed: What all apps and operators need together at most.
        conf: The postgresql.conf that the server has; empty for one that is yet to come.

    Returns:
        As many as wanted; else as many as the memory carries with ease (None), or as needed when that is more, in tens;
        or as many as it has, when that is more and its memory is the same.

    Raises:
        ValueError: So many are needed that the memory does not carry them, or more than wanted.

    Example:
        >>> connections(1024, 2, None, 50), connections(1024, 2, None, 83)
        (None, 90)
        >>> connections(1024, 2, None, 50, "max_connections = '90'\\nshared_buffers = '256MB'\\n")
        90
    """
    if wanted is not None:
        if wanted < needed:
            raise ValueError(f"postgres.max_connections is {wanted}, and the apps and operators need {needed}")
        return wanted
    easy, most = tuning(memory_mb, cpus, 17), memory_mb // 4 - max(8, min(cpus, memory_mb // 64))
    has = dict(re.findall(r"^(max_connections|shared_buffers) = '(\w+)'$", conf, re.MULTILINE))
    there = int(has.get("max_connections", 0)) if has.get("shared_buffers") == easy["shared_buffers"] else 0
    if max(needed, int(easy["max_connections"])) <= there <= most:
        return there
    if needed <= int(easy["max_connections"]):
        return None
    if needed > most:
        raise ValueError(
            f"the apps and operators need {needed} connections, and {memory_mb} MB carry {most}: give PostgreSQL more"
            " memory (postgres.memory_mb), or the apps fewer workers, threads or limits.connections"
        )
    return min(-(-needed // 10) * 10, most)


def easy_connections(memory_mb: int, workers: int) -> int:
    """Return how many connections a memory carries with ease.

    Args:
        memory_mb: Memory for PostgreSQL in MB.
        workers: Number of worker processes.

    Example:
        >>> easy_connections(1024, 8)
        56
    """
    for_work_kb = (memory_mb * 1024 - memory_mb * 1024 // 4) // 3
    return min(max(for_work_kb // 4096 - workers, 25), 200)


def locks(memory_mb: int, cpus: int) -> int:
    """Return max_locks_per_transaction, so that the one table of locks, which all apps share, has room enough.

    One session takes 0.8 million locks in a second (measured on PostgreSQL 15, 2.6 GHz); who takes too many is ended
    within a tenth of one (salt/postgres/files/postgres-guard.py). Each place has 384 bytes, of which half are used only
    when the table fills. It does not depend on max_connections: a replica needs as many for each as its primary has.

    Args:
        memory_mb: Memory for PostgreSQL in MB.
        cpus: Number of CPUs.

    Example:
        >>> locks(256, 2), locks(1024, 2), locks(16384, 8)
        (576, 1472, 2048)
    """
    workers = max(8, min(cpus, memory_mb // 64))
    processes = easy_connections(memory_mb, workers) + workers + OTHER_PROCESSES
    return min(memory_mb * 1024 * 1024 // 24 // 384 // processes, 2048) // 64 * 64


def session_mb(memory_mb: int) -> int:
    """Return how much memory of its own one process of PostgreSQL may have, in MiB: a quarter of all.

    That is four times maintenance_work_mem, and many times work_mem.

    Args:
        memory_mb: Memory for PostgreSQL in MB.

    Example:
        >>> session_mb(256), session_mb(4096)
        (192, 1024)
    """
    return max(memory_mb // 4, 192)


def sessions_mb(memory_mb: int, memory_total_mb: int) -> int:
    """Return how much memory of their own all sessions together may have, in MiB.

    All that PostgreSQL is sized for, which is more than they take when each does what it may, but never what the host
    has not got.

    Args:
        memory_mb: Memory for PostgreSQL in MB.
        memory_total_mb: The host's.

    Example:
        >>> sessions_mb(1024, 24105), sessions_mb(3600, 4000)
        (1024, 2300)
    """
    return min(memory_mb, max(memory_total_mb * 8 // 10 - memory_mb // 4, 256))


def unit_mb(memory_mb: int, memory_total_mb: int) -> int:
    """Return where the kernel ends processes of PostgreSQL, in MiB, files that it has read not counted.

    Args:
        memory_mb: Memory for PostgreSQL in MB.
        memory_total_mb: The host's.

    Example:
        >>> unit_mb(1024, 24105), unit_mb(3600, 4000)
        (1792, 3800)
    """
    wanted = memory_mb // 4 + sessions_mb(memory_mb, memory_total_mb) + max(memory_mb // 2, 512)
    return max(min(wanted, memory_total_mb * 95 // 100), 512)


def tuning(memory_mb: int, cpus: int, version: int, max_connections: int | None = None) -> dict[str, str]:
    """Return memory and parallelism settings for a web workload.

    The rules are PGTune's for "web" (le0pard/pgtune at 7caef27, configurationSlice.js): a quarter of the memory for
    shared_buffers, the rest divided by three times the processes for work_mem, a sixteenth for maintenance_work_mem.
    One difference: PGTune's floor of 4 MB for work_mem times its 200 connections is more than a small host has, so here
    the number of connections (and of parallel workers) yields first.

    For any size, shared_buffers + (max_connections + max_worker_processes) x work_mem + maintenance_work_mem
    + three autovacuum workers + the table of locks stays below 80 % of the memory.

    Args:
        memory_mb: Memory for PostgreSQL in MB, at least 256.
        cpus: Number of CPUs.
        version: PostgreSQL's major version.
        max_connections: How many connections; None for as many as the memory carries, between 25 and 200.

    Returns:
        Settings by name, as in postgresql.conf.

    Raises:
        ValueError: The memory is too small, at all or for so many connections.

    Example:
        >>> tuning(1024, 2, 17)["shared_buffers"], tuning(1024, 2, 17)["max_connections"]
        ('256MB', '56')
    """
    if memory_mb < 256:
        raise ValueError(f"postgres needs at least 256 MB; postgres.memory_mb is {memory_mb}")
    if cpus < 1:
        raise ValueError(f"the number of CPUs is {cpus}")
    workers = max(8, min(cpus, memory_mb // 64))
    shared_kb = memory_mb * 1024 // 4
    # PGTune: (memory - shared_buffers) / (3 x processes), which is a quarter of the memory for all processes together.
    for_work_kb = (memory_mb * 1024 - shared_kb) // 3
    if max_connections is None:
        max_connections = easy_connections(memory_mb, workers)
    work_kb = for_work_kb // (max_connections + workers)
    if work_kb < 1024:
        needed = -(-(max_connections + workers) * 4 // 256) * 256
        raise ValueError(
            f"postgres.max_connections is {max_connections}, which leaves {work_kb} kB of work_mem for each in"
            f" {memory_mb} MB; give at least {needed} MB (postgres.memory_mb) or allow fewer connections"
        )
    maintenance_mb = min(memory_mb // 16, 8192)
    settings = {
        "max_connections": str(max_connections),
        "shared_buffers": f"{shared_kb // 1024}MB",
        "effective_cache_size": f"{memory_mb * 3 // 4}MB",
        "work_mem": f"{work_kb}kB",
        "maintenance_work_mem": f"{maintenance_mb}MB",
        "autovacuum_work_mem": f"{min(maintenance_mb, 2048)}MB",
        # A small host mostly has a small disk: WAL is kept in step with the memory.
        "min_wal_size": "1GB" if memory_mb >= 2048 else "256MB",
        "max_wal_size": "4GB" if memory_mb >= 2048 else "1GB",
        "random_page_cost": "1.1",
        "effective_io_concurrency": "200",
        "jit": "off",
        "max_worker_processes": str(workers),
        "max_locks_per_transaction": str(locks(memory_mb, cpus)),
    }
    if version >= 15:
        settings["wal_compression"] = "lz4"
    if cpus >= 4:
        per_query = min(cpus // 2, 4)
        settings["max_parallel_workers"] = str(cpus)
        settings["max_parallel_workers_per_gather"] = str(per_query)
        settings["max_parallel_maintenance_workers"] = str(per_query)
    return settings
