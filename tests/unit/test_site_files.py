"""The files around the models: defaults, pillar files by minion id, the reference, the execution module."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
import yaml
from test_site_good import REPOSITORY, SINGLE, good, load_written, write_site

from saltern.site import reference
from saltern.site.explain import describe
from saltern.site.layout import pillar_files
from saltern.site.load import load_site
from saltern.site.roles import MODELS, ROLES
from saltern.site.secrets import generate_secrets
from tests.unit.contracts import load


def test_each_role_has_a_model_and_defaults_for_exactly_its_keys() -> None:
    assert tuple(MODELS) == ROLES
    files = {path.stem for path in (REPOSITORY / "pillar").glob("*.sls")} - {"top"}
    assert files == set(ROLES)
    for role, model in MODELS.items():
        content = (REPOSITORY / "pillar" / f"{role}.sls").read_text()
        assert content.startswith("#!yaml\n"), "read without Salt too, so no Jinja"
        defaults = yaml.safe_load(content)
        assert list(defaults) == [role]
        assert list(defaults[role]) == list(model.model_fields)
        model.model_validate(defaults[role])


def test_every_key_is_described() -> None:
    page = reference.reference()
    rows = [line for line in page.splitlines() if line.startswith("| `")]
    assert len(rows) > 40
    for row in rows:
        cells = row.strip("| ").split(" | ")
        assert len(cells) == 4, row
        assert cells[3].endswith("."), row
        assert "nothing" not in cells[1], row


def test_the_reference_is_up_to_date() -> None:
    assert reference.PAGE.read_text() == reference.reference(), "make it anew: make reference"


def test_bounds_are_told_in_words() -> None:
    field = MODELS["postgres"].model_fields["memory_mb"]
    assert describe(field.annotation, field.metadata) == "a whole number, 128 to 16777216, or null"


def test_the_guide_shows_each_key_of_an_app() -> None:
    guide = (REPOSITORY / "docs" / "site.md").read_text()
    assert "reference/settings.md" in guide
    for name in ("fleet.yaml", "settings.yaml", "apps/", "secrets/shared.yaml", "site.check", "site.generate_secrets"):
        assert name in guide, name


def test_fleet_single_is_good() -> None:
    site = load_site(SINGLE, repository=REPOSITORY)
    assert list(site.fleet.hosts) == ["app1"]
    assert "secrets/*" in (SINGLE / ".gitignore").read_text().splitlines()


def test_pillar_files_follow_the_minion_id(tmp_path: Path) -> None:
    site = load_written(tmp_path, good())
    assert pillar_files(site.path, "web1") == ["base", "web"]
    generate_secrets(site)
    assert pillar_files(site.path, "web1") == ["base", "web", "secrets.web1"]
    assert pillar_files(site.path, "data1") == ["base", "builder", "postgres", "redis", "secrets.data1"]


@pytest.mark.parametrize(
    "minion_id", ["nobody", "", "*", "web*", "../site/secrets/web1", "ca", "shared", "web1.shop.test"]
)
def test_a_stranger_gets_no_file(tmp_path: Path, minion_id: str) -> None:
    site = load_written(tmp_path, good())
    generate_secrets(site)
    assert pillar_files(site.path, minion_id) == []


def test_roles_cannot_name_other_pillar_files(tmp_path: Path) -> None:
    files = good()
    files["fleet.yaml"]["hosts"]["web1"]["roles"] = ["base", "secrets.web2", "top", "../etc", 5, None]
    generate_secrets(load_written(tmp_path, good()))
    assert pillar_files(write_site(tmp_path, files), "web1") == ["base", "secrets.web1"]


@pytest.mark.parametrize(
    "content", ["a: [", "", "[]", "hosts: 5", "hosts: {web1: }", "hosts: {web1: {roles: web}}", "\x00"]
)
def test_a_broken_fleet_gives_no_second_error(tmp_path: Path, content: str) -> None:
    assert pillar_files(write_site(tmp_path, {"fleet.yaml": content}), "web1") == []


def test_a_broken_secrets_file_is_kept_from_salt(tmp_path: Path) -> None:
    site = load_written(tmp_path, good())
    generate_secrets(site)
    (site.path / "secrets" / "web1.sls").write_text("#!yaml\nsecrets: {a: b\n")
    assert "secrets.web1" not in pillar_files(site.path, "web1")
    (site.path / "secrets" / "web1.sls").write_text("#!yaml|gpg\nsecrets: {a: b\n")
    assert "secrets.web1" in pillar_files(site.path, "web1"), "only Salt can tell"


@pytest.fixture
def module() -> ModuleType:
    spec = importlib.util.spec_from_file_location("saltern_test_site_module", REPOSITORY / "_modules" / "site.py")
    assert spec and spec.loader
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


def test_the_site_directory_is_the_configured_one(module: ModuleType) -> None:
    assert module.site_directory({"ext_pillar": [{"git": []}, {"saltern": {"site": "/x"}}]}) == Path("/x")
    assert module.site_directory({"ext_pillar": [{"saltern": None}]}) == Path("site")
    assert module.site_directory({}) == Path("site")


def test_check_and_generate_by_the_execution_module(module: ModuleType, tmp_path: Path) -> None:
    salt_exceptions = pytest.importorskip("salt.exceptions")
    files = good()
    files["apps/web-shop.yaml"]["source"]["directory"] = str(tmp_path / "shop")
    path = write_site(tmp_path, files)
    with pytest.raises(salt_exceptions.CommandExecutionError, match="web1 has no secrets"):
        module.check(str(path))
    assert len(module.generate_secrets(str(path))["changes"]) == 6
    assert module.generate_secrets(str(path)) == {"changes": [], "comment": f"{path}/secrets: all there, nothing to do"}
    assert module.check(str(path)) == f"{path}: no errors in 4 hosts and 2 apps"


def test_on_a_minion_of_a_master_the_module_does_not_load(module: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    assert module.__virtual__() == "site"
    monkeypatch.setattr(module, "PACKAGE", Path("/nonexistent"))
    loaded, reason = module.__virtual__()
    assert not loaded
    assert "whole repository" in reason


def test_the_package_imports_nothing_heavy_by_itself() -> None:
    """Salt only logs a pillar module that does not import, and would go on without it."""
    code = "import sys, saltern; sys.exit('pydantic' in sys.modules or 'yaml' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, env={"PYTHONPATH": str(REPOSITORY)})


def test_the_external_pillar_counts_a_relative_site_from_the_current_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = good()
    files["apps/web-shop.yaml"]["source"]["directory"] = str(tmp_path / "shop")
    site = load_written(tmp_path, files)
    generate_secrets(site)
    secrets = yaml.safe_load((site.path / "secrets" / "web1.sls").read_text())
    monkeypatch.chdir(tmp_path)
    saltern = load("_pillar", "saltern")
    assert saltern.ext_pillar("web1", secrets, "site")["host"]["address"] == "10.0.0.2"
    assert saltern.ext_pillar("web1", secrets)["host"]["id"] == "web1"
    answer = saltern.ext_pillar("web9", secrets)
    assert list(answer) == ["_errors"]
    assert len(answer["_errors"]) == 1
    assert "  site/fleet.yaml: hosts: " in answer["_errors"][0]


def test_the_sites_own_commands_see_no_pillar_and_no_errors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    saltern = load("_pillar", "saltern")
    for function, expected in (("site.check", False), ("site.generate_secrets", False), ("state.apply", True)):
        monkeypatch.setattr(saltern, "__opts__", {"fun": function})
        assert bool(saltern.ext_pillar("web1", {})) is expected
