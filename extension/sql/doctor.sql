-- What mcp.doctor() looks up in the catalogs: one branch a check, each row a finding and the statement that mends it.
-- Read by extension/src/doctor.rs, which adds what SQL cannot see. Runs as mcp_owner with the search path pinned to
-- pg_catalog, so that names print qualified. $1 is the version of the library.
WITH RECURSIVE
-- What ends a membership. From 16 on one role can have it from several, and a superuser's REVOKE ends what the first
-- superuser granted unless it names another; before, the server minded no grantor, who may be gone.
memberships (role, in_role, ended_by) AS (
    SELECT m.member, m.roleid,
           concat(format('REVOKE %I FROM %I', g.rolname, r.rolname),
                  CASE WHEN m.grantor <> 10 AND current_setting('server_version_num')::integer >= 160000
                       THEN format(' GRANTED BY %I', pg_get_userbyid(m.grantor)) END, ';')
      FROM pg_auth_members AS m JOIN pg_roles AS r ON r.oid = m.member JOIN pg_roles AS g ON g.oid = m.roleid
),
-- Membership, also through other roles.
belongs (role, in_role) AS (
    SELECT m.member, m.roleid FROM pg_auth_members AS m
    UNION
    SELECT b.role, m.roleid FROM belongs AS b JOIN pg_auth_members AS m ON m.member = b.in_role
),
ours (oid, name) AS (
    SELECT r.oid, r.rolname FROM pg_roles AS r
     WHERE r.rolname IN ('mcp_owner', 'mcp_auth', 'mcp_exec', 'mcp_user', 'mcp_monitor')
),
tool_role (oid) AS (SELECT o.oid FROM ours AS o WHERE o.name = 'mcp_user'),
-- Who connects for a frontend or an application and carries tokens in parameters.
logins (oid, name, auth, exec) AS (
    SELECT l.*
      FROM (SELECT r.oid, r.rolname,
                   EXISTS (SELECT FROM belongs AS b JOIN ours AS o ON o.oid = b.in_role
                            WHERE b.role = r.oid AND o.name = 'mcp_auth'),
                   EXISTS (SELECT FROM belongs AS b JOIN ours AS o ON o.oid = b.in_role
                            WHERE b.role = r.oid AND o.name = 'mcp_exec')
              FROM pg_roles AS r WHERE r.rolcanlogin AND r.oid <> 10) AS l (oid, name, auth, exec)
     WHERE l.auth OR l.exec
        OR (has_function_privilege(l.oid, 'mcp.enter(text, text)', 'EXECUTE')
            AND NOT (SELECT r.rolsuper FROM pg_roles AS r WHERE r.oid = l.oid))
),
-- A setting as a login finds it: its own in this database, its own, the database's, everybody's, the server's. As it was
-- typed, but in lower case: the server takes ON, t and y for on, and 0.5kB for 512. What is not plainly zero is not zero.
settings (login, name, value, is_on, is_zero, in_database) AS (
    SELECT l.oid, p.name, v.value, v.value ~ '^(on|t(r(ue?)?)?|y(es?)?|1)$', v.value ~ '^[0.]+ *[a-z]*$',
           coalesce(own.in_database, false)
      FROM logins AS l
      CROSS JOIN pg_settings AS p
      LEFT JOIN LATERAL (
           SELECT substr(c.item, strpos(c.item, '=') + 1) AS value, s.setdatabase <> 0 AND s.setrole <> 0 AS in_database
             FROM pg_db_role_setting AS s
            CROSS JOIN unnest(s.setconfig) AS c (item)
            WHERE s.setrole IN (l.oid, 0)
              AND s.setdatabase IN ((SELECT d.oid FROM pg_database AS d WHERE d.datname = current_database()), 0)
              AND split_part(c.item, '=', 1) = p.name
            ORDER BY s.setrole <> 0 DESC, s.setdatabase <> 0 DESC
            LIMIT 1) AS own ON true
     CROSS JOIN LATERAL lower(btrim(coalesce(own.value, CASE p.source
                                                             WHEN 'user' THEN p.boot_val
                                                             WHEN 'database user' THEN p.boot_val
                                                             WHEN 'database' THEN p.boot_val
                                                             ELSE p.reset_val END))) AS v (value)
     WHERE p.name IN ('log_parameter_max_length', 'log_parameter_max_length_on_error', 'log_statement',
                      'log_min_duration_statement', 'log_min_duration_sample', 'log_transaction_sample_rate',
                      'auto_explain.log_parameter_max_length', 'auto_explain.log_min_duration', 'auto_explain.log_verbose',
                      'pgaudit.log_parameter', 'synchronous_commit', 'default_transaction_isolation')
),
-- What a tool can reach. What an extension brought is that one's to guard; ours has checks of its own.
relations (oid, kind, owner, secured, forced, reads, writes, options, owner_column, own_rows) AS (
    SELECT c.oid, c.relkind, c.relowner, c.relrowsecurity, c.relforcerowsecurity,
           has_any_column_privilege(t.oid, c.oid, 'SELECT'),
           has_any_column_privilege(t.oid, c.oid, 'INSERT') OR has_any_column_privilege(t.oid, c.oid, 'UPDATE')
               OR has_table_privilege(t.oid, c.oid, 'DELETE'),
           c.reloptions, o.attname,
           format('CREATE POLICY own_rows ON %s USING (', c.oid::regclass) || quote_ident(o.attname)
               || ' = (SELECT mcp.user_id()));'
      FROM pg_class AS c
      JOIN pg_namespace AS n ON n.oid = c.relnamespace
     CROSS JOIN tool_role AS t
      LEFT JOIN LATERAL (
           SELECT a.attname FROM pg_attribute AS a
            WHERE a.attrelid = c.oid AND a.atttypid = 'uuid'::regtype
              AND a.attname IN ('user_id', 'owner', 'owner_id', 'created_by')
            ORDER BY a.attname = 'user_id' DESC, a.attname = 'owner' DESC, a.attname = 'owner_id' DESC
            LIMIT 1) AS o ON true
     WHERE c.relkind IN ('r', 'p', 'f', 'v', 'm')
       AND n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname !~ '^pg_(toast|temp)'
       AND has_schema_privilege(t.oid, n.oid, 'USAGE')
       AND NOT EXISTS (SELECT FROM pg_depend AS d
                        WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')
),
reached AS (
    SELECT * FROM relations AS r WHERE r.reads OR r.writes
),
-- Policies that hold for tools.
policies (name, relation, command, permissive, using_text, check_text, all_text, constant, trusts_setting, owner_column) AS (
    SELECT p.polname, p.polrelid, p.polcmd, p.polpermissive, e.using_text, e.check_text,
           concat_ws(' ', e.using_text, e.check_text),
           NOT EXISTS (SELECT FROM pg_depend AS d
                        WHERE d.classid = 'pg_policy'::regclass AND d.objid = p.oid
                          AND (d.refclassid = 'pg_proc'::regclass
                               OR d.refclassid = 'pg_class'::regclass AND d.refobjsubid > 0)),
           concat_ws(' ', e.using_text, e.check_text) ~ '\mcurrent_setting\('
           OR EXISTS (SELECT FROM pg_depend AS d JOIN pg_proc AS f ON f.oid = d.refobjid
                       WHERE d.classid = 'pg_policy'::regclass AND d.objid = p.oid
                         AND d.refclassid = 'pg_proc'::regclass AND f.prosrc ~ '\mcurrent_setting\M'),
           r.owner_column
      FROM pg_policy AS p
      JOIN reached AS r ON r.oid = p.polrelid
     CROSS JOIN tool_role AS t
     CROSS JOIN LATERAL (SELECT pg_get_expr(p.polqual, p.polrelid), pg_get_expr(p.polwithcheck, p.polrelid))
                AS e (using_text, check_text)
     WHERE EXISTS (SELECT FROM unnest(p.polroles) AS a (role) WHERE a.role = 0 OR pg_has_role(t.oid, a.role, 'USAGE'))
),
-- A policy on the column that names the owner of a row, where there is one.
own_rows (relation, policy, statement) AS (
    SELECT p.relation, p.name,
           CASE WHEN p.owner_column IS NULL THEN format('DROP POLICY %I ON %s;', p.name, p.relation::regclass)
                ELSE concat(format('ALTER POLICY %I ON %s', p.name, p.relation::regclass),
                            CASE WHEN p.using_text IS NOT NULL THEN ' USING (' || p.own || ')' END,
                            CASE WHEN p.check_text IS NOT NULL THEN ' WITH CHECK (' || p.own || ')' END, ';') END
      FROM (SELECT *, quote_ident(owner_column) || ' = (SELECT mcp.user_id())' AS own FROM policies) AS p
),
routines (oid, name, owner, definer, settings) AS (
    SELECT p.oid, p.proname, p.proowner, p.prosecdef, p.proconfig
      FROM pg_proc AS p JOIN pg_namespace AS n ON n.oid = p.pronamespace CROSS JOIN tool_role AS t
     WHERE n.nspname NOT IN ('pg_catalog', 'information_schema')
       AND p.prorettype NOT IN ('trigger'::regtype, 'event_trigger'::regtype)
       AND has_schema_privilege(t.oid, n.oid, 'USAGE') AND has_function_privilege(t.oid, p.oid, 'EXECUTE')
       AND NOT EXISTS (SELECT FROM pg_depend AS d
                        WHERE d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e')
),
-- Whom a tool's rights come from: itself, everybody, or a role it inherits from.
grantees (oid, name) AS (
    SELECT 0::oid, 'PUBLIC'
    UNION ALL
    SELECT r.oid, quote_ident(r.rolname) FROM pg_roles AS r CROSS JOIN tool_role AS t
     WHERE pg_has_role(t.oid, r.oid, 'USAGE')
),
-- Where a definer's view leads.
view_reads (view, relation) AS (
    SELECT r.oid, d.refobjid
      FROM reached AS r
      JOIN pg_rewrite AS w ON w.ev_class = r.oid
      JOIN pg_depend AS d ON d.classid = 'pg_rewrite'::regclass AND d.objid = w.oid
                         AND d.refclassid = 'pg_class'::regclass AND d.refobjid <> r.oid
     WHERE r.kind IN ('v', 'm')
    UNION
    SELECT v.view, d.refobjid
      FROM view_reads AS v
      JOIN pg_rewrite AS w ON w.ev_class = v.relation
      JOIN pg_depend AS d ON d.classid = 'pg_rewrite'::regclass AND d.objid = w.oid
                         AND d.refclassid = 'pg_class'::regclass AND d.refobjid <> v.relation
),
-- Whom the extension lets call what; {} for nobody but the owner and mcp_auth.
callers (routine, roles) AS (
    VALUES ('user_id', '{PUBLIC}'::text[]), ('session_id', '{PUBLIC}'), ('issuer', '{PUBLIC}'), ('subject', '{PUBLIC}'),
           ('client_id', '{PUBLIC}'), ('scopes', '{PUBLIC}'), ('claims', '{PUBLIC}'), ('has_scope', '{PUBLIC}'),
           ('require_user', '{PUBLIC}'),
           ('state', '{mcp_user}'), ('set_state', '{mcp_user}'), ('end_session', '{mcp_user}'),
           ('end_other_sessions', '{mcp_user}'),
           ('session_stats', '{mcp_monitor}'), ('worker_status', '{mcp_monitor}'), ('doctor', '{mcp_monitor}'),
           ('version', '{mcp_exec,mcp_monitor}'), ('call_tool', '{mcp_exec}'), ('list_tools', '{mcp_exec}'),
           ('list_resources', '{mcp_exec}'), ('list_resource_templates', '{mcp_exec}'), ('read_resource', '{mcp_exec}'),
           ('list_prompts', '{mcp_exec}'), ('get_prompt', '{mcp_exec}'), ('complete', '{mcp_exec}'),
           ('list_versions', '{mcp_exec}'),
           ('progress', '{mcp_user}'), ('request_input', '{mcp_user}'), ('elicit', '{mcp_user}'),
           ('sample', '{mcp_user}'), ('roots', '{mcp_user}'), ('client_capabilities', '{mcp_user}')
),
-- What the extension brought.
own_objects (class, oid) AS (
    SELECT d.classid, d.objid
      FROM pg_depend AS d
      JOIN pg_extension AS e ON e.oid = d.refobjid AND e.extname = 'mcp_sessions'
     WHERE d.refclassid = 'pg_extension'::regclass AND d.deptype = 'e'
),
own_routines (oid, name, acl, owner, definer, settings, roles) AS (
    SELECT p.oid, p.proname, coalesce(p.proacl, acldefault('f', p.proowner)), p.proowner, p.prosecdef, p.proconfig,
           coalesce(c.roles, '{}')
      FROM own_objects AS m
      JOIN pg_proc AS p ON p.oid = m.oid
      LEFT JOIN callers AS c ON c.routine = p.proname
     WHERE m.class = 'pg_proc'::regclass
),
own_relations (oid, kind, options) AS (
    SELECT c.oid, c.relkind, c.reloptions
      FROM own_objects AS m
      JOIN pg_class AS c ON c.oid = m.oid
     WHERE m.class = 'pg_class'::regclass
),
-- The policies of the extension, as the catalogs print them. One that shows people their own rows may be of further roles.
own_policies (relation, name, command, using_text, check_text, roles, only_those) AS (
    SELECT r.oid, 'owner', '*', 'true', 'true', '{mcp_owner}'::text[], true FROM own_relations AS r WHERE r.kind = 'r'
    UNION ALL
    SELECT r.oid, v.name, 'r', v.using_text, NULL, v.roles, v.only_those
      FROM (VALUES ('mcp.sessions'::regclass, 'own_sessions', '(user_id = ( SELECT mcp.user_id() AS user_id))',
                    '{mcp_user,mcp_auth}'::text[], false),
                   ('mcp.audit_log', 'own_audit_log', '(user_id = ( SELECT mcp.user_id() AS user_id))',
                    '{mcp_user,mcp_auth}', false),
                   ('mcp.audit_log', 'monitor', 'true', '{mcp_monitor}', true))
           AS v (relation, name, using_text, roles, only_those)
      JOIN own_relations AS r ON r.oid = v.relation
)

-- The roles of the extension are plain: everything that runs as them inherits what they can do.
SELECT 'error' AS severity, 'role_attributes' AS check_name,
       format('Role %I is %s.', r.rolname, concat_ws(', ', CASE WHEN r.rolsuper THEN 'a superuser' END,
           CASE WHEN r.rolbypassrls THEN 'exempt from row level security' END,
           CASE WHEN r.rolcreaterole THEN 'allowed to make roles' END,
           CASE WHEN r.rolcreatedb THEN 'allowed to make databases' END,
           CASE WHEN r.rolreplication THEN 'allowed to replicate' END,
           CASE WHEN r.rolcanlogin THEN 'allowed to log in' END)) AS finding,
       format('ALTER ROLE %I NOSUPERUSER NOBYPASSRLS NOCREATEROLE NOCREATEDB NOREPLICATION NOLOGIN;', r.rolname)
       AS remedy
  FROM pg_roles AS r JOIN ours AS o ON o.oid = r.oid
 WHERE r.rolsuper OR r.rolbypassrls OR r.rolcreaterole OR r.rolcreatedb OR r.rolreplication OR r.rolcanlogin

UNION ALL
SELECT 'error', 'login_attributes',
       format('Login %I is %s, and so is every session and tool behind it.', r.rolname, concat_ws(', ',
           CASE WHEN r.rolsuper THEN 'a superuser' END,
           CASE WHEN r.rolbypassrls THEN 'exempt from row level security' END,
           CASE WHEN r.rolcreaterole THEN 'allowed to make roles' END,
           CASE WHEN r.rolreplication THEN 'allowed to replicate' END)),
       format('ALTER ROLE %I NOSUPERUSER NOBYPASSRLS NOCREATEROLE NOREPLICATION;', r.rolname)
  FROM logins AS l JOIN pg_roles AS r ON r.oid = l.oid
 WHERE (l.auth OR l.exec) AND (r.rolsuper OR r.rolbypassrls OR r.rolcreaterole OR r.rolreplication)

-- Where a guard around a tool fails, the login behind it must lead nowhere.
UNION ALL
SELECT 'error', 'exec_memberships',
       format('Login %I runs tools and is also a member of %I.', l.name, g.rolname),
       m.ended_by
  FROM logins AS l
  JOIN pg_roles AS h ON h.oid = l.oid OR h.oid IN (SELECT b.in_role FROM belongs AS b WHERE b.role = l.oid)
  JOIN memberships AS m ON m.role = h.oid
  JOIN pg_roles AS g ON g.oid = m.in_role
 WHERE l.exec AND g.rolname <> 'mcp_exec'
   -- Through a group of those who run tools, which leads nowhere else either.
   AND (h.oid = l.oid OR EXISTS (SELECT FROM belongs AS b JOIN ours AS o ON o.oid = b.in_role
                                  WHERE b.role = h.oid AND o.name = 'mcp_exec'))
   AND NOT EXISTS (SELECT FROM belongs AS b JOIN ours AS o ON o.oid = b.in_role
                    WHERE b.role = g.oid AND o.name = 'mcp_exec')

UNION ALL
SELECT 'error', 'role_memberships',
       format('Role %I is a member of %I%s.', o.name, g.rolname,
              CASE WHEN pg_has_role(o.oid, g.oid, 'USAGE') AND o.name = 'mcp_user'
                   THEN ', so tools may do what that role may' ELSE '' END),
       m.ended_by
  FROM ours AS o
  JOIN pg_roles AS h ON h.oid = o.oid OR h.oid IN (SELECT b.in_role FROM belongs AS b WHERE b.role = o.oid)
  JOIN memberships AS m ON m.role = h.oid
  JOIN pg_roles AS g ON g.oid = m.in_role
 WHERE h.oid = o.oid AND o.name <> 'mcp_user'
    OR o.name = 'mcp_user' AND (g.rolsuper OR g.rolbypassrls OR g.rolcreaterole OR g.rolreplication OR g.rolname ~ '^(pg|mcp)_')

UNION ALL
SELECT 'error', 'owner_members',
       format('Role %I is a member of mcp_owner and reads and writes every session.', g.rolname),
       m.ended_by
  FROM memberships AS m
  JOIN ours AS o ON o.oid = m.in_role
  JOIN pg_roles AS g ON g.oid = m.role
 WHERE o.name = 'mcp_owner' AND NOT g.rolsuper

UNION ALL
SELECT 'error', 'owned_objects',
       format('Role %I owns %s objects; what it owns, tools can change.', o.name, count(*)),
       format('REASSIGN OWNED BY %I TO %I;', o.name, pg_get_userbyid(10))
  FROM pg_shdepend AS d JOIN ours AS o ON o.oid = d.refobjid
 WHERE d.refclassid = 'pg_authid'::regclass AND d.deptype = 'o' AND o.name IN ('mcp_user', 'mcp_exec')
   AND d.dbid = (SELECT b.oid FROM pg_database AS b WHERE b.datname = current_database())
 GROUP BY o.name

-- Rights on what the extension made.
UNION ALL
SELECT 'error', 'function_grants',
       format('Everybody may call %s.', f.oid::regprocedure),
       format('REVOKE EXECUTE ON FUNCTION %s FROM PUBLIC;', f.oid::regprocedure)
  FROM own_routines AS f
 WHERE 'PUBLIC' <> ALL (f.roles)
   AND EXISTS (SELECT FROM aclexplode(f.acl) AS a WHERE a.grantee = 0)

UNION ALL
SELECT 'error', 'function_grants',
       format('Role %I may call %s, which is not for it.', o.name, f.oid::regprocedure),
       format('REVOKE EXECUTE ON FUNCTION %s FROM %I;', f.oid::regprocedure, o.name)
  FROM own_routines AS f
 CROSS JOIN ours AS o
 WHERE o.name IN ('mcp_user', 'mcp_exec', 'mcp_monitor') AND o.name <> ALL (f.roles)
   AND EXISTS (SELECT FROM aclexplode(f.acl) AS a WHERE a.grantee = o.oid)

-- The login that owns sessions runs nobody's code.
UNION ALL
SELECT 'error', 'function_grants',
       format('Role mcp_auth may call %s, which is for mcp_exec.', f.oid::regprocedure),
       format('REVOKE EXECUTE ON FUNCTION %s FROM mcp_auth;', f.oid::regprocedure)
  FROM own_routines AS f JOIN ours AS o ON o.name = 'mcp_auth'
 WHERE f.roles = '{mcp_exec}'
   AND EXISTS (SELECT FROM aclexplode(f.acl) AS a WHERE a.grantee = o.oid)

UNION ALL
SELECT 'error', 'table_grants',
       format('%s may %s %s.', CASE a.grantee WHEN 0 THEN 'Everybody' ELSE format('Role %I', g.rolname) END,
              string_agg(a.privilege_type, ', ' ORDER BY a.privilege_type), c.oid::regclass),
       format('REVOKE ALL ON %s FROM %s;', c.oid::regclass,
              CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(g.rolname) END)
  FROM pg_class AS c
  JOIN own_relations AS r ON r.oid = c.oid
 CROSS JOIN LATERAL aclexplode(c.relacl) AS a
  LEFT JOIN pg_roles AS g ON g.oid = a.grantee
 WHERE a.grantee <> c.relowner
   AND NOT (a.grantee <> 0 AND a.privilege_type = 'SELECT'
            AND (c.relname, g.rolname) IN (
                ('my_sessions', 'mcp_user'), ('my_sessions', 'mcp_auth'), ('audit_log', 'mcp_user'),
                ('audit_log', 'mcp_auth'), ('audit_log', 'mcp_monitor'), ('session_statistics', 'mcp_monitor')))
   AND (a.grantee = 0 OR EXISTS (SELECT FROM ours AS o WHERE o.oid = a.grantee))
 GROUP BY c.oid, a.grantee, g.rolname

UNION ALL
SELECT 'error', 'table_grants',
       format('%s may %s column %I of %s.', CASE a.grantee WHEN 0 THEN 'Everybody' ELSE format('Role %I', g.rolname) END,
              a.privilege_type, c.attname, c.attrelid::regclass),
       format('REVOKE %s (%I) ON %s FROM %s;', a.privilege_type, c.attname, c.attrelid::regclass,
              CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(g.rolname) END)
  FROM pg_attribute AS c
  JOIN pg_class AS t ON t.oid = c.attrelid
  JOIN own_relations AS r ON r.oid = t.oid
 CROSS JOIN LATERAL aclexplode(c.attacl) AS a
  LEFT JOIN pg_roles AS g ON g.oid = a.grantee
 WHERE a.grantee <> t.relowner
   -- Supabase's roles have what sql/create_session_rls_policies.sql gives them.
   AND NOT (t.relname = 'sessions' AND a.privilege_type = 'SELECT'
            AND g.rolname IN ('mcp_user', 'mcp_auth', 'authenticated', 'anon', 'service_role')
            AND c.attname IN ('session_id', 'user_id', 'client_id', 'resource', 'scopes', 'metadata', 'created_at',
                              'updated_at', 'expires_at', 'absolute_expires_at', 'revoked_at'))

-- What a dump does not carry is lost on restore as well.
UNION ALL
SELECT 'error', 'own_policies',
       format('Policy %I of %s is not of the extension.', p.polname, p.polrelid::regclass),
       format('DROP POLICY %I ON %s;', p.polname, p.polrelid::regclass)
  FROM pg_policy AS p JOIN own_relations AS r ON r.oid = p.polrelid
 WHERE p.polpermissive
   AND NOT EXISTS (SELECT FROM own_policies AS o WHERE o.relation = p.polrelid AND o.name = p.polname)

UNION ALL
SELECT 'error', 'own_policies',
       format('Policy %I of %s %s.', o.name, o.relation::regclass,
              CASE WHEN p.oid IS NULL THEN 'is missing' ELSE 'is not as the extension made it' END),
       concat(CASE WHEN p.oid IS NOT NULL THEN format('DROP POLICY %I ON %s; ', o.name, o.relation::regclass) END,
              format('CREATE POLICY %I ON %s FOR %s TO %s USING (%s)', o.name, o.relation::regclass,
                     CASE o.command WHEN 'r' THEN 'SELECT' ELSE 'ALL' END, array_to_string(o.roles, ', '), o.using_text),
              CASE WHEN o.check_text IS NOT NULL THEN format(' WITH CHECK (%s)', o.check_text) END, ';')
  FROM own_policies AS o
  LEFT JOIN pg_policy AS p ON p.polrelid = o.relation AND p.polname = o.name
 WHERE p.oid IS NULL OR NOT p.polpermissive OR p.polcmd <> o.command::"char"
    OR pg_get_expr(p.polqual, p.polrelid) IS DISTINCT FROM o.using_text
    OR pg_get_expr(p.polwithcheck, p.polrelid) IS DISTINCT FROM o.check_text
    OR NOT ARRAY(SELECT r.oid FROM pg_roles AS r WHERE r.rolname = ANY (o.roles)) <@ p.polroles
    OR o.only_those AND cardinality(p.polroles) <> cardinality(o.roles)

-- What runs as mcp_owner finds its own objects alone.
UNION ALL
SELECT 'error', 'own_routines',
       format('%s does not pin its search path, and runs as its owner.', f.oid::regprocedure),
       format('ALTER FUNCTION %s SET search_path = pg_catalog, pg_temp;', f.oid::regprocedure)
  FROM own_routines AS f
 WHERE f.definer AND NOT EXISTS (SELECT FROM unnest(f.settings) AS c (item)
                                  WHERE c.item = 'search_path=pg_catalog, pg_temp')

UNION ALL
SELECT 'error', 'own_routines',
       format('%s runs as %I, not as mcp_owner.', f.oid::regprocedure, pg_get_userbyid(f.owner)),
       format('ALTER FUNCTION %s OWNER TO mcp_owner;', f.oid::regprocedure)
  FROM own_routines AS f
 WHERE f.definer AND pg_get_userbyid(f.owner) <> 'mcp_owner'

UNION ALL
SELECT 'error', 'own_views',
       format('View %s shows what its owner may see.', r.oid::regclass),
       format('ALTER VIEW %s SET (security_invoker = true);', r.oid::regclass)
  FROM own_relations AS r
 WHERE r.kind = 'v' AND NOT EXISTS (SELECT FROM pg_options_to_table(r.options) AS o
                                     WHERE o.option_name = 'security_invoker' AND o.option_value::boolean)

UNION ALL
SELECT 'warning', 'changes',
       format('Event trigger %I is disabled: clients are not told when tools change.', t.evtname),
       format('ALTER EVENT TRIGGER %I ENABLE;', t.evtname)
  FROM pg_event_trigger AS t
  JOIN own_routines AS f ON f.oid = t.evtfoid
 WHERE t.evtenabled = 'D'

UNION ALL
SELECT 'error', 'own_tables',
       format('Table %s is not guarded as it was installed.', c.oid::regclass),
       format('ALTER TABLE %s OWNER TO mcp_owner, ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;', c.oid::regclass)
  FROM own_relations AS o JOIN pg_class AS c ON c.oid = o.oid JOIN pg_roles AS r ON r.oid = c.relowner
 WHERE o.kind = 'r' AND (NOT c.relrowsecurity OR NOT c.relforcerowsecurity OR r.rolname <> 'mcp_owner')

-- Where tools could plant something that others run, or the next user of the connection finds.
UNION ALL
SELECT 'error', 'schema_create',
       format('Tools may create objects in schema %I.', n.nspname),
       string_agg(format('REVOKE CREATE ON SCHEMA %I FROM %s;', n.nspname, g.name), ' ' ORDER BY g.name)
  FROM pg_namespace AS n
 CROSS JOIN LATERAL aclexplode(coalesce(n.nspacl, acldefault('n', n.nspowner))) AS a
  JOIN grantees AS g ON g.oid = a.grantee
 WHERE a.privilege_type = 'CREATE' AND n.nspname !~ '^pg_(toast|temp)'
 GROUP BY n.nspname

UNION ALL
SELECT CASE a.privilege_type WHEN 'CREATE' THEN 'error' ELSE 'warning' END, 'database_grants',
       CASE a.privilege_type WHEN 'CREATE' THEN 'Tools may create schemas in this database.'
            ELSE 'Tools that run unrestricted may create temporary tables, which the next user of the connection finds.'
       END,
       string_agg(format('REVOKE %s ON DATABASE %I FROM %s;', a.privilege_type, d.datname, g.name), ' ' ORDER BY g.name)
  FROM pg_database AS d
 CROSS JOIN LATERAL aclexplode(coalesce(d.datacl, acldefault('d', d.datdba))) AS a
  JOIN grantees AS g ON g.oid = a.grantee
 WHERE d.datname = current_database() AND a.privilege_type IN ('CREATE', 'TEMPORARY')
 GROUP BY a.privilege_type

UNION ALL
SELECT 'warning', 'session_locks',
       'Applications that enter by themselves may take advisory locks that outlive the transaction and block others.',
       format('REVOKE EXECUTE ON FUNCTION %s FROM %s;', string_agg(p.oid::regprocedure::text, ', ' ORDER BY p.oid), g.name)
  FROM pg_proc AS p
 CROSS JOIN LATERAL aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) AS a
  JOIN grantees AS g ON g.oid = a.grantee
 WHERE p.pronamespace = 'pg_catalog'::regnamespace AND p.proname ~ '^pg_(try_)?advisory_lock(_shared)?$'
 GROUP BY g.name

UNION ALL
SELECT 'warning', 'large_objects',
       'Tools may make large objects, which row level security does not reach and nobody cleans up.',
       format('REVOKE EXECUTE ON FUNCTION %s FROM %s;', string_agg(p.oid::regprocedure::text, ', ' ORDER BY p.oid), g.name)
  FROM pg_proc AS p
 CROSS JOIN LATERAL aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) AS a
  JOIN grantees AS g ON g.oid = a.grantee
 WHERE p.pronamespace = 'pg_catalog'::regnamespace
   AND p.proname IN ('lo_creat', 'lo_create', 'lo_from_bytea', 'lo_import', 'lo_export')
 GROUP BY g.name

