"""orch.rotate: a secret is replaced over the fleet. Old and new are both good until nobody uses the old one."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

from .arguments import Refused
from .fleet import Fleet, Hosts
from .steps import Steps, applied, called, orchestrated
from .together import with_other_code

TAKES = ("app", "secret", "force", "finish")
# What each move is called: in the site's files; at the hosts; in the app's releases.
NAMES = {
    "both": ("both are written down", "both are good", "the app has the new one"),
    "sign": ("the next one is to sign", "the next one signs", ""),
    "out": ("the old one is crossed out", "the old one is good nowhere", "the app has only the new one"),
    "over": ("it is over", "", ""),
}
# Certificates are brought into force by states of their own, which change nothing else.
CERTIFICATES = ("tls", "edge")
# A plan that would change more names so many of it.
NAMED = 5


@dataclass(frozen=True)
class Course:
    """What is rotated and how far it is, as the host with the site says (saltern/site/fleetrotation.py).

    Args:
        kind: the secret's kind.
        state: how far it is.
        moves: those that are to be done, in order.
        applied: the hosts that are applied after each.
        asked: the hosts that are asked who uses the old one.
        releases: after which moves the app needs a release with its new settings.
    """

    kind: str
    state: str
    moves: list[str]
    applied: list[str]
    asked: list[str]
    releases: list[str]

    @property
    def whole(self) -> bool:
        """Whether the hosts that are applied get all of their states."""
        return self.kind not in CERTIFICATES


@dataclass(frozen=True)
class Wish:
    """What the operator typed, checked.

    Args:
        secret: the secret's kind.
        app: whose it is; None: no app's.
        force: begin although an apply would change more, and end an old secret that is used.
        finish: end an old secret whose days are not over.
    """

    secret: str
    app: str | None
    force: bool
    finish: bool

    @property
    def words(self) -> list[str]:
        """The secret, as people say it."""
        return [self.app, self.secret] if self.app else [self.secret]


def steps(fleet: Fleet, told: dict[str, Any], hosts: Hosts) -> Steps:
    """Return what is still to be done. After a failure, or a kill anywhere, the same goes on from there.

    Args:
        fleet: the fleet.
        told: `secret`, `app`, `force`, `finish`.
        hosts: asked for their code, the master for the course, those that are applied for their plan.

    Raises:
        Refused: there is no such secret, or an apply would change more than it.
    """
    wish = wished(told)
    masters = [host for host, roles in fleet.roles.items() if {"master", "minion"} <= {*roles}]
    if not masters:
        raise Refused("the master must have role minion, too: it alone has the site")
    if behind := with_other_code(fleet, hosts, fleet.minions):
        hosts.ask(behind, "saltutil.sync_all")
        hosts.ask(behind, "saltutil.refresh_pillar", wait=True)
    course = _course(hosts, masters, wish)
    # What a killed one has asked for goes on without it, and a host that is at work takes no other order.
    hosts.ask(course.applied, "fleet.at_rest")
    if course.state == "settled" and course.whole and not wish.force:
        _must_change_nothing_else(hosts, course, len(fleet.running) > 1)
    found = Steps()
    for app in _half_released(fleet, hosts, course):
        found.then(f"the release of {app} goes on", orchestrated("deploy", {"app": app, "build": "same"}))
    for move in course.moves:
        _add(found, move, course, wish, masters, bool(fleet.running))
    if course.asked:
        found.then("the old one is forgotten", called("saltutil.refresh_pillar", course.asked, wait=True))
    return found


def wished(told: dict[str, Any]) -> Wish:
    """Return what the operator typed.

    Args:
        told: the arguments.

    Raises:
        Refused: they are not what they should be.

    Example:
        >>> wished({"secret": "ca"})
        Wish(secret='ca', app=None, force=False, finish=False)
    """
    app, secret, force, finish = (told.get(key) for key in ("app", "secret", "force", "finish"))
    text = isinstance(secret, str) and (app is None or isinstance(app, str))
    if not text or not all(flag is None or isinstance(flag, bool) for flag in (force, finish)):
        raise Refused(
            """name a secret: pillar='{"app": "demo", "secret": "database"}', or {"secret": "ca"}; """
            """with it "force" and "finish", true or false"""
        )
    return Wish(str(secret), app, bool(force), bool(finish))


def _course(hosts: Hosts, masters: list[str], wish: Wish) -> Course:
    first = hosts.ask(masters, "rotation.course", *wish.words, finish=wish.finish)[masters[0]]
    if first.table is None:
        raise Refused(str(first.ret or f"{masters[0]} does not answer its master").replace("ERROR: ", ""))
    keys = [field.name for field in fields(Course)]
    if {*keys} - {*first.table}:
        raise Refused(f"{masters[0]} does not say how far it is")
    return Course(**{key: first.table[key] for key in keys})


def _must_change_nothing_else(hosts: Hosts, course: Course, together: bool) -> None:
    """Stop where an apply of the hosts that compare the secret would change more than that."""
    pending: list[str] = []
    for host, answer in hosts.ask(course.applied, "state.test").items():
        # Also of a host where something of its plan failed: that is said by the state itself.
        if not isinstance(answer.ret, dict):
            pending.append(f"{host} cannot be planned")
            continue
        for name, state in answer.ret.items():
            # A builder makes the newest build, and gives it to nobody where hosts switch together.
            builds = together and name.startswith("build_|-")
            if not builds and (state["result"] is not True or state["changes"]):
                pending.append(f"{host}: {state['__id__']}")
    if pending:
        others = " and others" if len(pending) > NAMED else ""
        raise Refused(
            f"an apply would change more than the secret ({', '.join(pending[:NAMED])}{others}): "
            f"salt-run state.orchestrate orch.apply comes first; where that does not help, because somebody changes it "
            f'again: "force": true'
        )


def _half_released(fleet: Fleet, hosts: Hosts, course: Course) -> list[str]:
    """Return the apps whose release was killed after its hosts switched.

    Such hosts apply nothing until they are told that all have. The release is of the settings that are good already, or
    it would not have come so far.
    """
    found = []
    for app in fleet.apps if {*course.applied} & {*fleet.running} else []:
        said = [answer.table for answer in hosts.ask(fleet.running, "fleet.serves", app).values() if answer.table]
        if any(serves.get("unconfirmed") and not serves.get("begun") for serves in said):
            found.append(app)
    return found


def _add(found: Steps, move: str, course: Course, wish: Wish, masters: list[str], has_releases: bool) -> None:
    """Add the steps of one move: to the site's files, to the hosts, to the app's releases."""
    written, good, released = NAMES[move]
    if move == "out" and course.asked and course.state != "ending":
        found.then("settings are brought", called("saltutil.refresh_pillar", course.asked, wait=True))
        whose = [course.kind, wish.app] if wish.app else [course.kind]
        found.then("nobody uses the old one", called("secretuse.gone", course.asked, *whose, force=wish.force))
    found.then(written, called("rotation.move", masters, *wish.words, to=move, finish=wish.finish))
    if move == "over":
        return
    if course.applied and course.whole:
        found.then(good, orchestrated("apply", {"hosts": course.applied}))
    elif course.applied:
        found.then(good, applied(course.applied, "base.renewal"))
    if move in course.releases and has_releases:
        found.then(released, orchestrated("deploy", {"app": wish.app, "build": "same"}))
