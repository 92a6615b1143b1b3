"""The external pillar `saltern`: the site of a team, checked and turned into each host's pillar (saltern/site).

Nothing heavy is imported here: Salt's loader only logs a module that does not import, so that an apply would go on
with half a pillar. An import that fails inside the function is an error of the pillar, which stops the apply.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[1]
# By its path: this file has the same name, and a master that an older Saltern started knows no other way. That one's
# processes have a package of this name from another folder, which is gone.
_there = Path(getattr(sys.modules.get("saltern"), "__file__", None) or ".").resolve()
if _there != REPOSITORY / "saltern/__init__.py":
    for _name in [name for name in sys.modules if name == "saltern" or name.startswith("saltern.")]:
        del sys.modules[_name]
    _spec = importlib.util.spec_from_file_location("saltern", REPOSITORY / "saltern/__init__.py")
    assert _spec and _spec.loader
    sys.modules["saltern"] = importlib.util.module_from_spec(_spec)
    _spec.loader.exec_module(sys.modules["saltern"])
from saltern import forget_old_code  # noqa: E402

# Packed in by Salt's loader when Salt runs this; empty for everyone else.
__opts__: dict[str, Any] = {}

# Salt gives the master itself this name when it runs an orchestration; no host can have it, for its `_`.
ORCHESTRATION = "_master"
# These execution functions check the site themselves and must work while it is broken or has no secrets yet.
OWN_COMMANDS = (
    "site.check",
    "site.generate_secrets",
    "site.renew",
    "site.rotate",
    "site.rotation",
    "site.secrets",
)


def ext_pillar(minion_id: str, pillar: dict[str, Any], site: str = "site") -> dict[str, Any]:
    """Return the validated pillar of one host; Salt merges it over the defaults and the secrets.

    Errors are answered under Salt's own key `_errors`, and every `state.*` function then refuses to run. Raising would
    come to the same, with a traceback above and the whole text printed a second time by the log.

    Args:
        minion_id: the host, as Salt has authenticated it. Grains are not looked at.
        pillar: what pillar/top.sls gave the host so far; only its `secrets` are read.
        site: the site directory; a relative path counts from the current directory.

    Returns:
        The version, the sections fleet, host, one per role of the host, apps, wiring and secrets; or `_errors`, a list
        with one text that has every error of the site on a line of its own.

    Example:
        In Salt's configuration: `ext_pillar: [{saltern: {site: site}}]`
    """
    if __opts__.get("fun") in OWN_COMMANDS:
        return {}
    forget_old_code()
    if os.geteuid() == 0:  # an apply; a master is not root
        # The states say each mode that must be narrow. With the 027 of a login, folders that a sandbox's user must pass
        # through would be closed to him.
        os.umask(0o022)
    from saltern.site.compiled import fleet_pillar, host_pillar
    from saltern.site.errors import SiteError
    from saltern.site.load import load_site
    from saltern.site.renewal import is_apply, renewed

    try:
        if minion_id.endswith(ORCHESTRATION):
            return fleet_pillar(load_site(site)) | {"code": _code()}
        loaded, secrets = load_site(site), pillar.get("secrets")
        if __opts__.get("__cli") == "salt-call":  # not on a master, which cannot read the authority's key
            secrets = renewed(loaded, minion_id, secrets, keep=is_apply(__opts__))
        found = host_pillar(loaded, minion_id, secrets)
    except SiteError as error:
        return {"_errors": [str(error)]}
    if "minion" in found["wiring"]:  # salt/top.sls compares it with what the minion has
        found["wiring"]["minion"]["code"] = _code()
    return found


def _code() -> str:
    from saltern.host import codedigest

    return codedigest.of(REPOSITORY / "salt", "_*")