UNION ALL
SELECT 'warning', 'outside_connections',
       format('Tools may open connections of their own with the functions of extension %I.', e.extname),
       format('REVOKE EXECUTE ON FUNCTION %s FROM %s;', string_agg(p.oid::regprocedure::text, ', ' ORDER BY p.oid), g.name)
  FROM pg_extension AS e
  JOIN pg_depend AS d ON d.refclassid = 'pg_extension'::regclass AND d.refobjid = e.oid
                     AND d.classid = 'pg_proc'::regclass AND d.deptype = 'e'
  JOIN pg_proc AS p ON p.oid = d.objid AND p.prokind = 'f'
 CROSS JOIN LATERAL aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) AS a
  JOIN grantees AS g ON g.oid = a.grantee
 WHERE e.extname IN ('dblink', 'http', 'pg_net')
 GROUP BY e.extname, g.name

UNION ALL
SELECT 'warning', 'outside_connections',
       format('Tools may use foreign server %I.', s.srvname),
       string_agg(format('REVOKE USAGE ON FOREIGN SERVER %I FROM %s;', s.srvname, g.name), ' ' ORDER BY g.name)
  FROM pg_foreign_server AS s
 CROSS JOIN LATERAL aclexplode(s.srvacl) AS a
  JOIN grantees AS g ON g.oid = a.grantee
 GROUP BY s.srvname

