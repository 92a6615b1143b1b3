"""What an app's file can ask for beyond the fleet's own two apps: a Git source, and media."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from conftest import change_app

from lab import served
from lab.apply import apply, explain
from lab.host import Host
from lab.lab import Lab

pytestmark = pytest.mark.slow("trixie")

MAKE_A_REPOSITORY = """
set -e
rm -rf /srv/demo.git /root/demo
cp -r /srv/saltern/demo /root/demo
cd /root/demo
git init --quiet --initial-branch=main
git add --all
git -c user.name=x -c user.email=x@x commit --quiet --message=x
git clone --quiet --bare . /srv/demo.git
chmod -R go+rX /srv/demo.git  # the build user fetches it
git rev-parse HEAD
"""


def on(host: Host, command: str) -> str:
    done = host.execute(["sh", "-c", command], capture=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_an_app_comes_from_git(lab: Lab, one: Host, demo: Path) -> None:
    commit = on(one, MAKE_A_REPOSITORY)
    change_app(demo, {"source": {"git": "file:///srv/demo.git", "revision": "main"}})
    plan = apply(one, plan=True)
    done = apply(one)
    assert done.ok, explain(done)
    assert set(plan.changed) == set(done.changed)
    page = next(page for page in served.check(lab.site) if page.hostname.startswith("demo."))
    told = json.loads(served.get(page, served.ca_file(lab.site), "/-/version")[1])
    assert told["commit"] == commit
    assert apply(one).changed == []


def test_media_is_served_and_cannot_run_scripts(lab: Lab, one: Host, demo: Path) -> None:
    change_app(demo, {"media_url": "/media/"})
    done = apply(one)
    assert done.ok, explain(done)
    assert apply(one).changed == []
    # As the app: in its unit's namespaces, with its user and file mode creation mask, where MEDIA_ROOT tells it.
    write = """
    set -e
    release=$(basename $(readlink /srv/apps/demo/current.sock) .sock)
    . /srv/apps/demo/releases/$release/env
    pid=$(systemctl show -P MainPID "app-demo@$release")
    nsenter -t $pid -m -- setpriv --reuid=app-demo --regid=app-demo --clear-groups \\
        sh -c "umask 0027; mkdir -p $MEDIA_ROOT/a; echo hello > $MEDIA_ROOT/a/note.html"
    curl -sk --resolve demo.saltern.test:443:127.0.0.1 -D - https://demo.saltern.test/media/a/note.html
    """
    answer = on(one, write)
    assert " 200 " in answer.splitlines()[0] and answer.endswith("hello")
    assert "sandbox" in answer and "nosniff" in answer


def test_debian_packages_come_with_the_app(one: Host, demo: Path) -> None:
    """One for the builder and one to run with; before the release, which may need them to start."""
    packages = {"build": ["bc"], "run": ["cowsay"]}
    there = "dpkg-query --show --showformat='${db:Status-Status} ' bc cowsay 2>/dev/null || true"
    assert "installed" not in on(one, there).replace("not-installed", ""), "they are here already: choose others"
    change_app(demo, {"packages": packages}, SCENARIO="packages")
    plan = apply(one, plan=True)
    done = apply(one)
    assert done.ok, explain(done)
    assert on(one, there).split() == ["installed", "installed"]
    assert set(plan.changed) == set(done.changed)
    order = [state["__id__"] for state in sorted(done.states, key=lambda state: state["__run_num__"])]
    assert order.index("build packages of demo") < order.index("build of demo")
    assert order.index("packages of demo") < order.index("release of demo")
