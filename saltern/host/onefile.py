"""Our package as one Python file, for salt-ssh takes files of ``_utils`` along, and no folders.

``etc/ssh/roster`` runs this file by itself whenever salt-ssh reads its roster, which is before it packs what it takes
along; so it imports nothing of ours. Another content is another digest to salt-ssh, and hosts get it anew.
"""

from __future__ import annotations

import base64
import hashlib
import io
import os
import zipfile
from pathlib import Path

# Unpacks itself beside itself, once, and is the package from then on: its folder is real, for some of our modules are
# programs that are read from their files.
HEAD = '''"""The package saltern/ of this fleet's repository; made by saltern/host/onefile.py."""

import base64, io, os, pathlib, shutil, tempfile, zipfile

_here = pathlib.Path(__file__).resolve().parent
_place = _here / ".saltern-{digest}"
if not _place.is_dir():
    _made = tempfile.mkdtemp(dir=_here)
    zipfile.ZipFile(io.BytesIO(base64.b64decode("{content}"))).extractall(_made)
    try:
        os.rename(_made, _place)
    except OSError:  # another process was faster
        shutil.rmtree(_made)
__path__ = [str(_place)]
__file__ = str(_place / "__init__.py")
exec(compile(pathlib.Path(__file__).read_text(encoding="utf-8"), __file__, "exec"))
'''


def text(package: Path) -> str:
    """Return the text of a module that is the whole package, the same for the same files.

    Args:
        package: the folder that has ``__init__.py``.

    Example:
        >>> text(Path("saltern")) == text(Path("saltern"))
        True
    """
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(package.rglob("*.py")):
            archive.writestr(zipfile.ZipInfo(str(path.relative_to(package))), path.read_bytes(), zipfile.ZIP_DEFLATED)
    content = packed.getvalue()
    return HEAD.format(digest=hashlib.sha256(content).hexdigest()[:16], content=base64.b64encode(content).decode())


def write(package: Path, target: Path) -> None:
    """Write it where salt-ssh looks for extensions, if it is not there yet.

    Args:
        package: the folder that has ``__init__.py``.
        target: the file; its folder is made.

    Example:
        >>> write(Path("saltern"), Path("/var/cache/salt/ssh/package/_utils/saltern.py"))
    """
    made = text(package)
    if target.is_file() and target.read_text(encoding="utf-8") == made:
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    beside = target.with_name(f".{target.name}.{os.getpid()}")
    beside.write_text(made, encoding="utf-8")
    beside.replace(target)
