"""Signatures of the builder (Ed25519): what it has built and what it says is served, each for one app alone.

The private half is text that `site.generate_secrets` has made; only the builder has it. Over salt-ssh another Python
runs this, without the library; Salt's own environment on the host has it.
"""

from __future__ import annotations

import base64
import hashlib
import json
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from salt.exceptions import CommandExecutionError

SALT = Path("/opt/saltern/salt/bin/python")


def sign(data: bytes, key: str) -> str:
    """Sign data.

    Args:
        data: what is signed.
        key: the private half.

    Returns:
        The signature, as base64.

    Raises:
        CommandExecutionError: this host has not the library.
    """
    return str(_do({"sign": base64.b64encode(data).decode(), "key": key}))


def is_signed(data: bytes, signature: str, keys: Iterable[str]) -> bool:
    """Return whether a signature is good by one of some keys.

    Args:
        data: what was signed.
        signature: as ``sign`` answers it.
        keys: public halves, each 32 bytes as base64.

    Raises:
        CommandExecutionError: this host has not the library.
    """
    asked = {"verify": base64.b64encode(data).decode(), "signature": signature, "keys": list(keys)}
    return bool(_do(asked))


def build_text(manifest: bytes) -> bytes:
    """Return what is signed of a build: its manifest, which names its app, its id and the hash of every file.

    Example:
        >>> build_text(b"{}")
        b'saltern build\\n{}'
    """
    return b"saltern build\n" + manifest


def word_text(app: str, name: str, found: dict[str, Any]) -> bytes:
    """Return what is signed of the builder's word: which build an app's hosts shall serve.

    Args:
        app: the app.
        name: the word's file, such as ``released.json``: one cannot be taken for the other.
        found: build, token and whatever else the file holds.

    Example:
        >>> word_text("demo", "released.json", {"build": "aa", "token": "bb", "signature": "cc"})
        b'saltern word\\n["demo", "released.json", {"build": "aa", "token": "bb"}]'
    """
    told = {key: value for key, value in sorted(found.items()) if key != "signature"}
    return b"saltern word\n" + json.dumps([app, name, told]).encode()


def _do(asked: dict[str, Any]) -> Any:
    try:
        return answer(asked)
    except ImportError:
        pass
    program = f"{Path(__file__).read_text(encoding='utf-8')}\n\nprint(json.dumps(answer(json.loads(input()))))\n"
    argv = [str(SALT), "-I", "-c", program]
    try:
        done = subprocess.run(argv, input=f"{json.dumps(asked)}\n", capture_output=True, text=True, timeout=60)
        return json.loads(done.stdout)
    except (OSError, ValueError, subprocess.TimeoutExpired) as error:
        raise CommandExecutionError(
            f"{SALT} cannot check signatures: bin/bootstrap installs it with Salt ({error})"
        ) from None


def answer(asked: dict[str, Any]) -> Any:
    """Do what is asked, with the library.

    Raises:
        ImportError: it is not there.
    """
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

    if "sign" in asked:
        # As _pillar/saltern/certificates.py makes the public half of it.
        seed = hashlib.sha256(f"saltern build key\n{asked['key']}".encode()).digest()
        made = Ed25519PrivateKey.from_private_bytes(seed).sign(base64.b64decode(asked["sign"]))
        return base64.b64encode(made).decode()
    try:
        data, signature = base64.b64decode(asked["verify"]), base64.b64decode(asked["signature"], validate=True)
        keys = [Ed25519PublicKey.from_public_bytes(base64.b64decode(key)) for key in asked["keys"]]
    except ValueError:
        return False
    for key in keys:
        try:
            key.verify(signature, data)
        except InvalidSignature:
            continue
        return True
    return False
