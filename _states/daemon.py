"""Keep daemons running with what is on disk.

``daemon.running`` is for every daemon that Saltern runs, instead of ``service.running`` with ``watch``: it compares the
running process with its files on each apply, so a restart that an earlier apply could not do is done by the next one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

__virtualname__ = "daemon"


def running(
    name: str,
    inputs: list[str] | None = None,
    reload: bool | list[str] = False,
    enable: bool = True,
    timeout: float = 60,
    after_job: bool = False,
    restart_by: str | None = None,
    proof: str | None = None,
    begins_anew_if: str | None = None,
) -> dict[str, Any]:
    """Keep a daemon running, started at boot, and restarted after a change of what it reads when it starts.

    Order it after the states that write its inputs (``require``), and give those states to ``watch`` as well: only
    then can a plan know that files which are still to be written will restart the daemon.

    Args:
        name: The systemd unit; ``.service`` may be left out. Sockets, timers and instances work too.
        inputs: Files and directories that the daemon reads when it starts: configuration, environment files,
            certificates. The unit's own files and drop-ins are always inputs. Each must exist.
        reload: Inputs for which a reload is enough, or True when it is enough for all of them. A changed unit file
            always restarts.
        enable: Also start it at boot.
        timeout: How long a start, restart or reload may take, in seconds.
        after_job: When this very apply is a job of the minion daemon, restart only when the job has ended. For the
            daemons that carry the job: a minion never cuts off the branch that it sits on.
        restart_by: An execution function that restarts it in a way of its own; see ``daemon.act``.
        proof: An execution function that says what it has not taken of a reload, or nothing.
        begins_anew_if: An execution function that is given the unit when a reload has failed, and says why a later
            state starts it anew in any case, or nothing. Then the failure is none, and nothing is recorded.

    Returns:
        Salt's result. ``changes`` has ``running`` (it was started), ``process`` (it was restarted or reloaded),
        ``definition`` (systemd read the unit's files again) and ``enabled``, each as old and new.

    Example:
        .. code-block:: yaml

            redis-server.service:
              daemon.running:
                - inputs: [/etc/redis/redis.conf]
                - require: [{file: /etc/redis/redis.conf}]
                - watch: [{file: /etc/redis/redis.conf}]
    """
    found = _inspect(name, inputs)
    problem = _cannot_run(name, found)
    if problem:
        return _failed(name, problem)

    action, changes, reasons = _plan(found, inputs or [], reload, enable)
    if found["waiting_socket"] and not changes:
        return _result(name, True, {}, f"{name} is started by {found['waiting_socket']} when it is needed.")
    if not changes:
        if not __opts__["test"] and not found["recorded"]:
            __salt__["daemon.adopt"](name, inputs)
        return _result(name, True, {}, f"{name} is running with what is on disk.")
    if __opts__["test"]:
        return _result(name, None, changes, f"{name} would be changed: {'; '.join(reasons)}.")
    if after_job and action == "restart" and __salt__["daemon.in_job"]():
        return _after_job(name, "restart", changes, reasons)
    ways = {"by": restart_by, "proof": proof}
    return _carry_out(name, action, inputs, found, changes, reasons, timeout, ways, begins_anew_if)


def _inspect(name: str, inputs: list[str] | None = None) -> dict[str, Any]:
    """Ask systemd: once for all daemons of this run, as long as nothing has been changed that it could know of."""
    run, results = globals().get("__instance_id__"), globals().get("__running__") or {}
    known = None
    if run and _nothing_was_done(results.values()):
        chunks = globals().get("__lowstate__") or []
        names = [chunk["name"] for chunk in chunks if (chunk["state"], chunk["fun"]) in _OF_UNITS]
        known = __salt__["daemon.shown"](name, names, run)
    found: dict[str, Any] = __salt__["daemon.inspect"](name, inputs, known)
    return found


_OF_UNITS = {(__virtualname__, "running"), (__virtualname__, "dead")}


def _nothing_was_done(results: Iterable[Mapping[str, Any]]) -> bool:
    """Return whether all states so far have found the host as it shall be: one that failed may have done a part.

    Args:
        results: What the states of this run have returned.

    Example:
        >>> _nothing_was_done([{"result": True, "changes": {}}]), _nothing_was_done([{"result": False, "changes": {}}])
        (True, False)
    """
    return all(result.get("result") is True and not result.get("changes") for result in results)


def _after_job(name: str, action: str, changes: dict[str, Any], reasons: list[str]) -> dict[str, Any]:
    """Leave it to systemd. Nothing is recorded, so the next apply makes good what was lost."""
    problem = __salt__["daemon.act_after_job"](name, action)
    if problem:
        return _failed(name, problem)
    done = {"restart": "restarts", "stop": "stops"}[action]
    return _result(name, True, changes, f"{name} {done} when this job has ended: {'; '.join(reasons)}.")


def _cannot_run(name: str, found: dict[str, Any]) -> str:
    if found["masked"]:
        return f"{name} is masked: someone has forbidden it to start. To allow it: systemctl unmask {name}"
    if __opts__["test"]:
        # In a plan the package or an input may still be to come from an earlier state.
        return ""
    if not found["exists"]:
        return f"There is no unit {name}. Install its package or write its unit file before this state (require)."
    if found["missing"]:
        return (
            f"{name}: these inputs do not exist: {', '.join(found['missing'])}."
            " Correct the path, or write them before this state (require)."
        )
    return ""


def _plan(
    found: dict[str, Any], inputs: list[str], reload: bool | list[str], enable: bool
) -> tuple[str, dict[str, Any], list[str]]:
    """Return what to do (start, restart, reload or nothing), the changes that it makes, and why."""
    action = ""
    changes: dict[str, Any] = {}
    reasons: list[str] = []
    stale = [*found["stale"], *(path for path in found["missing"] if found["active"])]
    if not found["active"]:
        if not found["waiting_socket"]:
            action = "start"
            changes["running"] = {"old": False, "new": True}
            reasons.append("it does not run" if found["exists"] else "its unit does not exist yet")
    elif stale:
        only_reload = found["can_reload"] and not found["stale_unit_files"] and _covered(stale, inputs, reload)
        action = "reload" if only_reload else "restart"
        changes["process"] = _process_change(action, stale)
        reasons.append(f"{', '.join(stale)} changed since the process started")
    if found["need_daemon_reload"] and not changes:
        changes["definition"] = {"old": "not read by systemd", "new": "read by systemd"}
        reasons.append("its unit files were written again")
    if enable and not found["waiting_socket"] and (found["enabled"] is False or not found["exists"]):
        changes["enabled"] = {"old": False, "new": True}
        reasons.append("it was not started at boot")
    return action, changes, reasons


def _covered(paths: list[str], inputs: list[str], reload: bool | list[str]) -> bool:
    """Return whether a reload is enough for all these paths."""
    enough = inputs if reload is True else reload or []
    return all(any(path == entry or path.startswith(f"{entry}/") for entry in enough) for path in paths)


def _process_change(action: str, stale: list[str]) -> dict[str, str]:
    done = {"restart": "restarted", "reload": "reloaded"}[action]
    return {"old": f"older than {', '.join(stale)}", "new": done}


def _carry_out(
    name: str,
    action: str,
    inputs: list[str] | None,
    found: dict[str, Any],
    changes: dict[str, Any],
    reasons: list[str],
    timeout: float,
    ways: dict[str, str | None],
    begins_anew_if: str | None,
) -> dict[str, Any]:
    # First, for it can give the unit another name, whose file is then among those that the process was started with.
    problem = __salt__["daemon.enable"](name) if "enabled" in changes else ""
    if not problem and action:
        problem = __salt__["daemon.act"](name, action, inputs, timeout, **ways)
    elif not problem and found["need_daemon_reload"]:
        problem = __salt__["daemon.reload_systemd"]()
    if problem and action == "reload" and begins_anew_if and (reason := __salt__[begins_anew_if](name)):
        return _result(
            name, True, changes, f"{name} was not reloaded; it starts anew by the state that follows: {reason}."
        )
    if problem:
        return _failed(name, problem)
    if not action:
        __salt__["daemon.adopt"](name, inputs)
    done = {"start": "was started", "restart": "was restarted", "reload": "was reloaded", "": "was changed"}[action]
    return _result(name, True, changes, f"{name} {done}: {'; '.join(reasons)}.")


def reread(name: str, paths: list[str], timeout: float = 60) -> dict[str, Any]:
    """Reload each daemon that runs with older versions of some files than those on disk, and no other one.

    Which daemons read a file is known from what was recorded when they were started. Nothing restarts, no configuration
    is written, and one that does not run is left alone. Give the states that write the files to ``watch``: a plan then
    knows who will read them.

    Args:
        name: What to call it.
        paths: Files or directories.
        timeout: How long a reload may take, in seconds.

    Returns:
        Salt's result. ``changes`` has for each daemon ``old`` and ``new``.

    Example:
        .. code-block:: yaml

            the daemons that read certificates:
              daemon.reread:
                - paths: [/etc/saltern/tls]
                - watch: [{sls: base.tls}]
    """
    return _reread(name, __salt__["daemon.unread"](paths), timeout)


def _reread(name: str, found: dict[str, list[str]], timeout: float) -> dict[str, Any]:
    changes = {unit: _process_change("reload", inputs) for unit, inputs in found.items()}
    if not found:
        return _result(name, True, {}, "Each daemon has read what is on disk.")
    if __opts__["test"]:
        return _result(name, None, changes, f"These would be reloaded: {', '.join(found)}.")
    problems = {unit: __salt__["daemon.reread"](unit, inputs, timeout) for unit, inputs in found.items()}
    if bad := [problem for problem in problems.values() if problem]:
        done = {unit: change for unit, change in changes.items() if not problems[unit]}
        return _failed(name, "\n".join(bad)) | {"changes": done}
    return _result(name, True, changes, f"Reloaded: {', '.join(found)}.")


def mod_watch(
    name: str,
    sfun: str = "running",
    inputs: list[str] | None = None,
    reload: bool | list[str] = False,
    timeout: float = 60,
    after_job: bool = False,
    paths: list[str] | None = None,
    restart_by: str | None = None,
    proof: str | None = None,
    begins_anew_if: str | None = None,
    **kwargs: Any,
) -> dict[str, Any]:
    """Restart or reload a daemon because a watched state has changes. Salt calls it; do not write it in an SLS.

    Salt calls it only when ``running`` itself found nothing to do, so nothing is restarted twice. In a plan that is
    the usual case: what is on disk has not changed yet. In a real apply it is the case when a watched state changed
    something that is no input, such as a package.

    Args:
        name: As for ``running``.
        sfun: The function that watches: ``running``, ``reread`` or ``dead``.
        inputs: As for ``running``.
        reload: As for ``running``.
        timeout: As for ``running``.
        after_job: As for ``running``.
        paths: As for ``reread``.
        restart_by: As for ``running``.
        proof: As for ``running``.
        begins_anew_if: As for ``running``.
        **kwargs: Salt's own arguments, and those of ``running`` that do not matter here.

    Returns:
        Salt's result.

    Example:
        salt-call state.apply redis
    """
    if sfun == "reread":  # in an apply it has looked at the files itself
        watched = [one for one in _changed_names() if one.startswith("/")]
        return _reread(name, __salt__["daemon.readers"](watched) if __opts__["test"] else {}, timeout)
    if sfun != "running":
        return _result(name, True, {}, f"{name} does not run, so there is nothing to restart.")
    found = __salt__["daemon.inspect"](name, inputs)
    if found["waiting_socket"]:
        return _result(name, True, {}, f"{name} is started by {found['waiting_socket']} when it is needed.")
    watched = _changed_names()
    only_reload = found["can_reload"] and bool(watched) and _covered(watched, inputs or [], reload)
    action = "reload" if only_reload else "restart"
    changes = {"process": _process_change(action, watched or ["what it watches"])}
    reasons = [f"{', '.join(watched) or 'what it watches'} changed"]
    if __opts__["test"]:
        return _result(name, None, changes, f"{name} would be {changes['process']['new']}: {reasons[0]}.")
    if after_job and action == "restart" and __salt__["daemon.in_job"]():
        return _after_job(name, "restart", changes, reasons)
    ways = {"by": restart_by, "proof": proof}
    return _carry_out(name, action, inputs, found, changes, reasons, timeout, ways, begins_anew_if)


def _changed_names() -> list[str]:
    """Return the names of the watched states that have changes (Salt gives ``__low__`` and ``__running__``)."""
    low = globals().get("__low__") or {}
    results = globals().get("__running__") or {}
    changed = {(result.get("__sls__"), result.get("__id__")) for result in results.values() if result.get("changes")}
    chunks = [chunk for kind, reqs in low.get("__reqs__", {}).items() if "watch" in kind for chunk in reqs]
    return sorted({chunk["name"] for chunk in chunks if (chunk["__sls__"], chunk["__id__"]) in changed})


def dead(name: str, timeout: float = 60, after_job: bool = False, serves: str = "") -> dict[str, Any]:
    """Keep a daemon stopped, also at boot: for what a host no longer runs.

    Args:
        name: The systemd unit; ``.service`` may be left out. It need not exist.
        timeout: How long it may take to stop, in seconds.
        after_job: As for ``running``.
        serves: ``redis`` or ``postgres``: it runs on while something that was started with a need of it may use it.

    Returns:
        Salt's result, with ``running`` and ``enabled`` in ``changes``.

    Example:
        .. code-block:: yaml

            redis-server.service:
              daemon.dead: []
    """
    found = _inspect(name)
    changes: dict[str, Any] = {}
    if found["active"] or found["failed"]:
        changes["running"] = {"old": "failed" if found["failed"] else True, "new": False}
    if found["enabled"] is True:
        changes["enabled"] = {"old": True, "new": False}
    if not changes:
        return _result(name, True, {}, f"{name} does not run and is not started at boot.")
    if serves and (users := __salt__["needs.users_of"](serves, __opts__["test"])):
        return _result(name, True, {}, f"{name} runs on, for it may still be used: {'; '.join(users)}.")
    if __opts__["test"]:
        return _result(name, None, changes, f"{name} would be stopped.")
    if after_job and __salt__["daemon.in_job"]():
        return _after_job(name, "stop", changes, ["the fleet has taken it from this host"])
    problem = __salt__["daemon.stop"](name, timeout)
    if problem:
        return _failed(name, problem)
    return _result(name, True, changes, f"{name} was stopped.")


def _result(name: str, result: bool | None, changes: dict[str, Any], comment: str) -> dict[str, Any]:
    return {"name": name, "result": result, "changes": changes, "comment": comment}


def _failed(name: str, problem: str) -> dict[str, Any]:
    # Without skip_watch Salt would go on to mod_watch after a failure, and hide it.
    return _result(name, False, {}, problem) | {"skip_watch": True}
