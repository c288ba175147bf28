-- What the other tests share: the extension, logins in its roles, and a table whose policy reads the identity.
SET client_min_messages = error;
DROP EXTENSION IF EXISTS mcp_sessions CASCADE;
CREATE EXTENSION mcp_sessions;
DO $$
BEGIN
    CREATE ROLE regress_auth LOGIN IN ROLE mcp_auth;
    CREATE ROLE regress_exec LOGIN IN ROLE mcp_exec;
    CREATE ROLE regress_monitor LOGIN IN ROLE mcp_monitor;
    CREATE ROLE regress_nobody LOGIN;
    CREATE ROLE regress_owner LOGIN;
EXCEPTION WHEN duplicate_object THEN NULL;
END
$$;
GRANT regress_owner TO CURRENT_USER;
-- An application that uses the helpers by itself: it enters, then acts as mcp_user.
DO $$
BEGIN
    CREATE ROLE regress_app LOGIN IN ROLE mcp_auth, mcp_user;
EXCEPTION WHEN duplicate_object THEN NULL;
END
$$;
DROP SCHEMA IF EXISTS regress CASCADE;
CREATE SCHEMA regress AUTHORIZATION regress_owner;
GRANT USAGE ON SCHEMA regress TO mcp_user;
SET ROLE regress_owner;
CREATE TABLE regress.notes (owner uuid NOT NULL DEFAULT mcp.require_user(), body text NOT NULL);
ALTER TABLE regress.notes ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY own ON regress.notes USING (owner = mcp.user_id()) WITH CHECK (owner = mcp.user_id());
GRANT SELECT, INSERT, UPDATE, DELETE ON regress.notes TO mcp_user;
RESET ROLE;
