"""An intruder who owns one minion, root and its key, answers for nobody else, plants no job and fills no disk."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from conftest import answer, path_on, run, wait_for

from lab.host import Host

FORGE = Path(__file__).with_name("forge.py").read_text()
STRANGER = Path(__file__).with_name("stranger.py").read_text()
KEPT = ("/etc/salt/pki/master", "/var/cache/salt/master")
JOBS = "/var/cache/salt/master/jobs"
PYTHON = "/opt/saltern/salt/bin/python"
# Prints the tag of each event of the master's bus, for some seconds.
LISTEN = """
import sys, time
import salt.config, salt.utils.event
opts = salt.config.master_config("/etc/salt/master")
with salt.utils.event.get_master_event(opts, opts["sock_dir"]) as bus:
    end = time.monotonic() + float(sys.argv[1])
    print("listening", flush=True)
    while time.monotonic() < end:
        found = bus.get_event(wait=0.2, full=True)
        if found:
            print(found["tag"], str(found["data"].get("id")), flush=True)
"""
FORGED = "20261126000000000001"  # a job that nobody gave


def ask(minion: Host, loads: dict[str, dict[str, Any]]) -> dict[str, Any]:
    path_on(minion, "/root/forge.py").write_text(FORGE)
    return json.loads(run(minion, PYTHON, "/root/forge.py", stdin=json.dumps(loads)))


def send(host: Host, messages: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """What the master answers to somebody without a key."""
    path_on(host, "/root/stranger.py").write_text(STRANGER)
    return json.loads(run(host, PYTHON, "/root/stranger.py", stdin=json.dumps(messages)))


def lies(victim: str, liar: str, job: str) -> dict[str, dict[str, Any]]:
    """Every way in which Salt 3008.3 lets a minion answer a job for another id."""
    one = {"return": "forged", "retcode": 0, "success": True, "fun": "cmd.run", "jid": job}
    return {
        "as a syndic": {"cmd": "_syndic_return", "jid": job, "id": liar, "return": {victim: dict(one)}},
        "as a syndic, many": {
            "cmd": "_syndic_return",
            "id": liar,
            "load": [{"jid": job, "id": victim, "fun": "cmd.run", "return": {victim: dict(one)}}],
        },
        "as its resource": {"cmd": "_return", **one, "resource_id": victim},
        "as an event": {"cmd": "_minion_event", "id": liar, "tag": f"salt/job/{job}/ret/{victim}", "data": one, **one},
        "as an event with a prefix": {
            "cmd": "_minion_event",
            "id": liar,
            "pretag": f"salt/job/{job}/ret",
            "events": [{"tag": victim, "data": {**one, "id": victim}}],
        },
        "as an event without data": {
            "cmd": "_minion_event",
            "id": liar,
            "events": [{"tag": f"salt/job/{job}/ret/{victim}", **one, "id": victim}],
        },
        "under its name": {"cmd": "_return", **one, "claim": victim},
    }


def planted(liar: str, victim: str) -> dict[str, dict[str, Any]]:
    """Ways to put a job into the master's cache that root never gave."""
    root = {"user": "root", "fun": "cmd.run", "arg": ["rm -rf /"], "tgt": "*", "ret": "", "jid": FORGED}
    one = {"return": "done", "retcode": 0, "success": True, "fun": "cmd.run", "fun_args": ["rm -rf /"]}
    return {
        "by an answer to no job": {"cmd": "_return", **root, **one},
        "by an answer to a job of its own": {"cmd": "_return", **root, **one, "jid": "req"},
        "as a syndic": {"cmd": "_syndic_return", "jid": FORGED, "id": liar, "load": root, "return": {victim: one}},
        "by a list of its minions": {
            "cmd": "_minion_event",
            "id": liar,
            "events": [{"tag": "x", "data": {"minions": [victim], "jid": FORGED}}],
        },
    }


def jobs(master: Host) -> set[str]:
    return set(run(master, "find", JOBS, "-type", "f").split())


@contextmanager
def while_working(master: Host, who: Host, seconds: int, words: str) -> Iterator[tuple[str, list[Any]]]:
    """The number of a job that a minion works on, and a list in which, at the end, is what its giver was told."""
    told: list[Any] = []
    mark = f"sleep {seconds}; : {time.monotonic_ns()}; {words}"
    command = ["salt", who.id, "cmd.run", mark, "--static"]
    asking = threading.Thread(target=lambda: told.append(answer(master, *command)))
    asking.start()
    wait_for("the job is out", lambda: given(master, mark), 20)
    yield given(master, mark), told
    asking.join()


