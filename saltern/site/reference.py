"""The reference of all keys, made from the models: docs/reference/settings.md."""

from __future__ import annotations

import types
import typing
from pathlib import Path
from typing import Any

from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from .apps import App
from .document import read_document
from .explain import describe
from .fleet import Fleet
from .layout import DEFAULTS, REPOSITORY
from .model import Model
from .roles import MODELS
from .secretfile import Shared

PAGE = REPOSITORY / "docs" / "reference" / "settings.md"
HEAD = """\
# Settings

Made from the models in `saltern/site/` by `make reference`; do not edit it.
[The site](../site.md) explains the files by example.
"""


def reference() -> str:
    """Return the page: one table for each file, one row for each key."""
    parts = [HEAD, _section("`fleet.yaml`", Fleet, {}), _section("`apps/<app>.yaml`", App, {})]
    parts.append(
        "## `settings.yaml`\n\nEach role's settings under the role's name; the defaults are in `pillar/<role>.sls`.\n"
    )
    for role, model in MODELS.items():
        defaults = (read_document(DEFAULTS / f"{role}.sls").data or {}).get(role, {})
        parts.append(_section(role, model, defaults, role, "###"))
    parts.append(_section("`secrets/shared.yaml`", Shared, {}))
    return "\n".join(parts)


def _section(title: str, model: type[Model], defaults: dict[str, Any], prefix: str = "", level: str = "##") -> str:
    rows = ["| key | allowed | default | |", "| --- | --- | --- | --- |", *_rows(model, defaults, prefix)]
    return f"{level} {title}\n\n" + "\n".join(rows) + "\n"


def _rows(model: type[Model], defaults: dict[str, Any], prefix: str) -> list[str]:
    rows = []
    for name, field in model.model_fields.items():
        key = f"{prefix}.{name}" if prefix else name
        inner, path = _inner(field.annotation)
        allowed = "" if inner else describe(field.annotation, field.metadata)
        cells = [f"`{key}`", allowed or "keys below", _default(field, name, defaults), field.description or ""]
        rows.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
        if inner:
            rows += _rows(inner, {}, key + path)
    return rows


def _inner(annotation: Any) -> tuple[type[Model] | None, str]:
    """Return the model inside a field, and what stands between the field's key and its keys."""
    present = [part for part in typing.get_args(annotation) if part is not type(None)]
    if len(present) == 1 and typing.get_origin(annotation) in (typing.Union, types.UnionType):
        annotation = present[0]
    if isinstance(annotation, type) and issubclass(annotation, Model):
        return annotation, ""
    if typing.get_origin(annotation) is dict:
        value = typing.get_args(annotation)[1]
        if isinstance(value, type) and issubclass(value, Model):
            return value, ".<name>"
    return None, ""


def _default(field: FieldInfo, name: str, defaults: dict[str, Any]) -> str:
    if name in defaults:
        return f"`{_shown(defaults[name])}`"
    if isinstance(field.default, Model):
        return "`{}`"
    if field.default is PydanticUndefined:
        return "required"
    if field.default is None and "Default:" not in (field.description or ""):
        return "none"
    return "derived" if field.default is None else f"`{_shown(field.default)}`"


def _shown(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, Model):
        return "{}"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {_shown(item)}" for key, item in value.items()) + "}"
    return '""' if value == "" else str(value)


if __name__ == "__main__":
    Path(PAGE).parent.mkdir(exist_ok=True)
    PAGE.write_text(reference(), encoding="utf-8")
