"""What our own sessions ask PostgreSQL. Each table, function, operator and type is named with its schema.

In a database that an app owns, a name without a schema may be the app's (pgsession.py). Constructs that look
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
# Large objects and what ends with its session an app may own: for these it needs no right to create.
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
SELECT (SELECT pg_catalog.count(*) FROM pg_catalog.pg_shdepend d
        CROSS JOIN roles CROSS JOIN pg_catalog.pg_identify_object(d.classid, d.objid, d.objsubid) x
        WHERE d.refclassid OPERATOR(pg_catalog.=) CAST('pg_catalog.pg_authid' AS pg_catalog.regclass)
        AND d.refobjid OPERATOR(pg_catalog.=) roles.app
        AND d.deptype OPERATOR(pg_catalog.=) 'o'
        AND d.classid OPERATOR(pg_catalog.<>) CAST('pg_catalog.pg_default_acl' AS pg_catalog.regclass)
        AND d.classid OPERATOR(pg_catalog.<>) CAST('pg_catalog.pg_largeobject' AS pg_catalog.regclass)
        AND NOT pg_catalog.starts_with(coalesce(x.schema, ''), 'pg_temp')
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
             WHERE NOT coalesce(CASE WHEN is_public THEN pg_catalog.has_schema_privilege(app, schemas.oid, 'USAGE')
                   ELSE EXISTS (SELECT FROM pg_catalog.pg_namespace n, pg_catalog.aclexplode(n.nspacl) a
                                WHERE n.oid OPERATOR(pg_catalog.=) schemas.oid AND a.grantee OPERATOR(pg_catalog.=) app
                                  AND a.privilege_type OPERATOR(pg_catalog.=) 'USAGE') END, is_public)
             ORDER BY 1) AS closed_schemas,
       ARRAY(SELECT ARRAY[CAST(d.defaclobjtype AS pg_catalog.text), a.privilege_type]
             FROM pg_catalog.pg_default_acl d, roles, pg_catalog.aclexplode(d.defaclacl) a
             WHERE d.defaclrole OPERATOR(pg_catalog.=) owner AND d.defaclnamespace OPERATOR(pg_catalog.=) 0
               AND a.grantee OPERATOR(pg_catalog.=) app) AS default_privileges
"""

