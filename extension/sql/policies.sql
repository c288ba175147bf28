-- Row level security on every table, also against its owner. mcp_owner's functions see all rows; each is reached only
-- by whom it is granted to.
ALTER TABLE mcp.sessions ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
ALTER TABLE mcp.refresh_tokens ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
ALTER TABLE mcp.sealed_tokens ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
ALTER TABLE mcp.wrapped_keys ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
ALTER TABLE mcp.sign_ins ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
ALTER TABLE mcp.audit_log ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;

CREATE POLICY owner ON mcp.sessions TO mcp_owner USING (true) WITH CHECK (true);
CREATE POLICY owner ON mcp.refresh_tokens TO mcp_owner USING (true) WITH CHECK (true);
CREATE POLICY owner ON mcp.sealed_tokens TO mcp_owner USING (true) WITH CHECK (true);
CREATE POLICY owner ON mcp.wrapped_keys TO mcp_owner USING (true) WITH CHECK (true);
CREATE POLICY owner ON mcp.sign_ins TO mcp_owner USING (true) WITH CHECK (true);
CREATE POLICY owner ON mcp.audit_log TO mcp_owner USING (true) WITH CHECK (true);

-- Users see their own rows; nobody armed sees none, as NULL equals nothing.
CREATE POLICY own_sessions ON mcp.sessions FOR SELECT TO mcp_user, mcp_auth
    USING (user_id OPERATOR(pg_catalog.=) (SELECT mcp.user_id()));
CREATE POLICY own_audit_log ON mcp.audit_log FOR SELECT TO mcp_user, mcp_auth
    USING (user_id OPERATOR(pg_catalog.=) (SELECT mcp.user_id()));
CREATE POLICY monitor ON mcp.audit_log FOR SELECT TO mcp_monitor USING (true);
