"""Certificates renew themselves while visitors ask: no request is lost, and nothing else changes."""

from __future__ import annotations

import datetime
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import yaml
from cryptography import x509

from lab import served
from lab.apply import apply, explain
from lab.host import Host
from lab.images import REPOSITORY_ON_HOST
from lab.lab import Lab
from lab.load import FEW, Load
from saltern.site import certificates
from saltern.site.certificates import Pair, make_leaf
from saltern.site.load import load_site
from saltern.site.secrets import edge_names, host_names, with_chain, write_host_file

PLACES = (
    "/etc/saltern/tls/host.crt",
    "/etc/postgresql/tls/host.crt",
    "/etc/redis/tls/host.crt",
    "/etc/haproxy/tls/edge.pem",
)


@pytest.fixture(scope="module")
def host(writes_site: Host, lab: Lab) -> Iterator[Host]:
    """At the end its certificates are as the clock of today has them."""
    yield writes_site
    lab.generate_secrets()


def sh(host: Host, command: str) -> str:
    done = host.execute(["sh", "-c", command], capture=True, cwd=str(REPOSITORY_ON_HOST))
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def held(lab: Lab, host: Host) -> dict[str, Any]:
    return dict(yaml.safe_load((lab.site / f"secrets/{host.id}.sls").read_text())["secrets"])


def age(lab: Lab, host: Host, days: int) -> None:
    """Give the host certificates that were made so many days ago."""
    site = load_site(lab.site)
    authority = Pair(*((lab.site / "secrets/ca" / name).read_text() for name in ("ca.crt", "ca.key")))
    secrets = held(lab, host)
    then = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=days)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(certificates, "_now", lambda: then)
        for what, names in {"tls": host_names(site, host.id), "edge": edge_names(site)}.items():
            pair = with_chain(make_leaf(authority, names), authority, what)
            secrets[what] |= {"cert": pair.cert, "key": pair.key}
    write_host_file(lab.site / f"secrets/{host.id}.sls", secrets)


def on_disk(host: Host) -> set[str]:
    """The days on which the certificates on the host end."""
    files = [(host.root / place.lstrip("/")).read_bytes() for place in PLACES]
    return {f"{x509.load_pem_x509_certificate(file).not_valid_after_utc:%Y-%m-%d}" for file in files}


def served_until(lab: Lab, host: Host) -> set[str]:
    """The days on which what the daemons show ends: HAProxy, nginx, Postgres, both of Redis."""
    found = set()
    for port, how in {443: "", 8080: "", 5432: "-starttls postgres", 6380: "", 6381: ""}.items():
        shown = f"openssl s_client -connect 127.0.0.1:{port} {how} </dev/null 2>/dev/null"
        end = sh(host, f"{shown} | openssl x509 -enddate -noout").strip().partition("=")[2]
        found.add(f"{datetime.datetime.strptime(end, '%b %d %H:%M:%S %Y %Z'):%Y-%m-%d}")
    return found


def fresh() -> str:
    return f"{datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=90, hours=-1):%Y-%m-%d}"


def front_door(lab: Lab) -> Load:
    return Load(served.pages(lab.site)[0], served.ca_file(lab.site), dict(FEW))


def proven(load: Load) -> None:
    assert load.failures == [], load.failures[:5]
    assert len(load.answers) > 40, "too few requests to prove anything"


def by_the_timer(host: Host) -> None:
    sh(host, "systemctl start saltern-certificates.service")


def by_an_apply(host: Host) -> None:
    outcome = apply(host)
    assert outcome.ok, explain(outcome)


def process_ids(host: Host) -> str:
    return sh(host, "systemctl show -P MainPID haproxy nginx 'postgresql@*' 'redis-server*'")


@pytest.mark.parametrize(
    "renew",
    [
        pytest.param(by_the_timer, marks=pytest.mark.slow("trixie")),
        pytest.param(by_an_apply, marks=pytest.mark.slow("bookworm")),
    ],
)
def test_a_certificate_whose_time_has_come_is_replaced_and_no_request_is_lost(
    lab: Lab, host: Host, renew: Callable[[Host], None], record_property
) -> None:
    age(lab, host, 65)
    by_an_apply_that_cannot_sign(lab, host)
    assert fresh() not in on_disk(host)
    settings = lab.site / "settings.yaml"
    before, daemons = settings.read_text(), process_ids(host)
    planned = apply(host, plan=True)
    assert planned.ok and set(PLACES) <= set(planned.changed), explain(planned)
    assert held(lab, host)["tls"]["cert"] == (host.root / PLACES[0].lstrip("/")).read_text(), "a plan keeps nothing"
    load = front_door(lab)
    try:
        if renew is by_the_timer:  # somebody is at work on the site: that is not what a timer applies
            settings.write_text(yaml.safe_dump((yaml.safe_load(before) or {}) | {"base": {"idle_minutes": 7}}))
        with load.running():
            time.sleep(1)
            began = time.monotonic()
            renew(host)
            record_property("seconds", round(time.monotonic() - began, 1))
            time.sleep(2)
    finally:
        settings.write_text(before)
    proven(load)
    assert on_disk(host) == served_until(lab, host) == {fresh()}
    assert process_ids(host) == daemons, "nothing restarts"
    assert "420" not in sh(host, "cat /etc/profile.d/saltern.sh")
    settled = apply(host, plan=True)
    assert settled.ok and settled.changed == [], explain(settled)