def given(master: Host, words: str) -> str:
    """The number of the job in which some words are."""
    found = master.execute(["grep", "-rlF", "--include=.load.p", "--", words, JOBS], capture=True).stdout.split()
    return path_on(master, found[0]).with_name("jid").read_text() if found else ""


def listening(master: Host, seconds: float, work: Any) -> list[str]:
    """What was said on the master's bus while some work was done."""
    path_on(master, "/root/listen.py").write_text(LISTEN)
    said: list[str] = []
    listener = threading.Thread(target=lambda: said.append(run(master, PYTHON, "/root/listen.py", str(seconds))))
    listener.start()
    time.sleep(2)
    work()
    listener.join()
    return said[0].splitlines()


def test_a_minion_answers_for_nobody_else(master: Host, minion: Host) -> None:
    """While the victim, here the master's own minion, still works on the job; all see the job's number."""
    with while_working(master, master, 10, "echo honest") as (job, told):
        ask(minion, lies(master.id, minion.id, job))
    assert told == [{master.id: "honest"}]
    assert answer(master, "salt-run", "jobs.lookup_jid", job)[master.id] == "honest"


def test_no_job_is_planted(master: Host, minion: Host) -> None:
    before = jobs(master)
    heard = listening(master, 4, lambda: ask(minion, planted(minion.id, master.id)))
    assert jobs(master) == before
    assert heard[0] == "listening" and not [line for line in heard if "/ret/" in line or line.startswith("x ")], heard


def test_a_minion_says_nothing_on_the_bus_but_that_it_has_started(master: Host, minion: Host) -> None:
    tags = ["salt/key", "salt/run/1/ret", "salt/wheel/1/ret", f"salt/minion/{master.id}/start", "mine", "_salt_error"]
    loads = {tag: {"cmd": "_minion_event", "id": minion.id, "tag": tag, "data": {"message": "forged"}} for tag in tags}
    heard = listening(master, 4, lambda: ask(minion, loads))
    assert not [line for line in heard if line.split()[0] in tags], heard
    started = {"cmd": "_minion_event", "id": minion.id, "tag": f"salt/minion/{minion.id}/start", "data": "started"}
    assert f"salt/minion/{minion.id}/start {minion.id}" in listening(master, 4, lambda: ask(minion, {"works": started}))


@pytest.mark.slow("fleet")
def test_an_answer_is_bounded_in_size(master: Host, minion: Host) -> None:
    """A large one arrives, a larger one is an error that says so; one that is larger still ends the connection."""
    large = "head -c 900000 /dev/zero | tr '\\0' x"
    with while_working(master, minion, 20, large) as (job, told):
        load = {"cmd": "_return", "fun": "cmd.run", "jid": job, "id": minion.id}
        said = ask(minion, {"huge": load | {"return": "x" * 9_000_000}, "large": load | {"return": "x" * 2_000_000}})
    assert str(said["huge"]).startswith("refused") and not said["large"]
    assert "was thrown away" in told[0][minion.id] and len(str(told)) < 1000
    assert answer(master, "salt", minion.id, "cmd.run", large, "--static") == {minion.id: "x" * 900_000}


@pytest.mark.slow("fleet")
def test_an_answer_counts_once(master: Host, minion: Host) -> None:
    mark = f"once {time.monotonic_ns()}"
    assert answer(master, "salt", minion.id, "test.arg", mark, "--static")
    job = given(master, mark)
    first, before = answer(master, "salt-run", "jobs.lookup_jid", job), jobs(master)
    again = {"cmd": "_return", "fun": "test.arg", "jid": job, "return": "other", "id": minion.id}
    heard = listening(master, 5, lambda: ask(minion, {str(number): dict(again) for number in range(20)}))
    assert jobs(master) == before and not [line for line in heard if "/ret/" in line], heard
    assert answer(master, "salt-run", "jobs.lookup_jid", job) == first


