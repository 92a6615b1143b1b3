"""What a host is told of the others for each of its roles: a file for each role that has to be told something."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable
from typing import Any

from ..secretfile import Secrets
from ..site import Site


def _found() -> dict[str, Callable[[Site, str, Secrets], dict[str, Any]]]:
    named = [module.name for module in pkgutil.iter_modules(__path__)]
    return {name: importlib.import_module(f"{__name__}.{name}").told for name in named}


PARTS = _found()
