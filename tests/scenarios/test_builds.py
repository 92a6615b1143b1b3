"""Builds stand alone: deployed with the index out of reach, and refused when a single byte of them is wrong."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from conftest import change_app

from lab import served
from lab.apply import apply, explain
from lab.host import Host
from lab.lab import Lab

BUILDS = "/var/lib/saltern/builds/demo"
# What the builder does for an app without a lock: it asks the index, wherever pip's settings say that it is.
ASK_THE_INDEX = """
import os, subprocess, sys
sys.path.insert(0, "/srv/saltern")
from saltern.build import locks
index = locks.uv_environment(locks.pip_settings(locks.pip_files(), os.environ))
command = ["/opt/saltern/salt/bin/uv", "pip", "compile", "--no-config", "--no-cache", "--quiet", "-"]
limits = {"UV_HTTP_TIMEOUT": "5", "UV_HTTP_RETRIES": "0"}
sys.exit(subprocess.run(command, input="gunicorn", text=True, env=os.environ | index | limits).returncode)
"""


@contextmanager
def nothing_but_the_fleet(lab: Lab, host: Host) -> Iterator[None]:
    """Drop what the host sends to, or gets from, addresses outside of the fleet."""
    table = f"{host.network.table}_cut"
    subnet = host.network.subnet
    rules = f"""
        table ip {table} {{
            chain forward {{
                type filter hook forward priority filter - 5
                ip saddr {host.address} ip daddr != {subnet} drop
                ip daddr {host.address} ip saddr != {subnet} drop
            }}
            chain input {{
                type filter hook input priority filter - 5
                ip saddr {host.address} ip daddr != {subnet} drop
            }}
        }}
    """
    subprocess.run(["nft", "-f", "-"], input=rules, text=True, check=True)
    try:
        yield
    finally:
        subprocess.run(["nft", "delete", "table", "ip", table], check=True)


def reaches_the_index(host: Host) -> bool:
    return host.execute(["/opt/saltern/salt/bin/python", "-c", ASK_THE_INDEX], capture=True).returncode == 0


def active(host: Host) -> str:
    return host.execute(["readlink", "/srv/apps/demo/current.sock"], capture=True).stdout.strip()


def releases(host: Host) -> list[str]:
    return sorted(host.execute(["ls", "-A", "/srv/apps/demo/releases"], capture=True).stdout.split())


@pytest.mark.slow("bookworm")
def test_a_release_is_deployed_with_the_index_out_of_reach(lab: Lab, one: Host, demo: Path) -> None:
    assert reaches_the_index(one), "the builder reaches no index, so cutting it off would prove nothing"
    before = active(one)
    change_app(demo, SCENARIO="offline")
    with nothing_but_the_fleet(lab, one):
        assert not reaches_the_index(one), "the host is not cut off, so this proves nothing"
        deployed = apply(one)
        assert deployed.ok, explain(deployed)
        assert {page.status for page in served.check(lab.site)} == {200}
    after = active(one)
    build = Path(before).name.partition("-")[0]
    assert after != before and Path(after).name.startswith(f"{build}-"), "another release of the same build"


FLIP = "import sys; p=sys.argv[1]; b=bytearray(open(p,'rb').read()); b[len(b)//2]^=1; open(p,'wb').write(b)"
WRONG = "import json,sys; p=sys.argv[1]; m=json.load(open(p)); n=next(k for k in m['files'] if k.endswith('.whl')); "
WRONG += "m['files'][n]='0'*64; json.dump(m,open(p,'w'))"
DAMAGES = {
    "a flipped byte": (
        'python3 -c "$FLIP" $(ls current/wheels/*.whl | head -1)',
        "has been changed since it was built",
    ),
    "a missing wheel": ("rm $(ls current/wheels/*.whl | head -1)", ".whl is missing"),
    "a foreign wheel": ("touch current/wheels/evil-1.0-py3-none-any.whl", "evil-1.0-py3-none-any.whl does not belong"),
    "a wrong hash": ('python3 -c "$WRONG" current/manifest.json', "has been changed since it was built"),
}


@pytest.mark.slow("bookworm")
@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_build_is_refused_before_anything_is_touched(lab: Lab, one: Host, demo: Path, damage: str) -> None:
    command, said = DAMAGES[damage]
    serving, there = active(one), releases(one)
    run = f"set -e; cd {BUILDS}; rm -rf /root/whole; cp -a $(readlink -f current) /root/whole; {command}"
    broken = one.execute(["env", f"FLIP={FLIP}", f"WRONG={WRONG}", "sh", "-c", run], capture=True)
    assert broken.returncode == 0, broken.stderr
    try:
        change_app(demo, SCENARIO=damage)
        refused = apply(one)
        assert not refused.ok
        assert said in json.dumps([state["comment"] for state in refused.failed]), explain(refused)
        assert (active(one), releases(one)) == (serving, there)
        assert {page.status for page in served.check(lab.site)} == {200}
    finally:
        whole = f"set -e; cd {BUILDS}; d=$(readlink -f current); rm -r $d; mv /root/whole $d"
        assert one.execute(["sh", "-c", whole]).returncode == 0
    healed = apply(one)
    assert healed.ok, explain(healed)
    assert active(one) != serving


def test_the_same_input_is_built_once(one: Host) -> None:
    def make() -> dict:
        done = one.execute(["salt-call", "--out=json", "build.make", "bugsink"], capture=True, cwd="/srv/saltern")
        return json.loads(done.stdout)["local"]

    first = make()
    assert make() == first, "its time of building included"
    assert len(first["lock"]) == 64
