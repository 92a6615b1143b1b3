"""Makes the secrets that a site lacks, and gives each host a file with exactly those that its roles need.

    secrets/shared.yaml     what several hosts must know alike: passwords, Django's keys. Never changed, only added to.
    secrets/ca/             the fleet's certificate authority, ca.crt and ca.key.
    secrets/<host>.sls      one host's part, read by Salt: copies from shared.yaml, and the host's certificates.

Running it again renews what needs it, and else changes nothing. A certificate that the site's CA has made is made anew
when less than 30 days are left, when the names it is for have changed (a new address, another host name of an app) or
when the CA is another one. An edge certificate of another authority is the team's own and stays; so does a host's file
that is not plain YAML any more (`#!yaml|gpg`): what it holds is then up to the team.
"""

from __future__ import annotations

import fcntl
import grp
import os
import secrets as random
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from .certificates import Pair, is_foreign, make_ca, make_leaf, must_renew
from .document import Document, read_document
from .errors import Problem, SiteError
from .explain import explain
from .layout import PLAIN, secrets_file
from .load import Site
from .secretfile import Shared, needed_sections

PASSWORD_BYTES = 32  # 256 bits, 43 characters
SECRET_KEY_BYTES = 48  # Django's check --deploy wants 50 characters; this gives 64
SIZES = {"database_password": PASSWORD_BYTES, "owner_password": PASSWORD_BYTES, "secret_key": SECRET_KEY_BYTES}
SHARED_HEAD = """\
# What the hosts of this site must know alike. Keep it safe, keep a copy, never commit it.
# Secret environment variables of an app go under apps.<app>.env; then run `salt-call site.generate_secrets` again.
"""
HOST_HEAD = f"""\
{PLAIN}
# The secrets of one host, made by `salt-call site.generate_secrets`. Never commit it. Change shared.yaml, not this.
"""


def generate_secrets(site: Site, group: int | None = None) -> list[str]:
    """Writes what is missing under the site's secrets/, and renews certificates; see the top of this file.

    Every file is 0600 in a 0700 directory and replaced by a rename, so that a killed run leaves each file old or new.
    Two runs at once wait for each other.

    With a group, it may read the hosts' files: that of the master, which runs as a user of its own and gives each host
    its part. What is for nobody but root, shared.yaml and the CA's key, it may not.

    Args:
        site: the checked site.
        group: the number of that group; by default that of this machine's group `salt`, when the fleet has a master.

    Returns:
        What was done, one line each, without values; empty when all was there.

    Raises:
        SiteError: a file in secrets/ cannot be read or has something wrong.

    Example:
        >>> generate_secrets(load_site("site"))
        ['ca/ca.crt: made', 'shared.yaml: redis_password, apps.demo made', 'app1.sls: written (tls, edge made)']
    """
    folder = site.path / "secrets"
    group = _masters_group(site) if group is None else group
    with _locked(folder):
        done: list[str] = []
        ca = _ca(site, folder, done)
        shared = _shared(site, folder, done)
        for host in sorted(site.fleet.hosts):
            _host_file(site, host, ca, shared, done)
        _let_read([folder, *(secrets_file(site.path, host) for host in site.fleet.hosts)], group)
        return done


def _masters_group(site: Site) -> int | None:
    if not site.fleet.with_role("master"):
        return None
    try:
        return grp.getgrnam("salt").gr_gid
    except KeyError:  # this machine is not the master
        return None


def _let_read(paths: list[Path], group: int | None) -> None:
    """Lets a group read, and nobody else but the owner; without a group, only the owner."""
    for path in paths:
        more = (0o050 if path.is_dir() else 0o040) if group is not None else 0
        if group is not None and path.stat().st_gid != group:
            os.chown(path, -1, group)
        mode = (0o700 if path.is_dir() else 0o600) | more
        if path.stat().st_mode & 0o7777 != mode:
            path.chmod(mode)


def host_names(site: Site, host: str) -> list[str]:
    """Answers what a host's certificate is for: its id, full name and address, and what it calls itself."""
    return [f"{host}.{site.fleet.domain}", host, "localhost", site.fleet.hosts[host].address, "127.0.0.1"]


