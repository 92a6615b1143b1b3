"""Which settings of PostgreSQL a site may not give, by what they do. Pure.

``postgres.settings`` wins over all that is computed. What decides who gets in, which files and programs the server
reads and runs, who follows whom, or what keeps one app from the others, is not to be had there.
"""

from __future__ import annotations

import re

#: What settings do -> why they are refused, and what to do. The names are patterns; the first that fits is told.
REFUSED = (
    ("port", "use postgres.port"),
    ("max_connections", "use postgres.max_connections"),
    ("listen_addresses", "it follows from the fleet"),
    ("include|include_dir|include_if_exists", "the file is Salt's as a whole; write the settings here"),
    ("config_file|data_directory|external_pid_file|cluster_name", "it is where Debian has the cluster"),
    ("hba_file|ident_file|krb_.*|gss_.*|db_user_namespace|oauth_.*", "access follows from the fleet"),
    ("unix_socket_.*", "the socket is for root and postgres alone"),
    ("bonjour.*", "nobody but the fleet is told of it"),
    ("password_encryption|scram_iterations", "passwords are scram-sha-256, as Saltern makes them"),
    ("ssl|ssl_.*", "TLS is always on, and the certificate is the host's"),
    ("authentication_timeout", "who has not logged in takes a place; it is 10 s"),
    # Programs and libraries.
    (".*_command|archive_.*", "the server runs no programs"),
    (r"(?!shared_preload_).*_libraries|.*_library|dynamic_library_path|extension_\w*", "it loads code"),
    ("jit_provider|jit_debugging_support|jit_profiling_support|jit_dump_bitcode", "the sandbox lets no code be made"),
    (r"pl(?!pgsql\.)\w*\..*|basic_archive\..*", "it runs code or writes files"),
    # What all apps share.
    ("superuser_reserved_connections|reserved_connections", "the places are counted by Saltern"),
    (
        "max_locks_per_transaction|max_pred_locks_per_.*|max_notify_queue_pages",
        "all apps share it; it is sized by Saltern",
    ),
    ("max_prepared_transactions", "a prepared transaction outlives its session, and nothing could end what it holds"),
    ("dynamic_shared_memory_type|shared_memory_type", "what workers share is counted where Debian has it"),
    ("track_activities|track_counts", "who takes what others need could not be seen, or vacuum not work"),
    # The server's life and its data.
    ("restart_after_crash|exit_on_error|send_abort_for_.*", "the server would not come back, or sessions end"),
    ("fsync|full_page_writes|data_sync_retry|recovery_init_sync_method", "a crash would lose or spoil data"),
    ("zero_damaged_pages|ignore_.*|allow_in_place_tablespaces|allow_system_table_mods", "it spoils data, or hides it"),
    ("allow_alter_system", "the settings are what Salt has written"),
    (
        "debug_.*|trace_.*|wal_consistency_checking|backtrace_functions|(pre|post)_auth_delay",
        "it is for developers of PostgreSQL",
    ),
    (
        "remove_temp_files_after_crash|event_triggers|composite_type_mismatch|lo_compat_privileges|session_replication_role",
        "it takes a wall or a check away",
    ),
    ("force_parallel_mode|debug_parallel_query", "it is for developers of PostgreSQL"),
    # Replicas.
    (
        "primary_.*|recovery_target.*|promote_trigger_file|hot_standby|sync_replication_slots",
        "copies follow from the fleet",
    ),
    ("synchronous_standby_names|synchronized_standby_slots|recovery_min_apply_delay", "copies follow from the fleet"),
    ("vacuum_defer_cleanup_age", "copies follow from the fleet"),
    # Logs.
    (
        "logging_collector|log_(destination|directory|filename|file_mode|rotation_.*|truncate_on_rotation)|syslog_.*|event_source",
        "logs go to the journal, which is bounded",
    ),
    ("lc_messages", "Saltern reads the server's messages"),
    (
        "block_size|data_checksums|data_directory_mode|huge_pages_status|in_hot_standby|integer_datetimes"
        "|lc_collate|lc_ctype|max_(function_args|identifier_length|index_keys)|num_os_semaphores|segment_size"
        "|server_encoding|server_version.*|shared_memory_size.*|wal_block_size|wal_segment_size",
        "it can only be read",
    ),
)
#: Settings of which only these values are allowed; of a list, each.
VALUES = {
    "shared_preload_libraries": ("auto_explain", "pg_prewarm", "pg_stat_statements"),
    "wal_level": ("replica", "logical"),
    "huge_pages": ("try", "off"),
}


def refusal(name: str, value: str = "") -> str:
    """Return why a site may not give a setting, or nothing.

    Args:
        name: the setting's name.
        value: what it shall be.

    Example:
        >>> refusal("restore_command"), refusal("work_mem", "8MB")
        ('the server runs no programs', '')
    """
    for pattern, why in REFUSED:
        if re.fullmatch(pattern, name):
            return why
    allowed = VALUES.get(name)
    given = [word.strip(" '\"").lower() for word in value.split(",")]
    if allowed and [word for word in given if word and word not in allowed]:
        return f"only {', '.join(allowed)}"
    return ""


def refused(settings: dict[str, str]) -> list[str]:
    """Return the settings that a site may not give, each with the reason.

    Args:
        settings: values by name.

    Example:
        >>> refused({"port": "1", "work_mem": "8MB"})
        ['port (use postgres.port)']
    """
    found = {name: refusal(name, value) for name, value in settings.items()}
    return [f"{name} ({why})" for name, why in found.items() if why]
