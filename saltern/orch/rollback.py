"""orch.rollback: all hosts of an app get the release that they served before, at once, or none of them."""

from __future__ import annotations

from typing import Any

from .arguments import app
from .fleet import Fleet, Hosts
from .steps import Steps
from .together import together

TAKES = ("app",)


def steps(fleet: Fleet, told: dict[str, Any], hosts: Hosts) -> Steps:
    """Return the steps of a release that was there before. Nothing is built, and no migration is undone.

    Args:
        fleet: the fleet.
        told: `app`.
        hosts: asked for their code, and what they serve.

    Raises:
        Refused: there is no such app.
    """
    return together(fleet, hosts, app(told, fleet), "builder.propose_back", "fleet.take_back", asks=True)
