"""SCRAM verifiers, by the test vector of RFC 7677."""

from __future__ import annotations

import base64
import hashlib
import hmac

import pytest

from saltern.postgres import scram

# RFC 7677, section 3.
SALT = base64.b64decode("W22ZaJ0SNY7soEsUEjb6gQ==")
NONCE = "rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0"
AUTH_MESSAGE = (f"n=user,r=rOprNGfwEbeRWgbNEkqO,r={NONCE},s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096,c=biws,r={NONCE}").encode()
PROOF = base64.b64decode("dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=")
SERVER_SIGNATURE = base64.b64decode("6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=")


def test_verifier_accepts_the_client_of_the_rfc() -> None:
    verifier = scram.verifier("pencil", SALT)
    head, _, keys = verifier.rpartition("$")
    stored, server = (base64.b64decode(key) for key in keys.split(":"))
    assert head == "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ=="
    signature = hmac.digest(stored, AUTH_MESSAGE, "sha256")
    client_key = bytes(a ^ b for a, b in zip(PROOF, signature, strict=True))
    assert hashlib.sha256(client_key).digest() == stored
    assert hmac.digest(server, AUTH_MESSAGE, "sha256") == SERVER_SIGNATURE


@pytest.mark.parametrize(
    ("password", "prepared"),
    [
        ("I\u00adX", "IX"),  # the examples of RFC 4013, section 3
        ("user", "user"),
        ("USER", "USER"),
        ("\u00aa", "a"),
        ("\u2168", "IX"),
        ("\u0007", "\u0007"),  # forbidden: taken as it is, as PostgreSQL does
        ("\u0627\u0031", "\u0627\u0031"),
        ("a\u00a0b", "a b"),
    ],
)
def test_saslprep(password: str, prepared: str) -> None:
    assert scram.saslprep(password) == prepared


def test_other_password_does_not_match() -> None:
    assert not scram.matches("pencils", scram.verifier("pencil", SALT))


@pytest.mark.parametrize("stored", [None, "", "md5abc", "SCRAM-SHA-256$x", "SCRAM-SHA-256$4096:!$a:b"])
def test_what_is_no_verifier_never_matches(stored: str | None) -> None:
    assert not scram.matches("pencil", stored)


def test_weaker_verifier_is_replaced() -> None:
    assert not scram.matches("pencil", scram.verifier("pencil", SALT, iterations=1000))


def test_stronger_verifier_is_kept() -> None:
    assert scram.matches("pencil", scram.verifier("pencil", SALT, iterations=5000))
