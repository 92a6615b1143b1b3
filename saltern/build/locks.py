"""Locks: which version and which hashes of every package belong to an app. Taken from the source, or resolved once.

What is resolved here is recorded under a key made of everything that was asked, and never resolved again: the same
question has the same answer on this builder for ever, whatever the index offers meanwhile.
"""

from __future__ import annotations

import configparser
import hashlib
import json
import re
import tomllib
from collections.abc import Iterable, Mapping
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
# Of pip's settings those that say where packages come from, and how to get there.
FROM = (
    "index-url", "extra-index-url", "find-links", "no-index", "trusted-host", "cert", "client-cert", "proxy", "timeout",
    "retries", "pre", "only-binary", "no-binary",
)  # fmt: skip
PIP_FILES = ("/etc/xdg/pip/pip.conf", "/etc/pip.conf", "~/.pip/pip.conf", "~/.config/pip/pip.conf")
COMMENT = re.compile(r"(^|\s)#.*$")
# What pip and uv put a variable in the place of; in theirs the index's password may stand.
VARIABLE = "${"
# Of a pyproject.toml, what uv reads in order to resolve.
READ_BY_UV = (
    ("project", "dependencies"), ("project", "optional-dependencies"), ("build-system",), ("dependency-groups",),
    ("tool", "uv"),
)  # fmt: skip
HOW = "make it by `uv pip compile --generate-hashes requirements.in -o requirements.txt` or `uv lock`"


# --- pure ---------------------------------------------------------------------------------------------------


def logical_lines(text: str) -> list[tuple[int, str]]:
    """Read a requirements file: lines without comments, those that end with a backslash joined to the next.

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
        goes_on = line.endswith("\\")  # before comments go, as pip has it
        line = COMMENT.sub("", line).rstrip()
        joined += line.removesuffix("\\") if goes_on else line
        if not goes_on:
            if joined.strip():
                lines.append((start, " ".join(joined.split())))
            joined = ""
    if joined.strip():
        lines.append((start, " ".join(joined.split())))
    return lines


def problems(text: str) -> list[str]:
    """Look for what keeps a requirements file from being a lock: anything without a version and a hash.

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
        options = [word for word in line.split()[1:] if word.startswith("-") and not word.startswith("--hash=sha256:")]
        if VARIABLE in line or "\\" in line or options:
            found.append(f"line {number}: it may hold a name, a version and hashes; no variable, backslash, option")
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


def variables(name: str, text: str) -> bool:
    """Return whether a file of a source names variables where pip and uv would put in their values.

    Args:
        name: the file's.
        text: what it holds. A pyproject.toml that is none is searched whole.

    Example:
        >>> variables("requirements.in", "a @ https://example.com/?${HOME}"), variables("requirements.in", "a")
        (True, False)
    """
    if name.rpartition("/")[2] != "pyproject.toml":
        return VARIABLE in text
    try:
        whole = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError):
        return VARIABLE in text
    for path in READ_BY_UV:
        part: Any = whole
        for key in path:
            part = part.get(key) if isinstance(part, dict) else None
        if VARIABLE in json.dumps(part, default=str):
            return True
    return False


def rewritten(lock: str) -> str:
    """Return a lock as it was read: one line per package, so that pip and uv can read nothing else in it.

    Example:
        >>> rewritten("a==1 \\\\\\n  --hash=sha256:aa  # why")
        'a==1 --hash=sha256:aa\\n'
    """
    return "".join(f"{line}\n" for _, line in logical_lines(lock))


def package(name: str) -> str:
    """Return a package's name as indexes compare it (PEP 503).

    Example:
        >>> package("Typing_Extensions")
        'typing-extensions'
    """
    return re.sub(r"[-_.]+", "-", name).lower()


def pins(text: str) -> dict[str, str]:
    """Return the version of each package in a lock, by comparable name.

    Example:
        >>> pins("Django==5.2 --hash=sha256:ab")
        {'django': '5.2'}
    """
    matches = [PIN.match(line) for _, line in logical_lines(text)]
    return {package(match["name"]): match["version"] for match in matches if match}


