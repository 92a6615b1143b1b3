"""Role worker: background processes and timers."""

from __future__ import annotations

from pydantic import Field

from ..model import Model
from ..role import Role


class Worker(Model):
    """Role worker: background processes and timers."""

    start_seconds: int = Field(ge=1, le=60, description="How long a new process must stay up before the old one stops.")
    stop_seconds: int = Field(ge=1, le=3600, description="How long a process may take to stop.")


ROLE = Role(
    settings=Worker,
    place=80,
    stops=True,
    rank=2,
    runs_apps=True,
    replaced=True,
    secrets=("build_keys",),
    app_secrets=("database_password", "secret_key", "env", "redis_password"),
    compares=("build_key",),
    uses=("database", "owner", "redis", "secret_key"),
)
