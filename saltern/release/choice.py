"""Which release of an app a host shall serve, and why: decided here and nowhere else, of what others have asked. Pure.

In this order: a pin holds; else what the fleet has given to this host; else what the site asks for, made of the
builder's word or, where a builder decides alone, of the source as it is. A question that does not matter is not asked,
because it costs time and may have no answer: so some facts are functions.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NotRequired, TypedDict

from saltern.release import releases

# A deploy that has not ended after this time has died with its master; states may then put things right.
DEPLOY_SECONDS = 600


class Wanted(TypedDict):
    """A release that shall be served: its id, its build's, and why it is not what the site asks for, if so."""

    id: str
    build: str
    note: NotRequired[str]


def release(
    app: str,
    pin: dict[str, str] | None,
    given: Callable[[], str | None],
    asked: Callable[[], Wanted],
    build_of: Callable[[str], str],
) -> Wanted:
    """Return the release that a host shall serve.

    Args:
        app: name of an app.
        pin: what holds it, if anything does.
        given: what the fleet has given to this host; None where each host decides for itself.
        asked: what the site asks for.
        build_of: the build of an installed release.

    Example:
        >>> site = Wanted(id="b-2", build="b")
        >>> release("demo", None, lambda: None, lambda: site, lambda release: "b")
        {'id': 'b-2', 'build': 'b'}
        >>> release("demo", None, lambda: "a-1", lambda: site, lambda release: "a")["id"]
        'a-1'
    """
    if pin:
        return {"id": pin["release"], "build": build_of(pin["release"]), "note": releases.pin_note(app, pin)}
    site, fleet = asked(), given()
    if not fleet or fleet == site["id"]:
        return site
    build = build_of(fleet)
    note = f"The site asks for {site['id']}, which all hosts take together: salt-run state.orchestrate orch.deploy"
    if build == site["build"]:  # settings alone: a new source is never asked for by them
        note += f' pillar=\'{{"app": "{app}", "build": "same"}}\''
    return {"id": fleet, "build": build, "note": note}


def build(word: str | None, newest: Callable[[], str] | None, together: bool) -> str | None:
    """Return the build that the site asks for.

    Args:
        word: the one that the builder has released, if any.
        newest: on a builder, the one that the source as it is would make.
        together: whether several hosts serve, and switch by a deploy.

    Example:
        >>> build("a", lambda: "b", together=False), build("a", lambda: "b", together=True), build(None, None, True)
        ('b', 'a', None)
    """
    if newest is None:
        return word
    now = newest()  # asked in any case: a source that cannot be built is told at once
    return now if word is None or not together else word


def in_progress(told: Mapping[str, Any], now: float) -> bool:
    """Return whether a deploy has switched this host and has not ended, as far as it can be alive still.

    Args:
        told: what the fleet has told this host (written.told).
        now: the time.

    Example:
        >>> in_progress({"release": "b", "before": {}, "since": 1000.0}, now=1100.0)
        True
    """
    return "before" in told and now - told["since"] < DEPLOY_SECONDS


def given(told: Mapping[str, Any], token: str | None, is_staged: Callable[[str], bool]) -> str | None:
    """Return the release that the fleet has given to this host, by the builder's word on which deploy came to its end.

    A host that died in the middle of one so knows on which side it belongs; one that missed one takes what is served.

    Args:
        told: what the fleet has told this host.
        token: that of the deploy which the builder calls the last good one.
        is_staged: whether a release is installed here.

    Example:
        >>> told = {"release": "new", "token": "t2", "before": {"release": "old", "token": "t1"}}
        >>> given(told, "t1", lambda release: True), given(told, "t3", lambda release: True)
        ('old', None)
    """
    for one in (told, told.get("before", {})):
        if one.get("token") == token and is_staged(one["release"]):
            return str(one["release"])
    return None
