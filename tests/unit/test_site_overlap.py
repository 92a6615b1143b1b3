"""A secret is replaced by overlap: old and new are both good, for every kind, and whoever changes it."""

from __future__ import annotations

import datetime
import re
import ssl
from pathlib import Path
from typing import Any

import pytest
import yaml
from test_site_good import good, load_written, pillar_of
from test_site_secrets import edit, read

from saltern.site.apps import OWN_VARIABLES
from saltern.site.certificates import Pair, is_foreign, must_renew
from saltern.site.checking import check_site
from saltern.site.errors import SiteError
from saltern.site.load import Site
from saltern.site.names import roles_of
from saltern.site.overlap import KINDS, Held, Kind, begin, finish, held
from saltern.site.rotation import AUTHORITY, CERTIFICATES
from saltern.site.secretfile import AppSecrets, Secrets, Shared, SharedApp, check_secrets
from saltern.site.secrets import generate_secrets, host_names, make_authority, promote_ca, write_shared

BY_HAND = "changed-by-a-person-in-a-hurry"
# What stands in shared.yaml and has no rotation of its own, with the reason.
WITHOUT_ROTATION = {
    "env": "whoever issued them says how long the old one is good; the change is a release like any other",
    "previous": "what is being replaced, not a secret of its own",
    "logins": "no secret: which of two roles is in force",
    "ending": "no secret: what is being taken away",
    "apps": "holds the secrets of each app",
    "build_keys": "public halves of build_key",
    "redis_password": "from the time when all apps shared one; it is handed to nobody",
}
# Without a scenario of one host, with the reason; the unit tests here and in test_rotation.py have all of them.
WITHOUT_SCENARIO = {"replication": "needs a fleet with a replica, whose hosts others apply between the steps"}


@pytest.fixture
def site(tmp_path: Path) -> Site:
    files = good()
    files["apps/web-shop.yaml"]["source"]["directory"] = str(tmp_path / "shop")
    replica = {"address": "10.0.1.9", "roles": ["base", "postgres"], "replica_of": "data1"}
    files["fleet.yaml"]["hosts"]["data2"] = replica
    made = load_written(tmp_path, files)
    generate_secrets(made)
    return made


def shared_of(site: Site) -> dict[str, Any]:
    return dict(yaml.safe_load((site.path / "secrets/shared.yaml").read_text()))


def all_held(site: Site) -> list[Held]:
    return list(held(shared_of(site)))


def test_every_secret_of_the_model_has_a_rotation_or_a_reason() -> None:
    fields = {"apps": set(SharedApp.model_fields), "": set(Shared.model_fields)}
    kinds = {"apps": {k.key for k in KINDS if k.of_app}, "": {k.key for k in KINDS if not k.of_app}}
    for place, names in fields.items():
        assert names - kinds[place] <= set(WITHOUT_ROTATION), place
        assert kinds[place] <= names, place


def test_every_secret_of_a_host_is_one_of_those_that_have_a_rotation() -> None:
    rotated = {kind.key for kind in KINDS} | set(CERTIFICATES)
    assert set(Secrets.model_fields) <= rotated | set(WITHOUT_ROTATION)
    assert set(Secrets.model_fields["tls"].annotation.model_fields) == {"ca", "cert", "key"}, "ca: site.rotate ca"


def test_every_rotation_is_tried_under_load_or_says_why_not() -> None:
    scenario = (Path(__file__).resolve().parents[1] / "scenarios/test_rotate.py").read_text()
    words = {kind.name for kind in KINDS} | set(CERTIFICATES) | {AUTHORITY}
    assert {word for word in words if f'"{word}"' not in scenario} == set(WITHOUT_SCENARIO)
    docs = (Path(__file__).resolve().parents[2] / "docs/secrets.md").read_text()
    assert all(re.search(rf"`(APP )?{word}`", docs) for word in words)


