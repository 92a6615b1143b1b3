"""Which migrations would hurt while the old release serves: squawk's findings, seen with what the database holds.

Squawk reads the SQL that the new release's ``sqlmigrate`` prints, so nothing has to be installed in the app's
environment. It cannot know whether a table is big, or whether anybody still uses a column; the host can: it asks
Postgres for sizes, and the release that is serving for its models. Only what hurts here and now is refused.
"""

from __future__ import annotations

import functools
import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from salt.exceptions import CommandExecutionError

from saltern.host import sandbox

BIG = 16 * 1024 * 1024  # bytes of a table; what reads it whole takes well under a second below that

# The SQL is an app's, and root reads it: without bounds 8 MB of short statements would keep an apply busy for days.
MOST_SQL = 1024 * 1024  # characters of one migration
MOST_FINDINGS = 1000  # in one migration, of rules that count
MOST_STATEMENT = 10_000  # characters of one that are looked at; what is not found in them counts as hurting
SQUAWK_SECONDS = 60
SQUAWK_MB = 1024
MOST_PRINTED = 32 * 1024 * 1024  # bytes of its findings, those too that do not count
SQL = "/sql"  # where squawk sees the migrations

# Squawk's rules that count, and what to write instead, in Django's words. BREAKS: the release that is serving would
# fail, whatever the size. BLOCKS: it would wait while a big table is read or written. FAILS: it cannot work at all.
BREAKS = {
    "ban-drop-column": "first release code without the field (RemoveField among the state_operations of "
    "SeparateDatabaseAndState), then drop the column with the release after it",
    "ban-drop-table": "first release code without the model (DeleteModel among the state_operations of "
    "SeparateDatabaseAndState), then drop the table with the release after it",
    "renaming-column": "keep the column's name (db_column), or add a new one, write both, and drop the old one later",
    "renaming-table": "keep the table's name (Meta.db_table)",
    "adding-required-field": "give the field db_default=..., or null=True",
    "ban-drop-default": "the column is NOT NULL and its default is Django's alone, so the old release cannot insert: "
    "give the field db_default=..., or null=True",
    "adding-not-nullable-field": "the old release may still write NULL: first release code that never does, and give "
    "the field db_default=...",
    "ban-truncate-cascade": "name each table that shall be emptied",
    "ban-drop-database": "take it out",
}
BLOCKS = {
    "require-concurrent-index-creation": "AddIndexConcurrently of django.contrib.postgres.operations, in a migration "
    "with atomic = False",
    "changing-column-type": "add a column of the new type, fill it, and drop the old one later",
    "adding-foreign-key-constraint": "add the constraint NOT VALID, and validate it in the next migration (RunSQL)",
    "constraint-missing-not-valid": "AddConstraintNotValid of django.contrib.postgres.operations, and "
    "ValidateConstraint in the next migration",
    "disallowed-unique-constraint": "build a unique index CONCURRENTLY, then ADD CONSTRAINT ... USING INDEX (RunSQL)",
    "adding-field-with-default": "a default that differs by row rewrites the table: null=True, then fill it in parts",
    "adding-serial-primary-key-field": "add a column, fill it in parts, then make it the key",
    "require-concurrent-reindex": "REINDEX ... CONCURRENTLY, in a migration with atomic = False",
}
FAILS = {
    "ban-concurrent-index-creation-in-transaction": "atomic = False in the migration",
    "too-much": "make smaller migrations of it, or read it yourself and allow it",
    "syntax-error": "squawk cannot read it; correct it, or read it yourself and allow it",
    "no-sql": "Django cannot tell its SQL before the ones in front of it have run; release it after those, or allow it",
}
NAME = r'(?:"?\w+"?\.)?"?(?P<{}>\w+)"?'
TABLE = re.compile(
    r"\b(?:ALTER\s+TABLE|DROP\s+TABLE|TRUNCATE(?:\s+TABLE)?|INDEX\b[^;]{0,200}?\sON)\s+(?:IF\s+EXISTS\s+)?(?:ONLY\s+)?"
    + NAME.format("name"),
    re.IGNORECASE | re.DOTALL,
)
OLD_COLUMN = re.compile(r"\b(?:DROP|RENAME)\s+COLUMN\s+(?:IF\s+EXISTS\s+)?" + NAME.format("name"), re.IGNORECASE)
NEW_DEFAULT = re.compile(r"\bALTER\s+COLUMN\s+" + NAME.format("name") + r"\s+DROP\s+DEFAULT", re.IGNORECASE)

