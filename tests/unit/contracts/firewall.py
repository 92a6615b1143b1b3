"""A host whose kernel has rules, or refuses them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from salt.exceptions import CommandExecutionError

from tests.unit.contracts import Contract, World


def world(problem: str = "") -> World:
    state: dict[str, Any] = {"rules": None}

    def load(rules: str) -> None:
        if problem:
            raise CommandExecutionError(problem)
        state.update(rules=rules)

    functions = {
        "firewall.wanted": lambda wiring: {"rules": wiring["rules"], "missing": []},
        "firewall.loaded": lambda: state["rules"],
        "firewall.understood": lambda rules: rules,
        "firewall.load": load,
    }
    return World(salt=functions, state=state)


def _open(tmp_path: Path) -> World:
    return world()


CONTRACTS = {
    "enforced": Contract(
        arguments={"name": "the firewall", "wiring": {"rules": "table inet saltern {}"}},
        world=_open,
        broken_world=lambda tmp_path: world("nft does not accept the rules"),
        reason="does not accept",
    )
}
