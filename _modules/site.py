"""The site: its pillar files, its secrets and its check, by Salt's own verbs.

The work is done in `saltern/site`, which tests and the lab use without Salt. It is loaded from its place beside this
file, so this module works where the repository is: on a masterless host and on a master, not on a master's minions.
"""

from __future__ import annotations

import contextlib
import fcntl
import importlib
import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

__virtualname__ = "site"
__opts__: dict[str, Any] = {}

PACKAGE = Path(__file__).resolve().parent.parent / "saltern"


def __virtual__() -> str | tuple[bool, str]:
    if not (PACKAGE / "__init__.py").is_file():
        return False, f"site: works only where the whole repository is; there is no {PACKAGE}"
    return __virtualname__


def _saltern(name: str) -> ModuleType:
    """Return a module of saltern/site. Its package is found by its path, as the external pillar finds it."""
    there = Path(getattr(sys.modules.get("saltern"), "__file__", None) or ".").resolve()
    if there != PACKAGE / "__init__.py":  # none, or one that a master has from before an upgrade
        for old in [old for old in sys.modules if old == "saltern" or old.startswith("saltern.")]:
            del sys.modules[old]
        spec = importlib.util.spec_from_file_location("saltern", PACKAGE / "__init__.py")
        assert spec and spec.loader
        sys.modules["saltern"] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules["saltern"])
    sys.modules["saltern"].forget_old_code()
    return importlib.import_module(f"saltern.site.{name}")


def site_directory(opts: dict[str, Any]) -> Path:
    """Return the site directory that Salt is configured with, in `ext_pillar: [{saltern: {site: ...}}]`.

    Args:
        opts: Salt's configuration.

    Example:
        >>> site_directory({"ext_pillar": [{"saltern": {"site": "/srv/site"}}]})
        PosixPath('/srv/site')
    """
    for entry in opts.get("ext_pillar") or []:
        if "saltern" in entry:
            return Path((entry["saltern"] or {}).get("site", "site"))
    return Path("site")


def pillar_files(minion_id: str) -> list[str]:
    """Return the pillar SLS names of one host, for pillar/top.sls.

    Args:
        minion_id: the host's id; no grain is looked at.

    Returns:
        The defaults of the host's roles and its own secrets; empty for a host that is not in the fleet.

    CLI Example:

    .. code-block:: bash

        salt-call site.pillar_files app1
    """
    return _saltern("layout").pillar_files(site_directory(__opts__), minion_id)


def check(site: str | None = None) -> str:
    """Check the whole site for every host, before anything is applied.

    Args:
        site: the site directory; default: the one Salt is configured with.

    Returns:
        What was found good.

    Raises:
        CommandExecutionError: every error, one on each line: file, key, what is wrong and what is allowed.

    CLI Example:

    .. code-block:: bash

        salt-call site.check
        salt-call site.check lab/fleets/single
    """
    found = _guarded("checking", "check_site", site)
    hosts, apps = len(found.fleet.hosts), len(found.apps)
    return f"{found.path}: no errors in {hosts} host{'s' * (hosts != 1)} and {apps} app{'s' * (apps != 1)}"


def generate_secrets(site: str | None = None) -> dict[str, Any]:
    """Make the secrets that the site lacks and renew certificates; what is there and good stays.

    Args:
        site: the site directory; default: the one Salt is configured with.

    Returns:
        `changes`: what was written, one line each and without values; empty when all was there.

    Raises:
        CommandExecutionError: the site, or a file in its secrets/, has errors.

    CLI Example:

    .. code-block:: bash

        salt-call site.generate_secrets
    """
    path = Path(site) if site else site_directory(__opts__)
    done = _guarded("secrets", "generate_secrets", _guarded("load", "load_site", path))
    return {"changes": done, "comment": "" if done else f"{path}/secrets: all there, nothing to do"}


