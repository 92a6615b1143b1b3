"""The pages that an app brings for the time when it is down: somebody else's files, in the site."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from test_site_good import good, load_written, pillar_of, problems_of, write_site

SECRET = "a-password-of-the-site"


def site(pages: dict[str, str]) -> dict[str, Any]:
    files = good()
    files["apps/blog.yaml"]["error_pages"] = "blog-pages"
    return files | {f"apps/blog-pages/{name}": text for name, text in pages.items()}


def test_the_edge_has_the_pages_and_no_other_host(tmp_path: Path) -> None:
    loaded = load_written(tmp_path, site({"503.html": "<p>später 100 %", "maintenance.html": "<p>{message}"}))
    assert pillar_of(loaded, "front1")["wiring"]["edge"]["pages"] == {
        "blog": {"503": "<p>später 100 %", "maintenance": "<p>{message}"}
    }
    assert "später" not in str(pillar_of(loaded, "web1"))


@pytest.mark.parametrize(
    ("name", "text", "reason"),
    [
        ("503.htm", "x", 'is not a page; did you mean "503.html"? Allowed: 403.html, 404.html'),
        ("200.html", "x", "is not a page"),
        ("421.html", "x", "is not a page"),
        (".503.html", "x", "is not a page"),
        ("503.html/inner", "x", "is no file"),
        ("503.html", "x" * 12289, "is larger than 12288 bytes"),
        ("maintenance.html", "x" * 8193, "is larger than 8192 bytes"),
        ("maintenance.html", "{message} {message}", "has {message} more than once"),
        ("503.html", " \n", "is empty"),
        ("503.html", "a\0b", "has control characters"),
        ("503.html", "a\x1b[2J", "has control characters"),
        ("503.html", "a\x85b", "has control characters"),
    ],
)
def test_a_page_that_cannot_be_shown_stops_first(tmp_path: Path, name: str, text: str, reason: str) -> None:
    found = problems_of(tmp_path, site({name: text}))
    where = name.partition("/inner")[0]
    assert len(found) == 1 and f"site/apps/blog-pages/{where}: " in found[0] and reason in found[0]


@pytest.mark.parametrize("size", [12288, 8192])
def test_a_page_may_be_as_large_as_that(tmp_path: Path, size: int) -> None:
    name = "503" if size > 8192 else "maintenance"
    loaded = load_written(tmp_path, site({f"{name}.html": "x" * size}))
    assert len(pillar_of(loaded, "front1")["wiring"]["edge"]["pages"]["blog"][name]) == size


@pytest.mark.parametrize(
    ("folder", "key"),
    [
        ("../secrets", "apps/blog.yaml"),
        ("/etc", "apps/blog.yaml"),
        ("a/../../secrets", "apps/blog.yaml"),
        ("", "apps/blog.yaml"),
    ],
)
def test_a_folder_outside_is_refused(tmp_path: Path, folder: str, key: str) -> None:
    files = good()
    files["apps/blog.yaml"]["error_pages"] = folder
    assert any(f"{key}:" in text and "error_pages: " in text for text in problems_of(tmp_path, files))


@pytest.mark.parametrize("kind", ["a page", "the folder", "a folder above", "a hard to read pipe", "no text"])
def test_nothing_is_read_through_a_link_or_waited_for(tmp_path: Path, kind: str) -> None:
    files = site({"404.html": "x"})
    if kind == "a folder above":
        files["apps/blog.yaml"]["error_pages"] = "above/blog-pages"
    folder = write_site(tmp_path, files) / "apps/blog-pages"
    (folder.parents[1] / "secrets").mkdir()
    secret = folder.parents[1] / "secrets/503.html"
    secret.write_text(SECRET)
    if kind == "a page":
        (folder / "503.html").symlink_to(secret)
    elif kind == "the folder":
        (folder / "404.html").unlink()
        folder.rmdir()
        folder.symlink_to(secret.parent)
    elif kind == "a folder above":
        (folder.parent / "above").symlink_to(folder.parent)
    elif kind == "a hard to read pipe":
        os.mkfifo(folder / "503.html")
    else:
        (folder / "503.html").write_bytes(b"\xff\xfe<")
    files = {name: text for name, text in files.items() if not name.startswith("apps/blog-pages")}
    found = problems_of(tmp_path, files)
    assert len(found) == 1 and SECRET not in found[0]
    assert any(part in found[0] for part in ("a link is not followed", "by a link", "is no file", "not UTF-8"))


def test_no_folder_and_an_empty_one_are_told(tmp_path: Path) -> None:
    assert "the folder does not exist" in problems_of(tmp_path, site({}))[0]
    (tmp_path / "site/apps/blog-pages").mkdir()
    assert "has no page; allowed: 403.html" in problems_of(tmp_path, site({}))[0]
