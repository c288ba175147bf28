CREATE VIEW mcp.my_sessions WITH (security_invoker, security_barrier) AS
SELECT s.session_id,
       s.client_id,
       s.resource,
       s.scopes,
       s.metadata,
       s.created_at,
       s.updated_at AS last_used_at,
       s.expires_at,
       s.absolute_expires_at,
       s.session_id OPERATOR(pg_catalog.=) (SELECT mcp.session_id()) AS current
  FROM mcp.sessions AS s
 WHERE s.user_id OPERATOR(pg_catalog.=) (SELECT mcp.user_id())
   AND s.revoked_at IS NULL
   AND s.expires_at OPERATOR(pg_catalog.>) pg_catalog.clock_timestamp();
COMMENT ON VIEW mcp.my_sessions IS 'Live sessions of the armed user; empty where nobody is armed';

-- For monitoring: counts alone, taken by a function that runs as mcp_owner.
CREATE VIEW mcp.session_statistics WITH (security_invoker, security_barrier) AS
SELECT t.total_sessions, t.active_sessions, t.expired_sessions, t.revoked_sessions
  FROM mcp.session_stats() AS t;
COMMENT ON VIEW mcp.session_statistics IS 'Counts of sessions by what has become of them';

ALTER VIEW mcp.my_sessions OWNER TO mcp_owner;
ALTER VIEW mcp.session_statistics OWNER TO mcp_owner;
