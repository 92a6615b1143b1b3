"""Background processes and timers in an app's file: what is taken, and each mistake in words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from test_site_good import good, load_written, pillar_of, problems_of

SHOP = "apps/web-shop.yaml"


def with_worker(**keys: Any) -> dict[str, Any]:
    """Return the good site with a host for processes, and keys in the shop's file."""
    files = good()
    files["fleet.yaml"]["hosts"]["work1"] = {"address": "10.0.0.8", "roles": ["base", "worker"]}
    files[SHOP] |= keys
    return files


def test_the_smallest_process_and_timer(tmp_path: Path) -> None:
    files = with_worker(
        processes={"worker": {"celery": {}}, "tick": {"command": ["tick"]}},
        timers={"clean": {"manage": ["clearsessions"], "schedule": "daily"}},
    )
    app = pillar_of(load_written(tmp_path, files), "work1")["apps"]["web-shop"]
    assert app["processes"]["worker"]["celery"] == {"queues": ["celery"], "concurrency": 2, "app": None}
    assert app["processes"]["tick"]["command"] == ["tick"] and app["processes"]["tick"]["single"] is False
    assert app["timers"]["clean"]["max_seconds"] == 3600


SCHEDULES = [
    "*-*-* 03:00", "hourly", "daily UTC", "Mon..Fri 08:30", "Sat,Sun *-*-* 00/2:00:00", "*:0/15", "2026-*-01",
    "*-02~01", "Mon 09:00 Europe/Berlin", "*-*-* 1..5,22:05",
]  # fmt: skip
NO_SCHEDULES = [
    "",
    "every day",
    "25:00",
    "12:60",
    "*-*-* 03:00 and more",
    "0 3 * * *",
    "UTC",
    "03:00 Mon",
    "daily 03:00",
]


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_schedules_of_systemd_are_taken(tmp_path: Path, schedule: str) -> None:
    load_written(tmp_path, with_worker(timers={"clean": {"manage": ["x"], "schedule": schedule}}))


@pytest.mark.parametrize("schedule", NO_SCHEDULES)
def test_others_are_not(tmp_path: Path, schedule: str) -> None:
    (found,) = problems_of(tmp_path, with_worker(timers={"clean": {"manage": ["x"], "schedule": schedule}}))
    assert ": timers.clean.schedule: " in found and "systemd.time(7)" in found


# name of the mistake: (keys of the app's file, key in the message, parts of the message)
MISTAKES: dict[str, tuple[dict[str, Any], str, list[str]]] = {
    "nothing to run": ({"processes": {"w": {}}}, "processes.w", ["nothing to run", "celery, beat, manage, command"]),
    "two things to run": (
        {"processes": {"w": {"celery": {}, "command": ["x"]}}}, "processes.w", ["celery and command", "exactly one"],
    ),
    "a timer for a worker": (
        {"timers": {"t": {"celery": {}, "schedule": "daily"}}}, "timers.t.celery", ["unknown key", "schedule"],
    ),
    "no schedule": ({"timers": {"t": {"manage": ["x"]}}}, "timers.t.schedule", ["missing", "03:00"]),
    "a shell line": ({"processes": {"w": {"command": "tick --fast"}}}, "processes.w.command", ["list of words"]),
    "a number as argument": (
        {"processes": {"w": {"command": ["tick", 5]}}}, "processes.w.command.1", ["put it in quotes"],
    ),
    "two lines": ({"processes": {"w": {"command": ["tick", "a\nExecStart=b"]}}}, "processes.w.command.1", ["one line"]),
    "a name that is none": (
        {"processes": {"My Worker": {"celery": {}}}}, "processes.My Worker", ["begins with a letter"],
    ),
    "a queue with a comma": (
        {"processes": {"w": {"celery": {"queues": ["a,b"]}}}}, "processes.w.celery.queues.0", ["queue's name"],
    ),
    "no queue": ({"processes": {"w": {"celery": {"queues": []}}}}, "processes.w.celery.queues", ["is empty"]),
    "for ever to stop": (
        {"processes": {"w": {"celery": {}, "stop_seconds": 9999}}}, "processes.w.stop_seconds", ["1 to 3600"],
    ),
    "misspelt": ({"processes": {"w": {"celry": {}}}}, "processes.w.celry", ['did you mean "celery"']),
    "one name for two": (
        {"processes": {"a": {"command": ["x"]}}, "timers": {"a": {"manage": ["x"], "schedule": "daily"}}},
        "timers.a", ["its unit is app-web-shop-a", "processes.a of app web-shop"],
    ),
    "the cache's database": ({"broker_database": 0}, "broker_database", ["1 to 15"]),
}  # fmt: skip


@pytest.mark.parametrize("mistake", MISTAKES)
def test_each_mistake_is_told_with_its_key(tmp_path: Path, mistake: str) -> None:
    keys, key, parts = MISTAKES[mistake]
    found = [line for line in problems_of(tmp_path, with_worker(**keys)) if f": {key}: " in line]
    assert len(found) == 1, found
    assert [part for part in parts if part not in found[0]] == [], found[0]


def test_processes_need_a_host_for_them(tmp_path: Path) -> None:
    files = with_worker(processes={"w": {"celery": {}}}, timers={"t": {"manage": ["x"], "schedule": "daily"}})
    del files["fleet.yaml"]["hosts"]["work1"]
    found = problems_of(tmp_path, files)
    assert len(found) == 2 and all("no host has role worker" in line for line in found), found


def test_a_process_cannot_take_another_apps_unit(tmp_path: Path) -> None:
    files = with_worker()
    files["apps/web.yaml"] = {"source": {"directory": "shop"}, "hostnames": ["w.test"]}
    files["apps/web.yaml"]["processes"] = {"shop": {"command": ["x"]}}
    (found,) = problems_of(tmp_path, files)
    assert "apps/web.yaml" in found and "its unit is app-web-shop, as that of app web-shop" in found


def test_celery_and_beat_need_a_broker_and_its_database_may_be_shared(tmp_path: Path) -> None:
    files = with_worker(processes={"w": {"celery": {}}})
    del files["apps/blog.yaml"]["broker"]
    files["apps/blog.yaml"] |= {"processes": {"b": {"beat": {}}}, "broker_broadcasts": ["news"]}
    site = load_written(tmp_path, files)
    told = pillar_of(site, "work1")["wiring"]["apps"]
    prefixes = {app: (part["environment"]["BROKER_KEY_PREFIX"], "6380/1?" in part["environment"]["BROKER_URL"])
                for app, part in told.items()}  # fmt: skip
    assert prefixes == {"blog": ("blog:", True), "web-shop": ("web-shop:", True)}
    users = pillar_of(site, "data1")["wiring"]["redis"]["broker"]["users"]
    assert "blog:/1.news" in users[0]["broadcasts"] and "blog:/1.celery.pidbox" in users[0]["broadcasts"]


def test_celery_without_a_broker_is_refused(tmp_path: Path) -> None:
    files = with_worker(processes={"w": {"celery": {}}})
    files["apps/web-shop.yaml"]["broker"] = False
    (found,) = problems_of(tmp_path, files)
    assert "broker: processes.w (celery) cannot do without; take this key out" in found