def test_what_a_host_may_hold_of_an_app_is_what_the_shared_file_holds() -> None:
    assert set(AppSecrets.model_fields) == set(SharedApp.model_fields) - {"ending"}


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_an_edit_by_hand_becomes_an_overlap(site: Site, kind: Kind) -> None:
    (one, *_) = [one for one in all_held(site) if one.kind == kind]
    before = shared_of(site)
    old = one.place(before)[kind.key]
    edit(site, "shared.yaml", lambda data: one.place(data).update({kind.key: BY_HAND}))
    done = generate_secrets(site)
    assert any(f"{one.key} was changed by hand" in line and one.command in line for line in done), done
    after = shared_of(site)
    assert (one.place(after)[kind.key], one.old(after)) == (BY_HAND, old)
    holders = 0
    for host in site.fleet.hosts:
        part = one.place(read(site, host))
        if kind.key in part:
            holders += 1
            assert (part[kind.key], part["previous"][kind.key]) == (BY_HAND, old), host
            assert part.get("logins", {}).get(kind.name, 2) == 2, host
        else:
            assert kind.key not in part.get("previous", {}), host
    assert holders
    assert generate_secrets(site) == []
    # The hosts take it: nothing missing, nothing of others, and the copy of before is kept.
    check_site(site.path)
    kept = yaml.safe_load((site.path / "secrets/shared.yaml.last").read_text())
    assert one.place(kept)[kind.key] == BY_HAND
    finish(after, one)
    write_shared(site.path / "secrets", after)
    generate_secrets(site)
    texts = [path.read_text() for path in (site.path / "secrets").glob("*.sls")]
    assert not any(old in text for text in texts), "the old one is good nowhere"


