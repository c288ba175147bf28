-- Sets the sessions up, all of it: the extension, the views, policies, grants and helper functions, and then says whether
-- each is there. What stands below is create_mcp_sessions_table.sql, create_session_rls_policies.sql and
-- check_mcp_sessions_table.sql, one after the other.
--
-- Needs a superuser. Runs as often as you like: with psql -f, or pasted into an SQL editor. On Supabase run it again after
-- a restore.

-- Creates the sessions: the extension mcp_sessions, which keeps them in mcp.sessions, and in schema public the view
-- mcp_sessions on them, with active_mcp_sessions beside it.
--
-- Needs a superuser. Runs as often as you like: with psql -f, or pasted into an SQL editor.

BEGIN;
SET LOCAL client_min_messages = warning;

DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_class
                WHERE relnamespace = 'public'::regnamespace AND relname = 'mcp_sessions' AND relkind <> 'v') THEN
        RAISE EXCEPTION 'public.mcp_sessions exists already and is not the view of this set-up'
            USING ERRCODE = 'duplicate_table',
                  HINT = 'If it is the table of an earlier set-up: ALTER TABLE public.mcp_sessions RENAME TO mcp_sessions_old;';
    END IF;
END
$$;

CREATE EXTENSION IF NOT EXISTS mcp_sessions;

-- security_invoker: whoever reads a view sees what row level security lets that role see, not what its owner may see.
CREATE OR REPLACE VIEW public.mcp_sessions WITH (security_invoker = true, security_barrier = true) AS
SELECT s.session_id,
       s.user_id,
       s.client_id,
       s.resource,
       s.scopes,
       s.metadata,
       s.created_at,
       s.updated_at,
       -- A session that was revoked has ended when it was, whatever time it had left. LEAST passes over NULL.
       LEAST(s.expires_at, s.revoked_at) AS expires_at,
       s.absolute_expires_at,
       s.revoked_at
  FROM mcp.sessions AS s;
COMMENT ON VIEW public.mcp_sessions IS 'Sessions of signed-in users, without their secrets';

CREATE OR REPLACE VIEW public.active_mcp_sessions WITH (security_invoker = true, security_barrier = true) AS
SELECT s.session_id,
       s.user_id,
       s.client_id,
       s.resource,
       s.scopes,
       s.metadata,
       s.created_at,
       s.updated_at,
       s.expires_at,
       s.absolute_expires_at,
       s.expires_at - clock_timestamp() AS time_remaining
  FROM public.mcp_sessions AS s
 WHERE s.expires_at > clock_timestamp();
COMMENT ON VIEW public.active_mcp_sessions IS 'Sessions that are alive';

COMMIT;

-- Says who sees which sessions, and adds the helper functions cleanup_expired_mcp_sessions and
-- verify_session_ownership. On Supabase, gives its roles what the extension gives to its own.
--
-- Needs a superuser, and what create_mcp_sessions_table.sql creates. Runs as often as you like: with psql -f, or pasted
-- into an SQL editor. On Supabase run it again after a restore: a dump leaves out the roles that an extension's policies
-- were given.

BEGIN;
SET LOCAL client_min_messages = warning;

-- Deletes the sessions that have ended, and returns how many. Runs with the rights of whoever calls it.
CREATE OR REPLACE FUNCTION public.cleanup_expired_mcp_sessions() RETURNS bigint
LANGUAGE sql VOLATILE
BEGIN ATOMIC
    SELECT mcp.cleanup_expired_sessions();
END;
COMMENT ON FUNCTION public.cleanup_expired_mcp_sessions() IS 'Deletes sessions that have ended; returns how many';

-- Whether a session is alive and belongs to the user who is signed in; false where nobody is.
CREATE OR REPLACE FUNCTION public.verify_session_ownership(session_id text) RETURNS boolean
LANGUAGE sql VOLATILE
BEGIN ATOMIC
    SELECT EXISTS (
        SELECT FROM public.mcp_sessions AS s
         WHERE s.session_id = CASE WHEN verify_session_ownership.session_id
                                        ~* '^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$'
                                   THEN verify_session_ownership.session_id::uuid END
           AND s.user_id = mcp.user_id()
           AND s.expires_at > clock_timestamp());