-- Row level security.
UNION ALL
SELECT CASE WHEN r.writes OR r.kind = 'f' THEN 'error' ELSE 'warning' END, 'rls_disabled',
       format('Tools can %s every row of %s: row level security is %s.',
              concat_ws(' and ', CASE WHEN r.reads THEN 'read' END, CASE WHEN r.writes THEN 'change' END),
              r.oid::regclass, CASE r.kind WHEN 'f' THEN 'not possible there' ELSE 'off' END),
       CASE r.kind
            WHEN 'f' THEN format('REVOKE ALL ON %s FROM %s;', r.oid::regclass,
                                 (SELECT string_agg(g.name, ', ' ORDER BY g.name) FROM grantees AS g))
            ELSE concat(format('ALTER TABLE %s ENABLE ROW LEVEL SECURITY;', r.oid::regclass), ' ' || r.own_rows) END
  FROM reached AS r
 WHERE r.kind IN ('r', 'p', 'f') AND NOT r.secured

UNION ALL
SELECT 'warning', 'rls_without_policy',
       format('No policy of %s holds for tools: they see no row of it.', r.oid::regclass),
       coalesce(r.own_rows,
                format('REVOKE ALL ON %s FROM %s;', r.oid::regclass,
                       (SELECT string_agg(g.name, ', ' ORDER BY g.name) FROM grantees AS g)))
  FROM reached AS r
 WHERE r.kind IN ('r', 'p') AND r.secured
   AND NOT EXISTS (SELECT FROM policies AS p WHERE p.relation = r.oid AND p.permissive)

