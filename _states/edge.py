"""Files of an edge's HAProxy in which stands what people say at run time (edge.maintenance, take_out, bring_in).

An SLS is read before the first state runs, often minutes earlier; what it knows of these must never be written. These
states ask when they run, and hold the lock under which it is said, from the question to the written file.
"""

from __future__ import annotations

import contextlib
from typing import Any

from salt.exceptions import CommandExecutionError

from saltern.host import appfiles


def configured(
    name: str, source: str, check: str, context: dict[str, Any], user: str, group: str, mode: str
) -> dict[str, Any]:
    """Keep a file as a template makes it of what is said at run time.

    Args:
        name: the file.
        source: its Jinja template, which asks for itself: ``salt['edge.out']()``.
        check: a command that is given the new file as its last word and must succeed before it replaces the old one.
        context: what the template needs to know from the pillar.
        user: the file's owner.
        group: its group.
        mode: its permissions, quoted.

    Returns:
        Salt's result, that of ``file.managed``.

    Example:
        .. code-block:: yaml

            /etc/haproxy/haproxy.cfg:
              edge.configured:
                - source: salt://edge/files/haproxy.cfg
                - check: /usr/sbin/haproxy -c -q -f
                - context: {}
                - user: root
                - group: root
                - mode: '0644'
    """
    owned = {"user": user, "group": group, "mode": mode}
    try:
        with _alone():
            found: dict[str, Any] = __states__["file.managed"](
                name, source=source, template="jinja", check_cmd=check, context=context, **owned
            )
    except OSError as error:
        return {"name": name, "result": False, "changes": {}, "comment": f"Its lock cannot be had: {error}"}
    return found


def maps_kept(name: str) -> dict[str, Any]:
    """Keep the files by which HAProxy knows the apps in maintenance: they are there, and without apps that have gone.

    Args:
        name: any text.

    Returns:
        Salt's result; ``changes`` has each file's lines before and after.

    Example:
        .. code-block:: yaml

            apps in maintenance:
              edge.maps_kept: []
    """
    ret = {"name": name, "result": True, "changes": {}, "comment": "The maps are as edge.maintenance left them"}
    try:
        with _alone():
            changes = __salt__["edge.maps_differ"]()
            if changes and not __opts__["test"]:
                __salt__["edge.keep_maps"]()
    except (OSError, CommandExecutionError) as error:
        return ret | {"result": False, "comment": str(error)}
    if changes:
        done = "would be" if __opts__["test"] else "were"
        ret |= {"result": None if __opts__["test"] else True, "changes": changes, "comment": f"The maps {done} written"}
    return ret


def _alone() -> contextlib.AbstractContextManager[None]:
    """Hold the lock of edge.maintenance and take_out; a plan writes nothing, so not even that."""
    if __opts__["test"]:
        return contextlib.nullcontext()
    held: contextlib.AbstractContextManager[None] = appfiles.locked(__salt__["edge.lock"]())
    return held
