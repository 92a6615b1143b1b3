"""Each setting of PostgreSQL that is more than a session's own is refused, or was looked at and does no harm."""

from __future__ import annotations

import re

import pytest

from saltern.site import pgsettings
from tests.unit.contracts import ROOT

#: Of each version in Debian: name and context of what `pg_settings` has.
TOLD = {version: (ROOT / f"tests/unit/pg_settings_{version}.txt").read_text().split("\n") for version in (15, 17)}
EVERY = sorted({tuple(line.split()) for lines in TOLD.values() for line in lines if line})
#: Not of a session alone, and harmless: how much, how often, how long, and what is logged.
HARMLESS = re.compile(
    r"autovacuum.*|bgwriter_.*|checkpoint_.*|commit_delay|compute_query_id|deadlock_timeout|vacuum_.*"
    r"|hot_standby_feedback|max_standby_.*|wal_receiver_.*|wal_retrieve_.*|wal_keep_size|max_slot_wal_keep_size"
    r"|huge_page.*|shared_buffers|(commit_timestamp|multixact_\w+|notify|serializable|subtransaction|transaction)_buffers"
    r"|wal_(buffers|compression|decode_buffer_size|init_zero|level|log_hints|recycle|sync_method|writer_\w+|summary_.*)"
    r"|summarize_wal|min_wal_size|max_wal_size|recovery_prefetch|log_.*|update_process_title|file_extend_method"
    r"|max_(files_per_process|worker_processes|wal_senders|replication_slots|stack_depth|logical_\w+|sync_\w+"
    r"|parallel_apply_\w+)|min_dynamic_shared_memory|old_snapshot_threshold|temp_file_limit|track_activity_query_size"
    r"|track_(commit_timestamp|functions|io_timing|wal_io_timing)|shared_preload_libraries"
)
LOADS = re.compile(r".*(_command|_librar\w+|_path|_file|_directory|_dir|_provider|_filename|_keyfile)")


def test_both_versions_were_asked() -> None:
    assert len(EVERY) > 350 and {version: len(lines) > 300 for version, lines in TOLD.items()} == {15: True, 17: True}


@pytest.mark.parametrize(("name", "context"), EVERY)
def test_each_setting_is_refused_or_harmless(name: str, context: str) -> None:
    refused = pgsettings.refusal(name)
    if context == "internal" or (LOADS.fullmatch(name) and name not in ("shared_preload_libraries", "search_path")):
        assert refused, f"{name} is another's or reads or runs what a site names"
    elif context != "user":
        assert refused or HARMLESS.fullmatch(name), f"{name} ({context}): refused, or harmless?"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("include_dir", "/tmp"), ("include", "x"), ("include_if_exists", "x")),
        *(("superuser_reserved_connections", "0"), ("reserved_connections", "0"), ("restart_after_crash", "off")),
        *(("shared_preload_libraries", "evil"), ("shared_preload_libraries", "pg_stat_statements, evil")),
        *(("plperl.on_init", "x"), ("pltcl.start_proc", "x"), ("plv8.start_proc", "x")),
        *(("basic_archive.archive_directory", "/"), ("wal_level", "minimal"), ("huge_pages", "on")),
        *(("oauth_validator_libraries", "x"), ("extension_control_path", "/tmp"), ("max_notify_queue_pages", "64")),
    ],
)
def test_what_breaks_walls_is_refused(name: str, value: str) -> None:
    assert pgsettings.refusal(name, value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(
            ("work_mem", "8MB"),
            ("search_path", "public"),
            ("log_connections", "off"),
            ("max_slot_wal_keep_size", "8GB"),
        ),
        *(
            ("shared_preload_libraries", "pg_stat_statements"),
            ("pg_stat_statements.max", "100"),
            ("wal_level", "logical"),
        ),
        *(("plpgsql.extra_warnings", "all"), ("app.tenant", "x"), ("idle_in_transaction_session_timeout", "0")),
        *(("shared_preload_libraries", "'auto_explain', pg_prewarm"), ("shared_preload_libraries", "")),
    ],
)
def test_what_a_site_may_want_is_taken(name: str, value: str) -> None:
    assert pgsettings.refusal(name, value) == ""
