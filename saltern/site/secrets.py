"""Makes the secrets that a site lacks, and gives each host a file with exactly those that its roles need.

    secrets/shared.yaml     what several hosts must know alike: passwords, Django's keys.
    secrets/ca/             the fleet's certificate authority, ca.crt and ca.key; for a while ca.next/, ca.previous/.
                            These two may be encrypted, and then lie in Git (vault.py).
    secrets/<host>.sls      one host's part, read by Salt: copies from shared.yaml, and the host's certificates.

Running it again renews what needs it, and else changes nothing. A certificate that the site's CA has made is made anew
when a third of its 90 days is left (renewal.py does that alone, once a day), when the names it is for have changed (a
new address, another host name of an app) or when the CA is another one. An edge certificate of another authority is the
team's own and stays; so does a host's file that is not plain YAML any more (`#!yaml|gpg`): what it holds is then up to
the team.

A password that somebody has changed in shared.yaml is not just copied: hosts still have the old one, so it stays good
beside the new one (overlap.py) until `site.rotate` finds that nobody uses it.
"""

from __future__ import annotations

import fcntl
import grp
import os
import shutil
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from .certificates import AuthorityEnded, Pair, build_public, is_foreign, make_ca, make_leaf, must_renew
from .document import Document, parse_document, read_document
from .errors import Problem, SiteError
from .explain import explain
from .files import replace_file
from .layout import GENERATE, PLAIN, secrets_file
from .overlap import KINDS, Held, begin, changed_by_hand, finish, fresh, held, is_due
from .secretfile import Shared, SharedApp, needed_sections
from .site import Site
from .vault import SHARED, Vault

# Where the certificate authorities are: the one that signs, the one that will, the one that has; all are trusted.
CA, CA_NEXT, CA_PREVIOUS = "ca", "ca.next", "ca.previous"
CA_ENDING = "ca.ending"  # it is trusted no longer, and hosts have yet to be told
SHARED_HEAD = """\
# What the hosts of this site must know alike. Keep it safe, keep a copy, never commit it.
# Replace a password by `salt-call site.rotate`: the old one then stays good until nobody uses it.
# Secret environment variables of an app go under apps.<app>.env; then run `salt-call site.generate_secrets` again.
"""
HOST_HEAD = f"""\
{PLAIN}
# The secrets of one host, made by `salt-call site.generate_secrets`. Never commit it. Change shared.yaml, not this.
"""


def generate_secrets(site: Site, group: int | None = None, renew: Collection[str] = ()) -> list[str]:
    """Write what is missing under the site's secrets/, and renew certificates; see the top of this file.

    Every file is 0600 in a 0700 directory and replaced by a rename, so that a killed run leaves each file old or new.
    Two runs at once wait for each other.

    With a group, it may read the hosts' files: that of the master, which runs as a user of its own and gives each host
    its part. What is for nobody but root, shared.yaml and the CA's key, it may not.

    Args:
        site: the checked site.
        group: the number of that group; by default that of this machine's group `salt`, when the fleet has a master.
        renew: certificates to make anew though they are good: `tls`, `edge`.

    Returns:
        What was done, one line each, without values; empty when all was there.

    Raises:
        SiteError: a file in secrets/ cannot be read or has something wrong.

    Example:
        >>> generate_secrets(load_site("site"))  # needs a site, and writes to it  # doctest: +SKIP
        ['ca/ca.crt: made', 'shared.yaml: apps.demo made', 'app1.sls: written (tls, edge made)']
    """
    with locked(site.path / "secrets"):
        return distribute(site, group, renew)


def distribute(site: Site, group: int | None = None, renew: Collection[str] = ()) -> list[str]:
    """Do what `generate_secrets` does, for who holds the lock."""
    folder = site.path / "secrets"
    group = _masters_group(site) if group is None else group
    done: list[str] = Vault(folder).settle()
    settle_ca(folder)
    ca = _ca(site, folder, done)
    shared = _shared(site, folder, done)
    for host in sorted(site.fleet.hosts):
        _host_file(site, host, ca, shared, renew, done)
    _let_read([folder, *(secrets_file(site.path, host) for host in site.fleet.hosts)], group)
    return done


def _masters_group(site: Site) -> int | None:
    if not site.fleet.with_role("master"):
        return None
    try:
        return grp.getgrnam("salt").gr_gid
    except KeyError:  # this machine is not the master
        return None


def let_masters_read(site: Site, paths: list[Path]) -> None:
    """Let a master of this machine, which runs as a user of its own, read files with hosts' secrets.

    Args:
        site: the site.
        paths: the files.
    """
    _let_read(paths, _masters_group(site))


