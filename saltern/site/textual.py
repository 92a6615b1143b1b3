"""Settings of other programs, which take text: a number or yes/no in YAML means exactly one, so nobody quotes it."""

from __future__ import annotations

from typing import Any


def as_text(value: Any) -> Any:
    """Return what Postgres and sysctl take for a value of YAML.

    Args:
        value: the value.

    Example:
        >>> as_text(True), as_text(8), as_text("8MB")
        ('on', '8', '8MB')
    """
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, int | float):
        return str(value)
    return value