@pytest.mark.parametrize("rotations", [1, 2])
@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind.login], ids=lambda kind: kind.name)
def test_an_older_file_that_is_put_back_gets_the_login_that_is_not_in_force(
    site: Site, kind: Kind, rotations: int
) -> None:
    (one, *_) = [one for one in all_held(site) if one.kind == kind]
    path = site.path / "secrets/shared.yaml"
    older = path.read_text()
    for number in range(rotations):
        data = shared_of(site)
        begin(data, one, f"a-new-one-of-the-tests-{number}", one.place(data)[kind.key])
        for end in (lambda: None, lambda data=data: finish(data, one)):
            end()
            write_shared(site.path / "secrets", data)
            generate_secrets(site)
    in_force = one.place(shared_of(site))
    path.write_text(older)
    generate_secrets(site)
    after = shared_of(site)
    assert one.old(after) == in_force[kind.key]
    assert one.place(after)["logins"][kind.name] == 3 - in_force["logins"][kind.name], "else who is at work is cut off"


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_a_second_edit_while_both_are_good_is_refused(site: Site, kind: Kind) -> None:
    (one, *_) = [one for one in all_held(site) if one.kind == kind]
    edit(site, "shared.yaml", lambda data: one.place(data).update({kind.key: BY_HAND}))
    generate_secrets(site)
    texts = {path: path.read_text() for path in (site.path / "secrets").glob("*.sls")}
    edit(site, "shared.yaml", lambda data: one.place(data).update({kind.key: "a-third-one-in-a-row"}))
    with pytest.raises(SiteError) as raised:
        generate_secrets(site)
    assert one.key in str(raised.value) and one.command in str(raised.value)
    assert "a-third" not in str(raised.value)
    assert texts == {path: path.read_text() for path in texts}, "hosts keep what is good"


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
@pytest.mark.parametrize("written", [0, 1, 2])
def test_a_run_killed_between_the_hosts_files_goes_on(
    site: Site, kind: Kind, written: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    from saltern.site import secrets

    (one, *_) = [one for one in all_held(site) if one.kind == kind]
    data = shared_of(site)
    begin(data, one, "new-" * 8, one.place(data)[kind.key])
    write_shared(site.path / "secrets", data)
    original, calls = secrets._host_file, 0

    def killed(*arguments: Any) -> None:
        nonlocal calls
        if calls == written:
            raise KeyboardInterrupt
        calls += 1
        original(*arguments)

    monkeypatch.setattr(secrets, "_host_file", killed)
    with pytest.raises(KeyboardInterrupt):
        generate_secrets(site)
    monkeypatch.undo()
    generate_secrets(site)
    assert shared_of(site) == data, "the overlap is the same one"
    assert all(
        one.place(read(site, host)).get("previous", {}).get(kind.key) == one.old(data)
        for host in site.fleet.hosts
        if kind.key in one.place(read(site, host))
    )


def test_an_old_signing_key_goes_by_itself_when_its_day_has_come(site: Site) -> None:
    one = next(one for one in all_held(site) if one.kind.name == "secret_key")
    data = shared_of(site)
    begin(data, one, "new-" * 8, one.place(data)["secret_key"])
    until = datetime.date.fromisoformat(one.place(data)["previous"]["secret_key_until"])
    assert 13 <= (until - datetime.date.today()).days <= 14
    write_shared(site.path / "secrets", data)
    generate_secrets(site)
    assert one.old(shared_of(site)), "not before"
    data["apps"][one.app]["previous"]["secret_key_until"] = datetime.date.today().isoformat()
    write_shared(site.path / "secrets", data)
    (first, *_) = generate_secrets(site)
    assert first == f"shared.yaml: {one.key}: the old one has gone"
    assert one.old(shared_of(site)) is None
    check_site(site.path)


def test_the_environment_has_the_login_in_force_and_both_keys(site: Site) -> None:
    before = pillar_of(site, "web1")["wiring"]["apps"]["blog"]
    assert "SECRET_KEY_FALLBACKS" not in before["environment"]
    old = before["environment"]["SECRET_KEY"]
    for key in ("database_password", "owner_password", "secret_key"):
        edit(site, "shared.yaml", lambda data, key=key: data["apps"]["blog"].update({key: BY_HAND}))
    after = pillar_of(site, "web1")["wiring"]["apps"]["blog"]
    environment = after["environment"]
    assert environment["DATABASE_URL"].startswith(f"postgres://blog__2:{BY_HAND}@")
    assert environment["REPLICA_URLS"].startswith(f"postgres://blog__2:{BY_HAND}@")
    assert after["migration_environment"]["DATABASE_URL"].startswith(f"postgres://blog_owner__2:{BY_HAND}@")
    assert (environment["SECRET_KEY"], environment["SECRET_KEY_FALLBACKS"]) == (BY_HAND, old)
    assert "SECRET_KEY_FALLBACKS" in OWN_VARIABLES


def test_the_pillar_says_which_login_is_in_force_in_any_case(site: Site) -> None:
    assert pillar_of(site, "data1")["secrets"]["apps"]["blog"]["logins"] == {"database": 1, "owner": 1}
    assert pillar_of(site, "data2")["secrets"]["logins"] == {"replication": 1}


def test_a_host_has_nothing_of_an_overlap_that_it_has_no_need_of(site: Site) -> None:
    secrets = read(site, "web1")
    secrets["previous"] = {"replication_password": BY_HAND}
    secrets["apps"]["blog"]["previous"] = {"owner_password": BY_HAND}
    _, problems = check_secrets(secrets, site.fleet, "web1", site.apps, "web1.sls")
    assert [problem.key for problem in problems] == ["secrets.previous.replication_password"]
    data = read(site, "data1")
    data["apps"]["blog"]["previous"] = {"secret_key": BY_HAND}
    _, problems = check_secrets(data, site.fleet, "data1", site.apps, "data1.sls")
    assert [problem.key for problem in problems] == ["secrets.apps.blog.previous.secret_key"]


def test_a_file_from_before_there_were_overlaps_is_read(site: Site) -> None:
    secrets = read(site, "web1")
    for app in secrets["apps"].values():
        del app["logins"]
    assert Secrets.model_validate(secrets).apps["blog"].logins.database == 1


@pytest.mark.parametrize("content", ["", "# nothing\n", "{}\n", None])
def test_an_empty_shared_file_never_means_new_passwords(site: Site, content: str | None) -> None:
    path = site.path / "secrets/shared.yaml"
    path.unlink() if content is None else path.write_text(content)
    before = {p.name: p.read_text() for p in (site.path / "secrets").glob("*.sls")}
    with pytest.raises(SiteError, match=r"is empty or missing, but hosts have passwords from it"):
        generate_secrets(site)
    assert before == {p.name: p.read_text() for p in (site.path / "secrets").glob("*.sls")}


def test_no_database_has_a_role_twice() -> None:
    assert len(set(roles_of("demo"))) == 4
    assert all(len(name) <= 63 for name in roles_of("x" * 54))


def test_two_authorities_are_trusted_while_one_replaces_the_other(site: Site) -> None:
    folder = site.path / "secrets"
    first = (folder / "ca/ca.crt").read_text()
    make_authority(folder, "ca.next", "shop")
    generate_secrets(site)
    trusted = read(site, "web1")["tls"]["ca"]
    assert len(re.findall("BEGIN CERTIFICATE", trusted)) == 2 and trusted.startswith(first)
    ssl.create_default_context(cadata=trusted)
    assert must_renew(first, pair_of(site), host_names(site, "web1")) == "", "nothing is signed by it yet"
    check_site(site.path)
    promote_ca(folder)
    generate_secrets(site)
    second = (folder / "ca/ca.crt").read_text()
    assert second != first and read(site, "web1")["tls"]["ca"] == second + first
    assert must_renew(second, pair_of(site), host_names(site, "web1")) == ""
    assert not is_foreign(pair_of(site))
    assert sorted(path.name for path in (folder / "ca.previous").iterdir()) == ["ca.crt"], "its key has gone"
    check_site(site.path)


def pair_of(site: Site) -> Pair:
    tls = read(site, "web1")["tls"]
    return Pair(tls["cert"], tls["key"])


@pytest.mark.parametrize("killed_at", ["rename", "rmtree"])
def test_a_promotion_killed_anywhere_is_finished_and_makes_no_third_authority(
    site: Site, killed_at: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = site.path / "secrets"
    make_authority(folder, "ca.next", "shop")
    old, new = (folder / "ca/ca.crt").read_text(), (folder / "ca.next/ca.crt").read_text()
    calls = []

    def rename(path: Path, target: Path) -> None:
        calls.append(target)
        if len(calls) == 2:
            raise KeyboardInterrupt
        path.replace(target)

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    if killed_at == "rename":
        monkeypatch.setattr("saltern.site.secrets.Path.rename", rename)
    else:
        monkeypatch.setattr("saltern.site.secrets.shutil.rmtree", killed)
    with pytest.raises(KeyboardInterrupt):
        promote_ca(folder)
    monkeypatch.undo()
    generate_secrets(site)
    assert (folder / "ca/ca.crt").read_text() == new
    assert (folder / "ca.previous/ca.crt").read_text() == old
    assert sorted(path.name for path in folder.iterdir() if path.name.startswith("ca")) == ["ca", "ca.previous"]


def test_certificates_are_made_anew_when_asked_for(site: Site) -> None:
    before = {host: read(site, host) for host in site.fleet.hosts}
    generate_secrets(site, renew=["edge"])
    assert read(site, "front1")["edge"] != before["front1"]["edge"]
    assert read(site, "front1")["tls"] == before["front1"]["tls"]
    generate_secrets(site, renew=["tls"])
    assert all(read(site, host)["tls"]["key"] != before[host]["tls"]["key"] for host in site.fleet.hosts)
