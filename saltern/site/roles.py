"""The settings of each role: types and limits. The default values are in pillar/<role>.sls."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field

from .egress import fetched_from
from .kinds import (
    AbsolutePath,
    Account,
    Allowed,
    Clock,
    Database,
    Network,
    OneLine,
    Port,
    Server,
    SettingName,
    SshKey,
    SysctlName,
    Timezone,
)
from .model import Model
from .windows import DAYS

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


def _as_text(value: Any) -> Any:
    """Return what Postgres and sysctl take, text; a number or yes/no in YAML means exactly one, so nobody quotes it."""
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, int | float):
        return str(value)
    return value


def _sysctl_value(value: Any) -> Any:
    return value if isinstance(value, bool) else _as_text(value)


def _postgres_settings(value: dict[str, str]) -> dict[str, str]:
    taken = [f"{name} ({OWN_POSTGRES_SETTINGS[name]})" for name in value if name in OWN_POSTGRES_SETTINGS]
    if taken:
        raise ValueError(f"not to be set here: {', '.join(taken)}")
    return value


def _extra_role(value: str) -> str:
    if value.startswith(("pg_", "saltern_")) or value in ("postgres", "public", "none"):
        raise ValueError(f'"{value}" is a role of Postgres or of Saltern itself; take another name')
    return value


SysctlValue = Annotated[str, BeforeValidator(_sysctl_value), OneLine, Allowed("a number or text")]
SettingValue = Annotated[str, BeforeValidator(_as_text), OneLine, Allowed("number, text, on or off")]


class Admin(Model):
    """A person with an account on every host."""

    ssh_keys: Annotated[list[SshKey], Field(min_length=1)] = Field(
        description="Public keys; there are no passwords, so at least one."
    )
    sudo: bool = Field(False, description="May run everything as root.")
    forwarding: bool = Field(
        False, description="May reach, through ssh (`ssh -L`), what the host reaches; nobody else may forward anything."
    )


Day = Annotated[Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"], Allowed("one of " + ", ".join(DAYS))]


def _days(value: list[str]) -> list[str]:
    twice = sorted({day for day in value if value.count(day) > 1})
    if twice:
        raise ValueError(f"named twice: {', '.join(twice)}")
    return value


class Updates(Model):
    """When hosts install security updates by themselves: those that share a role, one after another."""

    days: Annotated[list[Day], Field(min_length=1), AfterValidator(_days)] = Field(
        description="Days on which the first window begins."
    )
    start: Clock = Field(description="When the first window begins, in the hosts' time zone.")
    minutes: int = Field(ge=20, le=240, description="How long a host's window is; at its end what is left waits.")
    restart: bool = Field(
        description="Restart daemons whose files were replaced; never a release of an app, and never the host."
    )


class Base(Model):
    """Role base: what every host has."""

    timezone: Timezone = Field(description="Time zone of the host.")
    ntp: list[Server] = Field(description="Servers that tell the time; empty: Debian's.")
    journal_max_mb: int = Field(ge=16, le=1048576, description="Most disk space for the journal, in MiB.")
    idle_minutes: int = Field(ge=1, le=1440, description="After how long an idle shell ends.")
    ssh_older_clients: bool = Field(
        description="On Debian 13: let in clients of ssh without a post-quantum key exchange (paramiko, Vagrant)."
    )
    updates: Updates = Field(description="When security updates are installed.")
    sysctl: dict[SysctlName, SysctlValue | None] = Field(
        description="Kernel settings; null leaves one of the defaults alone."
    )
    admins: dict[Account, Admin] = Field(description="People's accounts by name.")
    ssh_from: Annotated[list[Network], Field(min_length=1)] | None = Field(
        description="Networks from which SSH is let in; null: from anywhere."
    )


class Minion(Model):
    """Role minion: takes orders from the fleet's master."""

    log_level: Annotated[Literal["error", "warning", "info"], Allowed("one of error, warning, info")] = Field(
        description="What the minion writes to the journal."
    )


class Master(Model):
    """Role master: applies the states of all minions."""

    repository: AbsolutePath = Field(description="Where this repository is on the master; the site is its site/.")
    workers: int = Field(ge=3, le=64, description="Processes that answer minions.")


class Builder(Model):
    """Role builder: makes wheels."""

    keep: int = Field(ge=1, le=1000, description="Builds to keep of each app.")
    port: Port = Field(description="Port on which other hosts of the fleet fetch builds.")
    memory_max_mb: int = Field(ge=256, le=16777216, description="Most memory for building an app, in MiB.")
    disk_max_mb: int = Field(
        ge=256, le=16777216, description="Most disk space for fetching and building an app at once, in MiB."
    )
    build_seconds: int = Field(ge=60, le=86400, description="Longest time for building one package, in seconds.")
    source_max_mb: int = Field(ge=1, le=65536, description="Largest source of an app, in MiB.")
    fetch_from: Annotated[list[Network], Field(max_length=64), AfterValidator(fetched_from)] = Field(
        description="Private networks from which packages come, besides what pip's settings and Git's URLs name."
    )


class Postgres(Model):
    """Role postgres: the database server."""

    port: Port = Field(description="Port.")
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


class Redis(Model):
    """Role redis: the cache and the broker, two servers."""

    broker_port: Port = Field(description="Port of the broker.")
    broker_maxmemory_mb: int = Field(
        ge=16, le=16777216, description="Memory for what the broker holds, in MiB; when it is full, tasks are refused."
    )
    cache_port: Port = Field(description="Port of the cache.")
    cache_maxmemory_mb: int = Field(
        ge=16, le=16777216, description="Memory for what the cache holds, in MiB; when it is full, the oldest goes."
    )
    max_clients: int = Field(ge=32, le=60000, description="Connections to each of the two, of all apps together.")


class Web(Model):
    """Role web: nginx and the apps."""

    port: Port = Field(description="Port on which nginx listens for the edge.")
    body_max_mb: int = Field(ge=1, le=10240, description="Most that one request may send, in MiB; more gets 413.")
    spool_mb: int = Field(
        ge=1,
        le=1048576,
        description="Most disk space for bodies that still arrive, in MiB: so many times body_max_mb at once.",
    )


class Worker(Model):
    """Role worker: background processes and timers."""

    start_seconds: int = Field(ge=1, le=60, description="How long a new process must stay up before the old one stops.")
    stop_seconds: int = Field(ge=1, le=3600, description="How long a process may take to stop.")


PerSecond = Annotated[int, Field(ge=1, le=1_000_000)]


class Edge(Model):
    """Role edge: HAProxy, where TLS ends."""

    http_port: Port = Field(description="Port that redirects to HTTPS.")
    https_port: Port = Field(description="Port of HTTPS.")
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


@dataclass(frozen=True)
class Settings:
    """The settings of every role."""

    base: Base
    minion: Minion
    master: Master
    builder: Builder
    postgres: Postgres
    redis: Redis
    web: Web
    worker: Worker
    edge: Edge


MODELS: dict[str, type[Model]] = {
    "base": Base,
    "minion": Minion,
    "master": Master,
    "builder": Builder,
    "postgres": Postgres,
    "redis": Redis,
    "web": Web,
    "worker": Worker,
    "edge": Edge,
}
# The settings that are ports, for the rule that no two daemons of a host share one.
PORTS = (
    ("builder", "port"),
    ("postgres", "port"),
    ("redis", "broker_port"),
    ("redis", "cache_port"),
    ("web", "port"),
    ("edge", "http_port"),
    ("edge", "https_port"),
)
