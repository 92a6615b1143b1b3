"""The repository's map: every role has its states, its defaults, its host tests and its page."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from saltern.site.overlap import KINDS
from saltern.site.placeholders import NEEDS
from saltern.site.role import ANYONE, APPS
from saltern.site.roles import ALL, ROLES, STOPPABLE
from saltern.site.secretfile import APP_KEYS, Secrets
from saltern.site.wired import PARTS

ROOT = Path(__file__).resolve().parents[2]
NOT_ROLES = {"orch", "_modules", "_states", "_utils"}


def test_every_role_is_in_all_four_places() -> None:
    states = {path.name for path in (ROOT / "salt").iterdir() if path.is_dir()} - NOT_ROLES
    pillar = {path.stem for path in (ROOT / "pillar").glob("*.sls")} - {"top"}
    tests = {path.stem.removeprefix("test_") for path in (ROOT / "tests/hosts").glob("test_*.py")}
    pages = {path.stem for path in (ROOT / "docs/roles").glob("*.md")}
    assert states == pillar == tests == pages


def together(tree: ast.AST) -> Iterator[tuple[int, set[str]]]:
    """Yield the line of each literal that has names in it, and of each class with fields, and the names."""
    for node in ast.walk(tree):
        if isinstance(node, ast.List | ast.Tuple | ast.Set | ast.Dict):
            yield node.lineno, {str(one.value) for one in ast.walk(node) if isinstance(one, ast.Constant)}
        elif isinstance(node, ast.ClassDef):
            fields = [one.target for one in node.body if isinstance(one, ast.AnnAssign)]
            yield node.lineno, {one.id for one in fields if isinstance(one, ast.Name)}


def test_no_list_has_the_roles_but_the_folder_of_their_files() -> None:
    """A table that knows them all would have to be written on for the next one, and is forgotten."""
    folders = ("saltern", "lab", "bin", "bench", "_modules", "_states", "_pillar", "salt")
    files = [path for folder in folders for path in (ROOT / folder).rglob("*.py") if "salt/_" not in str(path)]
    found = [
        f"{path.relative_to(ROOT)}:{line}: {', '.join(sorted(names & {*ROLES}))}"
        for path in files
        for line, names in together(ast.parse(path.read_text()))
        if len(names & {*ROLES}) > len(ROLES) / 2
    ]
    assert len(files) > 150 and found == []
    (said,) = [names for _, names in together(ast.parse("ORDER = ('base', {'web': 1})")) if len(names) > 2]
    assert said == {"base", "web", "1"}, "the walk sees what is inside, too"


def test_each_role_is_a_file_and_has_a_place_of_its_own() -> None:
    files = {path.stem for path in (ROOT / "saltern/site/roles").glob("*.py")} - {"__init__"}
    assert files == {*ROLES} and len({role.place for role in ALL.values()}) == len(ALL)
    assert {*PARTS} <= files
    offered = [offer.name for role in ALL.values() for offer in role.offers]
    assert len({*offered}) == len(offered)
    for name, role in ALL.items():
        ports = [offer.port for offer in role.offers if isinstance(offer.port, str)]
        assert {*ports} <= {*role.settings.model_fields}, name
        clients = {client for offer in role.offers for client in offer.clients} - {ANYONE, APPS}
        assert clients <= {*ROLES}, name
        assert {*role.secrets} <= {*Secrets.model_fields} and {*role.app_secrets} <= {*APP_KEYS}, name
        assert {*role.compares, *role.uses} <= {kind.name for kind in KINDS}, name
        # What a role lists is looked for by name: a misspelt one would be nothing, in silence.
        assert {*role.needed_for} <= {*NEEDS.values()}, name


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
