"""Django's own steps of a release: collected static files and migrated databases.

Whether there is something to do is asked of what decides it: the files that nginx serves, and the table
django_migrations. Never of what happened to change in this run.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from salt.exceptions import CommandExecutionError

from saltern.host import appfiles, beneath, secrettext
from saltern.migrate import migratelint, migraterun
from saltern.postgres import pgsession, pgsql
from saltern.release import appunits, envfile, steps

APPS = Path("/srv/apps")
RUN = Path("/run/saltern")
CONNECT_SECONDS = 5
LOCK_SECONDS = 300  # another host may be migrating; the longest migration that is waited for


# --- pure ---------------------------------------------------------------------------------------------------


def pending_of(migrations: list[list[Any]], applied: set[tuple[str, str]]) -> list[str]:
    """Return what ``migrate`` would apply, by the rules of Django's MigrationLoader.build_graph.

    A squashed migration counts as applied when all that it replaces are; it takes their place unless only some
    of them are applied, in which case it is left out and they stay.

    Args:
        migrations: what a release holds: app label, name, and the list of [app label, name] it replaces.
        applied: (app label, name) of each row of django_migrations.

    Returns:
        ``app.name`` of each migration that is missing, in order of name.

    Example:
        >>> pending_of([["notes", "0001_initial", []], ["notes", "0002_tags", []]], {("notes", "0001_initial")})
        ['notes.0002_tags']
    """
    wanted = {(app, name) for app, name, _ in migrations}
    done = set(applied)
    for app, name, replaces in migrations:
        if not replaces:
            continue
        replaced = {(other_app, other) for other_app, other in replaces}
        if replaced <= done:
            done.add((app, name))
        else:
            done.discard((app, name))
        if replaced <= done or not replaced & done:
            wanted -= replaced
        else:
            wanted.discard((app, name))
    return sorted(f"{app}.{name}" for app, name in wanted - done)


def lock_key(app: str) -> int:
    """Return the number of the Postgres advisory lock under which an app's database is migrated.

    Args:
        app: the app's name.

    Returns:
        A signed 64-bit number, the same on every host.

    Example:
        >>> lock_key("demo") == lock_key("demo")
        True
    """
    digest = hashlib.sha256(f"saltern migrate {app}".encode()).digest()
    return int.from_bytes(digest[:8], "big", signed=True)


def told(words: list[str]) -> str:
    """Return a management command as it may be written down: any value could be a secret.

    Args:
        words: the command and its arguments.

    Example:
        >>> told(["createsuperuser", "--noinput", "--email=a@b.c", "x"])
        'createsuperuser --noinput --email=... ...'
    """
    command, *arguments = words
    shown = [re.sub(r"=.*", "=...", one, flags=re.DOTALL) if one.startswith("--") else "..." for one in arguments]
    return " ".join([command, *shown])


# --- static files -------------------------------------------------------------------------------------------


def static_missing(app: str, release: str) -> list[str] | None:
    """Compare a release's static files with those that nginx serves.

    Args:
        app: name of an app.
        release: id of an installed release.

    Returns:
        Files that nginx does not serve as the release has them, or None when they have not been collected.

    Example:
        .. code-block:: bash

            salt-call django.static_missing demo 6f1d3c0a9b2e-2fcc3ffb
    """
    directory = _release(app, release)
    try:
        names = json.loads((directory / "static.json").read_text())
    except FileNotFoundError:
        return None
    return [name for name in names if not _same(directory / "static" / name, _served(app) / name)]


def collect_static(app: str, release: str) -> None:
    """Collect a release's static files, once, and let nginx serve them beside those of earlier releases.

    Args:
        app: name of an app of this host.
        release: id of an installed release.

    Raises:
        CommandExecutionError: collectstatic failed.

    Example:
        .. code-block:: bash

            salt-call django.collect_static demo 6f1d3c0a9b2e-2fcc3ffb
    """
    directory = _release(app, release)
    if not (directory / "static.json").is_file():
        static = directory / "static"
        shutil.rmtree(static, ignore_errors=True)
        static.mkdir()
        if __salt__["release.manifest"](app, release)["django"]["static"]:
            settings = __pillar__["apps"][app]
            user = settings["user"]
            shutil.chown(static, user, user)
            manage = appunits.manage_arguments(app, release, settings)
            collect = [*manage, "collectstatic", "--noinput", "--verbosity", "0"]
            __salt__["release.one_off"](app, release, "collectstatic", collect, str(static))
        # A link that an app made could lead nginx anywhere.
        names = beneath.take_over(static, drop=True)
        appfiles.write(directory / "static.json", json.dumps(names) + "\n", 0o644)
        steps.reached("static files collected")
    publish_static(app, release)
    steps.reached("static files served")


def publish_static(app: str, release: str) -> None:
    """Give each collected file of a release a second name where nginx serves it; files of other releases stay.

    A second name costs no space, cannot be half written, and tells by its inode which release a file is of.

    Args:
        app: name of an app.
        release: id of a release whose static files have been collected.

    Example:
        .. code-block:: bash

            salt-call django.publish_static demo 6f1d3c0a9b2e-2fcc3ffb
    """
    directory = _release(app, release) / "static"
    for name in static_missing(app, release) or []:
        target = _served(app) / name
        target.parent.mkdir(parents=True, exist_ok=True)
        beside = target.with_name(f".{target.name}.new")
        beside.unlink(missing_ok=True)
        os.link(directory / name, beside)
        beside.replace(target)


def _same(one: Path, other: Path) -> bool:
    try:
        return one.samefile(other)
    except FileNotFoundError:
        return False


# --- migrations ---------------------------------------------------------------------------------------------


def missing(app: str, release: str) -> list[str] | None:
    """Compare an app's database with what a release needs.

    Django has told, when the release was installed, which migrations the release holds; that cannot change any
    more. What the database has is asked of the database, each time: one query. So this gives the answer of
    ``migrate --check``, without the 0.6 s that Django needs to start.

    Args:
        app: name of an app of this host.
        release: the release's id.

    Returns:
        The migrations that are pending, or None when the database has not been brought to this release yet.

    Raises:
        CommandExecutionError: the database cannot be reached.

    Example:
        .. code-block:: bash

            salt-call django.missing demo 6f1d3c0a9b2e-2fcc3ffb
    """
    # The file also says that migrate has ended: permissions and content types come after the last migration.
    return pending(app, release) if (_release(app, release) / "migrated.json").is_file() else None


def pending(app: str, release: str) -> list[str]:
    """List the migrations that a release holds and its database has not.

    Args:
        app: name of an app of this host.
        release: id of an installed release.

    Returns:
        ``app.name`` of each.

    Raises:
        CommandExecutionError: the database cannot be reached.

    Example:
        .. code-block:: bash

            salt-call django.pending demo 6f1d3c0a9b2e-2fcc3ffb
    """
    with _session(app, release) as connection:
        return _pending(app, release, connection)


def applied_since(app: str, release: str) -> list[str]:
    """List the migrations that the database got after a release was installed, and that it does not know.

    Args:
        app: name of an app of this host.
        release: id of an installed release.

    Returns:
        ``app.name`` of each, in order of time.

    Raises:
        CommandExecutionError: the database cannot be reached.

    Example:
        .. code-block:: bash

            salt-call django.applied_since demo 6f1d3c0a9b2e-2fcc3ffb
    """
    about = __salt__["release.manifest"](app, release)
    own = {(label, name) for label, name, _ in about["django"]["migrations"]}
    with _session(app, release) as connection:
        later = pgsql.query("migrations_since")
        rows = connection.execute(later, [about["when"]]).fetchall()
    shown = secrettext.printable  # the table is the app's, and so is what it names
    return [shown(f"{label}.{name}") for label, name in rows if (label, name) not in own]


def migrate(app: str, release: str) -> list[str]:
    """Bring an app's database to a release, by the release's own code in the app's sandbox, once in the fleet.

    It runs with the database role that owns the database, which no web process knows; how it waits for locks and
    when it tries again stands in saltern/migrate/migraterun.py. What would hurt the serving release is refused before.

    Args:
        app: name of an app of this host.
        release: id of an installed release.

    Returns:
        The migrations that were applied, which may be none.

    Raises:
        CommandExecutionError: the database cannot be reached, a migration is unsafe, or it failed.

    Example:
        .. code-block:: bash

            salt-call django.migrate demo 6f1d3c0a9b2e-2fcc3ffb
    """
    record, started = _release(app, release) / "migrated.json", _release(app, release) / "migrating"
    before = pending(app, release)
    if hurting := unsafe(app, release) if before else []:
        serving = __salt__["release.active"](app)
        raise CommandExecutionError(migratelint.refusal(app, release, serving, hurting))
    if before or started.exists():
        started.touch()
        steps.reached("migration begun")
        _run_migrate(app, release)
        if left := pending(app, release):
            raise CommandExecutionError(
                f"{app}: migrate ended well, but the database still lacks {', '.join(left)}. "
                "Is DATABASES['default'] in the settings made of DATABASE_URL?"
            )
    appfiles.write(record, json.dumps({"applied": before}) + "\n", 0o644)
    started.unlink(missing_ok=True)
    steps.reached("migrated")
    return before


def unsafe(app: str, release: str) -> list[dict[str, str]]:
    """List what in a release's pending migrations would hurt the release that is serving; change nothing.

    On a database without migrations nothing can be hurt. What the app's file allows is left out.

    Args:
        app: name of an app of this host.
        release: id of an installed release.

    Returns:
        ``migration``, ``rule``, ``message``, ``statement`` and ``advice`` of each finding.

    Raises:
        CommandExecutionError: the database cannot be reached, or the SQL cannot be had.

    Example:
        .. code-block:: bash

            salt-call django.unsafe demo 6f1d3c0a9b2e-2fcc3ffb
    """
    with _session(app, release) as connection:
        applied = _applied(connection)
        asked = _pending(app, release, connection)
        asked = sorted(set(asked) - set(__pillar__["apps"][app]["migrations"]["allow_unsafe"]))
        if not applied or not asked:
            return []
        printed = _printed_sql(app, release, asked)
        sql = {one: found["sql"] for one, found in printed.items() if "sql" in found}
        found = migratelint.findings(sql, connection.info.server_version // 10000, f"squawk-{app}")
        found += [migratelint.without_sql(one, answer["error"]) for one, answer in printed.items() if "error" in answer]
        sizes = dict(connection.execute(pgsql.query("table_sizes")).fetchall())
    return migratelint.harmful(found, sql, sizes, _columns_in_use(app))


def _printed_sql(app: str, release: str, migrations: list[str]) -> dict[str, dict[str, str]]:
    arguments = ["-c", migratelint.print_sql(), json.dumps(migrations)]
    answer = __salt__["release.one_off"](app, release, "sqlmigrate", arguments)
    line = next((line for line in reversed(answer.splitlines()) if line.startswith("SALTERN ")), None)
    if line is None:
        raise CommandExecutionError(f"{app}, release {release}: Django started, but its answer was lost")
    found: dict[str, dict[str, str]] = secrettext.all_printable(json.loads(line.removeprefix("SALTERN ")))
    return found


def _columns_in_use(app: str) -> dict[str, list[str]] | None:
    """Return the columns that the models of the serving release use; None when that is not known: then all are."""
    serving = __salt__["release.active"](app)
    if serving is None or not __salt__["release.is_staged"](app, serving):
        return None
    found: dict[str, list[str]] | None = __salt__["release.manifest"](app, serving)["django"].get("columns")
    return found


def _run_migrate(app: str, release: str) -> None:
    """Run migrate as the database's owner, whose password PID 1 reads from a file that is there for no longer."""
    settings = __pillar__["apps"][app]["migrations"]
    options = {
        "lock_key": lock_key(app),
        "wait_seconds": LOCK_SECONDS,
        "retry_seconds": settings["retry_seconds"],
        "statement_timeout_seconds": settings["statement_timeout_seconds"],
    }
    RUN.mkdir(mode=0o700, exist_ok=True)
    environment = RUN / f"{app}-migrate.env"
    owner = __pillar__["wiring"]["apps"][app]["migration_environment"]
    appfiles.write(environment, envfile.text(owner), 0o600)
    try:
        arguments = ["-c", migraterun.source(), json.dumps(options)]
        __salt__["release.one_off"](app, release, "migrate", arguments, environment=str(environment))
    finally:
        environment.unlink(missing_ok=True)


