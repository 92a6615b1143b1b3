"""bin/verify: what it asks is the site's own, how it reaches hosts, what it tells, and how it ends."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest
import yaml

from debian import REPOSITORY, Refused
from lab import verify
from saltern.site.layout import DEFAULTS
from saltern.site.load import load_site
from saltern.site.roles import PORTS

HOST_TESTS = sorted((REPOSITORY / "tests/hosts").glob("*.py"))


def the_labs_own() -> list[str]:
    """Words that a host test can know only of the lab's example, or of a default that a site may change."""
    fleet = REPOSITORY / "lab/fleets/single"
    apps = [path.stem for path in (fleet / "apps").glob("*.yaml")]
    defaults = {role: yaml.safe_load((DEFAULTS / f"{role}.sls").read_text())[role] for role, _ in PORTS}
    ports = [str(defaults[role][name]) for role, name in PORTS if defaults[role][name] > 1023]
    return [*apps, *load_site(fleet).fleet.hosts, "saltern.test", "/srv/saltern", "notes", 'UTC"', "8080", *ports]


@pytest.mark.parametrize("path", HOST_TESTS, ids=lambda path: path.name)
def test_host_tests_know_nothing_of_the_labs_own_site(path: Path) -> None:
    text = path.read_text()
    shown = text.replace('r"/opt/saltern/salt-.*|/srv/saltern/(?!site/secrets).*', "")  # where a repository may lie
    known = [word for word in the_labs_own() if re.search(rf"(?<![\w.]){re.escape(word)}\b", shown)]
    assert known == [], "a site has other names, ports and paths: ask the fixtures site, fleet and apps"


def site_at(folder: Path, **settings: object) -> Path:
    """A site with one host of role base and one that is an edge and web host, without apps."""
    hosts = {
        "one": {"address": "192.0.2.11", "roles": ["base"]},
        "two-b": {"address": "192.0.2.12", "roles": ["base", "edge"]},
    }
    folder.mkdir()
    (folder / "fleet.yaml").write_text(yaml.safe_dump({"name": "shop", "domain": "example.org", "hosts": hosts}))
    if settings:
        (folder / "settings.yaml").write_text(yaml.safe_dump(settings))
    return folder


