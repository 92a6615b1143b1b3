"""What an SLS asks of a host is asked without the pillar: where salt-ssh renders, its functions have none."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
CALL = re.compile(r"""salt\[['"]([a-z_]+\.[a-z_]+)['"]\]|\bsalt\.([a-z_]+\.[a-z_]+)\(""")
#: Orchestrations run on the master alone, which has its pillar.
RENDERED = [path for path in sorted((ROOT / "salt").rglob("*.sls")) if path.parent.name != "orch"]


def functions() -> dict[str, ast.FunctionDef]:
    """Each function of our execution modules, by file and by the name that Salt gives it."""
    found = {}
    for path in sorted((ROOT / "_modules").glob("*.py")):
        tree = ast.parse(path.read_text())
        named = re.search(r'^__virtualname__ = "(\w+)"', path.read_text(), re.MULTILINE)
        for node in tree.body:
            if isinstance(node, ast.FunctionDef):
                found[f"{path.name}:{node.name}"] = node
                if not node.name.startswith("_"):
                    found[f"{named[1] if named else path.stem}.{node.name}"] = node
    return found


def asks_pillar(name: str, known: dict[str, ast.FunctionDef], on_the_way: frozenset[str] = frozenset()) -> list[str]:
    """The way from a function to one that wants the pillar; empty when there is none."""
    if name in on_the_way or name not in known:
        return []
    node = known[name]
    file = next(key.partition(":")[0] for key, one in known.items() if one is node and ":" in key)
    own = {part.arg for part in ast.walk(node) if isinstance(part, ast.arg)}
    own |= {part.id for part in ast.walk(node) if isinstance(part, ast.Name) and isinstance(part.ctx, ast.Store)}
    for part in ast.walk(node):
        called = ""
        if isinstance(part, ast.Name):
            if part.id == "__pillar__":
                return [name]
            called = "" if part.id in own else f"{file}:{part.id}"
        elif isinstance(part, ast.Subscript) and isinstance(part.value, ast.Name) and part.value.id == "__salt__":
            called = str(part.slice.value) if isinstance(part.slice, ast.Constant) else ""
        if called and (way := asks_pillar(called, known, on_the_way | {name})):
            return [name, *way]
    return []


def called_by_states() -> Iterator[tuple[str, str]]:
    for path in RENDERED:
        for found in CALL.finditer(path.read_text()):
            yield f"{path.relative_to(ROOT)}", found[1] or found[2]


def test_no_function_that_an_sls_calls_wants_the_pillar() -> None:
    known = functions()
    ways = {f"{file}: {' -> '.join(way)}" for file, name in called_by_states() if (way := asks_pillar(name, known))}
    assert not ways, "give it what it needs of the pillar as arguments:\n" + "\n".join(sorted(ways))


def test_all_that_an_sls_calls_of_ours_is_known() -> None:
    known = functions()
    modules = {name.partition(".")[0] for name in known if ":" not in name}
    ours = {name for _, name in called_by_states() if name.partition(".")[0] in modules}
    assert ours <= set(known) and len(ours) > 15, "the search finds nothing any more"


@pytest.mark.parametrize("text", ["__pillar__", "_other()", '__salt__["x.there"]()'])
def test_it_can_fail(text: str) -> None:
    code = f"def asked():\n    return {text}\ndef _other():\n    return there()\ndef there():\n    return __pillar__\n"
    nodes = {node.name: node for node in ast.parse(code).body if isinstance(node, ast.FunctionDef)}
    known = {f"x.py:{name}": node for name, node in nodes.items()} | {
        "x.asked": nodes["asked"],
        "x.there": nodes["there"],
    }
    assert asks_pillar("x.asked", known)


def test_no_sls_hands_on_secrets_or_all_settings_of_apps() -> None:
    """Over salt-ssh an argument stands on a command line, which every user of a host can read."""
    handed = re.compile(r"""salt\[[^\]]+\]\([^{}]*pillar\[['"](secrets|apps)['"]\]\s*[,)]""")
    bad = [f"{path.relative_to(ROOT)}: {one[0]}" for path in RENDERED for one in handed.finditer(path.read_text())]
    assert not bad, "\n".join(bad)
