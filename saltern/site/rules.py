"""Rules that span files or hosts.

They read the files' own data and pass over what has the wrong shape, which the models tell: so a mistake in one key of
a host or an app does not hide that another key clashes.
"""

from __future__ import annotations

import contextlib
import ipaddress
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from .apps import App, database_name
from .document import Document
from .egress import LOOPBACK, Opening, inside
from .errorpages import read as read_pages
from .errors import Problem, nearest
from .kinds import ANYBODYS_PORTS, SiteFolder
from .names import roles_of
from .placeholders import NEEDS, used
from .roles import ALL, FIXED_PORTS, PORTS, ROLES
from .templates import problems as template_problems
from .templates import used as used_in_template
from .windows import DAY_MINUTES, slots

SITE_FOLDER = TypeAdapter(SiteFolder)
PORT_START, PORT_RANGE = "net.ipv4.ip_unprivileged_port_start", "net.ipv4.ip_local_port_range"
ANSWERED_BY_THE_APP = ("health_path", "serving_path", "version_path")


@dataclass
class Files:
    """The files of a site, as they were read.

    Args:
        fleet: fleet.yaml.
        settings: settings.yaml.
        apps: apps/<app>.yaml by app.
        merged: each role's settings over its defaults, not yet checked.
        repository: where relative source directories count from.
        fleet_is_valid: whether fleet.yaml has no error of its own.
    """

    fleet: Document
    settings: Document
    repository: Path
    apps: dict[str, Document] = field(default_factory=dict)
    merged: dict[str, dict[str, Any]] = field(default_factory=dict)
    fleet_is_valid: bool = False

    def roles(self, host: object) -> list[object]:
        """Return the roles of a host as they are written."""
        roles = self.fleet.at("hosts", host, "roles")
        return roles if isinstance(roles, list) else []

    def replica_of(self, host: object) -> object:
        """Return whose replica a host is as it is written, or None."""
        return self.fleet.at("hosts", host, "replica_of")


def check(files: Files) -> list[Problem]:
    """Return what is wrong between the files of a site."""
    rules = (
        _addresses,
        _virtual_address,
        _counts,
        _masters,
        _replicas,
        _hostnames,
        _owners,
        _default_databases,
        _extra_roles,
        _sources,
        _templates,
        _error_pages,
        _urls,
        _files,
        _ports,
        _anybodys_ports,
        _windows,
        _spool,
        _uploads,
        _workers,
        _units,
        _egress,
        _needed,
    )
    return [problem for rule in rules for problem in rule(files)]


def _duplicates(values: Iterable[tuple[str, object]]) -> dict[str, list[str]]:
    """Return {value: names} for each text that more than one name has; what is no text is passed over."""
    names = defaultdict(list)
    for name, value in dict.fromkeys((name, value) for name, value in values if isinstance(value, str)):
        names[value].append(name)
    return {value: found for value, found in names.items() if len(found) > 1}


def _addresses(files: Files) -> Iterator[Problem]:
    first: dict[str, str] = {}
    for where, address in _all_addresses(files):
        host = str(where[1])
        if address in first:
            text = f"{address} is the address of {first[address]} too; each host needs its own"
            yield files.fleet.problem(where, text)
        first.setdefault(address, host)


def _all_addresses(files: Files) -> list[tuple[tuple[Any, ...], str]]:
    """Each address of each host, in one spelling, and where it stands: those that others use before further ones."""
    hosts = files.fleet.names("hosts")
    found: list[tuple[tuple[Any, ...], Any]] = [
        (("hosts", host, "address"), files.fleet.at("hosts", host, "address")) for host in hosts
    ]
    for host in hosts:
        others = files.fleet.at("hosts", host, "other_addresses")
        for number, address in enumerate(others if isinstance(others, list) else []):
            found.append((("hosts", host, "other_addresses", number), address))
    return [(where, _spelt(address)) for where, address in found if isinstance(address, str)]


def _spelt(address: str) -> str:
    try:
        return str(ipaddress.ip_address(address))
    except ValueError:
        return address


def _virtual_address(files: Files) -> Iterator[Problem]:
    address = files.fleet.at("virtual_address")
    if not isinstance(address, str):
        return
    for where, taken in _all_addresses(files):
        if taken == address:
            text = f"{address} is the address of {where[1]}; take one that no host has"
            yield files.fleet.problem(("virtual_address",), text)
    edges = [str(host) for host in files.fleet.names("hosts") if "edge" in files.roles(host)]
    if len(edges) < 2 and files.fleet_is_valid:
        text = f"the hosts with role edge share it, and there are {len(edges)}; give the role to two, or take this out"
        yield files.fleet.problem(("virtual_address",), text)


