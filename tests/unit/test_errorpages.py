"""Our pages for visitors whom no app answers."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from saltern.edge import errorpages as errors


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


def test_while_an_app_is_down_our_pages_name_it() -> None:
    found = {page["status"]: page["text"] for page in errors.of_app("web-shop", {})}
    assert set(found) == {502, 503, 504} and all("web-shop" in text for text in found.values())


def test_an_app_has_its_own_pages_where_it_brings_them() -> None:
    pages = {page["status"]: page for page in errors.of_app("shop", {"404": "a", "503": "b", "maintenance": "c"})}
    assert {status: page.get("file") for status, page in pages.items()} == {
        404: "/etc/haproxy/pages/shop.404.html", 502: None, 503: "/etc/haproxy/pages/shop.503.html", 504: None,
    }  # fmt: skip
    down = {page["status"]: page["file"] for page in errors.of_app("shop", {"down": "d", "503": "b"})}
    assert [Path(down[status]).name for status in (502, 503, 504)] == [
        "shop.down.html",
        "shop.503.html",
        "shop.down.html",
    ]
    assert pages[503]["headers"]["Retry-After"] == "10"
    policy = pages[503]["headers"]["Content-Security-Policy"]
    assert "script" not in policy and policy.startswith("default-src 'none'") and "form-action 'none'" in policy


@pytest.mark.parametrize("own", [{}, {"maintenance": "<p>{message}"}], ids=["ours", "its own"])
def test_the_page_for_maintenance_is_an_answer_that_says_when_to_come_back(own: dict[str, str]) -> None:
    page = errors.maintenance("shop", own)
    assert page["headers"]["Retry-After"] == "%[var(txn.retry)]" and page["headers"]["Cache-Control"] == "no-store"
    assert ("file" in page) == bool(own) and ("text" in page) != bool(own)


@pytest.mark.parametrize(
    "text", ["%[env(HOME)]", "%%[x]", "%ci %[req.hdr(cookie)]", "100 %", "%{message}", "{message}%"]
)
def test_a_page_gives_haproxy_no_orders(text: str) -> None:
    """In a log-format each `%` that is not doubled is one; only our own placeholders are."""
    made = errors.as_format(text)
    assert "%" not in made.replace("%%", "").replace("%[var(txn.message)]", "")
    assert made.replace("%%", "%").replace("%[var(txn.message)]", "{message}") == text


def test_the_site_and_the_edge_agree_on_the_pages() -> None:
    from saltern.site import errorpages as site

    assert set(site.STATUSES) <= set(errors.PAGES) and (site.MAINTENANCE, site.DOWN) == (
        errors.MAINTENANCE,
        errors.DOWN,
    )
    assert tuple(f"{{{name}}}" for name in errors.PLACEHOLDERS) == site.PLACEHOLDERS
