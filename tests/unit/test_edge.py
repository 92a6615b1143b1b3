"""Which web hosts an edge sends requests to; HAProxy is played at its admin socket, as 3.0 and 2.6 answer there."""

from __future__ import annotations

import json
import re
import socketserver
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from jinja2 import Template
from salt.exceptions import CommandExecutionError

from saltern.edge import clientheaders, errorpages
from tests.unit.contracts import ROOT, load

CHECK_SECONDS = 2
SETTINGS = {
    **yaml.safe_load((ROOT / "pillar/edge.sls").read_text())["edge"],
    "max_connections": 4096,
    "connections_per_address": 65,
}
APP = {
    "hostnames": ["x.test"], "serving_path": None, "health_path": "/", "health_status": 200,
    "static_url": "/static/", "media_url": None, "workers": 2, "threads": 4,
}  # fmt: skip
APPS = {"demo": APP}


@dataclass
class Server:
    """A web host of one backend. Its health is 3 at best; 0 is down."""

    state: str = "ready"
    health: int = 3
    well: bool = True
    ends: list[float] = field(default_factory=list)  # when each request that it has will be answered

    @property
    def status(self) -> str:
        if self.state == "maint" or not self.health:
            return "MAINT" if self.state == "maint" else "DOWN"
        return ("UP" if self.state == "ready" else "DRAIN") + ("" if self.health == 3 else f" {self.health}/3")


class Haproxy:
    """Two apps on three web hosts, and the clock: time passes only while the module sleeps."""

    def __init__(self, folder: Path) -> None:
        backends = [f"{kind}_{app}" for kind in ("app", "bulk", "crowd") for app in ("demo", "shop")]
        self.servers = {(app, host): Server() for app in backends for host in ("web1", "web2", "web3")}
        self.now, self.asked_to = 0.0, []  # type: ignore[var-annotated]
        self.module: Any = load("_modules", "edge")
        self.module.ADMIN, self.module.OUT = str(folder / "admin.sock"), folder / "edge/out.json"
        self.config = self.module.CONFIG = folder / "haproxy.cfg"
        self.config.write_text(self.rendered())
        self.module.time = SimpleNamespace(sleep=self.sleep, monotonic=lambda: self.now)
        self.module.RESTING = folder / "resting.map"

    def rendered(self) -> str:
        """HAProxy's configuration as an apply writes it now."""
        names = sorted({host for _, host in self.servers})
        webs = [{"host": host, "name": f"{host}.x.test", "address": "192.0.2.1", "port": 80} for host in names]
        return haproxy_configuration({"demo": APP, "shop": APP}, webs, self.module.out())

    def follow(self) -> None:
        """Those that `track` others are as well as they are."""
        for (app, host), server in self.servers.items():
            kind, _, name = app.partition("_")
            if kind != "app":
                server.health = self.servers[f"app_{name}", host].health

    def of(self, host: str) -> list[Server]:
        return [server for (_, name), server in self.servers.items() if name == host]

    def statuses(self, host: str) -> set[str]:
        return {server.status for server in self.of(host)}

    def open(self, *servers: Server) -> int:
        return sum(end > self.now for server in servers for end in server.ends)

    def sleep(self, seconds: float) -> None:
        before, self.now = self.now, self.now + seconds
        if before // CHECK_SECONDS != self.now // CHECK_SECONDS:
            for server in self.servers.values():
                if server.state != "maint":
                    server.health = 3 if server.well else 0
            self.follow()

    def answer(self, text: str) -> str:
        if text == "show stat":
            rows = [f"{app},{host},{self.open(one)},{one.status}," for (app, host), one in self.servers.items()]
            rows += [f"{app},BACKEND,9,UP," for app in ("app_demo", "app_shop")]
            return "\n".join(["# pxname,svname,scur,status,", "https,FRONTEND,9,OPEN,", *rows, "", ""])
        self.asked_to.append(text)
        *_, where, what, to = text.split() if text.startswith("set ") else [*text.split(), "", ""]
        app, _, host = where.partition("/")
        server = self.servers[app, host]
        if what == "health" and not app.startswith("app_"):
            return "cannot change health on a tracking server.\n"
        if text.startswith("shutdown sessions server "):
            server.ends = []
        elif what == "state":
            server.health = 1 if server.state == "maint" != to else server.health  # up, before it has been asked!
            server.state = to
        elif (what, to) == ("health", "down") and server.state != "maint":
            server.health = 0
        self.follow()
        return "\n"