END;
COMMENT ON FUNCTION public.verify_session_ownership(text) IS
    'Whether a session is alive and belongs to the user who is signed in';

-- Supabase gives its roles everything on whatever appears in public, and PostgreSQL lets everybody call a function.
DO $$
DECLARE
    everybody text := 'PUBLIC';
    role_name text;
BEGIN
    FOR role_name IN SELECT rolname FROM pg_roles WHERE rolname IN ('anon', 'authenticated', 'service_role') LOOP
        everybody := everybody || format(', %I', role_name);
    END LOOP;
    EXECUTE format('REVOKE ALL ON public.mcp_sessions, public.active_mcp_sessions FROM %s', everybody);
    EXECUTE format(
        'REVOKE ALL ON FUNCTION public.cleanup_expired_mcp_sessions(), public.verify_session_ownership(text) FROM %s',
        everybody);
END
$$;
GRANT USAGE ON SCHEMA public TO mcp_user, mcp_auth;
GRANT SELECT ON public.mcp_sessions, public.active_mcp_sessions TO mcp_user, mcp_auth;
GRANT EXECUTE ON FUNCTION public.verify_session_ownership(text) TO mcp_user, mcp_auth;
GRANT EXECUTE ON FUNCTION public.cleanup_expired_mcp_sessions() TO mcp_auth;

-- The policies are the extension's: users see their own rows, nobody signed in sees none. Here they get the roles they
-- hold for. Supabase's roles do not inherit, so being members of the extension's would give them nothing.
DO $$
DECLARE
    role_name text;
    model text;
    holders text := 'mcp_user, mcp_auth';
    command text;
BEGIN
    FOR role_name, model IN
        SELECT r.rolname, s.model
          FROM (VALUES ('authenticated', 'mcp_user'), ('anon', 'mcp_user'), ('service_role', 'mcp_auth')) AS s (name, model)
          JOIN pg_roles AS r ON r.rolname = s.name
    LOOP
        holders := holders || format(', %I', role_name);
        FOR command IN
            SELECT format('GRANT EXECUTE ON FUNCTION %s TO %I', p.oid::regprocedure, role_name)
              FROM pg_proc AS p
             CROSS JOIN LATERAL aclexplode(p.proacl) AS a
             WHERE a.grantee = model::regrole
               AND (p.pronamespace = 'mcp'::regnamespace
                    OR p.oid IN ('public.cleanup_expired_mcp_sessions()'::regprocedure,
                                 'public.verify_session_ownership(text)'::regprocedure))
             UNION ALL
            SELECT format('GRANT %s ON %s TO %I', a.privilege_type, c.oid::regclass, role_name)
              FROM pg_class AS c
             CROSS JOIN LATERAL aclexplode(c.relacl) AS a
             WHERE a.grantee = model::regrole
               AND (c.relnamespace = 'mcp'::regnamespace
                    OR c.oid IN ('public.mcp_sessions'::regclass, 'public.active_mcp_sessions'::regclass))
             UNION ALL
            SELECT format('GRANT %s (%s) ON %s TO %I', a.privilege_type, string_agg(quote_ident(c.attname), ', '),
                          c.attrelid::regclass, role_name)
              FROM pg_attribute AS c
              JOIN pg_class AS t ON t.oid = c.attrelid AND t.relnamespace = 'mcp'::regnamespace
             CROSS JOIN LATERAL aclexplode(c.attacl) AS a
             WHERE a.grantee = model::regrole
             GROUP BY a.privilege_type, c.attrelid
        LOOP
            EXECUTE command;
        END LOOP;
    END LOOP;
    EXECUTE 'ALTER TABLE mcp.sessions ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY';
    EXECUTE format('ALTER POLICY own_sessions ON mcp.sessions TO %s', holders);
    EXECUTE format('ALTER POLICY own_audit_log ON mcp.audit_log TO %s', holders);