def is_old_gunicorn(version: str) -> bool:
    """Return whether a version of gunicorn is older than Saltern's settings need.

    Example:
        >>> is_old_gunicorn("26.2.0")
        True
    """
    match = re.match(r"\d+", version)
    return not match or int(match[0]) < LEAST_GUNICORN


def joined(lock: str, more: str) -> str:
    """Add to a lock the packages that it lacks; its own lines stay as they are, but for a gunicorn that is too old.

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
    return match is not None and package(match["name"]) == "gunicorn" and is_old_gunicorn(match["version"])


def key(question: Mapping[str, Any]) -> str:
    """Return the name under which the answer to a question is recorded.

    Args:
        question: everything that the answer depends on, JSON values.

    Example:
        >>> len(key({"requirements": ["bugsink==2.6.1"], "python": "3.13"}))
        16
    """
    return hashlib.sha256(json.dumps(question, sort_keys=True).encode()).hexdigest()[:16]


def uv_settings(settings: Mapping[str, str], environment: Mapping[str, str]) -> dict[str, Any]:
    """Translate pip's settings to those of uv's file that mean the same, and may hold a password.

    uv puts variables into what it reads, so no password may be in one; and everybody sees arguments.

    Args:
        settings: values by pip's long names, such as ``index-url``.
        environment: variables that name proxies.

    Returns:
        Settings by name.

    Example:
        >>> uv_settings({"index-url": "https://index.example/simple", "timeout": "60"}, {})
        {'index-url': 'https://index.example/simple'}
    """
    found: dict[str, Any] = {}
    if "index-url" in settings:
        found["index-url"] = settings["index-url"].strip()
    for name in ("extra-index-url", "find-links"):
        if name in settings:
            found[name] = settings[name].split()
    if settings.get("no-index", "").lower() in ("1", "yes", "true", "on"):
        found["no-index"] = True
    proxies = {name.lower(): value for name, value in environment.items()}
    for name in ("https", "http"):
        if one := settings.get("proxy") or proxies.get(f"{name}_proxy") or proxies.get("all_proxy"):
            found[f"{name}-proxy"] = one
    if proxies.get("no_proxy"):
        found["no-proxy"] = proxies["no_proxy"].replace(",", " ").split()
    return found


def uv_environment(settings: Mapping[str, str]) -> dict[str, str]:
    """Translate those of pip's settings that are no secret to the variables of uv that mean the same.

    Args:
        settings: values by pip's long names.

    Example:
        >>> uv_environment({"index-url": "https://index.example/simple", "timeout": "60"})
        {'UV_HTTP_TIMEOUT': '60'}
    """
    names = {"trusted-host": "UV_INSECURE_HOST", "cert": "SSL_CERT_FILE", "timeout": "UV_HTTP_TIMEOUT"}
    return {variable: " ".join(settings[name].split()) for name, variable in names.items() if name in settings}


def uv_program() -> str:
    """Return a program that runs uv with settings from its stdin, in a file without a name.

    Example:
        >>> "memfd" in uv_program()
        True
    """
    return (
        "import json, os, sys\n"
        "file = os.memfd_create('uv.toml', 0)\n"
        "for name, value in json.load(sys.stdin).items():\n"
        "    os.write(file, f'{name} = {json.dumps(value)}\\n'.encode())\n"
        "os.lseek(file, 0, 0)\n"
        "os.execv(sys.argv[1], [*sys.argv[1:], '--config-file', f'/proc/self/fd/{file}'])\n"
    )


def pip_environment(settings: Mapping[str, str]) -> dict[str, str]:
    """Return those of pip's settings that say where packages come from, as variables; not as arguments, see above.

    Args:
        settings: values by pip's long names.

    Example:
        >>> pip_environment({"index-url": "https://index.example/simple", "user": "true"})
        {'PIP_INDEX_URL': 'https://index.example/simple'}
    """
    return {
        f"PIP_{name.upper().replace('-', '_')}": " ".join(settings[name].split()) for name in FROM if name in settings
    }


def local_paths(settings: Mapping[str, str]) -> list[str]:
    """Return the paths on this host that pip's settings name: folders that stand for an index, certificates.

    Args:
        settings: values by pip's long names.

    Example:
        >>> local_paths({"find-links": "/srv/wheels https://example.com/", "cert": "/etc/ca.pem"})
        ['/srv/wheels', '/etc/ca.pem']
    """
    named = [word for name in FROM for word in settings.get(name, "").split()]
    return [word.removeprefix("file://") for word in named if word.startswith(("/", "file:///"))]


def hashes(text: str) -> set[str]:
    """Return all hashes of a lock.

    Example:
        >>> hashes("a==1 --hash=sha256:aa --hash=sha256:bb") == {"aa", "bb"}
        True
    """
    return set(re.findall(r"--hash=sha256:([0-9a-f]+)", text))


def unbuilt(said: str) -> list[tuple[str, str]]:
    """Return which packages uv could not look at because they come as source, and the version where it says one.

    Args:
        said: what uv printed.

    Example:
        >>> unbuilt("Because docopt==0.6.2 has no usable wheels ...\\nhint: Wheels are required for `docopt` because")
        [('docopt', '0.6.2')]
    """
    found = {}
    for name in re.findall(r"Wheels are required for `([A-Za-z0-9._-]+)`", said):
        version = re.search(rf"(?<![\w.-]){re.escape(name)}==([A-Za-z0-9.!+_-]+?)(?=[\s,;]|\.?$)", said, re.MULTILINE)
        found[name] = version[1] if version else ""
    return sorted(found.items())


def with_sources(text: str, sources: Mapping[str, tuple[str, str]]) -> str:
    """Return a lock in which packages that come as source have their source's hash, whatever they were built to.

    Args:
        text: the lock.
        sources: version and SHA-256 of the source by comparable name.

    Example:
        >>> with_sources("a==1 --hash=sha256:ff\\nb==1 --hash=sha256:aa", {"b": ("1", "cc")})
        'a==1 --hash=sha256:ff\\nb==1 --hash=sha256:cc\\n'
    """
    lines = []
    for _, line in logical_lines(text):
        match = PIN.match(line)
        own = sources.get(package(match["name"])) if match else None
        if match and own and own[0] == match["version"]:
            line = f"{line.partition(' --hash')[0]} --hash=sha256:{own[1]}"
        lines.append(f"{line}\n")
    return "".join(lines)


def names() -> tuple[str, ...]:
    """Return the files of a source that locks are made of."""
    return tuple(dict.fromkeys([*LOCKS, *ASKS]))


def pip_files() -> tuple[str, ...]:
    """Return where pip looks for its settings on this host, in its order."""
    return PIP_FILES


def pip_settings(files: Iterable[str], environment: Mapping[str, str]) -> dict[str, str]:
    """Read pip's settings as pip does: its files, the later ones over the earlier, and its variables over them.

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
        for section in ("global", "download", "wheel")
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


