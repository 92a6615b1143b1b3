"""What others have written is shown as it is: no word of it is a style, a picture or a terminal's command."""

from __future__ import annotations

import doctest
import re

import pytest
from rich.table import Table

from lab import output
from tests.unit.contracts import ROOT

FOREIGN = "80:CD:ON:A1 :warning: [red]x[/] [/nothing] [link=https://a.example]b\x1b[2J"
SHOWN = "80:CD:ON:A1 :warning: [red]x[/] [/nothing] [link=https://a.example]b"


def said(show) -> str:
    with output.console.capture() as caught:
        show()
    return caught.get()


def staged() -> None:
    with output.stage(FOREIGN):
        output.detail(FOREIGN)


@pytest.mark.parametrize(
    "show",
    [lambda: output.say(FOREIGN), lambda: output.say((FOREIGN, "bold")), staged],
    ids=["line", "styled", "stage"],
)
def test_text_is_text(show) -> None:
    assert SHOWN in said(show)


def test_a_failure_is_text(capsys: pytest.CaptureFixture[str]) -> None:
    with output.console.capture() as caught, pytest.raises(SystemExit):
        output.fail(FOREIGN)
    assert SHOWN in caught.get()


def test_a_cell_of_a_table_is_text() -> None:
    table = Table("a", width=200)
    table.add_row("80:CD: [red]x")
    assert "80:CD: [red]x" in said(lambda: output.console.print(table))


def test_examples() -> None:
    assert doctest.testmod(output).failed == 0


def test_nothing_of_the_lab_prints_by_markup() -> None:
    """One console, whose text is text; `rich.markup` and consoles of one's own would be ways round it."""
    for path in (ROOT / "lab").rglob("*.py"):
        text = path.read_text()
        assert "rich.markup" not in text, path
        assert path.name == "output.py" or not re.search(r"\bConsole\(", text), path
        assert not re.search(r"\[/?(red|green|bold|dim)[ \]]", text) or path.name == "output.py", path
