"""The secrets section of one host's pillar: what its roles need, and nothing else."""

from __future__ import annotations

import base64
import datetime
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import AfterValidator, Field, ValidationError

from .apps import App, Environment
from .document import Document
from .errors import Problem
from .explain import explain
from .fleet import Fleet
from .kinds import Allowed, AppName
from .layout import GENERATE
from .model import Model
from .overlap import KINDS
from .roles import ALL


def _pem(value: str) -> str:
    if not value.startswith("-----BEGIN "):
        raise ValueError("no PEM")
    return value


def _password(value: str) -> str:
    if len(value) < 16 or not value.isprintable() or " " in value:
        raise ValueError("too weak or with blanks")
    return value


Pem = Annotated[str, AfterValidator(_pem), Allowed("PEM text")]


def _signing_key(value: str) -> str:
    if "," in value:
        raise ValueError("has a comma, which separates the keys in SECRET_KEY_FALLBACKS")
    return value


def _kind(value: str) -> str:
    if value not in [kind.name for kind in KINDS]:
        raise ValueError("no kind of secret")
    return value


def _day(value: str) -> str:
    datetime.date.fromisoformat(value)
    return value


def _public_key(value: str) -> str:
    if len(base64.b64decode(value, validate=True)) != 32:
        raise ValueError("not 32 bytes")
    return value


PublicKey = Annotated[str, AfterValidator(_public_key), Allowed("32 bytes as base64")]
Password = Annotated[str, AfterValidator(_password), Allowed("at least 16 printable characters without blanks")]
SigningKey = Annotated[
    str,
    AfterValidator(_password),
    AfterValidator(_signing_key),
    Allowed("at least 16 printable characters without blanks or commas"),
]
Day = Annotated[str, AfterValidator(_day), Allowed('a day in quotes, such as "2026-12-31"')]
KindName = Annotated[str, AfterValidator(_kind), Allowed(", ".join(kind.name for kind in KINDS))]
Slot = Annotated[int, Field(ge=1, le=2)]


class Certificate(Model):
    """A certificate with its key."""

    cert: Pem = Field(description="Certificate, or chain.")
    key: Pem = Field(description="Private key.")


class HostCertificate(Certificate):
    """The certificate hosts know each other by."""

    ca: Pem = Field(description="The fleet's CA certificate.")


class Logins(Model):
    """Which of the two Postgres login roles of an app is in force: the first, or the one whose name ends with __2."""

    database: Slot = Field(default=1, description="Of the roles that the app logs in with; turned by `site.rotate`.")
    owner: Slot = Field(default=1, description="Of the roles that migrate the database; turned by `site.rotate`.")


class SharedLogins(Model):
    """Which of the two Postgres login roles that belong to no app is in force."""

    replication: Slot = Field(default=1, description="Of the roles that replicas read with; turned by `site.rotate`.")


class Previous(Model):
    """What an app's secrets were before, while both are good."""

    database_password: Password | None = Field(default=None, description="The password of the other Postgres role.")
    owner_password: Password | None = Field(default=None, description="The password of the other role that migrates.")
    redis_password: Password | None = Field(default=None, description="The app's other password of Redis.")
    secret_key: SigningKey | None = Field(default=None, description="Goes into SECRET_KEY_FALLBACKS.")


class AppPrevious(Previous):
    """The same, in shared.yaml."""

    secret_key_until: Day | None = Field(default=None, description="The day on which the old SECRET_KEY may go.")


class SharedPrevious(Model):
    """What secrets that belong to no app were before, while both are good."""

    replication_password: Password | None = Field(
        default=None, description="The password of the other replication role."
    )
    build_key: Password | None = Field(default=None, description="What builds were signed with; hosts trust both.")


class AppSecrets(Model):
    """What one app keeps secret; which of it a host holds depends on its roles."""

    database_password: Password | None = Field(None, description="Password of the app's Postgres role.")
    owner_password: Password | None = Field(
        None, description="Password of the Postgres role that migrates the database; hosts with role web or postgres."
    )
    redis_password: Password | None = Field(
        None, description="Of the app's user in Redis, if it uses Redis; hosts with role redis, web or worker."
    )
    secret_key: SigningKey | None = Field(None, description="Django's SECRET_KEY; hosts with role web or worker.")
    env: Environment = Field({}, description="Secret environment variables; hosts with role web or worker.")
    previous: Previous = Field(Previous(), description="What they were before, while both are good.")
    logins: Logins = Field(Logins(), description="Which of two Postgres login roles is in force.")


class Secrets(Model):
    """All secrets of one host."""

    tls: HostCertificate = Field(description="Certificate of the host.")
    edge: Certificate | None = Field(None, description="Certificate of all apps' names; hosts with role edge.")
    replication_password: Password | None = Field(
        None, description="Password of the Postgres role that replicas read with; replicas and their primary."
    )
    build_key: Password | None = Field(None, description="What builds are signed with; the host with role builder.")
    build_keys: list[PublicKey] | None = Field(
        None, description="Public halves of it, by which builds are known; hosts with role builder, web or worker."
    )
    previous: SharedPrevious = Field(SharedPrevious(), description="What they were before, while both are good.")
    logins: SharedLogins = Field(SharedLogins(), description="Which of two Postgres login roles is in force.")
    apps: dict[AppName, AppSecrets] = Field({}, description="By app; hosts with role web, worker, postgres or redis.")


