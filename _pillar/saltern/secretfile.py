"""The secrets section of one host's pillar: what its roles need, and nothing else."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any

from pydantic import AfterValidator, Field, ValidationError

from .apps import Environment
from .document import Document
from .errors import Problem
from .explain import explain
from .fleet import Fleet
from .kinds import Allowed, AppName
from .layout import APP_ROLES, GENERATE
from .model import Model


def _pem(value: str) -> str:
    if not value.startswith("-----BEGIN "):
        raise ValueError("no PEM")
    return value


def _password(value: str) -> str:
    if len(value) < 16 or not value.isprintable() or " " in value:
        raise ValueError("too weak or with blanks")
    return value


Pem = Annotated[str, AfterValidator(_pem), Allowed("PEM text")]
Password = Annotated[str, AfterValidator(_password), Allowed("at least 16 printable characters without blanks")]


class Certificate(Model):
    """A certificate with its key."""

    cert: Pem = Field(description="Certificate, or chain.")
    key: Pem = Field(description="Private key.")


class HostCertificate(Certificate):
    """The certificate hosts know each other by."""

    ca: Pem = Field(description="The fleet's CA certificate.")


class AppSecrets(Model):
    """What one app keeps secret; which of it a host holds depends on its roles."""

    database_password: Password = Field(description="Password of the app's Postgres role.")
    owner_password: Password | None = Field(
        None, description="Password of the Postgres role that migrates the database; hosts with role web or postgres."
    )
    secret_key: Password | None = Field(None, description="Django's SECRET_KEY; hosts with role web or worker.")
    env: Environment = Field({}, description="Secret environment variables; hosts with role web or worker.")


class Secrets(Model):
    """All secrets of one host."""

    tls: HostCertificate = Field(description="Certificate of the host.")
    edge: Certificate | None = Field(None, description="Certificate of all apps' names; hosts with role edge.")
    redis_password: Password | None = Field(None, description="Hosts with role redis, web or worker.")
    replication_password: Password | None = Field(
        None, description="Password of the Postgres role that replicas read with; replicas and their primary."
    )
    apps: dict[AppName, AppSecrets] = Field({}, description="By app; hosts with role web, worker or postgres.")


class SharedApp(Model):
    """One app in secrets/shared.yaml."""

    database_password: Password = Field(description="Password of the app's Postgres role.")
    owner_password: Password = Field(description="Password of the Postgres role that migrates the database.")
    secret_key: Password = Field(description="Django's SECRET_KEY.")
    env: Environment = Field({}, description="Further secret environment variables; written by hand.")


class Shared(Model):
    """secrets/shared.yaml: what several hosts must know alike."""

    redis_password: Password = Field(description="Password of Redis.")
    replication_password: Password | None = Field(
        None, description="Password of the Postgres role that replicas read with; made when there is a replica."
    )
    apps: dict[AppName, SharedApp] = Field(description="By app.")


def needed_sections(fleet: Fleet, host: str, apps: Iterable[str]) -> dict[str, list[str]]:
    """Answers which parts of the secrets a host's roles need.

    Args:
        fleet: all hosts.
        host: the host's id.
        apps: names of all apps.

    Returns:
        `{"top": [sections beside tls], "apps": [names], "app": [keys of each app]}`.
    """
    roles, apps = set(fleet.hosts[host].roles), sorted(apps)
    top = ["edge"] if "edge" in roles and apps else []
    top += ["redis_password"] if roles & {"redis", *APP_ROLES} else []
    top += ["replication_password"] if host in fleet.replicating else []
    keys = ["database_password"] if roles & {"postgres", *APP_ROLES} else []
    keys += ["owner_password"] if roles & {"postgres", "web"} else []
    keys += ["secret_key", "env"] if host in fleet.running_apps else []
    return {"top": top, "apps": apps if keys else [], "app": keys}


def check_secrets(
    data: Any, fleet: Fleet, host: str, apps: Iterable[str], file: str
) -> tuple[Secrets | None, list[Problem]]:
    """Checks one host's secrets against its roles: nothing missing, nothing of others.

    Args:
        data: the section `secrets` of the pillar.
        fleet: all hosts.
        host: the host's id.
        apps: names of all apps.
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
    has = {name: getattr(secrets, name) is not None for name in ("edge", "redis_password", "replication_password")}
    problems = [
        _missing(document, name) if name in need["top"] else _foreign(document, name)
        for name in has
        if has[name] != (name in need["top"])
    ]
    problems += [_missing(document, "apps", name) for name in need["apps"] if name not in secrets.apps]
    problems += [_foreign(document, "apps", name) for name in secrets.apps if name not in need["apps"]]
    for name in sorted(set(need["apps"]) & set(secrets.apps)):
        app = secrets.apps[name]
        for key in ("owner_password", "secret_key"):
            if key in need["app"] and getattr(app, key) is None:
                problems.append(_missing(document, "apps", name, key))
        held = [key for key in ("owner_password", "secret_key", "env") if getattr(app, key)]
        problems += [_foreign(document, "apps", name, key) for key in held if key not in need["app"]]
    return (None if problems else secrets), problems


def _missing(document: Document, *key: str) -> Problem:
    return document.problem(("secrets", *key), f"missing; make it: {GENERATE}")


def _foreign(document: Document, *key: str) -> Problem:
    return document.problem(("secrets", *key), f"the host's roles have no need of it; take it out: {GENERATE}")
