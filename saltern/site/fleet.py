"""fleet.yaml: the hosts of a site."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field

from .errors import nearest
from .kinds import Address, Allowed, AnyAddress, DnsName, HostId
from .model import Model
from .roles import APP_ROLES, ROLES


def _role(value: str) -> str:
    if value not in ROLES:
        raise ValueError(f'unknown role "{value}"; {nearest(value, ROLES)}')
    return value


def _roles(value: list[str]) -> list[str]:
    twice = sorted({role for role in value if value.count(role) > 1})
    if twice:
        raise ValueError(f"named twice: {', '.join(twice)}; name each role once")
    if "base" not in value:
        raise ValueError('role "base" is missing; every host needs it, add it to the list')
    return sorted(value, key=ROLES.index)


Role = Annotated[str, AfterValidator(_role), Allowed("one of " + ", ".join(ROLES))]


class Host(Model):
    """One host, under its minion id."""

    address: Address = Field(description="The address other hosts reach it by.")
    other_addresses: Annotated[list[AnyAddress], Field(max_length=32)] = Field(
        [], description="Further addresses of the host, IPv6 too: no app and no build of another host calls them."
    )
    roles: Annotated[list[Role], AfterValidator(_roles)] = Field(
        description="What the host is. Every host has `base`; the order does not matter."
    )
    purpose: str = Field("", description="Why the host exists, for people.")
    owner: str = Field("", description="Whom to ask about it, for people.")
    replica_of: HostId | None = Field(
        None, description="With role postgres: the host whose databases this one holds a copy of."
    )


class Fleet(Model):
    """All hosts of the site."""

    name: HostId = Field(description="The fleet's name.")
    domain: DnsName = Field(description="The hosts' domain: host `app1` is `app1.<domain>`.")
    hosts: dict[HostId, Host] = Field(min_length=1, description="The hosts by their minion id.")
    virtual_address: Address | None = Field(
        None, description="An address, in the network of the hosts with role edge, that one of them has at any time."
    )

    def with_role(self, *roles: str) -> list[str]:
        """Return the hosts that have any of the roles, by id, sorted."""
        return sorted(name for name, host in self.hosts.items() if set(roles) & set(host.roles))

    def addresses(self, name: str) -> list[str]:
        """Return all addresses of a host that the site knows, the one that others reach it by first.

        Args:
            name: the host's id.
        """
        return [self.hosts[name].address, *self.hosts[name].other_addresses]

    @property
    def running_apps(self) -> list[str]:
        """Return the hosts that run apps' code, by id."""
        return self.with_role(*APP_ROLES)

    @property
    def replicas(self) -> list[str]:
        """Return the hosts that hold a copy of another's databases, by id."""
        return sorted(name for name, host in self.hosts.items() if host.replica_of is not None)

    @property
    def replicating(self) -> list[str]:
        """Return the replicas and the hosts that they copy, by id: those who know the password between them."""
        named = {str(self.hosts[name].replica_of) for name in self.replicas}
        return sorted({*self.replicas, *named})