# Rights beyond what each object has from the start, but for those of the database's own roles, which may not hand
# them on. On what is Postgres' own nobody is given any.
RIGHTS = """
WITH roles AS (
    SELECT ARRAY(SELECT r.oid FROM pg_catalog.pg_roles r
                 WHERE r.rolname OPERATOR(pg_catalog.=) ANY (%(own)s)) AS own
), objects AS (
    SELECT CASE WHEN c.relkind OPERATOR(pg_catalog.=) 'S' THEN 'SEQUENCE' ELSE 'TABLE' END AS kind,
           CAST(CAST(c.oid AS pg_catalog.regclass) AS pg_catalog.text) AS identity,
           c.relowner AS owner, c.relacl AS acl, c.oid AS oid, i.initprivs,
           CAST(CASE WHEN c.relkind OPERATOR(pg_catalog.=) 'S' THEN 's' ELSE 'r' END AS pg_catalog."char") AS letter
    FROM pg_catalog.pg_class c
    LEFT JOIN pg_catalog.pg_init_privs i ON i.classoid OPERATOR(pg_catalog.=) CAST('pg_catalog.pg_class' AS
        pg_catalog.regclass)
         AND i.objoid OPERATOR(pg_catalog.=) c.oid AND i.objsubid OPERATOR(pg_catalog.=) 0
    WHERE c.relacl IS NOT NULL AND c.relpersistence OPERATOR(pg_catalog.<>) 't' AND NOT coalesce(c.relacl
        OPERATOR(pg_catalog.=) i.initprivs, false)
    UNION ALL
    SELECT 'TABLE' AS kind,
           CAST(CAST(c.oid AS pg_catalog.regclass) AS pg_catalog.text) AS identity,
           c.relowner AS owner, a.attacl AS acl, c.oid AS oid, i.initprivs,
           CAST('c' AS pg_catalog."char") AS letter
    FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_class c ON c.oid OPERATOR(pg_catalog.=) a.attrelid
    LEFT JOIN pg_catalog.pg_init_privs i ON i.classoid OPERATOR(pg_catalog.=) CAST('pg_catalog.pg_class' AS
        pg_catalog.regclass)
         AND i.objoid OPERATOR(pg_catalog.=) c.oid AND i.objsubid OPERATOR(pg_catalog.=) a.attnum
    WHERE a.attacl IS NOT NULL AND c.relpersistence OPERATOR(pg_catalog.<>) 't' AND NOT coalesce(a.attacl
        OPERATOR(pg_catalog.=) i.initprivs, false)
    UNION ALL
    SELECT 'SCHEMA' AS kind,
           pg_catalog.quote_ident(n.nspname) AS identity,
           n.nspowner AS owner, n.nspacl AS acl, n.oid AS oid, i.initprivs,
           CAST('n' AS pg_catalog."char") AS letter
    FROM pg_catalog.pg_namespace n
    LEFT JOIN pg_catalog.pg_init_privs i ON i.classoid OPERATOR(pg_catalog.=) CAST('pg_catalog.pg_namespace' AS
        pg_catalog.regclass)
         AND i.objoid OPERATOR(pg_catalog.=) n.oid AND i.objsubid OPERATOR(pg_catalog.=) 0
    WHERE n.nspacl IS NOT NULL AND n.nspname OPERATOR(pg_catalog.!~) '^pg_(temp|toast)' AND NOT coalesce(n.nspacl
        OPERATOR(pg_catalog.=) i.initprivs, false)
    UNION ALL
    SELECT 'ROUTINE' AS kind,
           CAST(CAST(p.oid AS pg_catalog.regprocedure) AS pg_catalog.text) AS identity,
           p.proowner AS owner, p.proacl AS acl, p.oid AS oid, i.initprivs,
           CAST('f' AS pg_catalog."char") AS letter
    FROM pg_catalog.pg_proc p
    LEFT JOIN pg_catalog.pg_init_privs i ON i.classoid OPERATOR(pg_catalog.=) CAST('pg_catalog.pg_proc' AS
        pg_catalog.regclass)
         AND i.objoid OPERATOR(pg_catalog.=) p.oid AND i.objsubid OPERATOR(pg_catalog.=) 0
    WHERE p.proacl IS NOT NULL AND NOT coalesce(p.proacl OPERATOR(pg_catalog.=) i.initprivs, false)
    UNION ALL
    SELECT 'TYPE' AS kind,
           CAST(CAST(y.oid AS pg_catalog.regtype) AS pg_catalog.text) AS identity,
           y.typowner AS owner, y.typacl AS acl, y.oid AS oid, i.initprivs,
           CAST('T' AS pg_catalog."char") AS letter
    FROM pg_catalog.pg_type y
    LEFT JOIN pg_catalog.pg_init_privs i ON i.classoid OPERATOR(pg_catalog.=) CAST('pg_catalog.pg_type' AS
        pg_catalog.regclass)
         AND i.objoid OPERATOR(pg_catalog.=) y.oid AND i.objsubid OPERATOR(pg_catalog.=) 0
    WHERE y.typacl IS NOT NULL AND NOT coalesce(y.typacl OPERATOR(pg_catalog.=) i.initprivs, false)
    UNION ALL
    SELECT 'LANGUAGE' AS kind,
           pg_catalog.quote_ident(l.lanname) AS identity,
           l.lanowner AS owner, l.lanacl AS acl, l.oid AS oid, i.initprivs,
           CAST('l' AS pg_catalog."char") AS letter
    FROM pg_catalog.pg_language l
    LEFT JOIN pg_catalog.pg_init_privs i ON i.classoid OPERATOR(pg_catalog.=) CAST('pg_catalog.pg_language' AS
        pg_catalog.regclass)
         AND i.objoid OPERATOR(pg_catalog.=) l.oid AND i.objsubid OPERATOR(pg_catalog.=) 0
    WHERE l.lanacl IS NOT NULL AND NOT coalesce(l.lanacl OPERATOR(pg_catalog.=) i.initprivs, false)
    UNION ALL
    SELECT 'LARGE OBJECT' AS kind,
           CAST(o.oid AS pg_catalog.text) AS identity,
           o.lomowner AS owner, o.lomacl AS acl, o.oid AS oid, i.initprivs,
           CAST('L' AS pg_catalog."char") AS letter
    FROM pg_catalog.pg_largeobject_metadata o
    LEFT JOIN pg_catalog.pg_init_privs i ON i.classoid OPERATOR(pg_catalog.=) CAST('pg_catalog.pg_largeobject' AS
        pg_catalog.regclass)
         AND i.objoid OPERATOR(pg_catalog.=) o.oid AND i.objsubid OPERATOR(pg_catalog.=) 0
    WHERE o.lomacl IS NOT NULL AND NOT coalesce(o.lomacl OPERATOR(pg_catalog.=) i.initprivs, false)
    UNION ALL
    SELECT 'FOREIGN DATA WRAPPER' AS kind,
           pg_catalog.quote_ident(w.fdwname) AS identity,
           w.fdwowner AS owner, w.fdwacl AS acl, w.oid AS oid, i.initprivs,
           CAST('F' AS pg_catalog."char") AS letter
    FROM pg_catalog.pg_foreign_data_wrapper w
    LEFT JOIN pg_catalog.pg_init_privs i ON i.classoid OPERATOR(pg_catalog.=)
        CAST('pg_catalog.pg_foreign_data_wrapper' AS pg_catalog.regclass)
         AND i.objoid OPERATOR(pg_catalog.=) w.oid AND i.objsubid OPERATOR(pg_catalog.=) 0
    WHERE w.fdwacl IS NOT NULL AND NOT coalesce(w.fdwacl OPERATOR(pg_catalog.=) i.initprivs, false)
    UNION ALL
    SELECT 'FOREIGN SERVER' AS kind,
           pg_catalog.quote_ident(s.srvname) AS identity,
           s.srvowner AS owner, s.srvacl AS acl, s.oid AS oid, i.initprivs,
           CAST('S' AS pg_catalog."char") AS letter
    FROM pg_catalog.pg_foreign_server s
    LEFT JOIN pg_catalog.pg_init_privs i ON i.classoid OPERATOR(pg_catalog.=) CAST('pg_catalog.pg_foreign_server' AS
        pg_catalog.regclass)
         AND i.objoid OPERATOR(pg_catalog.=) s.oid AND i.objsubid OPERATOR(pg_catalog.=) 0
    WHERE s.srvacl IS NOT NULL AND NOT coalesce(s.srvacl OPERATOR(pg_catalog.=) i.initprivs, false)
)
SELECT o.kind, o.identity,
       CASE WHEN a.grantee OPERATOR(pg_catalog.=) 0 THEN 'PUBLIC' ELSE CAST(pg_catalog.pg_get_userbyid(a.grantee) AS
           pg_catalog.text) END AS grantee,
       CASE WHEN a.grantor OPERATOR(pg_catalog.<>) o.owner THEN CAST(pg_catalog.pg_get_userbyid(a.grantor) AS
           pg_catalog.text) END AS grantor,
       pg_catalog.bool_or(a.is_grantable AND a.grantee OPERATOR(pg_catalog.=) ANY (roles.own)) AS handed_on
FROM roles, objects o, pg_catalog.aclexplode(o.acl) a
WHERE a.grantee OPERATOR(pg_catalog.<>) o.owner
  AND NOT EXISTS (
      SELECT FROM pg_catalog.aclexplode(coalesce(o.initprivs, pg_catalog.acldefault(o.letter, o.owner))) d
      WHERE d.grantee OPERATOR(pg_catalog.=) a.grantee AND d.privilege_type OPERATOR(pg_catalog.=) a.privilege_type
        AND (d.is_grantable OR NOT a.is_grantable))
  AND NOT ((o.oid OPERATOR(pg_catalog.>=) CAST(16384 AS pg_catalog.oid)
            OR o.kind OPERATOR(pg_catalog.=) 'LARGE OBJECT')
           AND a.grantee OPERATOR(pg_catalog.=) ANY (roles.own) AND NOT a.is_grantable AND a.grantor
               OPERATOR(pg_catalog.=) o.owner)
  AND NOT (o.oid OPERATOR(pg_catalog.<) CAST(16384 AS pg_catalog.oid) AND a.grantee OPERATOR(pg_catalog.=) 0
           AND pg_catalog.starts_with(o.identity, 'information_schema')
           AND a.privilege_type OPERATOR(pg_catalog.=) ANY (ARRAY['SELECT', 'USAGE']))
GROUP BY 1, 2, 3, 4 ORDER BY 1, 2, 3, 4
"""