def _counts(files: Files) -> Iterator[Problem]:
    hosts = files.fleet.names("hosts")
    holders = {role: [str(host) for host in hosts if role in files.roles(host)] for role in ROLES}
    asked = {need for file in files.apps.values() for need in _needs(file)}
    needed = [role for role, about in ALL.items() if about.needed_by_apps or asked & {*about.needed_for}]
    for role in [role for role, about in ALL.items() if about.one_only]:
        holding = [host for host in holders[role] if role != "postgres" or files.replica_of(host) is None]
        if len(holding) > 1:
            more = f", and its replicas (replica_of: {holding[0]})" if role == "postgres" else ""
            text = f"role {role} is on {', '.join(holding)}; allowed: one host{more}"
            yield files.fleet.problem(("hosts", holding[1], "roles"), text)
    # A role that is misspelt, or on a host that is, is not absent.
    missing = [role for role in needed if not holders[role]]
    if files.apps and files.fleet_is_valid and missing:
        text = f"no host has role {', '.join(missing)}, but there are apps; give each of these roles to a host"
        yield files.fleet.problem(("hosts",), text)


def _masters(files: Files) -> Iterator[Problem]:
    """Check masters and minions. A misspelt role is not absent, so this waits until the fleet itself is right."""
    hosts = files.fleet.names("hosts")
    minions = [host for host in hosts if "minion" in files.roles(host)]
    if minions and files.fleet_is_valid and not any("master" in files.roles(host) for host in hosts):
        text = "role minion takes its orders from a master, and no host has role master; give it to one host"
        yield files.fleet.problem(("hosts", minions[0], "roles"), text)


def _replicas(files: Files) -> Iterator[Problem]:
    """Check that a replica is a copy of the one primary, itself no copy: each change comes from one host."""
    hosts = [str(host) for host in files.fleet.names("hosts")]
    for host in hosts:
        named = files.replica_of(host)
        if not isinstance(named, str):
            continue
        if "postgres" not in files.roles(host):
            text = "the host has no role postgres; give it the role, or take this key out"
        elif named not in hosts:
            text = f'"{named}" is not in the fleet; {nearest(named, hosts)}'
        elif named == host:
            text = "a host cannot be its own replica; name the host that it shall be a copy of"
        elif "postgres" not in files.roles(named):
            text = f"{named} has no role postgres, so there is nothing to copy; name a host that has it"
        elif files.replica_of(named) is not None:
            text = f"{named} is a replica itself; name the host that it is a copy of"
        else:
            continue
        yield files.fleet.problem(("hosts", host, "replica_of"), text)


def _hostnames(files: Files) -> Iterator[Problem]:
    listed = {app: file.at("hostnames") for app, file in files.apps.items()}
    claimed = [(app, name) for app, names in listed.items() if isinstance(names, list) for name in names]
    for name, apps in _duplicates((app, name) for app, name in claimed if isinstance(name, str)).items():
        for app in apps[1:]:
            text = f"{name} is a host name of app {apps[0]} too; a request can reach only one"
            yield files.apps[app].problem(("hostnames",), text)
    domain = files.fleet.at("domain")
    own = {name: str(host) for host in files.fleet.names("hosts") for name in (str(host), f"{host}.{domain}")}
    for app, name in claimed:
        if isinstance(name, str) and name in own:
            text = f"{name} is the name of host {own[name]}, which others reach it by; take another name"
            yield files.apps[app].problem(("hostnames",), text)


def _owners(files: Files) -> Iterator[Problem]:
    admins = files.merged.get("base", {}).get("admins")
    taken = {"user": admins if isinstance(admins, dict) else {}}
    for key, what in (("database", "database"), ("user", "account")):
        owned = {app: _owned(files, app, key) for app in files.apps}
        for value, apps in _duplicates(owned.items()).items():
            for app in apps[1:]:
                text = f"{value} is the {what} of app {apps[0]} too; each app needs its own"
                yield files.apps[app].problem((key,), text)
        if key == "database":
            yield from _owning_roles(files, owned)
        for app, own in owned.items():
            if isinstance(own, str) and own in taken.get(key, {}):
                text = f"{own} is a person's account (base.admins); the app needs its own"
                yield files.apps[app].problem((key,), text)