UNION ALL
SELECT CASE p.command WHEN 'r' THEN 'info' ELSE 'error' END, 'policy_constant',
       format('Policy %I of %s lets everybody %s every row.', p.name, p.relation::regclass,
              CASE p.command WHEN 'r' THEN 'read' ELSE 'change' END),
       o.statement
  FROM policies AS p JOIN own_rows AS o ON (o.relation, o.policy) = (p.relation, p.name)
 WHERE p.permissive AND p.constant AND p.all_text !~ '^(false ?)+$'

UNION ALL
SELECT 'warning', 'policy_nobody',
       format('Policy %I of %s may hold where nobody is signed in: %s', p.name, p.relation::regclass,
              regexp_replace(p.all_text, '\s+', ' ', 'g')),
       concat(format('ALTER POLICY %I ON %s', p.name, p.relation::regclass),
              ' USING ((SELECT mcp.require_user()) IS NOT NULL AND (' || p.using_text || '))',
              ' WITH CHECK ((SELECT mcp.require_user()) IS NOT NULL AND (' || p.check_text || '))', ';')
  FROM policies AS p
 WHERE p.permissive
   AND p.all_text ~ '\mmcp\.(user_id|session_id|issuer|subject|client_id|scopes|claims|has_scope)\('
   AND regexp_replace(p.all_text, '\mIS NOT NULL\M', '', 'g')
       ~ '\m(IS DISTINCT FROM|IS NOT DISTINCT FROM|IS NULL|COALESCE|CASE)\M|\mNOT[ (]+'
   AND p.all_text !~ '\mmcp\.require_user\('
   AND p.all_text !~ '\mmcp\.user_id\(\)( AS user_id\))? IS NOT NULL'