def renew() -> dict[str, Any]:
    """Make certificates anew whose time has come (a third of their 90 days is left), of all hosts of the site.

    It changes nothing else. A timer runs it once a day where the site is; each host brings its own into force by
    ``state.apply base.renewal``, which another timer runs, or by any apply.

    Returns:
        `changes`: what was written, one line each; empty when the time of none has come.

    Raises:
        CommandExecutionError: the site has errors, or the authority's key cannot be read.

    CLI Example:

    .. code-block:: bash

        salt-call site.renew
    """
    from salt.exceptions import CommandExecutionError

    try:
        done = _guarded("renewal", "renew_all", _guarded("load", "load_site", None))
    except OSError as error:
        raise CommandExecutionError(f"{site_directory(__opts__)}/secrets: {error.strerror}") from None
    return {"changes": done, "comment": "" if done else "the time of no certificate has come"}


def rotate(*what: str, step: str = "", finish: bool = False, force: bool = False) -> list[str]:
    """Replace a secret by overlap: old and new are both good until nobody uses the old one. No request is lost.

    On one host it does all of it: makes the new secret beside the old one, applies, waits until no process and no
    session has the old one, takes that away and applies again. Killed anywhere, or refused by an apply, the old secret
    stays good and the release that serves goes on serving; the same command then goes on where it was.

    Args:
        what: an app and one of its secrets (`demo database`, `owner`, `redis`, `secret_key`); or `replication`,
            `build_key`, `ca` (the certificate authority), `tls` (all hosts' certificates), `edge` (of apps' names).
        step: for a site with several hosts: `begin` or `end` only writes the site's files; apply all hosts after each.
            `both`, `sign`, `out` and `over` are those of orch.rotate, which may ask for each of them again.
        finish: end at once what is kept for some days, an old SECRET_KEY: sessions that only it has signed end, too.
        force: begin though an apply would change more, which it then does too, and end the old secret though somebody
            uses it after the wait: for one that was stolen, whose holder could else keep it good.

    Returns:
        What was done.

    Raises:
        CommandExecutionError: it cannot go on now; with what is good, what is in the way and what to do.

    CLI Example:

    .. code-block:: bash

        salt-call site.rotate demo database
        salt-call site.rotate demo secret_key
        salt-call site.rotate ca
    """
    from salt.exceptions import CommandExecutionError

    words = [str(word) for word in what]
    rotation, fleet = _saltern("rotation"), _saltern("fleetrotation")
    site = _guarded("load", "load_site", None)
    deeds = rotation.Deeds(plan=_plan, apply=_apply, uses_old=_uses_old)
    try:
        with _alone(site.path / "secrets"):
            if step in fleet.MOVES:
                return [fleet.move(site, words, step, finish)]
            done: list[str] = rotation.rotate(site, words, deeds, step, finish, force)
    except (rotation.RotationError, _saltern("errors").SiteError) as error:
        raise CommandExecutionError(str(error)) from None
    return done


def rotation(*what: str, finish: bool = False) -> dict[str, Any]:
    """Return how far a replacement of a secret is, and which hosts of the fleet it concerns; orch.rotate asks it.

    Args:
        what: as for ``site.rotate``.
        finish: the same.

    Returns:
        ``state``, ``kind``, ``app``, ``moves`` that are still to be done, hosts that are ``applied`` after each, hosts
        that are ``asked`` who uses the old one, and after which moves the app needs a release of its own.

    Raises:
        CommandExecutionError: there is no such secret; with all that there are.

    CLI Example:

    .. code-block:: bash

        salt-call site.rotation demo database
    """
    from salt.exceptions import CommandExecutionError

    fleet = _saltern("fleetrotation")
    try:
        found: dict[str, Any] = fleet.course(_guarded("load", "load_site", None), [str(word) for word in what], finish)
    except (_saltern("rotation").RotationError, _saltern("errors").SiteError) as error:
        raise CommandExecutionError(str(error)) from None
    return found