# What an owner's future objects would give to others.
DEFAULT_RIGHTS = """
SELECT CAST(pg_catalog.pg_get_userbyid(d.defaclrole) AS pg_catalog.text) AS role,
       CASE WHEN d.defaclnamespace OPERATOR(pg_catalog.<>) 0 THEN CAST(CAST(d.defaclnamespace AS
           pg_catalog.regnamespace) AS pg_catalog.text) END AS schema,
       CASE WHEN d.defaclobjtype OPERATOR(pg_catalog.=) 'r' THEN 'TABLES' WHEN d.defaclobjtype OPERATOR(pg_catalog.=)
           'S' THEN 'SEQUENCES'
            WHEN d.defaclobjtype OPERATOR(pg_catalog.=) 'f' THEN 'FUNCTIONS' WHEN d.defaclobjtype
                OPERATOR(pg_catalog.=) 'T' THEN 'TYPES'
            WHEN d.defaclobjtype OPERATOR(pg_catalog.=) 'n' THEN 'SCHEMAS' ELSE 'LARGE OBJECTS' END AS kind,
       CASE WHEN a.grantee OPERATOR(pg_catalog.=) 0 THEN 'PUBLIC' ELSE CAST(pg_catalog.pg_get_userbyid(a.grantee) AS
           pg_catalog.text) END AS grantee
FROM pg_catalog.pg_default_acl d, pg_catalog.aclexplode(d.defaclacl) a
WHERE a.grantee OPERATOR(pg_catalog.<>) d.defaclrole
  AND NOT (a.grantee OPERATOR(pg_catalog.=) ANY (ARRAY(SELECT r.oid FROM pg_catalog.pg_roles r
                                       WHERE r.rolname OPERATOR(pg_catalog.=) ANY (%(own)s))) AND NOT a.is_grantable)
  AND NOT (a.grantee OPERATOR(pg_catalog.=) 0 AND d.defaclobjtype OPERATOR(pg_catalog.=) ANY (ARRAY[CAST('f' AS
      pg_catalog."char"), 'T']))
GROUP BY 1, 2, 3, 4 ORDER BY 1, 2, 3, 4
"""