UNION ALL
SELECT 'warning', 'policy_setting',
       format('Policy %I of %s trusts a setting, which whoever runs SQL can forge: %s',
              p.name, p.relation::regclass, regexp_replace(p.all_text, '\s+', ' ', 'g')),
       CASE WHEN p.all_text ~ 'auth\.uid\(\)' AND replace(p.all_text, 'auth.uid()', '') !~ 'current_setting|auth\.'
            THEN concat(format('ALTER POLICY %I ON %s', p.name, p.relation::regclass),
                        ' USING (' || replace(p.using_text, 'auth.uid()', 'mcp.user_id()') || ')',
                        ' WITH CHECK (' || replace(p.check_text, 'auth.uid()', 'mcp.user_id()') || ')', ';')
            ELSE o.statement END
  FROM policies AS p JOIN own_rows AS o ON (o.relation, o.policy) = (p.relation, p.name)
 WHERE p.trusts_setting

UNION ALL
SELECT 'error', 'rls_escapes',
       format('%s may %s %s, which row level security does not look at.',
              CASE g.oid WHEN 0 THEN 'Everybody' ELSE format('Role %s', g.name) END,
              string_agg(a.privilege_type, ', ' ORDER BY a.privilege_type), c.oid::regclass),
       format('REVOKE TRUNCATE, REFERENCES, TRIGGER ON %s FROM %s;', c.oid::regclass, g.name)
  FROM relations AS r
  JOIN pg_class AS c ON c.oid = r.oid
 CROSS JOIN LATERAL aclexplode(coalesce(c.relacl, acldefault('r', c.relowner))) AS a
  JOIN grantees AS g ON g.oid = a.grantee
 WHERE a.privilege_type IN ('TRUNCATE', 'REFERENCES', 'TRIGGER')
 GROUP BY c.oid, g.oid, g.name

