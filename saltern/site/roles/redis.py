"""Role redis: the cache and the broker, two servers."""

from __future__ import annotations

from pydantic import Field

from ..kinds import ServicePort
from ..model import Model
from ..role import APPS, Offer, Role


class Redis(Model):
    """Role redis: the cache and the broker, two servers."""

    broker_port: ServicePort = Field(description="Port of the broker.")
    broker_maxmemory_mb: int = Field(
        ge=16, le=16777216, description="Memory for what the broker holds, in MiB; when it is full, tasks are refused."
    )
    cache_port: ServicePort = Field(description="Port of the cache.")
    cache_maxmemory_mb: int = Field(
        ge=16, le=16777216, description="Memory for what the cache holds, in MiB; when it is full, the oldest goes."
    )
    max_clients: int = Field(ge=32, le=60000, description="Connections to each of the two, of all apps together.")


ROLE = Role(
    settings=Redis,
    place=60,
    stops=True,
    rank=0,
    one_only=True,
    needed_for=("cache", "broker"),
    offers=(
        Offer("broker", "broker_port", (APPS,), "the apps' tasks", called_by_apps=lambda app: app.uses_broker),
        Offer("cache", "cache_port", (APPS,), "the apps' cache", called_by_apps=lambda app: app.cache),
    ),
    app_secrets=("redis_password",),
    compares=("redis",),
)