# What a database holds that is neither its owner's, nor its app's (that moves over), nor an extension's.
STRANGERS = """
WITH objects AS (
    SELECT 'ROUTINE' AS kind, CAST(CAST(p.oid AS pg_catalog.regprocedure) AS pg_catalog.text) AS identity, p.proowner
        AS owner, p.oid AS oid,
           CAST(CAST('pg_catalog.pg_proc' AS pg_catalog.regclass) AS pg_catalog.oid) AS classid, 'OWNER' AS deed,
               p.prosecdef AND p.prokind OPERATOR(pg_catalog.<>) 'a' AS definer
    FROM pg_catalog.pg_proc p
    WHERE p.oid OPERATOR(pg_catalog.>=) CAST(16384 AS pg_catalog.oid)
    UNION ALL
    SELECT 'SCHEMA' AS kind, pg_catalog.quote_ident(n.nspname) AS identity, n.nspowner AS owner, n.oid AS oid,
           CAST(CAST('pg_catalog.pg_namespace' AS pg_catalog.regclass) AS pg_catalog.oid) AS classid, 'OWNER' AS
               deed, false AS definer
    FROM pg_catalog.pg_namespace n
    WHERE n.nspname OPERATOR(pg_catalog.!~) '^pg_'
    UNION ALL
    SELECT 'TYPE' AS kind, CAST(CAST(y.oid AS pg_catalog.regtype) AS pg_catalog.text) AS identity, y.typowner AS
        owner, y.oid AS oid,
           CAST(CAST('pg_catalog.pg_type' AS pg_catalog.regclass) AS pg_catalog.oid) AS classid, 'OWNER' AS deed,
               false AS definer
    FROM pg_catalog.pg_type y LEFT JOIN pg_catalog.pg_class k ON k.oid OPERATOR(pg_catalog.=) y.typrelid
    WHERE y.typelem OPERATOR(pg_catalog.=) CAST(0 AS pg_catalog.oid) AND y.typtype OPERATOR(pg_catalog.<>) 'm' AND
        (k.oid IS NULL OR k.relkind OPERATOR(pg_catalog.=) 'c')
    UNION ALL
    SELECT pg_catalog.upper(x.type) AS kind, x.identity AS identity, o.oprowner AS owner, o.oid AS oid,
           CAST(CAST('pg_catalog.pg_operator' AS pg_catalog.regclass) AS pg_catalog.oid) AS classid, 'OWNER' AS deed,
               false AS definer
    FROM pg_catalog.pg_operator o
    CROSS JOIN pg_catalog.pg_identify_object(CAST('pg_catalog.pg_operator' AS pg_catalog.regclass), o.oid, 0) x
    WHERE o.oid OPERATOR(pg_catalog.>=) CAST(16384 AS pg_catalog.oid)
    UNION ALL
    SELECT pg_catalog.upper(x.type) AS kind, x.identity AS identity, c.opcowner AS owner, c.oid AS oid,
           CAST(CAST('pg_catalog.pg_opclass' AS pg_catalog.regclass) AS pg_catalog.oid) AS classid, 'OWNER' AS deed,
               false AS definer
    FROM pg_catalog.pg_opclass c
    CROSS JOIN pg_catalog.pg_identify_object(CAST('pg_catalog.pg_opclass' AS pg_catalog.regclass), c.oid, 0) x
    WHERE c.oid OPERATOR(pg_catalog.>=) CAST(16384 AS pg_catalog.oid)
    UNION ALL
    SELECT pg_catalog.upper(x.type) AS kind, x.identity AS identity, f.opfowner AS owner, f.oid AS oid,
           CAST(CAST('pg_catalog.pg_opfamily' AS pg_catalog.regclass) AS pg_catalog.oid) AS classid, 'OWNER' AS deed,
               false AS definer
    FROM pg_catalog.pg_opfamily f
    CROSS JOIN pg_catalog.pg_identify_object(CAST('pg_catalog.pg_opfamily' AS pg_catalog.regclass), f.oid, 0) x
    WHERE f.oid OPERATOR(pg_catalog.>=) CAST(16384 AS pg_catalog.oid)
    UNION ALL
    SELECT pg_catalog.upper(x.type) AS kind, x.identity AS identity, l.collowner AS owner, l.oid AS oid,
           CAST(CAST('pg_catalog.pg_collation' AS pg_catalog.regclass) AS pg_catalog.oid) AS classid, 'OWNER' AS
               deed, false AS definer
    FROM pg_catalog.pg_collation l
    CROSS JOIN pg_catalog.pg_identify_object(CAST('pg_catalog.pg_collation' AS pg_catalog.regclass), l.oid, 0) x
    WHERE l.oid OPERATOR(pg_catalog.>=) CAST(16384 AS pg_catalog.oid)
    UNION ALL
    SELECT pg_catalog.upper(x.type) AS kind, x.identity AS identity, v.conowner AS owner, v.oid AS oid,
           CAST(CAST('pg_catalog.pg_conversion' AS pg_catalog.regclass) AS pg_catalog.oid) AS classid, 'OWNER' AS
               deed, false AS definer
    FROM pg_catalog.pg_conversion v
    CROSS JOIN pg_catalog.pg_identify_object(CAST('pg_catalog.pg_conversion' AS pg_catalog.regclass), v.oid, 0) x
    WHERE v.oid OPERATOR(pg_catalog.>=) CAST(16384 AS pg_catalog.oid)
    UNION ALL
    SELECT pg_catalog.upper(x.type) AS kind, x.identity AS identity, d.dictowner AS owner, d.oid AS oid,
           CAST(CAST('pg_catalog.pg_ts_dict' AS pg_catalog.regclass) AS pg_catalog.oid) AS classid, 'OWNER' AS deed,
               false AS definer
    FROM pg_catalog.pg_ts_dict d
    CROSS JOIN pg_catalog.pg_identify_object(CAST('pg_catalog.pg_ts_dict' AS pg_catalog.regclass), d.oid, 0) x
    WHERE d.oid OPERATOR(pg_catalog.>=) CAST(16384 AS pg_catalog.oid)
    UNION ALL
    SELECT pg_catalog.upper(x.type) AS kind, x.identity AS identity, g.cfgowner AS owner, g.oid AS oid,
           CAST(CAST('pg_catalog.pg_ts_config' AS pg_catalog.regclass) AS pg_catalog.oid) AS classid, 'OWNER' AS
               deed, false AS definer
    FROM pg_catalog.pg_ts_config g
    CROSS JOIN pg_catalog.pg_identify_object(CAST('pg_catalog.pg_ts_config' AS pg_catalog.regclass), g.oid, 0) x
    WHERE g.oid OPERATOR(pg_catalog.>=) CAST(16384 AS pg_catalog.oid)
    UNION ALL
    SELECT 'STATISTICS' AS kind, x.identity AS identity, s.stxowner AS owner, s.oid AS oid,
           CAST(CAST('pg_catalog.pg_statistic_ext' AS pg_catalog.regclass) AS pg_catalog.oid) AS classid, 'OWNER' AS
               deed, false AS definer
    FROM pg_catalog.pg_statistic_ext s
    CROSS JOIN pg_catalog.pg_identify_object(CAST('pg_catalog.pg_statistic_ext' AS pg_catalog.regclass), s.oid, 0) x
    WHERE s.oid OPERATOR(pg_catalog.>=) CAST(16384 AS pg_catalog.oid)
    UNION ALL
    SELECT 'LARGE OBJECT' AS kind, CAST(m.oid AS pg_catalog.text) AS identity, m.lomowner AS owner, m.oid AS oid,
           CAST(CAST('pg_catalog.pg_largeobject' AS pg_catalog.regclass) AS pg_catalog.oid) AS classid, 'OWNER' AS
               deed, false AS definer
    FROM pg_catalog.pg_largeobject_metadata m
    WHERE true
    UNION ALL
    SELECT 'EVENT TRIGGER' AS kind, pg_catalog.quote_ident(e.evtname) AS identity, e.evtowner AS owner, e.oid AS oid,
           CAST(CAST('pg_catalog.pg_event_trigger' AS pg_catalog.regclass) AS pg_catalog.oid) AS classid, 'DROP' AS
               deed, false AS definer
    FROM pg_catalog.pg_event_trigger e
    WHERE true
    UNION ALL
    SELECT 'PUBLICATION' AS kind, pg_catalog.quote_ident(b.pubname) AS identity, b.pubowner AS owner, b.oid AS oid,
           CAST(CAST('pg_catalog.pg_publication' AS pg_catalog.regclass) AS pg_catalog.oid) AS classid, 'DROP' AS
               deed, false AS definer
    FROM pg_catalog.pg_publication b
    WHERE true
    UNION ALL
    SELECT 'SERVER' AS kind, pg_catalog.quote_ident(r.srvname) AS identity, r.srvowner AS owner, r.oid AS oid,
           CAST(CAST('pg_catalog.pg_foreign_server' AS pg_catalog.regclass) AS pg_catalog.oid) AS classid, 'DROP' AS
               deed, false AS definer
    FROM pg_catalog.pg_foreign_server r
    WHERE true
    UNION ALL
    SELECT 'FOREIGN DATA WRAPPER' AS kind, pg_catalog.quote_ident(w.fdwname) AS identity, w.fdwowner AS owner, w.oid
        AS oid,
           CAST(CAST('pg_catalog.pg_foreign_data_wrapper' AS pg_catalog.regclass) AS pg_catalog.oid) AS classid,
               'DROP' AS deed, false AS definer
    FROM pg_catalog.pg_foreign_data_wrapper w
    WHERE true
    UNION ALL
    SELECT 'SUBSCRIPTION' AS kind, pg_catalog.quote_ident(u.subname) AS identity, u.subowner AS owner, u.oid AS oid,
           CAST(CAST('pg_catalog.pg_subscription' AS pg_catalog.regclass) AS pg_catalog.oid) AS classid, 'DROP' AS
               deed, false AS definer
    FROM pg_catalog.pg_subscription u JOIN pg_catalog.pg_database b ON b.oid OPERATOR(pg_catalog.=) u.subdbid
    WHERE b.datname OPERATOR(pg_catalog.=) pg_catalog.current_database()
)
SELECT o.kind, o.identity, CAST(pg_catalog.pg_get_userbyid(o.owner) AS pg_catalog.text) AS owner, o.deed, o.definer
FROM objects o
WHERE (o.oid OPERATOR(pg_catalog.>=) CAST(16384 AS pg_catalog.oid) OR o.kind OPERATOR(pg_catalog.=) 'LARGE OBJECT')
  AND NOT (o.owner OPERATOR(pg_catalog.=) ANY (ARRAY(SELECT r.oid FROM pg_catalog.pg_roles r WHERE r.rolname
      OPERATOR(pg_catalog.=) ANY (%(own)s))))
  AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d
                  WHERE d.classid OPERATOR(pg_catalog.=) o.classid AND d.objid OPERATOR(pg_catalog.=) o.oid
                    AND d.deptype OPERATOR(pg_catalog.=) ANY (ARRAY[CAST('e' AS pg_catalog."char"), 'i']))
ORDER BY o.deed, o.kind, o.identity
"""