UNION ALL
SELECT 'error', 'definer_views',
       format('View %s shows tools what its owner may see of %s.', r.oid::regclass,
              string_agg(DISTINCT v.relation::regclass::text, ', ')),
       CASE r.kind WHEN 'v' THEN format('ALTER VIEW %s SET (security_invoker = true);', r.oid::regclass)
            ELSE format('REVOKE ALL ON %s FROM %s;', r.oid::regclass,
                        (SELECT string_agg(g.name, ', ' ORDER BY g.name) FROM grantees AS g)) END
  FROM reached AS r
  JOIN view_reads AS v ON v.view = r.oid
  JOIN pg_class AS c ON c.oid = v.relation AND c.relrowsecurity
 WHERE r.kind IN ('v', 'm')
   AND NOT EXISTS (SELECT FROM pg_options_to_table(r.options) AS o
                    WHERE o.option_name = 'security_invoker' AND o.option_value::boolean)
 GROUP BY r.oid, r.kind

UNION ALL
SELECT 'error', 'definer_functions',
       format('Tools may call %s, which runs as %I and past row level security.', f.oid::regprocedure, o.rolname),
       format('ALTER ROUTINE %s SECURITY INVOKER;', f.oid::regprocedure)
  FROM routines AS f JOIN pg_roles AS o ON o.oid = f.owner
 WHERE f.definer AND (o.rolsuper OR o.rolbypassrls)

