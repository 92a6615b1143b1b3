"""Certificates of the fleet's authority are made anew by their dates, before anybody has to think of it.

Who has the authority's key does it: an apply of a server without a master, for itself, and `site.renew`, for all hosts,
which a timer runs once a day where the site is. Nothing else of secrets/ is touched: no edit by hand becomes an overlap
at night, and no authority is made.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .certificates import CA_NOTICE_DAYS, NOTICE_DAYS, Pair, aged, ends_soon, is_foreign, is_pair
from .document import read_document
from .errors import Problem, SiteError
from .layout import GENERATE, PLAIN, REPOSITORY, secrets_file
from .secrets import CA, edge_names, host_names, let_masters_read, locked, signed, write_host_file
from .site import Site
from .vault import Vault

log = logging.getLogger(__name__)

WHAT = ("tls", "edge")
# Functions of salt-call that change the host; what they have made is kept.
APPLIES = ("state.apply", "state.highstate", "state.sls", "state.sls_id", "state.top")
FALSE = ("false", "no", "off", "0", "none", "null", "")


def is_apply(opts: Mapping[str, Any]) -> bool:
    """Return whether salt-call was asked for an apply, and not for its plan.

    Args:
        opts: Salt's configuration, with the command line.

    Example:
        >>> is_apply({"fun": "state.apply", "arg": []}), is_apply({"fun": "state.apply", "arg": ["test=True"]})
        (True, False)
    """
    told = dict(str(word).partition("=")[::2] for word in opts.get("arg") or [])
    is_plan = [str(told.get(key, opts.get(key, ""))).strip().lower() not in FALSE for key in ("test", "mock")]
    return opts.get("fun") in APPLIES and not any(is_plan)


def due(secrets: Any) -> dict[str, str]:
    """Return which certificates of one host must be made anew by their dates: reasons by `tls` and `edge`.

    A team's own edge certificate is none of them; what is no certificate is told elsewhere.

    Args:
        secrets: the section `secrets` of the host's pillar.

    Example:
        >>> due({})
        {}
    """
    found = {}
    for what in WHAT:
        try:
            held = secrets[what]
            if what == "tls" or not is_foreign(Pair(held["cert"], held["key"])):
                found[what] = aged(secrets["tls"]["ca"], held["cert"])
        except (KeyError, TypeError, AttributeError, ValueError):
            continue
    return {what: reason for what, reason in found.items() if reason}


def renewed(site: Site, host: str, secrets: Any, keep: bool) -> Any:
    """Return a host's secrets with certificates whose time has not come; the same ones where this machine cannot sign.

    Args:
        site: the checked site.
        host: the host's id.
        secrets: the section `secrets` of the host's pillar.
        keep: write them to the host's file, as an apply does. A plan forgets them: it only tells that they will change.
    """
    reasons = due(secrets)
    if not reasons:
        return secrets
    try:
        if not keep:
            authority = _authority(site)
            may = authority is not None and _is_ours(site, host)
            return _fresh(site, host, secrets, authority, reasons) if authority and may else secrets
        with locked(site.path / "secrets"):
            _renew_file(site, host, _authority(site))
        data = read_document(secrets_file(site.path, host)).data
        return data["secrets"] if isinstance(data, dict) else secrets
    except (SiteError, OSError) as error:
        log.warning("%s: %s could not be renewed: %s", host, " and ".join(reasons), error)
        return secrets


def renew_all(site: Site) -> list[str]:
    """Make the certificates of all hosts anew whose time has come, in the hosts' files.

    Args:
        site: the checked site.

    Returns:
        What was done, one line each.

    Raises:
        SiteError: the authority's key cannot be read.
        OSError: a file cannot be written.
    """
    with locked(site.path / "secrets"):
        waiting = [host for host in sorted(site.fleet.hosts) if _is_ours(site, host) and due(_held(site, host))]
        authority = _authority(site) if waiting else None
        if waiting and authority is None:
            text = f"is not here, or secrets/ cannot be written, and certificates must be renewed: {', '.join(waiting)}"
            raise SiteError([Problem(str(site.path / "secrets" / CA / "ca.key"), 0, "", text)])
        return [line for host in waiting for line in _renew_file(site, host, authority)]


def notices(host: str, secrets: Mapping[str, Any]) -> list[str]:
    """Return what a person must do because a certificate ends soon: something did not renew it, or nothing can.

    Args:
        host: the host's id.
        secrets: the host's secrets, at least `tls` and `edge`.

    Example:
        >>> notices("app1", secrets)  # needs secrets of a host  # doctest: +SKIP
        []
    """
    found = []
    file = f"secrets/{host}.sls"
    for what in [what for what in WHAT if secrets.get(what)]:
        pair = Pair(secrets[what]["cert"], secrets[what]["key"])
        try:
            day = ends_soon(pair.cert, NOTICE_DAYS)
            own = what == "edge" and is_foreign(pair)
        except ValueError:
            continue
        advice = (
            f"put its successor into {file}, secrets.edge" if own else f"on the site's host: {GENERATE}; then apply"
        )
        if day:
            found.append(f"the certificate {what} of {host} ends on {day}: {advice}")
    try:
        day = ends_soon(secrets["tls"]["ca"], CA_NOTICE_DAYS)
    except ValueError:
        day = ""
    if day:
        found.append(f"the fleet's certificate authority ends on {day}: salt-call site.rotate ca (docs/secrets.md)")
    return found


def home(site: Site, host: str) -> str | None:
    """Return where the repository is on a host that has the site: the master, or each one where there is none.

    Args:
        site: the site.
        host: the host's id.
    """
    masters = site.fleet.with_role("master")
    return str(REPOSITORY) if host in masters or not masters else None


def _authority(site: Site) -> Pair | None:
    """Return the authority that signs, if its key is here; while it is replaced there may be none for a moment."""
    folder = site.path / "secrets"
    vault, cert = Vault(folder), folder / CA / "ca.crt"
    if not os.access(folder, os.W_OK) or not cert.exists() or not vault.exists(f"{CA}/ca.key"):
        return None
    pair = Pair(cert.read_text(encoding="utf-8"), vault.read(f"{CA}/ca.key"))
    if not is_pair(pair):  # what it signs would be believed by nobody, and good certificates would have gone
        text = "is damaged, or not the key of ca.crt: put both back from one copy; until then no certificate is renewed"
        raise SiteError([Problem(str(folder / CA / "ca.key"), 0, "", text)])
    return pair


def _is_ours(site: Site, host: str) -> bool:
    """Return whether a host's file is plain YAML; with another first line it is the team's."""
    try:
        with secrets_file(site.path, host).open(encoding="utf-8") as file:
            return file.readline().strip() == PLAIN
    except OSError:
        return False


def _held(site: Site, host: str) -> Any:
    data = read_document(secrets_file(site.path, host)).data
    return data.get("secrets") if isinstance(data, dict) else None


def _renew_file(site: Site, host: str, authority: Pair | None) -> list[str]:
    """Ask the file again: another run may have been faster."""
    held = _held(site, host)
    reasons = due(held)
    if authority is None or not reasons or not _is_ours(site, host):
        return []
    new = _fresh(site, host, held, authority, reasons)
    if new is held:
        return []
    path: Path = secrets_file(site.path, host)
    write_host_file(path, new)
    let_masters_read(site, [path])
    return [f"{path.name}: {', '.join(f'{what} (renewed: {reason})' for what, reason in reasons.items())} written"]


def _fresh(site: Site, host: str, held: Any, authority: Pair, reasons: Mapping[str, str]) -> Any:
    """Return the secrets with new certificates; the same when their hosts do not know the authority that signs now."""
    if authority.cert.strip() not in held["tls"]["ca"]:
        return held
    names = {"tls": host_names(site, host), "edge": edge_names(site)}
    new = dict(held)
    for what in reasons:
        pair = signed(site.path / "secrets", authority, names[what], what)
        new[what] = {**held[what], "cert": pair.cert, "key": pair.key}
    return new
