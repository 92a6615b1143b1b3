"""Code of an app, and of a package that an app brings: who it runs as, and what it is led to or leads others to."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lab.apply import apply, explain
from lab.deploys import Demo, demo_of
from lab.host import Host
from lab.lab import Lab

SALTS_PYTHON = "/opt/saltern/salt/bin/python"

# Added to the demo's settings: runs in every process that knows the app, and tells who runs it and what for.
WHO = """
import json as _json, os as _os, sys as _sys, time as _time
try:
    _who = _json.dumps({"uid": _os.getuid(), "argv": _sys.argv[:4], "ppid": _os.getppid()})
    _place = "/root" if _os.getuid() == 0 else "/var/lib/apps/demo"
    with open(f"{_place}/who-ran-me", "a") as _out:
        _out.write(_who + chr(10))
except OSError as _error:
    print("WHO", _who, _error, flush=True)
"""


COMMANDS = ("django.manage demo check", "build.identify demo", "state.apply")
# In the folder of the demo's media, by what nginx must not be led to.
LINKS = {
    "passwd": "/etc/passwd",
    "slash": "/",
    "nginx": "/etc/nginx",
    "others": "/srv/apps/bugsink/static",
    "above": "../../..",
    "near": "own",
    "same": "own/file.txt",
    "own/up": "../../../../../etc/passwd",
}
THROUGH = ("slash/etc/passwd", "above/etc/passwd", "near/file.txt", "nginx/nginx.conf", "pipe", "../current.sock")


def on(host: Host, command: str) -> str:
    done = host.execute(["sh", "-c", command], capture=True)
    assert done.returncode == 0, f"{command}: {done.stdout[-2000:]}{done.stderr[-2000:]}"
    return done.stdout.strip()


@pytest.fixture(scope="module")
def hostile(one: Host) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = json.loads(on(one, f"{SALTS_PYTHON} /srv/saltern/tests/scenarios/hostile.py"))
    return found


def test_code_of_a_wheel_runs_when_it_is_installed_and_never_as_root(one: Host, hostile: dict[str, Any]) -> None:
    ran = [report for about in hostile.values() for report in about.get("report", [])]
    assert len(ran) >= 2, "the spies did not run, so nothing is proven"
    root, app = 0, int(on(one, "id -u app-demo"))
    assert not {root, app} & {report["uid"] for report in ran} and "0" not in {str(g) for r in ran for g in r["groups"]}
    assert on(one, "ls /root/pwned 2>/dev/null || true") == ""


def test_it_sees_the_release_and_nothing_else(hostile: dict[str, Any]) -> None:
    for about in hostile.values():
        for report in about.get("report", []):
            seen = {path: said for path, said in report["reads"].items() if "Error" not in said}
            assert seen == {"/srv/apps": "['demo']", "/srv/apps/demo/releases": "['hostile']"}
            assert all("Error" in said for said in report["writes"].values()), report["writes"]
            assert all("Error" in said for said in report["connects"].values()), report["connects"]
            assert all("Error" in said for said in report["networks"].values()), report["networks"]
            assert "Error" in report["setuid"] and report["processes"] == [report["uid"]]


def test_what_it_leaves_is_roots_or_refused_by_name(hostile: dict[str, Any]) -> None:
    for kind, about in hostile.items():
        assert about["left"] == about["made"] == about["harmed"] == [], kind
        assert about.get("odd", []) == [], kind
    refused = {kind: about["error"] for kind, about in hostile.items() if "error" in about}
    for kind, name in {
        "a .pth that makes a link": "'l' is a link to '/etc/shadow'",
        "a .pth that makes a link to a folder": "'l' is a link to '../../../..'",
        "a .pth that makes a pipe": "'p' is neither a file",
        "a .pth that fills the source": "'conf' is a link to '/etc'",
        "a script above": "evil-entry",
    }.items():
        assert name in refused[kind], kind


@pytest.fixture(scope="module")
def deployed(lab: Lab, one: Host) -> Iterator[Demo]:
    """The demo, which tells who runs it, and serves media."""
    with demo_of(lab, one, media_url="/media/") as demo:
        demo.change()
        settings = demo.folder / "demo/settings.py"
        settings.write_text(settings.read_text() + WHO)
        outcome = demo.deploy()
        assert outcome.ok, explain(outcome)
        yield demo
    on(one, "rm -f /var/lib/apps/demo/who-ran-me; find /srv/apps/demo/media -mindepth 1 -delete 2>/dev/null || true")


@pytest.mark.slow("trixie")
def test_no_code_of_the_app_runs_as_root_from_the_build_to_the_rollback(one: Host, deployed: Demo) -> None:
    """Also where nothing has to be done: a plan, an apply without changes, each command about releases."""
    deployed.change(migration=True)
    settings = deployed.folder / "demo/settings.py"
    settings.write_text(settings.read_text() + WHO)
    assert apply(one, plan=True).exit_code == 0
    outcome = deployed.deploy()
    assert outcome.ok, explain(outcome)
    release = on(one, "basename $(readlink /srv/apps/demo/current.sock) .sock")
    for words in COMMANDS:
        on(one, f"cd /srv/saltern && salt-call --out=json {words}")
    on(one, f"systemctl start app-demo-clear-sessions@{release}")
    on(one, "cd /srv/saltern && salt-call release.rollback demo && salt-call release.unpin demo")
    ran = [json.loads(line) for line in on(one, "cat /var/lib/apps/demo/who-ran-me").splitlines()]
    told = {" ".join(one["argv"]) for one in ran}
    for kind in ("gunicorn", "celery", "clearsessions", "check"):
        assert any(kind in argv for argv in told), f"{kind} did not tell, so this proves nothing: {told}"
    assert {one["uid"] for one in ran} == {int(on(one, "id -u app-demo"))}
    assert on(one, "ls /root/who-ran-me 2>/dev/null || true") == ""


def as_app(one: Host, command: str) -> str:
    """Run a shell command as the demo's processes run: its user, its view of the disk."""
    unit = "app-demo@$(basename $(readlink /srv/apps/demo/current.sock) .sock)"
    who = "setpriv --reuid=app-demo --regid=app-demo --clear-groups"
    return on(one, f"nsenter -t $(systemctl show -P MainPID {unit}) -m -- {who} sh -c '{command}'")


