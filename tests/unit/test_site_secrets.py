"""Secrets are made once, split by need, and renewed only when they must be."""

from __future__ import annotations

import dataclasses
import datetime
import stat
import threading
from pathlib import Path
from typing import Any

import pytest
import yaml
from cryptography import x509
from pydantic import ValidationError
from test_site_good import good, load_written, write_site

from saltern.site import certificates
from saltern.site.certificates import make_ca, make_leaf, subject_names
from saltern.site.checking import check_site
from saltern.site.errors import SiteError
from saltern.site.load import Site, load_site
from saltern.site.secretfile import Secrets, check_secrets
from saltern.site.secrets import generate_secrets


def read(site: Site, host: str) -> dict[str, Any]:
    data = yaml.safe_load((site.path / "secrets" / f"{host}.sls").read_text())
    assert list(data) == ["secrets"]
    return dict(data["secrets"])


def snapshot(site: Site) -> dict[str, tuple[str, int]]:
    folder = site.path / "secrets"
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {str(path.relative_to(folder)): (path.read_text(), path.stat().st_mtime_ns) for path in files}


def edit(site: Site, name: str, change: Any) -> None:
    path = site.path / "secrets" / name
    data = yaml.safe_load(path.read_text())
    change(data)
    head = "#!yaml\n" if name.endswith(".sls") else ""
    path.write_text(head + yaml.safe_dump(data))


@pytest.fixture
def site(tmp_path: Path) -> Site:
    made = load_written(tmp_path, good())
    generate_secrets(made)
    return made


def test_the_second_run_changes_nothing(site: Site) -> None:
    before = snapshot(site)
    assert generate_secrets(site) == []
    assert snapshot(site) == before


def test_only_the_owner_can_read(site: Site) -> None:
    folder = site.path / "secrets"
    for path in [folder, *folder.rglob("*")]:
        wanted = 0o700 if path.is_dir() else 0o600
        assert stat.S_IMODE(path.stat().st_mode) == wanted, path


def test_each_host_holds_what_its_roles_need(site: Site) -> None:
    assert {host: sorted(read(site, host)) for host in site.fleet.hosts} == {
        "front1": ["edge", "tls"],
        "web1": ["apps", "build_keys", "tls"],
        "web2": ["apps", "build_keys", "tls"],
        "data1": ["apps", "build_key", "build_keys", "tls"],
    }
    assert {key for app in read(site, "data1")["apps"].values() for key in app} == {
        "database_password",
        "owner_password",
        "redis_password",
        "logins",
    }
    needed = {"database_password", "owner_password", "redis_password", "secret_key", "logins"}
    assert {key for app in read(site, "web1")["apps"].values() for key in app} == needed


def test_builds_are_signed_by_one_host_and_known_by_those_that_install_them(site: Site) -> None:
    key = read(site, "data1")["build_key"]
    assert [host for host in site.fleet.hosts if key in (site.path / "secrets" / f"{host}.sls").read_text()] == [
        "data1"
    ]
    known = read(site, "data1")["build_keys"]
    assert len(known) == 1 and read(site, "web1")["build_keys"] == known
    path = site.path / "secrets/shared.yaml"
    shared = yaml.safe_load(path.read_text())
    shared["build_key"] = "a-key-that-somebody-has-chosen"  # the one before is known until site.rotate has ended
    path.write_text(yaml.safe_dump(shared))
    generate_secrets(site)
    assert read(site, "data1")["build_key"] != key
    assert read(site, "web1")["build_keys"] == [read(site, "data1")["build_keys"][0], *known]


def test_no_host_holds_a_key_of_another_or_of_the_ca(site: Site) -> None:
    texts = {host: (site.path / "secrets" / f"{host}.sls").read_text() for host in site.fleet.hosts}
    keys = {host: read(site, host)["tls"]["key"].split("\n")[1] for host in site.fleet.hosts}
    ca_key = (site.path / "secrets" / "ca" / "ca.key").read_text().split("\n")[1]
    for host, content in texts.items():
        assert [other for other, key in keys.items() if key in content] == [host]
        assert ca_key not in content


