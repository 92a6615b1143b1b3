"""Bad settings stop before the first change."""

from __future__ import annotations

from conftest import bin_lab, change

from lab.apply import apply
from lab.host import Host
from lab.lab import Lab


def test_a_mistyped_key_is_named_and_nothing_is_applied(one: Host, settings) -> None:
    change(settings, "redis", cache_maxmemory=1)
    change(settings, "postgres", port="five")
    seen = []
    outcome = apply(one, on_state=lambda name, _ms: seen.append(name))
    text = "\n".join(outcome.errors)
    assert not outcome.ok and outcome.exit_code != 0
    assert seen == [], "a state ran"
    for words in ("settings.yaml", "cache_maxmemory_mb", "postgres", "port"):
        assert words in text, text


def test_the_lab_says_it_on_one_screen(lab: Lab, settings) -> None:
    """bin/lab apply takes the site anew from the fleet, so a fault goes into an app of the lab's own copy."""
    fleet = lab.site / "fleet.yaml"
    before = fleet.read_text()
    try:
        fleet.write_text(before.replace("roles: [base", "roles: [bose"))
        outcome = apply(lab.hosts()[0])
        assert not outcome.ok
        assert "base" in "\n".join(outcome.errors)
    finally:
        fleet.write_text(before)


def test_bin_lab_up_refuses_an_unknown_fleet() -> None:
    done = bin_lab("up", "singel")
    assert done.returncode == 1
    assert "singel" in done.stderr and "single" in done.stderr
