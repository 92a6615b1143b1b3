"""Migrations: what a release's database lacks, what of it would hurt, and bringing it there.

Whether there is something to do is asked of the table django_migrations, never of what happened to change in this run.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Iterator
from typing import Any

from salt.exceptions import CommandExecutionError

from saltern.host import appfiles, places, secrettext
from saltern.host.here import Here
from saltern.migrate import migratelint, migraterun, staticfiles
from saltern.postgres import pgsession, pgsql
from saltern.release import envfile, installed, oneoff, steps

CONNECT_SECONDS = 5
LOCK_SECONDS = 300  # another host may be migrating; the longest migration that is waited for


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


def missing(here: Here, app: str, release: str) -> list[str] | None:
    """Compare an app's database with what a release needs.

    Django has told, when the release was installed, which migrations the release holds; that cannot change any
    more. What the database has is asked of the database, each time: one query. So this gives the answer of
    ``migrate --check``, without the 0.6 s that Django needs to start.
    """
    # The file also says that migrate has ended: permissions and content types come after the last migration.
    return pending(here, app, release) if (staticfiles.home(app, release) / "migrated.json").is_file() else None


def pending(here: Here, app: str, release: str) -> list[str]:
    """List the migrations that a release holds and its database has not."""
    with _session(here, app, release) as connection:
        return _pending(app, release, connection)


def applied_since(here: Here, app: str, release: str) -> list[str]:
    """List the migrations that the database got after a release was installed, and that it does not know."""
    about = installed.manifest(app, release)
    own = {(label, name) for label, name, _ in about["django"]["migrations"]}
    with _session(here, app, release) as connection:
        later = pgsql.query("migrations_since")
        rows = connection.execute(later, [about["when"]]).fetchall()
    shown = secrettext.printable  # the table is the app's, and so is what it names
    return [shown(f"{label}.{name}") for label, name in rows if (label, name) not in own]


def migrate(here: Here, app: str, release: str) -> list[str]:
    """Bring an app's database to a release, by the release's own code in the app's sandbox, once in the fleet.

    It runs with the database role that owns the database, which no web process knows; how it waits for locks and
    when it tries again stands in saltern/migrate/migraterun.py. What would hurt the serving release is refused before.
    """
    home = staticfiles.home(app, release)
    record, started = home / "migrated.json", home / "migrating"
    before = pending(here, app, release)
    if hurting := unsafe(here, app, release) if before else []:
        serving = installed.active(app)
        raise CommandExecutionError(migratelint.refusal(app, release, serving, hurting))
    if before or started.exists():
        started.touch()
        steps.reached("migration begun")
        _run_migrate(here, app, release)
        if left := pending(here, app, release):
            raise CommandExecutionError(
                f"{app}: migrate ended well, but the database still lacks {', '.join(left)}. "
                "Is DATABASES['default'] in the settings made of DATABASE_URL?"
            )
    appfiles.write(record, json.dumps({"applied": before}) + "\n", 0o644)
    started.unlink(missing_ok=True)
    steps.reached("migrated")
    return before


def unsafe(here: Here, app: str, release: str) -> list[dict[str, str]]:
    """List what in a release's pending migrations would hurt the release that is serving; change nothing.

    On a database without migrations nothing can be hurt. What the app's file allows is left out.
    """
    with _session(here, app, release) as connection:
        applied = _applied(connection)
        asked = _pending(app, release, connection)
        asked = sorted(set(asked) - set(here.app(app)["migrations"]["allow_unsafe"]))
        if not applied or not asked:
            return []
        printed = _printed_sql(here, app, release, asked)
        sql = {one: found["sql"] for one, found in printed.items() if "sql" in found}
        found = migratelint.findings(sql, connection.info.server_version // 10000, f"squawk-{app}")
        found += [migratelint.without_sql(one, answer["error"]) for one, answer in printed.items() if "error" in answer]
        sizes = dict(connection.execute(pgsql.query("table_sizes")).fetchall())
    return migratelint.harmful(found, sql, sizes, _columns_in_use(app))


def _printed_sql(here: Here, app: str, release: str, migrations: list[str]) -> dict[str, dict[str, str]]:
    arguments = ["-c", migratelint.print_sql(), json.dumps(migrations)]
    answer = oneoff.one_off(here, app, release, "sqlmigrate", arguments)
    line = next((line for line in reversed(answer.splitlines()) if line.startswith("SALTERN ")), None)
    if line is None:
        raise CommandExecutionError(f"{app}, release {release}: Django started, but its answer was lost")
    found: dict[str, dict[str, str]] = secrettext.all_printable(json.loads(line.removeprefix("SALTERN ")))
    return found


def _columns_in_use(app: str) -> dict[str, list[str]] | None:
    """Return the columns that the models of the serving release use; None when that is not known: then all are."""
    serving = installed.active(app)
    if serving is None or not installed.is_staged(app, serving):
        return None
    found: dict[str, list[str]] | None = installed.manifest(app, serving)["django"].get("columns")
    return found


def _run_migrate(here: Here, app: str, release: str) -> None:
    """Run migrate as the database's owner, whose password PID 1 reads from a file that is there for no longer."""
    settings = here.app(app)["migrations"]
    options = {
        "lock_key": lock_key(app),
        "wait_seconds": LOCK_SECONDS,
        "retry_seconds": settings["retry_seconds"],
        "statement_timeout_seconds": settings["statement_timeout_seconds"],
    }
    places.RUN.mkdir(mode=0o700, exist_ok=True)
    environment = places.RUN / f"{app}-migrate.env"
    owner = here.pillar["wiring"]["apps"][app]["migration_environment"]
    appfiles.write(environment, envfile.text(owner), 0o600)
    try:
        arguments = ["-c", migraterun.source(), json.dumps(options)]
        oneoff.one_off(here, app, release, "migrate", arguments, environment=str(environment))
    finally:
        environment.unlink(missing_ok=True)


@contextlib.contextmanager
def _session(here: Here, app: str, release: str) -> Iterator[Any]:
    """Return a session on the app's database, with the release's own DATABASE_URL, but begun as pgsession.py says."""
    import psycopg  # takes a moment, and not every command of this module needs it

    text = (staticfiles.home(app, release) / "env").read_text()
    url = envfile.values(text)["DATABASE_URL"]
    options = pgsession.options(0, "")
    try:
        with psycopg.connect(url, autocommit=True, connect_timeout=CONNECT_SECONDS, options=options) as connection:
            yield connection
    except psycopg.Error as error:
        said = oneoff.redact(here, str(error).strip())
        raise CommandExecutionError(f"{app}: database: {said}") from None


def _pending(app: str, release: str, connection: Any) -> list[str]:
    return pending_of(installed.manifest(app, release)["django"]["migrations"], _applied(connection))


def _applied(connection: Any) -> set[tuple[str, str]]:
    # A database that was made just now has no such table yet.
    if connection.execute(pgsql.query("has_migrations")).fetchone()[0]:
        return set(connection.execute(pgsql.query("migrations")).fetchall())
    return set()
