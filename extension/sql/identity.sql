-- The readers of the armed identity. extension/src/identity.rs has them; they are written without a wrapper, as
-- policies call them for every row.

CREATE FUNCTION mcp.user_id() RETURNS uuid
    LANGUAGE c STABLE PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'mcp_user_id';
CREATE FUNCTION mcp.require_user() RETURNS uuid
    LANGUAGE c STABLE PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'mcp_require_user';
CREATE FUNCTION mcp.session_id() RETURNS uuid
    LANGUAGE c STABLE PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'mcp_session_id';
CREATE FUNCTION mcp.issuer() RETURNS text
    LANGUAGE c STABLE PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'mcp_issuer';
CREATE FUNCTION mcp.subject() RETURNS text
    LANGUAGE c STABLE PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'mcp_subject';
CREATE FUNCTION mcp.client_id() RETURNS text
    LANGUAGE c STABLE PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'mcp_client_id';
CREATE FUNCTION mcp.scopes() RETURNS text[]
    LANGUAGE c STABLE PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'mcp_scopes';
CREATE FUNCTION mcp.claims() RETURNS jsonb
    LANGUAGE c STABLE PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'mcp_claims';

COMMENT ON FUNCTION mcp.user_id() IS 'User of the armed identity; NULL where nobody is armed';
COMMENT ON FUNCTION mcp.session_id() IS 'Session of the armed identity; NULL where nobody is armed';
COMMENT ON FUNCTION mcp.issuer() IS 'Who vouches for the user: the identity provider''s issuer';
COMMENT ON FUNCTION mcp.subject() IS 'The user''s name at the issuer';
COMMENT ON FUNCTION mcp.client_id() IS 'The MCP client the session was granted to';
COMMENT ON FUNCTION mcp.scopes() IS 'Scopes of the presented token';
COMMENT ON FUNCTION mcp.claims() IS 'Verified claims of the identity provider';
