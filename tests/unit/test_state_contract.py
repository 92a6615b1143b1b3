"""The promises that every custom state keeps, tested on all of them.

A state is planned, applied, planned again and applied again in a fake world (tests/unit/contracts/<module>.py).
"""

from __future__ import annotations

import copy
import importlib
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.unit.contracts import ROOT, Contract, World, load

MODULES = sorted(path.stem for path in (ROOT / "_states").glob("*.py") if not path.stem.startswith("_"))

#: Salt calls these by itself; they are not written in an SLS.
HOOKS = {"mod_watch", "mod_init", "mod_aggregate"}


def state_functions(module: str) -> list[str]:
    loaded = load("_states", module)
    functions = inspect.getmembers(loaded, inspect.isfunction)
    own = [name for name, function in functions if function.__module__ == loaded.__name__]
    return [name for name in own if not name.startswith("_") and name not in HOOKS]


FUNCTIONS = [(module, function) for module in MODULES for function in state_functions(module)]
each_state = pytest.mark.parametrize(("module", "function"), FUNCTIONS, ids=[".".join(pair) for pair in FUNCTIONS])


def contract_of(module: str, function: str) -> Contract:
    path = f"tests/unit/contracts/{module}.py"
    assert (ROOT / path).exists(), f"the states in _states/{module}.py have no contract: write {path}"
    contracts = importlib.import_module(f"tests.unit.contracts.{module}").CONTRACTS
    assert function in contracts, f"{module}.{function} has no contract: add it to CONTRACTS in {path}"
    return contracts[function]


def call(module: str, function: str, arguments: dict[str, Any], world: World, test: bool) -> dict[str, Any]:
    loaded = load("_states", module)
    dunders = {"__salt__": world.salt, "__pillar__": world.pillar, "__grains__": world.grains}
    for name, value in {**dunders, "__opts__": {"test": test}, **world.attributes}.items():
        setattr(loaded, name, value)
    ret = getattr(loaded, function)(**copy.deepcopy(arguments))
    assert {"name", "result", "changes", "comment"} <= ret.keys()
    assert ret["name"] == arguments["name"]
    assert isinstance(ret["comment"], str) and ret["comment"]
    assert is_old_and_new(ret["changes"]), f"changes must be old and new, or such by name: {ret['changes']}"
    return ret


def is_old_and_new(changes: dict[str, Any]) -> bool:
    def pair(value: Any) -> bool:
        return isinstance(value, dict) and value.keys() == {"old", "new"} and value["old"] != value["new"]

    return pair(changes) or all(pair(value) for value in changes.values())


def snapshot(world: World, folder: Path) -> Any:
    files = {
        str(path): (
            path.lstat().st_mode,
            path.readlink() if path.is_symlink() else path.is_file() and path.read_bytes(),
        )
        for path in folder.rglob("*")
    }
    return copy.deepcopy(world.state), files


@each_state
def test_plan_changes_nothing_and_is_what_the_apply_then_does(module: str, function: str, tmp_path: Path) -> None:
    contract = contract_of(module, function)
    world = contract.world(tmp_path)
    before = snapshot(world, tmp_path)

    plan = call(module, function, contract.arguments, world, test=True)
    assert plan["result"] is None, "in this world the state has something to do"
    assert plan["changes"]
    assert snapshot(world, tmp_path) == before, "a plan has changed something"

    applied = call(module, function, contract.arguments, world, test=False)
    assert applied["result"] is True, applied["comment"]
    assert applied["changes"] == plan["changes"]
    assert snapshot(world, tmp_path) != before, "the apply has changed nothing; is the world's state complete?"


@each_state
def test_second_apply_and_plan_after_it_have_no_changes(module: str, function: str, tmp_path: Path) -> None:
    contract = contract_of(module, function)
    world = contract.world(tmp_path)
    call(module, function, contract.arguments, world, test=False)
    after = snapshot(world, tmp_path)
    for test in (False, True):
        again = call(module, function, contract.arguments, world, test=test)
        assert again["result"] is True, again["comment"]
        assert again["changes"] == {}
        assert snapshot(world, tmp_path) == after


@each_state
def test_failure_is_false_with_the_reason(module: str, function: str, tmp_path: Path) -> None:
    contract = contract_of(module, function)
    failed = call(module, function, contract.arguments, contract.broken_world(tmp_path), test=False)
    assert failed["result"] is False
    assert contract.reason in failed["comment"]
    assert failed["changes"] == {}, "what did not happen is no change"


@each_state
def test_docstring_has_its_sections(module: str, function: str) -> None:
    target: Callable[..., Any] = getattr(load("_states", module), function)
    text = inspect.getdoc(target) or ""
    for section in ("Args:", "Returns:", "Example:"):
        assert f"\n{section}\n" in text, f"{module}.{function}: its docstring has no section {section}"
    arguments = text.partition("\nArgs:\n")[2].partition("\n\nReturns:")[0]
    for name in inspect.signature(target).parameters:
        documented = any(line.strip().startswith((f"{name}:", f"**{name}:")) for line in arguments.splitlines())
        assert documented, f"{module}.{function}: the argument {name} is not in its docstring"


def test_a_state_without_contract_would_be_found() -> None:
    with pytest.raises(AssertionError, match="has no contract"):
        contract_of("daemon", "no_such_function")
    with pytest.raises(AssertionError, match=r"write tests/unit/contracts/nothing\.py"):
        contract_of("nothing", "present")


@pytest.mark.parametrize("changes", [{"old": 1, "new": 1}, {"old": 1}, {"a": {"old": 1}}, {"a": "b"}])
def test_other_shapes_of_changes_are_refused(changes: dict[str, Any]) -> None:
    assert not is_old_and_new(changes)
