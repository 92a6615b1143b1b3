"""The repository's map: every role has its states, its defaults, its host tests and its page."""

from __future__ import annotations

from pathlib import Path

from saltern.site.layout import STOPPABLE

ROOT = Path(__file__).resolve().parents[2]
NOT_ROLES = {"orch", "_modules", "_states", "_utils"}


def test_every_role_is_in_all_four_places() -> None:
    states = {path.name for path in (ROOT / "salt").iterdir() if path.is_dir()} - NOT_ROLES
    pillar = {path.stem for path in (ROOT / "pillar").glob("*.sls")} - {"top"}
    tests = {path.stem.removeprefix("test_") for path in (ROOT / "tests/hosts").glob("test_*.py")}
    pages = {path.stem for path in (ROOT / "docs/roles").glob("*.md")}
    assert states == pillar == tests == pages


def test_no_registry_is_named() -> None:
    """Sources come from the machine; a host name of a mirror or an index in a file would break someone else's."""
    names = ["pypi" + ".org", "pythonhosted" + ".org", "deb.debian" + ".org", "registry.npmjs" + ".org"]
    text = {".py", ".sls", ".md", ".txt", ".in", ".toml", ".yaml", ".yml", ".conf", ".lock", ""}
    for path in ROOT.rglob("*"):
        if path.is_file() and path.suffix in text and ".git" not in path.parts:
            content = path.read_text(errors="ignore")
            assert not any(name in content for name in names), path


def test_a_role_that_can_be_stopped_says_how() -> None:
    assert {path.parent.name for path in (ROOT / "salt").glob("*/absent.sls")} == set(STOPPABLE)
