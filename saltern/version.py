"""Which Saltern this is."""

from __future__ import annotations

import tomllib
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[1] / "pyproject.toml"


def version() -> str:
    """Return this repository's version; `pyproject.toml` has it, and nothing else does.

    A minion has this package without that file: ask there for what the pillar, made beside it, says.

    Example:
        >>> version().count(".")
        2
    """
    return str(tomllib.loads(PROJECT.read_text(encoding="utf-8"))["project"]["version"])
