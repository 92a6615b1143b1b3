"""The reference of what can be called is made from the docstrings, whole, and as they are now."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from saltern.site import functions

ALL = [
    pytest.param(folder, function, id=f"{folder}/{function.module}.{function.name}")
    for folder, _, _ in functions.KINDS
    for function in functions.functions(functions.REPOSITORY / folder)
]


def test_the_page_is_up_to_date() -> None:
    assert functions.PAGE.read_text() == functions.reference(), "make it anew: make reference"


def test_the_page_has_each_function_once() -> None:
    page = functions.PAGE.read_text().split("## States")
    for folder, function in [param.values for param in ALL]:
        assert page[folder == "_states"].count(f"\n### {function.module}.{function.name}\n") == 1


@pytest.mark.parametrize(("folder", "function"), ALL)
def test_a_function_says_what_it_does_takes_and_how_it_is_called(folder: str, function: functions.Function) -> None:
    found = functions.sections(function.doc)
    assert found[""].partition("\n\n")[0].endswith((".", ":")), "the first sentence"
    arguments = {part.partition("=")[0].lstrip("*") for part in function.signature.split(", ")} - {"", "/"}
    told = {name.lstrip("*") for name, _ in functions.named(found.get("Args", ""))}
    assert arguments <= told, f"Args lacks {', '.join(arguments - told)}"
    assert found.get("Example"), "an example of a call"


NAMES = {param.values[1].module: set() for param in ALL if param.values[0] != "_states"}
for param in ALL:
    if param.values[0] != "_states":
        NAMES[param.values[1].module].add(param.values[1].name)
TARGET = r"(?: +(?:-L +)?(?:'[^']*'|[A-Z]+|[a-z]+[0-9]|--[a-z-]+(?:=\S+)?))*"
CALLS = re.compile(rf"\bsalt(?:-call|-run|-ssh)?{TARGET} +([a-z_]+)\.([a-z_]+)\b")
PAGES = [*functions.REPOSITORY.glob("*.md"), *(functions.REPOSITORY / "docs").rglob("*.md")]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(functions.REPOSITORY)))
def test_what_a_page_tells_to_call_is_there(page: Path) -> None:
    called = set(CALLS.findall(page.read_text()))
    assert {f"{module}.{name}" for module, name in called if module in NAMES and name not in NAMES[module]} == set()