@contextlib.contextmanager
def _session(app: str, release: str) -> Iterator[Any]:
    """Return a session on the app's database, with the release's own DATABASE_URL, but begun as pgsession.py says."""
    import psycopg  # takes a moment, and not every command of this module needs it

    text = (_release(app, release) / "env").read_text()
    url = envfile.values(text)["DATABASE_URL"]
    options = pgsession.options(0, "")
    try:
        with psycopg.connect(url, autocommit=True, connect_timeout=CONNECT_SECONDS, options=options) as connection:
            yield connection
    except psycopg.Error as error:
        said = __salt__["release.redact"](str(error).strip())
        raise CommandExecutionError(f"{app}: database: {said}") from None


def _pending(app: str, release: str, connection: Any) -> list[str]:
    return pending_of(__salt__["release.manifest"](app, release)["django"]["migrations"], _applied(connection))


def _applied(connection: Any) -> set[tuple[str, str]]:
    # A database that was made just now has no such table yet.
    if connection.execute(pgsql.query("has_migrations")).fetchone()[0]:
        return set(connection.execute(pgsql.query("migrations")).fetchall())
    return set()


# --- commands -----------------------------------------------------------------------------------------------


def manage(app: str, *arguments: Any) -> dict[str, Any]:
    """Run a management command of the release that is serving: as its user, in its environment and sandbox.

    It waits for the end, and cannot be asked anything. The command runs with the app's database role, so it cannot
    change tables; that is what migrations are for. Arguments are seen by everybody on the host: no secrets.

    Args:
        app: name of an app of this host.
        arguments: the command and its arguments, each one for itself, or all of them in one text, which is taken
            apart as a shell would do it. In one text numbers such as 1.10 stay as they are written.

    Returns:
        ``release``, ``exit_code`` and ``output`` (stdout and stderr, secrets blackened). The exit code is also
        that of the function; the ledger has a line with it, and with the names of options but not their values.

    Raises:
        CommandExecutionError: no release serves, or no command was given.

    Example:
        .. code-block:: bash

            salt-call django.manage demo 'check --deploy'
            salt-call -- django.manage demo check --deploy
    """
    words = shlex.split(str(arguments[0])) if len(arguments) == 1 else [str(one) for one in arguments]
    release = __salt__["release.active"](app)
    if not words or release is None:
        raise CommandExecutionError(f"{app}: " + ("no release is serving" if words else "which command?"))
    name = f"manage-{os.getpid()}"
    argv = __salt__["release.one_off_command"](app, release, name, ["-m", "django", *words])
    code, printed, _, problem = appfiles.bounded(argv, together=True)
    if problem:
        __salt__["release.end_one_off"](app, name)
        problem = f"{problem}: ended"
    ended = __salt__["release.why_one_off_ended"](app, name)
    __salt__["release.record_command"](app, release, told(words), code)
    __context__["retcode"] = code
    output = __salt__["release.redact"](printed.decode(errors="replace")).strip()
    return {
        "release": release,
        "exit_code": code,
        "output": "\n".join(one for one in (output, problem or ended) if one),
    }


def _release(app: str, release: str) -> Path:
    return APPS / app / "releases" / release


def _served(app: str) -> Path:
    return APPS / app / "static"