def look(
    app: str, what: str, texts: Mapping[str, str] | None, settings: dict[str, Any], python: str, debian: str
) -> dict[str, Any]:
    """Return what an app's lock is made of. Changes nothing and asks no index.

    Args:
        app: the app's name.
        what: its source, in a few words.
        texts: the source's files of ``names`` and the named lock, as far as they are there; None when the app is a
            requirement alone.
        settings: the app's settings from the pillar: source, lock, requirements.
        python: version of the builder's Python.
        debian: its Debian release.

    Returns:
        Either ``text``, the lock as it stands in the source; or ``question``, whose answer has to be recorded.
        ``base`` is the name of the lock in the source, or None, ``asked`` that of the file to resolve, or None.

    Raises:
        CommandExecutionError: the named lock is missing or no lock, or there is nothing to resolve.
    """
    base, asked = _base(app, what, texts, settings), None
    if texts is not None and not base:
        asked = next((name for name in ASKS if name in texts), None)
        if not asked:
            raise CommandExecutionError(
                f"apps/{app}.yaml: source: {what} has none of {', '.join(names())}, so "
                f"nobody knows which packages the app needs. Best is a lock: {HOW}."
            )
    more = list(settings["requirements"])
    if requirement := settings["source"].get("requirement"):
        more.insert(0, requirement)
    text = texts[base] if texts is not None and base else None
    if base and base != "uv.lock" and text is not None:
        checked(text, f"{what}/{base}")
        gunicorn = pins(text).get("gunicorn")
        if not more and gunicorn and not is_old_gunicorn(gunicorn):
            return {"text": text, "base": base, "asked": None}
    read = [name for name in (base, asked, "pyproject.toml" if base == "uv.lock" else None) if name]
    for name in read:
        if texts is not None and name in texts and variables(name, texts[name]):
            raise CommandExecutionError(
                f"{what}/{name} names a variable (${{...}}), which is not allowed where packages are named"
            )
    digests = {name: _digest(texts, name, what) for name in read} if texts is not None else {}
    question = {"files": digests, "requirements": more, "gunicorn": GUNICORN, "python": python, "debian": debian}
    return {"question": question, "base": base, "asked": asked}


