"""Role builder: makes wheels."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field

from ..egress import fetched_from
from ..kinds import Network, ServicePort
from ..model import Model
from ..role import APPS, Offer, Role


class Builder(Model):
    """Role builder: makes wheels."""

    keep: int = Field(ge=1, le=1000, description="Builds to keep of each app.")
    port: ServicePort = Field(description="Port on which other hosts of the fleet fetch builds.")
    memory_max_mb: int = Field(ge=256, le=16777216, description="Most memory for building an app, in MiB.")
    disk_max_mb: int = Field(
        ge=256, le=16777216, description="Most disk space for fetching and building an app at once, in MiB."
    )
    build_seconds: int = Field(ge=60, le=86400, description="Longest time for building one package, in seconds.")
    source_max_mb: int = Field(ge=1, le=65536, description="Largest source of an app, in MiB.")
    fetch_from: Annotated[list[Network], Field(max_length=64), AfterValidator(fetched_from)] = Field(
        description="Private networks from which packages come, besides what pip's settings and Git's URLs name."
    )


ROLE = Role(
    settings=Builder,
    place=40,
    rank=0,
    one_only=True,
    needed_by_apps=True,
    offers=(Offer("builds", "port", (APPS,), "builds to install"),),
    secrets=("build_key", "build_keys"),
    compares=("build_key",),
)
