"""What goes into a build and comes out of it: an archive of the source, and the list of its wheels."""

from __future__ import annotations

import re
import tarfile
from pathlib import Path

WHEEL = re.compile(r"^(?P<name>[^-]+)-(?P<version>[^-]+)(-\d[^-]*)?-[^-]+-[^-]+-[^-]+\.whl$")


def requirements(hashes: dict[str, str]) -> str:
    """Write the requirements file that installs exactly the given wheels.

    Args:
        hashes: SHA-256 of each wheel, by file name.

    Returns:
        The text, one line per wheel, in order of name.

    Raises:
        ValueError: a name is not a wheel's.

    Example:
        >>> requirements({"rpc4django-0.6.3-py3-none-any.whl": "ab12"})
        'rpc4django==0.6.3 --hash=sha256:ab12\\n'
    """
    lines = []
    for filename in sorted(hashes):
        match = WHEEL.match(filename)
        if not match:
            raise ValueError(f"{filename} is not the name of a wheel")
        name = re.sub(r"[-_.]+", "-", match["name"]).lower()
        lines.append(f"{name}=={match['version']} --hash=sha256:{hashes[filename]}\n")
    return "".join(lines)


def unpack(archive: Path, directory: Path) -> None:
    """Unpack a source that ``sources.take_source`` packed, into a new directory.

    Args:
        archive: the .tar.gz.
        directory: where to; it is made.

    Example:
        >>> unpack(Path("src.tar.gz"), Path("src"))  # needs an archive  # doctest: +SKIP
    """
    directory.mkdir(parents=True, exist_ok=True)  # a requirement has no source, so the archive may be empty
    with tarfile.open(archive) as tar:
        # Refuses paths and links that lead outside. Debian 12's Python 3.11.2 does not have it yet; there the
        # verified hash of the archive is all.
        tar.extraction_filter = getattr(tarfile, "data_filter", None)
        tar.extractall(directory)  # noqa: S202 - see above
