"""The site through Salt itself: a good one reaches the states, a bad one stops them, and grains change nothing."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT, Masterless

ROLES = ["base", "builder", "postgres", "redis", "web", "worker", "edge"]


def pillar(masterless: Masterless, host: str = "app1", **more: Any) -> dict[str, Any]:
    done = masterless.call("pillar.raw", host=host, release="trixie", **more)
    assert done.returncode == 0, done.stdout + done.stderr
    return dict(json.loads(done.stdout)["local"])


def apply(masterless: Masterless, host: str = "app1") -> subprocess.CompletedProcess:
    return masterless.call("state.apply", "test=True", host=host, release="trixie")


def add_host(masterless: Masterless, name: str, roles: str) -> None:
    fleet = masterless.root / "site" / "fleet.yaml"
    fleet.write_text(f"{fleet.read_text()}  {name}:\n    address: 10.77.0.99\n    roles: {roles}\n")


def generate(masterless: Masterless) -> list[str]:
    done = masterless.call("site.generate_secrets", host="app1", release="trixie")
    assert done.returncode == 0, done.stdout + done.stderr
    assert not done.stderr.strip(), done.stderr
    return list(json.loads(done.stdout)["local"]["changes"])


def test_a_host_gets_its_sections_from_all_files(masterless: Masterless) -> None:
    found = pillar(masterless)
    assert sorted(found) == sorted([*ROLES, "version", "fleet", "host", "apps", "wiring", "secrets"])
    assert found["host"]["roles"] == ROLES
    assert found["postgres"]["memory_mb"] == 1024, "settings.yaml lies over pillar/postgres.sls"
    assert found["postgres"]["port"] == 5432
    environment = found["wiring"]["apps"]["demo"]["environment"]
    assert found["secrets"]["apps"]["demo"]["database_password"] in environment["DATABASE_URL"]


def test_a_list_of_the_site_replaces_the_default(masterless: Masterless) -> None:
    """Salt merges the result over the defaults; a list must not grow by that."""
    found = pillar(masterless)
    assert found["host"]["roles"] == ROLES
    assert len(found["apps"]["demo"]["hostnames"]) == 1


def test_a_host_sees_no_secret_of_another(masterless: Masterless) -> None:
    add_host(masterless, "log1", "[base]")
    generate(masterless)
    app, log = pillar(masterless), pillar(masterless, "log1")
    assert list(log["secrets"]) == ["tls"]
    assert sorted(set(log) & set(ROLES)) == ["base"]
    told = json.dumps(log)
    for secret in (
        *app["secrets"]["apps"]["demo"].values(),
        app["secrets"]["tls"]["key"],
    ):
        assert json.dumps(secret).strip('"') not in told


def test_forged_grains_change_nothing(masterless: Masterless) -> None:
    add_host(masterless, "log1", "[base]")
    generate(masterless)
    honest = pillar(masterless, "log1")
    forged = {
        "id": "app1",
        "host": "app1",
        "fqdn": "app1.saltern.test",
        "nodename": "app1",
        "roles": ROLES,
        "role": "postgres",
    }
    assert pillar(masterless, "log1", grains=forged) == honest


@pytest.mark.parametrize(
    ("file", "old", "new", "words"),
    [
        (
            "fleet.yaml",
            "postgres,",
            "postgress,",
            ["site/fleet.yaml:7: hosts.app1.roles.2", 'did you mean "postgres"?'],
        ),
        ("fleet.yaml", "name: single", "name: [", ["site/fleet.yaml:", "not valid YAML"]),
        ("fleet.yaml", "app1:", "app2:", ['the minion id "app1" is not in the fleet', "did you mean", "app2"]),
        ("apps/demo.yaml", "hostnames:", "hostname:", ["site/apps/demo.yaml:4: hostname", '"hostnames"']),
        ("settings.yaml", "1024", "true", ["site/settings.yaml:3: postgres.memory_mb", "true/false"]),
    ],
)
def test_a_bad_site_stops_before_any_state(
    masterless: Masterless, file: str, old: str, new: str, words: list[str]
) -> None:
    path = masterless.root / "site" / file
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))
    done = apply(masterless)
    assert done.returncode != 0
    answer = json.loads(done.stdout)["local"]
    assert isinstance(answer, list), "messages, not states"
    assert answer[0] == "Pillar failed to render with the following messages:"
    assert len(answer) == 2, "one text, and no error that follows from it"
    assert [word for word in words if word not in answer[1]] == []
    assert "Traceback" not in done.stdout + done.stderr
    assert masterless.call("state.show_top", host="app1", release="trixie").returncode != 0


def test_all_errors_are_on_lines_of_their_own(masterless: Masterless) -> None:
    site = masterless.root / "site"
    (site / "settings.yaml").write_text("web: {port: 0}\nreddis: {}\n")
    (site / "apps" / "other.yaml").write_text("source: {directory: demo}\n")
    lines = json.loads(apply(masterless).stdout)["local"][1].splitlines()
    assert lines[0] == "The site has 3 errors; nothing was changed:"
    assert [line.strip().split(": ")[0] for line in lines[1:]] == [
        "site/apps/other.yaml", "site/settings.yaml:1", "site/settings.yaml:2",
    ]  # fmt: skip


def test_without_secrets_nothing_is_applied_and_one_command_mends_it(masterless: Masterless) -> None:
    shutil.rmtree(masterless.root / "site" / "secrets")
    done = apply(masterless)
    assert done.returncode != 0
    assert "salt-call site.generate_secrets" in done.stdout
    assert generate(masterless)[0] == "ca/ca.crt: made"
    assert generate(masterless) == []
    assert pillar(masterless)["host"]["id"] == "app1"


def test_the_check_fails_with_the_list_and_succeeds_on_a_good_site(masterless: Masterless) -> None:
    good = masterless.call("site.check", host="app1", release="trixie")
    assert (good.returncode, json.loads(good.stdout)["local"]) == (0, "site: no errors in 1 host and 2 apps")
    (masterless.root / "site" / "settings.yaml").write_text("web: {port: 0}\n")
    bad = masterless.call("site.check", host="app1", release="trixie")
    assert bad.returncode != 0
    assert "site/settings.yaml:1: web.port" in bad.stdout + bad.stderr
    assert "Traceback" not in bad.stdout + bad.stderr


def test_a_pillar_package_that_cannot_be_imported_stops_the_apply(masterless: Masterless) -> None:
    """Salt alone would only log that."""
    for name in ("_pillar", "_modules", "saltern", "salt"):  # all ways by which Salt finds our package
        (masterless.root / name).unlink()
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / name, masterless.root / name, symlinks=True, ignore=ignored)
    (masterless.root / "saltern/site/errors.py").write_text("import no_such_module\n")
    done = apply(masterless)
    assert done.returncode != 0
    assert "no_such_module" in done.stdout


def test_broken_secrets_are_told_without_their_text(masterless: Masterless) -> None:
    path: Path = masterless.root / "site" / "secrets" / "app1.sls"
    path.write_text("#!yaml\nsecrets:\n  redis_password: canary-Zs9vq3\n  tls: [\n")
    done = apply(masterless)
    assert done.returncode != 0
    assert "site/secrets/app1.sls:5: not valid YAML" in done.stdout
    assert "canary" not in done.stdout + done.stderr
