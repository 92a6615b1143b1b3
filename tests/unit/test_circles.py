"""No circle hides in a ``__salt__["…"]`` string: import-linter reads the package, this Salt's faces and states."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from pathlib import Path

import pytest

from tests.unit.contracts import ROOT

#: Circles of before, which shall go; a new one has no place here.
LEFT = {("needs", "redis_server")}


def arrows(root: Path) -> dict[str, set[str]]:
    """Return which of our modules calls which other, by what stands in ``__salt__["…"]``.

    States have the names of their modules, so they are told apart by a star.
    """
    texts = defaultdict(list)
    for folder, star in (("_modules", ""), ("_states", "*")):
        for path in sorted((root / folder).glob("*.py")):
            named = re.search(r'(?m)^__virtualname__ = "(\w+)"', path.read_text())
            texts[f"{named[1] if named else path.stem}{star}"].append(path.read_text())
    found: dict[str, set[str]] = {}
    for name, parts in texts.items():
        found[name] = set()
        for node in (node for text in parts for node in ast.walk(ast.parse(text))):
            if isinstance(node, ast.Subscript) and getattr(node.value, "id", "") == "__salt__":
                called = str(node.slice.value).partition(".")[0] if isinstance(node.slice, ast.Constant) else ""
                if called in texts and called != name:
                    found[name].add(called)
    return found


def circles(calls: dict[str, set[str]]) -> set[tuple[str, ...]]:
    """Return the largest sets of modules of which each one reaches all others."""

    def reached(start: str) -> set[str]:
        seen: set[str] = set()
        waiting = [*calls[start]]
        while waiting:
            one = waiting.pop()
            if one not in seen:
                seen.add(one)
                waiting += calls[one]
        return seen

    to = {name: reached(name) for name in calls}
    return {tuple(sorted(other for other in to[name] if name in to[other])) for name in calls if name in to[name]}


def test_our_modules_call_each_other_in_no_circle() -> None:
    calls = arrows(ROOT)
    assert sum(map(len, calls.values())) > 10, "the search finds nothing any more"
    assert circles(calls) == LEFT


def test_a_state_asks_modules_and_no_module_a_state() -> None:
    for path in sorted((ROOT / "_modules").glob("*.py")):
        assert "__states__" not in path.read_text(), path.name


@pytest.mark.parametrize("strings", [['"b.x"', '"a.x"'], ["'b.x'", "'a.y'"]])
def test_the_next_circle_would_be_found(tmp_path: Path, strings: list[str]) -> None:
    (tmp_path / "_modules").mkdir()
    (tmp_path / "_states").mkdir()
    (tmp_path / "_modules/a.py").write_text(f"def f():\n    return __salt__[{strings[0]}]()\n")
    (tmp_path / "_modules/b_part.py").write_text(f'__virtualname__ = "b"\ncall = lambda: __salt__[{strings[1]}]()\n')
    (tmp_path / "_modules/c.py").write_text('f = lambda: __salt__["a.f"](__salt__["c.g"]())\n')
    (tmp_path / "_states/a.py").write_text('f = lambda: __salt__["a.f"]()\n')
    assert circles(arrows(tmp_path)) == {("a", "b")}
