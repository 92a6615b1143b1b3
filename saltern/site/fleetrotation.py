"""A rotation over a fleet: what orch.rotate has to do with which hosts, and its steps in the site's files.

The orchestration asks for the `course` when it begins, and between its applies for one move after the other. Each move
does only what is missing, so the same orchestration again goes on from wherever one was killed.

    BOTH   the new secret is beside the old one; of the authority: the next one is trusted too
    SIGN   of the authority: the next one signs
    OUT    the old one is crossed out: hosts have yet to be told
    OVER   they have been told: the next rotation begins anew
"""

from __future__ import annotations

from typing import Any

from . import overlap
from .overlap import Held
from .roles import with_secret
from .rotation import (
    AUTHORITY,
    BY_HAND,
    CERTIFICATES,
    RotationError,
    advance_authority,
    authority_state,
    forget_authority,
    named,
    renew_certificates,
    state_of,
)
from .secretfile import needed_sections
from .secrets import generate_secrets, locked, read_shared, settle_ca, write_shared
from .site import Site

BOTH, SIGN, OUT, OVER = "both", "sign", "out", "over"
MOVES = (BOTH, SIGN, OUT, OVER)
# Who compares a secret with what it is given; everybody else only has it. Of secret_key it is the releases themselves.
COMPARED_BY = {kind.name: with_secret(kind.name, "compares") for kind in overlap.KINDS}
# Who is asked whether something uses the old one. What a key has signed, nobody uses any more: it is signed anew.
USED_BY = {kind.name: with_secret(kind.name, "uses") for kind in overlap.KINDS}


def course(site: Site, words: list[str], finish: bool = False) -> dict[str, Any]:
    """Return what a rotation is about, and how far it is. Changes nothing.

    Args:
        site: the checked site.
        words: an app and a kind (`demo database`), or a kind that is no app's.
        finish: take an old secret away whose days are not over yet.

    Returns:
        `state`; `kind`, `app` (or None); `moves`: those of MOVES that are to be done, in order; `applied`: the hosts
        that are applied after each; `asked`: those that are asked who uses the old one; `releases`: after which moves
        the app needs a release with its new settings.

    Raises:
        RotationError: there is no such secret, or a host that it concerns is not the master's minion.
        SiteError: a file in secrets/ has something wrong.

    Example:
        >>> course(load_site("lab/fleets/ha"), ["demo", "redis"])["applied"]  # needs secrets  # doctest: +SKIP
        ['redis1']
    """
    folder, minions = site.path / "secrets", site.fleet.with_role("minion")
    if words == [AUTHORITY]:
        state = authority_state(folder)
        moves = {"settled": [BOTH, SIGN, OUT], "trusted": [BOTH, SIGN, OUT], "signing": [SIGN, OUT], "ending": [OUT]}
        return _minions_only(site, _course(AUTHORITY, state, [*moves[state], OVER], applied=[*site.fleet.hosts]))
    if len(words) == 1 and words[0] in CERTIFICATES:
        needs = {"tls": list(site.fleet.hosts), "edge": site.fleet.with_role("edge")}
        if not needs[words[0]]:
            raise RotationError(f"{words[0]}: no host has such a certificate")
        return _minions_only(site, _course(words[0], "settled", [BOTH], applied=needs[words[0]]))
    data, _ = read_shared(folder)
    one = named(data, words)
    if one.app is not None and one.app not in site.apps:
        raise RotationError(f"{one.key}: the site has no app {one.app} any more")
    state = state_of(data, one)
    ends = finish or not one.kind.days or state == "ending" or (state == "overlap" and overlap.is_due(data, one))
    moves_of = [*([] if state == "ending" else [BOTH]), *([OUT, OVER] if ends else [])]
    holders = _holders(site, one)
    found = _course(
        one.kind.name,
        state,
        moves_of,
        app=one.app,
        applied=[host for host in holders if {*site.fleet.hosts[host].roles} & {*COMPARED_BY[one.kind.name]}],
        asked=[host for host in holders if {*site.fleet.hosts[host].roles} & {*USED_BY[one.kind.name]}],
        # What an app was given that only remembers the old one has to go, too.
        releases=[] if one.app is None else [BOTH, *([OUT] if one.kind.days else [])],
    )
    return _minions_only(site, found | {"asked": [host for host in found["asked"] if host in minions]})