def haproxy_configuration(apps: dict[str, Any], webs: list[dict[str, Any]], out: list[str]) -> str:
    """HAProxy's configuration as the state renders it."""
    template = Template((ROOT / "salt/edge/files/haproxy.cfg").read_text())
    errors, headers = errorpages, clientheaders
    return template.render(
        edge=SETTINGS, apps=apps, webs=webs, salt={"edge.out": lambda: out}, listen=[":%s", ":::%s v6only"],
        mark=errors.mark(),
        client_headers=headers.at_the_edge(), pages=errors.pages(),
        app_pages={app: {"errors": errors.of_app(app, {}), "maintenance": errors.maintenance(app, {})} for app in apps},
    )  # fmt: skip


@pytest.fixture
def haproxy() -> Iterator[Haproxy]:
    with tempfile.TemporaryDirectory(dir="/tmp") as short:  # a socket's path has at most 107 characters
        played = Haproxy(Path(short))

        class Handler(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                self.wfile.write(played.answer(self.rfile.readline().decode().strip()).encode())

        with socketserver.UnixStreamServer(played.module.ADMIN, Handler) as admin:
            thread = threading.Thread(target=admin.serve_forever, args=(0.01,))
            thread.start()
            yield played
            admin.shutdown()
            thread.join()


def test_a_host_that_is_out_gets_nothing_new_and_has_answered_all_it_had(haproxy: Haproxy) -> None:
    haproxy.of("web1")[0].ends = [1.5, 0.5]
    assert haproxy.module.take_out("web1") == 0
    assert 1.5 <= haproxy.now < 2 and haproxy.module.out() == ["web1"]
    assert haproxy.module.OUT.stat().st_mode & 0o777 == 0o600, "an app may run on the same host"
    assert haproxy.statuses("web1") == {"MAINT"} and haproxy.statuses("web2") == haproxy.statuses("web3") == {"UP"}
    assert "drain" in haproxy.asked_to[0], "it got nothing new while it answered"


def test_requests_that_take_too_long_are_cut_and_counted(haproxy: Haproxy) -> None:
    for server in haproxy.of("web1"):
        server.ends = [1, 99]
    haproxy.of("web2")[0].ends = [99]
    assert haproxy.module.take_out("web1", seconds=5) == len(haproxy.of("web1"))
    assert 5 <= haproxy.now < 6 and haproxy.open(*haproxy.of("web1")) == 0
    assert haproxy.open(*haproxy.of("web2")) == 1, "others keep theirs"


@pytest.mark.parametrize("others", ["down", "out"])
def test_the_last_host_that_an_app_has_stays(haproxy: Haproxy, others: str) -> None:
    if others == "down":
        for host in ("web2", "web3"):
            haproxy.servers["app_shop", host].health = 0
    else:
        assert haproxy.module.take_out("web2") == haproxy.module.take_out("web3") == 0
    haproxy.asked_to.clear()
    before = haproxy.module.out()
    with pytest.raises(CommandExecutionError, match="web1 stays: no other host is up for"):
        haproxy.module.take_out("web1")
    assert haproxy.asked_to == [] and haproxy.module.out() == before and haproxy.statuses("web1") == {"UP"}


def test_an_unknown_host_is_refused_with_the_known_ones(haproxy: Haproxy) -> None:
    for verb in (haproxy.module.take_out, haproxy.module.bring_in):
        with pytest.raises(CommandExecutionError, match=r'no web host "web9"; it knows web1, web2, web3$'):
            verb("web9")
    assert haproxy.asked_to == [] and haproxy.module.out() == []


def test_a_host_that_is_to_come_is_out_already(haproxy: Haproxy) -> None:
    assert haproxy.module.take_out("web9", may_be_unknown=True) == 0
    assert haproxy.module.out() == ["web9"] and haproxy.asked_to == []


def test_who_is_out_is_remembered(haproxy: Haproxy) -> None:
    haproxy.module.take_out("web9", may_be_unknown=True)
    haproxy.module.take_out("web1")
    later: Any = load("_modules", "edge")
    later.OUT = haproxy.module.OUT
    assert later.out() == ["web1", "web9"] == json.loads(later.OUT.read_text())
    haproxy.module.bring_in("web1")
    assert later.out() == ["web9"]


def test_after_a_restart_of_haproxy_the_same_are_out_and_an_apply_has_nothing_to_change(haproxy: Haproxy) -> None:
    haproxy.module.take_out("web9", may_be_unknown=True)
    haproxy.module.take_out("web1")
    text = haproxy.config.read_text()
    assert [line.split()[1] for line in text.splitlines() if line.endswith(" disabled")] == ["web1"] * 6
    assert text == haproxy.rendered()
    haproxy.module.bring_in("web1")
    assert haproxy.config.read_text() == haproxy.rendered() != text


def test_a_host_is_in_again_when_it_answers_health_checks(haproxy: Haproxy) -> None:
    haproxy.module.take_out("web1")
    began = haproxy.now
    assert haproxy.module.bring_in("web1") == "web1"
    assert haproxy.statuses("web1") == {"UP"} and haproxy.now > began and haproxy.module.out() == []


def test_a_host_that_is_not_well_is_not_brought_in(haproxy: Haproxy) -> None:
    haproxy.module.take_out("web1")
    haproxy.servers["app_shop", "web1"].well = False
    with pytest.raises(CommandExecutionError, match=r"web1 does not answer health checks of app_shop$"):
        haproxy.module.bring_in("web1")


def test_a_host_that_serves_is_not_disturbed_when_it_is_brought_in_once_more(haproxy: Haproxy) -> None:
    haproxy.of("web1")[0].ends = [9]
    haproxy.module.bring_in("web1")
    assert haproxy.now == 0 and haproxy.statuses("web1") == {"UP"} and haproxy.open(*haproxy.of("web1")) == 1


def test_a_host_is_forgotten_when_haproxy_does_not_know_it_any_more(haproxy: Haproxy) -> None:
    haproxy.module.take_out("web1")
    with pytest.raises(CommandExecutionError, match="web1 is one of this edge's web hosts"):
        haproxy.module.forget("web1")
    assert haproxy.module.out() == ["web1"]
    haproxy.servers = {key: server for key, server in haproxy.servers.items() if key[1] != "web1"}
    haproxy.module.forget("web1")
    haproxy.module.forget("web1")
    assert haproxy.module.out() == []


@pytest.mark.parametrize("verb", ["take_out", "bring_in", "forget"])
def test_without_haproxy_the_error_says_so(haproxy: Haproxy, verb: str) -> None:
    haproxy.module.ADMIN += ".gone"
    with pytest.raises(CommandExecutionError, match=r"^HAProxy's socket /.*gone does not answer: .*No such file"):
        getattr(haproxy.module, verb)("web1")
    assert haproxy.module.out() == []


def test_what_haproxy_refuses_is_told(haproxy: Haproxy, monkeypatch: pytest.MonkeyPatch) -> None:
    played = haproxy.answer
    monkeypatch.setattr(haproxy, "answer", lambda text: "Permission denied\n" if "set" in text else played(text))
    with pytest.raises(CommandExecutionError, match="HAProxy on `set server app_demo/web1 state drain`: Permission"):
        haproxy.module.take_out("web1")


@pytest.fixture
def said(haproxy: Haproxy) -> dict[str, tuple[int, str]]:
    """What this edge and two web hosts answer when they are asked for the demo's version, to be changed by a test."""
    answers = dict.fromkeys(("this edge", "web1", "web2"), (200, "release 1"))
    settings = {"version_path": "/-/version", "health_path": "/ok", "health_status": 204, "hostnames": ["demo.test"]}
    webs = [{"host": "web1"}, {"host": "web2"}]
    haproxy.module.__pillar__ = {"apps": {"demo": settings}, "wiring": {"edge": {"webs": webs}}}
    haproxy.module._through_haproxy = lambda name, path: answers["this edge"]
    haproxy.module._from_web = lambda web, name, path: answers[web["host"]]
    return answers


def test_an_edge_sees_the_release_that_all_serve(haproxy: Haproxy, said: dict[str, tuple[int, str]]) -> None:
    assert haproxy.module.sees("demo") == "release 1"
    said["web2"] = (200, "release 2")
    with pytest.raises(CommandExecutionError, match="demo: hosts serve different releases: release 1 and release 2"):
        haproxy.module.sees("demo")
    haproxy.module.take_out("web2")
    assert haproxy.module.sees("demo") == "release 1", "a host that is out is not asked"


@pytest.mark.parametrize("who", ["this edge", "web1", "web2"])
def test_an_edge_names_who_did_not_answer_well(haproxy: Haproxy, said: dict[str, tuple[int, str]], who: str) -> None:
    said[who] = (502, "release 1")
    with pytest.raises(CommandExecutionError, match=f"^demo: /-/version answered 502, asked of {who}$"):
        haproxy.module.sees("demo")


def test_without_a_version_page_an_edge_asks_for_health(haproxy: Haproxy, said: dict[str, tuple[int, str]]) -> None:
    haproxy.module.__pillar__["apps"]["demo"]["version_path"] = None
    for who, text in {"this edge": "a", "web1": "b", "web2": "c"}.items():
        said[who] = (204, text)
    assert haproxy.module.sees("demo") == "/ok is well"
    said["web1"] = (200, "b")
    with pytest.raises(CommandExecutionError, match="demo: /ok answered 200, asked of web1"):
        haproxy.module.sees("demo")


def test_an_app_that_one_visitor_alone_keeps_busy_refuses_that_visitor_nothing() -> None:
    """A browser asks for a dozen things at once by HTTP/2; who waits for somebody else is the reason to share."""
    text = haproxy_configuration(
        {"demo": APP | {"threads": 1}}, [{"host": "web1", "name": "x", "address": "192.0.2.1", "port": 80}], []
    )
    lines = text.splitlines()
    assert [line for line in lines if "set-var(txn.refused)" in line and ("busy" in line or "much" in line)] == [
        "    http-request set-var(txn.refused) bool(true) if shared much !file"
    ]
    # The request that asks is its own, and is not among those that the app has yet.
    assert "    http-request set-var(txn.others) var(txn.wanted),sub(txn.own)" in lines
    (shared,) = [line for line in lines if "set-var(txn.shared)" in line]
    assert shared.endswith("{ var(txn.others) -m int ge 0 }")
    crowded = [line for line in lines if "use_backend crowd_" in line]
    assert crowded == ["    use_backend crowd_%[var(txn.app)] if shared greedy or shared crowd greedy_in_a_crowd"]
    assert "acl much var(txn.own)" not in text, "an office has many at once: it waits for its turn"


def test_who_asks_for_much_leaves_threads_to_others() -> None:
    """And is asked of the same hosts, which are as well as those of app_."""
    webs = [{"host": "web1", "name": "x", "address": "192.0.2.1", "port": 80}]
    for threads, places in ((1, ["2", "1"]), (8, ["16", "2"])):
        text = haproxy_configuration({"demo": APP | {"threads": threads, "workers": 1}}, webs, [])
        servers = [line for line in text.splitlines() if line.startswith("    server web1 ")]
        assert [line.split(" maxconn ")[1] for line in servers] == [*places, "32"]
        assert [" track app_demo/web1 " in line for line in servers] == [False, True, True]


def test_a_body_that_announces_no_length_is_one() -> None:
    """By HTTP/2 a POST may have a body with neither content-length nor transfer-encoding."""
    text = haproxy_configuration(APPS, [], [])
    fronts = text.split("frontend ")[1:]
    assert len(fronts) == 2
    for front in fronts:
        assert (
            "set-var(txn.endless) bool(true) if { fc_http_major 2 } !{ req.hdr(content-length) -m found } !METH_GET"
            in front
        )
        assert "or { var(txn.endless) -m bool }" in front
    assert "acl large var(txn.endless) -m bool\n" in text


def test_only_what_goes_to_an_app_counts_as_a_body_that_lies_on_the_disk() -> None:
    lines = (ROOT / "salt/web/files/nginx.conf.jinja").read_text().splitlines()
    (place,) = [number for number, line in enumerate(lines) if line.lstrip().startswith("limit_conn bodies ")]
    assert lines[place - 1].strip() == "location / {" and "proxy_pass http://app-" in lines[place + 1]


def test_all_networks_of_a_household_have_one_share() -> None:
    assert {*re.findall(r"src,ipmask\(\S+\)", haproxy_configuration(APPS, [], []))} == {"src,ipmask(32,56)"}


class Units:
    """HAProxy's unit and its stand-in, and what was done to them in which order."""

    def __init__(self, module: Any, stand_in_starts: bool = True, comes_back: bool = True) -> None:
        self.done: list[str] = []
        self.comes_back, self.stand_in_starts, self.now = comes_back, stand_in_starts, 0.0
        self.pids = {"haproxy.service": "10", module.STAND_IN: "0"}
        module._run, module._shown = self.run, self.shown
        module.os = SimpleNamespace(kill=lambda pid, signal: self.kill(pid))
        module.time = SimpleNamespace(monotonic=lambda: self.now, sleep=self.sleep)
        self.stand_in = module.STAND_IN

    def run(self, command: list[str]) -> str:
        self.done.append(" ".join(word for word in command[:3] if not word.startswith("-")))
        if command[0] == "systemd-run" and self.stand_in_starts:
            self.pids[self.stand_in] = "20"
        return "" if self.stand_in_starts or command[0] != "systemd-run" else "cannot bind"

    def kill(self, pid: int) -> None:
        self.done.append(f"end {pid}")
        if pid == 10 and self.comes_back:
            self.pids["haproxy.service"] = "11"

    def shown(self, unit: str) -> dict[str, str]:
        return {"MainPID": self.pids[unit], "InvocationID": self.pids[unit], "ActiveState": "active"}

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.mark.parametrize(
    ("starts", "back", "done"),
    [
        (True, True, ["end 10", "end 20"]),
        (False, True, ["systemctl restart haproxy.service"]),
        (True, False, ["end 10", "systemctl restart haproxy.service", "end 20"]),
    ],
)
def test_another_one_stands_in_while_haproxy_restarts(starts: bool, back: bool, done: list[str]) -> None:
    module: Any = load("_modules", "edge")
    units = Units(module, starts, back)
    assert module.restart() == ""
    assert units.done == ["systemctl stop saltern-edge-stand-in.service", "systemd-run", *done]


def test_no_process_of_number_nought_is_told_to_end() -> None:
    """That would be the apply itself."""
    module: Any = load("_modules", "edge")
    units = Units(module)
    units.pids["haproxy.service"] = "0"
    module.restart()
    assert [one for one in units.done if one.startswith("end")] == ["end 20"], "and the stand-in does not stay"
