"""Redis' files: what they say of users and passwords, and what is compared with a running server."""

from __future__ import annotations

import doctest
import importlib.util
import io
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from salt.exceptions import CommandExecutionError

from tests.unit.contracts import ROOT, load, swap

SETTINGS = {
    "broker_port": 6380,
    "broker_maxmemory_mb": 128,
    "cache_port": 6381,
    "cache_maxmemory_mb": 64,
    "max_clients": 100,
}
OWN = {"saltern-admin": "of-root-alone", "saltern-health": "of-the-check"}
DEMO = {"app": "demo", "user": "app-demo", "keys": "demo:*", "broadcasts": ["demo:/1.celery.pidbox"]}


@pytest.fixture(scope="module")
def files() -> ModuleType:
    spec = importlib.util.spec_from_file_location("redisfiles", ROOT / "saltern/redis/redisfiles.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_examples_are_true(files: ModuleType) -> None:
    assert doctest.testmod(files).failed == 0


@pytest.mark.parametrize("version", [(7, 0), (8, 0)])
def test_a_file_of_users_holds_hashes_and_both_passwords_while_both_are_good(files: ModuleType, version) -> None:
    good = ["the-one-in-force", "the-one-before"]
    text = files.users([DEMO | {"good": [files.hashed(one)[1:] for one in good]}], OWN, version)
    assert not [secret for secret in (*good, *OWN.values()) if secret in text]
    (line,) = [line for line in text.splitlines() if line.startswith("user app-demo ")]
    assert line.count("#") == 2 and all(files.hashed(password) in line for password in good)
    assert "~demo:* resetchannels &demo:* &demo:/1.celery.pidbox -@all" in line
    assert "user default reset ~* &* +@all\n" in text
    assert ("setinfo" in text) is (version >= (7, 2)), "a server does not start with what it does not know"


def test_an_app_without_a_password_is_an_error(files: ModuleType) -> None:
    with pytest.raises(KeyError):
        files.users([DEMO | {"good": []}], OWN, (8, 0))


def test_after_the_time_of_the_shared_password_the_files_are_as_if_it_had_never_been(files: ModuleType) -> None:
    old = files.config("broker", SETTINGS, ["127.0.0.1"], 6379)
    assert "\nport 6379\n" in old and files.declared(old)["maxmemory-policy"] == "volatile-lru"
    assert files.settled(old, 6379) == files.config("broker", SETTINGS, ["127.0.0.1"])
    shared = files.users([], OWN, (8, 0), files.hashed("of-all-apps"))
    assert "user default reset on #" in shared and "of-all-apps" not in shared
    assert "-@admin -@dangerous" in shared.splitlines()[1], "not even then may anybody say anything"


@pytest.mark.parametrize("server", ["broker", "cache"])
def test_a_server_beside_has_the_same_settings_but_no_port_and_no_data(files: ModuleType, server: str) -> None:
    text = files.config(server, SETTINGS, ["127.0.0.1", "10.0.0.4"])
    beside = files.declared(files.beside(text, "user default reset\n", "/tmp/x"))
    same = {"maxmemory", "maxmemory-policy", "tls-protocols", "bind", "client-query-buffer-limit"}
    assert {name: beside[name] for name in same} == {name: files.declared(text)[name] for name in same}
    assert (beside["port"], beside["tls-port"], beside["appendonly"], beside["dir"]) == ("0", "0", "no", "/tmp/x")
    again = files.expected(beside, text)
    assert (again["tls-port"], again["dir"]) == (str(SETTINGS[f"{server}_port"]), "/var/lib/redis")


def test_redis_7_0_lists_single_commands_in_any_order_and_8_0_in_its_own(files: ModuleType) -> None:
    one, other = ["user a on -@all +@set -spop +get"], ["user a on -@all +@set +get -spop"]
    assert files.by_user(one, (7, 0)) == files.by_user(other, (7, 0))
    turned = ["user a on +get -@all"]
    assert files.by_user(turned, (8, 0)) != files.by_user(["user a on -@all +get"], (8, 0)), "that one may say nothing"


def module() -> Any:
    return load("_modules", "redis_server")


@pytest.mark.parametrize(
    ("said", "answer"),
    [
        (b"+OK\r\n", "OK"),
        (b":7\r\n", 7),
        (b"$-1\r\n", None),
        (b"*-1\r\n", None),
        (b"$6\r\na\r\nb\r\n\r\n", "a\r\nb\r\n"),
        (b"*2\r\n$1\r\na\r\n*1\r\n:1\r\n", ["a", [1]]),
    ],
)
def test_answers_of_redis_are_read(said: bytes, answer: Any) -> None:
    assert module()._answer(io.BytesIO(said)) == answer


@pytest.mark.parametrize(
    ("said", "error"), [(b"-NOPERM no\r\n", CommandExecutionError), (b"", OSError), (b"+O", OSError)]
)
def test_errors_and_ends_of_redis_are_told(said: bytes, error: type[Exception]) -> None:
    with pytest.raises(error):
        module()._answer(io.BytesIO(said))


def test_the_old_port_is_open_only_while_the_old_password_is_there(tmp_path: Path, files: ModuleType) -> None:
    loaded = module()
    config, password = tmp_path / "redis.conf", tmp_path / "password.conf"
    loaded.LEGACY = password
    loaded.__pillar__ = {"redis": SETTINGS}
    swap(loaded, "redisfiles", files_of=lambda server: {"config": str(config)})
    wiring = {"egress": {"callers": [{"name": "demo", "links": []}]}}
    assert loaded.legacy() == {} and loaded.with_legacy(wiring, [6380, 6381]) is wiring, "a new host has none"
    password.write_text('requirepass "sl\\\\ash\\"quote"\n')
    config.write_text("port 6379\n")
    assert loaded.legacy() == {"port": 6379, "hash": files.hashed('sl\\ash"quote')}
    opened = loaded.with_legacy(wiring, [6380, 6381])["egress"]["callers"][0]["links"]
    assert opened == [{"to": "127.0.0.1", "ports": [6379], "protocol": "tcp"}]
    for taken in (0, 6380, 6381):
        config.write_text(f"port {taken}\n")
        assert loaded.legacy() == {}, "two cannot listen there"
    loaded.__pillar__ = {}
    config.write_text("port 6379\n")
    assert loaded.legacy() == {}, "the role was taken from the host"
