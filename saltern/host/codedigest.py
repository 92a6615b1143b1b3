"""One word for all of our Salt extensions, the same on the master that has them and on a minion that got them."""

from __future__ import annotations

import hashlib
from pathlib import Path


def of(folder: str | Path, kinds: str) -> str:
    """Return a digest of Salt extensions: their kinds, names and contents.

    Args:
        folder: has a folder for each kind.
        kinds: a glob of those: ``_*`` in the file server's root, ``*`` where Salt synced them to.

    Returns:
        64 hex digits.

    Raises:
        OSError: a file cannot be read.

    Example:
        >>> of("/srv/saltern/salt", "_*") == of("/var/cache/salt/minion/extmods", "*")
        True
    """
    digest = hashlib.sha256()
    found: dict[str, Path] = {}
    for kind in Path(folder).glob(kinds):
        # Our package is a link in the file server's root, and glob follows none: it is looked into by name.
        below = [path for path in kind.iterdir() if path.is_dir()] if kind.is_dir() else []
        files = [*kind.glob("*.py"), *(path for one in below for path in one.rglob("*.py"))]
        found |= {f"{kind.name.lstrip('_')}/{path.relative_to(kind)}": path for path in files}
    for name, path in sorted(found.items()):
        digest.update(f"{name} {hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
    return digest.hexdigest()
