"""Role postgres: the database server."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Field

from ..kinds import Allowed, Database, OneLine, ServicePort, SettingName
from ..model import Model
from ..role import APPS, Offer, Role
from ..textual import as_text

# Postgres settings that another key or a state decides.
OWN_POSTGRES_SETTINGS = {
    "port": "use postgres.port",
    "max_connections": "use postgres.max_connections",
    "listen_addresses": "it follows from the fleet",
    "data_directory": "it is Debian's cluster directory",
    "hba_file": "access follows from the fleet",
    "ident_file": "access follows from the fleet",
    "password_encryption": "it is always scram-sha-256",
    "ssl": "it is always on",
    "ssl_cert_file": "the certificate is the host's",
    "ssl_key_file": "the certificate is the host's",
    "ssl_ca_file": "the certificate is the fleet's",
}


def _postgres_settings(value: dict[str, str]) -> dict[str, str]:
    taken = [f"{name} ({OWN_POSTGRES_SETTINGS[name]})" for name in value if name in OWN_POSTGRES_SETTINGS]
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
    max_connections: Annotated[int, Field(ge=10, le=10000)] | None = Field(
        description="Connections; null: from the memory."
    )
    extra_roles: list[Annotated[Database, AfterValidator(_extra_role)]] = Field(
        description="Roles beyond those of the apps, for migrations that grant rights to them; they cannot log in."
    )
    settings: Annotated[dict[SettingName, SettingValue], AfterValidator(_postgres_settings)] = Field(
        description="Further settings of postgresql.conf, over the computed ones."
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
