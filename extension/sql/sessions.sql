-- lookup_session and enter answer with one row each; extension/src/session/enter.rs has them. Neither may run beside
-- parallel workers: both take a snapshot of their own, to see what is committed by now.

CREATE FUNCTION mcp.lookup_session(token text, resource text DEFAULT NULL) RETURNS TABLE (
    status text, session_id uuid, user_id uuid, issuer text, subject text, client_id text, resource text,
    scopes text[], claims jsonb, state jsonb, state_version bigint, created_at timestamptz, updated_at timestamptz,
    expires_at timestamptz, absolute_expires_at timestamptz)
    ROWS 1 LANGUAGE c STABLE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'mcp_lookup_session';

CREATE FUNCTION mcp.enter(token text, resource text DEFAULT NULL) RETURNS TABLE (
    status text, session_id uuid, user_id uuid, issuer text, subject text, client_id text, resource text,
    scopes text[], claims jsonb, state jsonb, state_version bigint, created_at timestamptz, updated_at timestamptz,
    expires_at timestamptz, absolute_expires_at timestamptz)
    ROWS 1 LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'mcp_enter';

COMMENT ON FUNCTION mcp.lookup_session(text, text) IS
    'Judges a session token: always one row, status active, unknown, expired, revoked or wrong_resource; writes nothing';
COMMENT ON FUNCTION mcp.enter(text, text) IS
    'Judges a session token, slides the session''s expiry and arms its identity for the rest of the transaction';
