"""What our own sessions ask PostgreSQL. Each table, function, operator and type is named with its schema.

In a database that an app owns, a name without a schema may be the app's (_utils/pgsession.py). Constructs that look
operators up by name without saying so are not used either: IN, LIKE, BETWEEN, IS DISTINCT FROM, CASE x WHEN, USING.
tests/unit/test_pg_sql.py reads all of ours; tests/scenarios/test_databases.py runs them among traps.
"""

from __future__ import annotations

CHECKSUMS = """
SELECT pg_catalog.current_setting('data_checksums') OPERATOR(pg_catalog.=) 'on' AS on
"""

# Verifiers must not reach the server's log.
SILENT = """
SELECT pg_catalog.set_config('log_statement', 'none', false),
       pg_catalog.set_config('log_min_duration_statement', '-1', false),
       pg_catalog.set_config('log_min_error_statement', 'panic', false)
"""

# Those with these names, or all that are not Postgres' own. Armed: it can do something.
_ROLES = """
WITH found AS (
    SELECT r.rolname, r.rolcanlogin, r.rolsuper, r.rolcreatedb, r.rolcreaterole, r.rolreplication, r.rolbypassrls,
           r.rolinherit, r.rolconnlimit, r.rolpassword,
           CASE WHEN r.rolvaliduntil OPERATOR(pg_catalog.<) CAST('infinity' AS pg_catalog.timestamptz)
                THEN CAST(r.rolvaliduntil AS pg_catalog.text) END AS expires,
           ARRAY(SELECT ARRAY[CAST(g.rolname AS pg_catalog.text), coalesce(CAST(b.rolname AS pg_catalog.text), ''),
                              CASE WHEN m.admin_option THEN 'admin' ELSE '' END]
                 FROM pg_catalog.pg_auth_members m
                 JOIN pg_catalog.pg_authid g ON g.oid OPERATOR(pg_catalog.=) m.roleid
                 LEFT JOIN pg_catalog.pg_authid b ON b.oid OPERATOR(pg_catalog.=) m.grantor
                 WHERE m.member OPERATOR(pg_catalog.=) r.oid ORDER BY 1) AS member_of,
           (SELECT pg_catalog.count(*) FROM pg_catalog.pg_shdepend d
            WHERE d.refclassid OPERATOR(pg_catalog.=) CAST('pg_catalog.pg_authid' AS pg_catalog.regclass)
              AND d.refobjid OPERATOR(pg_catalog.=) r.oid) AS dependents
    FROM pg_catalog.pg_authid r WHERE {condition}
)
SELECT *, rolcanlogin OR rolsuper OR rolcreatedb OR rolcreaterole OR rolreplication OR rolbypassrls
          OR rolpassword IS NOT NULL OR pg_catalog.cardinality(member_of) OPERATOR(pg_catalog.>) 0 AS armed
FROM found
"""
ROLES = _ROLES.format(condition="r.rolname OPERATOR(pg_catalog.=) ANY (%s)")
ALL_ROLES = _ROLES.format(
    condition="r.oid OPERATOR(pg_catalog.>=) CAST(16384 AS pg_catalog.oid)"
    " OR r.rolname OPERATOR(pg_catalog.=) 'postgres'"
)

# Settings that a session begins with because of its role or its database; empty: of all.
ROLE_SETTINGS = """
SELECT CASE WHEN s.setrole OPERATOR(pg_catalog.=) 0 THEN '' ELSE CAST(r.rolname AS pg_catalog.text) END AS role,
       CASE WHEN s.setdatabase OPERATOR(pg_catalog.=) 0 THEN '' ELSE CAST(d.datname AS pg_catalog.text) END AS database,
       c.setting
FROM pg_catalog.pg_db_role_setting s
CROSS JOIN pg_catalog.unnest(s.setconfig) AS c(setting)
LEFT JOIN pg_catalog.pg_authid r ON r.oid OPERATOR(pg_catalog.=) s.setrole
LEFT JOIN pg_catalog.pg_database d ON d.oid OPERATOR(pg_catalog.=) s.setdatabase
ORDER BY 1, 2, 3
"""

DEFAULTS = """
SELECT name, context, coalesce(reset_val, '') AS value FROM pg_catalog.pg_settings
WHERE context OPERATOR(pg_catalog.=) ANY (ARRAY['user', 'superuser'])
"""