def asked(one: Host, path: str) -> tuple[str, str]:
    """What the front door answers: status and body."""
    curl = "curl -sk --path-as-is --resolve demo.saltern.test:443:127.0.0.1"
    said = on(one, f"{curl} -w '\\n%{{http_code}}' https://demo.saltern.test{path}")
    body, _, status = said.rpartition("\n")
    return status, body


@pytest.mark.slow("trixie")
def test_media_lead_nginx_nowhere(one: Host, deployed: Demo) -> None:
    as_app(one, "cd /srv/apps/demo/media && mkdir -p own && echo mine > own/file.txt")
    assert asked(one, "/media/own/file.txt") == ("200", "mine\n")
    for name, target in LINKS.items():
        as_app(one, f"cd /srv/apps/demo/media && ln -sfn {target} {name}")
    as_app(one, "cd /srv/apps/demo/media && rm -f pipe && mkfifo pipe")
    for path in (*LINKS, *THROUGH):
        status, body = asked(one, f"/media/{path}")
        assert status in ("403", "404", "400") and "root:" not in body, path
    targets = "/etc/passwd /srv/apps/demo/releases/*/manifest.json"
    hard = f"cd /srv/apps/demo/media; for f in {targets}; do ln $f hard 2>/dev/null && echo made; done; true"
    assert as_app(one, hard) == ""
    stranger = "setpriv --reuid=app-bugsink --regid=app-bugsink --clear-groups"
    assert on(one, f"{stranger} ls /srv/apps/demo/media 2>&1 || true").endswith("denied")
    assert on(one, "getent group www-data").endswith(":"), "nobody but nginx is in the group that media are for"


@pytest.mark.slow("trixie")
def test_a_socket_that_the_app_replaces_leads_nginx_nowhere(one: Host, deployed: Demo) -> None:
    """Neither to the database's nor to another app's; and its own goes on being served."""
    socket = on(one, "basename $(readlink /srv/apps/demo/current.sock)")
    other = on(one, "readlink /srv/apps/bugsink/current.sock")
    for target in (other, f"/run/apps/bugsink/{Path(other).name}", "/run/postgresql/.s.PGSQL.5432"):
        as_app(one, f"cd /run/apps/demo && mv {socket} kept && ln -s {target} {socket}")
        try:
            status, _ = asked(one, "/-/version")
            assert status == "200", target
        finally:
            as_app(one, f"cd /run/apps/demo && rm {socket} && mv kept {socket}")
    for folder in ("/run/web", "/run/web/demo"):
        assert on(one, f"stat -c %U {folder}") == "root"


def test_what_is_no_file_leads_out_of_an_apps_sandbox_no_more_than_files_do(one: Host) -> None:
    """Calls, families of sockets, buses, devices, terminals: by a one-off command, which has the units' sandbox."""
    program = (Path(__file__).parent / "probes.py").read_text()
    command = ["salt-call", "--out=json", "--", "django.manage", "demo", "shell", "-c", program]
    done = one.execute(command, capture=True, cwd="/srv/saltern")
    assert done.returncode == 0, done.stdout + done.stderr
    said = json.loads(done.stdout)["local"]["output"]
    assert json.loads(said.rpartition("PROBED ")[2].splitlines()[0]) == []


def test_what_an_app_logs_reaches_no_terminal(one: Host) -> None:
    """As an emergency it would be written to each of them as it is, and could steer it."""
    said = on(one, "systemd-analyze cat-config systemd/journald.conf | grep ^ForwardToWall= | tail -1")
    assert said == "ForwardToWall=no"
