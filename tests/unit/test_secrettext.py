"""Secrets do not reach a screen."""

from __future__ import annotations

import base64
import html
import json
import re
from urllib.parse import quote, quote_plus

import pytest

from saltern.host import sandbox, secrettext


def test_secrets_are_blackened_in_every_form_they_come_in() -> None:
    secret = 'a"b\\c d/e'
    secrets = {"apps": {"demo": {"secret_key": secret, "short": "abc", "more": [{"deep": "0123456789"}]}}}
    for form in (secret, repr(secret), f"postgres://demo:{secrettext.quote(secret, '')}@db", f'"{secret}"'):
        text = secrettext.blacken(f"before abc {form} 0123456789 after", secrets)
        assert "d/e" not in text and "d%2Fe" not in text and "0123" not in text
        assert text.startswith("before abc ") and text.endswith(" after")


@pytest.mark.parametrize(
    "secret", ["pa55word", "S3cr3t-with_some+more/than=that", 'ünïcode & <tags> \'n\\ "x"', "0" * 40]
)
@pytest.mark.parametrize("around", [("", ""), ("a", "z"), ("ab", "yz"), ("abc", "xyz"), ("user:", "@host")])
def test_a_secret_within_encoded_text_is_blackened(secret: str, around: tuple[str, str]) -> None:
    raw = (around[0] + secret + around[1]).encode()
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        text = encode(raw).decode()
        left = secrettext.blacken(f"Basic {text} end", {"x": secret})
        shown = "".join(left.split("********")).removeprefix("Basic ").removesuffix(" end")
        assert "********" in left and len(shown) <= len(text) - (len(secret.encode()) * 8 // 6 - 2), left
    hexed = secret.encode().hex()
    escaped = [repr(secret)[1:-1], json.dumps(secret)[1:-1], html.escape(secret)]
    for encoded in (quote(secret), quote_plus(secret), quote(secret, "").lower(), hexed, hexed.upper(), *escaped):
        if encoded.lower() != quote(secret, "").lower() or encoded in secrettext.forms(secret):
            assert secrettext.blacken(f"x{encoded}y", {"x": secret}) == "x********y", encoded


def test_a_line_of_a_key_is_blackened_and_its_frame_is_not() -> None:
    key = "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIJ\nAbCdEfGhIjKlMnOpQrSt\n-----END PRIVATE KEY-----\n"
    said = secrettext.blacken("-----BEGIN PRIVATE KEY----- AbCdEfGhIjKlMnOpQrSt", {"tls": {"key": key}})
    assert said == "-----BEGIN PRIVATE KEY----- ********"


OBEYED = {
    "colour": "\x1b[31m", "title": "\x1b]0;owned\x07", "title, other end": "\x1b]2;owned\x1b\\", "8-bit": "\x9b2J",
    "clipboard": "\x1b]52;c;AAAA\x07", "bell": "\x07", "backspace": "\x08\x08", "return": "\r", "DCS": "\x1bP1$r\x1b\\",
    "right to left": "\u202e", "isolate": "\u2066", "no width": "\u200b", "delete": "\x7f", "NEL": "\x85",
    "APC": "\x1b_x\x1b\\",
    "tags": "\U000e0041", "half": "\x1b", "unended": "\x1b[é", "reset": "\x1bc",
    "surrogate": "\udc80", "mark": "\ufeff",
}  # fmt: skip


@pytest.mark.parametrize("text", OBEYED.values(), ids=OBEYED)
def test_a_terminal_has_nothing_to_obey(text: str) -> None:
    left = secrettext.printable(f"before{text}after\n\tnext é 漢 🙂")
    assert re.fullmatch(r"before\W*\w{0,2}after\n\tnext é 漢 🙂", left), ascii(left)
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b-\u202e\u2060-\u206f]", left), ascii(left)


def test_what_control_characters_take_apart_is_found() -> None:
    assert secrettext.shown("my pass\x1b[0mword\u200b1!", {"x": "password1"}) == "my ********!"


def test_the_sandbox_shows_no_more_than_the_rest() -> None:
    for text in OBEYED.values():
        assert not set(sandbox.printable(text)) & set("\x1b\x07\x08\x7f\x85\x9b\u202e\u2066\u200b"), ascii(text)
