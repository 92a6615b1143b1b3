"""Placeholders: what Saltern knows of an app, for values of its environment and for its file templates.

Projects call their variables by other names and want other forms; `{database_url}` in a value is replaced by what the
variable DATABASE_URL would hold.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated

from pydantic import AfterValidator

from .errors import nearest
from .kinds import Allowed, EnvironmentValue

# What each one is; the names that values() in wiring.py fills.
PLACEHOLDERS = {
    "database_url": "URL of the database, with TLS and its address, as in DATABASE_URL",
    "database_name": "the database",
    "database_user": "its role",
    "database_password": "the role's password",
    "database_host": "the database server's name, which its certificate is for",
    "database_address": "the database server's address (libpq's hostaddr)",
    "database_port": "its port",
    "ca_file": "the fleet's CA certificate, by which the database is verified (libpq's sslrootcert)",
    "cache_url": "URL of the cache, as in CACHE_URL; of an app with `cache: true`",
    "cache_key_prefix": "what its keys there begin with, without the colon, as in CACHE_KEY_PREFIX",
    "broker_url": "URL of the broker, as in BROKER_URL; of an app with a broker",
    "broker_key_prefix": "what its keys there begin with, as in BROKER_KEY_PREFIX",
    "secret_key": "the app's SECRET_KEY",
    "secret_key_fallbacks": "older SECRET_KEYs that are still good, joined by commas, as in SECRET_KEY_FALLBACKS",
    "hostname": "the app's first host name",
    "hostnames": "all of them, joined by commas",
    "base_url": "https://, the first host name and the port if it is not 443; no slash at the end",
    "data_directory": "the directory that the app may write to, and nobody else can read",
    "media_directory": "the directory that nginx serves as media_url, as in MEDIA_ROOT; empty without media_url",
}
# Which need of an app's file a placeholder belongs to; without it there is nothing to put in its place.
NEEDS = {
    "cache_url": "cache",
    "cache_key_prefix": "cache",
    "broker_url": "broker",
    "broker_key_prefix": "broker",
}
_ANY = re.compile(r"\{\{[a-z_]+\}\}|\{[a-z_]+\}")


def _known(value: str) -> str:
    for found in _ANY.findall(value):
        if not found.startswith("{{") and found[1:-1] not in PLACEHOLDERS:
            raise ValueError(
                f"unknown placeholder {found}; {nearest(found[1:-1], PLACEHOLDERS)}; {{{found}}} gives {found} itself"
            )
    return value


def used(text: str) -> set[str]:
    """Return the placeholders in a text.

    Example:
        >>> used("{base_url}/{{cache_url}}")
        {'base_url'}
    """
    return {found[1:-1] for found in _ANY.findall(text) if not found.startswith("{{")}


def fill(text: str, values: Mapping[str, str]) -> str:
    """Replace the placeholders of a text; `{{name}}` becomes `{name}`, any other brace stays.

    Args:
        text: a checked text.
        values: what each placeholder stands for.

    Example:
        >>> fill('{"url": "{base_url}", "kept": "{{base_url}}"}', {"base_url": "https://x.org"})
        '{"url": "https://x.org", "kept": "{base_url}"}'
    """
    # One pass: what a value holds is never looked at again.
    return _ANY.sub(lambda match: match[0][1:-1] if match[0].startswith("{{") else values[match[0][1:-1]], text)


EnvironmentText = Annotated[EnvironmentValue, AfterValidator(_known), Allowed("text on one line, with placeholders")]
