"""All states of all hosts obey the house rules, and each rule can fail."""

from __future__ import annotations

from pathlib import Path

import pytest
import salt.config
import salt.loader
from conftest import ROOT, Masterless, Target, targets
from rules import problems

BOOTSTRAPPED = ("/etc/salt", "/var/cache/salt")  # they are there when the first apply begins
GOOD = {"state": "file", "fun": "managed", "__id__": "x", "__sls__": "s", "name": "/etc/x", "user": "root"}
GOOD |= {"group": "root", "mode": "0644", "order": 1, "contents": "x"}


@pytest.fixture(scope="module")
def states(tmp_path_factory: pytest.TempPathFactory):
    """Every state function that a host has: Salt's own and ours."""
    root = str(tmp_path_factory.mktemp("states"))
    opts = salt.config.minion_config(None)
    own = {f"{kind}_dirs": [str(ROOT / f"_{kind}")] for kind in ("states", "utils")}
    own |= {"module_dirs": [str(ROOT / "_modules")], "file_client": "local", "id": "app1"}
    for key, value in (own | dict.fromkeys(("root_dir", "cachedir", "pki_dir"), root)).items():
        opts[key] = value  # Salt's own kind of mapping: update() and |= lose what is set
    opts["grains"] = salt.loader.grains(opts) | {"os_family": "Debian", "os": "Debian"}
    functions = salt.loader.minion_mods(opts)
    return salt.loader.states(opts, functions, salt.loader.utils(opts), None)


def function_of(states, chunk):
    name = f"{chunk['state']}.{chunk['fun']}"
    return states[name] if name in states else None  # noqa: SIM401  get() does not load


def test_states_obey_the_house_rules(lowstate: list[dict], states) -> None:
    found = [problem for chunk in lowstate for problem in problems(chunk, function_of(states, chunk))]
    assert not found, "\n".join(found)


def test_no_folder_is_made_before_the_state_that_makes_it(lowstate: list[dict]) -> None:
    """The plan of a bare host names that state, and the apply has nothing left for it to do."""
    made: dict[str, str] = {}
    found = []
    for chunk in sorted(lowstate, key=lambda chunk: chunk["order"]):
        if chunk["state"] == "file" and chunk["fun"] == "directory" and chunk["name"].rstrip("/") in made:
            found.append(f"{chunk['__sls__']}: {chunk['name']} is made for {made[chunk['name'].rstrip('/')]} before")
        if chunk.get("makedirs"):
            above = {str(folder): chunk["name"] for folder in Path(chunk["name"].rstrip("/")).parents}
            made |= {folder: name for folder, name in above.items() if folder not in BOOTSTRAPPED}
    assert not found, "\n".join(found)


def test_no_secret_stands_in_a_name_or_an_id(lowstate: list[dict]) -> None:
    secret = [chunk for chunk in lowstate if "PRIVATE KEY" in str(chunk.get("contents"))]
    assert secret, "the TLS key is among the states, or this test looks at nothing"
    assert not [chunk for chunk in lowstate if "PRIVATE KEY" in chunk["__id__"] + str(chunk["name"])]


@pytest.mark.parametrize(
    "change, words",
    [
        ({"modee": "0600"}, "no argument modee"),
        ({"user": None}, "say user"),
        ({"mode": None}, "say mode"),
        ({"mode": 644}, "quote the mode"),
        ({"fun": "replace"}, "not used here"),
        ({"fun": "managedd"}, "no state function file.managedd"),
        ({"state": "cmd", "fun": "run", "group": None, "mode": None, "contents": None, "user": None}, "needs one of"),
        ({"onchanges": [{"file": "y"}]}, "loses work"),
        ({"name": "/etc/tls/host.key", "mode": "0600"}, "show_changes: False"),
        ({"name": "/etc/tls/host.key", "show_changes": False}, "mode 0600"),
    ],
)
def test_each_rule_can_fail(states, change: dict, words: str) -> None:
    assert not list(problems(GOOD, function_of(states, GOOD)))
    bad = {key: value for key, value in (GOOD | change).items() if value is not None}
    assert any(words in problem for problem in problems(bad, function_of(states, bad)))


@pytest.mark.parametrize("one", [target for target in targets() if target.release == "trixie"], ids=str, indirect=True)
def test_without_agents_a_host_gets_the_same_states(one: tuple[Masterless, Target], lowstate: list[dict]) -> None:
    """As salt-ssh renders; the real one is asked for one host by tests/scenarios_fleet/test_same_states.py."""
    here, target = one
    assert here.lowstate(target.host, target.release, by_ssh=True) == lowstate
