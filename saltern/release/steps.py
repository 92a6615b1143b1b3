"""The steps of a deploy by name, so that a test can end Salt at each of them, and at all of them."""

from __future__ import annotations

import logging
import os
import signal

log = logging.getLogger(__name__)

# In the order in which a deploy comes past them. tests/unit/test_release_steps.py compares them with the code.
STEPS = (
    "directory made",
    "packages installed",
    "settings written",
    "Django asked",
    "installed",
    "static files collected",
    "static files served",
    "migration begun",
    "migrated",
    "started",
    "gate passed",
    "enabled",
    "switched",
    "old one disabled",
    "old one drained",
    "old one stopped",
    "recorded",
    "pruned",
)
VARIABLE = "SALTERN_KILL_AT"


def reached(step: str) -> None:
    """Tell the log that a step is done; when the environment variable SALTERN_KILL_AT names it, Salt ends here.

    By SIGKILL, as the kernel's memory killer would: nothing is cleaned up.

    Args:
        step: one of STEPS.

    Raises:
        ValueError: there is no such step.

    Example:
        >>> reached("switched")
    """
    if step not in STEPS:
        raise ValueError(f"{step!r} is none of the steps")
    log.info("deploy: %s", step)
    if os.environ.get(VARIABLE) == step:
        os.kill(os.getpid(), signal.SIGKILL)
