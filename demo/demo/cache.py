"""A cache that may be away: no page breaks, and none waits for it twice.

Django's Redis cache raises when Redis does not answer, and Django's own cached sessions do not expect it:
whoever is logged in would see an error page. Here a cache that is down is an empty one that keeps nothing.
After a failure it is left alone for some seconds, because a host that is gone costs each call its timeout.

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
