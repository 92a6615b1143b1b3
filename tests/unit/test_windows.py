"""Windows of hosts that share a role never overlap, whatever the fleet is."""

from __future__ import annotations

import random
from datetime import datetime, timedelta

import pytest
import yaml

from lab.lab import FLEETS
from saltern.site.roles import ALL
from saltern.site.windows import DAY_MINUTES, DAYS, EVERYBODY, calendar, slots

ROLES = [name for name, role in ALL.items() if not role.everywhere and name != "master"]


def starts(text: str) -> list[datetime]:
    """The beginnings in one week of what calendar() answers."""
    days, _, clock = text.rpartition(" *-*-* ") if not text.startswith("*") else ("", "", text.removeprefix("*-*-* "))
    hours, minutes, _ = (int(part) for part in clock.split(":"))
    named = [day.lower() for day in days.split(",")] if days else list(DAYS)
    monday = datetime(2026, 11, 23)
    return [monday + timedelta(days=DAYS.index(day), hours=hours, minutes=minutes) for day in named]


@pytest.mark.parametrize("seed", range(40))
def test_two_hosts_of_a_role_are_never_away_together(seed: int) -> None:
    choose = random.Random(seed)
    roles = {
        f"h{n}": ["base", "minion", *choose.sample(ROLES, choose.randint(0, 4))] for n in range(choose.randint(1, 12))
    }
    placed, minutes = slots(roles), choose.choice([20, 30, 60, 90])
    if (max(placed.values()) + 1) * minutes > DAY_MINUTES:
        return
    days = choose.sample(DAYS, choose.randint(1, 7))
    first = f"{choose.randint(0, 23):02}:{choose.choice([0, 15, 50]):02}"
    begins = {host: starts(calendar(days, first, minutes, slot)) for host, slot in placed.items()}
    for one in roles:
        assert len(begins[one]) == len(days)
        for other in roles:
            if one < other and (set(roles[one]) & set(roles[other])) - EVERYBODY:
                week = timedelta(days=7)
                gaps = [min((a - b) % week, (b - a) % week) for a in begins[one] for b in begins[other]]
                assert min(gaps) >= timedelta(minutes=minutes), (one, other, begins[one], begins[other])


def test_hosts_that_share_nothing_need_not_wait_for_each_other() -> None:
    assert slots({"a": ["base", "minion", "web"], "b": ["base", "minion", "edge"]}) == {"a": 0, "b": 0}


@pytest.mark.parametrize("name", sorted(path.name for path in FLEETS.iterdir() if (path / "fleet.yaml").exists()))
def test_the_labs_fleets(name: str) -> None:
    hosts = yaml.safe_load((FLEETS / name / "fleet.yaml").read_text())["hosts"]
    placed = slots({host: entry["roles"] for host, entry in hosts.items()})
    assert set(placed) == set(hosts)
    if name == "ha":
        assert (
            placed["web1"] != placed["web2"] and placed["edge1"] != placed["edge2"] and placed["db1"] != placed["db2"]
        )


def test_a_window_after_midnight_is_of_the_next_day() -> None:
    assert calendar(["sat", "sun"], "23:45", 30, 1) == "Mon,Sun *-*-* 00:15:00"
