"""Role minion: takes orders from the fleet's master."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from ..kinds import Allowed
from ..model import Model
from ..role import Role


class Minion(Model):
    """Role minion: takes orders from the fleet's master."""

    log_level: Annotated[Literal["error", "warning", "info"], Allowed("one of error, warning, info")] = Field(
        description="What the minion writes to the journal."
    )


ROLE = Role(settings=Minion, place=20, stops=True, everywhere=True, replaced=True)
