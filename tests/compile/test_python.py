"""An app that asks for a Python which the host has not: nothing else is done."""

from __future__ import annotations

import pytest
from conftest import Masterless


@pytest.mark.parametrize("release", ["trixie", "bookworm"])
def test_a_missing_python_is_the_first_state_and_the_last(masterless: Masterless, release: str) -> None:
    assert not any(chunk["fun"] == "fail_without_changes" for chunk in masterless.lowstate("app1", release))
    with (masterless.root / "site/apps/demo.yaml").open("a") as file:
        file.write('python: "3.99"\n')
    first, *others = sorted(masterless.lowstate("app1", release), key=lambda chunk: chunk["order"])
    assert (first["state"], first["fun"], first["failhard"]) == ("test", "fail_without_changes", True)
    assert "apps/demo.yaml: python: 3.99 is not on this host" in first["comment"]
    assert len(others) > 50 and all(chunk["order"] > first["order"] for chunk in others)
