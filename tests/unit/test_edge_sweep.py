"""Requests that take too long in all are ended, by the words of HAProxy 2.6 and 3.0."""

from __future__ import annotations

import fcntl
import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

from tests.unit.contracts import ROOT


def loaded() -> ModuleType:
    spec = importlib.util.spec_from_file_location("edge_sweep", ROOT / "salt/edge/files/sweep.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


sweep = loaded()
LINE = "{}: proto=tcpv4 src=10.77.6.1:49546 fe={} be=app_demo srv=app1 ts=00 epoch=0 age={} calls=2 rate=0 cpu=0 lat=0"
LISTING = "\n".join(
    [
        LINE.format("0x55a1", "https", "1m5s"),
        LINE.format("0x55a2", "https", "2s"),
        LINE.format("0x55a3", "GLOBAL", "3d"),
        LINE.format("0x55a4", "http", "1h2m"),
        "0x55a5: proto=unix_stream src=unix:1 fe=GLOBAL be=<NONE> srv=<none> ts=00 age=9h",
        "",
    ]
)
DETAIL = """0x55a1: [26/Nov/2026:02:00:00] id=0x1 proto=tcpv4 source=10.77.6.1:49546
  flags=0x4ce, conn_retries=0, conn_exp=<NEVER> conn_et=0x000 srv_conn=0x1, pend_pos=(nil) waiting=0 epoch=0
  frontend=https (id=6 mode=http), listener=? (id=1) addr=10.77.6.11:443
  txn=0x1 flags=0x40 meth=3 status={} req.st={} rsp.st={} req.f=0x5c rsp.f=0x00
  age={}
"""


@pytest.mark.parametrize(("age", "seconds"), [("0s", 0), ("59s", 59), ("1m5s", 65), ("2h3m", 7380), ("1d1h", 90000)])
def test_an_age_in_haproxys_words(age: str, seconds: int) -> None:
    assert sweep.seconds(age) == seconds


def test_only_visitors_requests_are_looked_at() -> None:
    assert sweep.older(LISTING, 60) == ["0x55a4", "0x55a1"]


@pytest.mark.parametrize(
    ("status", "phase", "age", "ends"),
    [
        ("-1", "MSG_DATA", "59s", False),
        ("-1", "MSG_DATA", "1m1s", True),
        ("-1", "MSG_BODY", "1m1s", True),
        ("-1", "MSG_DONE", "1m1s", False),
        ("200", "MSG_DATA", "1m1s", False),
        ("200", "MSG_DONE", "59m", False),
        ("200", "MSG_DONE", "1h1s", True),
        ("-1", "MSG_DONE", "1h1s", True),
    ],
)
def test_each_phase_has_its_limit(status: str, phase: str, age: str, ends: bool) -> None:
    detail = DETAIL.format(status, phase, "MSG_RPBEFORE", age)
    assert sweep.too_long(detail, 60, 3600) == ends


def test_a_request_that_has_ended_meanwhile_is_left_alone() -> None:
    assert not sweep.too_long("\n", 60, 3600)


def test_a_sweep_ends_what_is_over_its_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    said = []
    answers = {
        "show sess": LISTING,
        "show sess 0x55a1": DETAIL.format("-1", "MSG_DATA", "MSG_RPBEFORE", "1m5s"),
        "show sess 0x55a4": DETAIL.format("200", "MSG_DONE", "MSG_DATA", "59m"),
    }
    monkeypatch.setattr(sweep, "ask", lambda command: said.append(command) or answers.get(command, ""))
    assert sweep.sweep(60, 3600) == 1
    assert "shutdown session 0x55a1" in said and "shutdown session 0x55a4" not in said


CONFIG = """
backend answered
    stick-table type string len 128 size 10k expire 60s store conn_cur
backend app_demo
    default-server check
    server web1 10.0.0.1:8080 verifyhost web1.x maxconn 10
    server web2 10.0.0.2:8080 verifyhost web2.x maxconn 10 disabled

backend bulk_demo
    server web1 10.0.0.1:8080 verifyhost web1.x track app_demo/web1 maxconn 32
backend app_shop
    server web1 10.0.0.1:8080 verifyhost web1.x maxconn 4
"""
STAT = """# pxname,svname,scur,slim,
app_demo,web1,{},{},
app_demo,web2,0,10,
bulk_demo,web1,9,34,
app_shop,web1,0,4,

"""
TABLE = """# table: answered, type: string, size:10240, used:2
0x7f1: key=app_demo/web1 use=3 exp=0 shard=0 conn_cur={}
0x7f3: key=bulk_demo/* use=2 exp=0 shard=0 conn_cur=2
0x7f2: key=app_shop/web1 use=0 exp=59000 conn_cur=0
"""


def told_of(config: str, stat: str, table: str) -> list[str]:
    places = sweep.places(config)
    return sweep.orders(places, sweep.servers(places, stat), table)


def test_the_places_stand_in_the_configuration() -> None:
    assert sweep.places(CONFIG) == {
        "app_demo/web1": 10,
        "app_demo/web2": 10,
        "bulk_demo/web1": 32,
        "app_shop/web1": 4,
    }


@pytest.mark.parametrize(
    ("has", "reading", "told"),
    [
        (10, 0, []),
        (10, 3, ["set maxconn server app_demo/web1 13"]),
        (13, 3, []),
        (13, 0, ["set maxconn server app_demo/web1 10"]),
    ],
)
def test_who_reads_slowly_keeps_no_place(has: int, reading: int, told: list[str]) -> None:
    """And a HAProxy that has just been started or loaded again is told anew: what it has decides."""
    assert told_of(CONFIG, STAT.format(10, has), TABLE.format(reading)) == told


def test_nobody_reads_and_no_app_is_there() -> None:
    assert told_of(CONFIG, STAT.format(0, 10), "# table: answered, type: string\n\n") == [
        "set maxconn server bulk_demo/web1 32"
    ]
    assert told_of("", STAT.format(0, 10), TABLE.format(3)) == []


@pytest.mark.parametrize(("taken", "full"), [(0, False), (4, False), (5, True), (10, True)])
def test_a_server_that_is_half_full_is_looked_at_often(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, taken: int, full: bool
) -> None:
    monkeypatch.setattr(sweep, "CONFIG", str(tmp_path / "haproxy.cfg"))
    (tmp_path / "haproxy.cfg").write_text(CONFIG)
    said: list[str] = []
    monkeypatch.setattr(
        sweep, "ask", lambda text: said.append(text) or (STAT.format(taken, 10) if "stat" in text else TABLE.format(0))
    )
    assert sweep.open_places() == full
    assert [text for text in said if text.startswith("set")] == []


def test_a_server_that_haproxy_has_not_read_yet_is_left_alone() -> None:
    """The file is there before HAProxy has read it."""
    assert sweep.servers({"app_demo/web1": 10}, "# pxname,svname,scur,slim,\napp_demo,web1,3,,\n\n") == []


class Reloaded:
    """A HAProxy that has read its files before somebody wrote them."""

    def __init__(self, folder: Path) -> None:
        self.maps = {str(folder / f"{name}.map"): ["gone 1"] for name in ("through", "resting")}
        self.versions: dict[str, list[str]] = {}
        self.status, self.orders = {"app_demo/web1": "UP", "app_demo/web2": "UP 1/3"}, list[str]()

    def answer(self, text: str) -> str:
        first, *words = text.split(" ")
        if text.startswith("show stat"):
            rows = [f"{name.replace('/', ',')},{status}," for name, status in self.status.items()]
            return "\n".join(["# pxname,svname,status,", *rows, "", ""])
        if text.startswith("show map"):
            return "".join(f"0x55aa {line}\n" for line in self.maps[words[1]]) + "\n"
        self.orders.append(text)
        if first == "prepare":
            self.versions["1"] = []
            return "New version created: 1\n\n"
        if first == "add":
            self.versions["1"].append(" ".join(words[3:]))
        elif first == "commit":
            self.maps[words[2]] = self.versions["1"]
        elif first == "set":
            self.status[words[1]] = "MAINT"
        return "\n"


@pytest.fixture
def reloaded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Reloaded:
    found = Reloaded(tmp_path)
    monkeypatch.setattr(sweep, "ask", found.answer)
    for name, path in (("CONFIG", "haproxy.cfg"), ("LOCK", "lock")):
        monkeypatch.setattr(sweep, name, str(tmp_path / path))
        (tmp_path / path).write_text(CONFIG if name == "CONFIG" else "")
    monkeypatch.setattr(sweep, "MAPS", tuple(found.maps))
    for path in found.maps:
        Path(path).write_text("demo 0.a.b.c\nshop 0.d.e.f\n")
    return found


def test_what_was_said_while_haproxy_read_its_files_is_told_once_more(reloaded: Reloaded) -> None:
    assert sweep.keep_said() == ["set server app_demo/web2 state maint", *reloaded.maps]
    assert set(map(tuple, reloaded.maps.values())) == {("demo 0.a.b.c", "shop 0.d.e.f")}
    assert reloaded.status == {"app_demo/web1": "UP", "app_demo/web2": "MAINT"}
    reloaded.orders.clear()
    assert sweep.keep_said() == [] and reloaded.orders == []


@pytest.mark.parametrize("status", ["MAINT", "DRAIN", "MAINT (via app_demo/web2)"])
def test_a_host_that_ends_its_last_requests_is_left_to_do_so(reloaded: Reloaded, status: str) -> None:
    reloaded.status["app_demo/web2"] = status
    sweep.keep_said()
    assert reloaded.status["app_demo/web2"] == status


def test_who_is_just_saying_it_is_not_disturbed(reloaded: Reloaded) -> None:
    with open(sweep.LOCK) as held:  # noqa: PTH123
        fcntl.flock(held, fcntl.LOCK_EX)
        assert sweep.keep_said() == [] and reloaded.orders == []
    Path(sweep.LOCK).unlink()
    assert sweep.keep_said() == [], "nobody has said anything yet"
    assert reloaded.orders == []
