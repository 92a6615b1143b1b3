"""The way back to an older release, holding a release, and what is in the way of both."""

from __future__ import annotations

from pathlib import Path

from salt.exceptions import CommandExecutionError

from saltern.background import work
from saltern.deploy import serving
from saltern.host.here import Here
from saltern.migrate import migrations, staticfiles
from saltern.release import deciding, installed, ledger, releases, written
from saltern.release import rollback as way_back


def rollback(here: Here, app: str, release: str | None = None) -> str:
    """Give the traffic back to an installed release: the one that served before, or the named one. Builds nothing.

    It passes the same gate as any other, and is pinned, so that the next apply does not take it away again:
    ``release.unpin`` hands the choice back to the site.
    """
    refuse_alone(here, app, "orch.rollback")
    now = installed.active(app)
    target = release or _served_before(app, now)
    installed.manifest(app, target)  # refuses one that is not installed
    if target == now:
        raise CommandExecutionError(f"release {target} of {app} is active already: release.pin keeps it so")
    for step, proof in (
        ("static files were not collected", "static.json"),
        ("migrations were not run", "migrated.json"),
    ):
        if not Path(installed.directory(app, target), proof).is_file():
            raise CommandExecutionError(f"release {target} of {app} never got as far as to serve: its {step}")
    refuse_migrations(here, app, target)
    staticfiles.publish_static(app, target)
    serving.serve(here, app, target, f"rolled back from {now}")
    if here.has("worker"):
        work.converge(here, app)  # web and background of one app are of one release
    pinned = written.pinned(app)
    assert pinned, "it was written a moment ago"
    note = releases.pin_note(app, pinned)
    return f"Release {target} of {app} has the traffic; before: {now}. {note}"


def refuse_alone(here: Here, app: str, orchestration: str) -> None:
    """Raise where several hosts serve an app under a master: one of them alone must not serve another release.

    Args:
        app: name of an app of this host.
        orchestration: what does it for all of them.

    Raises:
        CommandExecutionError: how it is done there.
    """
    if here.pillar["wiring"]["together"]:
        raise CommandExecutionError(
            f"all hosts of {app} switch together. On the master: salt-run state.orchestrate {orchestration} "
            f'pillar=\'{{"app": "{app}"}}\''
        )


def _served_before(app: str, now: str | None) -> str:
    """Return the installed release that was deployed before the active one."""
    for older in releases.before(now, written.log(app, 0)):
        if installed.is_staged(app, older):
            return str(older)
    raise CommandExecutionError(f"no release of {app} that served before {now} is installed; see release.list {app}")


def refuse_migrations(here: Here, app: str, target: str) -> None:
    """Raise when the database has been migrated since, in a way that an older release might not bear.

    Args:
        app: name of an app of this host.
        target: id of an installed release.

    Raises:
        CommandExecutionError: which migrations are in the way, and what to do.
    """
    about = installed.manifest(app, target)
    applied = migrations.applied_since(here, app, target)
    declared = here.app(app)["migrations"]["reversible"]
    if found := way_back.in_the_way(applied, about, installed.manifests(app), declared):
        raise CommandExecutionError(
            f"release {target} of {app} may not bear what was migrated since: {', '.join(found)}. If the older code "
            f"works on after it, say so in apps/{app}.yaml: `migrations: {{reversible: [{', '.join(found)}]}}`; else "
            "deploy a newer release that puts things right."
        )


def pin(here: Here, app: str, release: str | None = None, why: str = "") -> str:
    """Hold an app at an installed release, whatever the site asks for, until ``release.unpin``. Switches nothing."""
    now = installed.active(app)
    target = release or now
    if target is None:
        raise CommandExecutionError(f"no release of {app} is active: name one of release.list")
    installed.manifest(app, target)  # refuses one that is not installed
    if target != now:
        refuse_alone(here, app, "orch.rollback")
        refuse_migrations(here, app, target)
    written.write_pin(app, target, why)
    written.record(app, target, "pinned", why)
    pin_now = written.pinned(app)
    assert pin_now, "it was written a moment ago"
    note: str = releases.pin_note(app, pin_now)
    return note


def unpin(here: Here, app: str) -> str:
    """Let the site choose the release again. Switches nothing: the next apply does."""
    found, now = written.pinned(app), installed.active(app)
    if found is None:
        return f"No release of {app} is pinned."
    written.pin_file(app).unlink(missing_ok=True)
    line = {**ledger.stamp(), "id": found["release"], "result": "unpinned"}
    ledger.append(written.ledger_file(app), line)
    wanted = deciding.asked_for(here, app)["id"]
    then = f"{wanted} stays active" if wanted == now else f"the next state.apply replaces {now} by {wanted}"
    return f"Release {found['release']} of {app} is pinned no more: {then}."
