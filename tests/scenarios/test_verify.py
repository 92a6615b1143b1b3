"""bin/verify on a site that has nothing of the lab's example: other apps, names, ports, time zone, and another login.

First all is as the site says. Then one thing is broken for each role, and each is found, told and nothing else is.
Last, what docs/ci.md has for CI is typed on the lab's own hosts.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from conftest import ROOT

from lab.apply import apply, explain
from lab.host import Host
from lab.lab import Lab

pytestmark = pytest.mark.slow("trixie")
PORTS = {
    "web": {"port": 8181},
    "postgres": {"port": 5544},
    "redis": {"broker_port": 6390, "cache_port": 6391},
    "builder": {"port": 9191},
    "edge": {"http_port": 8000, "https_port": 8443},
}
DEMO = {"source": {"directory": "demo"}, "settings_module": "demo.settings"}
APPS = {
    "wares-2": {
        **DEMO,
        "hostnames": ["wares.example.net", "www.wares.example.net"],
        "user": "keeper",
        "database": "goods",
        "version_path": None,
        "cache": True,
        "processes": {"tasks": {"celery": {}}, "clock": {"beat": {}}},
        "timers": {"tidy": {"manage": ["clearsessions"], "schedule": "hourly"}},
    },
    "desk": {**DEMO, "hostnames": ["desk.example.net"], "egress": "none"},
}
# One thing for each role, and the test that has to find it.
BROKEN = {
    "base": ("ln -sf /usr/share/zoneinfo/Etc/UTC /etc/localtime", "test_the_time_zone_is_the_one_that_was_set"),
    "builder": (
        "chmod 755 /var/lib/saltern/builds/desk",
        "test_builds_are_closed_to_other_apps_and_signed",
    ),
    "postgres": (
        "runuser -u postgres -- psql -Xqc 'alter role goods createdb'",
        "test_every_database_is_owned_by_a_role_of_its_own_and_closed_to_others",
    ),
    "redis": (
        "REDISCLI_AUTH=$(cat /etc/redis/admin.pass) redis-cli --no-auth-warning --user saltern-admin"
        " -s /run/redis-cache/admin.sock acl setuser app-wares-2 '~*'",
        "test_no_user_knows_more_than_it_needs[cache]",
    ),
    "web": (
        "sed -i 's/immutable/no-store/' /etc/nginx/nginx.conf && systemctl reload nginx",
        "test_static_files_come_from_nginx_and_may_be_kept_for_ever",
    ),
    "worker": (
        "systemctl stop 'app-wares-2-tasks@*'",
        "test_each_process_runs_once_and_what_is_single_on_one_host",
    ),
    "edge": (
        "sed -i 's/X-Content-Type-Options nosniff/X-Nothing x/' /etc/haproxy/haproxy.cfg && systemctl reload haproxy",
        "test_plain_http_leads_to_the_apps_own_names_only",
    ),
}


@pytest.fixture(scope="module")
def foreign(lab: Lab, one: Host, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The lab with another site, and how an admin of that site reaches it; at the end all is as it was."""
    kept, folder = tmp_path_factory.mktemp("kept") / "site", tmp_path_factory.mktemp("verify")
    shutil.copytree(lab.site, kept, ignore=shutil.ignore_patterns("secrets"))
    key = (lab.folder / "ssh/id_ed25519.pub").read_text().strip()
    settings = yaml.safe_load((lab.site / "settings.yaml").read_text())
    settings["base"] = {"timezone": "Pacific/Chatham", "admins": {"ann": {"ssh_keys": [key], "sudo": True}}}
    for role, ports in PORTS.items():
        settings.setdefault(role, {}).update(ports)
    (lab.site / "settings.yaml").write_text(yaml.safe_dump(settings))
    shutil.rmtree(lab.site / "apps")
    (lab.site / "apps").mkdir()
    for name, app in APPS.items():
        (lab.site / f"apps/{name}.yaml").write_text(yaml.safe_dump(app))
    config = folder / "ssh"
    config.write_text(f"Host *\n  User ann\nInclude {lab.ssh_config}\n")
    try:
        healed(lab, one)
        yield config
    finally:
        shutil.rmtree(lab.site / "apps")
        shutil.copytree(kept, lab.site, dirs_exist_ok=True)
        healed(lab, one)