class SharedApp(Model):
    """One app in secrets/shared.yaml."""

    database_password: Password = Field(description="Password of the app's Postgres role.")
    owner_password: Password = Field(description="Password of the Postgres role that migrates the database.")
    redis_password: Password = Field(description="Password of the app's user in Redis.")
    secret_key: SigningKey = Field(description="Django's SECRET_KEY.")
    env: Environment = Field({}, description="Further secret environment variables; written by hand.")
    previous: AppPrevious = Field(
        AppPrevious(), description="What they were before, while both are good; kept by `site.rotate`."
    )
    logins: Logins = Field(Logins(), description="Which of two Postgres login roles is in force.")
    ending: list[KindName] = Field([], description="What `site.rotate` is about to take away; kept by it.")


class Shared(Model):
    """secrets/shared.yaml: what several hosts must know alike."""

    redis_password: Password | None = Field(
        None, description="From the time when all apps shared one; no host is given it, and it is taken out."
    )
    replication_password: Password | None = Field(
        None, description="Password of the Postgres role that replicas read with; made when there is a replica."
    )
    build_key: Password | None = Field(None, description="What the builder signs builds with.")
    previous: SharedPrevious = Field(
        SharedPrevious(), description="What they were before, while both are good; kept by `site.rotate`."
    )
    logins: SharedLogins = Field(SharedLogins(), description="Which of two Postgres login roles is in force.")
    ending: list[KindName] = Field([], description="What `site.rotate` is about to take away; kept by it.")
    apps: dict[AppName, SharedApp] = Field(description="By app.")


APP_KEYS = ("database_password", "owner_password", "secret_key", "env", "redis_password")
# What only apps have that use Redis.
OF_REDIS = ("redis_password",)


def _given(part: Model) -> list[str]:
    return [key for key, value in part if value is not None]


@dataclass(frozen=True)
class Needed:
    """Which parts of the secrets a host's roles need.

    Args:
        top: sections beside tls.
        apps: keys of each app, by app; an app of which the host needs nothing is not there.
    """

    top: list[str]
    apps: dict[str, list[str]]


def needed_sections(fleet: Fleet, host: str, apps: Mapping[str, App]) -> Needed:
    """Return which parts of the secrets a host's roles need.

    Args:
        fleet: all hosts.
        host: the host's id.
        apps: all apps by name.
    """
    roles = [ALL[name] for name in fleet.hosts[host].roles]
    held = {name for role in roles if apps for name in role.secrets}
    held |= {"replication_password"} if host in fleet.replicating else set()
    top = [name for name in Secrets.model_fields if name in held]
    keys = [key for key in APP_KEYS if any(key in role.app_secrets for role in roles)]
    needed = {
        name: [key for key in keys if key not in OF_REDIS or app.uses_redis] for name, app in sorted(apps.items())
    }
    return Needed(top, {name: keys for name, keys in needed.items() if keys})


def check_secrets(
    data: Any, fleet: Fleet, host: str, apps: Mapping[str, App], file: str
) -> tuple[Secrets | None, list[Problem]]:
    """Check one host's secrets against its roles: nothing missing, nothing of others.

    Args:
        data: the section `secrets` of the pillar.
        fleet: all hosts.
        host: the host's id.
        apps: all apps by name.
        file: the host's secrets file, for the messages.

    Returns:
        The secrets, or None and what is wrong; no message holds a value.
    """
    document = Document(file)
    if not isinstance(data, dict):
        return None, [document.problem((), f"secrets are missing; make them: {GENERATE}")]
    try:
        secrets = Secrets.model_validate(dict(data))
    except ValidationError as error:
        found = explain(error, Secrets, document, ["secrets"])
        return None, [Problem(p.file, p.line, p.key, f"{p.message} (make what is missing: {GENERATE})") for p in found]
    need = needed_sections(fleet, host, apps)
    optional = [name for name, field in Secrets.model_fields.items() if field.default is None]
    has = {name: getattr(secrets, name) is not None for name in optional}
    problems = [
        _missing(document, name) if name in need.top else _foreign(document, name)
        for name in has
        if has[name] != (name in need.top)
    ]
    problems += [_missing(document, "apps", name) for name in need.apps if name not in secrets.apps]
    problems += [_foreign(document, "apps", name) for name in secrets.apps if name not in need.apps]
    problems += [_foreign(document, "previous", key) for key in _given(secrets.previous) if key not in need.top]
    for name in sorted(set(need.apps) & set(secrets.apps)):
        app, keys = secrets.apps[name], need.apps[name]
        problems += [
            _missing(document, "apps", name, key) for key in keys if key != "env" and getattr(app, key) is None
        ]
        held = [key for key in APP_KEYS if getattr(app, key)]
        problems += [_foreign(document, "apps", name, key) for key in held if key not in keys]
        old = [key for key in _given(app.previous) if key not in keys]
        problems += [_foreign(document, "apps", name, "previous", key) for key in old]
    return (None if problems else secrets), problems


def as_pillar(secrets: Secrets) -> dict[str, Any]:
    """Return a host's secrets as plain data; which login roles are in force is told in any case.

    Args:
        secrets: the host's secrets.
    """
    plain = secrets.model_dump(exclude_none=True, exclude_defaults=True)
    if secrets.replication_password:
        plain["logins"] = secrets.logins.model_dump()
    for name, app in secrets.apps.items():
        if app.database_password:
            plain["apps"][name]["logins"] = app.logins.model_dump()
    return plain


def _missing(document: Document, *key: str) -> Problem:
    return document.problem(("secrets", *key), f"missing; make it: {GENERATE}")


def _foreign(document: Document, *key: str) -> Problem:
    return document.problem(("secrets", *key), f"the host's roles have no need of it; take it out: {GENERATE}")
