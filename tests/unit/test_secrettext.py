"""Secrets do not reach a screen."""

from __future__ import annotations

from typing import Any

from tests.unit.contracts import load

secrettext: Any = load("_utils", "secrettext")


def test_secrets_are_blackened_in_every_form_they_come_in() -> None:
    secret = 'a"b\\c d/e'
    secrets = {"apps": {"demo": {"secret_key": secret, "short": "abc", "more": [{"deep": "0123456789"}]}}}
    for form in (secret, repr(secret), f"postgres://demo:{secrettext.quote(secret, '')}@db", f'"{secret}"'):
        text = secrettext.blacken(f"before abc {form} 0123456789 after", secrets)
        assert "d/e" not in text and "d%2Fe" not in text and "0123" not in text
        assert text.startswith("before abc ") and text.endswith(" after")
