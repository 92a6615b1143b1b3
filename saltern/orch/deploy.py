"""orch.deploy: all hosts of an app get its newest source and settings at once, or none of them."""

from __future__ import annotations

from typing import Any

from .arguments import Refused, app
from .fleet import Fleet, Hosts
from .steps import Steps
from .together import together

TAKES = ("app", "build")


def steps(fleet: Fleet, told: dict[str, Any], hosts: Hosts) -> Steps:
    """Return the steps of a release.

    Args:
        fleet: the fleet.
        told: `app`; `build`: `newest`, or `same` for its settings alone with the build that serves.
        hosts: asked for their code, and for the settings alone what they serve.

    Raises:
        Refused: there is no such app or build.
    """
    build = told.get("build", "newest")
    if build not in ("newest", "same"):
        raise Refused(f'build: "{build}" is none; allowed: newest (or leave it out), same')
    same = build == "same"
    propose = "builder.propose_same" if same else "builder.propose"
    return together(fleet, hosts, app(told, fleet), propose, "fleet.install", migrates=True, asks=same)