def secrets(verb: str, *words: str) -> Any:
    """Show and change who can read the site's secrets, which may then lie in Git, and what they are.

    ``list``: names and keys. ``add NAME KEY``: one more, by an SSH or age key or a file with it; the first one makes
    the secrets encrypted. ``drop-person NAME``: one less, with all that has to be replaced because it was known.
    ``edit``: shared.yaml in an editor.

    Args:
        verb: ``list``, ``add``, ``drop-person`` or ``edit``.
        words: what the verb needs.

    Returns:
        What was done, or for ``list`` each reader's key.

    Raises:
        CommandExecutionError: it cannot be done; with what to do instead.

    CLI Example:

    .. code-block:: bash

        salt-call site.secrets add ann 'ssh-ed25519 AAAA... ann'
        salt-call site.secrets drop-person ann
        salt-call site.secrets edit
    """
    from salt.exceptions import CommandExecutionError

    team = _saltern("team")
    needs = {"list": 0, "add": 2, "drop-person": 1, "edit": 0}
    if verb not in needs or len(words) != needs[verb]:
        raise CommandExecutionError("allowed: list, add NAME KEY, drop-person NAME, edit")
    site, machine = _guarded("load", "load_site", None), str(__opts__["id"])
    names = [str(word) for word in words]
    verbs = {
        "list": lambda: team.listed(site),
        "add": lambda: team.add(site, machine, *names),
        "drop-person": lambda: team.drop(site, machine, *names),
        "edit": lambda: team.edit(site),
    }
    try:
        return verbs[verb]()
    except (team.TeamError, _saltern("errors").SiteError) as error:
        raise CommandExecutionError(str(error)) from None


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Two rotations at once would apply each other's halves: the second one is refused."""
    from salt.exceptions import CommandExecutionError

    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        handle = os.fdopen(os.open(folder / ".rotating", os.O_WRONLY | os.O_CREAT, 0o600), "w")
    except OSError as error:
        raise CommandExecutionError(f"{folder} cannot be written: {error.strerror}; rotate where the site is") from None
    with handle as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise CommandExecutionError("another site.rotate is at work on this site; wait for its end") from None
        yield


def _salt(*arguments: str) -> Any:
    """Run another salt-call, which compiles the pillar anew; return what it answers, or its words when it fails."""
    from salt.exceptions import CommandExecutionError

    program = Path(sys.executable).with_name("salt-call")
    command = [str(program), "--out=json", "--log-level=quiet", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    try:
        return json.loads(done.stdout)["local"]
    except (ValueError, KeyError):
        text = (done.stdout + done.stderr).strip() or f"exit code {done.returncode}"
        raise CommandExecutionError(f"salt-call {' '.join(arguments)}: {text}") from None


def _states(*arguments: str) -> list[dict[str, Any]]:
    """Return the results of an apply's states; an apply that does not begin is an error of the rotation."""
    answer = _salt("state.apply", *arguments)
    if not isinstance(answer, dict):
        raise _saltern("rotation").RotationError(f"salt-call state.apply: {answer}")
    return sorted(answer.values(), key=lambda state: int(state.get("__run_num__", 0)))


def _plan() -> list[str]:
    return [state["__id__"] for state in _states("test=True") if state["result"] is not True or state["changes"]]


def _apply() -> None:
    failed = [state for state in _states() if state["result"] is False]
    if failed:
        why = "\n".join(f"{state['__id__']}: {state['comment']}" for state in failed)
        raise _saltern("rotation").RotationError(
            f"the apply was refused; what serves goes on serving, and old and new secrets are both good. "
            f"Put this right, then the same command goes on:\n{why}"
        )


def _uses_old(one: Any) -> list[str]:
    found = _salt("secretuse.old", one.kind.name, *([one.app] if one.app else []))
    if not isinstance(found, list):
        raise _saltern("rotation").RotationError(f"salt-call secretuse.old: {found}")
    return found


def _guarded(module: str, function: str, argument: Any) -> Any:
    """Run a function of the package; an error of the site becomes Salt's own, with its text and no traceback."""
    from salt.exceptions import CommandExecutionError

    errors = _saltern("errors")
    try:
        return getattr(_saltern(module), function)(argument or site_directory(__opts__))
    except errors.SiteError as error:
        raise CommandExecutionError(str(error)) from None
