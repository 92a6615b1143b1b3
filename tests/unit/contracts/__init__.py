"""What the contract test needs to know of each custom state: one module here for each module in _states/.

Such a module has ``CONTRACTS``: for each state function a :class:`Contract`. Its two worlds are small fakes of a host,
freshly made for each test, in which the state has something to do, and in which it must fail.
"""

from __future__ import annotations

import importlib.util
import inspect
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[3]


@dataclass
class World:
    """A fake host.

    Attributes:
        salt: The execution functions that the state calls, as in ``__salt__``.
        state: What the functions in ``salt`` change. The test compares it, and all files below ``tmp_path``.
        pillar: ``__pillar__``.
        grains: ``__grains__``.
        attributes: Names in the state's module that are replaced, such as a path that must be below ``tmp_path``.
    """

    salt: dict[str, Callable[..., Any]]
    state: dict[str, Any] = field(default_factory=dict)
    pillar: dict[str, Any] = field(default_factory=dict)
    grains: dict[str, Any] = field(default_factory=dict)
    attributes: dict[str, Any] = field(default_factory=dict)


@dataclass
class Contract:
    """How a state function is tested.

    Attributes:
        arguments: What it is called with.
        world: Makes a host on which the state has something to change.
        broken_world: Makes a host on which it cannot.
        reason: A part of the comment that says why it could not.
    """

    arguments: dict[str, Any]
    world: Callable[[Path], World]
    broken_world: Callable[[Path], World]
    reason: str


def swap(face: ModuleType, name: str, **functions: Any) -> None:
    """Let a module that :func:`load` has read see other functions in a module of our package; nobody else sees them.

    Args:
        face: One of Salt's extension modules.
        name: What it calls the module of ``saltern/`` that it has imported.
        functions: Those that are replaced.

    Example:
        >>> account = load("_modules", "account")
        >>> swap(account, "appfiles", run=lambda argv: "")
    """
    setattr(face, name, SimpleNamespace(**vars(getattr(face, name)) | functions))


def play(monkeypatch: pytest.MonkeyPatch, modules: Iterable[ModuleType], name: str, **functions: Any) -> None:
    """Let modules of our package see other functions in what they have imported, for one test; nobody else sees them.

    Args:
        monkeypatch: Puts it back.
        modules: Those that see it, as far as they have imported it.
        name: What they call the module whose functions are played.
        functions: Those that are replaced.

    Example:
        >>> from saltern.build import store
        >>> play(pytest.MonkeyPatch(), [], "appfiles", run=lambda argv: "")
    """
    for module in modules:
        if hasattr(module, name):
            monkeypatch.setattr(module, name, SimpleNamespace(**vars(getattr(module, name)) | functions))


class Played(dict[str, Callable[..., Any]]):
    """Functions of the package that a test plays, by their faces' names: who is told one sees it, for one test.

    Args:
        monkeypatch: Puts it back.
        where: For each face's name the module of the package that does it, such as ``{"release.active": installed}``.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch, where: dict[str, ModuleType]) -> None:
        super().__init__()
        self.monkeypatch, self.where = monkeypatch, where

    def __setitem__(self, name: str, function: Callable[..., Any]) -> None:
        super().__setitem__(name, function)
        own, what = self.where[name], name.partition(".")[2]
        asked = inspect.signature(getattr(own, what)).parameters
        without_here = lambda here, *given, **named: function(*given, **named)  # noqa: E731
        self.monkeypatch.setattr(own, what, without_here if next(iter(asked), "") == "here" else function)


def load(folder: str, name: str) -> ModuleType:
    """Return a fresh copy of one of Salt's extension modules.

    Args:
        folder: ``_modules`` or ``_states``.
        name: The module's name.

    Returns:
        The module. Its dunders (``__salt__`` and so on) are not set.

    Example:
        >>> load("_modules", "daemon").unit_name("nginx")
        'nginx.service'
    """
    spec = importlib.util.spec_from_file_location(f"{folder}.{name}", ROOT / folder / f"{name}.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
