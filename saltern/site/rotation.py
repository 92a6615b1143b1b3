"""Replaces secrets by overlap, end to end, and takes up again what was killed anywhere.

What has been done is in the site's secrets/ and nowhere else:

    a secret of shared.yaml     `previous` has the old one: both are good. `ending` names it: the old one goes.
    the certificate authority   ca.next: both are trusted, the old one signs. ca.previous: both are, the new one does.
                                ca.ending: the old one is trusted no longer, and hosts are yet to be told.

Between two of these states hosts are applied; what the site asks of them, and what they answer, comes in from outside
(`Deeds`), so that all of it is tested without a host.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import overlap
from .errors import Problem, SiteError
from .overlap import Held
from .secrets import (
    CA_ENDING,
    CA_NEXT,
    CA_PREVIOUS,
    forget_ca,
    generate_secrets,
    locked,
    make_authority,
    promote_ca,
    read_shared,
    retire_ca,
    settle_ca,
    write_shared,
)
from .site import Site

log = logging.getLogger(__name__)

# In the order in which a rotation comes past them; SALTERN_KILL_AT ends Salt at one, as in a deploy (release/steps.py).
STEPS = (
    "both are written down",
    "both are handed out",
    "both are good",
    "nobody uses the old one",
    "the old one is crossed out",
    "the old one is good nowhere",
    "two authorities are trusted",
    "the new authority signs",
    "the old authority is trusted nowhere",
)
# What hosts come to when the authorities go on from a state.
OF_AUTHORITY = {
    "settled": "two authorities are trusted",
    "trusted": "the new authority signs",
    "signing": "the old authority is trusted nowhere",
    "ending": "the old authority is trusted nowhere",
}
BY_HAND = "who trusts it by hand, such as a browser, has to be given secrets/ca/ca.crt anew"
VARIABLE = "SALTERN_KILL_AT"
CERTIFICATES = ("tls", "edge")
AUTHORITY = "ca"
WENT_ON = "nothing new was made; the one that was begun went on"
BEGIN, END = "begin", "end"
WAIT_SECONDS = 90  # until those who use the old one have ended: longer than an answer, or a worker's task, may take


class RotationError(Exception):
    """A rotation that cannot go on now; its text says what is good, what is in the way and what to do."""


@dataclass(frozen=True)
class Deeds:
    """What a rotation asks of the world.

    Args:
        plan: answers what an apply would change, as names of states.
        apply: applies the host; raises RotationError with the reason when that fails.
        uses_old: answers who still uses the old secret, as sentences.
        wait: sleeps for some seconds.
    """

    plan: Callable[[], list[str]]
    apply: Callable[[], None]
    uses_old: Callable[[Held], list[str]]
    wait: Callable[[float], None] = time.sleep


def reached(step: str) -> None:
    """Tell the log that a step is done; end this process there when SALTERN_KILL_AT names it.

    Args:
        step: one of STEPS.
    """
    if step not in STEPS:
        raise ValueError(f"{step!r} is none of the steps")
    log.info("rotation: %s", step)
    if os.environ.get(VARIABLE) == step:
        os.kill(os.getpid(), signal.SIGKILL)


def rotate(
    site: Site, words: list[str], deeds: Deeds, step: str = "", finish: bool = False, force: bool = False
) -> list[str]:
    """Replace one secret by overlap.

    Args:
        site: the checked site.
        words: an app and a kind (`demo database`), or a kind that is no app's: `replication`, `ca`, `tls`, `edge`.
        deeds: how to ask and apply the host.
        step: for a fleet, whose hosts others apply: `begin` or `end` only writes the site's files.
        finish: take an old secret away whose days are not over yet.
        force: begin though an apply would change more, and end the old secret though it is used.

    Returns:
        What was done, one line each, without values.

    Raises:
        RotationError: it cannot go on now.
        SiteError: a file in secrets/ has something wrong.

    Example:
        >>> rotate(load_site("site"), ["demo", "database"], deeds)  # needs a site with secrets  # doctest: +SKIP
        ['apps.demo.database_password: replaced; the old one is good nowhere']
    """
    if step not in ("", BEGIN, END):
        raise RotationError(f'step: "{step}" is none; allowed: begin, end, or leave it out for all of it')
    alone = len(site.fleet.hosts) == 1
    if not alone and not step:
        text = f"this site has {len(site.fleet.hosts)} hosts, and each has to be applied between the steps: "
        if site.fleet.with_role("master"):
            raise RotationError(text + orchestration(words))
        raise RotationError(
            f"{text}salt-call site.rotate {' '.join(words)} step=begin, apply all hosts, then step=end "
            "(docs/secrets.md)"
        )
    if words == [AUTHORITY]:
        return _authority(site, deeds, step, force)
    if len(words) == 1 and words[0] in CERTIFICATES:
        return _certificates(site, words[0], deeds, step, force)
    return _secret(site, words, deeds, step, finish, force)


def orchestration(words: list[str], finish: bool = False) -> str:
    """Return the command that replaces a secret over a fleet with a master.

    Args:
        words: an app and a kind, or a kind that is no app's.
        finish: end at once what is kept for some days.

    Example:
        >>> print(orchestration(["ca"]))
        salt-run state.orchestrate orch.rotate pillar='{"secret": "ca"}'
    """
    what: dict[str, Any] = {**({"app": words[0]} if len(words) > 1 else {}), "secret": words[-1] if words else "..."}
    what |= {"finish": True} if finish else {}
    return f"salt-run state.orchestrate orch.rotate pillar='{json.dumps(what)}'"


def state_of(data: dict[str, Any], one: Held) -> str:
    """Return how far a rotation is: `settled`, `overlap` (both are good) or `ending` (the old one goes).

    Args:
        data: the content of shared.yaml.
        one: the secret.

    Example:
        >>> state_of({"apps": {"demo": {"secret_key": "x"}}}, Held(overlap.KINDS[3], "demo"))
        'settled'
    """
    if one.old(data) is not None:
        return "overlap"
    return "ending" if one.kind.name in (one.place(data).get("ending") or []) else "settled"


def _secret(site: Site, words: list[str], deeds: Deeds, step: str, finish: bool, force: bool) -> list[str]:
    folder = site.path / "secrets"
    generate_secrets(site)  # what was changed by hand is an overlap from here on
    data, _ = read_shared(folder)
    one = named(data, words)
    state = state_of(data, one)
    more = [] if step or state == "settled" else [f"{one.key}: {WENT_ON}"]
    if state == "settled" and step == END:
        raise RotationError(f"{one.key}: nothing is being replaced; step=begin comes first")
    if state == "overlap" and step == BEGIN:
        raise RotationError(f"{one.key}: is being replaced already; apply all hosts, then step=end")
    if state == "settled":
        if not step:
            _needs_peace(deeds, force)
        with locked(folder):
            data, _ = read_shared(folder)
            overlap.begin(data, one, overlap.fresh(one.kind), one.place(data)[one.kind.key])
            write_shared(folder, data)
        reached("both are written down")
    if state != "ending":
        generate_secrets(site)
        reached("both are handed out")
        if step == BEGIN:
            return [f"{one.key}: old and new are written down; apply all hosts, then step=end"]
        if not step:
            deeds.apply()
            reached("both are good")
        if one.kind.days and not finish and not overlap.is_due(data, one):
            until = (one.place(data).get("previous") or {}).get(f"{one.kind.key}_until")
            return [
                f"{one.key}: the new one is in force. The old one is good until {until}, and goes then by the next "
                f"site.generate_secrets and apply; at once by: {one.command} finish=True",
                *more,
            ]
        if not step:
            more += _until_unused(one, deeds, force)
        reached("nobody uses the old one")
        with locked(folder):
            data, _ = read_shared(folder)
            overlap.finish(data, one)
            overlap.mark_ending(data, one, True)
            write_shared(folder, data)
        reached("the old one is crossed out")
    generate_secrets(site)
    if not step:
        deeds.apply()
    reached("the old one is good nowhere")
    with locked(folder):
        data, _ = read_shared(folder)
        overlap.mark_ending(data, one, False)
        write_shared(folder, data)
    rest = "the old one is good nowhere" if not step else "the old one is crossed out; apply all hosts"
    return [f"{one.key}: replaced; {rest}", *more]


def named(data: dict[str, Any], words: list[str]) -> Held:
    """Return the secret of shared.yaml that an operator's words mean.

    Args:
        data: the content of shared.yaml.
        words: an app and a kind, or a kind that is no app's.

    Raises:
        RotationError: there is none; with all that there are.

    Example:
        >>> named({"apps": {"demo": {"secret_key": "y"}}}, ["demo", "secret_key"]).key
        'apps.demo.secret_key'
    """
    app, name = (words[0], words[1]) if len(words) == 2 else (None, " ".join(words))
    try:
        return overlap.find(data, name, app)
    except LookupError as error:
        more = f", {AUTHORITY}, {', '.join(CERTIFICATES)}"
        raise RotationError(f"{error}{more}") from None


def _needs_peace(deeds: Deeds, force: bool) -> None:
    """Raise when something else waits for an apply: it would be changed along with the secret."""
    if not force and (pending := deeds.plan()):
        some = ", ".join(pending[:5]) + (" and others" if len(pending) > 5 else "")
        raise RotationError(
            f"an apply would change more than the secret ({some}): salt-call state.apply comes first; "
            f"where that does not help, because somebody changes it again: force=True"
        )


def _until_unused(one: Held, deeds: Deeds, force: bool) -> list[str]:
    """Wait for those who use the old one; with force it goes without them, and answers who they were."""
    waited, step = 0, 3
    while users := deeds.uses_old(one):
        if waited >= WAIT_SECONDS and force:
            return [f"{one.key}: the old one was used still: {'; '.join(users)}"]
        if waited >= WAIT_SECONDS:
            raise RotationError(
                f"{one.key}: the new one is in force, and the old one stays good, because it is used: "
                f"{'; '.join(users)}. When they have ended: {one.command}; at once, without them: force=True"
            )
        deeds.wait(step)
        waited += step
    return []


def _certificates(site: Site, what: str, deeds: Deeds, step: str, force: bool) -> list[str]:
    """Old and new are of one authority, and whoever trusts it trusts both: there is no moment to wait for."""
    if step == END:
        raise RotationError(f"{what}: has one step only; begin, then apply all hosts")
    if not step:
        _needs_peace(deeds, force)
    done = renew_certificates(site, what)
    if step:
        return [*done, "apply all hosts"]
    deeds.apply()
    return done


def renew_certificates(site: Site, what: str) -> list[str]:
    """Make certificates anew, in the site's files.

    Args:
        site: the site.
        what: `tls` (of all hosts) or `edge` (of the apps' names).

    Raises:
        RotationError: no host has one that the fleet's authority has signed.
    """
    done = generate_secrets(site, renew=[what])
    if not any("asked for" in line for line in done):
        raise RotationError(f"{what}: no host has one that the fleet's authority has signed")
    return done


def authority_state(folder: Path) -> str:
    """Return how far the authority's replacement is: `settled`, `trusted` (the next one too), `signing` (it does), or
    `ending` (only it is trusted, and hosts are yet to be told).

    Args:
        folder: the site's secrets/.

    Raises:
        SiteError: it is in two states at once, which only a person can have done.
    """
    following, old = (folder / CA_NEXT / "ca.crt").exists(), (folder / CA_PREVIOUS).exists()
    if following and old:
        raise SiteError([Problem(str(folder / CA_NEXT), 0, "", "stands beside ca.previous; take one of them away")])
    if (folder / CA_ENDING).exists() and not (following or old):
        return "ending"
    return "trusted" if following else "signing" if old else "settled"


def _authority(site: Site, deeds: Deeds, step: str, force: bool) -> list[str]:
    folder = site.path / "secrets"
    with locked(folder):
        settle_ca(folder)
        state = authority_state(folder)
    more = [] if state == "settled" else [f"ca: {WENT_ON}"]
    if step == END and state not in ("signing", "ending"):
        raise RotationError("ca: the old one signs still; step=begin, then apply all hosts, comes first")
    if step == BEGIN and state in ("signing", "ending"):
        raise RotationError("ca: the new one signs already; apply all hosts, then step=end")
    if not step and state == "settled":
        _needs_peace(deeds, force)
    elif not step:  # who was killed may have left hosts behind
        generate_secrets(site)
        deeds.apply()
    while True:
        said = advance_authority(site, state)
        if step:
            forget_authority(folder)
            return [f"ca: {said}; apply all hosts{'' if state in ('signing', 'ending') else ', then the next step'}"]
        deeds.apply()
        if state in ("signing", "ending"):
            forget_authority(folder)
        reached(said)
        if state in ("signing", "ending"):
            return [f"ca: replaced; {BY_HAND}", *more]
        state = authority_state(folder)


def advance_authority(site: Site, state: str) -> str:
    """Bring the authorities one state further, in the site's files; return the step that hosts come to by an apply.

    Args:
        site: the site.
        state: where they are, as `authority_state` answers.
    """
    folder = site.path / "secrets"
    with locked(folder):
        if state == "settled":
            forget_ca(folder)
            make_authority(folder, CA_NEXT, site.fleet.name)
        elif state == "trusted":
            promote_ca(folder)
        else:
            retire_ca(folder)
    generate_secrets(site)
    return OF_AUTHORITY[state]


def forget_authority(folder: Path) -> None:
    """Forget an authority that is trusted nowhere any more.

    Args:
        folder: the site's secrets/.
    """
    with locked(folder):
        forget_ca(folder)
