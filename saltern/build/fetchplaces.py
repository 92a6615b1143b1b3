"""Where a build is fetched from, by what pip's settings, proxies and Git's URLs name. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from urllib.parse import urlsplit

PORTS = {"http": 80, "https": 443, "ssh": 22, "git": 9418, "socks5": 1080, "socks5h": 1080}
#: Of pip's settings those that name hosts; several may stand in one, with spaces between.
NAMED = ("index-url", "extra-index-url", "find-links", "proxy")
#: Git's short form for ssh: no scheme, and a colon before the first slash.
SHORT = re.compile(r"(?:[^@/:]+@)?(\[[0-9a-fA-F:]+\]|[^@/:]+):(?!//)")


def of_settings(settings: Mapping[str, str], proxies: Mapping[str, str]) -> list[str]:
    """Return the URLs that pip's settings and the environment's proxies name.

    Args:
        settings: values by pip's long names.
        proxies: variables such as ``https_proxy``, with what else belongs to them.

    Example:
        >>> of_settings({"index-url": "https://a.test/simple", "timeout": "9"}, {"https_proxy": "http://p.test:3128"})
        ['https://a.test/simple', 'http://p.test:3128']
    """
    found = [url for name in NAMED for url in settings.get(name, "").split()]
    return found + [url for name, url in proxies.items() if name.lower() in ("http_proxy", "https_proxy", "all_proxy")]


def places(urls: Iterable[str]) -> list[tuple[str, int]]:
    """Return host and port of each URL, each once; what is on this disk has none.

    Args:
        urls: of an index, a proxy or a Git repository.

    Example:
        >>> places(["https://me:secret@a.test/simple", "git@b.test:x/y.git", "file:///srv", "p.test:3128"])
        [('a.test', 443), ('b.test', 22), ('p.test', 3128)]
    """
    found = []
    for url in urls:
        bare = re.fullmatch(r"([\w.-]+):(\d+)/?", url)  # a proxy may be named without its scheme
        short = SHORT.match(url)
        if bare:
            found.append((bare[1], int(bare[2])))
        elif "://" not in url and short:
            found.append((short[1].strip("[]"), PORTS["ssh"]))
        else:
            found += _of_url(url)
    return list(dict.fromkeys(found))


def _of_url(url: str) -> list[tuple[str, int]]:
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        return []
    port = port or PORTS.get(parts.scheme.rpartition("+")[2])
    return [(host, port)] if host and port else []
