"""apps/<app>.yaml: one Django project."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field

from .kinds import (
    Account,
    Allowed,
    Database,
    Directory,
    DnsName,
    EnvironmentName,
    EnvironmentValue,
    InsidePath,
    Module,
    ProcessName,
    UrlFolder,
    UrlPath,
    WsgiPath,
)
from .model import Model
from .processes import Process, Timer

# Worked out from the fleet (wiring.py) or added to each release; an app's file cannot set them.
OWN_VARIABLES = (
    "DATABASE_URL", "CACHE_URL", "BROKER_URL", "SECRET_KEY", "ALLOWED_HOSTS", "CSRF_TRUSTED_ORIGINS",
    "DJANGO_SETTINGS_MODULE", "RELEASE_ID", "RELEASE_COMMIT", "STATIC_ROOT",
)  # fmt: skip
SYSTEM_ACCOUNTS = (
    "root", "daemon", "bin", "sys", "mail", "www-data", "backup", "nobody", "postgres", "redis", "haproxy", "sshd",
)  # fmt: skip
SYSTEM_DATABASES = ("postgres", "template0", "template1")


def _environment(value: dict[str, str]) -> dict[str, str]:
    taken = [name for name in value if name in OWN_VARIABLES]
    if taken:
        raise ValueError(f"{', '.join(taken)}: set by Saltern, take it out")
    return value


def _hostnames(value: list[str]) -> list[str]:
    twice = sorted({name for name in value if value.count(name) > 1})
    if twice:
        raise ValueError(f"named twice: {', '.join(twice)}; name each once")
    return value


def _account(value: str) -> str:
    if value in SYSTEM_ACCOUNTS:
        raise ValueError(f'"{value}" is an account of the system; take the default or another name')
    return value


def _database(value: str) -> str:
    if value in SYSTEM_DATABASES:
        raise ValueError(f'"{value}" is a database of Postgres itself; take the default or another name')
    return value


Environment = Annotated[
    dict[EnvironmentName, EnvironmentValue],
    AfterValidator(_environment),
    Allowed("NAME: text on one line, in quotes when it looks like a number, a date or yes/no"),
]


class Source(Model):
    """Where the app's code comes from."""

    directory: Directory = Field(description="A directory with the project; relative to the repository's root.")


class App(Model):
    """One app; the file's name is the app's name."""

    source: Source = Field(description="Where the code comes from.")
    hostnames: Annotated[list[DnsName], Field(min_length=1), AfterValidator(_hostnames)] = Field(
        description="The names it answers to; the first one is canonical."
    )
    settings_module: Module | None = Field(None, description="Django settings. Default: `<app>.settings`.")
    wsgi: WsgiPath | None = Field(
        None, description="The WSGI object. Default: `wsgi:application` in the package of settings_module."
    )
    requirements: InsidePath = Field("requirements.txt", description="The lock inside the source, with hashes.")
    env: Environment = Field(
        {}, description="Extra environment variables; `secrets/shared.yaml` takes the secret ones."
    )
    static_url: UrlFolder = Field("/static/", description="Where nginx serves the collected static files.")
    health_path: UrlPath = Field("/healthz", description="Answers 200 only when the app can work.")
    version_path: UrlPath = Field("/-/version", description="Answers the release as JSON.")
    workers: int = Field(2, ge=1, le=64, description="gunicorn's processes.")
    threads: int = Field(4, ge=1, le=64, description="Threads in each process.")
    user: Annotated[Account, AfterValidator(_account)] | None = Field(
        None, description="The Linux account it runs as. Default: `app-<app>`."
    )
    database: Annotated[Database, AfterValidator(_database)] | None = Field(
        None, description="The database, and the Postgres role that owns it. Default: the app's name with _ for -."
    )
    memory_max_mb: int = Field(512, ge=64, le=1048576, description="Memory limit of the app's unit, in MiB.")
    processes: dict[ProcessName, Process] = Field(
        {}, description="What runs beside the web processes, on hosts with role worker."
    )
    timers: dict[ProcessName, Timer] = Field({}, description="What runs at given times, on one host with role worker.")
    broker_database: int = Field(
        1, ge=1, le=15, description="Number of the Redis database in BROKER_URL; 0 is the cache."
    )

    def filled(self, name: str) -> App:
        """Answers the app with the defaults that depend on its name.

        Args:
            name: the app's name, such as `web-shop`.

        Example:
            >>> App(source={"directory": "x"}, hostnames=["x.org"]).filled("web-shop").database
            'web_shop'
        """
        identifier = name.replace("-", "_")
        module = self.settings_module or f"{identifier}.settings"
        return self.model_copy(
            update={
                "settings_module": module,
                "wsgi": self.wsgi or f"{module.split('.')[0]}.wsgi:application",
                "user": self.user or f"app-{name}",
                "database": self.database or identifier,
            }
        )
