"""Our Salt extensions on a minion: whether they are its master's."""

from __future__ import annotations

import salt.state

import saltern
from saltern.host import codedigest


def spare_sync(masters: str) -> bool:
    """Spare the apply that is being compiled Salt's sync of extensions, when this minion has its master's very own.

    The sync asks the master about each of some twenty kinds, by a connection of its own: three seconds of a minion's
    processor, and on many minions at once ten times what the states take. Where anything differs, Salt syncs as always.

    Args:
        masters: what ``code.digest`` would answer if it were so.

    Returns:
        Whether the sync is left out.

    Example:
        In salt/top.sls, which is rendered just before the sync:

        .. code-block:: jinja

            {% do salt['code.spare_sync'](pillar['wiring']['minion']['code']) %}
    """
    compiled = salt.state.HighState.get_active()
    spared = compiled is not None and digest() == masters
    if spared:
        compiled.opts["autoload_dynamic_modules"] = False
    else:
        saltern.forget()  # what was imported before the sync is not what comes with it
    return spared


def digest() -> str:
    """Return a word for the extensions that Salt has synced to this minion; its master has it as ``pillar['code']``.

    Example:
        .. code-block:: bash

            salt web1 code.digest
    """
    found: str = codedigest.of(__opts__["extension_modules"], "*")
    return found
