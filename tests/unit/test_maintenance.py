"""Apps in maintenance at an edge: what an operator says, and how HAProxy is told."""

from __future__ import annotations

import datetime
import html
import ipaddress
import json
import random
import re
from base64 import b64decode
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from salt.exceptions import CommandExecutionError
from salt.utils.args import yamlify_arg

from saltern.edge import maintenance as rest
from tests.unit.contracts import load

NOW = datetime.datetime(2026, 12, 24, 13, 0, tzinfo=datetime.UTC)


class Haproxy:
    """Its maps, as HAProxy 2.6 and 3.0 keep them: a new version is in force with its commit."""

    def __init__(self) -> None:
        self.maps: dict[str, list[str]] = {}
        self.versions: dict[tuple[str, str], list[str]] = {}
        self.asked: list[str] = []

    def answer(self, text: str) -> str:
        self.asked.append(text)
        assert "\n" not in text and ";" not in text and len(text) < 16384
        verb, what, *words = text.split(" ")
        if verb == "show" and what == "map":
            return "".join(f"0x55d2 {line}\n" for line in self.maps.get(words[0], [])) + "\n"
        if verb == "prepare":
            if words[0] not in self.maps:
                return "Unknown map identifier. Please use #<id> or <file>.\n\n"
            version = str(len(self.versions) + 1)
            self.versions[words[0], version] = []
            return f"New version created: {version}\n\n"
        version, name = words[0].removeprefix("@"), words[1]
        if verb == "add":
            assert len(words) == 4, text
            self.versions[name, version].append(" ".join(words[2:]))
        elif verb == "commit":
            self.maps[name] = self.versions[name, version]
        return "\n"


@pytest.fixture
def haproxy() -> Haproxy:
    return Haproxy()


@pytest.fixture
def edge(tmp_path: Path, haproxy: Haproxy) -> ModuleType:
    module: Any = load("_modules", "edge")
    module.RESTING, module.THROUGH = tmp_path / "resting.map", tmp_path / "through.map"
    haproxy.maps = {str(module.RESTING): [], str(module.THROUGH): []}
    module.__pillar__ = {"host": {"roles": ["base", "edge"]}, "apps": {"demo": {}, "demo-2": {}}}
    module._command = haproxy.answer
    return module


def in_force(edge: ModuleType, haproxy: Haproxy) -> dict[str, str]:
    """The two maps as HAProxy has them; they are in the files, too."""
    found = {name: "".join(f"{line}\n" for line in lines) for name, lines in haproxy.maps.items()}
    assert found == {str(path): path.read_text() for path in (edge.RESTING, edge.THROUGH)}
    return {Path(name).stem: text for name, text in found.items()}


@pytest.mark.parametrize(
    ("written", "found"),
    [
        ("13:30", "2026-12-24T13:30:00+00:00"),
        ("12:30", "2026-12-25T12:30:00+00:00"),
        ("09:05", "2026-12-25T09:05:00+00:00"),
        ("00:00", "2026-12-25T00:00:00+00:00"),
        ("2026-12-31 08:00", "2026-12-31T08:00:00+00:00"),
        ("2026-12-31T08:00", "2026-12-31T08:00:00+00:00"),
    ],
)
def test_a_moment_is_understood_as_salts_command_line_hands_it_on(written: str, found: str) -> None:
    assert rest.moment(yamlify_arg(written), NOW).isoformat() == found == rest.moment(written, NOW).isoformat()


@pytest.mark.parametrize(
    "written", ["25:00", "soon", "2026-12-24 12:30", "2026-13-01 10:00", "14:30:10", True, 1440, -1, [], ""]
)
def test_what_is_no_moment_to_come_is_refused_with_what_is_allowed(written: Any) -> None:
    with pytest.raises(ValueError, match=r"allowed: 12:30, today or tomorrow, or 2026-12-24 12:30"):
        rest.moment(yamlify_arg(written), NOW)


@pytest.mark.parametrize("to", ["on", "off", "status"])
def test_on_and_off_are_no_truth_values_here(to: str) -> None:
    assert rest.switch(yamlify_arg(to)) == to == rest.switch(to)


def test_it_goes_on_and_off_without_a_reload(edge: Any, haproxy: Haproxy) -> None:
    assert edge.maintenance("demo") == edge.maintenance("demo", "status") == "not in maintenance"
    said = edge.maintenance("demo", True, "We <move> & grow", "23:59", "192.0.2.7, 2001:db8::/56")
    assert said.startswith("in maintenance since ") and "192.0.2.7/32, 2001:db8::/56 still get through" in said
    app, value = in_force(edge, haproxy)["resting"].split(" ")
    at, until, message, _ = value.split(".")
    assert (app, b64decode(message).decode()) == ("demo", "We &lt;move&gt; &amp; grow")
    assert "by 23:59" in b64decode(until).decode() and int(at) > NOW.timestamp() - 10**8
    assert in_force(edge, haproxy)["through"] == "192.0.2.7/32 .demo.\n2001:db8::/56 .demo.\n"
    assert edge.resting("demo") and edge.resting("demo-2") is None
    assert edge.maintenance("demo-2", "on").startswith("in maintenance")
    assert edge.maintenance("demo", False) == "not in maintenance"
    assert in_force(edge, haproxy)["through"] == ""
    assert [line.split()[0] for line in in_force(edge, haproxy)["resting"].splitlines()] == ["demo-2"]
    assert not [text for text in haproxy.asked if text.startswith("clear")], "there is no moment without the map"


