"""One version, in pyproject.toml: commands and hosts tell it, changelog and release notes begin with it."""

from __future__ import annotations

import re
import subprocess
import tomllib
from pathlib import Path

import pytest

from saltern.version import version

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
HEADING = re.compile(r"^## (\d+\.\d+\.\d+) – (not yet released|\d{4}-\d\d-\d\d)$", re.M)


def test_the_package_knows_it() -> None:
    assert version() == PROJECT


@pytest.mark.parametrize("command", ["lab", "bootstrap", "verify"])
def test_a_command_tells_it_at_once_and_to_everybody(command: str) -> None:
    """By Debian's own Python, which has nothing of ours: so it is said before anything is prepared."""
    done = subprocess.run(
        ["/usr/bin/python3", "-I", str(ROOT / "bin" / command), "--version"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert re.fullmatch(rf"saltern {re.escape(PROJECT)}( \([0-9a-f]{{12}}\))?\n", done.stdout), (
        done.stdout + done.stderr
    )


def test_the_changelog_is_by_version() -> None:
    text = (ROOT / "CHANGELOG.md").read_text()
    told = [name for name, _ in HEADING.findall(text)]
    assert len(told) == len(re.findall("^## ", text, re.M)), "a heading that is no version"
    assert told[0] == PROJECT, "the newest heading is the version of pyproject.toml"
    assert told == sorted(told, key=lambda name: [int(part) for part in name.split(".")], reverse=True)


def test_each_version_has_notes_for_whoever_upgrades() -> None:
    text = (ROOT / "CHANGELOG.md").read_text()
    for (name, _), part in zip(HEADING.findall(text), re.split("^## .*$", text, flags=re.M)[1:], strict=True):
        assert "### Upgrade notes\n" in part, name
        page = ROOT / "docs/releases" / f"{name}.md"
        assert page.read_text().startswith(f"# Saltern {name}\n"), page
