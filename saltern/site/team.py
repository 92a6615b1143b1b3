"""The verbs of `site.secrets`: who can read the encrypted secrets of a site, and how a person changes them."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

from .certificates import is_foreign
from .document import parse_document
from .errors import Problem, SiteError
from .explain import explain
from .files import replace_file
from .overlap import held
from .rotation import AUTHORITY, authority_state, orchestration, state_of
from .secretfile import Shared
from .secrets import generate_secrets, held_by_hosts, locked, read_shared, settle_ca
from .site import Site
from .vault import MACHINE_KEY, SHARED, Vault, in_memory

KEY = re.compile(r"age1[a-z0-9]{58}|(ssh-ed25519|ssh-rsa) [A-Za-z0-9+/]+=*( [^\r\n]*)?")
ALLOWED = "an age key (age1…), or an SSH key of the kinds ssh-ed25519 and ssh-rsa on one line, or a file with one"
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}")
EDITORS = ("sensible-editor", "editor", "nano", "vi")


class TeamError(Exception):
    """What cannot be done, and what to do instead."""


def listed(site: Site) -> dict[str, str]:
    """Return who can read the secrets: the kind and a short fingerprint of each key, by name.

    Args:
        site: the site.
    """
    with locked(site.path / "secrets"):
        readers = Vault(site.path / "secrets").readers()
    return {name: f"{key.split()[0] if ' ' in key else 'age'} {fingerprint(key)}" for name, key in readers.items()}


def fingerprint(key: str) -> str:
    """Return a short text by which people compare keys.

    Example:
        >>> fingerprint("ssh-ed25519 AAAA ann") == fingerprint("ssh-ed25519 AAAA other comment")
        True
    """
    return hashlib.sha256(" ".join(key.split()[:2]).encode()).hexdigest()[:16]


def add(site: Site, machine: str, name: str, key: str) -> list[str]:
    """Let somebody read the secrets. The first one makes them encrypted, to the server's own key too.

    Args:
        site: the checked site.
        machine: what this server is called among the readers; its key is made when it is missing.
        name: the person's name.
        key: the public key, or a file with it.

    Returns:
        What was done.
    """
    key = _public_key(key)
    if not NAME.fullmatch(name):
        raise TeamError(f"{name!r} is no name for a reader; allowed: letters, digits, . _ @ and -, at most 64")
    folder = site.path / "secrets"
    done = generate_secrets(site)
    with locked(folder):
        vault = Vault(folder)
        readers = vault.readers()
        if readers.get(name) == key:
            return [*done, f"{name} can read the secrets already"]
        if name in readers:
            raise TeamError(f"{name} has another key already; drop-person {name} first, then add the new one")
        if not readers:
            readers[machine] = _machine_key()
            done.append(f"the secrets are encrypted from now on; {machine} is this server's own key, {MACHINE_KEY}")
            if name == machine:
                raise TeamError(f"{name} is this server's own name; take the person's")
        vault.encrypt_to(readers | {name: key})
    return [*done, f"{name} can read the secrets ({fingerprint(key)})"]


def drop(site: Site, machine: str, name: str) -> list[str]:
    """Let somebody read nothing that is written from now on, and answers what he knows and so has to be replaced.

    Args:
        site: the checked site.
        machine: what this server is called among the readers.
        name: the person's name.
    """
    folder = site.path / "secrets"
    with locked(folder):
        settle_ca(folder)
        vault = Vault(folder)
        vault.clear_away()
        readers = vault.readers()
        if name not in readers:
            raise TeamError(f"{name} is none of those who can read the secrets: {', '.join(readers) or 'nobody'}")
        if name == machine:
            raise TeamError(f"{name} is this server: it could not give the hosts their part any more")
        if len(readers) < 3:
            raise TeamError(f"beside this server only {name} can read the secrets: add somebody else first")
        del readers[name]
        vault.encrypt_to(readers)
        data, _ = read_shared(folder)
    return [f"{name} can read nothing that is written from now on", *known_to_all(site, data)]


def known_to_all(site: Site, data: dict[str, Any]) -> list[str]:
    """Return what everybody who could read the secrets knows, as the commands that replace it.

    Args:
        site: the site.
        data: the content of shared.yaml.
    """
    lines = []
    for one in held(data):
        words = [one.app, one.kind.name] if one.app else [one.kind.name]
        ends = _command(site, words, finish=bool(one.kind.days))
        lines += _replacing(_command(site, words), ends, state_of(data, one) != "settled")
    command = _command(site, [AUTHORITY])
    is_begun = authority_state(site.path / "secrets") != "settled"
    lines += _replacing(f"{command} (its key can sign for any host)", command, is_begun)
    lines.append(
        "an old SECRET_KEY is good for 14 days still; finish=True ends it at once, and the sessions it has signed"
    )
    for app, about in sorted((data.get("apps") or {}).items()):
        for variable in sorted((about or {}).get("env") or {}):
            lines.append(f"replace at whoever issued it, then by site.secrets edit: apps.{app}.env.{variable}")
    for host in held_by_hosts(site):
        edge = host.get("edge")
        with contextlib.suppress(Exception):
            if edge and is_foreign(_pair(edge)):
                lines.append("the edge's own certificate was not in these files, and stays")
                break
    lines.append("what was read before is in Git's history, encrypted to that key: only replacing it helps")
    return lines


def _command(site: Site, words: list[str], finish: bool = False) -> str:
    """Return what replaces a secret: over a fleet with a master the orchestration."""
    if site.fleet.with_role("master"):
        return orchestration(words, finish)
    return f"salt-call site.rotate {' '.join(words)}{' finish=True' if finish else ''}"


def _replacing(command: str, ends: str, is_begun: bool) -> list[str]:
    """Return what to type; a rotation that has begun goes to its end first: its new secret was read too."""
    if not is_begun:
        return [f"replace what was known: {command}"]
    return [
        f"replace what was known, first: {ends} (ends the replacement that was begun, whose new one was known too)",
        f"replace what was known, then: {command}",
    ]


def _pair(edge: dict[str, str]) -> Any:
    from .certificates import Pair

    return Pair(edge["cert"], edge["key"])


def edit(site: Site, run: Callable[[list[str]], int] | None = None) -> list[str]:
    """Open shared.yaml in an editor; what is saved is checked, encrypted again, and given to the hosts' files.

    It is in clear in memory only, in a folder that nobody else can enter, and gone when the editor has ended.

    Args:
        site: the checked site.
        run: starts a command and answers its exit code; by default it has this terminal.
    """
    folder = site.path / "secrets"
    vault = Vault(folder)
    with locked(folder):
        vault.clear_away()
        before = vault.read(SHARED) if vault.exists(SHARED) else ""
    if not before:
        generate_secrets(site)
        before = vault.read(SHARED)
    with in_memory() as memory, _ended_by_signals():
        path = memory / SHARED
        replace_file(path, before)
        while True:
            if (run or _on_terminal)([*_editor(), str(path)]):
                raise TeamError("the editor has failed; nothing was changed")
            after = path.read_text(encoding="utf-8")
            problems = _faults(after)
            if not problems:
                break
            if run or not sys.stdin.isatty():
                raise SiteError(problems)
            print("\n".join(map(str, problems)))
            if input("Edit again? (else nothing is changed) [Y/n] ").strip().lower().startswith("n"):
                raise SiteError(problems)
    if after == before:
        return ["nothing was changed"]
    with locked(folder):
        if vault.read(SHARED) != before:
            raise TeamError("somebody else has changed the secrets meanwhile; nothing was changed, edit again")
        vault.write(f"{SHARED}.last", before)
        vault.write(SHARED, after)
    return ["shared.yaml: changed", *generate_secrets(site)]


def _faults(text: str) -> list[Problem]:
    from pydantic import ValidationError

    document = parse_document(SHARED, text)
    if document.problems:
        return document.problems
    if not isinstance(document.data, dict):
        return [document.problem((), "is empty; allowed: the keys apps, replication_password")]
    try:
        Shared.model_validate(document.data)
    except ValidationError as error:
        # What is missing is made; only what is wrong stops.
        return [p for p in explain(error, Shared, document) if not p.message.startswith("missing")]
    return []


def _editor() -> list[str]:
    import shutil

    for name in (os.environ.get("VISUAL"), os.environ.get("EDITOR"), *EDITORS):
        words = shlex.split(name or "")
        if words and shutil.which(words[0]):
            return words
    raise TeamError(f"no editor; name one in EDITOR (looked for: {', '.join(EDITORS)})")


def _on_terminal(command: list[str]) -> int:
    return subprocess.run(command, check=False).returncode


@contextlib.contextmanager
def _ended_by_signals() -> Iterator[None]:
    """Let the signals that end a process end the body, so that what it has in memory is removed."""

    def end(number: int, _frame: object) -> NoReturn:
        raise SystemExit(128 + number)

    before = {number: signal.signal(number, end) for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _public_key(given: str) -> str:
    text = given.strip()
    if text.startswith(("/", "~", "./")):
        try:
            text = Path(text).expanduser().read_text(encoding="utf-8").strip()
        except (OSError, UnicodeError) as error:
            raise TeamError(f"{given} cannot be read: {getattr(error, 'strerror', None) or 'no text'}") from None
    if "PRIVATE" in text or text.startswith("AGE-SECRET-KEY"):
        raise TeamError("that is a private key, which only its owner may have; give the public half")
    if not KEY.fullmatch(text):
        raise TeamError(f"no public key that age knows; allowed: {ALLOWED}")
    return text


def _machine_key(path: Path = MACHINE_KEY) -> str:
    """Return the public half of the server's own key, which is made when it is missing."""
    if not path.exists():
        path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        replace_file(path, _keygen([]))
    return _keygen(["-y", str(path)]).strip()


def _keygen(arguments: list[str]) -> str:
    try:
        return subprocess.run(["age-keygen", *arguments], capture_output=True, text=True, check=True).stdout
    except FileNotFoundError:
        raise TeamError("age is not installed on this machine: apt-get install age") from None
    except subprocess.CalledProcessError as error:
        raise TeamError(f"age-keygen: {error.stderr.strip()}") from None
