"""Each example in a docstring is run: one that is false, or that cannot run, is worse than none.

What needs a host says so: `>>> run(...)  # needs systemd  # doctest: +SKIP`.
"""

from __future__ import annotations

import doctest
import importlib
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from tests.unit.contracts import load

ROOT = Path(__file__).resolve().parents[2]
# demo/ is another project with another environment; its tests are its own.
FOLDERS = ("saltern", "lab", "bin", "bench", "_modules", "_states", "_pillar", "_runners", "salt", "tests")
SKIPPED = re.compile(r"^(?P<code>.*?)(?P<why>\s+# needs \S.*?)?\s*# doctest: \+SKIP$")


def files() -> Iterator[Path]:
    """Yield each file of ours that has an example in a docstring."""
    for folder in FOLDERS:
        for path in sorted((ROOT / folder).rglob("*.py")):
            ours = path != Path(__file__).resolve() and "salt/_" not in str(path)  # those are links
            if ours and re.search(r"^\s*>>> ", path.read_text(encoding="utf-8"), re.M):
                yield path


def module(path: Path) -> ModuleType:
    """Return the module of a file: imported where it can be, else read as Salt reads it."""
    place = path.relative_to(ROOT)
    if place.parts[0] in ("_modules", "_states"):
        return load(place.parts[0], path.stem)
    if place.parts[0] in ("salt", "_pillar"):
        return load(str(place.parent), path.stem)
    parts = place.with_suffix("").parts
    return importlib.import_module(".".join(parts[1:] if parts[0] == "bin" else parts).removesuffix(".__init__"))


@pytest.mark.parametrize("path", files(), ids=lambda path: str(path.relative_to(ROOT)))
def test_the_examples_are_true(path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    monkeypatch.chdir(ROOT)
    found = module(path)
    runner = doctest.DocTestRunner(verbose=False, optionflags=doctest.NORMALIZE_WHITESPACE)
    tests = [test for test in doctest.DocTestFinder(exclude_empty=True).find(found, found.__name__) if test.examples]
    assert tests, "its examples are where nobody finds them"
    loaded = dict(sys.modules)
    said: list[str] = []
    for test in tests:
        runner.run(test, out=said.append)
    assert not runner.failures, "".join(said)
    assert {name for name in loaded if sys.modules.get(name) is not loaded[name]} == set(), "other tests share these"


@pytest.mark.parametrize("path", files(), ids=lambda path: str(path.relative_to(ROOT)))
def test_what_is_not_run_says_why(path: Path) -> None:
    for line in path.read_text(encoding="utf-8").splitlines():
        if "doctest: +SKIP" in line:
            match = SKIPPED.match(line)
            assert match and match["why"], f"{line.strip()}: write  # needs ...  # doctest: +SKIP"