def edge_names(site: Site) -> list[str]:
    """Answers what the edge's certificate is for: the host names of all apps, in the apps' order."""
    return [name for _, app in sorted(site.apps.items()) for name in app.hostnames]


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    folder.mkdir(mode=0o700, exist_ok=True)
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _write(path: Path, text: str) -> None:
    """Replaces a file by one with mode 0600, all or nothing, even when the power fails."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")  # mkstemp makes it 0600
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink()
        raise
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _ca(site: Site, folder: Path, done: list[str]) -> Pair:
    home = folder / "ca"
    home.mkdir(mode=0o700, exist_ok=True)
    cert, key = home / "ca.crt", home / "ca.key"
    # The key is written first: a run killed between leaves a key without a certificate, which nobody trusts yet.
    if cert.exists():
        if not key.exists():
            text = "the CA's key is missing; put it back, or remove ca.crt for a new CA (then apply every host)"
            raise SiteError([Problem(str(key), 0, "", text)])
        return Pair(cert.read_text(encoding="utf-8"), key.read_text(encoding="utf-8"))
    made = make_ca(site.fleet.name)
    _write(key, made.key)
    _write(cert, made.cert)
    done.append("ca/ca.crt: made")
    return made


def _shared(site: Site, folder: Path, done: list[str]) -> Shared:
    path = folder / "shared.yaml"
    document = read_document(path) if path.exists() else Document(str(path), {})
    data = document.data or {}
    if document.problems:
        raise SiteError(document.problems)
    if not isinstance(data, dict) or not isinstance(data.get("apps") or {}, dict):
        raise SiteError([document.problem((), "is not a mapping; allowed: the keys redis_password, apps")])
    made = _complete(data, site)
    try:
        shared = Shared.model_validate(data)
    except ValidationError as error:
        raise SiteError(explain(error, Shared, document)) from None
    if made:
        _write(path, SHARED_HEAD + _yaml(data))
        done.append(f"shared.yaml: {', '.join(made)} made")
    return shared


def _complete(data: dict[str, Any], site: Site) -> list[str]:
    """Adds to the shared secrets what is missing; answers the keys that were added."""
    needed = ["redis_password", *(["replication_password"] if site.fleet.replicas else [])]
    made = [key for key in needed if key not in data]
    data.update({key: random.token_urlsafe(PASSWORD_BYTES) for key in made})
    apps = data["apps"] = data.get("apps") or {}
    for name in sorted(site.apps):
        app = apps[name] = apps.get(name) or {}
        for key in [key for key in SIZES if isinstance(app, dict) and key not in app]:
            app[key] = random.token_urlsafe(SIZES[key])
            made.append(f"apps.{name}.{key}")
    return made


def _host_file(site: Site, host: str, ca: Pair, shared: Shared, done: list[str]) -> None:
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
    tls = _leaf(ca, had.get("tls"), host_names(site, host), "tls", document, notes)
    new: dict[str, Any] = {"tls": {"ca": ca.cert, "cert": tls.cert, "key": tls.key}}
    if "edge" in need["top"]:
        pair = _leaf(ca, had.get("edge"), edge_names(site), "edge", document, notes)
        new["edge"] = {"cert": pair.cert, "key": pair.key}
    new |= {key: getattr(shared, key) for key in ("redis_password", "replication_password") if key in need["top"]}
    if need["apps"]:
        new["apps"] = {name: _app_part(shared, name, need["app"]) for name in need["apps"]}
    if new != had or notes:
        _write(path, HOST_HEAD + _yaml({"secrets": new}))
        changed = [key for key in sorted({*new, *had}) if new.get(key) != had.get(key)]
        done.append(f"{path.name}: {', '.join(notes or changed)} written")


def _app_part(shared: Shared, name: str, keys: list[str]) -> dict[str, Any]:
    return {key: value for key in keys if (value := getattr(shared.apps[name], key))}


def _leaf(ca: Pair, held: Any, names: list[str], what: str, document: Document, notes: list[str]) -> Pair:
    if not isinstance(held, dict) or not isinstance(held.get("cert"), str) or not isinstance(held.get("key"), str):
        notes.append(f"{what} (new)")
        return _with_chain(make_leaf(ca, names), ca, what)
    pair = Pair(held["cert"], held["key"])
    try:
        own = what == "edge" and is_foreign(pair)
        reason = "" if own else must_renew(ca.cert, pair, names)
    except ValueError:
        text = "no readable certificate with an EC key; take the section out and it is made anew"
        raise SiteError([document.problem(("secrets", what), text)]) from None
    if not reason:
        return pair
    notes.append(f"{what} (renewed: {reason})")
    return _with_chain(make_leaf(ca, names), ca, what)


def _with_chain(pair: Pair, ca: Pair, what: str) -> Pair:
    return Pair(pair.cert + ca.cert, pair.key) if what == "edge" else pair


class _Dumper(yaml.SafeDumper):
    """Writes text of several lines (PEM) as a block, as a person would."""


def _text(dumper: yaml.SafeDumper, value: str) -> yaml.Node:
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style="|" if "\n" in value else None)


_Dumper.add_representer(str, _text)


def _yaml(data: dict[str, Any]) -> str:
    return yaml.dump(data, Dumper=_Dumper, sort_keys=False, default_flow_style=False, width=4096)
