"""Which migrations would hurt: squawk itself on SQL as Django prints it, seen with what the database holds."""

from __future__ import annotations

import time

import pytest

from saltern.migrate import migratelint as lint

BIG, SMALL = lint.BIG, 8192
USED = {"note": ["id", "text", "author"]}

DROP_COLUMN = 'ALTER TABLE "note" DROP COLUMN "text" CASCADE;'
REQUIRED = """ALTER TABLE "note" ADD COLUMN "mood" text DEFAULT 'x' NOT NULL;
ALTER TABLE "note" ALTER COLUMN "mood" DROP DEFAULT;"""
INDEX = 'CREATE INDEX "i" ON "note" ("author");'


def rules(sql: str, size: int = SMALL, columns: dict[str, list[str]] | None = USED, atomic: bool = True) -> list[str]:
    text = {"a.0002": f"BEGIN;\n--\n-- What it does\n--\n{sql}\nCOMMIT;" if atomic else sql}
    return [one["rule"] for one in lint.harmful(lint.findings(text, 17), text, {"note": size}, columns)]


@pytest.mark.parametrize(
    "sql, rule",
    [
        (DROP_COLUMN, "ban-drop-column"),
        ('ALTER TABLE "note" RENAME COLUMN "text" TO "body";', "renaming-column"),
        ('ALTER TABLE "note" RENAME TO "entry";', "renaming-table"),
        ('DROP TABLE "note" CASCADE;', "ban-drop-table"),
        (REQUIRED, "ban-drop-default"),
        ('ALTER TABLE "note" ADD COLUMN "mood" text NOT NULL;', "adding-required-field"),
        ('ALTER TABLE "note" ALTER COLUMN "author" SET NOT NULL;', "adding-not-nullable-field"),
    ],
)
def test_what_breaks_the_serving_release_is_found_on_a_small_table_too(sql: str, rule: str) -> None:
    assert rules(sql) == [rule]
    assert rules(sql, columns=None) == [rule], "nothing is known of the serving release"
    assert rules(sql, columns={"other": ["id"]}) == [], "nobody uses the table"


def test_a_column_that_nobody_uses_may_go_and_be_renamed() -> None:
    unused = {"note": ["id", "author"]}
    assert rules(DROP_COLUMN, columns=unused) == []
    assert rules('ALTER TABLE "note" RENAME COLUMN "text" TO "body";', columns=unused) == []


@pytest.mark.parametrize(
    "sql, rule",
    [
        (INDEX, "require-concurrent-index-creation"),
        ('ALTER TABLE "note" ALTER COLUMN "id" TYPE bigint USING "id"::bigint;', "changing-column-type"),
        ('ALTER TABLE "note" ADD CONSTRAINT "c" CHECK ("id" > 0);', "constraint-missing-not-valid"),
        (
            'ALTER TABLE "note" ADD COLUMN "u" integer NULL CONSTRAINT "f" REFERENCES "user" ("id");',
            "adding-foreign-key-constraint",
        ),
    ],
)
def test_what_reads_a_whole_table_is_found_on_a_big_one_only(sql: str, rule: str) -> None:
    assert rule in rules(sql, size=BIG)
    assert rules(sql, size=BIG - 1) == []


@pytest.mark.parametrize(
    "sql",
    [
        'ALTER TABLE "note" ADD COLUMN "mood" text NULL;',
        'ALTER TABLE "note" ADD COLUMN "mood" text DEFAULT \'x\' NOT NULL;',  # db_default
        REQUIRED.replace("NOT NULL", "NULL"),
        'CREATE TABLE "new" ("id" bigint NOT NULL PRIMARY KEY);\nCREATE INDEX "i" ON "new" ("id");\nDROP TABLE "new";',
    ],
)
def test_what_hurts_nobody_is_not_found(sql: str) -> None:
    assert rules(sql, size=BIG) == []


def test_an_index_is_built_concurrently_outside_of_a_transaction() -> None:
    concurrent = INDEX.replace("INDEX", "INDEX CONCURRENTLY")
    assert rules(concurrent, size=BIG, atomic=False) == []
    assert rules(concurrent) == ["ban-concurrent-index-creation-in-transaction"]


def test_a_migration_without_sql_is_refused() -> None:
    assert len(lint.harmful([lint.without_sql("a.0002", "ValueError: x")], {}, {}, {})) == 1


def test_findings_name_their_migration_and_the_statement_over_several_lines() -> None:
    sql = {"a.0002": "SELECT 1;", "a.0003": 'BEGIN;\nALTER TABLE\n  "note"\n  DROP COLUMN "text";\nCOMMIT;'}
    (found,) = lint.findings(sql, 15)
    assert (found["migration"], found["statement"]) == ("a.0003", 'ALTER TABLE "note" DROP COLUMN "text";')


@pytest.mark.parametrize(
    "statement, table",
    [
        ('ALTER TABLE IF EXISTS ONLY "public"."note" ADD COLUMN x int;', "note"),
        ('CREATE UNIQUE INDEX CONCURRENTLY IF NOT EXISTS "i" ON ONLY note (a);', "note"),
        ("TRUNCATE TABLE note CASCADE;", "note"),
        ("DROP DATABASE x;", None),
    ],
)
def test_the_table_of_a_statement(statement: str, table: str | None) -> None:
    assert lint.table_of(statement) == table


def test_a_refusal_says_what_to_write() -> None:
    sql = {"notes.0002_less": DROP_COLUMN}
    said = lint.refusal("demo", "new", "old", lint.findings(sql, 17))
    for part in ("notes.0002_less", "ban-drop-column", DROP_COLUMN, "old serves on", "SeparateDatabaseAndState"):
        assert part in said
    assert "apps/demo.yaml:  migrations: {allow_unsafe: [notes.0002_less]}" in said


@pytest.mark.parametrize(
    "sql",
    [
        "DROP TABLE note;\n" * 20_000,
        "DROP TABLE note; " * 20_000,
        "DROP TABLE note\n;" * 20_000,
        "SELECT 1;\n" * 120_000,
    ],
    ids=["many", "many on one line", "many on lines that do not end them", "long"],
)
def test_what_is_too_much_to_be_read_is_refused_and_not_read_for_hours(sql: str) -> None:
    began = time.monotonic()
    assert rules(sql) == ["too-much"]
    assert time.monotonic() - began < 20


def test_a_statement_that_is_long_costs_no_more_than_a_short_one() -> None:
    began = time.monotonic()
    assert lint.statement_at("CREATE INDEX " + "INDEX " * 150_000, 0, 0).startswith("CREATE INDEX INDEX")
    assert lint.table_of(lint.statement_at("CREATE INDEX " + "INDEX " * 150_000, 0, 0)) is None
    assert time.monotonic() - began < 5


def test_many_tables_that_one_migration_makes_are_not_too_much() -> None:
    made = [f'CREATE TABLE "new{n}" ("id" bigint);\nCREATE INDEX "i{n}" ON "new{n}" ("id");' for n in range(900)]
    assert rules("\n".join(made)) == []
