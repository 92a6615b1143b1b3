"""The pillar of one host."""

from __future__ import annotations

from typing import Any

from saltern.version import version

from .document import read_document
from .errors import Problem, SiteError, nearest
from .layout import ranks, secrets_file
from .links import neighbours
from .renewal import home, notices
from .roles import ALL, STOPPABLE
from .secretfile import as_pillar, check_secrets
from .site import Site
from .wiring import wiring


def host_pillar(site: Site, minion_id: str, secrets: Any) -> dict[str, Any]:
    """Return the whole pillar of one host, as plain data.

    Args:
        site: the checked site.
        minion_id: the host's id.
        secrets: the section `secrets` of the host's own secrets file.

    Raises:
        SiteError: the id is not in the fleet, or the host's secrets are not what its roles need.

    Example:
        >>> host_pillar(load_site("site"), "app1", secrets)["host"]["fqdn"]  # needs its secrets  # doctest: +SKIP
        'app1.saltern.test'
    """
    hosts = site.fleet.hosts
    if minion_id not in hosts:
        text = f'the minion id "{minion_id}" is not in the fleet; {nearest(minion_id, hosts)}'
        advice = "Add the host, or set `id:` in the minion's configuration."
        raise SiteError([Problem(str(site.path / "fleet.yaml"), 0, "hosts", f"{text}. {advice}")])
    host = hosts[minion_id]
    file = secrets_file(site.path, minion_id)
    if secrets is None and file.is_file() and (broken := read_document(file).problems):
        raise SiteError(broken)
    checked, problems = check_secrets(secrets, site.fleet, minion_id, site.apps, str(file))
    if checked is None:
        raise SiteError(problems)
    wired = wiring(site, minion_id, checked)
    # Who renews certificates (`site`: the repository, on a host that has the site), and what nobody has renewed.
    wired["renewal"] = {
        "site": home(site, minion_id),
        "notices": notices(minion_id, checked.model_dump(include={"tls", "edge"})),
    }
    return {
        "version": version(),
        "fleet": site.fleet.model_dump(),
        "host": {
            "id": minion_id,
            "fqdn": f"{minion_id}.{site.fleet.domain}",
            "address": host.address,
            "roles": list(host.roles),
            "absent_roles": [role for role in STOPPABLE if role not in host.roles],
        },
        **{role: getattr(site.settings, role).model_dump() for role in host.roles},
        "apps": {name: app.model_dump() for name, app in sorted(site.apps.items())},
        "wiring": wired,
        "secrets": as_pillar(checked),
    }


def app_hosts(site: Site) -> dict[str, Any]:
    """Return who takes part in a deploy: `builder`, `web` and `edge`; `all` are those that run apps' code.

    Args:
        site: the checked site.
    """
    builders = site.fleet.with_role("builder")
    return {
        "builder": builders[0] if builders else None,
        "web": site.fleet.with_role("web"),
        "edge": site.fleet.with_role("edge"),
        "all": site.fleet.running_apps,
    }


def fleet_pillar(site: Site) -> dict[str, Any]:
    """Return what an orchestration on the master knows: the fleet and its apps, and no secret.

    Args:
        site: the checked site.

    Returns:
        `fleet`, `apps`, `app_hosts` (who takes part in a deploy), `ranks`: the hosts with role minion in the order
        in which they are applied, those of one rank at the same time; `neighbours` of each host; and
        `replaced_roles`: another machine may take the place of a host that has no others.
    """
    return {
        "fleet": site.fleet.model_dump(),
        "apps": {name: app.model_dump() for name, app in sorted(site.apps.items())},
        "app_hosts": app_hosts(site),
        "ranks": ranks(
            {name: host.roles for name, host in site.fleet.hosts.items() if "minion" in host.roles},
            site.fleet.replicas,
        ),
        "neighbours": neighbours(site),
        "replaced_roles": [role for role, about in ALL.items() if about.replaced],
    }
