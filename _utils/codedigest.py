"""One word for all of our Salt extensions, the same on the master that has them and on a minion that got them."""

from __future__ import annotations

import hashlib
from pathlib import Path


def of(folder: str | Path, kinds: str) -> str:
    """Answers a digest of Salt extensions: their kinds, names and contents.

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
    found = {(path.parent.name.lstrip("_"), path.name): path for path in Path(folder).glob(f"{kinds}/*.py")}
    for (kind, name), path in sorted(found.items()):
        digest.update(f"{kind}/{name} {hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
    return digest.hexdigest()
