"""What all models of the site share."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Model(BaseModel):
    """Takes only the keys it knows and only the types it names: `"5"` is no number, `yes` is no text.

    Input never shows in an error's text, and a model is built when it is first used: most runs need only some.
    """

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, hide_input_in_errors=True, defer_build=True)
