"""age and age-keygen for tests on machines without them: the same arguments, the same ways to fail, no secrecy."""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
import sys
from pathlib import Path

HEAD, FOOT = "-----BEGIN AGE ENCRYPTED FILE-----", "-----END AGE ENCRYPTED FILE-----"


def public_of(private: str) -> str:
    if private.startswith("AGE-SECRET-KEY-1"):
        return "age1" + (hashlib.sha256(private.encode()).hexdigest())[:58]
    return "ssh-ed25519 " + private.split()[1]


def fail(text: str) -> None:
    sys.exit(f"age: error: {text}")


def age(words: list[str]) -> None:
    if words[0] == "-e":
        keys = [" ".join(words[i + 1].split()[:2]) for i, word in enumerate(words) if word == "-r"]
        body = json.dumps({"to": keys, "text": sys.stdin.read()})
        mac = hashlib.sha256(body.encode()).hexdigest()
        print(HEAD, base64.b64encode(json.dumps([body, mac]).encode()).decode(), FOOT, sep="\n")
        return
    identity, file = words[2], Path(words[3])
    try:
        head, whole, _ = file.read_text().split("\n", 2)
        assert head == HEAD
        body, mac = json.loads(base64.b64decode(whole))
        assert hashlib.sha256(body.encode()).hexdigest() == mac
    except Exception:
        fail("failed to read header: parsing age header: unexpected intro")
    found = json.loads(body)
    private = next(line for line in Path(identity).read_text().splitlines() if not line.startswith("#"))
    if public_of(private) not in found["to"]:
        fail("no identity matched any of the recipients")
    sys.stdout.write(found["text"])


def keygen(words: list[str]) -> None:
    if words[:1] == ["-y"]:
        print(public_of(next(line for line in Path(words[1]).read_text().splitlines() if line[0] != "#")))
    else:
        print("# created: today\n" + "AGE-SECRET-KEY-1" + secrets.token_hex(20).upper())


if __name__ == "__main__":
    (keygen if Path(sys.argv[0]).name == "age-keygen" else age)(sys.argv[1:])