def test_the_edge_has_no_password(site: Site) -> None:
    shared = yaml.safe_load((site.path / "secrets" / "shared.yaml").read_text())
    passwords = [value for app in shared["apps"].values() for value in app.values()]
    assert len(passwords) == 8
    assert len(set(passwords)) == 8
    assert all(len(password) >= 43 for password in passwords)
    content = (site.path / "secrets" / "front1.sls").read_text()
    assert not any(password in content for password in passwords)


def test_certificates_are_for_the_right_names(site: Site) -> None:
    assert subject_names(read(site, "web1")["tls"]["cert"]) == {
        "web1", "web1.shop.test", "10.0.0.2", "127.0.0.1", "localhost",
    }  # fmt: skip
    assert subject_names(read(site, "front1")["edge"]["cert"]) == {"blog.test", "shop.test", "www.shop.test"}


def test_certificates_are_short_lived_and_signed_by_the_fleets_ca(site: Site) -> None:
    ca = x509.load_pem_x509_certificate(read(site, "web1")["tls"]["ca"].encode())
    for pem in (read(site, "web1")["tls"]["cert"], read(site, "front1")["edge"]["cert"]):
        leaf = x509.load_pem_x509_certificate(pem.encode())
        leaf.verify_directly_issued_by(ca)
        assert leaf.not_valid_after_utc - leaf.not_valid_before_utc == datetime.timedelta(days=90)
        assert not leaf.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    assert read(site, "front1")["edge"]["cert"].count("BEGIN CERTIFICATE") == 2, "a chain"


def test_a_new_app_adds_its_secrets_and_keeps_the_old(site: Site, tmp_path: Path) -> None:
    before = yaml.safe_load((site.path / "secrets" / "shared.yaml").read_text())
    key = read(site, "web1")["tls"]["key"]
    write_site(tmp_path, {"apps/wiki.yaml": {"source": {"directory": "shop"}, "hostnames": ["wiki.test"]}})
    grown = load_site(site.path, repository=tmp_path)
    done = generate_secrets(grown)
    after = yaml.safe_load((site.path / "secrets" / "shared.yaml").read_text())
    assert after["apps"].pop("wiki").keys() == {"database_password", "owner_password", "redis_password", "secret_key"}
    assert after == before
    assert read(grown, "web1")["tls"]["key"] == key
    assert "wiki.test" in subject_names(read(grown, "front1")["edge"]["cert"])
    assert any(line.startswith("front1.sls: edge (renewed: other names)") for line in done)
    assert generate_secrets(grown) == []


def test_a_removed_app_leaves_the_hosts_but_not_the_shared_file(site: Site, tmp_path: Path) -> None:
    (site.path / "apps" / "blog.yaml").unlink()
    smaller = load_site(site.path, repository=tmp_path)
    generate_secrets(smaller)
    assert list(read(smaller, "web1")["apps"]) == ["web-shop"]
    assert "blog" in yaml.safe_load((site.path / "secrets" / "shared.yaml").read_text())["apps"]


def test_a_role_that_moves_takes_its_secrets_along(site: Site, tmp_path: Path) -> None:
    files = good()
    files["fleet.yaml"]["hosts"]["web2"]["roles"] = ["base"]
    moved = load_written(tmp_path, files)
    generate_secrets(moved)
    assert list(read(moved, "web2")) == ["tls"]


def test_a_site_from_before_owners_had_passwords_gets_them(site: Site) -> None:
    before = yaml.safe_load((site.path / "secrets" / "shared.yaml").read_text())["apps"]["blog"]
    edit(site, "shared.yaml", lambda data: [app.pop("owner_password") for app in data["apps"].values()])
    for host in ("data1", "web1", "web2"):
        edit(site, f"{host}.sls", lambda data: [app.pop("owner_password") for app in data["secrets"]["apps"].values()])
    _, problems = check_secrets(read(site, "web1"), site.fleet, "web1", site.apps, "web1.sls")
    assert {problem.key for problem in problems} == {f"secrets.apps.{app}.owner_password" for app in site.apps}
    assert all("salt-call site.generate_secrets" in problem.message for problem in problems)
    generate_secrets(site)
    after = yaml.safe_load((site.path / "secrets" / "shared.yaml").read_text())["apps"]["blog"]
    assert {key for key in before if before[key] != after[key]} == {"owner_password"}
    assert read(site, "web1")["apps"]["blog"]["owner_password"] == after["owner_password"]


