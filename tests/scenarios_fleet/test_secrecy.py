"""An intruder who owns one minion, root and its key, gets what is that minion's own and nothing more."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import answer, path_on, run

from debian import REPOSITORY
from lab.host import Host
from lab.lab import Lab

FORGE = Path(__file__).with_name("forge.py").read_text()
FORGED = {
    "id": "master",
    "host": "master",
    "fqdn": "master.saltern.test",
    "roles": ["postgres", "master"],
    "role": "web",
}


def ask(minion: Host, **loads: dict[str, Any]) -> dict[str, Any]:
    path_on(minion, "/root/forge.py").write_text(FORGE)
    return json.loads(run(minion, "/opt/saltern/salt/bin/python", "/root/forge.py", stdin=json.dumps(loads)))


def secret_words(site: Path) -> set[str]:
    """A line from the middle of every key, and every password, of the site."""
    files = [path for path in (site / "secrets").rglob("*") if path.suffix in (".sls", ".yaml", ".key")]
    return {word for path in files for word in words_of(path)}


def own_words(site: Path, host: str) -> set[str]:
    return words_of(site / "secrets" / f"{host}.sls")


def words_of(path: Path) -> set[str]:
    lines = path.read_text().splitlines()
    keys = {line.strip() for line in lines if len(line.strip()) == 64}
    return keys | {line.split(": ")[1] for line in lines if "_password: " in line}


def test_the_master_makes_the_pillar_by_the_authenticated_id(lab: Lab, minion: Host) -> None:
    honest = answer(minion, "salt-call", "pillar.items", "unmask=True")["local"]
    own = yaml.safe_load((lab.site / "secrets" / f"{minion.id}.sls").read_text())["secrets"]
    assert honest["host"]["id"] == minion.id and set(honest["secrets"]) == set(own)
    asked = {
        "cmd": "_pillar",
        "saltenv": "base",
        "pillarenv": None,
        "pillar_override": {},
        "extra_minion_data": {},
        "ver": "2",
    }
    said = ask(
        minion,
        grains={**asked, "id": minion.id, "grains": FORGED},
        other={**asked, "claim": "master", "grains": FORGED},
        outside={**asked, "claim": "master", "claim_outside": "master", "grains": FORGED},
        orchestration={**asked, "claim": "x_master", "grains": FORGED},
        override={**asked, "id": minion.id, "grains": FORGED, "pillar_override": {"host": {"id": "master"}}},
    )
    assert said["grains"] == honest, "forged grains change nothing"
    assert "PRIVATE KEY" in json.dumps(said["override"]), "the question itself works"
    foreign = secret_words(lab.site) - own_words(lab.site, minion.id)
    assert len(foreign) > 10, "there is nothing to find, so this proves nothing"
    assert not [word for word in foreign if word in json.dumps(said)]
    for lie in ("other", "outside", "orchestration"):
        assert str(said[lie]).startswith("refused"), said[lie]


def test_the_master_serves_states_and_wheels_and_nothing_else(lab: Lab, master: Host, minion: Host) -> None:
    listed = ask(
        minion,
        base={"cmd": "_file_list", "saltenv": "base", "prefix": ""},
        wheels={"cmd": "_file_list", "saltenv": "wheels", "prefix": ""},
        envs={"cmd": "_file_envs"},
    )
    assert sorted(listed["envs"]) == ["base", "wheels"]
    assert "top.sls" in listed["base"] and "_modules/daemon.py" in listed["base"]
    inside = {path.relative_to(REPOSITORY / "salt").as_posix() for path in (REPOSITORY / "salt").rglob("*")}
    linked = ("_modules/", "_states/", "_utils/saltern/", "minion/files/bin/", "minion/files/requirements/")
    assert not [path for path in listed["base"] if path not in inside and not path.startswith(linked)]
    assert not [path for path in listed["wheels"] if not path.endswith((".whl", "/requirements.txt"))]


def wanted_files(site: Path) -> list[str]:
    inside = [f"site/{path.relative_to(site)}" for path in site.rglob("*") if path.is_file()]
    mine = ["pillar/top.sls", "pillar/base.sls", "Saltfile", "etc/ssh/master", "etc/masterless/minion", ".git/config"]
    system = ["/etc/shadow", "/etc/salt/master", "/etc/salt/pki/master/master.pem", "/var/cache/salt/master/.root_key"]
    return [*inside, *mine, *system]


def test_no_file_of_the_master_is_fetched_by_any_path(lab: Lab, minion: Host) -> None:
    loads = {}
    for wanted in wanted_files(lab.site):
        tail = wanted.lstrip("/")
        ways = [wanted, f"../{tail}", f"../../{tail}", f"../../../{tail}", f"../../../../../../{tail}", f"|{wanted}"]
        for way in [*ways, f"_modules/../../{tail}", f"//srv/saltern/{tail}"]:
            for env in ("base", "wheels", "__env__"):
                loads[f"{env} {way}"] = {"cmd": "_serve_file", "path": way, "loc": 0, "saltenv": env, "gzip": None}
    loads["works"] = {"cmd": "_serve_file", "path": "top.sls", "loc": 0, "saltenv": "base", "gzip": None}
    said = ask(minion, **loads)
    assert "pillar['host']['roles']" in str(said.pop("works"))
    got = {way: told for way, told in said.items() if isinstance(told, dict) and told.get("data")}
    assert got == {}


@pytest.mark.parametrize("command", ["test.ping", "state.apply", "cmd.run"])
def test_a_minion_gives_no_orders(minion: Host, command: str) -> None:
    published = {"cmd": "minion_pub", "fun": command, "arg": ["id"], "tgt": "*", "ret": "", "id": minion.id}
    runner = {"cmd": "minion_runner", "fun": "jobs.list_jobs", "arg": [], "id": minion.id}
    said = ask(minion, publish=published, runner=runner)
    assert not any(said.values()), said


def test_a_minion_sends_no_file_to_the_master(master: Host, minion: Host) -> None:
    load = {"cmd": "_file_recv", "id": minion.id, "path": ["intruder"], "loc": 0, "size": 2, "data": "hi"}
    assert not ask(minion, send=load)["send"]
    assert run(master, "find", "/var/cache/salt/master", "-name", "intruder") == ""
