"""The ledger: what is in it stays readable, whatever happened to the last writer."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest

from saltern.release import ledger


def test_lines_are_read_as_they_were_written(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    assert ledger.read(path) == []
    for number in range(3):
        ledger.append(path, {"number": number, "text": "line\nbreak – ü"})
    assert [line["number"] for line in ledger.read(path)] == [0, 1, 2]
    assert ledger.read(path)[0]["text"] == "line\nbreak – ü"
    assert stat.S_IMODE(path.stat().st_mode) & ~0o640 == 0


LINE = json.dumps({"result": "activated", "who": "ann"}) + "\n"


@pytest.mark.parametrize("written", range(len(LINE)))
def test_a_writer_killed_at_any_byte_costs_its_own_line_only(tmp_path: Path, written: int) -> None:
    path = tmp_path / "ledger.jsonl"
    ledger.append(path, {"result": "first"})
    with path.open("a") as file:
        file.write(LINE[:written])
    whole = [{"result": "first"}] + ([json.loads(LINE)] if written == len(LINE) - 1 else [])
    assert ledger.read(path) == whole
    ledger.append(path, {"result": "last"})
    assert ledger.read(path) == [*whole, {"result": "last"}]


def test_bytes_that_are_no_text_cost_one_line(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    path.write_bytes(b'{"result": "a"}\n\xff\x00\x80\n17\n{"result": "b"}\n')
    assert [line["result"] for line in ledger.read(path)] == ["a", "b"]