def _digest(texts: Mapping[str, str], name: str, what: str) -> str:
    if name not in texts:
        raise CommandExecutionError(f"{what} has no {name}")
    return hashlib.sha256(texts[name].encode("utf-8", "surrogateescape")).hexdigest()


def _base(app: str, what: str, texts: Mapping[str, str] | None, settings: dict[str, Any]) -> str | None:
    named: str | None = settings["lock"]
    if texts is None:
        return None
    if named:
        if named not in texts:
            raise CommandExecutionError(
                f"apps/{app}.yaml: lock: there is no {what}/{named}. It shall name every package with version "
                f"and hash; {HOW}. Or take the key out: then the builder resolves once and records the lock."
            )
        return named
    for name in LOCKS:
        # A requirements.txt without a single hash is a list of wishes, not a lock.
        if name in texts and (name == "uv.lock" or "--hash=" in texts[name]):
            return name
    return None


def checked(text: str, what: str) -> str:
    """Return a lock as it is, if it is one.

    Args:
        text: the lock.
        what: where it comes from, for errors.

    Raises:
        CommandExecutionError: it is none; the message names the lines.
    """
    if found := problems(text):
        more = f"; and {len(found) - 5} more" if len(found) > 5 else ""
        raise CommandExecutionError(
            f"{what} is not a lock: {'; '.join(found[:5])}{more}. "
            f"Every package needs its exact version and hashes: {HOW}."
        )
    return text


def wanted(question: Mapping[str, Any], lock: str) -> list[str]:
    """Return what has to be resolved besides the files that are asked about: the site's own, and gunicorn.

    Args:
        question: what ``look`` has found.
        lock: the lock that the source has, or nothing.

    Example:
        >>> wanted({"requirements": ["sentry-sdk"]}, "gunicorn==27.0.1 --hash=sha256:ab")
        ['sentry-sdk']
    """
    there = pins(lock)
    found = list(question["requirements"])
    return [*found, GUNICORN] if "gunicorn" not in there or is_old_gunicorn(there["gunicorn"]) else found


def constraints(lock: str) -> str:
    """Return the pins of a lock as constraints for what is added to it.

    Example:
        >>> constraints("a==1 --hash=sha256:aa")
        'a==1\\n'
    """
    kept = [line for _, line in logical_lines(lock) if not _is_replaced(line)]
    return "".join(f"{re.sub(r' (--hash.*|;? *--hash.*)$', '', line)}\n" for line in kept)


def export_arguments(python: str) -> list[str]:
    """Return what uv is given to write a uv.lock, in its own directory, as a requirements file.

    Args:
        python: path of the interpreter.
    """
    return [
        "export", "--frozen", "--offline", "--quiet", "--no-config", "--no-dev", "--no-emit-workspace",
        "--no-header", "--no-annotate", "--no-python-downloads", "--no-cache", "--format", "requirements-txt",
        "--python", python,
    ]  # fmt: skip


def compile_arguments(python: str, folder: str, inputs: list[str]) -> list[str]:
    """Return what uv is given to resolve. It runs nobody's code: where it would have to, it says so.

    Args:
        python: path of the interpreter.
        folder: where pins.txt, overrides.txt and wanted.in are.
        inputs: further files to resolve.
    """
    return [
        "pip", "compile", "--quiet", "--no-config", "--no-cache", "--no-python-downloads", "--generate-hashes",
        "--no-build", "--no-header", "--no-annotate", "--no-emit-index-url", "--no-emit-find-links",
        "--python", python, "--constraints", f"{folder}/pins.txt", "--overrides", f"{folder}/overrides.txt",
        *inputs, f"{folder}/wanted.in",
    ]  # fmt: skip