def _owning_roles(files: Files, databases: dict[str, object]) -> Iterator[Problem]:
    """No role of one app's database may have the name of another one's: not in the second of its slots either."""
    roles = {app: roles_of(name) for app, name in databases.items() if isinstance(name, str)}
    for app, own in roles.items():
        for other, theirs in roles.items():
            if databases[app] != databases[other] and own[0] in theirs:
                text = f"{own[0]} is a role of the database of app {other}; take another name"
                yield files.apps[app].problem(("database",), text)


def _default_databases(files: Files) -> Iterator[Problem]:
    """Refuse what follows from an app's name as what a file says: an app `postgres` would be the superuser."""
    for app, file in files.apps.items():
        if file.at("database") is None:
            try:
                database_name(str(_owned(files, app, "database")))
            except ValueError as error:
                why = str(error).replace("take the default or another name", "give another one")
                text = f"follows from the app's name, and {why}"
                yield file.problem(("database",), text)


def _extra_roles(files: Files) -> Iterator[Problem]:
    """Check that no role that the site names is one that an app logs in with."""
    names = files.merged.get("postgres", {}).get("extra_roles")
    owned = {app: _owned(files, app, "database") for app in files.apps}
    taken = {role: app for app, name in owned.items() if isinstance(name, str) for role in roles_of(name)}
    for place, name in enumerate(names if isinstance(names, list) else []):
        if isinstance(name, str) and name in taken:
            text = f"{name} is a role of the database of app {taken[name]}; take it out, or another name"
            yield files.settings.problem(("postgres", "extra_roles", place), text)


def _owned(files: Files, app: str, key: str) -> object:
    """Return the database or user of an app, by its file or by default."""
    return files.apps[app].at(key) or getattr(App.model_construct().filled(app), key)


def _sources(files: Files) -> Iterator[Problem]:
    for file in files.apps.values():
        directory = file.at("source", "directory")
        # An absolute path is looked at on the builder: this may be another machine.
        if not isinstance(directory, str) or Path(directory).is_absolute():
            continue
        if not _is_directory(files.repository / directory):
            text = f"no directory {files.repository / directory}; a relative path counts from the repository"
            yield file.problem(("source", "directory"), text)


def _urls(files: Files) -> Iterator[Problem]:
    for file in files.apps.values():
        static, media = file.at("static_url") or App.model_fields["static_url"].default, file.at("media_url")
        if (
            isinstance(media, str)
            and isinstance(static, str)
            and (media.startswith(static) or static.startswith(media))
        ):
            yield file.problem(("media_url",), f"{media} and static_url ({static}) overlap; neither may hold the other")
        for key, folder in (("static_url", static), ("media_url", media)):
            for other in ANSWERED_BY_THE_APP:
                path = file.at(other) if other in file.names() else App.model_fields[other].default
                if (
                    isinstance(folder, str)
                    and folder.strip("/")
                    and isinstance(path, str)
                    and f"{path}/".startswith(folder)
                ):
                    text = f"{folder} holds {other} ({path}), which the app answers and no file; take another folder"
                    yield file.problem((key,), text)


def _files(files: Files) -> Iterator[Problem]:
    """Check that no file of an app stands where another one needs a folder."""
    for file in files.apps.values():
        names = [name for name in file.names("files") if isinstance(name, str)]
        for name in names:
            if inner := [other for other in names if other.startswith(f"{name}/")]:
                text = f"{inner[0]} would be in it, and it is a file; take one of the two out"
                yield file.problem(("files", name), text)


def _templates(files: Files) -> Iterator[Problem]:
    folder = Path(files.fleet.file).parent / "apps"
    for file in files.apps.values():
        for name in file.names("files"):
            template = file.at("files", name, "template")
            if isinstance(template, str) and ".." not in template.split("/") and not template.startswith("/"):
                yield from (
                    Problem(str(folder / template), problem.line, "", str(problem))
                    for problem in template_problems(folder / template)
                )


def _error_pages(files: Files) -> Iterator[Problem]:
    apps = Path(files.fleet.file).parent / "apps"
    for file in files.apps.values():
        try:
            found = read_pages(apps, SITE_FOLDER.validate_python(file.at("error_pages")))[1]
        except ValidationError:  # none, or the model tells of it
            continue
        yield from (Problem(path, 0, "", text) for path, text in found)


