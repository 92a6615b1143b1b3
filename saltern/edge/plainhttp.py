"""While edges of an older Saltern ask a web host without TLS, nginx answers both on one port. Pure functions.

Up to a version an edge spoke plain HTTP to nginx, since then mutual TLS on the same port: at a switch from one to the
other whoever is second fails. nginx knows the two apart by the first byte, so it takes both until no edge needs that.
"""

from __future__ import annotations

import re

#: An edge asks for each app's health every 2 s; what has not asked for so long is not there any more.
QUIET_SECONDS = 60
#: What salt/web/files/nginx.conf.jinja writes while plain HTTP is taken, too.
MARK = "@plain"


def is_taken(config: str, port: int) -> bool:
    """Return whether an nginx takes plain HTTP from edges.

    Args:
        config: the text of its configuration.
        port: the port on which edges ask.

    Example:
        >>> is_taken("server { listen 127.0.0.1:8000 default_server backlog=4096; }", 8000)
        True
        >>> is_taken("server { listen 127.0.0.1:8000 ssl default_server backlog=4096; }", 8000)
        False
    """
    listens = re.findall(rf"(?m)\blisten [^;]*:{port}\b([^;]*);", config)
    return any("ssl" not in words.split() for words in listens) or MARK in config


def is_to_stay(config: str, port: int, alone: bool, quiet_seconds: float) -> bool:
    """Return whether the next configuration of an nginx takes plain HTTP from edges, too.

    Args:
        config: the text of its configuration so far.
        port: the port on which edges ask.
        alone: the only edge is on this host: then the apply that changes that edge ends it, too.
        quiet_seconds: how long nobody has asked without TLS.

    Example:
        >>> is_to_stay("listen 10.0.0.2:8000;", 8000, False, 3600)
        True
    """
    if not is_taken(config, port):
        return False
    return alone or MARK not in config or quiet_seconds < QUIET_SECONDS