def by_an_apply_that_cannot_sign(lab: Lab, host: Host, must_work: bool = True) -> None:
    """Bring old certificates to the host; an apply that can sign would make new ones at once."""
    key = lab.site / "secrets/ca/ca.key"
    away = key.with_suffix(".away")
    key.rename(away)
    try:
        outcome = apply(host)
        assert outcome.ok or not must_work, explain(outcome)
    finally:
        away.rename(key)


ROOT_OF_REDIS = "REDISCLI_AUTH=$(cat /etc/redis/admin.pass) redis-cli --no-auth-warning --user saltern-admin"
LOST = "acl setuser saltern-admin resetpass '>another'"
#: What each daemon is broken by, so that a reload does nothing, and mended by; those that are stopped cannot say no.
BROKEN = {
    "redis-server": (f"{ROOT_OF_REDIS} -s /run/redis/admin.sock {LOST}", "true"),
    "redis-server@cache": (f"{ROOT_OF_REDIS} -s /run/redis-cache/admin.sock {LOST}", "true"),
    **{
        unit: tuple(f"kill -{signal} $(systemctl show -P MainPID '{unit}*')" for signal in ("STOP", "CONT"))
        for unit in ("postgresql@", "nginx", "haproxy")
    },
}


@pytest.mark.parametrize(
    "unit",
    [
        pytest.param(unit, marks=pytest.mark.slow("trixie" if unit == "redis-server" else "no sample"))
        for unit in BROKEN
    ],
)
def test_a_daemon_that_has_not_read_its_certificate_is_told_and_healed(lab: Lab, host: Host, unit: str) -> None:
    """The timer is red, nothing is recorded as read, and the next apply has it."""
    age(lab, host, 65)
    breaks, mends = BROKEN[unit]
    sh(host, breaks)
    try:
        done = host.execute(["systemctl", "start", "saltern-certificates.service"], capture=True)
    finally:
        sh(host, mends)
    assert done.returncode != 0 and sh(host, "systemctl show -P ActiveState saltern-certificates") == "failed\n"
    assert sh(host, "systemctl is-active saltern-certificates-again.timer") == "active\n"
    outcome = apply(host)
    assert outcome.ok and any(unit in name for name in outcome.changed), explain(outcome)
    assert on_disk(host) == served_until(lab, host) == {fresh()}
    sh(host, "systemctl stop saltern-certificates-again.timer; systemctl reset-failed saltern-certificates.service")
    settled = apply(host, plan=True)
    assert settled.ok and settled.changed == [], explain(settled)


@pytest.mark.slow("no sample")
def test_a_host_that_was_off_for_a_hundred_days_heals_by_an_apply_and_one_that_nobody_renews_says_so(
    lab: Lab, host: Host
) -> None:
    age(lab, host, 75)
    by_an_apply_that_cannot_sign(lab, host)
    (lab.site / "secrets/ca/ca.key").rename(lab.site / "secrets/ca/ca.away")
    try:
        told = sh(host, "salt-call state.test 2>&1")
    finally:
        (lab.site / "secrets/ca/ca.away").rename(lab.site / "secrets/ca/ca.key")
    assert f"the certificate tls of {host.id} ends on" in told, told[-2000:]
    age(lab, host, 100)
    by_an_apply_that_cannot_sign(lab, host, must_work=False)  # by now no app reaches its database
    assert on_disk(host) == served_until(lab, host) != {fresh()}
    outcome = apply(host)
    assert outcome.ok, explain(outcome)
    assert on_disk(host) == served_until(lab, host) == {fresh()}
    settled = apply(host, plan=True)
    assert settled.ok and settled.changed == [], explain(settled)
    load = front_door(lab)
    with load.running():
        time.sleep(3)
    assert load.failures == [], load.failures[:5]