@pytest.mark.slow("fleet")
def test_the_master_says_what_the_job_was_and_the_minion_only_how_it_ended(master: Host, minion: Host) -> None:
    with while_working(master, minion, 20, "echo honest") as (job, told):
        lie = {
            "cmd": "_return",
            "fun": "state.apply",
            "fun_args": ["other"],
            "user": "somebody",
            "jid": job,
            "tgt": "*",
        }
        ask(minion, {"lie": {**lie, "id": minion.id, "return": "mine", "retcode": 0, "success": True}})
    assert told == [{minion.id: "mine"}], "it may say of itself what it likes"
    kept = answer(master, "salt-run", "jobs.print_job", job)[job]
    assert (kept["Function"], kept["User"], kept["Target"]) == ("cmd.run", "root", [minion.id])


def test_a_resource_is_not_written_down(master: Host, minion: Host) -> None:
    """By one, a minion was a target, and could answer, under any name."""
    load = {"cmd": "_register_resources", "id": minion.id, "resources": {"ssh": [master.id, "nobody"]}}
    assert ask(minion, {"register": load})["register"] is True
    done = master.execute(["salt", "nobody*", "test.ping", "--static", "--out=json"], capture=True)
    assert "No minions matched" in done.stdout + done.stderr


def test_what_is_refused_answers_nothing(minion: Host, master: Host) -> None:
    job = {"fun": "test.ping", "arg": [], "tgt": "*", "ret": "", "jid": FORGED, "data": {"x": 1}, "token": b"".hex()}
    mine = ("_mine", "_mine_get", "_mine_delete", "_mine_flush")
    orders = ("minion_pub", "minion_publish", "minion_runner", "pub_ret")
    names = (*mine, *orders, "revoke_auth", "verify_minion", "run_func")
    loads = {name: {"cmd": name, "id": minion.id, **job} for name in names}
    said = ask(minion, loads)
    assert set(said) == set(loads) and not any(said.values()), said
    assert answer(master, "salt", minion.id, "test.ping", "--static") == {minion.id: True}, "its key is still good"


def test_the_masters_settings_tell_no_secret(minion: Host) -> None:
    said = ask(
        minion,
        {name: {"cmd": name, "id": minion.id, "opts": {}, "grains": {}} for name in ("_master_opts", "_master_tops")},
    )
    assert said["_master_tops"] == {}
    assert {"file_roots", "state_top"} <= set(said["_master_opts"])
    assert not [word for word in ("password", "PRIVATE", "/srv", "secrets", "key") if word in json.dumps(said)]


def test_nobody_without_the_masters_key_orders_anything(master: Host, minion: Host) -> None:
    """In clear, as the programs on the master itself speak to it; whoever reaches the port may try."""
    order = {
        "fun": "test.ping",
        "tgt": "*",
        "tgt_type": "glob",
        "arg": [],
        "kwarg": {},
        "ret": "",
        "jid": "",
        "user": "root",
    }
    known = {"key": "x" * 44, "eauth": "pam", "username": "root", "password": "x", "token": "x" * 64}
    loads = {
        "publish": {"cmd": "publish", **order, "key": "x" * 44},
        "publish without": {"cmd": "publish", **order},
        "wheel": {"cmd": "wheel", **order, **known, "fun": "key.list_all"},
        "runner": {"cmd": "runner", **order, **known, "fun": "jobs.list_jobs"},
        "get_token": {"cmd": "get_token", **known},
        "mk_token": {"cmd": "mk_token", **known},
        "_return": {"cmd": "_return", "id": minion.id, "jid": FORGED, "return": True, "fun": "test.ping"},
    }
    before = jobs(master)
    said = ask(minion, {name: {**load, "in_clear": True} for name, load in loads.items()})
    assert not [name for name, told in said.items() if told and told != "bad load" and "rror" not in str(told)], said
    assert jobs(master) == before
    assert ask(minion, {"works": {"cmd": "ping", "in_clear": True, "words": "here"}})["works"]["words"] == "here"


def test_nobody_without_a_session_speaks_for_a_minion(master: Host, minion: Host) -> None:
    """Salt 3008.3 takes what is neither clear nor aes for the word of the minion that it names."""
    said: list[Any] = []
    with while_working(master, master, 10, "echo honest") as (job, told):
        one = {"id": master.id, "jid": job, "return": "forged", "retcode": 0, "success": True, "fun": "cmd.run"}
        start = {"cmd": "_minion_event", "id": master.id, "tag": "minion_start", "data": "x"}
        loads = {
            "an answer": {"cmd": "_return", **one},
            "an event": start,
            "files": {"cmd": "_file_envs", "id": master.id},
        }
        messages = {
            f"{name} {enc!r}": {"enc": enc, "load": load, "version": 3, "id": master.id}
            for enc in ("pub", "", "AES", "x", None, 5)
            for name, load in loads.items()
        }
        heard = listening(master, 4, lambda: said.append(send(minion, messages)))
    assert told == [{master.id: "honest"}]
    assert said == [dict.fromkeys(messages, "bad load")]
    assert not [line for line in heard if "/ret/" in line or "minion_start" in line], heard