def test_an_apply_leaves_maintenance_as_it_is_and_forgets_apps_that_have_gone(edge: Any) -> None:
    assert edge.maintenance_maps() == {str(edge.RESTING): "", str(edge.THROUGH): ""}
    edge.maintenance("demo", "on", allow=["192.0.2.0/24"])
    edge.maintenance("demo-2", "on", allow=["192.0.2.0/24"])
    assert edge.maintenance_maps() == {str(path): path.read_text() for path in (edge.RESTING, edge.THROUGH)}
    del edge.__pillar__["apps"]["demo"]
    assert [line.split()[0] for line in edge.maintenance_maps()[str(edge.RESTING)].splitlines()] == ["demo-2"]
    assert edge.maintenance_maps()[str(edge.THROUGH)] == "192.0.2.0/24 .demo-2.\n"


def test_a_haproxy_that_does_otherwise_is_told_of_and_mended_by_saying_it_again(edge: Any, haproxy: Haproxy) -> None:
    edge.maintenance("demo", "on")
    haproxy.maps[str(edge.RESTING)] = []
    assert edge.maintenance("demo").startswith("HAProxy does not what it was told (maintenance since")
    assert edge.maintenance("demo", "on").startswith("in maintenance")


def test_a_haproxy_without_the_maps_yet_says_what_to_do(edge: Any, haproxy: Haproxy) -> None:
    haproxy.maps = {}
    with pytest.raises(CommandExecutionError, match=r"through.map yet: apply the edge's states"):
        edge.maintenance("demo", "on")


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("shop", "on"), 'no app "shop"; there are demo, demo-2'),
        (("demo", "maybe"), '"maybe" is not allowed; allowed: on, off, status'),
        (("demo", 1), "allowed: on, off, status"),
        (("demo", "on", "a\nb"), "text on one line of at most 500"),
        (("demo", "on", "\x1b[2J"), "text on one line"),
        (("demo", "on", "x" * 501), "at most 500 characters"),
        (("demo", "on", None, "noon"), "is no time"),
        (("demo", "on", None, None, "example.org"), "is no address or network"),
        (("demo", "on", None, None, "10.0.0.1/8"), "is no address or network"),
        (("demo", "on", None, None, [f"10.0.{number}.0/24" for number in range(51)]), "51 networks; at most 50"),
        (("demo", "off", "bye"), "go with on, not with off"),
    ],
)
def test_what_is_not_allowed_changes_nothing(edge: Any, haproxy: Haproxy, arguments: tuple, reason: str) -> None:
    with pytest.raises(CommandExecutionError, match=re.escape(reason)):
        edge.maintenance(*arguments)
    assert not edge.RESTING.exists() and not haproxy.asked


def test_other_hosts_have_nothing_to_do(edge: Any, haproxy: Haproxy) -> None:
    edge.__pillar__["host"]["roles"] = ["base", "web"]
    assert edge.maintenance("demo", "on") == "this host is no edge" and not haproxy.asked


def test_a_message_is_shown_as_it_was_written_whatever_it_is() -> None:
    choose = random.Random(4)
    letters = "<>&\"'%$\\{}[]().;#, äß漢😀abc"
    for _ in range(300):
        message = rest.words("".join(choose.choices(letters, k=choose.randint(1, 500))))
        told = {"message": message, "until": None, "allow": [], "since": "x"}
        line = rest.line("demo", told)
        assert re.fullmatch(r"demo [0-9]+(\.[A-Za-z0-9+/=]*){3}", line)
        shown = b64decode(line.split(".")[2]).decode()
        assert html.unescape(shown) == message and not re.search(r"[<>\"']", shown)
        assert rest.read(line)["demo"] == told


def test_each_address_reaches_just_the_apps_that_let_it_through() -> None:
    """HAProxy takes the narrowest network; the answer must be that of all."""
    choose = random.Random(7)
    for _ in range(100):
        apps = {
            app: {"allow": [f"10.{choose.randint(0, 3) << 6}.0.0/{choose.randint(10, 12)}" for _ in range(3)]}
            for app in ("a", "a-b", "c")
        }
        for told in apps.values():
            told["allow"] = [str(ipaddress.ip_network(one, strict=False)) for one in told["allow"]]
        lines = dict(line.split(" ") for line in rest.through(apps).splitlines())
        address = ipaddress.ip_address(f"10.{choose.randint(0, 255)}.0.1")
        matching = sorted((ipaddress.ip_network(one) for one in lines), key=lambda one: one.prefixlen)
        found = [lines[str(one)] for one in matching if address in one][-1:]
        for app, told in apps.items():
            inside = any(address in ipaddress.ip_network(one) for one in told["allow"])
            assert any(f".{app}." in text for text in found) == inside


@pytest.mark.parametrize(
    "text", ["", "demo", "demo 1", "demo 1.a.b.c", "demo 1...e30=", "\0", "a b c\n\n", "demo 0...bnVsbA=="]
)
def test_a_map_that_is_none_is_as_none(text: str) -> None:
    assert rest.read(text) == {}


def test_what_an_edge_sees_says_which_apps_are_in_maintenance(edge: Any) -> None:
    rows = "pxname,svname,status\napp_demo,web1,UP\napp_demo,BACKEND,UP\napp_demo-2,web1,DOWN\n"
    edge._stat = lambda: list(edge.csv.DictReader(edge.io.StringIO(rows)))
    edge.maintenance("demo", "on", message="x")
    found = json.loads(json.dumps(edge.status()))
    assert found["demo"]["maintenance"].endswith("visitors read: x") and found["demo"]["hosts"] == {"web1": "UP"}
    assert found["demo-2"] == {"maintenance": None, "hosts": {"web1": "DOWN"}}