def _is_directory(path: Path) -> bool:
    try:
        return path.is_dir()
    except (OSError, ValueError):  # no path at all: too long, or with a null in it
        return False


def _workers(files: Files) -> Iterator[Problem]:
    has = any("worker" in files.roles(host) for host in files.fleet.names("hosts"))
    for file in files.apps.values():
        for key in ("processes", "timers"):
            if not has and files.fleet_is_valid and file.at(key):
                text = f"no host has role worker, but there are {key}; give the role to a host in fleet.yaml"
                yield file.problem((key,), text)


def _units(files: Files) -> Iterator[Problem]:
    """Names of apps, processes and timers become names of units, and those must differ."""
    places: dict[str, tuple[str, tuple[object, ...]]] = {app: (app, ()) for app in files.apps}
    for app, file in files.apps.items():
        for key in ("processes", "timers"):
            for name in file.names(key):
                unit, place = f"{app}-{name}", (key, name)
                if unit in places:
                    other, at = places[unit]
                    what = f"{'.'.join(map(str, at))} of app {other}" if at else f"app {other}"
                    yield file.problem(place, f"its unit is app-{unit}, as that of {what}; take another name")
                places.setdefault(unit, (app, place))


def _needs(file: Document) -> Iterator[str]:
    """Yield what an app has a need of in Redis, by its file."""
    if file.at("cache") is True:
        yield "cache"
    broker, kinds = file.at("broker"), ("celery", "beat")
    named = [(name, kind) for name in file.names("processes") for kind in kinds]
    if broker is True or (broker is None and any(file.at("processes", name, kind) is not None for name, kind in named)):
        yield "broker"


def _needed(files: Files) -> Iterator[Problem]:
    """Check that no variable and no file tells an app what it has no need of."""
    folder = Path(files.fleet.file).parent / "apps"
    for file in files.apps.values():
        has = {*_needs(file)}
        texts = {
            ("env", name): used(text) for name in file.names("env") if isinstance(text := file.at("env", name), str)
        }
        for name in file.names("files"):
            template = file.at("files", name, "template")
            if isinstance(template, str) and ".." not in template.split("/") and not template.startswith("/"):
                texts[("files", name)] = used_in_template(folder / template)
        for place, names in texts.items():
            for name in sorted(names & NEEDS.keys()):
                if NEEDS[name] not in has:
                    text = (
                        f"{name} is used, but the app has no {NEEDS[name]}; add `{NEEDS[name]}: true`, or take it out"
                    )
                    yield file.problem(place, text)
        if file.at("broker") is False:
            for name in file.names("processes"):
                for kind in ("celery", "beat"):
                    if file.at("processes", name, kind) is not None:
                        yield file.problem(
                            ("broker",), f"processes.{name} ({kind}) cannot do without; take this key out"
                        )


def _egress(files: Files) -> Iterator[Problem]:
    """Check that an app's file opens only what everybody may call: the rest follows from the fleet."""
    hosts = {address: str(where[1]) for where, address in _all_addresses(files)}
    edges = {address for address, host in hosts.items() if "edge" in files.roles(host)}
    shared = files.fleet.at("virtual_address")
    if isinstance(shared, str):
        hosts[shared] = "virtual_address"
        edges.add(shared)
    written = [(files.merged.get(role, {}).get(key), f"{role}.{key}") for role, key in PORTS]
    ports = {port: name for port, name in written if isinstance(port, int)}
    public = {port for port, name in ports.items() if name.startswith("edge.")}
    for app, number, opening in _openings(files):
        address = opening.to.removesuffix("/32").removesuffix("/128")
        asked = {*opening.ports} if opening.ports else None
        if address in hosts and not (address in edges and asked is not None and asked <= public):
            allowed = f"port {', '.join(map(str, sorted(public)))} of a host with role edge"
            text = (
                f"{address} is {hosts[address]} of the fleet, what apps call there follows from it; allowed: {allowed}"
            )
        elif opening.network and inside(opening.network, LOOPBACK) and (taken := sorted((asked or set()) & {*ports})):
            text = f"{taken[0]} is {ports[taken[0]]}: what apps call of it follows from the fleet; take the port out"
        else:
            continue
        yield files.apps[app].problem(("egress", number, "to"), text)


