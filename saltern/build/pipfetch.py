"""Fetches packages from the index and runs nothing of them. A program: pip's own Python runs it in a sandbox.

pip asks a source package for its metadata by running it (``setup.py egg_info`` and the like), even for `pip download`.
Here it reads the package's PKG-INFO instead, so that the network and a package's code never meet: fetching has the one,
building the other. Whatever would start another program is an error.
"""

from __future__ import annotations

import importlib
import json
import re
import sys
import tomllib
from pathlib import Path
from typing import Any

# What a package without a word on it is built by (PEP 517).
USUAL = ("setuptools>=40.8.0", "wheel")
STARTS = ("subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.fork", "os.forkpty", "os.spawn")
LARGEST = 4 * 1024 * 1024


def program() -> str:
    """Return the text of this program.

    Example:
        >>> "pip" in program()
        True
    """
    return Path(__file__).read_text(encoding="utf-8")


def build_requirements(pyproject: str | None) -> list[str]:
    """Return what a source package needs in order to be built, as its pyproject.toml says.

    Args:
        pyproject: that file, or None.

    Returns:
        Requirements; those that are none are left out, and building will say what is missing.

    Example:
        >>> build_requirements('[build-system]\\nrequires = ["hatchling", "evil @ https://example.com/x"]')
        ['hatchling']
    """
    try:
        found = tomllib.loads(pyproject or "").get("build-system", {}).get("requires", USUAL)
    except (tomllib.TOMLDecodeError, AttributeError):
        return list(USUAL)
    return [one for one in found if isinstance(one, str) and is_plain(one)] if isinstance(found, list | tuple) else []


def is_plain(requirement: str) -> bool:
    """Return whether a requirement is a name, extras, versions and a marker: no URL, no option, no path, one line.

    Example:
        >>> [is_plain(one) for one in ("ninja>=1.5", "a @ file:///etc/shadow", "--index-url=x", "a\\n-r x", "./a")]
        [True, False, False, False, False]
    """
    name = r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,80}[A-Za-z0-9])?"
    version = r"\s*(?:[<>=!~]=?=?\s*[A-Za-z0-9.*+!_-]{1,60}\s*,?\s*){0,10}"
    extras = r"(?:\s*\[[A-Za-z0-9 ,._-]{0,200}\])?"
    marker = r"(?:\s*;[A-Za-z0-9 '\"<>=!~().,_-]{1,300})?"
    return bool(re.fullmatch(rf"{name}{extras}(?:{version}|\s*\({version}\)){marker}", requirement))


def _refuse(event: str, arguments: tuple[Any, ...]) -> None:
    if event.startswith(STARTS):
        raise PermissionError(f"fetching starts no program ({event})")  # pip asks lsb_release, and takes this for none


def main() -> int:
    """Fetch as its one argument says, and print what each source package needs in order to be built."""
    asked = json.loads(sys.argv[1])
    for one in ("pip._internal.cli.main", "pip._internal.operations.prepare", "pip._internal.commands.download"):
        importlib.import_module(one)
    # What a stranger has written may not have our variables, in which the index's password may stand.
    files: Any = importlib.import_module("pip._internal.req.req_file")
    files.expand_env_variables = lambda lines: lines
    prepare: Any = sys.modules["pip._internal.operations.prepare"]
    metadata: Any = importlib.import_module("pip._internal.metadata")
    usual, needs = prepare._get_prepared_distribution, {}

    def without_running(req: Any, *rest: Any, **named: Any) -> Any:
        if req.is_wheel:
            return usual(req, *rest, **named)
        place = Path(req.unpacked_source_directory)
        needs[req.link.filename] = build_requirements(_read(place / "pyproject.toml"))
        about = _read(place / "PKG-INFO")
        if about is None:
            stem = re.sub(r"\.(tar\.(gz|bz2|xz)|tgz|zip)$", "", req.link.filename)
            name, _, version = stem.rpartition("-")
            about = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
        own = re.search(r"(?mi)^name:\s*(\S+)", about)
        found = own[1] if own else req.name or ""
        packaging: Any = importlib.import_module("pip._vendor.packaging.utils")
        wanted = packaging.canonicalize_name(found)
        return metadata.get_metadata_distribution(about.encode(), req.link.filename, wanted)

    prepare._get_prepared_distribution = without_running
    sys.addaudithook(_refuse)
    argv = ["download", "--quiet", "--dest", asked["to"], "--no-cache-dir", "--prefer-binary", *asked["arguments"]]
    code: int = sys.modules["pip._internal.cli.main"].main(argv)
    print(json.dumps(needs))
    return code


def _read(path: Path) -> str | None:
    """Return a small file of a package; a stranger has made it, but nothing is to be seen here that is not his."""
    if path.is_symlink() or not path.is_file() or path.stat().st_size > LARGEST:
        return None
    return path.read_text(encoding="utf-8", errors="replace")


if __name__ == "__main__" and len(sys.argv) == 2:
    sys.exit(main())
