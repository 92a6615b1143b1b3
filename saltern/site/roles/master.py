"""Role master: applies the states of all minions."""

from __future__ import annotations

from pydantic import Field

from ..kinds import AbsolutePath
from ..model import Model
from ..role import Offer, Role


class Master(Model):
    """Role master: applies the states of all minions."""

    repository: AbsolutePath = Field(description="Where this repository is on the master; the site is its site/.")
    workers: int = Field(ge=3, le=64, description="Processes that answer minions.")


ROLE = Role(
    settings=Master,
    place=30,
    stops=True,
    one_only=True,
    offers=(
        # Salt's publish_port and ret_port.
        Offer("jobs", 4505, ("minion",), "orders to minions", only_for_apps=False),
        Offer("answers", 4506, ("minion",), "minions' answers, files", only_for_apps=False),
    ),
)
