"""Each kind of secret is replaced while visitors ask without pause: none of their requests fails."""

from __future__ import annotations

import json
import shlex
import subprocess
import time
from pathlib import Path

import pytest
import yaml

from lab import served
from lab.apply import apply, explain
from lab.host import ENVIRONMENT, Host
from lab.images import REPOSITORY_ON_HOST
from lab.lab import Lab
from lab.load import FEW, Load

# One of them on each release in the test that has samples of what is slow, all of them in `bin/lab test scenarios`.
SLOW = pytest.mark.slow("no sample")
OLD_ENVIRONMENT = "/run/rotate-test.env"


@pytest.fixture(scope="module")
def host(writes_site: Host) -> Host:
    return writes_site


def rotate(host: Host, *words: str, kill_at: str = "") -> subprocess.CompletedProcess[str]:
    command = ["salt-call", "--out=json", "site.rotate", *words]
    environment = ENVIRONMENT | ({"SALTERN_KILL_AT": kill_at} if kill_at else {})
    argv = host.argv(command, cwd=str(REPOSITORY_ON_HOST))
    return subprocess.run(argv, env=environment, capture_output=True, text=True, check=False)


def rotated(host: Host, *words: str) -> list[str]:
    done = rotate(host, *words)
    assert done.returncode == 0, done.stdout + done.stderr
    return list(json.loads(done.stdout)["local"])


def front_door(lab: Lab) -> Load:
    return Load(served.pages(lab.site)[0], served.ca_file(lab.site), dict(FEW))


def sh(host: Host, command: str) -> subprocess.CompletedProcess[str]:
    return host.execute(["sh", "-c", command], capture=True)


def keep_environment(host: Host) -> None:
    """Keep what the release that serves knows, to try it when it is to be good no more."""
    release = "$(basename $(readlink /srv/apps/demo/current.sock) .sock)"
    command = f"umask 077; cat /srv/apps/demo/releases/{release}/env > {OLD_ENVIRONMENT}"
    assert sh(host, command).returncode == 0


def logs_in(host: Host, variable: str, file: str = OLD_ENVIRONMENT) -> bool:
    """Whether the URL in a variable is let in by its daemon."""
    python = "/srv/apps/demo/releases/$(basename $(readlink /srv/apps/demo/current.sock) .sock)/venv/bin/python"
    tries = {
        "DATABASE_URL": "import psycopg; psycopg.connect(url).execute('SELECT 1')",
        "CACHE_URL": "import redis; redis.Redis.from_url(url, **tls).ping()",
    }
    script = "import sys, re; url = dict(re.findall(r'^([^=]+)=\"(.*)\"$', sys.stdin.read(), re.M))[sys.argv[1]]; "
    script += "tls = {'ssl_ca_certs': '/etc/saltern/tls/ca.crt'} if url.startswith('rediss') else {}; "
    # libpq knows it by another name.
    script += "url = url.replace('postgres://', 'postgresql://', 1); " + tries[variable]
    return sh(host, f"{python} -c {shlex.quote(script)} {variable} < {file}").returncode == 0


def proven(load: Load) -> None:
    assert load.failures == [], load.failures[:5]
    assert len(load.answers) > 60, "too few requests to prove anything"


@pytest.mark.parametrize(
    ("kind", "variable"),
    [
        pytest.param("database", "DATABASE_URL", marks=pytest.mark.slow("trixie")),
        pytest.param("redis", "CACHE_URL", marks=SLOW),
        pytest.param("owner", None, marks=SLOW),
    ],
)
def test_a_password_is_replaced_and_no_request_is_lost(
    lab: Lab, host: Host, kind: str, variable: str | None, record_property
) -> None:
    keep_environment(host)
    assert variable is None or logs_in(host, variable), "else that it is refused later proves nothing"
    load = front_door(lab)
    with load.running():
        time.sleep(2)
        began = time.monotonic()
        assert rotated(host, "demo", kind) == [f"apps.demo.{kind}_password: replaced; the old one is good nowhere"]
        record_property("seconds", round(time.monotonic() - began))
        time.sleep(2)
    proven(load)
    assert variable is None or not logs_in(host, variable), "the old one is good still"
    settled = apply(host, plan=True)
    assert settled.ok and settled.changed == [], explain(settled)


@SLOW
@pytest.mark.parametrize("killed_at", ["both are handed out", "both are good", "the old one is crossed out"])
def test_a_rotation_that_is_killed_goes_on(lab: Lab, host: Host, killed_at: str) -> None:
    load = front_door(lab)
    with load.running():
        time.sleep(1)
        assert rotate(host, "demo", "database", kill_at=killed_at).returncode
        time.sleep(2)
        rotated(host, "demo", "database")
    proven(load)


