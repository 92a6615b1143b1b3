"""Our Salt extensions on a minion: whether they are its master's."""

from __future__ import annotations

import salt.state


def spare_sync(digest: str) -> bool:
    """Spares the apply that is being compiled Salt's sync of extensions, when this minion has its master's very own.

    The sync asks the master about each of some twenty kinds, by a connection of its own: three seconds of a minion's
    processor, and on many minions at once ten times what the states take. Where anything differs, Salt syncs as always.

    Args:
        digest: of the master's extensions, by `_utils/codedigest.py`.

    Returns:
        Whether the sync is left out.

    Example:
        In salt/top.sls, which is rendered just before the sync:

        .. code-block:: jinja

            {% do salt['code.spare_sync'](pillar['wiring']['minion']['code']) %}
    """
    compiled = salt.state.HighState.get_active()
    same = compiled is not None and __utils__["codedigest.of"](__opts__["extension_modules"], "*") == digest
    if same:
        compiled.opts["autoload_dynamic_modules"] = False
    return same
