"""Locks: which version and which hashes of every package belong to an app. Taken from the source, or resolved once.

What is resolved here is recorded under a key made of everything that was asked, and never resolved again: the same
question has the same answer on this builder for ever, whatever the index offers meanwhile.
"""

from __future__ import annotations

import configparser
import hashlib
import json
import re
import shutil
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from salt.exceptions import CommandExecutionError

# The app is served by Saltern's gunicorn, with options that came in this version, whatever the app would take.
GUNICORN, LEAST_GUNICORN = "gunicorn>=27", 27
# Looked for in this order where the app's file names no lock.
LOCKS = ("uv.lock", "requirements.txt")
# What can be resolved where there is no lock.
ASKS = ("pyproject.toml", "requirements.in", "requirements.txt")
PIN = re.compile(r"^(?P<name>[A-Za-z0-9][A-Za-z0-9._-]*)(\[[^\]]*\])?\s*==\s*(?P<version>[^\s;,*]+)\s*(;|--hash|$)")
PIP_FILES = ("/etc/xdg/pip/pip.conf", "/etc/pip.conf", "~/.pip/pip.conf", "~/.config/pip/pip.conf")
HOW = "make it by `uv pip compile --generate-hashes requirements.in -o requirements.txt` or `uv lock`"


# --- pure ---------------------------------------------------------------------------------------------------


def logical_lines(text: str) -> list[tuple[int, str]]:
    """Reads a requirements file: lines without comments, those that end with a backslash joined to the next.

    Args:
        text: the file.

    Returns:
        Line number and text of each.

    Example:
        >>> logical_lines("# a lock\\ndjango==5.2 \\\\\\n  --hash=sha256:ab")
        [(2, 'django==5.2 --hash=sha256:ab')]
    """
    lines, start, joined = [], 0, ""
    for number, line in enumerate(text.splitlines(), 1):
        if not joined:
            start = number
        line = re.sub(r"(^|\s)#.*$", "", line).rstrip()
        joined += line.removesuffix("\\")
        if not line.endswith("\\"):
            if joined.strip():
                lines.append((start, " ".join(joined.split())))
            joined = ""
    if joined.strip():
        lines.append((start, " ".join(joined.split())))
    return lines


def problems(text: str) -> list[str]:
    """Looks for what keeps a requirements file from being a lock: anything without a version and a hash.

    Args:
        text: the file.

    Returns:
        One sentence per problem, with the line number where it starts.

    Example:
        >>> problems("django>=5.2")
        ['line 1: "django>=5.2" has no exact version (==) and no --hash=sha256:']
    """
    found, packages = [], 0
    for number, line in logical_lines(text):
        if line.startswith("-"):
            found.append(
                f'line {number}: option "{line.split()[0]}" is not allowed: indexes come from the settings of pip '
                "on the builder (/etc/pip.conf), and all requirements stand in this one file"
            )
            continue
        packages += 1
        missing = []
        if not PIN.match(line):
            missing.append("no exact version (==)")
        if "--hash=sha256:" not in line:
            missing.append("no --hash=sha256:")
        if missing:
            found.append(f'line {number}: "{line.split(" --hash")[0]}" has {" and ".join(missing)}')
    if not packages and not found:
        found.append("it names no package at all")
    return found


def package(name: str) -> str:
    """Answers a package's name as indexes compare it (PEP 503).

    Example:
        >>> package("Typing_Extensions")
        'typing-extensions'
    """
    return re.sub(r"[-_.]+", "-", name).lower()


def pins(text: str) -> dict[str, str]:
    """Answers the version of each package in a lock, by comparable name.

    Example:
        >>> pins("Django==5.2 --hash=sha256:ab")
        {'django': '5.2'}
    """
    matches = [PIN.match(line) for _, line in logical_lines(text)]
    return {package(match["name"]): match["version"] for match in matches if match}


def is_old_gunicorn(version: str) -> bool:
    """Whether a version of gunicorn is older than Saltern's settings need.

    Example:
        >>> is_old_gunicorn("26.2.0")
        True
    """
    match = re.match(r"\d+", version)
    return not match or int(match[0]) < LEAST_GUNICORN