@SLOW
def test_a_password_changed_by_hand_loses_no_request(lab: Lab, host: Host) -> None:
    """What the docs said, and what failed half of all requests for a minute: edit, generate, apply."""
    path = lab.site / "secrets/shared.yaml"
    load = front_door(lab)
    with load.running():
        time.sleep(2)
        data = yaml.safe_load(path.read_text())
        data["apps"]["demo"] |= {"database_password": "a-word-of-my-own-1", "redis_password": "a-word-of-my-own-2"}
        path.write_text(yaml.safe_dump(data))
        lab.generate_secrets()
        outcome = apply(host)
        assert outcome.ok, explain(outcome)
        for kind in ("database", "redis"):
            rotated(host, "demo", kind)
    proven(load)
    assert "previous" not in yaml.safe_load(path.read_text())["apps"]["demo"]


@SLOW
def test_a_session_outlives_the_key_that_signed_it(lab: Lab, host: Host) -> None:
    def signed(code: str) -> str:
        command = ["salt-call", "--out=json", "django.manage", "demo", f"shell -c {shlex.quote(code)}"]
        done = host.execute(command, capture=True, cwd=str(REPOSITORY_ON_HOST))
        return str(json.loads(done.stdout)["local"]["output"])

    token = signed("from django.core import signing; print('TOKEN ' + signing.dumps('me'))").partition("TOKEN ")[2]
    check = f"from django.core import signing; print('SAID ' + signing.loads({token.split()[0]!r}))"
    load = front_door(lab)
    with load.running():
        time.sleep(2)
        (said,) = rotated(host, "demo", "secret_key")
        assert "The old one is good until" in said
        assert "SAID me" in signed(check)
        (said,) = rotated(host, "demo", "secret_key", "finish=True")
        assert "good nowhere" in said
        assert "BadSignature" in signed(check)
    proven(load)


@pytest.mark.slow("bookworm")
def test_the_authority_and_all_certificates_are_replaced(lab: Lab, host: Host, record_property) -> None:
    """Killed once on its way, so that the visitors here can be told of the new authority, as browsers are."""
    load = front_door(lab)
    with load.running():
        time.sleep(2)
        began = time.monotonic()
        assert rotate(host, "ca", kill_at="two authorities are trusted").returncode
        load.context.load_verify_locations(Path(lab.site / "secrets/ca.next/ca.crt"))
        rotated(host, "ca")
        record_property("seconds", round(time.monotonic() - began))
        time.sleep(2)
    proven(load)
    assert served.get(load.page, served.ca_file(lab.site))[0] == 200, "the new authority alone is enough"
    assert sh(host, "grep -c BEGIN /etc/saltern/tls/ca.crt").stdout.strip() == "1"


@SLOW
def test_certificates_of_host_and_edge_and_the_key_of_builds_are_replaced(lab: Lab, host: Host) -> None:
    load = front_door(lab)
    with load.running():
        time.sleep(2)
        for what in ("edge", "tls"):
            assert any("asked for" in line for line in rotated(host, what))
        assert "replaced" in rotated(host, "build_key")[0]
    proven(load)


@SLOW
def test_an_apply_that_is_refused_leaves_old_release_and_old_secret_good(lab: Lab, host: Host) -> None:
    """The new release cannot answer well: its page is asked for a status that it never has."""
    keep_environment(host)
    load = front_door(lab)
    serving = sh(host, "readlink /srv/apps/demo/current.sock").stdout
    unwell = "mkdir -p /run/systemd/system/app-demo@.service.d && printf '[Service]\\nEnvironmentFile=/dev/null\\n"
    unwell += "Environment=ALLOWED_HOSTS=nobody.test\\nExecStartPre=/bin/false\\n' "
    unwell += "> /run/systemd/system/app-demo@.service.d/unwell.conf && systemctl daemon-reload"
    with load.running():
        time.sleep(2)
        assert sh(host, unwell).returncode == 0
        try:
            refused = rotate(host, "demo", "database")
        finally:
            sh(host, "rm -r /run/systemd/system/app-demo@.service.d && systemctl daemon-reload")
        assert refused.returncode and "serves on" in refused.stdout + refused.stderr, refused.stdout + refused.stderr
        assert sh(host, "readlink /srv/apps/demo/current.sock").stdout == serving
        assert logs_in(host, "DATABASE_URL"), "the old one is good"
        rotated(host, "demo", "database")
    proven(load)
