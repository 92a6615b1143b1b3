"""The site: its pillar files, its secrets and its check, by Salt's own verbs.

The work is done in `_pillar/saltern`, which tests and the lab use without Salt. It is loaded from its place beside this
file, so this module works where the repository is: on a masterless host and on a master, not on a master's minions.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

__virtualname__ = "site"
__opts__: dict[str, Any] = {}

PACKAGE = Path(__file__).resolve().parent.parent / "_pillar" / "saltern"


def __virtual__() -> str | tuple[bool, str]:
    if not (PACKAGE / "__init__.py").is_file():
        return False, f"site: works only where the whole repository is; there is no {PACKAGE}"
    return __virtualname__


def _saltern(name: str) -> ModuleType:
    """Answers a module of the package; sys.path stays as it is."""
    if "saltern" not in sys.modules:
        spec = importlib.util.spec_from_file_location(
            "saltern", PACKAGE / "__init__.py", submodule_search_locations=[str(PACKAGE)]
        )
        assert spec and spec.loader
        package = importlib.util.module_from_spec(spec)
        sys.modules["saltern"] = package
        spec.loader.exec_module(package)
    sys.modules["saltern"].forget_old_code()
    return importlib.import_module(f"saltern.{name}")


def site_directory(opts: dict[str, Any]) -> Path:
    """Answers the site directory that Salt is configured with, in `ext_pillar: [{saltern: {site: ...}}]`.

    Args:
        opts: Salt's configuration.

    Example:
        >>> site_directory({"ext_pillar": [{"saltern": {"site": "/srv/site"}}]})
        PosixPath('/srv/site')
    """
    for entry in opts.get("ext_pillar") or []:
        if "saltern" in entry:
            return Path((entry["saltern"] or {}).get("site", "site"))
    return Path("site")


def pillar_files(minion_id: str) -> list[str]:
    """Answers the pillar SLS names of one host, for pillar/top.sls.

    Args:
        minion_id: the host's id; no grain is looked at.

    Returns:
        The defaults of the host's roles and its own secrets; empty for a host that is not in the fleet.

    CLI Example:

    .. code-block:: bash

        salt-call site.pillar_files app1
    """
    return _saltern("layout").pillar_files(site_directory(__opts__), minion_id)


def check(site: str | None = None) -> str:
    """Checks the whole site for every host, before anything is applied.

    Args:
        site: the site directory; default: the one Salt is configured with.

    Returns:
        What was found good.

    Raises:
        CommandExecutionError: every error, one on each line: file, key, what is wrong and what is allowed.

    CLI Example:

    .. code-block:: bash

        salt-call site.check
        salt-call site.check lab/fleets/single
    """
    found = _guarded("checking", "check_site", site)
    hosts, apps = len(found.fleet.hosts), len(found.apps)
    return f"{found.path}: no errors in {hosts} host{'s' * (hosts != 1)} and {apps} app{'s' * (apps != 1)}"


def generate_secrets(site: str | None = None) -> dict[str, Any]:
    """Makes the secrets that the site lacks and renews certificates; what is there and good stays.

    Args:
        site: the site directory; default: the one Salt is configured with.

    Returns:
        `changes`: what was written, one line each and without values; empty when all was there.

    Raises:
        CommandExecutionError: the site, or a file in its secrets/, has errors.

    CLI Example:

    .. code-block:: bash

        salt-call site.generate_secrets
    """
    path = Path(site) if site else site_directory(__opts__)
    done = _guarded("secrets", "generate_secrets", _guarded("load", "load_site", path))
    return {"changes": done, "comment": "" if done else f"{path}/secrets: all there, nothing to do"}


def _guarded(module: str, function: str, argument: Any) -> Any:
    """Runs a function of the package; an error of the site becomes Salt's own, with its text and no traceback."""
    from salt.exceptions import CommandExecutionError

    errors = _saltern("errors")
    try:
        return getattr(_saltern(module), function)(argument or site_directory(__opts__))
    except errors.SiteError as error:
        raise CommandExecutionError(str(error)) from None
