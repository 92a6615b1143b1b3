"""Salt's face of our package imports modules plainly, and nothing that Salt would take for a function of its own."""

from __future__ import annotations

import ast

import pytest

from tests.unit.contracts import ROOT

FACES = sorted(path for folder in ("_modules", "_states", "_pillar") for path in (ROOT / folder).glob("*.py"))
MODULES = {str(path.relative_to(ROOT).with_suffix("")).replace("/", ".") for path in (ROOT / "saltern").rglob("*.py")}


@pytest.mark.parametrize("face", FACES, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_a_face_imports_modules_and_not_functions(face) -> None:
    """Salt offers each public function that it finds in a module, whoever wrote it; of a pillar it takes one."""
    text = face.read_text()
    assert "__utils__" not in text
    if face.parent.name == "_pillar":
        return
    for node in ast.parse(text).body:
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "saltern":
            for alias in node.names:
                assert f"{node.module}.{alias.name}" in MODULES, f"{node.module}.{alias.name} is no module"


def test_the_package_knows_nothing_of_salts_dunders_and_faces() -> None:
    """It is plain Python: what it needs it is given."""
    dunders = ("__salt__", "__pillar__", "__grains__", "__opts__", "__context__", "__states__", "__utils__")
    for path in (ROOT / "saltern").rglob("*.py"):
        names = {node.id for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Name)}
        assert not names & set(dunders), f"{path}: {names & set(dunders)}"
