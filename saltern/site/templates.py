"""The templates of apps' extra files: Jinja, in a sandbox, with the placeholders as its only names."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from .errors import nearest
from .placeholders import PLACEHOLDERS


class TemplateProblem(Exception):
    """Why a template cannot be used; holds no value.

    Args:
        text: what is wrong.
        line: where in the template, 0 when it is not known.
    """

    def __init__(self, text: str, line: int = 0) -> None:
        super().__init__(text)
        self.line = line


@cache
def _engine() -> Any:
    from jinja2 import StrictUndefined
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    return ImmutableSandboxedEnvironment(undefined=StrictUndefined, keep_trailing_newline=True, autoescape=False)


def problems(path: Path) -> list[TemplateProblem]:
    """Return what is wrong with a template, without rendering it.

    Args:
        path: the template.
    """
    from jinja2 import TemplateSyntaxError, meta

    try:
        parsed = _engine().parse(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return [TemplateProblem("the file does not exist")]
    except (OSError, UnicodeError):
        return [TemplateProblem("cannot be read as UTF-8 text")]
    except TemplateSyntaxError as error:
        return [TemplateProblem(f"no valid Jinja: {error.message}", error.lineno)]
    unknown = sorted(meta.find_undeclared_variables(parsed) - PLACEHOLDERS.keys())
    return [TemplateProblem(f"unknown name {name}; {nearest(name, PLACEHOLDERS)}") for name in unknown]


def used(path: Path) -> set[str]:
    """Return the names in a template; none when it cannot be read, which `problems` tells.

    Args:
        path: the template.
    """
    from jinja2 import TemplateError, meta

    try:
        return set(meta.find_undeclared_variables(_engine().parse(path.read_text(encoding="utf-8"))))
    except (OSError, UnicodeError, TemplateError):
        return set()


def render(path: Path, values: Mapping[str, str]) -> str:
    """Return what a template makes of the placeholders' values.

    Args:
        path: the template, one that has no problems.
        values: by placeholder.
    """
    text: str = _engine().from_string(path.read_text(encoding="utf-8")).render(values)
    return text
