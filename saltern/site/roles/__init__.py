"""The roles: a file for each, which is all that the site knows of it. Nothing names them but their files."""

from __future__ import annotations

import importlib
import pkgutil
from typing import TYPE_CHECKING, Any

from ..model import Model
from ..role import Role


def _found() -> dict[str, Role]:
    named = [module.name for module in pkgutil.iter_modules(__path__)]
    roles = {name: importlib.import_module(f"{__name__}.{name}").ROLE for name in named}
    return dict(sorted(roles.items(), key=lambda found: found[1].place))


ALL: dict[str, Role] = _found()
# In the order in which they are applied and listed.
ROLES = tuple(ALL)
# Roles that keep something running, the other way round; each has salt/<role>/absent.sls.
STOPPABLE = tuple(name for name in reversed(ROLES) if ALL[name].stops)
# Roles whose hosts run apps' code.
APP_ROLES = tuple(name for name in ROLES if ALL[name].runs_apps)
# Hosts are applied in the order in which they need each other; those of one rank at the same time.
RANKS = tuple(
    tuple(name for name in ROLES if ALL[name].rank == rank)
    for rank in sorted({role.rank for role in ALL.values() if role.rank is not None})
)
MODELS: dict[str, type[Model]] = {name: role.settings for name, role in ALL.items()}
# The settings that are ports, for the rule that no two daemons of a host share one.
PORTS = tuple((name, offer.port) for name in ROLES for offer in ALL[name].offers if isinstance(offer.port, str))
# Ports that no setting moves.
FIXED_PORTS = {
    name: ports
    for name in ROLES
    if (ports := {offer.name: offer.port for offer in ALL[name].offers if isinstance(offer.port, int)})
}


def with_secret(kind: str, among: str) -> tuple[str, ...]:
    """Return the roles that `compares` or `uses` a kind of secret.

    Args:
        kind: such as `database`.
        among: which of the two.

    Example:
        >>> with_secret("redis", "compares")
        ('redis',)
    """
    return tuple(name for name in ROLES if kind in getattr(ALL[name], among))


class Settings:
    """The settings of every role, by its name: `settings.web.port`.

    Args:
        roles: a model for each.
    """

    def __init__(self, **roles: Model):
        vars(self).update(roles)

    if TYPE_CHECKING:

        def __getattr__(self, role: str) -> Any: ...
