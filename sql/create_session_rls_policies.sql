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
