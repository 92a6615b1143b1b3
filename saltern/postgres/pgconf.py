"""PostgreSQL's configuration files: their texts, and its version in each Debian release."""

from __future__ import annotations

import re
from typing import Any

#: Debian release -> PostgreSQL's major version in it.
DEBIAN_VERSIONS = {12: 15, 13: 17}
SOCKET_DIRECTORY = "/run/postgresql"
#: The role that replicas copy with: it can read the whole cluster and change nothing.
REPLICATION_ROLE = "saltern_replication"
#: The role that root looks into databases with (pgsession.py).
READER_ROLE = "saltern_reader"
#: The role that ends sessions which take what all share (salt/postgres/files/postgres-guard.py).
GUARD_ROLE = "saltern_guard"


def server_version(debian_release: int) -> int:
    """Return PostgreSQL's major version in a Debian release.

    Args:
        debian_release: 12 or 13.

    Returns:
        The major version.

    Raises:
        ValueError: Saltern does not know this Debian release.

    Example:
        >>> server_version(13)
        17
    """
    if debian_release not in DEBIAN_VERSIONS:
        known = " and ".join(str(release) for release in DEBIAN_VERSIONS)
        raise ValueError(f"Saltern's postgres role knows Debian {known}; this host has Debian {debian_release}")
    return DEBIAN_VERSIONS[debian_release]


def config(settings: dict[str, Any]) -> str:
    """Return postgresql.conf's lines.

    Args:
        settings: Values by name. Booleans become on and off; everything is quoted.

    Returns:
        One line for each setting, in the given order.

    Raises:
        ValueError: A name is no setting's name, or a value has a line break.

    Example:
        >>> config({"ssl": True, "log_line_prefix": "it's "})
        "ssl = 'on'\\nlog_line_prefix = 'it''s '\\n"
    """
    lines = []
    for name, value in settings.items():
        if not re.fullmatch(r"[a-zA-Z_][\w.]*", name):
            raise ValueError(f"postgres.settings: {name!r} is not the name of a PostgreSQL setting")
        text = {True: "on", False: "off"}[value] if isinstance(value, bool) else str(value)
        if "\n" in text:
            raise ValueError(f"postgres.settings.{name}: a value is one line")
        quoted = text.replace("\\", "\\\\").replace("'", "''")
        lines.append(f"{name} = '{quoted}'\n")
    return "".join(lines)


def server_settings(major: int, cluster: str, port: int, listen: list[str]) -> dict[str, Any]:
    """Return the settings that do not depend on the host's size.

    Args:
        major: PostgreSQL's major version.
        cluster: The cluster's name.
        port: The TCP port.
        listen: The addresses to listen on.

    Returns:
        Values by name.

    Example:
        >>> server_settings(17, "main", 5432, ["127.0.0.1"])["ssl_min_protocol_version"]
        'TLSv1.3'
    """
    settings: dict[str, Any] = {
        "data_directory": f"/var/lib/postgresql/{major}/{cluster}",
        "hba_file": f"/etc/postgresql/{major}/{cluster}/pg_hba.conf",
        "ident_file": f"/etc/postgresql/{major}/{cluster}/pg_ident.conf",
        # Debian's pg_lsclusters and pg_ctlcluster look for it here.
        "external_pid_file": f"/run/postgresql/{major}-{cluster}.pid",
        "cluster_name": f"{major}/{cluster}",
        "listen_addresses": ",".join(listen),
        "port": port,
        "unix_socket_directories": SOCKET_DIRECTORY,
        # Root and postgres come this way; others would only take places.
        "unix_socket_permissions": "0700",
        # Who has not logged in has a place as well; an app has no more of them than its firewall's chain lets it.
        "authentication_timeout": "10s",
        "password_encryption": "scram-sha-256",
        "ssl": True,
        "ssl_cert_file": "/etc/postgresql/tls/host.crt",
        "ssl_key_file": "/etc/postgresql/tls/host.key",
        "ssl_min_protocol_version": "TLSv1.3",
        # To the journal, which is bounded; it adds the time.
        "logging_collector": False,
        "log_destination": "stderr",
        "log_line_prefix": "[%p] %q%u@%d %a %h ",
        "log_checkpoints": True,
        "log_lock_waits": True,
        "log_connections": True,
        "log_temp_files": "10MB",
        "log_autovacuum_min_duration": "10s",
        "log_min_duration_statement": "1s",
        # Slow statements are logged without the values that users sent.
        "log_parameter_max_length": 0,
        "log_timezone": "Etc/UTC",
        "timezone": "Etc/UTC",
        "lc_messages": "C.UTF-8",
        # Kept for our own sessions and people's, when apps have taken all others.
        "superuser_reserved_connections": 5,
        # Of one session, for roles that have no limit of their own: a query must not fill the disk.
        "temp_file_limit": "1GB",
        # One table for all apps, too: it has room until who fills it is ended. When a transaction's locks are joined
        # to one of a table does not change.
        "max_pred_locks_per_transaction": 256,
        "max_pred_locks_per_relation": 32,
        # A prepared transaction outlives its session: nobody could end what it holds.
        "max_prepared_transactions": 0,
        # A session could turn it on; its code wants memory that is written and run, and fails with the whole server.
        "jit_provider": "none",
        # A forgotten transaction holds locks and stops vacuum.
        "idle_in_transaction_session_timeout": "5min",
        # A client that lost its power or its network frees its connections within half a minute: it is back by then,
        # and what it had before must not keep it from having as many again.
        "tcp_keepalives_idle": "10s",
        "tcp_keepalives_interval": "5s",
        "tcp_keepalives_count": 3,
        # A replica that is away keeps this much WAL on the primary. Without a limit it would fill the primary's disk.
        "max_slot_wal_keep_size": "4GB",
    }
    if major >= 17:
        settings["allow_alter_system"] = False
    return settings