def joined(lock: str, more: str) -> str:
    """Adds to a lock the packages that it lacks; its own lines stay as they are, but for a gunicorn that is too old.

    Args:
        lock: a lock.
        more: another one.

    Example:
        >>> joined("a==1 --hash=sha256:aa", "a==2 --hash=sha256:bb\\nb==1 --hash=sha256:cc")
        'a==1 --hash=sha256:aa\\nb==1 --hash=sha256:cc\\n'
    """
    kept = [line for _, line in logical_lines(lock) if not _is_replaced(line)]
    there = pins("\n".join(kept))
    added = [
        line for _, line in logical_lines(more) if not (match := PIN.match(line)) or package(match[1]) not in there
    ]
    return "".join(f"{line}\n" for line in [*kept, *added])


def _is_replaced(line: str) -> bool:
    match = PIN.match(line)
    return bool(match) and package(match["name"]) == "gunicorn" and is_old_gunicorn(match["version"])


def key(question: Mapping[str, Any]) -> str:
    """Answers the name under which the answer to a question is recorded.

    Args:
        question: everything that the answer depends on, JSON values.

    Example:
        >>> len(key({"requirements": ["bugsink==2.6.1"], "python": "3.13"}))
        16
    """
    return hashlib.sha256(json.dumps(question, sort_keys=True).encode()).hexdigest()[:16]


def uv_environment(settings: Mapping[str, str]) -> dict[str, str]:
    """Translates pip's settings to the variables of uv that mean the same.

    Args:
        settings: values by pip's long names, such as ``index-url``.

    Returns:
        Variables by name. Not arguments: an index's URL may hold a password.

    Example:
        >>> uv_environment({"index-url": "https://index.example/simple", "timeout": "60"})
        {'UV_DEFAULT_INDEX': 'https://index.example/simple', 'UV_HTTP_TIMEOUT': '60'}
    """
    names = {
        "index-url": ["UV_DEFAULT_INDEX"],
        "extra-index-url": ["UV_INDEX"],
        "find-links": ["UV_FIND_LINKS"],
        "trusted-host": ["UV_INSECURE_HOST"],
        "cert": ["SSL_CERT_FILE"],
        "timeout": ["UV_HTTP_TIMEOUT"],
        "proxy": ["HTTPS_PROXY", "HTTP_PROXY"],
    }
    found = {
        variable: " ".join(settings[name].split()) for name in names if name in settings for variable in names[name]
    }
    if "find-links" in settings:
        found["UV_FIND_LINKS"] = ",".join(settings["find-links"].split())
    if settings.get("no-index", "").lower() in ("1", "yes", "true", "on"):
        found["UV_NO_INDEX"] = "1"
    return found


def pip_files() -> tuple[str, ...]:
    """Answers where pip looks for its settings on this host, in its order."""
    return PIP_FILES


def pip_settings(files: Iterable[str], environment: Mapping[str, str]) -> dict[str, str]:
    """Reads pip's settings as pip does: its files, the later ones over the earlier, and its variables over them.

    Args:
        files: paths; those that do not exist are passed over.
        environment: variables of the process.

    Example:
        >>> pip_settings([], {"PIP_INDEX_URL": "https://index.example/simple"})
        {'index-url': 'https://index.example/simple'}
    """
    parser = configparser.RawConfigParser()
    parser.read([Path(file).expanduser() for file in [*files, environment.get("PIP_CONFIG_FILE", "")] if file])
    found = {
        name: value
        for section in ("global", "wheel")
        if parser.has_section(section)
        for name, value in parser.items(section)
    }
    found |= {
        name.removeprefix("PIP_").lower().replace("_", "-"): value
        for name, value in environment.items()
        if name.startswith("PIP_") and value
    }
    if "default-timeout" in found:
        found.setdefault("timeout", found.pop("default-timeout"))
    return found


# --- on the builder -----------------------------------------------------------------------------------------


def look(app: str, directory: Path | None, settings: dict[str, Any], python: str, debian: str) -> dict[str, Any]:
    """Answers what an app's lock is made of. Changes nothing and asks no index.

    Args:
        app: the app's name.
        directory: its source; None when the app is a requirement alone.
        settings: the app's settings from the pillar: source, lock, requirements.
        python: version of the builder's Python.
        debian: its Debian release.

    Returns:
        Either ``text``, the lock as it stands in the source; or ``question``, whose answer has to be recorded.
        ``base`` is the name of the lock in the source, or None, ``asked`` that of the file to resolve, or None.

    Raises:
        CommandExecutionError: the named lock is missing or no lock, or there is nothing to resolve.
    """
    base, asked = _base(app, directory, settings), None
    if directory and not base:
        asked = next((name for name in ASKS if (directory / name).is_file()), None)
        if not asked:
            raise CommandExecutionError(
                f"apps/{app}.yaml: source: {directory} has none of {', '.join(dict.fromkeys([*LOCKS, *ASKS]))}, so "
                f"nobody knows which packages the app needs. Best is a lock: {HOW}."
            )
    more = list(settings["requirements"])
    if requirement := settings["source"].get("requirement"):
        more.insert(0, requirement)
    text = (directory / base).read_text() if directory and base else None
    if base and base != "uv.lock" and text is not None:
        _checked(text, str(directory / base) if directory else base)
        gunicorn = pins(text).get("gunicorn")
        if not more and gunicorn and not is_old_gunicorn(gunicorn):
            return {"text": text, "base": base, "asked": None}
    read = [name for name in (base, asked, "pyproject.toml" if base == "uv.lock" else None) if name]
    digests = {name: hashlib.sha256((directory / name).read_bytes()).hexdigest() for name in read if directory}
    question = {"files": digests, "requirements": more, "gunicorn": GUNICORN, "python": python, "debian": debian}
    return {"question": question, "base": base, "asked": asked}


