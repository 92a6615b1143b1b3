"""orch.settle: what hosts grant to others and the site does not want any more goes, as soon as nobody uses it."""

from __future__ import annotations

import re
from typing import Any

from .arguments import flag
from .fleet import Answer, Fleet, Hosts
from .steps import Steps, applied

TAKES = ("plan",)
Held = dict[str, dict[str, list[str]]]
UNKNOWN = {"*": ["it does not say what it runs"]}
UNTIL = (
    "It ends when those have stopped (orch.deploy, an apply of their host, release.unpin) and orch.settle runs again"
)
NEW_SETTINGS = """{app} serves with settings of before; the new ones: salt-run state.orchestrate orch.deploy \
pillar='{{"app": "{app}", "build": "same"}}'"""
# A key of YAML ended at 1,024 characters, and a summary is to be read.
LONGEST = 900


def steps(fleet: Fleet, told: dict[str, Any], hosts: Hosts) -> Steps:
    """Return the step that takes it away, and sentences about what stays and which settings wait for a release.

    A host that runs apps is asked what runs there; one that does not answer is not taken for one that needs nothing.

    Args:
        fleet: the fleet.
        told: `plan`: only say it.
        hosts: asked what they keep, hold and would take away.

    Raises:
        Refused: `plan` is neither true nor false.
    """
    plan = flag(told, "plan")
    # They would answer by the pillar that they have in memory.
    hosts.ask(fleet.minions, "saltutil.refresh_pillar", wait=True)
    kept = hosts.ask(fleet.minions, "needs.kept")
    silent = [host for host, answer in kept.items() if not answer.good]
    keeping = [host for host, answer in kept.items() if answer.good and answer.ret]
    elsewhere = held(hosts.ask(fleet.running, "needs.held")) if keeping else {}
    answers = hosts.ask(keeping, "needs.settling", elsewhere=elsewhere)
    going = [host for host, answer in answers.items() if answer.table and answer.table.get("going")]
    stays = [sentence for host, answer in answers.items() for sentence in staying(host, answer)]
    found = Steps()
    if silent:
        found.say(f"not asked what they still grant, for they do not answer: {', '.join(silent)}"[:800])
    for sentence in stays:
        found.say(f"{sentence}. {UNTIL}"[:LONGEST])
    if going:
        step = applied(going, "base.settled", test=plan, pillar={"held_elsewhere": elsewhere})
        found.then("what nobody needs any more is taken away", step)
    elif not stays and not silent:
        found.say("nothing is granted that the site does not want")
    for app in waiting(hosts.ask(fleet.running, "fleet.waiting"), fleet.apps):
        found.say(NEW_SETTINGS.format(app=app)[:LONGEST])
    return found


def held(answers: dict[str, Answer]) -> Held:
    """Return what runs on each host, of each app. Hosts say what they like: only names pass, and words that are cut.

    Args:
        answers: what the hosts that run apps' code said.

    Example:
        >>> held({"web1": Answer(True, {"demo": ["r1 runs"]}), "web2": Answer()})
        {'web1': {'demo': ['r1 runs']}, 'web2': {'*': ['it does not say what it runs']}}
    """
    found: Held = {}
    for host, answer in answers.items():
        if answer.table is None:
            found[host] = UNKNOWN
        elif answer.table:
            names = [app for app in answer.table if isinstance(app, str) and re.fullmatch("[a-z0-9-]+", app)]
            found[host] = {app: [_joined(answer.table[app], ", ", 200)] for app in names}
    return found


def staying(host: str, answer: Answer) -> list[str]:
    """Return what is to be said of what a host still grants.

    Args:
        host: its id.
        answer: what it said it would take away and keep.
    """
    if answer.table is None:
        return [f"{host} does not say what it still grants"]
    if not answer.table.get("kept"):
        return []
    kept, why = (_joined(answer.table.get(key), "; ", 300) for key in ("kept", "why"))
    return [f"{host} still grants: {kept}. Who may use it: {why}"]


def waiting(answers: dict[str, Answer], apps: list[str]) -> list[str]:
    """Return the apps whose new settings wait for a release, of those that there are.

    Args:
        answers: what the hosts that run apps' code said.
        apps: the site's apps.
    """
    said = [answer.ret for answer in answers.values() if answer.good and isinstance(answer.ret, list | tuple | dict)]
    return sorted({app for names in said for app in names if app in apps})


def _joined(words: Any, between: str, most: int) -> str:
    listed = words if isinstance(words, list | tuple) else [] if words is None else [words]
    return between.join(map(str, listed))[:most]
