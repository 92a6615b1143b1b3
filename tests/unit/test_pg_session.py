"""How our own sessions begin."""

from __future__ import annotations

from pathlib import Path

import pytest

from saltern.postgres import pgsession
from tests.unit.contracts import ROOT


@pytest.mark.parametrize("version", [15, 17])
@pytest.mark.parametrize("user", ["postgres", "saltern_reader"])
def test_a_session_takes_nothing_from_database_or_role(version: int, user: str) -> None:
    words = pgsession.options(version, user, {"search_path": "evil", "work_mem": "64"}).split(" -c")
    assert words[0] == "-csearch_path=pg_catalog,pg_temp" or "search_path=pg_catalog,pg_temp" in words
    assert "role=none" in words and "local_preload_libraries=" in words
    assert not any("evil" in word for word in words)
    assert any("work_mem=64" in word for word in words)
    # A server of 15 does not know it, and a role that is no superuser may not set it: neither would let us in.
    assert ("event_triggers=off" in words) == (version == 17 and user == "postgres")
    assert ("transaction_timeout=0" in words) == (version == 17)


def test_values_with_spaces_stay_one_word() -> None:
    assert "-cdefault_transaction_isolation=read\\ committed" in pgsession.options(17, "postgres")
    assert "-ca=b\\\\c" in pgsession.options(17, "postgres", {"a": "b\\c"})


def test_only_what_holds_for_this_session_is_untrusted() -> None:
    rows = [
        {"role": "", "database": "demo", "name": "work_mem"},
        {"role": "saltern_reader", "database": "", "name": "jit"},
        {"role": "saltern_reader", "database": "other", "name": "geqo"},
        {"role": "", "database": "demo", "name": "my.own"},
        {"role": "demo", "database": "", "name": "geqo"},
    ]
    defaults = {"work_mem": "4096", "jit": "off", "geqo": "on"}
    assert pgsession.untrusted(rows, "demo", "saltern_reader", defaults) == {"work_mem": "4096", "jit": "off"}


def test_nobody_opens_a_session_of_another_kind() -> None:
    """psycopg is used in two places, which both give such options; psql only over the protocol that has no names."""
    uses = {
        str(path.relative_to(ROOT))
        for folder in ("_modules", "_states", "saltern", "bin", "lab")
        for path in (ROOT / folder).rglob("*")
        if path.is_file() and "psycopg.connect(" in path.read_text(errors="ignore")
    }
    assert uses == {"_modules/pg.py", "saltern/migrate/migrations.py"}
    for name in uses:
        text = Path(ROOT / name).read_text()
        assert text.count("psycopg.connect(") == text.count("pgsession.options(")
