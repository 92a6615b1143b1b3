"""apps/<app>.yaml: one Django project."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field, model_validator

from .accounts import free
from .egress import Egress
from .kinds import (
    Account,
    Allowed,
    Database,
    DebianPackage,
    Directory,
    DnsName,
    EnvironmentName,
    EnvironmentValue,
    Exchange,
    GitUrl,
    InsidePath,
    ManageCommand,
    Migration,
    Module,
    PinnedRequirement,
    ProcessName,
    PythonVersion,
    Requirement,
    Revision,
    SiteFolder,
    UrlFolder,
    UrlPath,
    WsgiPath,
)
from .model import Model
from .placeholders import EnvironmentText
from .processes import Process, Timer

# Worked out from the fleet (wiring.py) or added to each release; an app's file cannot set them.
OWN_VARIABLES = (
    "DATABASE_URL", "REPLICA_URLS", "CACHE_URL", "CACHE_KEY_PREFIX", "BROKER_URL", "BROKER_KEY_PREFIX", "SECRET_KEY",
    "SECRET_KEY_FALLBACKS", "ALLOWED_HOSTS", "CSRF_TRUSTED_ORIGINS", "DJANGO_SETTINGS_MODULE", "RELEASE_ID",
    "RELEASE_COMMIT", "STATIC_ROOT", "MEDIA_ROOT",
)  # fmt: skip
SYSTEM_DATABASES = ("postgres", "template0", "template1", "public", "none")  # no role may have the last two


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


def _hostname(value: str) -> str:
    last = value.rpartition(".")[2]
    if last in ("localhost", "localdomain") or value in ("ip6-localhost", "ip6-loopback"):
        raise ValueError(f"{value} is everybody's name for his own machine; no visitor reaches the app by it")
    return value


def database_name(value: str) -> str:
    """Return the name of a database as it is; refuses one that is Postgres' or Saltern's own.

    Args:
        value: what a file says, or what follows from the app's name.

    Raises:
        ValueError: it is.

    Example:
        >>> database_name("web_shop")
        'web_shop'
    """
    if value in SYSTEM_DATABASES:
        raise ValueError(f'"{value}" is a database of Postgres itself; take the default or another name')
    if value.startswith(("pg_", "saltern_")):
        raise ValueError(
            f'"{value}" could be a role of Postgres or of Saltern itself; take a name with another beginning'
        )
    return value


Environment = Annotated[
    dict[EnvironmentName, EnvironmentValue],
    AfterValidator(_environment),
    Allowed("NAME: text on one line, in quotes when it looks like a number, a date or yes/no"),
]


AppEnvironment = Annotated[
    dict[EnvironmentName, EnvironmentText],
    AfterValidator(_environment),
    Allowed("NAME: text on one line, in quotes when it looks like a number, a date or yes/no; with placeholders"),
]


class Source(Model):
    """Where the app's code comes from: one of directory, git, requirement."""

    directory: Directory | None = Field(
        None, description="A directory with the project; relative to the repository's root."
    )
    git: GitUrl | None = Field(None, description="A Git repository with the project in its root.")
    revision: Revision | None = Field(
        None, description="With `git`: which commit. A tag or a branch is asked of the repository at each apply."
    )
    requirement: PinnedRequirement | None = Field(None, description="A package of the index that is the project.")

    @model_validator(mode="after")
    def _one(self) -> Source:
        given = [name for name in ("directory", "git", "requirement") if getattr(self, name) is not None]
        if len(given) != 1:
            what = f"{' and '.join(given)} are given" if given else "nothing is given"
            raise ValueError(f"{what}; needed: exactly one of directory, git, requirement")
        if (self.git is None) != (self.revision is None):
            raise ValueError("git and revision go together; give both or neither")
        return self


class Packages(Model):
    """Debian packages of an app."""

    build: list[DebianPackage] = Field([], description="On the builder, to compile what comes as source.")
    run: list[DebianPackage] = Field([], description="On the web hosts, to run.")


class File(Model):
    """A file that is written into each release from a template in the site."""

    template: InsidePath = Field(description="A Jinja template, below the site's apps/.")


class Migrations(Model):
    """How an app's database is migrated."""

    reversible: list[Migration] = Field(
        default=[], description="Migrations after which older code works on: a rollback to before them is not refused."
    )
    allow_unsafe: list[Migration] = Field(
        default=[], description="Migrations to run though they would hurt the release that is serving."
    )
    statement_timeout_seconds: int = Field(
        default=30, ge=0, le=86400, description="Longest time for one statement of a migration; 0: no limit."
    )
    retry_seconds: int = Field(
        default=60, ge=0, le=3600, description="How long a migration that gets no lock within 2 seconds is tried again."
    )
    temp_file_mb: int = Field(
        default=10240, ge=1, le=1048576, description="Most disk for temporary files of a migration's session, in MiB."
    )


class Limits(Model):
    """What an app may take of the database server."""

    connections: Annotated[int, Field(ge=2, le=5000)] | None = Field(
        default=None, description="Sessions at once; null: as its processes and threads need, twice for a release."
    )
    statement_timeout_seconds: int = Field(
        default=120, ge=0, le=86400, description="Longest time for one statement; 0: no limit."
    )
    lock_timeout_seconds: int = Field(
        default=30, ge=0, le=3600, description="Longest time that a statement waits for a lock; 0: no limit."
    )
    idle_in_transaction_seconds: int = Field(
        default=300, ge=0, le=86400, description="A session that does nothing in a transaction ends after it; 0: never."
    )
    temp_file_mb: int = Field(
        default=512, ge=1, le=1048576, description="Most disk for temporary files of one session, in MiB."
    )