def test_a_password_changed_by_hand_is_kept_and_copied(site: Site) -> None:
    chosen = {"STRIPE": "chosen-by-a-person"}
    edit(site, "shared.yaml", lambda data: data["apps"]["blog"].update(env=chosen))
    assert generate_secrets(site) == [f"{host}.sls: apps written" for host in ("web1", "web2")]
    assert read(site, "web1")["apps"]["blog"]["env"] == chosen


def test_the_password_that_all_apps_shared_is_handed_to_nobody(site: Site) -> None:
    edit(site, "shared.yaml", lambda data: data.update(redis_password="of-the-time-before"))
    assert generate_secrets(site) == ["shared.yaml: redis_password taken out: each app has its own"]
    assert not [path for path in (site.path / "secrets").glob("*.sls") if "of-the-time-before" in path.read_text()]


def test_secret_variables_go_to_web_hosts_only(site: Site) -> None:
    edit(site, "shared.yaml", lambda data: data["apps"]["blog"].update(env={"TOKEN": "very-secret-token"}))
    generate_secrets(site)
    holders = [h for h in site.fleet.hosts if "very-secret-token" in (site.path / "secrets" / f"{h}.sls").read_text()]
    assert holders == ["web1", "web2"]


def test_a_file_for_another_renderer_is_left_alone(site: Site) -> None:
    path = site.path / "secrets" / "web1.sls"
    path.write_text("#!yaml|gpg\nsecrets: {}\n")
    assert generate_secrets(site) == ["web1.sls: left alone, its first line is not #!yaml"]
    assert path.read_text() == "#!yaml|gpg\nsecrets: {}\n"