def _let_read(paths: list[Path], group: int | None) -> None:
    """Let a group read, and nobody else but the owner; without a group, only the owner."""
    for path in paths:
        more = (0o050 if path.is_dir() else 0o040) if group is not None else 0
        if group is not None and path.stat().st_gid != group:
            os.chown(path, -1, group)
        mode = (0o700 if path.is_dir() else 0o600) | more
        if path.stat().st_mode & 0o7777 != mode:
            path.chmod(mode)


def host_names(site: Site, host: str) -> list[str]:
    """Return what a host's certificate is for: its id, full name and address, and what it calls itself."""
    return [f"{host}.{site.fleet.domain}", host, "localhost", site.fleet.hosts[host].address, "127.0.0.1"]


def edge_names(site: Site) -> list[str]:
    """Return what the edge's certificate is for: the host names of all apps, in the apps' order."""
    return [name for _, app in sorted(site.apps.items()) for name in app.hostnames]


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the lock of a site's secrets while the body runs; another run waits."""
    folder.mkdir(mode=0o700, exist_ok=True)
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


@dataclass(frozen=True)
class Authority:
    """The certificate authority that signs, and the certificates of all that are trusted; its own comes first."""

    pair: Pair
    trusted: str


def _ca(site: Site, folder: Path, done: list[str]) -> Authority:
    vault, cert = Vault(folder), folder / CA / "ca.crt"
    if not cert.exists():
        make_authority(folder, CA, site.fleet.name)
        done.append("ca/ca.crt: made")
    elif not vault.exists(f"{CA}/ca.key"):
        text = "the CA's key is missing; put it back, or remove ca.crt for a new CA (then apply every host)"
        raise SiteError([Problem(str(folder / CA / "ca.key"), 0, "", text)])
    pair = Pair(cert.read_text(encoding="utf-8"), vault.read(f"{CA}/ca.key"))
    others = [folder / name / "ca.crt" for name in (CA_NEXT, CA_PREVIOUS)]
    return Authority(pair, pair.cert + "".join(path.read_text(encoding="utf-8") for path in others if path.exists()))


def make_authority(folder: Path, place: str, name: str) -> None:
    """Make a certificate authority in a folder of secrets/.

    The key is written first: a run killed between leaves a key without a certificate, which nobody trusts yet.
    """
    (folder / place).mkdir(mode=0o700, exist_ok=True)
    made = make_ca(name)
    Vault(folder).write(f"{place}/ca.key", made.key)
    replace_file(folder / place / "ca.crt", made.cert)


def promote_ca(folder: Path) -> None:
    """Let the next authority sign from now on; the one that has signed is trusted still, and its key goes."""
    previous = folder / CA_PREVIOUS
    previous.mkdir(mode=0o700, exist_ok=True)
    replace_file(previous / "ca.crt", (folder / CA / "ca.crt").read_text(encoding="utf-8"))
    (folder / CA).rename(folder / "ca.gone")
    settle_ca(folder)


def retire_ca(folder: Path) -> None:
    """Let the authority that has signed before be trusted no longer; that hosts have to be told so is remembered."""
    if (folder / CA_PREVIOUS).exists():
        (folder / CA_PREVIOUS).rename(folder / CA_ENDING)


def forget_ca(folder: Path) -> None:
    """Forget the authority that has signed before: all hosts have been told."""
    if (folder / CA_ENDING).exists():
        shutil.rmtree(folder / CA_ENDING)


def settle_ca(folder: Path) -> None:
    """Finish what a killed `promote_ca` has left: without it, there would be no authority, and a third be made.

    Killed before anything was moved, it has left no more than a copy, or half of one, and begins anew.
    """
    if (folder / "ca.gone").exists():
        if not (folder / CA).exists():
            (folder / CA_NEXT).rename(folder / CA)
        shutil.rmtree(folder / "ca.gone")
    following, signs, copy = (folder / name / "ca.crt" for name in (CA_NEXT, CA, CA_PREVIOUS))
    begun = following.exists() and signs.exists() and copy.parent.exists()
    if begun and (not copy.exists() or copy.read_bytes() == signs.read_bytes()):
        shutil.rmtree(copy.parent)


def read_shared(folder: Path) -> tuple[dict[str, Any], Document]:
    """Return the content of shared.yaml, an empty mapping when it is yet to be made, and its document.

    Raises:
        SiteError: it cannot be read.
    """
    vault = Vault(folder)
    if vault.exists(SHARED):
        document = parse_document(str(folder / SHARED), vault.read(SHARED))
    elif vault.encrypted:
        text = (
            "is missing, though readers.yaml is here: put its last good version back (git log -- FILE), or remove "
            "readers.yaml to begin with new secrets"
        )
        raise SiteError([Problem(str(folder / f"{SHARED}.age"), 0, "", text)])
    else:
        document = Document(str(folder / SHARED), {})
    data = document.data or {}
    if document.problems:
        raise SiteError(document.problems)
    if not isinstance(data, dict) or not isinstance(data.get("apps") or {}, dict):
        raise SiteError([document.problem((), "is not a mapping; allowed: the keys apps, replication_password")])
    return data, document


