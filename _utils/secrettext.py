"""Secrets in texts that are going to be shown."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote


def blacken(text: str, secrets: Any) -> str:
    """Blackens every secret in a text, in the forms that it comes in.

    Args:
        text: such as an app's log lines.
        secrets: texts, in dictionaries and lists of any depth.

    Example:
        >>> blacken("connecting as demo with 0123456789", {"password": "0123456789"})
        'connecting as demo with ********'
    """
    # Short ones are no secrets, and would blacken half of the text.
    long = {value for value in _leaves(secrets) if len(value) >= 8}
    # As they are, as Python's tracebacks and JSON write them, and as they stand in a URL.
    forms = {form for value in long for form in (value, repr(value)[1:-1], json.dumps(value)[1:-1], quote(value, ""))}
    for secret in sorted(forms, key=len, reverse=True):
        text = text.replace(secret, "********")
    return text


def _leaves(value: Any) -> Iterator[str]:
    if isinstance(value, dict | list):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from _leaves(inner)
    elif isinstance(value, str):
        yield value
