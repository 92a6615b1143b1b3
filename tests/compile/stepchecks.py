"""What is wrong with the steps of an orchestration, found without a host: a misspelt function or requisite."""

from __future__ import annotations

import ast
import importlib
import inspect
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from salt.states import saltmod
from salt.states import test as salt_test

from saltern.site.functions import functions

ROOT = Path(__file__).resolve().parents[2]
ORCHESTRATIONS = sorted(path.stem for path in (ROOT / "salt/orch").glob("*.sls"))
OURS = {f"{one.module}.{one.name}": one.signature for one in functions(ROOT / "_modules")}
SALTS = {"cmd": "cmdmod"}
REQUISITES = {"require", "onfail", "onfail_any"}
OF_ANY_STATE = REQUISITES | {"retry"}


def execution(function: str) -> inspect.Signature:
    """Return what an execution function takes; ours as the file has it, for it needs Salt's loader to be imported."""
    module, name = function.split(".")
    if function in OURS:
        source = ast.parse(f"lambda {OURS[function]}: None", mode="eval")
        defaults = next(node for node in ast.walk(source) if isinstance(node, ast.arguments))
        defaults.defaults = [ast.Constant(None) for _ in defaults.defaults]  # they are names of that file
        defaults.kw_defaults = [one and ast.Constant(None) for one in defaults.kw_defaults]
        return inspect.signature(eval(compile(ast.fix_missing_locations(source), function, "eval")))
    return inspect.signature(getattr(importlib.import_module(f"salt.modules.{SALTS.get(module, module)}"), name))


def must_take(function: str, arguments: list[Any], named: dict[str, Any]) -> None:
    """Fail unless there is an execution function of this name, and it takes this."""
    try:
        execution(function).bind(*arguments, **named)
    except (AttributeError, ImportError, TypeError, SyntaxError) as error:
        raise AssertionError(f"{function} {arguments} {named}: {error}") from error


def state(kind: str) -> Callable[..., Any]:
    """Return the state function of a step."""
    module, name = kind.split(".")
    found: Callable[..., Any] = getattr({"salt": saltmod, "test": salt_test}[module], name)
    return found


def problems(steps: dict[str, Any]) -> Iterator[str]:
    """Yield what is wrong with steps, each with the name of its step."""
    for name, body in steps.items():
        ((kind, parts),) = body.items()
        given = {key: value for part in parts for key, value in part.items()}
        if sum(map(len, parts)) != len(given):
            yield f"{name}: something is said twice"
        taken = {key: value for key, value in given.items() if key not in OF_ANY_STATE}
        try:
            inspect.signature(state(kind)).bind(**{"name": name} | taken)
        except (AttributeError, KeyError, TypeError) as error:
            yield f"{name}: {kind}: {error}"
        others = [found for key in REQUISITES for one in given.get(key, []) for found in one.items()]
        for module, other in others:
            if module != "salt" or other not in steps or not next(iter(steps[other])).startswith("salt."):
                yield f"{name}: there is no step {other}"
        yield from (f"{name}: {text}" for text in _asked(kind, given))


def _asked(kind: str, given: dict[str, Any]) -> Iterator[str]:
    if kind == "salt.function":
        try:
            must_take(given["name"], given.get("arg", []), given.get("kwarg", {}))
        except AssertionError as error:
            yield str(error)
    if kind in ("salt.function", "salt.state") and not (given["tgt"] and given["tgt_type"] == "list"):
        yield f"whom: {given['tgt']}"
    if kind == "salt.state" and ("sls" in given) == ("highstate" in given):
        yield "a file of states, or all of them"
    for file in given.get("sls", []):
        if not (ROOT / "salt" / f"{file.replace('.', '/')}.sls").is_file():
            yield f"there is no {file}"
    if kind == "salt.runner":
        name = given["mods"].removeprefix("orch.")
        if given["name"] != "state.orchestrate" or name not in ORCHESTRATIONS:
            yield f"there is no {given['mods']}"
        elif others := {*given.get("pillar", {})} - {*importlib.import_module(f"saltern.orch.{name}").TAKES}:
            yield f"{given['mods']} takes no {', '.join(others)}"