def test_a_teams_own_edge_certificate_stays(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(certificates, "ORGANIZATION", "Some public CA")
    own = make_leaf(make_ca("x"), ["shop.test"])
    monkeypatch.undo()
    edit(site, "front1.sls", lambda data: data["secrets"].update(edge={"cert": own.cert, "key": own.key}))
    assert generate_secrets(site) == []
    assert read(site, "front1")["edge"]["cert"] == own.cert


def test_a_new_ca_renews_every_certificate(site: Site) -> None:
    (site.path / "secrets" / "ca" / "ca.crt").unlink()
    before = read(site, "front1")
    done = generate_secrets(site)
    assert sum("renewed" in line for line in done) == 4
    after = read(site, "front1")
    assert before["edge"]["cert"] != after["edge"]["cert"]
    assert before["tls"]["ca"] != after["tls"]["ca"]


@pytest.mark.parametrize("changes", ["another name", "a new host's file"])
def test_an_authority_that_has_ended_signs_nothing_and_one_line_says_what_to_do(
    site: Site, monkeypatch: pytest.MonkeyPatch, changes: str
) -> None:
    if changes == "another name":
        site = dataclasses.replace(site, fleet=site.fleet.model_copy(update={"domain": "other.test"}))
    else:
        (site.path / "secrets/web1.sls").unlink()
    now = certificates._now()
    monkeypatch.setattr(certificates, "_now", lambda: now + datetime.timedelta(days=certificates.CA_DAYS + 1))
    with pytest.raises(SiteError) as caught:
        generate_secrets(site)
    (problem,) = caught.value.problems
    assert problem.file.endswith("secrets/ca/ca.crt") and problem.key == "secrets.tls"
    assert "ended on" in problem.message and "remove this file" in problem.message
    (site.path / "secrets/ca/ca.crt").unlink()
    assert any("renewed" in line or "new" in line for line in generate_secrets(site))


def test_a_ca_without_key_stops(site: Site) -> None:
    (site.path / "secrets" / "ca" / "ca.key").unlink()
    with pytest.raises(SiteError, match="the CA's key is missing"):
        generate_secrets(site)


@pytest.mark.parametrize(
    ("part", "reason"), [("key", "the key is another one's"), ("cert", "the key is another one's")]
)
def test_a_key_of_another_certificate_is_found(site: Site, part: str, reason: str) -> None:
    other = read(site, "web2")["tls"][part]
    edit(site, "web1.sls", lambda data: data["secrets"]["tls"].update({part: other}))
    assert generate_secrets(site) == [f"web1.sls: tls (renewed: {reason}) written"]


def test_two_runs_at_once_agree(tmp_path: Path) -> None:
    site = load_written(tmp_path, good())
    results: list[list[str]] = []
    threads = [threading.Thread(target=lambda: results.append(generate_secrets(site))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(bool(done) for done in results) == [False, False, False, True]
    assert generate_secrets(site) == []


def test_a_killed_write_leaves_the_old_file(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    before = snapshot(site)
    edit_at = site.path / "secrets" / "shared.yaml"
    kept = edit_at.read_text()
    edit_at.write_text(kept.replace("owner_password: ", "owner_password: x"))

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("saltern.site.files.Path.replace", killed)
    with pytest.raises(KeyboardInterrupt):
        generate_secrets(site)
    monkeypatch.undo()
    after = snapshot(site)
    assert after.keys() == before.keys(), "no half-made file is left"
    assert {name: text for name, (text, _) in after.items() if name != "shared.yaml"} == {
        name: text for name, (text, _) in before.items() if name != "shared.yaml"
    }


def test_the_check_is_content_with_a_generated_site(tmp_path: Path) -> None:
    files = good()
    files["apps/web-shop.yaml"]["source"]["directory"] = str(tmp_path / "shop")
    site = load_written(tmp_path, files)
    with pytest.raises(SiteError) as raised:
        check_site(site.path)
    assert len(raised.value.problems) == len(site.fleet.hosts), "every host lacks its secrets, all told at once"
    generate_secrets(site)
    assert check_site(site.path).fleet == site.fleet


def test_the_check_finds_a_certificate_for_old_names(tmp_path: Path) -> None:
    files = good()
    files["apps/web-shop.yaml"]["source"]["directory"] = str(tmp_path / "shop")
    generate_secrets(load_written(tmp_path, files))
    files["fleet.yaml"]["hosts"]["web1"]["address"] = "10.0.0.99"
    with pytest.raises(SiteError, match=r"web1\.sls: secrets\.tls: other names; renew it: salt-call"):
        check_site(write_site(tmp_path, files))


def test_a_broken_secrets_file_is_told_by_line_without_its_text(tmp_path: Path) -> None:
    files = good()
    files["apps/web-shop.yaml"]["source"]["directory"] = str(tmp_path / "shop")
    site = load_written(tmp_path, files)
    generate_secrets(site)
    (site.path / "secrets" / "web1.sls").write_text("#!yaml\nsecrets: {redis_password: canary-Zs9vq3\n")
    with pytest.raises(SiteError) as raised:
        check_site(site.path)
    assert "web1.sls:3: not valid YAML" in str(raised.value)
    assert "canary" not in str(raised.value)


def test_a_folder_that_was_open_is_closed(site: Site) -> None:
    folder = site.path / "secrets"
    folder.chmod(0o755)
    generate_secrets(site)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_not_even_pydantics_own_text_shows_a_secret() -> None:
    """For a traceback that nobody thought of."""
    with pytest.raises(ValidationError) as raised:
        Secrets.model_validate({"tls": {"cert": "canary-Zs9vq3"}, "apps": {"x": {"redis_password": ["canary-Zs9vq3"]}}})
    assert "redis_password" in str(raised.value)
    assert "canary" not in str(raised.value)
