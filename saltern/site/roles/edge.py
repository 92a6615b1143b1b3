"""Role edge: HAProxy, where TLS ends."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from ..kinds import Network, ServicePort
from ..model import Model
from ..role import ANYONE, Offer, Role

PerSecond = Annotated[int, Field(ge=1, le=1_000_000)]


class Edge(Model):
    """Role edge: HAProxy, where TLS ends."""

    http_port: ServicePort = Field(description="Port that redirects to HTTPS.")
    https_port: ServicePort = Field(description="Port of HTTPS.")
    threads: Annotated[int, Field(ge=1, le=64)] | None = Field(
        description="HAProxy's threads; null: one for each two processors."
    )
    memory_share: Annotated[float, Field(ge=0.01, le=0.9)] = Field(
        description="Share of the host's memory for connections, when max_connections is null."
    )
    max_connections: Annotated[int, Field(ge=100, le=400_000)] | None = Field(
        description="Connections in all; null: one for each 64 KiB of memory_share, 1,000 to 100,000."
    )
    connections_per_address: Annotated[int, Field(ge=1, le=400_000)] | None = Field(
        description="Connections of one address (IPv6: one /56); null: a fiftieth of 4/5 of max_connections, 16 to 256."
    )
    new_connections_per_second: PerSecond = Field(
        description="New connections of one address in a second, over ten seconds."
    )
    requests_per_second: PerSecond = Field(description="Requests of one address in a second, files not counted.")
    requests_per_second_busy: PerSecond = Field(
        description="The same of an app whose threads are all at work, while others wait too."
    )
    requests_at_once: int = Field(ge=1, le=100_000, description="Requests of one address that are not answered yet.")
    files_per_second: PerSecond = Field(description="Requests of one address for static files and media in a second.")
    files_at_once: int = Field(ge=1, le=100_000, description="The same that are not answered yet.")
    bodies_at_once: int = Field(
        ge=1, le=100_000, description="Requests of one address that send more than 10 kB and are not answered yet."
    )
    refuse_seconds: int = Field(
        ge=1, le=3600, description="How long an address gets no connection that asked three times as often as it may."
    )
    unlimited_from: list[Network] = Field(description="Networks to which no limit per address applies.")
    header_seconds: int = Field(ge=1, le=300, description="Until a request's header has to be there.")
    body_seconds: int = Field(ge=1, le=86400, description="Until a request's body has to be there, in all.")
    answer_seconds: int = Field(ge=30, le=604800, description="Until a client has to have its answer, in all.")
    silence_seconds: int = Field(ge=1, le=3600, description="Longest time between two bytes of a client.")
    idle_seconds: int = Field(ge=1, le=300, description="How long a connection without a request is kept.")


ROLE = Role(
    settings=Edge,
    place=90,
    stops=True,
    rank=2,
    needed_by_apps=True,
    offers=(
        Offer("http", "http_port", (ANYONE,), "redirected to HTTPS"),
        Offer("https", "https_port", (ANYONE,), "the apps"),
    ),
    secrets=("edge",),
)
