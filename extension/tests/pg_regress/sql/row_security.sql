-- pg_dump writes SET row_security = off, and some people set it: policies then raise instead of filtering. Our functions
-- read their tables all the same.
\set QUIET on
SET row_security = off;
-- As in a restore: functions that follow tools.
CREATE FUNCTION regress.dumped() RETURNS text LANGUAGE sql AS 'SELECT ''x'' || count(*) FROM regress.notes';
COMMENT ON FUNCTION regress.dumped() IS 'Dumped';
ALTER FUNCTION regress.dumped() OWNER TO regress_owner;
SELECT mcp.expose_tool('regress.dumped()');
SELECT mcp.expose_resource('regress.dumped()', 'x://dumped');
SELECT mcp.expose_prompt('regress.dumped()', 'dumped');
SELECT count(*) FROM mcp.list_versions();
SET ROLE regress_auth;
SELECT access_token AS token, refresh_token AS refresh
  FROM mcp.create_session('https://idp.example', 'ivan', '{}', with_refresh => true) \gset
RESET ROLE;
UPDATE mcp.sessions SET expires_at = expires_at - interval '1 hour' WHERE subject = 'ivan';
SET ROLE regress_app;
BEGIN;
SELECT status, expires_at - now() > '23:59' AS slid FROM mcp.enter(:'token');
SELECT mcp.set_state('{"n": 1}'), mcp.state(), mcp.end_other_sessions();
COMMIT;
SET ROLE regress_exec;
SELECT mcp.list_tools(:'token') ->> 'name' AS tool;
SELECT mcp.call_tool(:'token', 'dumped');
SELECT mcp.list_resources(:'token') ->> 'uri' AS resource;
SELECT mcp.read_resource(:'token', 'x://dumped');
SELECT mcp.list_prompts(:'token') ->> 'name' AS prompt;
SELECT mcp.get_prompt(:'token', 'dumped');
SET ROLE regress_auth;
-- A refused enter writes an audit row.
SELECT status FROM mcp.enter('mcps_' || substr(:'token', 6, 30) || reverse(substr(:'token', 36)));
SELECT status FROM mcp.refresh_session(:'refresh');
SELECT mcp.session_oauth_data(:'token');
SELECT total_sessions > 0 FROM mcp.session_stats();
SELECT count(*) >= 0 FROM mcp.doctor();
SELECT mcp.cleanup_expired_sessions() >= 0;
SELECT mcp.revoke_session(:'token');
RESET ROLE;
SELECT mcp.withdraw_tool('dumped'), mcp.withdraw_resource('x://dumped'), mcp.withdraw_prompt('dumped');
-- The caller's own look is still his.
SHOW row_security;
SET ROLE regress_auth;
SELECT count(*) FROM mcp.sessions;
RESET ROLE;
RESET row_security;
