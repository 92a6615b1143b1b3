"""The files of docs/ci.md: valid for the services that read them, and every command in them is one that there is."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from debian import REPOSITORY
from lab import cli, verify

SCHEMAS = {"github": "vendor.github-workflows", "gitlab": "vendor.gitlab-ci"}
PAGE = (REPOSITORY / "docs/ci.md").read_text()


def file_of(service: str) -> Path:
    return REPOSITORY / f"docs/ci/{service}.yml"


def scripts(service: str) -> dict[str, list[str]]:
    """What each job types, by the job's name."""
    found: dict[str, Any] = yaml.safe_load(file_of(service).read_text())
    if service == "github":
        return {name: [step["run"] for step in job["steps"] if "run" in step] for name, job in found["jobs"].items()}
    return {name: job["script"] for name, job in found.items() if isinstance(job, dict) and "script" in job}


def commands(service: str) -> list[list[str]]:
    """Every command of ours in a file, as words; a variable stands for itself."""
    lines = [line for parts in scripts(service).values() for part in parts for line in part.splitlines()]
    return [shlex.split(line) for line in lines if line.startswith("bin/")]


def validated(file: Path, schema: str) -> subprocess.CompletedProcess[str]:
    tool = str(Path(sys.executable).parent / "check-jsonschema")
    return subprocess.run([tool, "--builtin-schema", schema, str(file)], capture_output=True, text=True, check=False)


@pytest.mark.parametrize(("service", "schema"), SCHEMAS.items())
def test_each_file_is_valid_by_its_services_schema(service: str, schema: str) -> None:
    done = validated(file_of(service), schema)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("service", "right", "wrong"),
    [("github", "runs-on:", "run-on:"), ("gitlab", "  script:\n", "  scripts:\n")],
)
def test_a_wrong_key_would_be_found(service: str, right: str, wrong: str, tmp_path: Path) -> None:
    bad = tmp_path / "bad.yml"
    bad.write_text(file_of(service).read_text().replace(right, wrong))
    assert validated(bad, SCHEMAS[service]).returncode != 0


@pytest.mark.parametrize("service", SCHEMAS)
def test_every_command_takes_what_it_is_given(service: str) -> None:
    """Read by the commands' own parsers, and each --help is really called."""
    found = commands(service)
    assert {tuple(words[:2]) for words in found if words[0] == "bin/lab"} == {
        ("bin/lab", verb) for verb in ("check", "up", "apply")
    }
    assert [words for words in found if words[0] == "bin/verify"]
    for program, *words in found:
        parser = {"bin/lab": cli.parser, "bin/verify": verify.parser}[program]()
        try:
            parser.parse_args(words)
        except SystemExit:
            pytest.fail(f"{program} does not take {words}")
    for start in sorted({" ".join(words[: 2 if words[0] == "bin/lab" else 1]) for words in found}):
        helped = subprocess.run([*start.split(), "--help"], cwd=REPOSITORY, capture_output=True, text=True, check=False)
        assert helped.returncode == 0 and helped.stdout.startswith(f"usage: {start}"), helped.stderr


def test_an_option_that_there_is_not_would_be_found(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        verify.parser().parse_args(["site", "--readonly"])
    with pytest.raises(SystemExit):
        cli.parser().parse_args(["apply", "--plan"])


@pytest.mark.parametrize("service", SCHEMAS)
def test_what_is_typed_is_good_shell(service: str) -> None:
    tool = str(Path(sys.executable).parent / "shellcheck")
    for job, parts in scripts(service).items():
        text = "#!/bin/bash -e\n" + "\n".join(parts) + "\n"
        done = subprocess.run([tool, "-"], input=text, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{job}: {done.stdout}"


def test_both_files_do_the_same() -> None:
    github, gitlab = commands("github"), commands("gitlab")
    assert sorted(github) == sorted(gitlab)
    assert set(scripts("github")) == set(scripts("gitlab")) == set(re.findall(r"^\| `(\w+)` \|", PAGE, re.MULTILINE))


def test_servers_that_are_in_use_are_only_read() -> None:
    for service in SCHEMAS:
        on_servers = [line for part in scripts(service)["servers"] for line in part.splitlines() if "bin/" in line]
        assert on_servers and all("bin/verify" in line and "--read-only" in line for line in on_servers)


def test_the_page_names_each_command_and_each_setting() -> None:
    for service in SCHEMAS:
        assert f"(ci/{service}.yml)" in PAGE
        for name in re.findall(r"\b(?:SSH_\w+|LAB_SITE)\b", file_of(service).read_text()):
            assert name in PAGE
