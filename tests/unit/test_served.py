"""`bin/lab up` is about the platform: an app's first page may be a 404 or a login, and is served all the same."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from debian import Refused
from lab import served
from lab.served import Page

PAGE = Page("a.example", "192.0.2.1", 443)


def answering(monkeypatch: pytest.MonkeyPatch, *statuses: int) -> None:
    left = list(statuses)
    monkeypatch.setattr(served, "get", lambda page, ca: (left.pop(0) if len(left) > 1 else left[0], b""))
    monkeypatch.setattr(time, "sleep", lambda seconds: None)


@pytest.mark.parametrize("status", [200, 204, 302, 401, 403, 404, 405, 500])
def test_what_an_app_answers_is_its_own_affair(monkeypatch: pytest.MonkeyPatch, status: int) -> None:
    answering(monkeypatch, 503, status)
    page = served._served(PAGE, Path("ca.crt"), time.monotonic() + 9)
    assert page.status == status


@pytest.mark.parametrize("status", served.NOT_SERVED)
def test_what_the_platform_answers_for_an_app_is_a_failure(monkeypatch: pytest.MonkeyPatch, status: int) -> None:
    answering(monkeypatch, status)
    with pytest.raises(Refused, match=f"answers {status}"):
        served._served(PAGE, Path("ca.crt"), time.monotonic())
