"""Pydantic's errors in the words of the site: what is wrong, what is allowed, the nearest right name."""

from __future__ import annotations

import datetime
import types
import typing
from collections.abc import Sequence
from typing import Any

from annotated_types import Ge, Le, MaxLen, MinLen
from pydantic import BaseModel, ValidationError

from .document import Document
from .errors import Problem, nearest
from .kinds import Allowed

QUOTE = "put it in quotes"


def explain(
    error: ValidationError, model: type[BaseModel], document: Document, at: Sequence[str] = ()
) -> list[Problem]:
    """Return one problem for each error; no value of the input is in a message.

    Args:
        error: what pydantic raised.
        model: the model that was validated.
        document: the file the data came from.
        at: where in the file the data stands.
    """
    found = []
    for detail in error.errors(include_url=False):
        place = [str(part) for part in detail["loc"] if part != "[key]"]
        found.append(document.problem([*at, *place], _message(dict(detail), model)))
    return found


def _message(detail: dict[str, Any], model: type[BaseModel]) -> str:
    loc, kind = detail["loc"], detail["type"]
    if kind == "extra_forbidden":
        parent, _ = field_at(model, loc[:-1])
        names = list(parent.model_fields) if _is_model(parent) else []
        return f"unknown key; {nearest(str(loc[-1]), names)}"
    annotation, metadata = field_at(model, loc)
    allowed = describe(annotation, metadata)
    if kind == "missing":
        return f"missing; needed: {allowed}"
    if kind == "value_error":
        reason = str(detail["ctx"]["error"])
        # Reasons with a sentence of their own already say what to do.
        return reason if ";" in reason or "?" in reason or ":" in reason else f"{reason}; allowed: {allowed}"
    if kind in ("too_short", "string_too_short"):
        return f"is empty; allowed: {allowed}"
    if kind == "too_long":
        return f"is too long; allowed: {allowed}"
    if kind.endswith("_type") or kind in ("int_from_float", "model_attributes_type"):
        return f"is {_yaml_kind(detail['input'])}{_hint(kind, detail['input'])}; allowed: {allowed}"
    return f"not allowed; allowed: {allowed}"


def _yaml_kind(value: object) -> str:
    if value is None:
        return "empty (null)"
    if isinstance(value, bool):
        return "true/false for YAML (yes, no, on, off too)"
    if isinstance(value, int | float):
        return "a number for YAML"
    if isinstance(value, datetime.date):
        return "a date for YAML"
    if isinstance(value, str):
        return "text"
    return "a list" if isinstance(value, list) else "a mapping"


def _hint(kind: str, value: object) -> str:
    if kind == "string_type" and isinstance(value, bool | int | float | datetime.date):
        return f': {QUOTE}, such as "1.10" or "yes"'
    if isinstance(value, str) and kind in ("int_type", "float_type", "bool_type"):
        return ": take the quotes away, if there are any"
    return ""


def field_at(model: type[BaseModel], loc: Sequence[object]) -> tuple[Any, list[Any]]:
    """Return the annotation and its metadata at a key path of a model.

    Args:
        model: where the path begins.
        loc: keys and list positions; `[key]` means the key of a mapping itself.
    """
    current: Any = model
    metadata: list[Any] = []
    for position, part in enumerate(loc):
        current, extra = _bare(current)
        metadata += extra
        if _is_model(current):
            field = current.model_fields.get(part)
            if field is None:
                return Any, []
            current, metadata = field.annotation, list(field.metadata)
        elif typing.get_origin(current) is dict:
            of_key = loc[position + 1 : position + 2] == ("[key]",)
            current, metadata = typing.get_args(current)[0 if of_key else 1], []
        elif typing.get_origin(current) is list:
            current, metadata = typing.get_args(current)[0], []
        if part == "[key]":
            break
    current, extra = _bare(current)
    return current, metadata + extra


def _bare(annotation: Any) -> tuple[Any, list[Any]]:
    """Take Annotated and `| None` off an annotation."""
    metadata: list[Any] = []
    while True:
        if typing.get_origin(annotation) is typing.Annotated:
            metadata += _flat(annotation.__metadata__)
            annotation = annotation.__origin__
        elif _is_optional(annotation):
            metadata.append(None)
            annotation = next(arg for arg in typing.get_args(annotation) if arg is not type(None))
        else:
            return annotation, metadata


def _flat(metadata: Sequence[Any]) -> list[Any]:
    # Field(ge=1) inside Annotated keeps its own list.
    return [inner for item in metadata for inner in getattr(item, "metadata", [item])]


def _is_model(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def _is_optional(annotation: Any) -> bool:
    is_union = typing.get_origin(annotation) in (typing.Union, types.UnionType)
    return is_union and type(None) in typing.get_args(annotation)


def describe(annotation: Any, metadata: Sequence[Any] = ()) -> str:
    """Say in words what a field allows; for error messages and for the reference.

    Example:
        >>> describe(int, [Ge(1), Le(64)])
        'a whole number, 1 to 64'
    """
    annotation, extra = _bare(annotation)
    metadata = [*metadata, *extra]
    words = next((item.text for item in metadata if isinstance(item, Allowed)), None) or _words(annotation, metadata)
    return f"{words}, or null" if None in metadata else words


def _words(annotation: Any, metadata: Sequence[Any]) -> str:
    arguments = typing.get_args(annotation)
    if typing.get_origin(annotation) is list:
        least = "at least one" if any(isinstance(item, MinLen) for item in metadata) else "each"
        most = next((f", at most {item.max_length}" for item in metadata if isinstance(item, MaxLen)), "")
        return f"a list, {least}{most}: {describe(arguments[0])}"
    if typing.get_origin(annotation) is dict:
        return f"a mapping; key: {describe(arguments[0])}; value: {describe(arguments[1])}"
    if _is_model(annotation):
        return f"a mapping with the keys {', '.join(annotation.model_fields)}"
    bounds = _bounds(metadata)
    if annotation is int:
        return "a whole number" + bounds
    if annotation is float:
        return "a number" + bounds
    return {bool: "true or false", str: "text"}.get(annotation, "nothing")


def _bounds(metadata: Sequence[Any]) -> str:
    low = next((item.ge for item in metadata if isinstance(item, Ge)), None)
    high = next((item.le for item in metadata if isinstance(item, Le)), None)
    if low is None:
        return ""
    return f", {low} to {high}" if high is not None else f", at least {low}"
