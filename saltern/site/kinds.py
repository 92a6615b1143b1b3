"""The kinds of text that a site holds: what each allows, in words and as a check."""

from __future__ import annotations

import ipaddress
import re
import zoneinfo
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated

from pydantic import AfterValidator, Field

# RFC 1123, section 2.1, in lower case.
LABEL = r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"
ENVIRONMENT_NAME = r"[A-Za-z_][A-Za-z0-9_]*"


@dataclass(frozen=True)
class Allowed:
    """Says in words what a value may be; shown in error messages and in the reference."""

    text: str


def _matches(pattern: str) -> AfterValidator:
    compiled = re.compile(pattern)

    def check(value: str) -> str:
        if not compiled.fullmatch(value):
            raise ValueError("not allowed")
        return value

    return AfterValidator(check)


def _checked(check: Callable[[str], None]) -> AfterValidator:
    def run(value: str) -> str:
        check(value)
        return value

    return AfterValidator(run)


def _dns_name(value: str) -> None:
    labels = value.split(".")
    if (
        len(value) > 253
        or not all(re.fullmatch(LABEL, label) for label in labels)
        or re.fullmatch(r"\d+|0x[0-9a-f]*", labels[-1])
    ):
        raise ValueError("not a DNS name")


def _address(value: str) -> None:
    try:
        address = ipaddress.IPv4Address(value)
    except ValueError:
        raise ValueError("not an IPv4 address") from None
    if address.is_loopback or address.is_unspecified or address.is_multicast:
        raise ValueError("other hosts cannot reach this address")


def _any_address(value: str) -> None:
    try:
        address = ipaddress.ip_address(value)
    except ValueError:
        raise ValueError("not an address") from None
    if address.is_loopback or address.is_unspecified or address.is_multicast or address.is_link_local:
        raise ValueError("other hosts cannot reach this address")


def _network(value: str) -> None:
    try:
        ipaddress.ip_network(value)
    except ValueError:
        raise ValueError("not a network") from None


def _timezone(value: str) -> None:
    try:
        zoneinfo.ZoneInfo(value)
    except (ValueError, OSError):
        raise ValueError("unknown time zone") from None
    except zoneinfo.ZoneInfoNotFoundError:
        # Only where the time zones are installed can an unknown one be told.
        if any(zoneinfo.TZPATH) and _has_timezones():
            raise ValueError("unknown time zone") from None


def _has_timezones() -> bool:
    try:
        zoneinfo.ZoneInfo("Etc/UTC")
    except zoneinfo.ZoneInfoNotFoundError:
        return False
    return True


def _inside(value: str) -> None:
    if value.startswith("/") or ".." in value.split("/"):
        raise ValueError("leaves the source directory")
    if not value.isprintable() or len(value.encode()) > 1000 or {"", "."} & {*value.split("/")}:
        raise ValueError("not allowed")


