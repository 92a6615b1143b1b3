"""A rotation over a fleet: what is to be done with whom, and that a kill between any two moves is no new beginning."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from test_site_secrets import edit

from saltern.site.fleetrotation import COMPARED_BY, MOVES, USED_BY, course, move
from saltern.site.load import Site, load_site
from saltern.site.overlap import KINDS, begin, find, held
from saltern.site.rotation import RotationError, rotate
from saltern.site.secrets import generate_secrets, read_shared
from saltern.site.team import known_to_all

FLEETS = Path(__file__).resolve().parents[2] / "lab/fleets"
OF_APP = [["demo", kind.name] for kind in KINDS if kind.of_app]
ALL = [*OF_APP, *[[kind.name] for kind in KINDS if not kind.of_app], ["ca"], ["tls"], ["edge"]]


@pytest.fixture(scope="module")
def with_secrets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The fleet with its secrets, made once: nine certificates take their time."""
    folder = tmp_path_factory.mktemp("ha") / "site"
    shutil.copytree(FLEETS / "ha", folder)
    generate_secrets(load_site(folder))
    return folder


@pytest.fixture
def ha(with_secrets: Path, tmp_path: Path) -> Site:
    shutil.copytree(with_secrets, tmp_path / "site")
    return load_site(tmp_path / "site")


def given(site: Site) -> dict[str, Any]:
    """What all hosts' files hold, by host, and the authorities."""
    folder = site.path / "secrets"
    return {path.name: yaml.safe_load(path.read_text())["secrets"] for path in folder.glob("*.sls")}


def walked(site: Site, words: list[str], finish: bool = True) -> list[dict[str, Any]]:
    """Do all moves; return what hosts were given after each."""
    found = []
    for to in course(site, words, finish)["moves"]:
        move(site, words, to, finish)
        found.append(given(site))
    return found


def test_every_kind_says_who_compares_it_and_who_uses_it() -> None:
    assert {*COMPARED_BY} == {*USED_BY} == {kind.name for kind in KINDS}


@pytest.mark.parametrize("words", ALL, ids=" ".join)
def test_every_kind_goes_to_its_end_and_begins_anew(ha: Site, words: list[str]) -> None:
    before = given(ha)
    last = walked(ha, words)[-1]
    assert last != before and course(ha, words)["state"] == "settled"
    assert "previous" not in (ha.path / "secrets/shared.yaml").read_text()
    assert sorted(path.name for path in (ha.path / "secrets").glob("ca*")) == ["ca"]
    assert walked(ha, words)[-1] != last


@pytest.mark.parametrize("words", [words for words in ALL if words not in (["tls"], ["edge"])], ids=" ".join)
@pytest.mark.parametrize("done", [1, 2, 3])
def test_a_kill_between_two_moves_is_no_new_beginning(ha: Site, words: list[str], done: int) -> None:
    """Also none where all that is missing is that hosts are told: until OVER, the course is not settled."""
    moves = course(ha, words, True)["moves"]
    if done >= len(moves):
        pytest.skip("it has no more moves")
    for to in moves[:done]:
        move(ha, words, to, True)
    now = given(ha)
    again = course(ha, words, True)
    assert again["state"] != "settled" and again["moves"][-1] == "over"
    move(ha, words, again["moves"][0], True)
    assert given(ha) == now, "the first one does nothing, so that hosts are told what was written before the kill"
    walked(ha, words)
    assert course(ha, words)["state"] == "settled"


@pytest.mark.parametrize(
    ("words", "applied", "asked", "releases"),
    [
        (["demo", "database"], ["db1", "db2"], ["web1", "web2", "worker1", "db1", "db2"], ["both"]),
        (["demo", "owner"], ["db1", "db2"], ["web1", "web2", "db1", "db2"], ["both"]),
        (["demo", "redis"], ["redis1"], ["web1", "web2", "worker1"], ["both"]),
        (["demo", "secret_key"], [], ["web1", "web2", "worker1"], ["both", "out"]),
        (["replication"], ["db1", "db2"], ["db1", "db2"], []),
        (["build_key"], ["master", "web1", "web2", "worker1"], [], []),
        (["edge"], ["edge1", "edge2"], [], []),
    ],
)
def test_who_is_concerned(
    ha: Site, words: list[str], applied: list[str], asked: list[str], releases: list[str]
) -> None:
    found = course(ha, words)
    assert (found["applied"], found["asked"], found["releases"]) == (applied, asked, releases)