UNION ALL
SELECT 'warning', 'definer_search_path',
       format('%s runs as %I with the search path of whoever calls it.', f.oid::regprocedure, o.rolname),
       format('ALTER ROUTINE %s SET search_path = pg_catalog, %s, pg_temp;', f.oid::regprocedure,
              (SELECT p.pronamespace::regnamespace FROM pg_proc AS p WHERE p.oid = f.oid))
  FROM routines AS f JOIN pg_roles AS o ON o.oid = f.owner
 WHERE f.definer AND NOT EXISTS (SELECT FROM unnest(f.settings) AS s (item) WHERE s.item LIKE 'search_path=%')

UNION ALL
SELECT 'error', 'rls_not_forced',
       format('Table %s does not hold its owner %I to row level security, and tools can act as %I.',
              r.oid::regclass, o.rolname, o.rolname),
       format('ALTER TABLE %s FORCE ROW LEVEL SECURITY;', r.oid::regclass)
  FROM relations AS r JOIN pg_roles AS o ON o.oid = r.owner CROSS JOIN tool_role AS t
 WHERE r.kind IN ('r', 'p') AND r.secured AND NOT r.forced AND NOT (o.rolsuper OR o.rolbypassrls)
   AND (pg_has_role(t.oid, r.owner, 'USAGE')
        OR EXISTS (SELECT FROM routines AS f WHERE f.definer AND f.owner = r.owner))

