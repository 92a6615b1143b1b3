"""What a host grants, read from what is in force on it: the firewall's rules, the users of Redis, pg_hba.conf, nginx'
configuration and the releases' environments. Pure.

For a host that has no record of its grants: an older Saltern has converged it, or the record is damaged. All of these
files are root's own, and Saltern writes them as a whole. What is not understood is left out.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Any
from urllib.parse import parse_qs, urlsplit

Grants = dict[str, dict[str, Any]]

OURS = "# Written by Salt"
#: Where an app's chain of the firewall closes something: what it accepts before is another place (egressrules.py).
PLACES = {"jump closed_fleet": "private", "jump closed_not_public": "public"}
ACCEPTED = re.compile(
    r"(?:ip6? daddr \{ (?P<to>[^}]*) \} )?meta l4proto \{ (?P<protocols>[^}]*) \}(?: th dport \{ (?P<ports>[^}]*) \})?"
    r" (?:ct state new ct count over (?P<most>\d+) goto refused|accept)"
)
PORT = re.compile(r'^\s*ip6? saddr \{ ([^}]*) \} tcp dport (\d+) accept comment "([^"]*)"', re.MULTILINE)
USER = re.compile(r"^user app-(\S+) on ((?:#[0-9a-f]{64} ?)+)~(\S+) resetchannels ((?:&\S+ ?)+)", re.MULTILINE)
LINE = re.compile(r'^hostssl "([^"]+)" "([^"]+)" (\S+) scram-sha-256$', re.MULTILINE)
PLACE = re.compile(r"location (\S+) \{\s*alias /srv/apps/([^/]+)/(static|media)/;")
EDGE = re.compile(r"^\s*set_real_ip_from (\S+);", re.MULTILINE)
SUBJECT = re.compile(r'^\s*"SUCCESS CN=([^"]+)" 1;', re.MULTILINE)
LISTEN = re.compile(r"^\s*listen ([0-9.]+:\d+) (?:ssl )?default_server", re.MULTILINE)
#: Variables of a release that name a server which it calls.
SERVERS = ("DATABASE_URL", "REPLICA_URLS", "CACHE_URL", "BROKER_URL")
#: Before apps had chains of their own in the firewall, their code could call whom it liked.
ANYBODY = ("0.0.0.0/0", "::/0")


def opening(to: str, ports: list[int] | None, protocol: str | None) -> dict[str, Any]:
    """Return one thing that an app may call, as the pillar has it.

    Example:
        >>> opening("127.0.0.1/32", [6380], "tcp")
        {'to': '127.0.0.1', 'ports': [6380], 'protocol': 'tcp'}
    """
    return {"to": re.sub(r"(?<=[.0-9])/32$|/128$", "", to), "ports": ports, "protocol": protocol}


def calls(rules: str, apps: Mapping[str, Mapping[str, Any]]) -> list[tuple[str, str, dict[str, Any]]]:
    """Return what apps' code may call by the firewall's rules, and what its releases were told to call.

    Args:
        rules: /etc/nftables.conf.
        apps: By name the ``environments`` of its releases on this host.

    Returns:
        The app, the place among the rules, and the opening.

    Example:
        >>> calls("", {})
        []
    """
    found = []
    for app, about in sorted(apps.items()):
        if not about["users"]:  # it has no account any more, so nothing of it runs
            continue
        chain = re.search(rf"\tchain calls_{app.replace('-', '_')} \{{\n(.*?)\t\}}", rules, re.DOTALL)
        if chain:
            found += [(app, place, one) for place, one in _accepted(chain[1])]
        else:
            found += [(app, "private", opening(to, None, None)) for to in ANYBODY]
        found += [(app, "links", one) for one in told(about["environments"])]
    return found


def _accepted(chain: str) -> list[tuple[str, dict[str, Any]]]:
    found: list[tuple[str, dict[str, Any]]] = []
    place, most = "links", None
    for line in map(str.strip, chain.splitlines()):
        place = PLACES.get(line, place)
        match = ACCEPTED.fullmatch(line)
        if not match:
            continue
        if match["most"]:
            most = int(match["most"])
            continue
        ports = [int(port) for port in match["ports"].split(", ")] if match["ports"] else None
        protocols = match["protocols"].split(", ")
        # What every app asks: the host's name servers, which are no grant.
        if not (place == "links" and ports == [53] and len(protocols) == 2):
            one = opening(match["to"] or "internet", ports, protocols[0] if len(protocols) == 1 else None)
            found.append((place, {**one, "most": most} if most else one))
        most = None
    return found


def told(environments: Collection[Mapping[str, str]]) -> list[dict[str, Any]]:
    """Return the servers that releases were told of, each once.

    Example:
        >>> told([{"CACHE_URL": "rediss://u:p@h:6381/0?hostaddr=10.0.0.3"}])
        [{'to': '10.0.0.3', 'ports': [6381], 'protocol': 'tcp'}]
    """
    found: list[dict[str, Any]] = []
    for environment in environments:
        for url in [url for name in SERVERS for url in environment.get(name, "").split(",") if url]:
            try:
                parts = urlsplit(url)
                port = parts.port
            except ValueError:
                continue
            address = parse_qs(parts.query).get("hostaddr", [parts.hostname or ""])[0]
            if not port or not re.fullmatch(r"[0-9.]+|[0-9a-f:]+", address):
                continue
            one = opening(address, [port], "tcp")
            if one not in found:
                found.append(one)
    return found


def ports(rules: str) -> list[dict[str, Any]]:
    """Return which ports the firewall opens to whom, but for those that are open to all.

    Example:
        >>> ports('\\t\\tip saddr { 10.0.0.5/32 } tcp dport 5432 accept comment "the databases"\\n')
        [{'source': '10.0.0.5', 'port': 5432, 'why': 'the databases'}]
    """
    return [
        {"source": opening(source, None, None)["to"], "port": int(port), "why": why}
        for sources, port, why in PORT.findall(rules)
        for source in sources.split(", ")
    ]


def users(text: str) -> list[dict[str, Any]]:
    """Return the apps' users that a file of Redis' users has, with the hashes of their passwords.

    Example:
        >>> [one["app"] for one in users(f"user app-demo on #{'a' * 64} ~demo:* resetchannels &demo:* +get\\n")]
        ['demo']
    """
    found = []
    for app, good, keys, channels in USER.findall(text):
        broadcasts = [name[1:] for name in channels.split() if name[1:] != keys]
        hashes = [one.removeprefix("#") for one in good.split()]
        found.append({"app": app, "user": f"app-{app}", "keys": keys, "broadcasts": broadcasts, "good": hashes})
    return found


def clients(hba: str, known: Collection[Mapping[str, Any]], apps: Mapping[str, Mapping[str, Any]]) -> list[Any]:
    """Return who may come to the databases.

    Args:
        hba: pg_hba.conf.
        known: The clients of the site, which say more of a database than the file.
        apps: As for :func:`calls`; their releases tell which database is whose.

    Example:
        >>> clients('hostssl "d" "d" 10.0.0.5/32 scram-sha-256\\n', [], {})[0]["user"]
        'd'
    """
    lines: dict[tuple[str, str], list[str]] = {}
    for database, login, address in LINE.findall(hba):
        lines.setdefault((database, address), []).append(login)
    whose = {
        urlsplit(environment.get("DATABASE_URL", "")).path.strip("/"): app
        for app, about in apps.items()
        for environment in about["environments"]
    }
    found = []
    for (database, address), logins in lines.items():
        like = next((one for one in known if one["database"] == database), None)
        owner = str(like["owner"]) if like else f"{database}_owner"
        by = {"owner": [one for one in logins if one.removesuffix("__2") == owner]}
        by["user"] = [one for one in logins if one not in by["owner"]]
        about = dict(like) if like else {"app": whose.get(database, database.replace("_", "-")), "database": database}
        about |= {"user": about.get("user", database), "owner": owner, "address": address}
        found.append(about | {"logins": by, "migrates": bool(by["owner"])})
    return found


def grants(
    files: Mapping[str, str],
    apps: Mapping[str, Mapping[str, Any]],
    known: Collection[Mapping[str, Any]],
    spoken: Any,
) -> Grants:
    """Return what is in force, by the words for it, as ``needs.wanted`` has them.

    Args:
        files: The text of each of ``firewall``, ``broker``, ``cache``, ``hba`` and ``nginx`` that is there.
        apps: For each app of which there are releases its ``environments`` and ``users``.
        known: The clients of the databases by the site.
        spoken: The words for an opening.

    Example:
        >>> grants({}, {}, [], str)
        {}
    """
    found: Grants = {}
    rules = files.get("firewall", "")
    for app, place, one in calls(rules, apps) if OURS in rules else []:
        what = {"part": "calls", "app": app, "client": "here", "users": list(apps[app]["users"])}
        found.setdefault(f"{app} calls {spoken(one)}", {**what, "place": place, "opening": one})
    for entry in ports(rules):
        name = f"{entry['source']} comes to port {entry['port']}"
        found[name] = {"part": "ports", "app": None, "client": "elsewhere", **entry}
    for server in ("broker", "cache"):
        for user in users(files.get(server, "")):
            found[f"{user['user']} is a user of the {server}"] = {
                "part": "redis", "app": user["app"], "client": "apps", "server": server, "user": user,
            }  # fmt: skip
    for client in clients(files.get("hba", ""), known, apps):
        where = "here" if client["address"].startswith("127.") else "elsewhere"
        name = f"{client['app']} comes to database {client['database']} from {client['address']}"
        found[name] = {"part": "postgres", "app": client["app"], "client": where, "let_in": client}
    return found | _pages(files.get("nginx", ""))


def _pages(text: str) -> Grants:
    if OURS not in text:
        return {}
    found: Grants = {}
    for kind, names in (("edges", EDGE.findall(text)), ("edge_subjects", SUBJECT.findall(text))):
        for edge in names:
            what = {"part": "pages", "app": None, "client": "elsewhere", "kind": kind, "edge": edge}
            found[f"{edge} passes requests on"] = what
    for listen in LISTEN.findall(text):
        what = {"part": "pages", "app": None, "client": "edges", "kind": "listen", "listen": listen}
        found[f"pages are at {listen}"] = what
    for url, app, kind in PLACE.findall(text):
        what = {"part": "pages", "app": app, "client": "here", "kind": kind, "url": url}
        found[f"{app} has {kind} files at {url}"] = what
    return found
