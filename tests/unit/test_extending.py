"""docs/extending.md names every file of a setting, role, state or orchestration: so those that there are have them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from saltern.site.roles import ROLES, STOPPABLE

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs/extending.md").read_text()
STATES = sorted(path.stem for path in (ROOT / "_states").glob("*.py"))
ORCHESTRATIONS = sorted(path.stem for path in (ROOT / "salt/orch").glob("*.sls"))
# Steps of others: nobody types them.
INNER = {"leave_out", "settle"}


def files(title: str) -> list[str]:
    """Return the first column of the table below a heading."""
    part = PAGE.split(f"\n## {title}\n")[1].split("\n## ")[0]
    return re.findall(r"^\| `([^`]+)` \|", part, re.M)


@pytest.mark.parametrize("title", ["A setting", "A state", "A role", "An orchestration"])
def test_what_has_no_name_in_it_is_there(title: str) -> None:
    plain = [path for path in files(title) if not re.search("ROLE|STATE|NAME", path)]
    assert plain and [path for path in plain if not (ROOT / path).exists()] == []


@pytest.mark.parametrize("role", ROLES)
def test_each_role_has_the_files_of_a_role(role: str) -> None:
    wanted = [path.replace("ROLE", role) for path in files("A role") if "ROLE" in path]
    if role not in STOPPABLE:
        wanted.remove(f"salt/{role}/absent.sls")
    assert len(wanted) >= 4 and [path for path in wanted if not (ROOT / path).is_file()] == []
    fleets = [yaml.safe_load(path.read_text())["hosts"] for path in (ROOT / "lab/fleets").glob("*/fleet.yaml")]
    assert any(role in host["roles"] for hosts in fleets for host in hosts.values()), "a fleet that uses it"


@pytest.mark.parametrize("state", STATES)
def test_each_state_has_the_files_of_a_state(state: str) -> None:
    wanted = [path.replace("STATE", state) for path in files("A state") if "STATE" in path]
    assert len(wanted) == 3 and [path for path in wanted if not (ROOT / path).is_file()] == []


@pytest.mark.parametrize("name", ORCHESTRATIONS)
def test_each_orchestration_has_the_files_of_one(name: str) -> None:
    assert "salt/orch/NAME.sls" in files("An orchestration")
    if name not in INNER:
        assert any(f"orch.{name}" in path.read_text() for path in (ROOT / "tests/scenarios_fleet").glob("*.py"))
        assert f"orch.{name}" in (ROOT / "docs/fleets.md").read_text()


def test_no_page_of_the_documentation_is_out_of_reach() -> None:
    """docs/README.md is the index by task: each page is linked from it, but for decisions, which their folder lists."""
    index = (ROOT / "docs/README.md").read_text()
    linked = {(ROOT / "docs" / target).resolve() for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", index)}
    pages = {path for path in (ROOT / "docs").rglob("*.md") if path.parent.name not in ("decisions", "releases")}
    assert pages - linked == {ROOT / "docs/README.md"}


CODE = re.compile(r"```.*?```|`[^`\n]*`", re.S)
LINKS = [
    pytest.param(page, target, id=f"{page.relative_to(ROOT)}:{target}")
    for page in sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "lab").rglob("*.md")])
    for target in sorted(set(re.findall(r"\]\((?!https?:|mailto:)([^)\s]+)\)", CODE.sub("", page.read_text()))))
]


@pytest.mark.parametrize(("page", "target"), LINKS)
def test_a_link_leads_somewhere(page: Path, target: str) -> None:
    """To a file, and to a heading that it has."""
    name, _, heading = target.partition("#")
    file = page.parent / name if name else page
    assert file.exists()
    if heading:
        titles = re.findall(r"^#+ (.*)$", file.read_text(), re.M)
        assert heading in {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}
