"""Figures about the guestbook, computed about every 30 seconds, once for all web hosts."""

import platform
import time
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.core.cache import cache
from django.db.models import Count, Q
from django.utils import timezone

from demo.cache import breaker
from notes.models import Note

KEY = "notes:figures:1"  # another number when the fields change: two releases share one cache
SECONDS = 30


@dataclass(frozen=True)
class Figures:
    """What the cache holds."""

    notes: int
    authors: int
    today: int  # in the last 24 hours
    computed: datetime
    took_ms: float
    host: str
    release: str


@dataclass(frozen=True)
class Answer:
    """The figures, and how the cache behaved: "hit", "miss", or "down"."""

    figures: Figures
    cache: str
    lookup_ms: float

    @property
    def age(self) -> float:
        """Seconds since the figures were computed."""
        return max(0.0, (timezone.now() - self.figures.computed).total_seconds())


def compute() -> Figures:
    """Counts in the database."""
    started = time.perf_counter()
    now = timezone.now()
    counts = Note.objects.aggregate(
        notes=Count("pk"),
        authors=Count("author", distinct=True),
        today=Count("pk", filter=Q(created__gt=now - timedelta(days=1))),
    )
    return Figures(
        **counts,
        computed=now,
        took_ms=round((time.perf_counter() - started) * 1000, 1),
        host=platform.node(),
        release=settings.RELEASE_ID,
    )


def figures() -> Answer:
    """Asks the cache, then the database. A cache that is down makes the page slower, no more.

    Example:
        >>> figures().cache
        'miss'
        >>> figures().cache
        'hit'
    """
    started = time.perf_counter()
    found: Any = cache.get(KEY)
    lookup_ms = round((time.perf_counter() - started) * 1000, 1)
    if found is not None:
        return Answer(Figures(**found), "hit", lookup_ms)
    fresh = compute()
    cache.set(KEY, vars(fresh), SECONDS)
    return Answer(fresh, "down" if breaker.is_open else "miss", lookup_ms)
