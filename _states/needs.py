"""What this host grants outlives what still uses it: remembered before it is given, taken away when nobody has it."""

from __future__ import annotations

from typing import Any

from salt.exceptions import CommandExecutionError

GIVEN_BY = {"redis": "redis", "pages": "web", "postgres": "postgres"}  # all others by role base


def remembered(name: str) -> dict[str, Any]:
    """Write down what this host grants, before the states that grant it: a killed apply has forgotten nothing.

    Args:
        name: any text.

    Returns:
        Salt's result; ``changes`` has what is granted from now on.

    Example:
        .. code-block:: yaml

            what is granted:
              needs.remembered:
                - order: 1
    """
    changes = __salt__["needs.new"]()
    damaged = __salt__["needs.damage"]()
    more: dict[str, Any] = {}
    if damaged:
        changes = {**changes, "the record of grants": {"old": "damaged", "new": "set aside as needs.damaged"}}
        why = "What is granted is worked out from the host's own files: the firewall, Redis, Postgres, nginx, releases."
        more = {"warnings": [f"{damaged}. {why}"]}
    if __opts__["test"] and changes:
        return _result(name, None, changes, f"{len(changes)} would be granted") | more
    try:
        if not __opts__["test"]:
            __salt__["needs.remember"](__salt__["needs.granted"]())
    except OSError as error:
        return _result(name, False, {}, f"It could not be written down: {error}") | more
    return _result(name, True, changes, f"{len(changes)} granted" if changes else "Nothing new is granted") | more


def settled(name: str) -> dict[str, Any]:
    """Take away what the site does not grant any more, as soon as nothing that was started with it runs.

    Order it last: by then the releases of this host have been switched, and old workers have stopped. Where something
    goes on (a release was refused, or is pinned), what it uses stays. What other hosts of the fleet use stays until all
    of them were applied; the master knows (orch.settle), and the pillar's ``held_elsewhere`` says who uses what.

    Args:
        name: any text.

    Returns:
        Salt's result; ``changes`` has what was taken away.

    Example:
        .. code-block:: yaml

            what nobody needs any more:
              needs.settled:
                - order: last
    """
    test = __opts__["test"]
    try:
        found = __salt__["needs.going"](plan=test)
        changes, stays = found["changes"], _stays(found)
        if not changes:
            return _result(name, True, {}, stays or "Nothing is granted that the site does not want")
        # In an apply the states before this one have put all else right.
        if "held_elsewhere" in __pillar__ and (problem := __salt__["needs.unapplied"](found["parts"])):
            return _result(name, False, {}, problem)
        if test:
            return _result(name, None, changes, f"{len(changes)} would be taken away{stays and f'. {stays}'}")
        __salt__["needs.remember"](found["left"])
        for part in found["parts"]:
            problem = _close(part)
            if problem:
                return _result(name, False, {}, problem)
    except (OSError, CommandExecutionError) as error:
        return _result(name, False, {}, str(error))
    return _result(name, True, changes, f"{len(changes)} taken away{stays and f'. {stays}'}")


def _stays(found: dict[str, Any]) -> str:
    if not found["kept"]:
        return ""
    why = "; ".join(found["why"]) or "other hosts may use it until salt-run state.orchestrate orch.settle"
    return f"Still granted: {'; '.join(found['kept'])}. For: {why}"


def _close(part: str) -> str:
    """Put right what gives this part; an empty string, or what went wrong."""
    if (
        GIVEN_BY.get(part, "base") not in __pillar__["host"]["roles"]
    ):  # the fleet took the role, and its daemons stopped
        return ""
    if part in ("calls", "ports"):
        __salt__["needs.close_firewall"]()
    elif part == "redis":
        __salt__["needs.close_redis"]()
    elif part == "pages":
        __salt__["needs.close_pages"]()
    else:
        __salt__["needs.close_databases"]()
        if __pillar__["wiring"]["postgres"]["primary"]:  # databases and roles come from there
            return ""
        settings, wiring = __pillar__["postgres"], __pillar__["wiring"]["postgres"]
        found = __salt__["needs.postgres"](wiring, list(__pillar__["apps"]), settings["port"])
        for function, arguments in (
            (
                "pg.databases_present",
                {
                    "clients": found["clients"],
                    "leaving": found["leaving"],
                    "extra_roles": settings["extra_roles"],
                },
            ),
            ("pgreplica.let_in", {"replicas": found["replicas"]}),
        ):
            done = __states__[function](name="databases", port=settings["port"], **arguments)
            if done["result"] is False:
                return str(done["comment"])
    return ""


def _result(name: str, result: bool | None, changes: dict[str, Any], comment: str) -> dict[str, Any]:
    return {"name": name, "result": result, "changes": changes, "comment": comment}
