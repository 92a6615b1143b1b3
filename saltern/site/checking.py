"""The whole site at once, for every host: what `salt-call site.check` runs."""

from __future__ import annotations

from pathlib import Path

from .certificates import Pair, is_foreign, must_renew
from .document import read_document
from .errors import Problem, SiteError
from .layout import GENERATE, PLAIN, secrets_file
from .load import load_site
from .secretfile import Secrets, check_secrets
from .secrets import edge_names, host_names
from .site import Site


def check_site(path: str | Path) -> Site:
    """Read a site and check it for all hosts, their secrets and the dates and names of certificates too.

    Args:
        path: the site directory.

    Raises:
        SiteError: every error.
    """
    site = load_site(path)
    problems = [problem for host in sorted(site.fleet.hosts) for problem in _host_problems(site, host)]
    if problems:
        raise SiteError(problems)
    return site


def _host_problems(site: Site, host: str) -> list[Problem]:
    path = secrets_file(site.path, host)
    if not path.exists():
        return [Problem(str(path), 0, "", f"{host} has no secrets; make them: {GENERATE}")]
    with path.open(encoding="utf-8") as file:
        if file.readline().strip() != PLAIN:
            return []  # only Salt can render it: the host's own apply checks what comes out
    document = read_document(path)
    if document.problems:
        return document.problems
    data = document.data.get("secrets") if isinstance(document.data, dict) else None
    secrets, problems = check_secrets(data, site.fleet, host, site.apps, str(path))
    return problems if secrets is None else _certificate_problems(site, host, secrets, str(path))


def _certificate_problems(site: Site, host: str, secrets: Secrets, file: str) -> list[Problem]:
    pairs = [("tls", Pair(secrets.tls.cert, secrets.tls.key), host_names(site, host))]
    if secrets.edge:
        pairs.append(("edge", Pair(secrets.edge.cert, secrets.edge.key), edge_names(site)))
    problems = []
    for what, pair, names in pairs:
        try:
            own = what == "edge" and is_foreign(pair)
            reason = "" if own else must_renew(secrets.tls.ca, pair, names)
        except ValueError:
            reason = "no readable certificate with an EC key"
        if reason:
            problems.append(Problem(file, 0, f"secrets.{what}", f"{reason}; renew it: {GENERATE}"))
    return problems