def ran(*words: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "lab.verify", *map(str, words)]
    env = {"PYTHONPATH": f"{REPOSITORY}:{REPOSITORY}/bin", "PATH": "/usr/bin:/bin", "HOME": str(cwd), "COLUMNS": "160"}
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=cwd, env=env)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["nowhere"], "does not exist"),
        (["site", "--host", "tow-b"], 'did you mean "two-b"'),
        (["site", "--ssh-config", "nowhere"], "--ssh-config nowhere: there is no such file"),
        (["site", "--ca", "nowhere"], "--ca nowhere: there is no such file"),
        (["site", "--ca", "site/fleet.yaml"], "holds no certificate"),
        (["site", "--junit", "nowhere/x.xml"], "no file can be written there"),
        (["site", "--junit", "site"], "no file can be written there"),
        (["site", "--reed-only"], "unrecognized arguments"),
        ([], "required: SITE"),
    ],
)
def test_bad_input_is_refused_in_one_sentence(
    words: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    site_at(tmp_path / "site")
    told = refused(words, tmp_path, monkeypatch, capsys)
    assert said in told
    assert len(told.splitlines()) == 1 or "usage:" in told or "The site has" in told


def refused(words: list[str], cwd: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> str:
    """What is said to somebody who asked wrongly."""
    monkeypatch.chdir(cwd)
    monkeypatch.setattr(sys, "argv", ["verify", *words])
    with pytest.raises(SystemExit) as ended:
        verify.main()
    assert ended.value.code == verify.USAGE
    return capsys.readouterr().err


def test_an_error_of_the_site_is_told_with_its_file_and_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    site_at(tmp_path / "site", web={"prot": 1})
    told = refused(["site"], tmp_path, monkeypatch, capsys)
    assert "settings.yaml" in told and "prot" in told and "port" in told


def test_a_word_that_no_test_has_is_refused(tmp_path: Path) -> None:
    site_at(tmp_path / "site")
    done = ran("site", "-k", "nothing_is_called_so", cwd=tmp_path)
    assert done.returncode == verify.USAGE and "-k nothing_is_called_so: no test" in done.stderr


def ssh_says(config: Path, host: str) -> dict[str, str]:
    done = subprocess.run(["ssh", "-F", config, "-G", host], capture_output=True, text=True, check=True)
    return dict(line.partition(" ")[::2] for line in done.stdout.splitlines())


def test_a_persons_ssh_configuration_comes_first_and_the_fleet_fills_what_it_leaves_open(tmp_path: Path) -> None:
    own, config = tmp_path / "own config", tmp_path / "config"
    own.write_text("Host two-b\n  HostName public.example.org\n  User deploy\n  Port 2222\n")
    config.write_text(verify.ssh_config(load_site(site_at(tmp_path / "site")), own))
    one, two = ssh_says(config, "one"), ssh_says(config, "two-b")
    assert (one["hostname"], one["user"], one["port"]) == ("192.0.2.11", "root", "22")
    assert (two["hostname"], two["user"], two["port"]) == ("public.example.org", "deploy", "2222")


@pytest.fixture(scope="module")
def unreached(tmp_path_factory: pytest.TempPathFactory) -> tuple[subprocess.CompletedProcess[str], Path]:
    """A run in which no host is reached, and the folder that it was typed in."""
    folder = tmp_path_factory.mktemp("unreached")
    site_at(folder / "site")
    (folder / "ssh").write_text("Host *\n  ProxyCommand false\n")
    return ran("site", "--ssh-config", "ssh", "--read-only", cwd=folder), folder


def test_hosts_that_are_not_reached_fail_with_the_reason_said_once(unreached) -> None:
    done, _ = unreached
    assert done.returncode == 1, done.stderr
    rows = [line for line in done.stdout.splitlines() if re.match(r"(one|two-b)\s", line)]
    assert [row.split()[:2] for row in rows] == [["one", "base"], ["two-b", "base"], ["two-b", "edge"]]
    whys = [line for line in done.stdout.splitlines() if line.startswith("  ✗ ")]
    assert len(whys) == 3 and all(why.startswith("  ✗ not reached: ssh ") for why in whys), whys
    assert done.stderr.count("not reached") == 2, "once for each host while it runs"
    assert re.search(r"^shop: 0 passed, [1-9]\d+ failed in \d+ s; verify.xml has all of it$", done.stdout, re.MULTILINE)
    assert "--read-only: this test" in done.stdout, "what was left out has its reason"


def test_the_report_for_ci_names_host_and_role_of_each_test(unreached) -> None:
    done, folder = unreached
    suite = ElementTree.parse(folder / "verify.xml").getroot().find("testsuite")
    assert suite is not None and suite.get("name") == "shop"
    cases = list(suite.iter("testcase"))
    told = [{one.get("name"): one.get("value") for one in case.iter("property")} for case in cases]
    assert {(one["host"], one["role"]) for one in told} == {("one", "base"), ("two-b", "base"), ("two-b", "edge")}
    assert int(suite.get("errors", 0)) + int(suite.get("failures", 0)) == sum(
        int(count) for count in re.findall(r"^(?:one|two-b) +\w+ +0 +(\d+)", done.stdout, re.MULTILINE)
    )


def test_the_command_prepares_itself_as_the_lab_does() -> None:
    """Both are Debian's python3 and the one function that makes the environment."""
    for name in ("lab", "verify"):
        text = (REPOSITORY / "bin" / name).read_text()
        assert "tools_python(" in text and "venv_from_lock" not in text
    assert shutil.which("ssh")
    helped = subprocess.run([REPOSITORY / "bin/verify", "--help"], capture_output=True, text=True, check=True)
    options = {flag for action in verify.parser()._actions for flag in action.option_strings}
    assert all(option in helped.stdout for option in options) and "Exit code" in helped.stdout


def test_a_labs_way_is_found_beside_its_site_and_refused_to_who_may_not_read_its_key(tmp_path: Path) -> None:
    options = verify.parser().parse_args([str(site_at(tmp_path / "site"))])
    assert verify.ssh_config_of(options) is None
    (tmp_path / "ssh").mkdir()
    (tmp_path / "ssh/config").write_text("Host one\n")
    with pytest.raises(Refused, match="sudo bin/verify"):
        verify.ssh_config_of(options)
    (tmp_path / "ssh/id_ed25519").write_text("a key\n")
    assert verify.ssh_config_of(options) == tmp_path / "ssh/config"