DATABASES = """
SELECT d.datname AS name, pg_catalog.pg_get_userbyid(d.datdba) AS owner,
       pg_catalog.pg_encoding_to_char(d.encoding) AS encoding,
       d.datallowconn AS allows_connections, d.datconnlimit AS connection_limit,
       ARRAY(SELECT ARRAY[CASE WHEN a.grantee OPERATOR(pg_catalog.=) 0 THEN 'PUBLIC'
                          ELSE CAST(pg_catalog.pg_get_userbyid(a.grantee) AS pg_catalog.text) END, a.privilege_type]
             FROM pg_catalog.aclexplode(coalesce(d.datacl, pg_catalog.acldefault('d', d.datdba))) a) AS grants
FROM pg_catalog.pg_database d WHERE d.datname OPERATOR(pg_catalog.=) ANY (%s)
"""

PUBLIC_SCHEMA = """
SELECT pg_catalog.pg_get_userbyid(n.nspowner) AS owner,
       ARRAY(SELECT CASE WHEN a.grantee OPERATOR(pg_catalog.=) 0 THEN 'PUBLIC'
                    ELSE CAST(pg_catalog.pg_get_userbyid(a.grantee) AS pg_catalog.text) END
             FROM pg_catalog.aclexplode(coalesce(n.nspacl, pg_catalog.acldefault('n', n.nspowner))) a
             WHERE a.privilege_type OPERATOR(pg_catalog.=) 'CREATE' ORDER BY 1) AS writers
FROM pg_catalog.pg_namespace n WHERE n.nspname OPERATOR(pg_catalog.=) 'public'
"""

EXTENSIONS = "SELECT extname FROM pg_catalog.pg_extension"

# Relations of the database itself: not Postgres' own, not an extension's; a column's sequence goes with its table.
OBJECTS = """
WITH roles AS (
    SELECT (SELECT r.oid FROM pg_catalog.pg_roles r WHERE r.rolname OPERATOR(pg_catalog.=) %(user)s) AS app,
           (SELECT r.oid FROM pg_catalog.pg_roles r WHERE r.rolname OPERATOR(pg_catalog.=) %(owner)s) AS owner
), schemas AS (
    SELECT n.oid, CAST(n.nspname AS pg_catalog.text) AS name, n.nspname OPERATOR(pg_catalog.=) 'public' AS is_public
    FROM pg_catalog.pg_namespace n
    WHERE n.nspname OPERATOR(pg_catalog.!~) '^pg_' AND n.nspname OPERATOR(pg_catalog.<>) 'information_schema'
), relations AS (
    SELECT c.oid, s.name AS schema, CAST(c.relname AS pg_catalog.text) AS name,
           CAST(c.relkind AS pg_catalog.text) AS kind, c.relowner, c.relacl,
           EXISTS (SELECT FROM pg_catalog.pg_depend d
                   WHERE d.classid OPERATOR(pg_catalog.=) CAST('pg_catalog.pg_class' AS pg_catalog.regclass)
                     AND d.objid OPERATOR(pg_catalog.=) c.oid AND c.relkind OPERATOR(pg_catalog.=) 'S'
                     AND d.deptype OPERATOR(pg_catalog.=) ANY (ARRAY[CAST('a' AS pg_catalog."char"), 'i']))
           AS of_a_column
    FROM pg_catalog.pg_class c JOIN schemas s ON s.oid OPERATOR(pg_catalog.=) c.relnamespace
    WHERE c.relkind OPERATOR(pg_catalog.=) ANY (ARRAY[CAST('r' AS pg_catalog."char"), 'p', 'v', 'm', 'f', 'S'])
      AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d
                      WHERE d.classid OPERATOR(pg_catalog.=) CAST('pg_catalog.pg_class' AS pg_catalog.regclass)
                        AND d.objid OPERATOR(pg_catalog.=) c.oid AND d.deptype OPERATOR(pg_catalog.=) 'e')
)
SELECT (SELECT pg_catalog.count(*) FROM pg_catalog.pg_shdepend d, roles
        WHERE d.refclassid OPERATOR(pg_catalog.=) CAST('pg_catalog.pg_authid' AS pg_catalog.regclass)
        AND d.refobjid OPERATOR(pg_catalog.=) roles.app
        AND d.deptype OPERATOR(pg_catalog.=) 'o'
        AND d.classid OPERATOR(pg_catalog.<>) CAST('pg_catalog.pg_default_acl' AS pg_catalog.regclass)
        AND d.dbid OPERATOR(pg_catalog.=) (SELECT b.oid FROM pg_catalog.pg_database b
             WHERE b.datname OPERATOR(pg_catalog.=) pg_catalog.current_database())) AS owned_by_app,
       ARRAY(SELECT ARRAY[schema, name] FROM relations, roles
             WHERE NOT (coalesce(relowner OPERATOR(pg_catalog.=) owner, false)
                        OR coalesce(relowner OPERATOR(pg_catalog.=) app, false) OR of_a_column)
             ORDER BY 1) AS strays,
       ARRAY(SELECT ARRAY[schema, name, kind] FROM relations, roles
             WHERE coalesce(relowner OPERATOR(pg_catalog.=) app, false)
                OR NOT EXISTS (SELECT FROM pg_catalog.aclexplode(relacl) a
                               WHERE a.grantee OPERATOR(pg_catalog.=) app) ORDER BY 1) AS closed,
       ARRAY(SELECT schemas.name FROM schemas, roles
             WHERE NOT coalesce(pg_catalog.has_schema_privilege(app, schemas.oid, 'USAGE'), is_public)
             ORDER BY 1) AS closed_schemas,
       ARRAY(SELECT ARRAY[CAST(d.defaclobjtype AS pg_catalog.text), a.privilege_type]
             FROM pg_catalog.pg_default_acl d, roles, pg_catalog.aclexplode(d.defaclacl) a
             WHERE d.defaclrole OPERATOR(pg_catalog.=) owner AND d.defaclnamespace OPERATOR(pg_catalog.=) 0
               AND a.grantee OPERATOR(pg_catalog.=) app) AS default_privileges
"""