class App(Model):
    """One app; the file's name is the app's name."""

    source: Source = Field(description="Where the code comes from.")
    hostnames: Annotated[
        list[Annotated[DnsName, AfterValidator(_hostname)]], Field(min_length=1), AfterValidator(_hostnames)
    ] = Field(description="The names it answers to; the first one is canonical.")
    settings_module: Module | None = Field(None, description="Django settings. Default: `<app>.settings`.")
    wsgi: WsgiPath | None = Field(
        None, description="The WSGI object. Default: `wsgi:application` in the package of settings_module."
    )
    lock: InsidePath | None = Field(
        None, description="The lock inside the source. Default: uv.lock, or requirements.txt if it has hashes."
    )
    requirements: list[Requirement] = Field([], description="Packages beyond those of the project and its lock.")
    python: PythonVersion | None = Field(
        None, description="The Python that it needs; it must be on builder and web hosts. Default: Debian's own."
    )
    packages: Packages = Field(Packages(build=[], run=[]), description="Debian packages that it needs.")
    manage: ManageCommand = Field("python -m django", description="How management commands are run.")
    env: AppEnvironment = Field(
        {}, description="Extra environment variables; `secrets/shared.yaml` takes the secret ones."
    )
    files: dict[InsidePath, File] = Field(
        {}, description="Extra files of each release, by their path in the source; only the app can read them."
    )
    static_url: UrlFolder = Field("/static/", description="Where nginx serves the collected static files.")
    media_url: UrlFolder | None = Field(
        None, description="Where nginx serves what the app writes to MEDIA_ROOT; null: it writes none."
    )
    error_pages: SiteFolder | None = Field(
        None,
        description="A folder below the site's apps/ with its own down.html, maintenance.html and so on; null: ours.",
    )
    health_path: UrlPath = Field("/healthz", description="Answers health_status only when the app can work.")
    health_status: int = Field(200, ge=200, le=499, description="What a healthy app answers there.")
    health_seconds: int = Field(
        30,
        ge=1,
        le=300,
        description="How long a new release may take, once it has started, until it answers that well.",
    )
    serving_path: UrlPath | None = Field(
        None,
        description="What the edges ask all the time instead of health_path: bad only while pages are; null: that.",
    )
    version_path: UrlPath | None = Field(
        "/-/version", description="Answers a text with the release's id; null: the app has no such page."
    )
    workers: int = Field(2, ge=1, le=64, description="gunicorn's processes.")
    threads: int = Field(4, ge=1, le=64, description="Threads in each process.")
    user: Annotated[Account, AfterValidator(free)] | None = Field(
        None, description="The Linux account it runs as. Default: `app-<app>`."
    )
    database: Annotated[Database, AfterValidator(database_name)] | None = Field(
        None, description="The database, and the app's Postgres role. Default: the app's name with _ for -."
    )
    migrations: Migrations = Field(Migrations(), description="How the database is migrated.")
    limits: Limits = Field(Limits(), description="What it may take of the database server.")
    memory_max_mb: int = Field(512, ge=64, le=1048576, description="Memory limit of the app's unit, in MiB.")
    command_memory_max_mb: Annotated[int, Field(ge=64, le=1048576)] | None = Field(
        None,
        description="Memory limit of a migration or another command, in MiB; null: twice memory_max_mb and at least "
        "1024, but at most half of the host's (never less than memory_max_mb).",
    )
    tmp_max_mb: int = Field(
        256,
        ge=16,
        le=1048576,
        description="Room of each unit in /tmp, /var/tmp and /dev/shm, in MiB each; what lies there counts as memory.",
    )
    log_lines_max: int = Field(
        3000, ge=100, le=1_000_000, description="Lines that each unit may log in 30 seconds; the rest is dropped."
    )
    processes: dict[ProcessName, Process] = Field(
        {}, description="What runs beside the web processes, on hosts with role worker."
    )
    timers: dict[ProcessName, Timer] = Field({}, description="What runs at given times, on one host with role worker.")
    egress: Egress = Field(
        "internet",
        validate_default=True,
        description="What its code may call besides DNS and its own links of the fleet.",
    )
    cache: bool = Field(False, description="It has a cache in Redis: CACHE_URL and CACHE_KEY_PREFIX.")
    broker: bool | None = Field(
        None,
        description="It has a broker in Redis: BROKER_URL, BROKER_KEY_PREFIX; null: when a process is celery or beat.",
    )
    broker_database: int = Field(1, ge=1, le=15, description="Number of the database in BROKER_URL.")
    broker_broadcasts: list[Exchange] = Field(
        [], description="Exchanges of type fanout that it has beside Celery's own (Broadcast queues have one each)."
    )

    @property
    def uses_broker(self) -> bool:
        """Return whether the app has a broker: a process with Celery or beat cannot be without."""
        celery = any(process.celery is not None or process.beat is not None for process in self.processes.values())
        return celery if self.broker is None else self.broker

    @property
    def uses_redis(self) -> bool:
        """Return whether the app has anything in Redis; one that has not is told no address and no password of it."""
        return self.cache or self.uses_broker

    def filled(self, name: str) -> App:
        """Return the app with the defaults that depend on its name.

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