def test_a_key_for_sessions_is_kept_for_its_days(ha: Site) -> None:
    words = ["demo", "secret_key"]
    assert course(ha, words)["moves"] == ["both"]
    assert "the old one is good until 20" in move(ha, words, "both")
    assert "previous" in given(ha)["web1.sls"]["apps"]["demo"]
    move(ha, words, "out")
    assert "previous" in given(ha)["web1.sls"]["apps"]["demo"], "not before its days are over"
    assert course(ha, words, finish=True)["moves"] == ["both", "out", "over"]


def test_an_edit_by_hand_is_brought_to_its_end(ha: Site) -> None:
    edit(ha, "shared.yaml", lambda data: data["apps"]["demo"].update(database_password="chosen-by-a-person"))
    walked(ha, ["demo", "database"])
    assert given(ha)["web1.sls"]["apps"]["demo"]["database_password"] == "chosen-by-a-person"


def test_the_steps_by_hand_go_on_where_an_orchestration_was_killed(ha: Site) -> None:
    for to in ("both", "sign", "out"):
        move(ha, ["ca"], to)
    with pytest.raises(RotationError, match="step=end"):
        rotate(ha, ["ca"], None, step="begin")  # type: ignore[arg-type]
    assert "trusted nowhere" in rotate(ha, ["ca"], None, step="end")[0]  # type: ignore[arg-type]
    assert course(ha, ["ca"])["state"] == "settled"


def test_without_a_step_the_orchestration_is_named(ha: Site) -> None:
    with pytest.raises(RotationError, match=r'orch\.rotate pillar=\'\{"app": "demo", "secret": "database"\}\''):
        rotate(ha, ["demo", "database"], None)  # type: ignore[arg-type]


def test_what_the_master_cannot_apply_is_refused(ha: Site, tmp_path: Path) -> None:
    path = ha.path / "fleet.yaml"
    fleet = yaml.safe_load(path.read_text())
    fleet["hosts"]["db2"]["roles"].remove("minion")
    path.write_text(yaml.safe_dump(fleet))
    before = (ha.path / "secrets/shared.yaml").read_text()
    for words in (["demo", "database"], ["replication"], ["ca"], ["tls"]):
        with pytest.raises(RotationError, match="db2 cannot be applied by the master"):
            course(load_site(ha.path), words)
    assert (ha.path / "secrets/shared.yaml").read_text() == before


@pytest.mark.parametrize("words", [["demo", "databas"], ["demo"], [], ["nope", "database"], ["demo", "database", "x"]])
def test_what_does_not_exist_is_told_with_what_does(ha: Site, words: list[str]) -> None:
    for ask in (lambda: course(ha, words), lambda: move(ha, words, "both")):
        with pytest.raises(RotationError, match=r"there are: build_key, demo database, .*replication, ca, tls, edge"):
            ask()


def test_an_app_that_the_site_has_no_more_and_a_move_that_there_is_not(ha: Site) -> None:
    edit(ha, "shared.yaml", lambda data: data["apps"].update(gone={**data["apps"]["demo"]}))
    with pytest.raises(RotationError, match="the site has no app gone any more"):
        course(ha, ["gone", "database"])
    with pytest.raises(RotationError, match=f"allowed: {', '.join(MOVES)}"):
        move(ha, ["demo", "database"], "begin")


def test_a_rotation_that_begins_by_hand_is_gone_on_with(ha: Site) -> None:
    data = yaml.safe_load((ha.path / "secrets/shared.yaml").read_text())
    begin(data, find(data, "redis", "demo"), "a-new-one-of-mine-1", data["apps"]["demo"]["redis_password"])
    (ha.path / "secrets/shared.yaml").write_text(yaml.safe_dump(data))
    walked(ha, ["demo", "redis"])
    assert given(ha)["redis1.sls"]["apps"]["demo"]["redis_password"] == "a-new-one-of-mine-1"


def test_what_somebody_who_leaves_knew_is_told_as_orchestrations(ha: Site) -> None:
    data, _ = read_shared(ha.path / "secrets")
    lines = [line for line in known_to_all(ha, data) if line.startswith("replace what was known")]
    assert len(lines) == len(list(held(data))) + 1 and all("orch.rotate pillar=" in line for line in lines)
    move(ha, ["demo", "secret_key"], "both")
    data, _ = read_shared(ha.path / "secrets")
    assert any('"secret": "secret_key", "finish": true' in line for line in known_to_all(ha, data))