SLOTS = """
SELECT CAST(slot_name AS pg_catalog.text) AS name, active_pid,
       coalesce(wal_status OPERATOR(pg_catalog.=) 'lost', false) AS lost
FROM pg_catalog.pg_replication_slots
WHERE slot_type OPERATOR(pg_catalog.=) 'physical' AND NOT temporary
  AND pg_catalog.starts_with(CAST(slot_name AS pg_catalog.text), %s) ORDER BY 1
"""

RECEIVING = """
SELECT pg_catalog.pg_is_in_recovery() AS in_recovery,
       CASE WHEN pg_catalog.pg_is_in_recovery() THEN pg_catalog.pg_is_wal_replay_paused() ELSE false END AS paused,
       (SELECT CAST(c.system_identifier AS pg_catalog.text) FROM pg_catalog.pg_control_system() c) AS system,
       r.status, r.sender_host AS sender,
       coalesce(pg_catalog.now() OPERATOR(pg_catalog.-) a.backend_start
                OPERATOR(pg_catalog.>) CAST('1.5s' AS pg_catalog.interval), false) AS steady
FROM (SELECT 1) one
LEFT JOIN pg_catalog.pg_stat_wal_receiver r ON true
LEFT JOIN pg_catalog.pg_stat_activity a ON a.pid OPERATOR(pg_catalog.=) r.pid
"""

SESSIONS = """
SELECT CAST(usename AS pg_catalog.text) AS role, pg_catalog.count(*) AS sessions
FROM pg_catalog.pg_stat_activity WHERE usename OPERATOR(pg_catalog.=) ANY (%s) GROUP BY 1
"""

# What a web host asks in an app's database, as the app's role. Django's table is where migrations make it.
HAS_MIGRATIONS = "SELECT pg_catalog.to_regclass('public.django_migrations') IS NOT NULL"
MIGRATIONS = "SELECT app, name FROM public.django_migrations"
MIGRATIONS_SINCE = """
SELECT app, name FROM public.django_migrations WHERE applied OPERATOR(pg_catalog.>) %s ORDER BY id
"""

# A partitioned table has its bytes in its partitions.
TABLE_SIZES = """
SELECT c.relname,
       CAST(coalesce((SELECT pg_catalog.sum(pg_catalog.pg_table_size(p.relid))
                      FROM pg_catalog.pg_partition_tree(c.oid) p), pg_catalog.pg_table_size(c.oid)) AS bigint)
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) c.relnamespace
WHERE c.relkind OPERATOR(pg_catalog.=) ANY (ARRAY[CAST('r' AS pg_catalog."char"), 'p', 'm'])
  AND n.nspname OPERATOR(pg_catalog.=) 'public'
"""


def query(name: str) -> str:
    """Return one of these texts.

    Args:
        name: Its name, in small letters.

    Returns:
        SQL, with ``%s`` or ``%(name)s`` where values go.

    Example:
        >>> query("extensions")
        'SELECT extname FROM pg_catalog.pg_extension'
    """
    text: str = globals()[name.upper()]
    return text


def queries() -> dict[str, str]:
    """Return all of these texts, for tests that walk over them.

    Example:
        >>> "roles" in queries()
        True
    """
    return {name.lower(): text for name, text in globals().items() if name[0].isupper() and isinstance(text, str)}