def _openings(files: Files) -> Iterator[tuple[str, int, Opening]]:
    """Each entry of an app's `egress` that has the right form; the model tells of the others."""
    for app, file in files.apps.items():
        written = file.at("egress")
        for number, entry in enumerate(written if isinstance(written, list) else []):
            with contextlib.suppress(ValidationError):
                yield app, number, Opening.model_validate({"to": entry} if isinstance(entry, str) else entry)


def _spool(files: Files) -> Iterator[Problem]:
    """One body must have room."""
    web = files.merged.get("web", {})
    most, spool = web.get("body_max_mb"), web.get("spool_mb")
    if type(most) is type(spool) is int and 0 < spool < most <= 10240:
        text = f"a body may have body_max_mb ({most}), and this is the room for all of them; take at least as much"
        yield files.settings.problem(("web", "spool_mb"), text)


def _uploads(files: Files) -> Iterator[Problem]:
    """Django keeps an upload in /tmp until the app has taken it."""
    most = files.merged.get("web", {}).get("body_max_mb")
    for file in files.apps.values():
        room = file.at("tmp_max_mb") if "tmp_max_mb" in file.names() else App.model_fields["tmp_max_mb"].default
        if type(most) is type(room) is int and 16 <= room < most <= 10240:
            text = f"an upload may have web.body_max_mb ({most}), and this is its room until the app has taken it"
            yield file.problem(("tmp_max_mb",), f"{text}; take at least as much, or lower that")


def _ports(files: Files) -> Iterator[Problem]:
    found = set()
    for host in files.fleet.names("hosts"):
        fixed = [
            (f"{role}'s {key}", str(port))
            for role, ports in FIXED_PORTS.items()
            if role in files.roles(host)
            for key, port in ports.items()
        ]
        used = fixed + [
            (f"{role}.{key}", str(files.merged.get(role, {}).get(key, f"no {role}.{key}")))
            for role, key in PORTS
            if role in files.roles(host)
        ]
        found |= {(port, keys[0], key) for port, keys in _duplicates(used).items() for key in keys[1:]}
    for port, first, key in sorted(found):
        text = f"port {port} is {first} too, and a host has both roles; take another port"
        yield files.settings.problem(key.split("."), text)


def _anybodys_ports(files: Files) -> Iterator[Problem]:
    """Check that no port of a daemon is one that every account may take, and that the kernel takes the settings."""
    sysctl = files.merged.get("base", {}).get("sysctl")
    written = {name: str((sysctl if isinstance(sysctl, dict) else {}).get(name)) for name in (PORT_START, PORT_RANGE)}
    if not written[PORT_START].isdecimal():
        return
    start, place = int(written[PORT_START]), ("base", "sysctl", PORT_START)
    named = [(f"{role}.{key}", files.merged.get(role, {}).get(key)) for role, key in PORTS]
    named += [(f"{role}'s {key}", port) for role, ports in FIXED_PORTS.items() for key, port in ports.items()]
    ports = [(port, name) for name, port in named if type(port) is int and port < ANYBODYS_PORTS]
    highest, name = max(ports, default=(0, ""))
    if start <= highest:
        text = f"{name} is {highest}, and any account could listen there; take more than that, up to {ANYBODYS_PORTS}"
        yield files.settings.problem(place, text)
    elif start > ANYBODYS_PORTS:
        yield files.settings.problem(place, f"no port of Saltern's is that high; take at most {ANYBODYS_PORTS}")
    elif (lowest := written[PORT_RANGE].split()[:1]) and lowest[0].isdecimal() and int(lowest[0]) < start:
        text = f"begins below {PORT_START} ({start}), which the kernel refuses; let it begin there, or lower that"
        yield files.settings.problem(("base", "sysctl", PORT_RANGE), text)


def _windows(files: Files) -> Iterator[Problem]:
    """All windows of the hosts of a role must fit into a day, or two of them would be the same."""
    updates = files.merged.get("base", {}).get("updates")
    minutes = updates.get("minutes") if isinstance(updates, dict) else None
    if not files.fleet_is_valid or not isinstance(minutes, int):
        return
    roles = {str(host): [str(role) for role in files.roles(host)] for host in files.fleet.names("hosts")}
    count = max(slots(roles).values(), default=0) + 1
    if count * minutes > DAY_MINUTES:
        most = DAY_MINUTES // count
        text = f"{count} hosts that share a role need {count} windows one after another in a day; take at most {most}"
        yield files.settings.problem(("base", "updates", "minutes"), text)