def healed(lab: Lab, one: Host) -> None:
    lab.generate_secrets()
    outcome = apply(one)
    assert outcome.ok, explain(outcome)


def verified(
    lab: Lab, config: Path, *words: str
) -> tuple[subprocess.CompletedProcess[str], dict[tuple[str, str], set]]:
    """Run bin/verify as a person would; what it said, and for each host and role the tests that failed."""
    report = config.parent / "verify.xml"
    command = [ROOT / "bin/verify", lab.site, "--read-only", "--ssh-config", config, "--junit", report, *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    failed: dict[tuple[str, str], set] = {}
    for case in ElementTree.parse(report).getroot().iter("testcase"):
        about = {one.get("name"): one.get("value") for one in case.iter("property")}
        found = failed.setdefault((about["host"], about["role"]), set())
        if case.find("failure") is not None or case.find("error") is not None:
            found.add(case.get("name", "").partition("[")[0])
    return done, failed


def test_a_site_with_other_apps_ports_and_time_zone_is_verified(lab: Lab, one: Host, foreign: Path) -> None:
    done, failed = verified(lab, foreign)
    assert done.returncode == 0, done.stdout
    roles = lab.fleet["hosts"][one.id]["roles"]
    assert failed == {(one.id, role): set() for role in roles}
    for role in roles:
        assert re.search(rf"^{one.id} +{role} +[1-9]\d* +0 +\d+$", done.stdout, re.MULTILINE), role


def test_one_thing_broken_for_each_role_is_found_with_its_reason(lab: Lab, one: Host, foreign: Path) -> None:
    roles = lab.fleet["hosts"][one.id]["roles"]
    assert set(BROKEN) == {*roles}
    tests = {role: test.partition("[")[0] for role, (_, test) in BROKEN.items()}
    for how, _ in BROKEN.values():
        broken = one.execute(["sh", "-c", how], capture=True)
        assert broken.returncode == 0, broken.stdout + broken.stderr
    try:
        done, failed = verified(lab, foreign, "-k", " or ".join(tests.values()))
    finally:
        healed(lab, one)
    assert done.returncode == 1, done.stdout
    assert {role: failed[one.id, role] for role in roles} == {role: {test} for role, test in tests.items()}
    for _, test in BROKEN.values():
        assert re.search(rf"^  ✗ {re.escape(test.rstrip(']'))}.*: \S", done.stdout, re.MULTILINE), test
    done, _ = verified(lab, foreign, "-k", " or ".join(tests.values()))
    assert done.returncode == 0, f"not mended by the apply: {done.stdout}"


@pytest.mark.slow("alone")
def test_what_ci_types_works_on_a_lab(lab: Lab, tmp_path: Path) -> None:
    """The plan and the apply of a change, then the job that looks at servers, as docs/ci/gitlab.yml has them."""
    jobs = yaml.safe_load((ROOT / "docs/ci/gitlab.yml").read_text())
    plan = [line.replace("--lab ci", f"--lab {lab.name}") for line in jobs["lab"]["script"] if "lab apply" in line]
    assert len(plan) == 2
    config, key = tmp_path / "ssh_config", tmp_path / "key"
    shutil.copy(lab.folder / "ssh/id_ed25519", key)
    servers = "\n".join(jobs["servers"]["script"]).replace("/tmp/ssh_config", str(config))
    servers = servers.replace("--junit verify.xml", f"--junit {tmp_path}/verify.xml")
    known = {"SSH_KEY": str(key), "SSH_KNOWN_HOSTS": str(lab.folder / "ssh/known_hosts"), "SITE": str(lab.site)}
    for script in ("\n".join(plan), servers):
        command = ["bash", "-ec", script]
        done = subprocess.run(command, cwd=ROOT, env=os.environ | known, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
    assert config.read_text().startswith("Host *\n"), "the job has written its own way to the servers"
    assert ElementTree.parse(tmp_path / "verify.xml").getroot().find("testsuite") is not None
