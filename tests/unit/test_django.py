"""Which migrations are pending: the rules of Django's MigrationLoader, squashed ones included."""

from __future__ import annotations

from typing import Any

import pytest
from salt.exceptions import CommandExecutionError

from saltern.host import appfiles as files
from saltern.migrate import commands
from saltern.migrate import migrations as migrations_
from saltern.release import installed, oneoff, written
from tests.unit.contracts import Played, load

django: Any = load("_modules", "django")
WHERE = {
    "release.end_one_off": oneoff,
    "release.why_one_off_ended": oneoff,
    "release.active": installed,
    "release.one_off_command": oneoff,
    "release.record_command": written,
    "release.redact": oneoff,
}

PLAIN = [["a", "0001", []], ["a", "0002", []], ["b", "0001", []]]
SQUASHED = [["a", "0001", []], ["a", "0002", []], ["a", "0001_0002", [["a", "0001"], ["a", "0002"]]]]


@pytest.mark.parametrize(
    "migrations, applied, pending",
    [
        (PLAIN, set(), ["a.0001", "a.0002", "b.0001"]),
        (PLAIN, {("a", "0001"), ("b", "0001")}, ["a.0002"]),
        (PLAIN, {("a", "0001"), ("a", "0002"), ("b", "0001")}, []),
        (PLAIN, {("a", "0001"), ("a", "0002"), ("b", "0001"), ("a", "0003_of_a_newer_release")}, []),
        (SQUASHED, set(), ["a.0001_0002"]),  # a new database gets the squashed one only
        (SQUASHED, {("a", "0001")}, ["a.0002"]),  # half way: the old ones stay
        (SQUASHED, {("a", "0001"), ("a", "0002")}, []),
        (SQUASHED, {("a", "0001"), ("a", "0002"), ("a", "0001_0002")}, []),
        ([], set(), []),
    ],
)
def test_pending(migrations: list[list[Any]], applied: set[tuple[str, str]], pending: list[str]) -> None:
    assert migrations_.pending_of(migrations, applied) == pending


def test_lock_key_is_a_number_that_postgres_takes_and_of_one_app() -> None:
    assert -(2**63) <= migrations_.lock_key("demo") < 2**63
    assert migrations_.lock_key("demo") == migrations_.lock_key("demo") != migrations_.lock_key("other")


@pytest.mark.parametrize(
    "words, told",
    [
        (["check", "--deploy"], "check --deploy"),
        (["createsuperuser", "--noinput", "--key=hush", "-x", "hush"], "createsuperuser --noinput --key=... ... ..."),
        (["loaddata", "hush=1\n--hush"], "loaddata ..."),
    ],
)  # fmt: skip
def test_no_value_of_a_command_is_written_down(words: list[str], told: str) -> None:
    assert commands.told(words) == told


class Manage:
    """django.manage with a systemd-run that is `sh`: what it is given, what it prints, how it ends."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, script: str, active: str | None = "r1") -> None:
        self.recorded: list[tuple[Any, ...]] = []
        self.arguments: list[str] = []
        self.why = ""

        def command(app: str, release: str, name: str, arguments: list[str]) -> list[str]:
            self.arguments = arguments
            return ["sh", "-c", script]

        django.__context__ = self.context = {}
        self.ended: list[str] = []
        django.__pillar__ = {}
        salt = Played(monkeypatch, WHERE)
        for name, function in {
            "release.why_one_off_ended": lambda app, name: self.why,
            "release.end_one_off": lambda app, name: self.ended.append(name),
            "release.active": lambda app: active,
            "release.one_off_command": command,
            "release.record_command": lambda *line: self.recorded.append(line),
            "release.redact": lambda text: text.replace("hush", "********"),
        }.items():
            salt[name] = function


@pytest.mark.parametrize("given", [("check --deploy 'a b'",), ("check", "--deploy", "a b")])
def test_a_command_gets_its_arguments_in_both_forms(monkeypatch: pytest.MonkeyPatch, given: tuple[str, ...]) -> None:
    world = Manage(monkeypatch, "true")
    django.manage("demo", *given)
    assert world.arguments == ["-m", "django", "check", "--deploy", "a b"]


def test_a_command_that_a_bound_has_ended_says_which(monkeypatch: pytest.MonkeyPatch) -> None:
    world = Manage(monkeypatch, "echo half; exit 9")
    world.why = "it was killed at its memory bound of 512 MiB"
    assert django.manage("demo", "check")["output"] == f"half\n{world.why}"


def test_output_and_exit_code_of_a_command_come_back_without_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    world = Manage(monkeypatch, "echo hush; echo error >&2; exit 3")
    assert django.manage("demo", "check") == {"release": "r1", "exit_code": 3, "output": "********\nerror"}
    assert world.context["retcode"] == 3 and world.recorded == [("demo", "r1", "check", 3)]


def test_a_command_that_prints_without_end_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "MOST_PRINTED", 10_000)
    world = Manage(monkeypatch, "echo begun; head -c 200000 /dev/zero; sleep 3")
    answer = django.manage("demo", "check")
    assert answer["output"].startswith("begun") and answer["output"].endswith("more than 10000 bytes: ended")
    assert answer["exit_code"] and world.context["retcode"] and len(world.ended) == 1


def test_without_a_release_or_a_command_nothing_is_run(monkeypatch: pytest.MonkeyPatch) -> None:
    Manage(monkeypatch, "true", active=None)
    with pytest.raises(CommandExecutionError, match="no release"):
        django.manage("demo", "check")
    Manage(monkeypatch, "true")
    with pytest.raises(CommandExecutionError, match="which command"):
        django.manage("demo")
