-- The two logins of the frontend: one keeps sessions and runs no tool, the other runs tools and reads no session.
-- Run as a superuser, after CREATE EXTENSION mcp_sessions, with the passwords in the environment:
--
--     MCP_AUTH_PASSWORD=… MCP_EXEC_PASSWORD=… psql -v ON_ERROR_STOP=1 -f sql/logins.sql
--
-- Runs as often as you like; each run sets the passwords anew.
\getenv auth_password MCP_AUTH_PASSWORD
\getenv exec_password MCP_EXEC_PASSWORD

-- The passwords below are text: none of what records statements is to see them.
SET log_statement = 'none';
SET log_min_duration_statement = -1;
SET log_min_error_statement = 'panic';
SET pg_stat_statements.track_utility = off;

SELECT pg_catalog.format('CREATE ROLE %I LOGIN', login.name)
  FROM (VALUES ('mcp_frontend_auth'), ('mcp_frontend_exec')) AS login (name)
 WHERE NOT EXISTS (SELECT FROM pg_catalog.pg_roles AS r WHERE r.rolname = login.name) \gexec

ALTER ROLE mcp_frontend_auth LOGIN PASSWORD :'auth_password';
ALTER ROLE mcp_frontend_exec LOGIN PASSWORD :'exec_password';
GRANT mcp_auth TO mcp_frontend_auth;
GRANT mcp_exec TO mcp_frontend_exec;

-- Sign-ins and refreshes that meet wait for each other, whatever is the default here; tools go by that.
ALTER ROLE mcp_frontend_auth SET default_transaction_isolation = 'read committed';

-- Session tokens are bind parameters: no setting of the server may put them into its log.
ALTER ROLE mcp_frontend_auth SET log_parameter_max_length = 0;
ALTER ROLE mcp_frontend_auth SET log_parameter_max_length_on_error = 0;
ALTER ROLE mcp_frontend_exec SET log_parameter_max_length = 0;
ALTER ROLE mcp_frontend_exec SET log_parameter_max_length_on_error = 0;
-- auto_explain, where it is loaded, shows the values of parameters in verbose plans, whatever other settings say.
ALTER ROLE mcp_frontend_auth SET auto_explain.log_verbose = off;
ALTER ROLE mcp_frontend_exec SET auto_explain.log_verbose = off;
SELECT pg_catalog.current_setting('server_version_num')::int >= 160000 AS has_own_length \gset
\if :has_own_length
ALTER ROLE mcp_frontend_auth SET auto_explain.log_parameter_max_length = 0;
ALTER ROLE mcp_frontend_exec SET auto_explain.log_parameter_max_length = 0;
\endif