def write_shared(folder: Path, data: dict[str, Any]) -> None:
    """Replace shared.yaml; what it was stays beside it, as shared.yaml.last."""
    vault = Vault(folder)
    if vault.exists(SHARED):
        vault.write(f"{SHARED}.last", vault.read(SHARED))
    vault.write(SHARED, SHARED_HEAD + _yaml(data))


def _shared(site: Site, folder: Path, done: list[str]) -> Shared:
    data, document = read_shared(folder)
    hosts = held_by_hosts(site)
    if not data and any("apps" in host for host in hosts):
        text = (
            "is empty or missing, but hosts have passwords from it: new ones would cut off every app. Put a copy back "
            "(shared.yaml.last is the one before the last change)"
        )
        raise SiteError([document.problem((), text)])
    shared_once = data.pop("redis_password", None)  # the Redis host keeps it good until no app uses it
    made = ["redis_password taken out: each app has its own"] if shared_once else []
    made += [f"{key} made" for key in _complete(data, site)]
    changed, problems = _overlapped(data, document, hosts)
    if problems:
        raise SiteError(problems)
    try:
        shared = Shared.model_validate(data)
    except ValidationError as error:
        raise SiteError(explain(error, Shared, document)) from None
    ended = [one for one in held(data) if one.kind.days and one.old(data) and is_due(data, one)]
    for one in ended:
        finish(data, one)
        shared = Shared.model_validate(data)
    notes = made + changed + [f"{one.key}: the old one has gone" for one in ended]
    if notes:
        write_shared(folder, data)
        done.append(f"shared.yaml: {', '.join(notes)}")
    return shared


def held_by_hosts(site: Site) -> list[dict[str, Any]]:
    """Return the section `secrets` of each host's file, as far as it is plain: what hosts were given last."""
    found = []
    for host in site.fleet.hosts:
        path = secrets_file(site.path, host)
        data = read_document(path).data if path.exists() else None
        if isinstance(data, dict) and isinstance(data.get("secrets"), dict):
            found.append(data["secrets"])
    return found


def _overlapped(
    data: dict[str, Any], document: Document, hosts: list[dict[str, Any]]
) -> tuple[list[str], list[Problem]]:
    """Keep what somebody has changed by hand good beside what it replaces; return what was done, and what cannot."""
    notes, problems = [], []
    for one in list(held(data)):
        known = {value for host in hosts if isinstance(value := one.place(host).get(one.kind.key), str)}
        try:
            old = changed_by_hand(data, one, known)
        except ValueError as error:
            problems.append(document.problem(one.key.split("."), str(error)))
            continue
        if old is not None:
            if one.kind.login:  # hosts know which login is in use; this file may be an older one that was put back
                places = [place for host in hosts if one.kind.key in (place := one.place(host))]
                slot = max((place.get("logins") or {}).get(one.kind.name, 1) for place in places)
                one.place(data)["logins"] = {**(one.place(data).get("logins") or {}), one.kind.name: slot}
            begin(data, one, one.place(data)[one.kind.key], old)
            notes.append(f"{one.key} was changed by hand, the old one stays good until: {one.command}")
    return notes, problems


def _complete(data: dict[str, Any], site: Site) -> list[str]:
    """Add to the shared secrets what is missing; return the keys that were added."""
    needed = ["replication_password"] if site.fleet.replicas else []
    needed += ["build_key"] if site.apps else []
    made = [key for key in needed if key not in data]
    data.update({key: fresh(KINDS[0]) for key in made})
    apps = data["apps"] = data.get("apps") or {}
    for name in sorted(site.apps):
        app = apps[name] = apps.get(name) or {}
        for one in [Held(kind, name) for kind in KINDS if kind.of_app and isinstance(app, dict)]:
            if one.kind.key not in app:
                app[one.kind.key] = fresh(one.kind)
                made.append(one.key)
    return made