# Run by the release's own Python: what sqlmigrate would print for each migration, with one start of Django. Not the
# command itself, because that takes a name for the beginning of others, and then for ambiguous.
PRINT_SQL = """
import json, sys, django
django.setup()
from django.db import connection
from django.db.migrations.loader import MigrationLoader
loader, found = MigrationLoader(connection, replace_migrations=False), {}
for one in json.loads(sys.argv[1]):
    try:
        migration = loader.graph.nodes[tuple(one.split(".", 1))]
        lines = loader.collect_sql([(migration, False)])
        found[one] = {"sql": "\\n".join(["BEGIN;", *lines, "COMMIT;"] if migration.atomic else lines)}
    except Exception as error:
        found[one] = {"error": f"{type(error).__name__}: {error}"}
print("\\nSALTERN " + json.dumps(found))
"""


def print_sql() -> str:
    """Return the Python that a release runs to print the SQL of migrations; its argument is a JSON list of them."""
    return PRINT_SQL


def findings(sql: dict[str, str], version: int, name: str = "") -> list[dict[str, str]]:
    """Let squawk read migrations.

    Args:
        sql: the SQL of each migration by its name, ``app.name``.
        version: PostgreSQL's major version.
        name: of the sandbox in which squawk, a parser of a hostile text, runs; nothing: it runs as whoever calls.

    Returns:
        ``migration``, ``rule``, ``message``, ``statement`` and ``advice`` of each, those rules only that count.

    Raises:
        CommandExecutionError: squawk is missing, or its answer cannot be read.

    Example:
        >>> findings({"a.0002": 'ALTER TABLE "t" DROP COLUMN "c";'}, 17)[0]["rule"]
        'ban-drop-column'
    """
    long = [migration for migration, text in sql.items() if len(text) > MOST_SQL]
    too_much = [_too_much(one, f"its SQL has more than {MOST_SQL} characters") for one in long]
    names = {f"{number}.sql": migration for number, migration in enumerate(sql) if migration not in long}
    if not names:
        return too_much
    with tempfile.TemporaryDirectory(prefix="saltern-sql-") as folder:
        inner = Path(folder, "sql")  # what the sandbox's user reads lies where nobody else comes
        inner.mkdir(mode=0o755)
        for file, migration in names.items():
            (inner / file).write_text(sql[migration], encoding="utf-8")
            (inner / file).chmod(0o644)
        inner.chmod(0o755)
        words = ["--config", "/dev/null", "--reporter", "json", "--pg-version", f"{version}.0", *names]
        printed = _contained(name, inner, words) if name else _plainly(inner, words)
    try:
        listed = json.loads(printed)
    except ValueError:
        raise CommandExecutionError(f"squawk: its answer cannot be read: {sandbox.printable(printed[:500])}") from None
    advice = BREAKS | BLOCKS | FAILS
    counting: dict[str, list[dict[str, Any]]] = {migration: [] for migration in names.values()}
    for one in listed:
        if one["rule_name"] in advice:
            counting[names[Path(one["file"]).name]].append(one)
    found = []
    for migration, some in counting.items():
        if len(some) > MOST_FINDINGS:
            too_much.append(_too_much(migration, f"squawk finds more than {MOST_FINDINGS} things in it"))
            continue
        found += [
            {
                "migration": migration,
                "rule": one["rule_name"],
                "message": one["message"],
                "statement": statement_at(sql[migration], one["line"], one["line_end"]),
                "advice": advice[one["rule_name"]],
            }
            for one in some
        ]
    return found + too_much


def _contained(name: str, folder: Path, words: list[str]) -> str:
    """Run squawk as nobody: the SQL is an app's text, and it sees nothing but that and itself."""
    program = os.path.realpath(_squawk())
    argv = ["/bin/sh", "-c", '"$@" || test $? = 1', "sh", program, *words]  # 1: there are findings
    return sandbox.run(
        name,
        argv,
        what="squawk",
        user="",
        reads=[program, (str(folder), SQL)],
        directory=SQL,
        memory_mb=SQUAWK_MB,
        seconds=SQUAWK_SECONDS,
        tasks=32,
        file_mb=1,
        most=MOST_PRINTED,
    ).decode(errors="replace")


def _plainly(folder: Path, words: list[str]) -> str:
    argv = [_squawk(), *words]
    try:
        done = subprocess.run(
            argv, cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=SQUAWK_SECONDS
        )
    except subprocess.TimeoutExpired:
        raise CommandExecutionError(f"squawk: not done after {SQUAWK_SECONDS} seconds") from None
    return done.stdout or f"exit code {done.returncode}: {done.stderr.strip()[-500:]}"


def _too_much(migration: str, message: str) -> dict[str, str]:
    advice = FAILS["too-much"]
    return {"migration": migration, "rule": "too-much", "message": message, "statement": "", "advice": advice}


def without_sql(migration: str, error: str) -> dict[str, str]:
    """Return the finding of a migration whose SQL Django could not print.

    Args:
        migration: its name.
        error: Django's words.

    Example:
        >>> without_sql("a.0002", "ValueError: x")["rule"]
        'no-sql'
    """
    advice = FAILS["no-sql"]
    return {"migration": migration, "rule": "no-sql", "message": error, "statement": "", "advice": advice}