def hba(clients: list[dict[str, Any]], replicas: list[dict[str, Any]] | None = None) -> str:
    """Return pg_hba.conf: one line for each need, and a final reject.

    Args:
        clients: Who may connect: ``database``, ``user``, ``owner``, ``migrates`` (whether the owner comes from there
            too), ``address`` (a network, such as 10.0.0.5/32) and ``logins`` (for ``user`` and ``owner`` the roles that
            may log in for it, two while a password is replaced) each.
        replicas: Who may copy the whole cluster: ``address`` and ``logins`` each.

    Returns:
        The whole file.

    Raises:
        ValueError: A name cannot be written in pg_hba.conf, or an address has no prefix length.

    Example:
        >>> client = {"database": "d", "user": "u", "owner": "o", "migrates": True, "address": "127.0.0.1/32"}
        >>> print(hba([client]).splitlines()[5])
        hostssl "d" "u" 127.0.0.1/32 scram-sha-256
    """
    lines = [
        "# Written by Salt. Who may connect is derived from the fleet: change it there.",
        "# type database user address method",
        'local all "postgres" peer map=saltern',
        f'local all "{READER_ROLE}" peer map=saltern',
        f'local "postgres" "{GUARD_ROLE}" peer map=saltern',
    ]
    needs = [
        f"hostssl replication {_hba_quote(login)} {_hba_network(replica)} scram-sha-256"
        for replica in replicas or []
        for login in replica.get("logins") or [REPLICATION_ROLE]
    ]
    for client in clients:
        address, database = _hba_network(client), _hba_quote(client["database"])
        who = ("user", "owner") if client["migrates"] else ("user",)
        logins = [login for role in who for login in (client.get("logins") or {}).get(role) or [client[role]]]
        needs += [f"hostssl {database} {_hba_quote(login)} {address} scram-sha-256" for login in logins]
    lines += list(dict.fromkeys(needs))
    # `all` in the second column does not cover replication.
    lines += [
        "local replication all reject",
        "host replication all all reject",
        "local all all reject",
        "host all all all reject",
    ]
    return "\n".join(lines) + "\n"


def _hba_network(peer: dict[str, Any]) -> str:
    address = str(peer["address"])
    if not re.fullmatch(r"[0-9a-fA-F:.]+/\d+", address):
        raise ValueError(f"wiring.postgres: the address {address!r} is not a network such as 10.0.0.5/32")
    return address


def _hba_quote(name: str) -> str:
    """Return a name for pg_hba.conf in quotes, so that ``all`` or ``replication`` are only names."""
    if '"' in name or "\n" in name:
        raise ValueError(f"the name {name!r} cannot stand in pg_hba.conf: no quotes, no line breaks")
    return f'"{name}"'


def ident() -> str:
    """Return pg_ident.conf: root and postgres may act as ``postgres``, over the Unix socket only.

    Root can become every user anyway; this way it needs no ``su`` for each query. For what needs no superuser it takes
    a role that is none.

    Returns:
        The whole file.

    Example:
        >>> "saltern root postgres" in ident()
        True
    """
    maps = ["root postgres", "postgres postgres", f"root {READER_ROLE}", f"postgres {GUARD_ROLE}"]
    return "# Written by Salt.\n# map, system user, database user\n" + "".join(f"saltern {one}\n" for one in maps)
