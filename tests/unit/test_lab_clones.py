"""A lab belongs to the clone that made it: another one asks before it reboots its hosts with its own states."""

from pathlib import Path

import pytest

from debian import REPOSITORY, Refused
from lab import lab as labs
from lab.lab import Lab, Record


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Lab:
    monkeypatch.setattr(labs, "LABS", tmp_path)
    return Lab("mine")


def made_by(lab: Lab, clone: str, fleet: str) -> None:
    lab.write(Record(fleet, "trixie", "trixie-salt", "10.77.9", clone))


def test_another_clones_lab_is_refused_and_taken_over_when_asked(lab: Lab) -> None:
    made_by(lab, "/home/other/saltern", "/home/other/saltern/lab/fleets/pair")
    with pytest.raises(Refused, match=r"/home/other/saltern(.|\n)*--take-over --lab mine"):
        lab.refuse_other_clone()
    with pytest.raises(Refused, match="belongs to another clone"):
        lab.make("pair")
    lab.take_over()
    lab.refuse_other_clone()
    assert lab.record.fleet == str(REPOSITORY / "lab/fleets/pair")


def test_a_fleet_that_lies_elsewhere_stays_when_a_lab_is_taken_over(lab: Lab) -> None:
    made_by(lab, "/home/other/saltern", "/etc/ours")
    lab.take_over()
    assert lab.record.fleet == "/etc/ours"


@pytest.mark.parametrize("clone", ["", str(REPOSITORY)])
def test_ones_own_lab_and_an_older_one_are_not_asked_about(lab: Lab, clone: str) -> None:
    made_by(lab, clone, "/etc/ours")
    lab.refuse_other_clone()