def _base(app: str, directory: Path | None, settings: dict[str, Any]) -> str | None:
    named: str | None = settings["lock"]
    if not directory:
        return None
    if named:
        if not (directory / named).is_file():
            raise CommandExecutionError(
                f"apps/{app}.yaml: lock: there is no {directory / named}. It shall name every package with version "
                f"and hash; {HOW}. Or take the key out: then the builder resolves once and records the lock."
            )
        return named
    for name in LOCKS:
        path = directory / name
        # A requirements.txt without a single hash is a list of wishes, not a lock.
        if path.is_file() and (name == "uv.lock" or "--hash=" in path.read_text()):
            return name
    return None


def _checked(text: str, what: str) -> str:
    if found := problems(text):
        more = f"; and {len(found) - 5} more" if len(found) > 5 else ""
        raise CommandExecutionError(
            f"{what} is not a lock: {'; '.join(found[:5])}{more}. "
            f"Every package needs its exact version and hashes: {HOW}."
        )
    return text


def resolve(
    found: dict[str, Any], directory: Path | None, work: Path, uv: str, run: Callable[..., str], index: dict[str, str]
) -> str:
    """Answers the lock that is not in the source: resolved by uv, or exported from uv.lock, gunicorn and all.

    Args:
        found: what ``look`` has found.
        directory: the app's source, or None.
        work: an empty directory that uv may write to.
        uv: path of uv.
        run: ``appfiles.run``.
        index: uv's variables that say where packages come from.

    Raises:
        CommandExecutionError: uv failed, or what it says is no lock.
    """
    lock = ""
    if directory and found["base"] == "uv.lock":
        for name in ("uv.lock", "pyproject.toml"):
            shutil.copy(directory / name, work / name)
        lock = run(
            [
                uv, "export", "--frozen", "--offline", "--quiet", "--no-config", "--no-dev", "--no-emit-workspace",
                "--no-header", "--no-annotate", "--no-python-downloads", "--format", "requirements-txt",
                "--python", f"/usr/bin/python{found['question']['python']}",
            ],
            cwd=work,
        )  # fmt: skip
    elif directory and found["base"]:
        lock = (directory / found["base"]).read_text()
    there = pins(_checked(lock, found["base"])) if lock else {}
    wanted = list(found["question"]["requirements"])
    if "gunicorn" not in there or is_old_gunicorn(there["gunicorn"]):
        wanted.append(GUNICORN)
    if not wanted and lock:
        return lock
    inputs = [str(directory / found["asked"])] if directory and found["asked"] else []
    (work / "wanted.in").write_text("".join(f"{line}\n" for line in wanted))
    kept = [line for _, line in logical_lines(lock) if not _is_replaced(line)]
    (work / "pins.txt").write_text("".join(f"{re.sub(r' (--hash.*|;? *--hash.*)$', '', line)}\n" for line in kept))
    (work / "overrides.txt").write_text(f"{GUNICORN}\n")
    more = run(
        [
            uv, "pip", "compile", "--quiet", "--no-config", "--no-cache", "--no-python-downloads", "--generate-hashes",
            "--no-header", "--no-annotate", "--no-emit-index-url", "--no-emit-find-links",
            "--python", f"/usr/bin/python{found['question']['python']}",
            "--constraints", str(work / "pins.txt"), "--overrides", str(work / "overrides.txt"),
            *inputs, str(work / "wanted.in"),
        ],
        cwd=work,
        env=index,
        timeout=1200,
    )  # fmt: skip
    return _checked(joined(lock, more), "what uv has resolved")