def _host_file(site: Site, host: str, ca: Authority, shared: Shared, renew: Collection[str], done: list[str]) -> None:
    path = secrets_file(site.path, host)
    old = path.read_text(encoding="utf-8") if path.exists() else ""
    if old and old.split("\n", 1)[0].strip() != PLAIN:
        done.append(f"{path.name}: left alone, its first line is not {PLAIN}")
        return
    document = read_document(path) if old else Document(str(path))
    if document.problems:
        raise SiteError(document.problems)
    held = document.data.get("secrets") if isinstance(document.data, dict) else None
    had = held if isinstance(held, dict) else {}
    notes: list[str] = []
    need = needed_sections(site.fleet, host, site.apps)
    tls = _leaf(ca.pair, had.get("tls"), host_names(site, host), "tls", document, notes, "tls" in renew)
    new: dict[str, Any] = {"tls": {"ca": ca.trusted, "cert": tls.cert, "key": tls.key}}
    if "edge" in need.top:
        pair = _leaf(ca.pair, had.get("edge"), edge_names(site), "edge", document, notes, "edge" in renew)
        new["edge"] = {"cert": pair.cert, "key": pair.key}
    if "replication_password" in need.top:
        new["replication_password"] = shared.replication_password
    if "build_key" in need.top:
        new["build_key"] = shared.build_key
    if "build_keys" in need.top:
        new["build_keys"] = [build_public(key) for key in (shared.build_key, shared.previous.build_key) if key]
    new |= _overlap_part(shared, [kind.key for kind in KINDS if not kind.of_app and kind.key in need.top])
    if need.apps:
        new["apps"] = {name: _app_part(shared, name, keys) for name, keys in need.apps.items()}
    if new != had or notes:
        write_host_file(path, new)
        changed = [key for key in sorted({*new, *had}) if new.get(key) != had.get(key)]
        done.append(f"{path.name}: {', '.join(notes or changed)} written")


def write_host_file(path: Path, secrets: dict[str, Any]) -> None:
    """Replace the file with one host's secrets.

    Args:
        path: the file.
        secrets: its section `secrets`.
    """
    replace_file(path, HOST_HEAD + _yaml({"secrets": secrets}))


def _app_part(shared: Shared, name: str, keys: list[str]) -> dict[str, Any]:
    app = shared.apps[name]
    return {key: value for key in keys if (value := getattr(app, key))} | _overlap_part(app, keys)


def _overlap_part(held: Shared | SharedApp, keys: list[str]) -> dict[str, Any]:
    """Return what a host has to know of two secrets that are both good; nothing more than of those in force."""
    previous = {key: value for key in keys if (value := getattr(held.previous, key, None))}
    turns = [kind.name for kind in KINDS if kind.login and kind.key in keys]
    logins = {name: getattr(held.logins, name) for name in turns}
    return {**({"previous": previous} if previous else {}), **({"logins": logins} if logins else {})}


def _leaf(ca: Pair, held: Any, names: list[str], what: str, document: Document, notes: list[str], anew: bool) -> Pair:
    folder = Path(document.file).parent
    if not isinstance(held, dict) or not isinstance(held.get("cert"), str) or not isinstance(held.get("key"), str):
        notes.append(f"{what} (new)")
        return signed(folder, ca, names, what)
    pair = Pair(held["cert"], held["key"])
    try:
        own = what == "edge" and is_foreign(pair)
        reason = "" if own else must_renew(ca.cert, pair, names) or ("asked for" if anew else "")
    except ValueError:
        text = "no readable certificate with an EC key; take the section out and it is made anew"
        raise SiteError([document.problem(("secrets", what), text)]) from None
    if not reason:
        return pair
    notes.append(f"{what} (renewed: {reason})")
    return signed(folder, ca, names, what)


def signed(folder: Path, ca: Pair, names: list[str], what: str) -> Pair:
    """Return a new certificate as its daemon shows it.

    Args:
        folder: secrets/ of the site.
        ca: who signs.
        names: whom it is for.
        what: `tls` or `edge`.

    Raises:
        SiteError: the authority has ended. So has all that it signed, and nothing is lost by another one at once.
    """
    try:
        return with_chain(make_leaf(ca, names), ca, what)
    except AuthorityEnded as error:
        text = (
            f"the authority {error}, so it signs nothing: remove this file, then {GENERATE} and an apply of every host"
        )
        raise SiteError([Problem(str(folder / CA / "ca.crt"), 0, f"secrets.{what}", text)]) from None


def with_chain(pair: Pair, ca: Pair, what: str) -> Pair:
    """Return a certificate as its daemon shows it: that of the edge with the authority's, for visitors.

    Args:
        pair: the certificate and its key.
        ca: who has signed it.
        what: `tls` or `edge`.
    """
    return Pair(pair.cert + ca.cert, pair.key) if what == "edge" else pair


class _Dumper(yaml.SafeDumper):
    """Writes text of several lines (PEM) as a block, as a person would."""


def _text(dumper: yaml.SafeDumper, value: str) -> yaml.Node:
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style="|" if "\n" in value else None)


_Dumper.add_representer(str, _text)


def _yaml(data: dict[str, Any]) -> str:
    return yaml.dump(data, Dumper=_Dumper, sort_keys=False, default_flow_style=False, width=4096)
