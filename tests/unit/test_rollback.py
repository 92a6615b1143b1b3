"""May an older release serve on a newer database? Django's own operations are asked."""

from __future__ import annotations

from typing import Any

import pytest

from saltern.release import rollback


def about(*migrations: str, additive: tuple[str, ...] = (), replaces: dict[str, list[str]] | None = None) -> dict:
    """A manifest with these migrations."""
    listed = [[*name.split("."), [other.split(".") for other in (replaces or {}).get(name, [])]] for name in migrations]
    return {"django": {"migrations": listed, "additive": [name.split(".") for name in additive]}}


OLD = about("a.1", "a.2")


@pytest.mark.parametrize(
    "applied, newer, declared, expected",
    [
        ([], [], [], []),
        (["a.3"], [about("a.3")], [], ["a.3"]),
        (["a.3"], [about("a.3", additive=("a.3",))], [], []),
        (["a.3"], [about("a.3")], ["a.3"], []),
        (["a.4", "a.3"], [about("a.3", "a.4", additive=("a.3",))], [], ["a.4"]),
        (["b.1"], [], [], ["b.1"]),  # no release knows what it did
        (["a.12"], [about("a.12", replaces={"a.12": ["a.1", "a.2"]})], [], []),
        (["a.13"], [about("a.13", replaces={"a.13": ["a.1", "a.3"]})], [], ["a.13"]),
        (["a.2"], [], [], []),
    ],
)
def test_what_is_in_the_way(applied: list[str], newer: list[dict], declared: list[str], expected: list[str]) -> None:
    assert rollback.in_the_way(applied, OLD, [OLD, *newer], declared) == expected


def test_a_manifest_of_before_this_question_was_asked_vouches_for_nothing() -> None:
    old = {"django": {"migrations": [["a", "3", []]]}}
    assert rollback.in_the_way(["a.3"], OLD, [old], []) == ["a.3"]


django_db = pytest.importorskip("django.db", reason="Django is not among the tools")


def operations() -> list[tuple[str, Any, bool]]:
    """Operations as migrations hold them, and whether older code works on after them."""
    from django.db import migrations, models

    text = lambda **more: models.CharField(max_length=9, **more)  # noqa: E731
    add = lambda field: migrations.AddField("note", "x", field)  # noqa: E731

    class Own(migrations.operations.base.Operation):
        pass

    Own.__name__ = "CreateModel"
    index = models.Index(fields=["x"], name="i")
    return [
        ("CreateModel", migrations.CreateModel("Tag", [("id", models.AutoField(primary_key=True))]), True),
        ("AddIndex", migrations.AddIndex("note", index), True),
        ("RemoveIndex", migrations.RemoveIndex("note", "i"), True),
        ("AlterModelOptions", migrations.AlterModelOptions("note", {}), True),
        ("AddField null", add(text(null=True)), True),
        ("AddField many to many", add(models.ManyToManyField("notes.Tag")), True),
        ("AddField default", add(text(default="")), False),  # the default lives in the newer code only
        ("AddField db_default", add(text(db_default="")), True),
        ("AddField db_default unique", add(text(db_default="", unique=True)), False),
        ("AddField required", add(text()), False),
        ("RemoveField", migrations.RemoveField("note", "x"), False),
        ("AlterField", migrations.AlterField("note", "x", text()), False),
        ("RenameField", migrations.RenameField("note", "x", "y"), False),
        ("DeleteModel", migrations.DeleteModel("note"), False),
        ("AddConstraint", migrations.AddConstraint("n", models.UniqueConstraint(fields=["x"], name="u")), False),
        ("RunSQL", migrations.RunSQL("DROP TABLE x"), False),
        ("RunPython", migrations.RunPython(migrations.RunPython.noop), False),
        ("state only", migrations.SeparateDatabaseAndState(state_operations=[migrations.DeleteModel("n")]), True),
        ("both", migrations.SeparateDatabaseAndState([migrations.RunSQL("DROP TABLE x")]), False),
        ("an operation of the app's own with a known name", Own(), False),
    ]


@pytest.mark.parametrize("name, operation, expected", [pytest.param(*one, id=one[0]) for one in operations()])
def test_what_only_adds(name: str, operation: Any, expected: bool) -> None:
    found: dict[str, Any] = {}
    exec(rollback.probe(), found)
    assert found["only_adds"](operation) is expected
