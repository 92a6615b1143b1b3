"""Our pages for visitors whom no app answers."""

from __future__ import annotations

import re

import pytest

from tests.unit.contracts import load

errors = load("_utils", "errorpages")


@pytest.mark.parametrize("page", errors.pages(), ids=lambda page: str(page["status"]))
def test_a_page_is_whole_and_loads_nothing(page: dict) -> None:
    text = re.sub(r'\\(["$])', r"\1", page["text"])
    assert text.startswith("<!doctype html>") and text.endswith("</html>\\n")
    assert f">{page['status']}<" in text
    assert not re.search(r"src=|href=|url\(|@import|<script", text)
    assert len(text) < 2000


def test_a_visitor_is_told_when_to_come_back() -> None:
    told = {page["status"] for page in errors.pages() if "Retry-After" in page["headers"]}
    assert told == {429, 502, 503, 504}


@pytest.mark.parametrize("text", ['a "b" c', "a\\b", "$HOME ${HOME}", "a\nb", "a # b", "a' b", ""])
def test_haproxy_reads_what_was_quoted(text: str) -> None:
    """Backslashes, quotes and dollars are all that HAProxy looks for between double quotes (its manual, 2.2)."""
    written = errors.quoted(text)
    assert "\n" not in written
    assert not re.search(r'(?<!\\)(\\\\)*["$]', written)
    read = re.sub(r"\\(.)", lambda found: {"n": "\n", "r": "\r", "t": "\t"}.get(found[1], found[1]), written)
    assert read == text
