"""Passwords as PostgreSQL stores them (SCRAM), so that they are never sent."""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import stringprep
import unicodedata

ITERATIONS = 4096


def verifier(password: str, salt: bytes, iterations: int = ITERATIONS) -> str:
    """Return what PostgreSQL stores for a password, so that the password itself is never sent or logged.

    RFC 5802 section 3 with SHA-256 (RFC 7677); the form is that of PostgreSQL's pg_authid.rolpassword.

    Args:
        password: The password.
        salt: Random bytes, 16 as PostgreSQL's own.
        iterations: How often the hash is repeated.

    Returns:
        ``SCRAM-SHA-256$<iterations>:<salt>$<StoredKey>:<ServerKey>``.

    Example:
        >>> verifier("pencil", b"0" * 16)[:44]
        'SCRAM-SHA-256$4096:MDAwMDAwMDAwMDAwMDAwMA==$'
    """
    salted = hashlib.pbkdf2_hmac("sha256", saslprep(password).encode(), salt, iterations)
    client_key = hmac.digest(salted, b"Client Key", "sha256")
    stored_key = hashlib.sha256(client_key).digest()
    server_key = hmac.digest(salted, b"Server Key", "sha256")
    salt64, stored64, server64 = (base64.b64encode(part).decode() for part in (salt, stored_key, server_key))
    return f"SCRAM-SHA-256${iterations}:{salt64}${stored64}:{server64}"


def matches(password: str, stored: str | None) -> bool:
    """Return whether a stored verifier was made from this password.

    Args:
        password: The password.
        stored: ``rolpassword``; None, an MD5 hash or anything else that is no SCRAM verifier never matches.

    Returns:
        True or False.

    Example:
        >>> matches("pencil", verifier("pencil", b"0" * 16))
        True
    """
    form = re.fullmatch(r"SCRAM-SHA-256\$(\d+):([A-Za-z0-9+/=]+)\$[A-Za-z0-9+/=]+:[A-Za-z0-9+/=]+", stored or "")
    # Weaker than what we would write ourselves: write it again.
    if not form or int(form[1]) < ITERATIONS:
        return False
    mine = verifier(password, base64.b64decode(form[2]), int(form[1]))
    return hmac.compare_digest(mine, stored or "")


def saslprep(password: str) -> str:
    """Return a password as SCRAM wants it (RFC 4013).

    Like PostgreSQL, a password that RFC 4013 forbids is taken as it is.

    Args:
        password: Any text.

    Returns:
        The prepared password.

    Example:
        >>> saslprep("I\\u00adX")
        'IX'
    """
    if password.isascii():
        return password
    mapped = "".join(
        " " if stringprep.in_table_c12(char) else char for char in password if not stringprep.in_table_b1(char)
    )
    prepared = unicodedata.ucd_3_2_0.normalize("NFKC", mapped)
    forbidden = (
        stringprep.in_table_a1,
        stringprep.in_table_c12,
        stringprep.in_table_c21_c22,
        stringprep.in_table_c3,
        stringprep.in_table_c4,
        stringprep.in_table_c5,
        stringprep.in_table_c6,
        stringprep.in_table_c7,
        stringprep.in_table_c8,
        stringprep.in_table_c9,
    )
    right_to_left = [stringprep.in_table_d1(char) for char in prepared]
    mixed = any(right_to_left) and (
        any(stringprep.in_table_d2(char) for char in prepared) or not (right_to_left[0] and right_to_left[-1])
    )
    if not prepared or mixed or any(test(char) for char in prepared for test in forbidden):
        return password
    return prepared