def _course(
    kind: str,
    state: str,
    moves: list[str],
    applied: list[str],
    app: str | None = None,
    asked: list[str] | None = None,
    releases: list[str] | None = None,
) -> dict[str, Any]:
    return {
        "kind": kind,
        "app": app,
        "state": state,
        "moves": moves,
        "applied": applied,
        "asked": asked or [],
        "releases": releases or [],
    }


def _minions_only(site: Site, found: dict[str, Any]) -> dict[str, Any]:
    """Stop where the master cannot apply a host that has to be told."""
    if others := [host for host in found["applied"] if host not in site.fleet.with_role("minion")]:
        raise RotationError(
            f"{', '.join(others)} cannot be applied by the master (no role minion): replace it by site.rotate with "
            f"step=begin and step=end (docs/secrets.md)"
        )
    return found


def _holders(site: Site, one: Held) -> list[str]:
    """Return the hosts whose secrets hold one; of a key that signs, also those that hold its public half."""
    public = {"build_key": "build_keys"}
    keys = {one.kind.key, public.get(one.kind.key, one.kind.key)}
    found = []
    for host in site.fleet.hosts:
        need = needed_sections(site.fleet, host, site.apps)
        if keys & {*(need.apps.get(one.app, []) if one.app else need.top)}:
            found.append(host)
    return found


def move(site: Site, words: list[str], to: str, finish: bool = False) -> str:
    """Bring a rotation to one of MOVES in the site's files, if it is not there yet.

    Args:
        site: the checked site.
        words: as for `course`.
        to: the move.
        finish: take an old secret away whose days are not over yet.

    Returns:
        What was done.

    Raises:
        RotationError: there is no such secret or move.
        SiteError: a file in secrets/ has something wrong.

    Example:
        >>> move(load_site("site"), ["demo", "database"], "both")  # needs secrets  # doctest: +SKIP
        'apps.demo.database_password: old and new are written down'
    """
    if to not in MOVES:
        raise RotationError(f'step: "{to}" is none; allowed: {", ".join(MOVES)}')
    if words == [AUTHORITY]:
        return _move_authority(site, to)
    if len(words) == 1 and words[0] in CERTIFICATES:
        return "; ".join(renew_certificates(site, words[0]))
    return _move_secret(site, words, to, finish)


def _move_authority(site: Site, to: str) -> str:
    folder = site.path / "secrets"
    with locked(folder):
        settle_ca(folder)
        state = authority_state(folder)
    before = {BOTH: ("settled",), SIGN: ("trusted",), OUT: ("signing",)}
    if to == OVER:
        if state == "ending":
            forget_authority(folder)
        return f"ca: replaced; {BY_HAND}"
    if state not in before[to]:
        generate_secrets(site)
        return "ca: that was done before"
    return f"ca: {advance_authority(site, state)}, as soon as hosts are told"


def _move_secret(site: Site, words: list[str], to: str, finish: bool) -> str:
    folder = site.path / "secrets"
    generate_secrets(site)  # what was changed by hand is an overlap from here on
    said = ""
    with locked(folder):
        data, _ = read_shared(folder)
        one = named(data, words)
        state = state_of(data, one)
        if to == BOTH and state == "settled":
            overlap.begin(data, one, overlap.fresh(one.kind), one.place(data)[one.kind.key])
            write_shared(folder, data)
            said = "old and new are written down"
        elif to == OUT and state == "overlap" and (finish or not one.kind.days or overlap.is_due(data, one)):
            overlap.finish(data, one)
            overlap.mark_ending(data, one, True)
            write_shared(folder, data)
            said = "the old one is crossed out"
        elif to == OVER and state == "ending":
            overlap.mark_ending(data, one, False)
            write_shared(folder, data)
            said = "replaced; the old one is good nowhere"
        until = (one.place(data).get("previous") or {}).get(f"{one.kind.key}_until")
    generate_secrets(site)
    text = f"{one.key}: {said or 'that was done before'}"
    if to == BOTH and until and not finish:
        text += f"; the old one is good until {until}, and goes then by the same command, at once by finish"
    return text