# The same for what all databases share. Into one that no app has only its owner, and a role of its name, may.
SHARED_RIGHTS = """
WITH objects AS (
    SELECT 'TABLESPACE' AS kind, pg_catalog.quote_ident(s.spcname) AS identity, s.spcowner AS owner, s.spcacl AS acl,
           '' AS kept
    FROM pg_catalog.pg_tablespace s
    UNION ALL
    SELECT 'PARAMETER', pg_catalog.quote_ident(p.parname), CAST(10 AS pg_catalog.oid), p.paracl, ''
    FROM pg_catalog.pg_parameter_acl p
    UNION ALL
    SELECT 'DATABASE', pg_catalog.quote_ident(d.datname), d.datdba,
           coalesce(d.datacl, pg_catalog.acldefault('d', d.datdba)), CAST(d.datname AS pg_catalog.text)
    FROM pg_catalog.pg_database d
    WHERE d.datname OPERATOR(pg_catalog.<>) 'template0' AND NOT (d.datname OPERATOR(pg_catalog.=) ANY (%(databases)s))
)
SELECT o.kind, o.identity,
       CASE WHEN a.grantee OPERATOR(pg_catalog.=) 0 THEN 'PUBLIC' ELSE CAST(pg_catalog.pg_get_userbyid(a.grantee) AS
           pg_catalog.text) END AS grantee,
       CASE WHEN a.grantor OPERATOR(pg_catalog.<>) o.owner THEN CAST(pg_catalog.pg_get_userbyid(a.grantor) AS
           pg_catalog.text) END AS grantor,
       false AS handed_on
FROM objects o, pg_catalog.aclexplode(o.acl) a
WHERE a.grantee OPERATOR(pg_catalog.<>) o.owner
  AND NOT (a.grantee OPERATOR(pg_catalog.<>) 0 AND pg_catalog.pg_get_userbyid(a.grantee) OPERATOR(pg_catalog.=) o.kept)
  AND NOT (a.grantee OPERATOR(pg_catalog.<>) 0 AND o.kind OPERATOR(pg_catalog.=) 'DATABASE' AND o.identity
      OPERATOR(pg_catalog.=) 'postgres'
           AND pg_catalog.pg_get_userbyid(a.grantee)
               OPERATOR(pg_catalog.=) ANY (ARRAY['saltern_reader', 'saltern_guard']))
GROUP BY 1, 2, 3, 4 ORDER BY 1, 2, 3, 4
"""

