"""What is granted to apps and hosts because the site declares a need of it, and when it may be taken away. Pure.

A grant is one line that can be said in words: "demo calls tcp 127.0.0.1:6380". Those that the site wants come from the
pillar; those of before are remembered on the host. Both are in force until nothing that was started with them runs any
more: a release is switched, and a worker stopped, after the states that grant have run.
"""

from __future__ import annotations

import copy
import hashlib
import ipaddress
import re
from collections.abc import Collection, Mapping
from typing import Any
from urllib.parse import parse_qs, urlsplit

Grants = dict[str, dict[str, Any]]

PLACES = ("links", "here", "private", "public")
#: Of each role the setting with its port: who comes there comes for an app, or for what apps need.
PORTS = {"postgres": ("port",), "redis": ("broker_port", "cache_port"), "web": ("port",), "builder": ("port",)}
SERVERS = ("broker", "cache")
#: Variables that tell a process where something is that was granted to it. The rest of its environment grants nothing.
TOLD = ("DATABASE_URL", "REPLICA_URLS", "CACHE_URL", "BROKER_URL", "MEDIA_ROOT")


def wanted(pillar: Mapping[str, Any]) -> Grants:
    """Return what the site grants on this host, by the words for it.

    Args:
        pillar: The host's pillar.

    Returns:
        For each grant ``part`` (which states give it), ``app`` (or None), ``client`` (where who uses it runs: ``here``,
        ``apps`` or ``edges`` for every host with these, or ``elsewhere``, on this ``host``) and what the part needs to
        give it.

    Example:
        >>> wanted({"wiring": {}, "apps": {}})
        {}
    """
    wiring = pillar["wiring"]
    found = _calls(wiring.get("base", {})) | _ports(pillar) | _redis(pillar)
    return found | _postgres(wiring.get("postgres", {}), _hosts(pillar)) | _pages(pillar)


def _calls(base: Mapping[str, Any]) -> Grants:
    found: Grants = {}
    for caller in base.get("egress", {}).get("callers", []):
        for place in PLACES:
            for opening in caller[place]:
                what = {"part": "calls", "app": caller["name"], "client": "here", "users": caller["users"]}
                found[f"{caller['name']} calls {spoken(opening)}"] = {**what, "place": place, "opening": opening}
    return found


def spoken(opening: Mapping[str, Any]) -> str:
    """Return the words for something that an app may call.

    Example:
        >>> spoken({"to": "127.0.0.1", "ports": [6380], "protocol": "tcp"})
        'tcp 127.0.0.1 6380'
    """
    ports = ",".join(map(str, opening["ports"] or [])) or "any port"
    return f"{opening['protocol'] or 'any protocol'} {opening['to']} {ports}"


def _ports(pillar: Mapping[str, Any]) -> Grants:
    ports = {pillar[role][key]: role for role, keys in PORTS.items() if role in pillar for key in keys}
    hosts = _hosts(pillar)
    return {
        f"{source} comes to port {entry['port']}": {
            "part": "ports", "app": None, "client": "elsewhere", "host": _at(source, hosts),
            "role": ports[entry["port"]], "port": entry["port"], "source": source, "why": entry["why"],
        }
        for entry in pillar["wiring"].get("base", {}).get("open_ports", [])
        for source in entry["sources"]
        if entry["port"] in ports
    }  # fmt: skip