UNION ALL
SELECT 'info', 'deferred_constraints',
       format('Tools cannot write %s unless they are exposed unrestricted: constraint %I waits for the commit.',
              c.conrelid::regclass, c.conname),
       format('ALTER TABLE %s DROP CONSTRAINT %I, ADD CONSTRAINT %I %s;', c.conrelid::regclass, c.conname, c.conname,
              regexp_replace(pg_get_constraintdef(c.oid), ' INITIALLY DEFERRED', ''))
  FROM pg_constraint AS c JOIN reached AS r ON r.oid = c.conrelid
 WHERE c.condeferred AND r.writes

-- Secrets in the log.
UNION ALL
SELECT CASE WHEN EXISTS (SELECT FROM settings AS o
                          WHERE o.login = s.login
                            AND (o.name = 'log_statement' AND o.value = 'all'
                                 OR o.name IN ('log_min_duration_statement', 'log_min_duration_sample')
                                    AND o.value !~ '^-'
                                 OR o.name = 'log_transaction_sample_rate' AND NOT o.is_zero))
            THEN 'error' ELSE 'warning' END,
       'logged_parameters',
       format('Statements of login %I are logged with their parameters, session tokens among them, where %s.', l.name,
              CASE s.name WHEN 'log_parameter_max_length_on_error' THEN 'they fail'
                   WHEN 'auto_explain.log_parameter_max_length' THEN 'auto_explain logs them'
                   WHEN 'pgaudit.log_parameter' THEN 'pgaudit logs them' ELSE 'statements are logged' END),
       format('ALTER ROLE %I %sSET %s = %s;', l.name,
              CASE WHEN s.in_database THEN format('IN DATABASE %I ', current_database()) ELSE '' END, s.name,
              CASE s.name WHEN 'pgaudit.log_parameter' THEN 'off' ELSE '0' END)
  FROM settings AS s JOIN logins AS l ON l.oid = s.login
 WHERE s.name IN ('log_parameter_max_length', 'log_parameter_max_length_on_error',
                  'auto_explain.log_parameter_max_length') AND NOT s.is_zero
    OR s.name = 'pgaudit.log_parameter' AND s.is_on

UNION ALL
SELECT 'error', 'logged_parameters',
       format('Plans of login %I are logged with the values of parameters, session tokens among them: auto_explain makes '
              'them verbose.', l.name),
       format('ALTER ROLE %I %sSET auto_explain.log_verbose = off;', l.name,
              CASE WHEN s.in_database THEN format('IN DATABASE %I ', current_database()) ELSE '' END)
  FROM settings AS s JOIN logins AS l ON l.oid = s.login
 WHERE s.name = 'auto_explain.log_verbose' AND s.is_on
   AND EXISTS (SELECT FROM settings AS o
                WHERE o.login = s.login AND o.name = 'auto_explain.log_min_duration' AND o.value !~ '^-')

-- What was answered must survive a crash.
UNION ALL
SELECT 'error', 'durability',
       format('%s is off: a crash can lose sessions and bring ended ones back.', p.name),
       format('ALTER SYSTEM RESET %s; SELECT pg_reload_conf();', p.name)
  FROM pg_settings AS p
 WHERE p.name IN ('fsync', 'full_page_writes') AND p.setting = 'off'

UNION ALL
SELECT 'warning', 'durability',
       format('Login %I does not wait for its commits: a crash can lose sign-ins that were answered and bring sessions '
              'back that were ended.', l.name),
       format('ALTER ROLE %I %sSET synchronous_commit = on;', l.name,
              CASE WHEN s.in_database THEN format('IN DATABASE %I ', current_database()) ELSE '' END)
  FROM settings AS s JOIN logins AS l ON l.oid = s.login
 WHERE s.name = 'synchronous_commit' AND s.value IN ('off', 'false', 'no', '0') AND l.auth

UNION ALL
SELECT 'warning', 'isolation',
       format('Transactions of login %I are %s by default: sign-ins, refreshes and registrations fail where they meet '
              'instead of waiting for each other, and have to be tried again.', l.name, s.value),
       format('ALTER ROLE %I %sSET default_transaction_isolation = %L;', l.name,
              CASE WHEN s.in_database THEN format('IN DATABASE %I ', current_database()) ELSE '' END, 'read committed')
  FROM settings AS s JOIN logins AS l ON l.oid = s.login
 WHERE s.name = 'default_transaction_isolation' AND s.value IN ('repeatable read', 'serializable') AND l.auth

UNION ALL
SELECT 'warning', 'versions',
       format('The installed objects are of version %s, the library is of version %s.', e.extversion, $1),
       'ALTER EXTENSION mcp_sessions UPDATE;'
  FROM pg_extension AS e
 WHERE e.extname = 'mcp_sessions' AND e.extversion <> $1

UNION ALL
SELECT 'error', 'clock',
       format('The clock has been set back: %s, and now is %s. Sessions end late by the difference.',
              w.what, clock_timestamp()),
       'timedatectl set-ntp true'
  FROM (SELECT format('the server started at %s', pg_postmaster_start_time()), pg_postmaster_start_time()
        UNION ALL
        SELECT format('the newest session was made at %s', max(s.created_at)), max(s.created_at)
          FROM mcp.sessions AS s
        UNION ALL
        SELECT format('the newest row of the audit log is from %s', max(a.at)), max(a.at) FROM mcp.audit_log AS a)
       AS w (what, at)
 WHERE w.at > clock_timestamp() + interval '10 seconds'
