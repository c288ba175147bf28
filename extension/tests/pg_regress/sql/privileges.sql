-- Who may do what. PUBLIC: the readers of the identity, and nothing else.
\pset format unaligned
\pset tuples_only on
SELECT 'PUBLIC', proname FROM pg_proc, aclexplode(coalesce(proacl, acldefault('f', proowner))) AS a
 WHERE pronamespace = 'mcp'::regnamespace AND a.grantee = 0 ORDER BY 2;
SELECT a.grantee::regrole, proname FROM pg_proc, aclexplode(proacl) AS a
 WHERE pronamespace = 'mcp'::regnamespace AND a.grantee NOT IN (0, proowner)
 ORDER BY a.grantee::regrole::text COLLATE "C", 2;
SELECT a.grantee::regrole, relname, a.privilege_type FROM pg_class, aclexplode(relacl) AS a
 WHERE relnamespace = 'mcp'::regnamespace AND a.grantee <> relowner
 ORDER BY a.grantee::regrole::text COLLATE "C", 2, 3;
SELECT a.grantee::regrole, attrelid::regclass, string_agg(attname, ' ' ORDER BY attname COLLATE "C"), a.privilege_type
  FROM pg_attribute, aclexplode(attacl) AS a WHERE attrelid IN (SELECT oid FROM pg_class WHERE relnamespace = 'mcp'::regnamespace)
 GROUP BY a.grantee, attrelid, a.privilege_type ORDER BY a.grantee::regrole::text COLLATE "C", attrelid::regclass::text COLLATE "C";
-- Every table is ours, has row level security, and has it against its owner too.
SELECT relname, relowner::regrole, relrowsecurity, relforcerowsecurity FROM pg_class
 WHERE relnamespace = 'mcp'::regnamespace AND relkind IN ('r', 'p') ORDER BY 1;
-- Which rows of them, to whom.
SELECT polrelid::regclass, polname, polcmd, polpermissive, p.roles,
       'using ' || pg_get_expr(polqual, polrelid), 'check ' || pg_get_expr(polwithcheck, polrelid)
  FROM pg_policy
  JOIN pg_class AS c ON c.oid = polrelid AND c.relnamespace = 'mcp'::regnamespace
 CROSS JOIN LATERAL (SELECT string_agg(CASE role WHEN 0 THEN 'PUBLIC' ELSE role::regrole::text END, ' '
                                       ORDER BY role::regrole::text COLLATE "C")
                       FROM unnest(polroles) AS role) AS p (roles)
 ORDER BY c.relname COLLATE "C", polname COLLATE "C";
-- A function that runs as its owner is owned by mcp_owner and pins its search path and what policies do.
SELECT count(*) > 0, bool_and(proowner = 'mcp_owner'::regrole),
       bool_and(proconfig @> '{"search_path=pg_catalog, pg_temp", row_security=on}')
  FROM pg_proc WHERE pronamespace = 'mcp'::regnamespace AND prosecdef;
-- Views ask for the rights of whoever reads them.
SELECT relname, relowner::regrole, reloptions FROM pg_class
 WHERE relnamespace = 'mcp'::regnamespace AND relkind = 'v' ORDER BY 1;
-- The roles can do nothing by themselves, and what they are made members of does not follow by itself.
SELECT rolname, rolinherit, rolcanlogin OR rolsuper OR rolbypassrls OR rolcreaterole OR rolcreatedb OR rolreplication AS powerful,
       (SELECT count(*) FROM pg_auth_members WHERE member = r.oid) AS memberships
  FROM pg_roles AS r WHERE rolname LIKE 'mcp\_%' ORDER BY 1;
\set VERBOSITY sqlstate
SET ROLE regress_nobody;
SELECT mcp.user_id() IS NULL;
SELECT * FROM mcp.sessions;
SELECT * FROM mcp.my_sessions;
SELECT * FROM mcp.audit_log;
SELECT mcp.enter('x');
SELECT mcp.lookup_session('x');
SELECT mcp.create_session('i', 's', NULL);
SELECT mcp.revoke_session_by_id(gen_random_uuid());
SELECT mcp.cleanup_expired_sessions();
SELECT mcp.worker_status();
SHOW mcp.key_file;
SET ROLE regress_exec;
SELECT mcp.enter('x');
SELECT mcp.create_session('i', 's', NULL);
SELECT mcp.refresh_session('x');
SELECT mcp.revoke_session('x');
SELECT * FROM mcp.sessions;
SELECT mcp.version() IS NOT NULL;
SET ROLE regress_auth;
SELECT verifier FROM mcp.sessions;
SELECT * FROM mcp.refresh_tokens;
SELECT * FROM mcp.sealed_tokens;
SELECT * FROM mcp.wrapped_keys;
SELECT * FROM mcp.sign_ins;
INSERT INTO mcp.sessions DEFAULT VALUES;
UPDATE mcp.sessions SET user_id = user_id;
DELETE FROM mcp.audit_log;
TRUNCATE mcp.audit_log;
SET ROLE regress_monitor;
SELECT count(*) >= 0 FROM mcp.audit_log;
SELECT total_sessions >= 0 FROM mcp.session_statistics;
SELECT detail IS NOT NULL FROM mcp.worker_status();
SELECT * FROM mcp.sessions;
-- Nobody makes anything in our schema.
SELECT rolname FROM pg_roles WHERE rolname ~ '^(mcp|regress)_' AND has_schema_privilege(rolname, 'mcp', 'CREATE');
RESET ROLE;
-- The view of one's own sessions has the live ones of one's own, whatever policies let through.
BEGIN;
SELECT access_token FROM mcp.create_session('https://idp.test', 'alice', '{}') \gset
SELECT session_id AS expired FROM mcp.create_session('https://idp.test', 'alice', '{}') \gset
SELECT session_id AS revoked FROM mcp.create_session('https://idp.test', 'alice', '{}') \gset
SELECT FROM mcp.create_session('https://idp.test', 'bob', '{}');
UPDATE mcp.sessions SET expires_at = clock_timestamp() WHERE session_id = :'expired';
UPDATE mcp.sessions SET revoked_at = clock_timestamp() WHERE session_id = :'revoked';
SELECT FROM mcp.enter(:'access_token');
SELECT count(*) FROM mcp.my_sessions;
ROLLBACK;
-- What a database gives everybody by default is not given here.
BEGIN;
SET LOCAL client_min_messages = error;
DROP EXTENSION mcp_sessions CASCADE;
ALTER DEFAULT PRIVILEGES GRANT ALL ON TABLES TO PUBLIC;
CREATE EXTENSION mcp_sessions;
SELECT relname, a.privilege_type FROM pg_class, aclexplode(relacl) AS a
 WHERE relnamespace = 'mcp'::regnamespace AND relkind IN ('r', 'p', 'v') AND a.grantee = 0;
ROLLBACK;
