"""What is missing is an error with a non-zero exit code, never an empty string."""

from __future__ import annotations

import json

import pytest
from conftest import Masterless

BROKEN = {
    "an undefined variable": "x:\n  test.nop:\n    - name: {{ nothing_like_that }}\n",
    "a missing pillar key": "x:\n  test.nop:\n    - name: {{ pillar['no']['such'] }}\n",
    "a missing key by pillar.get": "x:\n  test.nop:\n    - name: {{ salt['pillar.get']('no:such') }}\n",
    "broken YAML": "x:\n  test.nop\n    - name: [\n",
    "no state at all": "{# nothing #}\n",
}


@pytest.mark.parametrize("what", BROKEN)
def test_it_is_an_error(masterless: Masterless, what: str) -> None:
    states = masterless.root / "own"
    states.mkdir()
    (states / "broken.sls").write_text(BROKEN[what])
    done = masterless.call("--file-root", str(states), "state.apply", "broken", host="app1", release="trixie")
    assert done.returncode != 0, done.stdout
    assert not json.loads(done.stdout)["local"] or isinstance(json.loads(done.stdout)["local"], list), "a state ran"


def test_a_failing_state_is_an_error(masterless: Masterless) -> None:
    states = masterless.root / "own"
    states.mkdir()
    (states / "failing.sls").write_text("x:\n  test.fail_without_changes\n")
    done = masterless.call("--file-root", str(states), "state.apply", "failing", host="app1", release="trixie")
    assert done.returncode != 0


def test_an_empty_top_is_an_error(masterless: Masterless) -> None:
    states = masterless.root / "own"
    states.mkdir()
    (states / "top.sls").write_text("base:\n  nobody:\n    - nothing\n")
    done = masterless.call("--file-root", str(states), "state.apply", host="app1", release="trixie")
    assert done.returncode != 0, done.stdout