# Whether we may look from the database that no app has.
READER_AT_HOME = """
SELECT pg_catalog.count(*) OPERATOR(pg_catalog.>=) 2 AS let_in
FROM pg_catalog.pg_database d, pg_catalog.aclexplode(d.datacl) a
WHERE d.datname OPERATOR(pg_catalog.=) 'postgres' AND a.grantee OPERATOR(pg_catalog.<>) 0
  AND pg_catalog.pg_get_userbyid(a.grantee) OPERATOR(pg_catalog.=) ANY (ARRAY['saltern_reader', 'saltern_guard'])
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

# Lines of which a reload takes nothing: the server goes on with what it had.
REFUSED = """
SELECT CAST('pg_hba.conf' AS pg_catalog.text) AS file, line_number AS line, error
FROM pg_catalog.pg_hba_file_rules WHERE error IS NOT NULL
UNION ALL
SELECT CAST('pg_ident.conf' AS pg_catalog.text), line_number, error
FROM pg_catalog.pg_ident_file_mappings WHERE error IS NOT NULL
"""

SESSIONS = """
SELECT CAST(usename AS pg_catalog.text) AS role, pg_catalog.count(*) AS sessions
FROM pg_catalog.pg_stat_activity WHERE usename OPERATOR(pg_catalog.=) ANY (%s) GROUP BY 1
"""

# What a web host asks in an app's database, as the app's role. Django's table is where migrations make it.
HAS_MIGRATIONS = "SELECT pg_catalog.to_regclass('public.django_migrations') IS NOT NULL"
# It may be anything that its owner makes of it, without an end.
MIGRATIONS = "SELECT app, name FROM public.django_migrations LIMIT 100000"
MIGRATIONS_SINCE = """
SELECT app, name FROM public.django_migrations WHERE applied OPERATOR(pg_catalog.>) %s ORDER BY id LIMIT 100000
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