def statement_at(sql: str, first: int, last: int) -> str:
    """Return the statement that stands on some lines, on one line.

    Args:
        sql: the text; Django begins each statement on a line of its own.
        first: number of a line, from 0.
        last: number of the last line.

    Example:
        >>> statement_at("BEGIN;\\nALTER TABLE t\\n DROP c;\\nCOMMIT;", 2, 2)
        'ALTER TABLE t DROP c;'
    """
    lines = _lines(sql)
    last = min(last, len(lines) - 1)
    while first > 0 and not lines[first - 1].rstrip().endswith(";"):
        first -= 1
    while last + 1 < len(lines) and not lines[last].rstrip().endswith(";"):
        last += 1
    return " ".join(" ".join(lines[first : last + 1]).split())[:MOST_STATEMENT]


@functools.lru_cache(maxsize=2)
def _lines(sql: str) -> list[str]:
    return [re.sub(r"^\s*--.*", "", line) for line in sql.splitlines()]


def table_of(statement: str) -> str | None:
    """Return the table that a statement changes, or None when it cannot be told.

    Args:
        statement: SQL.

    Example:
        >>> table_of('CREATE INDEX "i" ON "notes_note" ("author");')
        'notes_note'
    """
    found = TABLE.search(statement)
    return found["name"] if found else None


def harmful(
    found: list[dict[str, str]],
    sql: dict[str, str],
    sizes: dict[str, int],
    columns: dict[str, list[str]] | None,
) -> list[dict[str, str]]:
    """Pick the findings that hurt here and now.

    Args:
        found: from :func:`findings`.
        sql: the SQL of each migration.
        sizes: bytes of each table that the database has.
        columns: columns of each table that the serving release's models use; None when that is not known.

    Returns:
        Those findings that stay.

    Example:
        >>> harmful([{"rule": "ban-drop-table", "statement": 'DROP TABLE "gone";', "migration": "a.1"}], {}, {}, {})
        []
    """
    return [one for one in found if _hurts(one, sql.get(one["migration"], ""), sizes, columns)]


def _hurts(one: dict[str, str], sql: str, sizes: dict[str, int], columns: dict[str, list[str]] | None) -> bool:
    rule, table = one["rule"], table_of(one["statement"])
    if rule in FAILS or table is None:
        return True
    if table not in sizes:
        return False  # made by one of these migrations
    if rule in BLOCKS:
        return sizes[table] >= BIG
    if columns is not None and table not in columns:
        return False
    if rule == "ban-drop-default":
        return _is_required(one["statement"], sql)
    old = OLD_COLUMN.search(one["statement"])
    return not (columns is not None and old and old["name"] not in columns[table])


def _is_required(statement: str, sql: str) -> bool:
    """Return whether a column that loses its default is NOT NULL; one that this migration does not add may be."""
    column = NEW_DEFAULT.search(statement)
    if not column:
        return True
    added = re.search(rf'\bADD\s+COLUMN\s+"?{re.escape(column["name"])}"?\s([^;]{{0,2000}});', sql, re.IGNORECASE)
    return added is None or "NOT NULL" in added[1].upper()


def refusal(app: str, release: str, serving: str | None, hurting: list[dict[str, str]]) -> str:
    """Say which migrations are refused, why, and what to write.

    Args:
        app: the app.
        release: id of the new release.
        serving: id of the release that is serving, if one is.
        hurting: from :func:`harmful`.

    Example:
        >>> one = {"migration": "a.0002", "rule": "ban-drop-table", "message": "m", "advice": "x", "statement": "s"}
        >>> refusal("demo", "r2", "r1", [one]).splitlines()[0]
        'demo: release r2 is not migrated to: a.0002 would hurt. Nothing was run; r1 serves on.'
    """
    names = list(dict.fromkeys(one["migration"] for one in hurting))
    lines = [
        f"{app}: release {release} is not migrated to: {', '.join(names)} would hurt. "
        f"Nothing was run; {serving or 'no release'} serves on."
    ]
    for one in hurting:
        statement = one["statement"] if len(one["statement"]) <= 200 else one["statement"][:200] + " ..."
        lines += [f"{one['migration']}: {one['rule']}: {statement}", f"  {one['message']}", f"  Do: {one['advice']}."]
    lines.append(f"Or allow it, in apps/{app}.yaml:  migrations: {{allow_unsafe: [{', '.join(names)}]}}")
    return "\n".join(lines)


def _squawk() -> str:
    """squawk, from Salt's own environment; over salt-ssh another Python runs this."""
    for path in (Path(sys.executable).with_name("squawk"), Path("/opt/saltern/salt/bin/squawk")):
        if os.access(path, os.X_OK):
            return str(path)
    raise CommandExecutionError(
        f"squawk is neither beside {sys.executable} nor in /opt/saltern/salt/bin: bin/bootstrap installs it with Salt"
    )
