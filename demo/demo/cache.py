"""A cache that may be away: no page breaks, and none waits for it twice.

Django's Redis cache raises when Redis does not answer, and Django's own cached sessions do not expect it:
whoever is logged in would see an error page. Here a cache that is down is an empty one that keeps nothing.
After a failure it is left alone for some seconds, because a host that is gone costs each call its timeout.

All apps share one Redis, so `clear` must not empty it (Django's FLUSHDB would, and an app may not): it gives
this app's keys another name. A number, which is in each of them, is read at most once a second.

To use it: `CACHES["default"]["BACKEND"] = "demo.cache.RedisCache"`. Nothing may depend on what it holds: a
lock or a counter belongs in the database.
"""

import logging
import threading
import time
from collections.abc import Callable
from typing import Any

from django.core.cache.backends import redis
from redis.exceptions import RedisError

logger = logging.getLogger(__name__)

PAUSE_SECONDS = 5.0
GENERATION_SECONDS = 1.0


class Breaker:
    """Whether it is worth asking; one for the whole process, as Django makes a cache for each thread."""

    def __init__(self) -> None:
        self._lock, self._until = threading.Lock(), 0.0

    @property
    def is_open(self) -> bool:
        """Whether it did not answer when it was last asked."""
        return self._until > 0

    def may_ask(self) -> bool:
        """Answers whether to ask now; of all threads, one tries again when the pause is over."""
        with self._lock:
            if time.monotonic() < self._until:
                return False
            if self._until:
                self._until = time.monotonic() + PAUSE_SECONDS
            return True

    def failed(self) -> None:
        """Notes that it did not answer."""
        if not self.is_open:
            logger.error("the cache does not answer; pages are made without it", exc_info=True)
        self._until = time.monotonic() + PAUSE_SECONDS

    def answered(self) -> None:
        """Notes that it did."""
        if self.is_open:
            logger.warning("the cache answers again")
        self._until = 0.0


breaker = Breaker()


class Generation:
    """The number in all keys; one for the whole process. Another number is an empty cache."""

    def __init__(self) -> None:
        self._number, self._read = 0, float("-inf")

    def number(self, ask: Callable[[], int]) -> int:
        """Answers the number, which `ask` reads when it was last read more than a second ago."""
        if time.monotonic() - self._read > GENERATION_SECONDS:
            # Before it is asked: meanwhile, the other threads go on with the number that they have.
            self._read = time.monotonic()
            self._number = ask() or self._number
        return self._number

    def forget(self) -> None:
        """Lets the next call read it."""
        self._read = float("-inf")


generation = Generation()


def _forgiving(method: Callable[..., Any], empty: Callable[..., Any]) -> Callable[..., Any]:
    def ask(client: redis.RedisCacheClient, *arguments: Any, **named: Any) -> Any:
        if breaker.may_ask():
            try:
                found = method(client, *arguments, **named)
            except RedisError:
                breaker.failed()
            else:
                breaker.answered()
                return found
        return empty(*arguments, **named)

    return ask


def _no_such_key(key: str, *_: Any, **__: Any) -> Any:
    raise ValueError(f"Key '{key}' not found.")  # what Django's own raises for a key that is not there


class Client(redis.RedisCacheClient):
    """Answers as an empty cache does while Redis is away."""

    get = _forgiving(redis.RedisCacheClient.get, lambda key, default: default)
    get_many = _forgiving(redis.RedisCacheClient.get_many, lambda keys: {})
    has_key = _forgiving(redis.RedisCacheClient.has_key, lambda key: False)
    add = _forgiving(redis.RedisCacheClient.add, lambda key, value, timeout: False)
    set = _forgiving(redis.RedisCacheClient.set, lambda key, value, timeout: None)
    set_many = _forgiving(redis.RedisCacheClient.set_many, lambda data, timeout: None)
    touch = _forgiving(redis.RedisCacheClient.touch, lambda key, timeout: False)
    incr = _forgiving(redis.RedisCacheClient.incr, _no_such_key)
    delete = _forgiving(redis.RedisCacheClient.delete, lambda key: False)
    delete_many = _forgiving(redis.RedisCacheClient.delete_many, lambda keys: None)
    clear = _forgiving(redis.RedisCacheClient.clear, lambda: False)


class RedisCache(redis.RedisCache):
    """Django's Redis cache with that client."""

    def __init__(self, server: Any, params: dict[str, Any]) -> None:
        super().__init__(server, params)
        self._class = Client

    def make_key(self, key: Any, version: int | None = None) -> str:
        """Makes the key that Redis is asked for."""
        return super().make_key(f"{generation.number(self._read_generation)}:{key}", version)

    def clear(self) -> bool:
        """Empties the cache for this app: here at once, in other processes within a second."""
        self._cache.set(self._generation_key(), time.time_ns(), None)
        generation.forget()
        return not breaker.is_open

    def _generation_key(self) -> str:
        return super().make_key("generation")

    def _read_generation(self) -> int:
        found = self._cache.get(self._generation_key(), None)
        if found is None and self._cache.add(self._generation_key(), time.time_ns(), None):
            found = self._cache.get(self._generation_key(), None)
        return found or 0