def test_no_message_stops_a_worker(master: Host, minion: Host) -> None:
    """Salt's worker that fails at one answers none after it: a dozen made a master deaf, until it was started again."""
    bad = [[], {}, None, "x", 1.5]
    from_strangers = {
        f"version {version!r}": {"enc": "clear", "load": {"cmd": "ping"}, "version": version, "copies": 3}
        for version in bad
    }
    now, mine = int(time.time()), {"cmd": "_master_opts", "id": minion.id}
    from_a_session = {
        "no time": mine,
        "a time that is text": {**mine, "ts": "x"},
        "no id": {"cmd": "_master_opts", "ts": now},
        "a list": {**mine, "ts": now, "id": []},
        "no command": {"id": minion.id, "ts": now},
        "a command that is a list": {"cmd": [], "id": minion.id, "ts": now},
        "a token that is none": {**mine, "ts": now, "tok": {"x": 1}},
    }
    said = send(minion, from_strangers)
    assert set(said.values()) == {"bad load"}, said
    ask(minion, {name: {"cmd": "x", "bare": load} for name, load in from_a_session.items()})
    expected = {master.id: True, minion.id: True}
    assert answer(master, "salt", "-L", ",".join(expected), "test.ping", "--static") == expected


def kept(master: Host) -> dict[str, int]:
    """What the master keeps of others, file by file with its size; not what it writes of itself."""
    lines = run(master, "find", *KEPT, "-type", "f", "-printf", "%p\\t%s\\n").splitlines()
    sizes = {path: int(size) for path, size in (line.split("\t") for line in lines)}
    return {path: size for path, size in sizes.items() if "/jobs/" not in path and "/proc/" not in path}


def test_of_strangers_and_foreign_keys_nothing_piles_up(master: Host, minion: Host) -> None:
    """One denied key for a minion that the fleet has, and nothing for any other name."""
    key = "-----BEGIN PUBLIC KEY-----\n" + ("A" * 64 + "\n") * 6 + "$N\n-----END PUBLIC KEY-----"
    own = {"enc_algo": "OAEP-SHA224", "sig_algo": "PKCS1v15-SHA224", "nonce": "x" * 32, "cmd": "_auth"}
    asks = {"enc": "clear", "version": 3, "copies": 60}
    messages = {
        "strangers": {**asks, "load": {**own, "id": "stranger$N", "pub": key}},
        "other keys": {**asks, "load": {**own, "id": minion.id, "pub": key}},
        "large keys": {**asks, "load": {**own, "id": minion.id, "pub": "x" * 100_000 + "$N"}},
        "large fields": {**asks, "load": {**own, "id": f"{minion.id}$N", "pub": key, "more": "x" * 100_000}},
        "long names": {**asks, "load": {**own, "id": "x" * 1000 + "$N", "pub": key}},
        "sessions": {**asks, "enc": "aes", "id": "nobody$N", "load": {"bytes": 200}},
    }
    before, denied = kept(master), f"/etc/salt/pki/master/minions_denied/{minion.id}"
    said = send(minion, messages)
    after = kept(master)
    run(master, "rm", "-f", denied)
    assert "no answer" not in said.values(), said
    assert after.keys() - before.keys() == {denied}
    assert after[denied] < 2048
    assert answer(master, "salt", minion.id, "test.ping", "--static") == {minion.id: True}, "its own key is still good"


def test_the_publishing_side_takes_nothing_from_the_network(master: Host, minion: Host) -> None:
    """A stranger on the port of the orders hears nothing that it can read, and is heard by nobody."""
    mark, heard = f"mark-{time.monotonic_ns()}", list[str]()
    path_on(minion, "/root/stranger.py").write_text(STRANGER)
    listener = threading.Thread(target=lambda: heard.append(run(minion, PYTHON, "/root/stranger.py", "listen")))
    listener.start()
    time.sleep(3)
    assert answer(master, "salt", minion.id, "test.arg", mark, "--static")
    listener.join()
    came = json.loads(heard[0].splitlines()[-1])
    assert not [message for message in came if mark.encode().hex() in message or b"test.arg".hex() in message]