def _hosts(pillar: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = pillar.get("fleet", {}).get("hosts", {})
    return found


def _at(address: str, hosts: Mapping[str, Any]) -> str | None:
    """Return the host with an address; who moves to another one is the same host still."""
    bare = address.partition("/")[0]
    return next((name for name, about in hosts.items() if about.get("address") == bare), None)


def _redis(pillar: Mapping[str, Any]) -> Grants:
    found: Grants = {}
    for server in SERVERS:
        for user in pillar["wiring"].get("redis", {}).get(server, {}).get("users", []):
            held = pillar["secrets"].get("apps", {}).get(user["app"], {})
            passwords = [held.get("redis_password"), held.get("previous", {}).get("redis_password")]
            # Hashes, as the file of users has them: no password is remembered.
            good = [hashlib.sha256(password.encode()).hexdigest() for password in passwords if password]
            what = {"part": "redis", "app": user["app"], "client": "apps", "server": server}
            found[f"{user['user']} is a user of the {server}"] = {**what, "user": {**user, "good": good}}
    return found


def _postgres(wiring: Mapping[str, Any], hosts: Mapping[str, Any]) -> Grants:
    found: Grants = {}
    for client in wiring.get("clients", []):
        where = "here" if client["address"].startswith("127.") else "elsewhere"
        host = _at(client["address"], hosts)
        what = {"part": "postgres", "app": client["app"], "client": where, "host": host, "let_in": client}
        found[f"{client['app']} comes to database {client['database']} from {client['address']}"] = what
    for replica in wiring.get("replicas", []):
        what = {"part": "postgres", "app": None, "client": "elsewhere", "host": replica["host"], "replica": replica}
        found[f"{replica['host']} copies the databases from {replica['address']}"] = what
    return found


def _pages(pillar: Mapping[str, Any]) -> Grants:
    found: Grants = {}
    web, hosts = pillar["wiring"].get("web"), _hosts(pillar)
    if web is None:
        return found
    for kind in ("edges", "edge_subjects"):
        for edge in web[kind]:
            host = _at(edge, hosts) if kind == "edges" else edge.partition(".")[0]
            what = {"part": "pages", "app": None, "client": "elsewhere", "host": host, "kind": kind, "edge": edge}
            found[f"{edge} passes requests on"] = what
    if "web" in pillar:
        listen = f"{web['listen']}:{pillar['web']['port']}"
        found[f"pages are at {listen}"] = {
            "part": "pages", "app": None, "client": "edges", "kind": "listen", "listen": listen,
        }  # fmt: skip
    for app, settings in pillar["apps"].items():
        for kind in ("static", "media"):
            if url := settings[f"{kind}_url"]:
                what = {"part": "pages", "app": app, "client": "here", "kind": kind, "url": url}
                found[f"{app} has {kind} files at {url}"] = what
    return found


def both(before: Grants, now: Grants) -> Grants:
    """Return what is in force while a release takes over from another one: what was granted, and what is wanted.

    Args:
        before: What is remembered.
        now: From :func:`wanted`.

    Returns:
        All of both; of what both have, the larger numbers and all of each list.

    Example:
        >>> both({"a": {"part": "calls"}}, {"b": {"part": "calls"}})
        {'b': {'part': 'calls'}, 'a': {'part': 'calls'}}
    """
    merged = {name: _larger(before[name], one) if name in before else one for name, one in now.items()}
    return copy.deepcopy(merged | {name: one for name, one in before.items() if name not in now})


def _larger(before: dict[str, Any], now: dict[str, Any]) -> dict[str, Any]:
    found = copy.deepcopy(now)
    if "opening" in found:
        found["users"] += [user for user in before["users"] if user not in found["users"]]
        if found["opening"].get("most") is not None:
            found["opening"]["most"] = max(found["opening"]["most"], before["opening"].get("most") or 0)
    if "user" in found:
        more = [one for one in before["user"]["broadcasts"] if one not in found["user"]["broadcasts"]]
        found["user"]["broadcasts"] += more
    if "let_in" in found and "limits" in found["let_in"]:
        limits, was = found["let_in"]["limits"], before["let_in"].get("limits", {})
        found["let_in"]["limits"] = {who: max(number, was.get(who, 0)) for who, number in limits.items()}
        found["let_in"]["migrates"] = found["let_in"]["migrates"] or before["let_in"]["migrates"]
    return found


def left(
    before: Grants,
    now: Grants,
    held: Collection[str],
    fleet: Mapping[str, Any],
    elsewhere: Mapping[str, Collection[str]] | None,
) -> Grants:
    """Return what stays in force: what is wanted, and of what was granted that which somebody may still use.

    An edge that the fleet has no more may not (decision 12). Anybody else on another host may, until somebody who knows
    all of them says what is held there; then each grant goes by its own app and host.

    Args:
        before: What is remembered.
        now: From :func:`wanted`.
        held: Apps of which something runs on this host that was started with more than the site gives now.
        fleet: ``host``, the id of this one; ``hosts``, by id the ``roles`` of each and its ``address``; and the
            ``web_port``.
        elsewhere: By host the apps that are held there (:data:`ALL`: it does not say); None as long as nobody knows.

    Example:
        >>> left({"x": {"app": "demo", "client": "here"}}, {}, [], {"host": "a", "hosts": {}}, None)
        {}
    """
    kept = {n: one for n, one in before.items() if one["app"] in held or _used(one, held, fleet, elsewhere)}
    return both(kept, now)


#: What a host holds that does not say what runs there.
ALL = "*"


def _used(
    one: Mapping[str, Any],
    held: Collection[str],
    fleet: Mapping[str, Any],
    elsewhere: Mapping[str, Collection[str]] | None,
) -> bool:
    """Return whether somebody on another host may use it; ``held`` is asked before."""
    if one["client"] == "here":
        return False
    others = {name: about for name, about in fleet["hosts"].items() if name != fleet["host"]}
    if one["client"] == "apps":
        if elsewhere is None:
            return any({"web", "worker"} & {*about["roles"]} for about in others.values())
        return any({one["app"], ALL} & {*apps} for apps in elsewhere.values())
    if one["client"] == "edges":
        return elsewhere is None and any("edge" in about["roles"] for about in others.values())
    host = _host_of(one, fleet)
    if host == fleet["host"]:  # not by loopback, but it is this one: an edge of its own has ended by now
        return one["part"] == "ports" and not _is_edges(one, fleet) and bool(held)
    if host is None or host not in others:
        return elsewhere is None and bool(others) and not _is_edges(one, fleet)
    if elsewhere is None:
        return True
    if one["app"] or _is_edges(one, fleet):
        return bool({one["app"], ALL} & {*elsewhere.get(host, [])})
    # A copy of the databases runs no app; whoever reads there still, reads what it copies.
    runs_apps = {"web", "worker"} & {*others[host]["roles"]}
    return bool(elsewhere.get(host)) if runs_apps else any(elsewhere.values())


def _is_edges(one: Mapping[str, Any], fleet: Mapping[str, Any]) -> bool:
    """Return whether who uses it is an edge."""
    if one["part"] == "ports":  # a port that was another one, too
        return one.get("role") == "web" or one["port"] == fleet.get("web_port")
    return one["part"] == "pages"


def _host_of(one: Mapping[str, Any], fleet: Mapping[str, Any]) -> str | None:
    """Return the host that it is granted to; None when the fleet has no such host any more."""
    if one.get("host"):
        return str(one["host"]) if one["host"] in fleet["hosts"] else None
    address = one.get("source") or one.get("edge") or (one.get("let_in") or one["replica"])["address"]
    if address.startswith("127."):
        return str(fleet["host"])
    if one.get("kind") == "edge_subjects":
        first = address.partition(".")[0]
        return first if first in fleet["hosts"] else None
    return _at(address, fleet["hosts"])


def strangers(grants: Grants, fleet: Mapping[str, Any]) -> list[str]:
    """Return what is granted to hosts that the fleet does not have, sorted.

    Args:
        grants: What is in force.
        fleet: As for :func:`left`.

    Example:
        >>> strangers({}, {"host": "a", "hosts": {}})
        []
    """
    return sorted(n for n, one in grants.items() if one["client"] == "elsewhere" and _host_of(one, fleet) is None)


def fewer(before: Grants, now: Grants) -> dict[str, dict[str, Any]]:
    """Return what is taken away, as the changes of a state: old and new by the words for it.

    Args:
        before: What is in force.
        now: What stays in force.

    Example:
        >>> fewer({"a": {"part": "calls"}}, {})
        {'a': {'old': 'granted', 'new': None}}
    """
    gone = {name: {"old": "granted", "new": None} for name in sorted(before) if name not in now}
    for name in sorted({*before} & {*now}):
        more, less = _sizes(before[name]), _sizes(now[name])
        if more != less:
            gone[name] = {"old": more, "new": less}
    return gone


def _sizes(one: Mapping[str, Any]) -> Any:
    """Return what can become less of a grant that stays."""
    if "opening" in one:
        return {"connections": one["opening"].get("most"), "users": sorted(one["users"])}
    if "user" in one:
        return sorted(one["user"]["broadcasts"])
    if "let_in" in one:
        return {**one["let_in"].get("limits", {}), "migrates": one["let_in"]["migrates"]}
    return None


def more(before: Grants, now: Grants) -> dict[str, dict[str, Any]]:
    """Return what is granted beyond what was, as the changes of a state.

    Args:
        before: What was in force.
        now: What is.

    Example:
        >>> more({}, {"a": {"part": "calls"}})
        {'a': {'old': None, 'new': 'granted'}}
    """
    return {name: {"old": one["new"], "new": one["old"]} for name, one in fewer(now, before).items()}


def parts(names: Collection[str], grants: Grants) -> list[str]:
    """Return which parts give these grants, sorted.

    Example:
        >>> parts(["a"], {"a": {"part": "redis"}})
        ['redis']
    """
    return sorted({grants[name]["part"] for name in names})


def base(wiring: Mapping[str, Any], grants: Grants) -> dict[str, Any]:
    """Return ``wiring:base`` of the pillar with these grants in the place of its own.

    Args:
        wiring: ``wiring:base``.
        grants: From :func:`both`.

    Example:
        >>> base({"open_ports": [], "egress": {"callers": []}}, {})
        {'open_ports': [], 'egress': {'callers': []}}
    """
    found = copy.deepcopy(dict(wiring))
    ports = {entry["port"]: entry for entry in found["open_ports"]}
    callers = {caller["name"]: caller for caller in found["egress"]["callers"]}
    for one in grants.values():
        if one["part"] == "ports":
            entry = ports.setdefault(one["port"], {"port": one["port"], "sources": [], "why": one["why"]})
            # One without sources is open to all already.
            if one["source"] not in entry["sources"] and (entry["sources"] or entry not in found["open_ports"]):
                entry["sources"].append(one["source"])
        elif one["part"] == "calls":
            caller = callers.setdefault(one["app"], {"name": one["app"], "users": [], **{p: [] for p in PLACES}})
            caller["users"] += [user for user in one["users"] if user not in caller["users"]]
            _give(caller[one["place"]], one["opening"])
    found["open_ports"] = sorted(ports.values(), key=lambda entry: int(entry["port"]))
    found["egress"]["callers"] = [callers[name] for name in sorted(callers)]
    return found


def _give(openings: list[dict[str, Any]], opening: dict[str, Any]) -> None:
    for number, there in enumerate(openings):
        if spoken(there) == spoken(opening):
            openings[number] = opening
            return
    openings.append(opening)


def servers() -> list[str]:
    """Return the names of Redis' two servers.

    Example:
        >>> servers()
        ['broker', 'cache']
    """
    return list(SERVERS)


def users(server: str, grants: Grants) -> list[dict[str, Any]]:
    """Return the users of one of the two servers of Redis, with the hashes of their ``good`` passwords, by name.

    Args:
        server: ``broker`` or ``cache``.
        grants: From :func:`both`.

    Example:
        >>> users("cache", {})
        []
    """
    found = [one["user"] for one in grants.values() if one["part"] == "redis" and one["server"] == server]
    return sorted(found, key=lambda user: str(user["app"]))


def postgres(grants: Grants, apps: Collection[str]) -> dict[str, list[dict[str, Any]]]:
    """Return who comes to the databases.

    Args:
        grants: From :func:`both`.
        apps: The apps of the site.

    Returns:
        ``clients`` of the site's apps; ``leaving``, those of apps that the site has no more; ``replicas``.

    Example:
        >>> postgres({}, [])
        {'clients': [], 'leaving': [], 'replicas': []}
    """
    those = [one for one in grants.values() if one["part"] == "postgres"]
    clients = [copy.deepcopy(one["let_in"]) for one in those if "let_in" in one]
    clients.sort(key=lambda client: str(client["app"]))
    # A role's settings are those of the app, wherever it comes from.
    for client in clients:
        same = [other for other in clients if other["database"] == client["database"]]
        client |= {key: same[0][key] for key in ("settings", "user", "owner") if key in same[0]}
        if "limits" in client:
            limits = [other["limits"] for other in same if "limits" in other]
            client["limits"] = {who: max(one[who] for one in limits) for who in client["limits"]}
    return {
        "clients": [client for client in clients if client["app"] in apps],
        "leaving": [client for client in clients if client["app"] not in apps],
        "replicas": [one["replica"] for one in those if "replica" in one],
    }


def pages(grants: Grants) -> dict[str, Any]:
    """Return whom nginx serves, and where it looks for files.

    Args:
        grants: From :func:`both`.

    Returns:
        ``edges`` and ``edge_subjects``; ``listens``: where edges come to; ``static`` and ``media``: the URLs of each
        app, in one list.

    Example:
        >>> pages({})
        {'edges': [], 'edge_subjects': [], 'listens': [], 'static': {}, 'media': {}}
    """
    found: dict[str, Any] = {"edges": [], "edge_subjects": [], "listens": [], "static": {}, "media": {}}
    for one in grants.values():
        if one["part"] == "pages" and "listen" in one:
            found["listens"].append(one["listen"])
        elif one["part"] == "pages" and "edge" in one:
            found[one["kind"]].append(one["edge"])
        elif one["part"] == "pages":
            # A place that is another kind's now is that one's: the site's own grants come first.
            taken = [url for kind in ("static", "media") for url in found[kind].get(one["app"], [])]
            if one["url"] not in taken:
                found[one["kind"]].setdefault(one["app"], []).append(one["url"])
    return found


def excess(had: Mapping[str, str], given: Mapping[str, str]) -> list[str]:
    """Return the variables by which a process was told of something that the site does not give any more.

    Passwords and login roles do not count: they are replaced by overlap.

    Args:
        had: The environment that it was started with.
        given: The one that a release of now has.

    Example:
        >>> excess({"CACHE_URL": "rediss://app-demo:x@127.0.0.1:6381/0"}, {})
        ['CACHE_URL']
        >>> excess({"CACHE_URL": "rediss://app-demo:x@h:1/0"}, {"CACHE_URL": "rediss://app-demo:y@h:1/0"})
        []
    """
    return [name for name in TOLD if _ends(name, had.get(name, "")) - _ends(name, given.get(name, ""))]


def _ends(name: str, value: str) -> set[str]:
    if name == "MEDIA_ROOT":
        return {value} if value else set()
    found = set()
    for url in filter(None, value.split(",")):
        told = urlsplit(url)
        address = parse_qs(told.query).get("hostaddr", [told.hostname or ""])[0]
        found.add(f"{address}:{told.port}{told.path}")
    return found


def sound(found: Any) -> bool:
    """Return whether a record is one: each grant with all that its part needs to give it.

    Example:
        >>> sound({}), sound(None), sound({"a": {"part": "calls"}})
        (True, False, False)
    """
    try:
        return isinstance(found, dict) and all(map(_is_grant, found.values()))
    except (AttributeError, KeyError, TypeError, ValueError):
        return False


def _is_grant(one: dict[str, Any]) -> bool:
    if not (one["app"] is None or isinstance(one["app"], str)) or one["client"] not in CLIENTS:
        return False
    return isinstance(one.get("host", ""), str | None) and SHAPES[one["part"]](one)


def _texts(*values: Any) -> bool:
    return all(isinstance(value, str) for value in values)


def _networks(*values: str) -> bool:
    return all(bool(ipaddress.ip_network(value)) for value in values)


def _is_opening(one: dict[str, Any]) -> bool:
    opening = one["opening"]
    numbers = [*(opening["ports"] or []), opening.get("most") or 0]
    known = opening["protocol"] in (None, "tcp", "udp") and one["place"] in PLACES and _texts(*one["users"])
    return known and all(type(n) is int for n in numbers) and (opening["to"] == "internet" or _networks(opening["to"]))


def _is_login(one: dict[str, Any]) -> bool:
    told = one.get("let_in") or one["replica"]
    names = ("app", "database", "user", "owner") if "let_in" in one else ("host", "slot")
    return _texts(*(told[name] for name in names)) and _networks(told["address"])


def _is_page(one: dict[str, Any]) -> bool:
    if one["kind"] in ("static", "media"):
        return _texts(one["url"], one["app"])
    if one["kind"] == "listen":
        address, _, port = one["listen"].rpartition(":")
        return _networks(address) and port.isdigit()
    return _texts(one["edge"]) and (
        one["kind"] == "edge_subjects" or (one["kind"] == "edges" and _networks(one["edge"]))
    )


def _is_redis_user(one: dict[str, Any]) -> bool:
    user = one["user"]
    told = _texts(user["app"], user["user"], user["keys"], *user["broadcasts"], *user["good"])
    return told and one["server"] in SERVERS and bool(user["good"])


CLIENTS = ("here", "apps", "edges", "elsewhere")
SHAPES = {
    "calls": _is_opening,
    "ports": lambda one: type(one["port"]) is int and _networks(one["source"]) and _texts(one["why"]),
    "redis": _is_redis_user,
    "postgres": _is_login,
    "pages": _is_page,
}


def of_unit(folder: str) -> tuple[str, str] | None:
    """Return the app and the release that a unit runs, by its working directory.

    Example:
        >>> of_unit("/srv/apps/demo/releases/6f1d3c0a9b2e-2fcc3ffb/src")
        ('demo', '6f1d3c0a9b2e-2fcc3ffb')
    """
    found = re.fullmatch(r"/srv/apps/([^/]+)/releases/([^/]+)/src", folder)
    return (found[1], found[2]) if found else None
