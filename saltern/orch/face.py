"""What the files in salt/orch call: an orchestration as Salt reads it, or the sentence why there is none."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from saltern.host import secrettext

from .arguments import Refused, given
from .fleet import Fleet, Hosts, read
from .steps import Body, Steps, failed

LONGEST = 1000  # characters of a refusal


class Orchestration(Protocol):
    """A module of this folder that is one."""

    TAKES: tuple[str, ...]

    @staticmethod
    def steps(fleet: Fleet, told: dict[str, Any], hosts: Hosts) -> Steps:
        """Return what is to be done.

        Args:
            fleet: the fleet.
            told: what the operator typed.
            hosts: whom to ask.
        """


def rendered(orchestration: Any, pillar: Mapping[str, Any], salt: Mapping[str, Callable[..., Any]]) -> dict[str, Body]:
    """Return the steps of an orchestration, by name.

    Args:
        orchestration: its module.
        pillar: the master's pillar, with what the operator typed.
        salt: the execution functions that Salt gives to what it renders.

    Returns:
        What Salt applies. Where it cannot be: one step that fails with a sentence; an error would be told by a trace.
    """
    name = orchestration.__name__.rpartition(".")[2]
    # Salt keeps the rendered file there, and with it what it gave to it: which then ends after Python's own modules do,
    # with a trace on the screen.
    sys.modules.pop(name, None)
    try:
        told = given(pillar, orchestration.TAKES, name)
        found: Steps = orchestration.steps(read(pillar), told, Hosts(salt))
        return found.named
    except Refused as why:
        return {"nothing was done": failed(_sentence(str(why)))}


def _sentence(text: str) -> str:
    """Return a text that repeats what was typed, maybe a file by mistake: one line, no control characters, cut."""
    cut = text if len(text) <= LONGEST else f"{text[:LONGEST]}..."
    return secrettext.one_line(cut)
