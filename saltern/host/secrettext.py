"""Text that came from somebody else, before it is shown: without what a terminal would obey, and without secrets."""

from __future__ import annotations

import base64
import html
import json
import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote, quote_plus

# Escape sequences with their parameters (CSI; OSC and its like up to their end), then every other control character of
# both sets, and the characters that turn the direction of writing or take no room.
CONTROL = re.compile(
    r"\x1b\[[0-?]*[ -/]*[@-~]|(?:\x1b[\]PX^_]|[\x90\x98\x9d\x9e\x9f])[^\x07\x1b\x9c\n]*(?:\x07|\x1b\\|\x9c)?"
    r"|\x9b[0-?]*[ -/]*[@-~]"
    r"|[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2064\u2066-\u206f\ufeff\ufff9-\ufffb]"
    r"|[\ud800-\udfff\U000e0000-\U000e007f]"
)
SHORTEST = 8  # shorter ones are no secrets, and would blacken half of the text


def printable(text: str) -> str:
    """Return text of somebody else without what a terminal would obey: lines and tabs stay.

    Args:
        text: such as an app's log lines.

    Example:
        >>> printable("\\x1b]0;title\\x07\\x1b[31mred\\x07 \\u202etxt.exe")
        'red txt.exe'
    """
    return CONTROL.sub("", text.replace("\r\n", "\n"))


def one_line(text: str) -> str:
    """Return text that repeats what people have typed, as one line in which what is not printable is spelt out.

    Args:
        text: such as a message with a name from a file.

    Example:
        >>> one_line("web1\\x07")
        'web1\\\\x07'
    """
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)


def all_printable(value: Any) -> Any:
    """Return a JSON value of somebody else, all of whose texts and names are ``printable``.

    Args:
        value: what json.loads answered.

    Example:
        >>> all_printable({"a\\x07": ["\\x1b[1mb", 1]})
        {'a': ['b', 1]}
    """
    if isinstance(value, str):
        return printable(value)
    if isinstance(value, list):
        return [all_printable(one) for one in value]
    if isinstance(value, dict):
        return {printable(key): all_printable(one) for key, one in value.items()}
    return value


def shown(text: str, secrets: Any) -> str:
    """Return text of somebody else as it may be shown: printable, and secrets blackened.

    In this order: what a control character takes apart would be whole again afterwards.

    Args:
        text: such as an app's log lines.
        secrets: texts, in dictionaries and lists of any depth.

    Example:
        >>> shown("my \\x1b[1mpass\\x1b[0mword1", {"password": "password1"})
        'my ********'
    """
    return blacken(printable(text), secrets)


def blacken(text: str, secrets: Any) -> str:
    """Blacken every secret in a text, in the forms that it comes in.

    Args:
        text: such as an app's log lines.
        secrets: texts, in dictionaries and lists of any depth.

    Example:
        >>> blacken("connecting as demo with 0123456789", {"password": "0123456789"})
        'connecting as demo with ********'
    """
    found = {form for value in set(_leaves(secrets)) if len(value) >= SHORTEST for form in forms(value)}
    for form in sorted(found, key=len, reverse=True):
        text = text.replace(form, "********")
    return text


def forms(secret: str) -> set[str]:
    """Return the forms that a secret comes in: as it is, escaped, in a URL, in hex, within text of base64.

    Args:
        secret: the secret.

    Example:
        >>> {"s3cr3t&s3cr3t", "s3cr3t%26s3cr3t", "czNjcjN0JnMzY3Izd"} - forms("s3cr3t&s3cr3t")
        set()
    """
    raw = secret.encode("utf-8", "surrogatepass")
    found = {secret, repr(secret)[1:-1], json.dumps(secret)[1:-1], json.dumps(secret, ensure_ascii=False)[1:-1]}
    found |= {html.escape(secret), secret.encode("unicode_escape").decode("ascii"), repr(raw)[2:-1]}
    for quoted in (quote(raw, ""), quote(raw), quote_plus(raw)):
        found |= {quoted, re.sub(r"%[0-9A-F]{2}", lambda code: code[0].lower(), quoted)}
    found |= {raw.hex(), raw.hex().upper()}
    # Within a longer text it begins at one of three places of base64's groups; what its neighbours decide is left out.
    for before in range(3):
        whole = base64.b64encode(b"\0" * before + raw).decode("ascii")
        own = whole[(before * 8 + 5) // 6 : (before + len(raw)) * 8 // 6]
        found |= {own, own.translate(str.maketrans("+/", "-_"))}
    # Of a key in several lines each line is one.
    lines = [line.strip() for line in secret.splitlines()] if "\n" in secret else []
    found |= {line for line in lines if len(line) >= 2 * SHORTEST and not line.startswith("-----")}
    return {form for form in found if len(form) >= SHORTEST}


def _leaves(value: Any) -> Iterator[str]:
    if isinstance(value, dict | list):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from _leaves(inner)
    elif isinstance(value, str):
        yield value
