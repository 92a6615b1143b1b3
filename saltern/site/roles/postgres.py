"""Role postgres: the database server."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Field

from .. import pgsettings
from ..kinds import Allowed, Database, OneLine, ServicePort, SettingName
from ..model import Model
from ..role import APPS, Offer, Role
from ..textual import as_text


def _postgres_settings(value: dict[str, str]) -> dict[str, str]:
    taken = pgsettings.refused(value)
    if taken:
        raise ValueError(f"not to be set here: {', '.join(taken)}")
    return value


def _extra_role(value: str) -> str:
    if value.startswith(("pg_", "saltern_")) or value in ("postgres", "public", "none"):
        raise ValueError(f'"{value}" is a role of Postgres or of Saltern itself; take another name')
    return value


SettingValue = Annotated[str, BeforeValidator(as_text), OneLine, Allowed("number, text, on or off")]


class Postgres(Model):
    """Role postgres: the database server."""

    port: ServicePort = Field(description="Port.")
    memory_mb: Annotated[int, Field(ge=128, le=16777216)] | None = Field(
        description="Memory for Postgres, in MiB; null: memory_share of the host's."
    )
    memory_share: Annotated[float, Field(ge=0.05, le=0.9)] = Field(
        description="Share of the host's memory for Postgres, when memory_mb is null."
    )
    session_memory_mb: Annotated[int, Field(ge=64, le=1048576)] | None = Field(
        description="Most memory of its own for one session, in MiB; null: a quarter of Postgres', 192 at least."
    )
    max_connections: Annotated[int, Field(ge=10, le=10000)] | None = Field(
        description="Connections; null: from the memory."
    )
    extra_roles: list[Annotated[Database, AfterValidator(_extra_role)]] = Field(
        description="Roles beyond those of the apps, for migrations that grant rights to them; they cannot log in."
    )
    settings: Annotated[dict[SettingName, SettingValue], AfterValidator(_postgres_settings)] = Field(
        description="Further settings of postgresql.conf, over the computed ones;"
        " none that decides who gets in, what runs, or what keeps apps apart."
    )


ROLE = Role(
    settings=Postgres,
    place=50,
    stops=True,
    rank=0,
    one_only=True,
    needed_by_apps=True,
    offers=(Offer("postgres", "port", (APPS,), "the apps' data", called_by_apps=lambda app: True),),
    app_secrets=("database_password", "owner_password"),
    compares=("database", "owner", "replication"),
    uses=("database", "owner", "replication"),
)
