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
