"""A minion asks the site of its own host, by the command that an operator would type."""

from __future__ import annotations

import json
import subprocess
from typing import Any

import pytest
from contracts import load
from salt.exceptions import CommandExecutionError


@pytest.fixture
def rotation(monkeypatch: pytest.MonkeyPatch) -> Any:
    module: Any = load("_modules", "rotation")
    module.__pillar__ = {"host": {"id": "master"}, "wiring": {"renewal": {"site": "/srv/saltern"}}}
    module.asked = []

    def run(command: list[str], cwd: str, **_: object) -> subprocess.CompletedProcess[str]:
        module.asked.append((command[1:], cwd))
        return subprocess.CompletedProcess(command, module.code, module.out, "")

    module.code, module.out = 0, ""
    monkeypatch.setattr(module.subprocess, "run", run)
    return module


def test_it_asks_where_the_site_is(rotation: Any) -> None:
    rotation.out = json.dumps({"local": {"state": "settled"}})
    assert rotation.course("demo", "database", finish=True) == {"state": "settled"}
    command, where = rotation.asked[0]
    assert command[-4:] == ["site.rotation", "demo", "database", "finish=True"] and where == "/srv/saltern"
    rotation.out = json.dumps({"local": ["apps.demo.database_password: old and new are written down"]})
    assert "written down" in rotation.move("demo", "database", to="both")
    assert rotation.asked[1][0][-4:] == ["demo", "database", "step=both", "finish=False"]


@pytest.mark.parametrize(
    ("code", "out", "said"),
    [
        (1, "ERROR: there is no secret x; there are: ca\n", "^there is no secret x; there are: ca$"),
        (1, json.dumps({"local": "ERROR: no"}), "^no$"),
        (0, json.dumps({"local": "'site.rotation' is not available."}), "is not available"),
        (137, "", "exit code 137"),
    ],
)
def test_what_goes_wrong_is_told_in_its_own_words(rotation: Any, code: int, out: str, said: str) -> None:
    rotation.code, rotation.out = code, out
    with pytest.raises(CommandExecutionError, match=said):
        rotation.course("x")


def test_a_host_without_the_site_says_so(rotation: Any) -> None:
    rotation.__pillar__["wiring"]["renewal"]["site"] = None
    with pytest.raises(CommandExecutionError, match="master does not have the site: only a master does"):
        rotation.move("ca", to="both")