LABEL_WORDS = "a DNS label: a-z, 0-9 and - inside, at most 63 characters"
HostId = Annotated[str, _matches(f"(?!localhost$){LABEL}"), Allowed(LABEL_WORDS + ", not localhost")]
# The Linux account is app-<name>, and an account has at most 32 characters (useradd(8)).
AppName = Annotated[
    str,
    _matches(r"[a-z]([a-z0-9-]{0,26}[a-z0-9])?"),
    Allowed("a DNS label that begins with a letter: a-z, 0-9 and - inside, at most 28 characters"),
]
DnsName = Annotated[
    str, _checked(_dns_name), Allowed("a DNS name in lower case, such as shop.example.org, without port or wildcard")
]
Address = Annotated[str, _checked(_address), Allowed("an IPv4 address such as 10.77.0.11, not loopback")]
AnyAddress = Annotated[
    str, _checked(_any_address), Allowed("an address such as 198.51.100.7 or 2a01:db8::7, not loopback or link-local")
]
Network = Annotated[str, _checked(_network), Allowed("a network or an address, such as 192.0.2.0/24 or 2001:db8::1")]
Timezone = Annotated[str, _checked(_timezone), Allowed("a name of the tz database, such as Europe/Berlin")]
Clock = Annotated[str, _matches(r"([01]\d|2[0-3]):[0-5]\d"), Allowed('a time in quotes, such as "03:00"')]
Server = Annotated[str, _matches(r"[A-Za-z0-9][A-Za-z0-9.:-]{0,252}"), Allowed("a name or an address")]
Account = Annotated[
    str, _matches(r"[a-z_][a-z0-9_-]{0,31}"), Allowed("an account name: a-z, 0-9, _ and -, at most 32 characters")
]
# Unquoted SQL identifiers, so that nobody ever has to quote one; 63 is Postgres' NAMEDATALEN - 1, _owner__2 needs nine.
Database = Annotated[
    str, _matches(r"[a-z_][a-z0-9_]{0,53}"), Allowed("a plain SQL name: a-z, 0-9 and _, at most 54 characters")
]
Migration = Annotated[
    str, _matches(r"[A-Za-z_]\w*\.\w+"), Allowed("a migration as app_label.name, such as shop.0003_prices")
]
Module = Annotated[str, _matches(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*"), Allowed("a Python module such as shop.settings")]
WsgiPath = Annotated[
    str,
    _matches(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*"),
    Allowed("module:object, such as shop.wsgi:application"),
]
# nginx takes `.`, `..` and the second of two `/` out of a path before it looks where it belongs.
PLAIN_PATH = r"(?!.*//)(?!.*/\.\.?(/|$))"
UrlPath = Annotated[
    str,
    _matches(rf"{PLAIN_PATH}/[A-Za-z0-9._~/-]*"),
    Allowed("a path that begins with /, without . or .. or two /, such as /healthz"),
]
UrlFolder = Annotated[
    str,
    _matches(rf"{PLAIN_PATH}/[A-Za-z0-9._~-]+(/[A-Za-z0-9._~-]+)*/"),
    Allowed("a path that begins and ends with /, without . or .., such as /static/"),
]
InsidePath = Annotated[
    str,
    _checked(_inside),
    Allowed("a path inside the source directory, without . or .. or two /, of printable characters"),
]
SiteFolder = Annotated[
    str,
    _matches(r"[A-Za-z0-9_][A-Za-z0-9._-]*(/[A-Za-z0-9_][A-Za-z0-9._-]*)*"),
    Allowed("a folder below the site's apps/, such as shop-pages"),
]
Directory = Annotated[str, _matches(r"[^\0\n]+"), Allowed("a directory, relative to the repository's root or absolute")]
# No password in it: it would be shown in plans and stand in manifests.
AbsolutePath = Annotated[
    str, _matches(r"(/[A-Za-z0-9._-]+)+"), Allowed("an absolute path such as /srv/saltern, without spaces")
]
GitUrl = Annotated[
    str,
    _matches(
        r"(https?://|git://|file:///)[^\s@]+|ssh://[^\s:@/]+@?[^\s@]+|[a-z_][a-z0-9_.-]*@[a-zA-Z0-9.-]+:[^\s-][^\s]*"
    ),
    Allowed("a repository's URL without a password, such as https://git.example.org/shop.git"),
]
# Never with a leading -, which git would read as an option.
Revision = Annotated[
    str, _matches(r"(?!.*\.\.)[A-Za-z0-9_][A-Za-z0-9._/+-]*"), Allowed("a commit (40 digits), a tag or a branch")
]
PythonVersion = Annotated[str, _matches(r"3\.\d{1,2}"), Allowed('a version of Python in quotes, such as "3.13"')]
PACKAGE = r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?(\[[A-Za-z0-9._, -]+\])?"
Requirement = Annotated[
    str,
    _matches(PACKAGE + "( *(==|>=|<=|<|>|~=|!=) *[A-Za-z0-9.*+!_-]+ *,?)*"),
    Allowed("a package, with extras and versions if need be, such as bugsink==2.6.1 or psycopg[binary]>=3.3"),
]
PinnedRequirement = Annotated[
    str,
    _matches(PACKAGE + " *== *[A-Za-z0-9.+!_-]+"),
    Allowed("a package with its exact version, such as bugsink==2.6.1"),
]
# Debian Policy, section 5.6.1.
DebianPackage = Annotated[
    str, _matches(r"[a-z0-9][a-z0-9+.-]+"), Allowed("the name of a Debian package, such as libpq-dev")
]
ManageCommand = Annotated[
    str,
    _matches(r"(python( -m [A-Za-z_][\w.]*| [A-Za-z0-9_][\w./-]*\.py)|[A-Za-z0-9_][\w.-]*)"),
    Allowed("python -m django, python manage.py, or a program that the app's packages bring, such as bugsink-manage"),
]
# systemd's EnvironmentFile reads lines; a line break in a value would begin a new variable.
EnvironmentName = Annotated[str, _matches(ENVIRONMENT_NAME), Allowed("a variable's name: A-Z, 0-9 and _")]
EnvironmentValue = Annotated[str, _matches(r"[^\0\r\n]*"), Allowed("text on one line")]
SshKey = Annotated[
    str,
    _matches(r"(ssh-|ecdsa-|sk-)[a-z0-9@.-]+ [A-Za-z0-9+/=]+( [^\r\n]*)?"),
    Allowed("one public key line, such as ssh-ed25519 AAAA... name"),
]
SysctlName = Annotated[str, _matches(r"[a-z0-9_]+([./][A-Za-z0-9_-]+)+"), Allowed("a name such as vm.swappiness")]
SettingName = Annotated[
    str, _matches(r"[a-z_][a-z0-9_]*(\.[a-z_][a-z0-9_]*)?"), Allowed("a Postgres setting such as work_mem")
]
QueueName = Annotated[str, _matches(r"[A-Za-z0-9._-]+"), Allowed("a queue's name: letters, digits, . _ and -")]
# Of what a pattern of Redis gives a meaning to only *, for a routing key.
Exchange = Annotated[
    str,
    _matches(r"[A-Za-z0-9._/*-]{1,100}"),
    Allowed("an exchange, with / and a routing key: letters, digits, . _ - / *"),
]
# Part of a unit's name: app-<app>-<name>@<release>.service.
ProcessName = Annotated[
    str,
    _matches(r"[a-z]([a-z0-9-]{0,26}[a-z0-9])?"),
    Allowed("a name that begins with a letter: a-z, 0-9 and - inside, at most 28 characters"),
]
Argument = Annotated[str, _matches(r"[^\0\r\n]+"), Allowed("text on one line, in quotes when it looks like a number")]
OneLine = _matches(r"[^\0\r\n]+")
Port = Annotated[int, Field(ge=1, le=65535)]

# On every host, whatever its roles.
HOST_PORTS = {22: "ssh", 53: "the host's name server", 5355: "systemd-resolved"}


def _service_port(value: int) -> int:
    if value in HOST_PORTS:
        raise ValueError(f"{value} is the port of {HOST_PORTS[value]}; take another one")
    return value


# From there on a port is anybody's (net.ipv4.ip_unprivileged_port_start in pillar/base.sls): whoever listens there is
# perhaps not ours, and the kernel gives these ports to outgoing connections.
ANYBODYS_PORTS = 32768
ServicePort = Annotated[int, Field(ge=1, le=ANYBODYS_PORTS - 1), AfterValidator(_service_port)]
