"""May an older release serve on a database that newer ones have migrated? Asked of the migrations themselves.

A migration is safe for code that does not know it when all it does is add, and nothing that an INSERT of the older
code would have to fill. Everything else is for people to judge, who say so in the app's file
(``migrations: reversible``).
"""

from __future__ import annotations

from typing import Any

# Runs inside the release's Django, before release.FACTS, which puts the answer into the release's manifest.
#
# AddField needs null, db_default, or a table of its own (many to many): a mere default= lives in the newer code only.
# Django drops it from the column again, and the older code's INSERT then fails on NOT NULL
# (BaseDatabaseSchemaEditor.add_field, "Drop the default if we need to").
# RunPython and RunSQL could do anything, AlterField too (a shorter column, NOT NULL); constraints refuse rows.
PROBE = '''
def only_adds(operation):
    """Whether code that does not know this operation works on after it."""
    kind = type(operation)
    if not kind.__module__.startswith(("django.db.migrations.", "django.contrib.postgres.")):
        return False
    if kind.__name__ == "SeparateDatabaseAndState":
        return all(map(only_adds, operation.database_operations))
    if kind.__name__ == "AddField":
        from django.db.models import NOT_PROVIDED
        field = operation.field
        given = getattr(field, "db_default", NOT_PROVIDED) is not NOT_PROVIDED and not field.unique
        return bool(field.null or field.many_to_many or given)
    return kind.__name__ in (
        "CreateModel", "AddIndex", "AddIndexConcurrently", "RemoveIndex", "RemoveIndexConcurrently", "RenameIndex",
        "AlterModelOptions", "AlterModelManagers", "AlterModelTableComment",
    )
'''


def probe() -> str:
    """Return the Python text that defines ``only_adds`` inside a release.

    Example:
        >>> "def only_adds" in probe()
        True
    """
    return PROBE


def in_the_way(
    applied: list[str], target: dict[str, Any], installed: list[dict[str, Any]], declared: list[str]
) -> list[str]:
    """Return the migrations because of which an older release must not serve.

    Args:
        applied: ``app.name`` of what was applied since the target was installed.
        target: manifest of the release to go back to.
        installed: manifests of all installed releases, which know what newer migrations do.
        declared: ``app.name`` of what the app's file calls reversible.

    Returns:
        ``app.name`` of each, sorted. One that no installed release knows is among them.

    Example:
        >>> in_the_way(["notes.0002_drop"], {"django": {"migrations": []}}, [], [])
        ['notes.0002_drop']
    """
    known = {(app, name) for app, name, _ in target["django"]["migrations"]}
    fine = {f"{app}.{name}" for app, name in known} | set(declared)
    for one in installed:
        fine |= {f"{app}.{name}" for app, name in one["django"].get("additive", [])}
        # A squashed migration does nothing that those it replaces have not done.
        fine |= {
            f"{app}.{name}"
            for app, name, replaces in one["django"]["migrations"]
            if replaces and {tuple(other) for other in replaces} <= known
        }
    return sorted(set(applied) - fine)
