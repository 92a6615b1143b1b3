"""Role web: nginx and the apps."""

from __future__ import annotations

from pydantic import Field

from ..kinds import ServicePort
from ..model import Model
from ..role import Offer, Role


class Web(Model):
    """Role web: nginx and the apps."""

    port: ServicePort = Field(description="Port on which nginx listens for the edge.")
    body_max_mb: int = Field(ge=1, le=10240, description="Most that one request may send, in MiB; more gets 413.")
    spool_mb: int = Field(
        ge=1,
        le=1048576,
        description="Most disk space for bodies that still arrive, in MiB: so many times body_max_mb at once.",
    )


ROLE = Role(
    settings=Web,
    place=70,
    stops=True,
    rank=1,
    runs_apps=True,
    needed_by_apps=True,
    replaced=True,
    offers=(Offer("pages", "port", ("edge",), "requests that an edge passes on"),),
    secrets=("build_keys",),
    app_secrets=("database_password", "owner_password", "secret_key", "env", "redis_password"),
    compares=("build_key",),
    uses=("database", "owner", "redis", "secret_key"),
)