END
$$;

COMMIT;

-- Says whether the sessions are set up: one line each for the table, its indexes, row level security, the helper
-- functions and the clean-up. ✓ means that it is; ✗ that it is not, and what to do.
--
-- Changes nothing. Anybody may run it: with psql -f, or pasted into an SQL editor.

WITH sessions AS (
    SELECT c.oid, c.relrowsecurity AND c.relforcerowsecurity AS protected
      FROM pg_class AS c
     WHERE c.oid = to_regclass('mcp.sessions')
), checks (line, holds, subject, detail) AS (
    SELECT 1,
           EXISTS (SELECT FROM sessions) AND count(c.oid) = 2 AND bool_and(c.reloptions @> '{security_invoker=true}'),
           'table',
           'mcp.sessions, seen through the views mcp_sessions and active_mcp_sessions'
      FROM pg_class AS c
     WHERE c.oid IN (to_regclass('public.mcp_sessions'), to_regclass('public.active_mcp_sessions')) AND c.relkind = 'v'
     UNION ALL
    SELECT 2 + wanted.position::integer,
           EXISTS (SELECT FROM pg_index AS i
                     JOIN pg_attribute AS a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[0]
                    WHERE i.indrelid = (SELECT s.oid FROM sessions AS s)
                      AND i.indisvalid AND i.indpred IS NULL AND a.attname = wanted.name),
           'index on ' || wanted.name,
           'for finding sessions by it'
      FROM unnest(ARRAY['user_id', 'expires_at', 'created_at']) WITH ORDINALITY AS wanted (name, position)
     UNION ALL
    SELECT 6,
           (SELECT s.protected FROM sessions AS s)
           AND EXISTS (SELECT FROM pg_policy AS p
                        WHERE p.polrelid = (SELECT s.oid FROM sessions AS s) AND p.polname = 'own_sessions'
                          -- A dump leaves out the roles that an extension's policy was given.
                          AND p.polroles @> ARRAY(SELECT r.oid FROM pg_roles AS r
                                                   WHERE r.rolname IN ('anon', 'authenticated', 'service_role'))),
           'row level security',
           'enabled and forced; users see their own sessions'
     UNION ALL
    SELECT 7,
           to_regprocedure('public.verify_session_ownership(text)') IS NOT NULL
           AND to_regprocedure('public.cleanup_expired_mcp_sessions()') IS NOT NULL
           AND NOT EXISTS (SELECT FROM pg_proc AS p
                            CROSS JOIN LATERAL aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) AS a
                            WHERE p.oid = to_regprocedure('public.cleanup_expired_mcp_sessions()') AND a.grantee = 0),
           'helper functions',
           'verify_session_ownership(text), cleanup_expired_mcp_sessions()'
     UNION ALL
    SELECT 8,
           to_regprocedure('mcp.cleanup_expired_sessions(integer, interval)') IS NOT NULL,
           'clean-up',
           CASE WHEN EXISTS (SELECT FROM pg_stat_activity WHERE backend_type = 'mcp_sessions cleanup')
                THEN 'by the background worker, and by calling cleanup_expired_mcp_sessions()'
                -- Nobody else is shown what other processes are.
                WHEN NOT pg_has_role('pg_read_all_stats', 'USAGE')
                THEN 'by calling cleanup_expired_mcp_sessions(); ask mcp.worker_status() whether a background worker does it too'
                ELSE 'by calling cleanup_expired_mcp_sessions(); mcp.worker_status() says why no background worker does it'
           END
)
SELECT CASE WHEN holds THEN '✓ ' || subject || ': ' || detail
            ELSE '✗ ' || subject || ': run setup_all_mcp_sessions.sql, also after a restore'
       END AS "mcp_sessions"
  FROM checks
 ORDER BY line;
