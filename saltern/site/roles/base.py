"""Role base: what every host has."""

from __future__ import annotations

from typing import Annotated, Any, Literal, get_args

from pydantic import AfterValidator, BeforeValidator, Field

from ..accounts import persons
from ..kinds import Account, Allowed, Clock, Network, OneLine, Server, SshKey, SysctlName, Timezone
from ..model import Model
from ..role import Role
from ..textual import as_text


def _sysctl_value(value: Any) -> Any:
    return value if isinstance(value, bool) else as_text(value)


SysctlValue = Annotated[str, BeforeValidator(_sysctl_value), OneLine, Allowed("a number or text")]


class Admin(Model):
    """A person with an account on every host."""

    ssh_keys: Annotated[list[SshKey], Field(min_length=1)] = Field(
        description="Public keys; there are no passwords, so at least one."
    )
    sudo: bool = Field(False, description="May run everything as root.")
    forwarding: bool = Field(
        False, description="May reach, through ssh (`ssh -L`), what the host reaches; nobody else may forward anything."
    )


DayName = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
Day = Annotated[DayName, Allowed("one of " + ", ".join(get_args(DayName)))]


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
    admins: Annotated[dict[Account, Admin], AfterValidator(persons)] = Field(description="People's accounts by name.")
    ssh_from: Annotated[list[Network], Field(min_length=1)] | None = Field(
        description="Networks from which SSH is let in; null: from anywhere."
    )


ROLE = Role(settings=Base, place=10, everywhere=True, replaced=True)
