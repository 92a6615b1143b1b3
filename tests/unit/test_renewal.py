"""Certificates are made anew by their dates alone, wherever the clock stands, and by nobody who cannot sign."""

from __future__ import annotations

import datetime
import stat
from pathlib import Path
from typing import Any

import pytest
import yaml
from cryptography import x509
from test_site_good import good, load_written
from test_site_secrets import edit, read, snapshot

from saltern.site import certificates, renewal
from saltern.site.certificates import Pair, make_ca, make_leaf, must_renew
from saltern.site.checking import check_site
from saltern.site.compiled import host_pillar
from saltern.site.errors import SiteError
from saltern.site.load import Site
from saltern.site.renewal import due, is_apply, notices, renew_all, renewed
from saltern.site.rotation import CERTIFICATES
from saltern.site.secretfile import Secrets
from saltern.site.secrets import generate_secrets, host_names, make_authority, promote_ca
from tests.unit.contracts import load

TODAY = datetime.datetime.now(datetime.UTC)


@pytest.fixture
def site(tmp_path: Path) -> Site:
    files = good()
    files["apps/web-shop.yaml"]["source"]["directory"] = str(tmp_path / "shop")
    made = load_written(tmp_path, files)
    generate_secrets(made)
    return made


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Move the clock of certificates to some days from now."""

    def move(days: float) -> None:
        monkeypatch.setattr(certificates, "_now", lambda: TODAY + datetime.timedelta(days=days))

    return move


def days_left(site: Site, host: str, what: str = "tls") -> int:
    cert = x509.load_pem_x509_certificate(read(site, host)[what]["cert"].encode())
    return (cert.not_valid_after_utc - certificates._now()).days


def signed_by_ca(site: Site) -> Pair:
    return Pair(*((site.path / "secrets/ca" / name).read_text() for name in ("ca.crt", "ca.key")))


def test_every_certificate_of_the_secrets_is_watched() -> None:
    """The next one that is added must be renewed, warned of and rotated as well."""
    held = {name for name, field in Secrets.model_fields.items() if "Certificate" in str(field.annotation)}
    assert held == set(renewal.WHAT) == set(CERTIFICATES)


@pytest.mark.parametrize(
    ("days", "reason"),
    [
        (0, ""),
        (59, ""),
        (61, "28 of 90 days left"),
        (89, "0 of 90 days left"),
        (100, "ended on"),
        (4000, ""),  # the authority has ended, so a new one would be as bad
        (-0.2, ""),  # before the authority itself: it is this clock that is wrong
        (-4000, ""),
    ],
)
def test_by_the_clock(site: Site, clock: Any, days: float, reason: str) -> None:
    clock(days)
    found = due(read(site, "front1"))
    assert set(found) == (set(renewal.WHAT) if reason else set())
    assert all(text.startswith(reason) for text in found.values()), found
    done = renew_all(site)
    assert len(done) == (4 if reason else 0)
    if reason:
        assert days_left(site, "front1") == days_left(site, "front1", "edge") == 89
    assert renew_all(site) == [] and due(read(site, "front1")) == {}


def test_what_was_made_while_the_clock_was_ahead_is_made_anew(site: Site, clock: Any) -> None:
    clock(100)
    renew_all(site)
    clock(0)
    assert due(read(site, "web1"))["tls"].startswith("begins on")
    assert len(renew_all(site)) == 4
    assert days_left(site, "web1") == 89


def test_certificates_of_the_version_before_get_90_days(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(certificates, "LEAF_DAYS", 365)
    old = make_leaf(signed_by_ca(site), host_names(site, "web1"))
    monkeypatch.undo()
    edit(site, "web1.sls", lambda data: data["secrets"]["tls"].update(cert=old.cert, key=old.key))
    assert must_renew(signed_by_ca(site).cert, old, host_names(site, "web1")) == "valid for 365 days, not 90"
    with pytest.raises(SiteError, match=r"secrets\.tls: valid for 365 days, not 90; renew it: salt-call"):
        check_site(site.path)
    assert renew_all(site) == ["web1.sls: tls (renewed: valid for 365 days, not 90) written"]
    check_site(site.path)


def test_no_certificate_outlives_its_authority_nor_is_made_anew_each_day_at_its_end(site: Site, clock: Any) -> None:
    clock(3650 - 12)
    renew_all(site)
    assert days_left(site, "web1") == 12
    assert renew_all(site) == []
    clock(3650 - 10)
    assert renew_all(site) == []


def test_an_apply_keeps_what_it_makes_and_a_plan_does_not(site: Site, clock: Any) -> None:
    clock(70)
    before, old = snapshot(site), read(site, "front1")
    planned = renewed(site, "front1", old, keep=False)
    assert snapshot(site) == before
    assert {what for what in renewal.WHAT if planned[what]["cert"] != old[what]["cert"]} == set(renewal.WHAT)
    applied = renewed(site, "front1", old, keep=True)
    assert applied == read(site, "front1") and due(applied) == {}
    assert {key for key in old if old[key] != applied[key]} == {"tls", "edge"}
    assert old["tls"]["ca"] == applied["tls"]["ca"]
    assert due(read(site, "web1")), "an apply of one host is not an apply of another"
    assert stat.S_IMODE((site.path / "secrets/front1.sls").stat().st_mode) == 0o600
    host_pillar(site, "front1", applied)


def test_before_its_time_nothing_is_read_nor_written(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(renewal, "_authority", lambda site: pytest.fail("the authority's key is asked for"))
    held = read(site, "front1")
    assert renewed(site, "front1", held, keep=True) is held


def test_a_renewal_touches_nothing_else(site: Site, clock: Any) -> None:
    """Half an edit of shared.yaml must not become an overlap at night."""
    edit(site, "shared.yaml", lambda data: data["apps"]["blog"].update(database_password="half-typed-password"))
    shared = (site.path / "secrets/shared.yaml").read_text()
    clock(70)
    renew_all(site)
    renewed(site, "web1", read(site, "web1"), keep=True)
    assert (site.path / "secrets/shared.yaml").read_text() == shared
    assert "half-typed-password" not in (site.path / "secrets/web1.sls").read_text()


def without_key(site: Site) -> None:
    (site.path / "secrets/ca/ca.key").unlink()


def without_authority(site: Site) -> None:
    (site.path / "secrets/ca").rename(site.path / "secrets/ca.gone")


def with_another_authority(site: Site) -> None:
    """It signs already, and no host has been told of it."""
    make_authority(site.path / "secrets", "ca", "another")


def with_a_broken_vault(site: Site) -> None:
    (site.path / "secrets/readers.yaml").write_text("ann: age1x\n")


def with_a_key_of_nobody(site: Site) -> None:
    (site.path / "secrets/ca/ca.key").write_text("")


def with_an_older_key(site: Site) -> None:
    """As when only one of the two was put back from Git: what it signs is believed by nobody."""
    (site.path / "secrets/ca/ca.key").write_text(make_ca("of before").key)


BROKEN = [
    without_key, without_authority, with_another_authority, with_a_broken_vault,
    with_a_key_of_nobody, with_an_older_key,
]  # fmt: skip


@pytest.mark.parametrize("broken", BROKEN)
def test_where_nobody_can_sign_the_old_one_stays_and_it_is_told(site: Site, clock: Any, broken: Any) -> None:
    broken(site)
    clock(75)
    before, held = snapshot(site), read(site, "web1")
    for keep in (False, True):
        assert renewed(site, "web1", held, keep) == held
    assert snapshot(site) == before, "no authority is made, nothing is half written"
    pillar = host_pillar(site, "web1", held)
    (notice,) = pillar["wiring"]["renewal"]["notices"]
    assert notice.startswith("the certificate tls of web1 ends on") and "site.generate_secrets" in notice
    if broken is not with_another_authority:
        with pytest.raises(SiteError, match=r"ca\.key"):
            renew_all(site)


def test_while_the_authority_is_replaced_a_renewal_is_signed_by_the_one_that_signs(site: Site, clock: Any) -> None:
    folder = site.path / "secrets"
    make_authority(folder, "ca.next", "shop")
    generate_secrets(site)
    promote_ca(folder)
    clock(70)
    assert len(renew_all(site)) == 4
    assert must_renew(signed_by_ca(site).cert, Pair(*pair_of(site, "web1")), host_names(site, "web1")) == ""
    assert read(site, "web1")["tls"]["ca"].count("BEGIN") == 2


def pair_of(site: Site, host: str) -> tuple[str, str]:
    return read(site, host)["tls"]["cert"], read(site, host)["tls"]["key"]


def test_a_teams_own_certificate_is_never_touched_and_its_end_is_told(
    site: Site, clock: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(certificates, "ORGANIZATION", "Some public CA")
        own = make_leaf(make_ca("x"), ["shop.test"])
    edit(site, "front1.sls", lambda data: data["secrets"].update(edge={"cert": own.cert, "key": own.key}))
    clock(75)
    assert set(due(read(site, "front1"))) == {"tls"}
    renew_all(site)
    held = read(site, "front1")
    assert held["edge"]["cert"] == own.cert
    (notice,) = notices("front1", held)
    assert "edge of front1 ends on" in notice and "put its successor into secrets/front1.sls" in notice


def test_a_file_of_another_renderer_is_the_teams(site: Site, clock: Any) -> None:
    held = read(site, "web1")
    path = site.path / "secrets/web1.sls"
    path.write_text("#!yaml|gpg\n" + path.read_text().partition("\n")[2])
    clock(75)
    before = path.read_text()
    assert renewed(site, "web1", held, keep=True) == renewed(site, "web1", held, keep=False) == held
    assert not any("web1" in line for line in renew_all(site)) and path.read_text() == before


@pytest.mark.parametrize(("days", "told"), [(0, 0), (68, 0), (70, 1), (95, 1)])
def test_a_notice_comes_21_days_before_the_end(site: Site, clock: Any, days: int, told: int) -> None:
    clock(days)
    assert len(notices("web1", read(site, "web1"))) == told


def test_the_end_of_the_authority_is_told_before_certificates_get_shorter(site: Site, clock: Any) -> None:
    clock(3650 - 119)
    renew_all(site)
    (notice,) = notices("web1", read(site, "web1"))
    assert notice.startswith("the fleet's certificate authority ends on") and "salt-call site.rotate ca" in notice


@pytest.mark.parametrize(
    ("held", "found"),
    [
        (None, {}), ("text", {}), ({}, {}), ({"tls": None}, {}), ({"tls": {"cert": "x"}}, {}),
        ({"tls": {"ca": "no", "cert": "no", "key": "no"}, "edge": 3}, {}),
    ],
)  # fmt: skip
def test_what_is_no_certificate_is_told_by_the_check_and_not_here(held: Any, found: dict[str, str]) -> None:
    assert due(held) == found


@pytest.mark.parametrize(
    ("command", "applies"),
    [
        ("state.apply", True), ("state.apply base.renewal", True), ("state.highstate", True), ("state.sls web", True),
        ("state.apply test=False", True), ("state.apply test=0", True), ("state.apply pillar={} test=false", True),
        ("state.apply test=True", False), ("state.apply test=yes", False), ("state.apply test=1", False),
        ("state.apply mock=True", False), ("state.test", False), ("state.show_lowstate", False), ("", False),
        ("pillar.items", False), ("site.check", False), ("test.ping", False),
    ],
)  # fmt: skip
def test_what_is_an_apply(command: str, applies: bool) -> None:
    fun, *arg = command.split(" ")
    assert is_apply({"fun": fun, "arg": arg}) is applies
    assert is_apply({"fun": fun, "arg": arg, "test": True}) is (applies and "test=" in command)


def test_only_salt_call_renews_and_only_an_apply_keeps(site: Site, clock: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    pillar = load("_pillar", "saltern")
    monkeypatch.setattr(pillar, "_code", lambda: "")
    clock(70)
    secrets = yaml.safe_load((site.path / "secrets/web1.sls").read_text())
    before = snapshot(site)

    def compiled(**opts: Any) -> str:
        monkeypatch.setattr(pillar, "__opts__", opts)
        found = pillar.ext_pillar("web1", secrets, str(site.path))
        return str(found["secrets"]["tls"]["cert"])

    old = secrets["secrets"]["tls"]["cert"]
    assert compiled() == compiled(__cli="salt-master") == compiled(__cli="salt-ssh", fun="state.apply") == old
    assert compiled(__cli="salt-call", fun="state.apply", arg=["test=True"]) != old
    assert snapshot(site) == before
    kept = compiled(__cli="salt-call", fun="state.apply", arg=[])
    assert kept != old and kept == read(site, "web1")["tls"]["cert"]
