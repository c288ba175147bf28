-- Functions that their owners have exposed as tools. Both columns that say which function it is are text: OIDs change
-- with dump and restore, and a column of type regprocedure would keep the database from pg_upgrade.

CREATE TABLE mcp.tools (
    -- Ordered alike in every database.
    name          text     NOT NULL COLLATE "C",
    function      text     NOT NULL,
    owner         name     NOT NULL,
    title         text,
    description   text,
    scope         text,
    timeout       interval,
    input_schema  jsonb,
    output_schema jsonb,
    annotations   jsonb,
    restricted    boolean  NOT NULL DEFAULT true,
    PRIMARY KEY (name)
);
ALTER TABLE mcp.tools OWNER TO mcp_owner;
ALTER TABLE mcp.tools ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY owner ON mcp.tools TO mcp_owner USING (true) WITH CHECK (true);
SELECT pg_catalog.pg_extension_config_dump('mcp.tools', '');

COMMENT ON TABLE mcp.tools IS 'Functions exposed as tools; change it with mcp.expose_tool() and mcp.withdraw_tool()';
COMMENT ON COLUMN mcp.tools.name IS 'What clients call it';
COMMENT ON COLUMN mcp.tools.function IS 'Signature of the function, with schemas';
COMMENT ON COLUMN mcp.tools.owner IS 'Owner of the function when it was exposed; under another one it does not run';
COMMENT ON COLUMN mcp.tools.description IS 'Shown to models; NULL: the comment on the function';
COMMENT ON COLUMN mcp.tools.scope IS 'Scopes a session must have to call it, separated by spaces';
COMMENT ON COLUMN mcp.tools.timeout IS 'How long it may run; NULL: mcp.tool_timeout';
COMMENT ON COLUMN mcp.tools.input_schema IS 'NULL: made from the signature';
COMMENT ON COLUMN mcp.tools.output_schema IS 'NULL: made from what the function returns';
COMMENT ON COLUMN mcp.tools.restricted IS
    'Whether it runs as a security-restricted operation: without temporary tables, LISTEN and deferred constraints';

CREATE DOMAIN mcp.tool_result AS jsonb CONSTRAINT tool_result_check CHECK (
    pg_catalog.jsonb_typeof(VALUE) OPERATOR(pg_catalog.=) 'object'
    AND (pg_catalog.jsonb_exists(VALUE, 'content') OR pg_catalog.jsonb_exists(VALUE, 'structuredContent'))
    AND COALESCE(pg_catalog.jsonb_typeof(VALUE OPERATOR(pg_catalog.->) 'content') OPERATOR(pg_catalog.=) 'array', true)
    AND COALESCE(pg_catalog.jsonb_typeof(VALUE OPERATOR(pg_catalog.->) 'structuredContent')
                 OPERATOR(pg_catalog.=) 'object', true)
    AND COALESCE(pg_catalog.jsonb_typeof(VALUE OPERATOR(pg_catalog.->) 'isError') OPERATOR(pg_catalog.=) 'boolean', true));
GRANT USAGE ON DOMAIN mcp.tool_result TO PUBLIC;
COMMENT ON DOMAIN mcp.tool_result IS
    'A complete MCP CallToolResult: an object with "content", an array, or "structuredContent", an object, or both';

COMMENT ON FUNCTION mcp.expose_tool IS
    'Exposes a function as a tool, or changes how it is exposed; for its owner and superusers';
COMMENT ON FUNCTION mcp.withdraw_tool(text) IS 'Withdraws a tool; for the owner of its function and superusers';
COMMENT ON FUNCTION mcp.list_tools IS
    'The tools as MCP Tool objects; for a token that does not hold, one object whose status says why';
COMMENT ON FUNCTION mcp.call_tool IS
    'Calls a tool as the user of the session; an MCP CallToolResult, or an object whose status says why it was not called.
Releases the connection''s advisory locks when it ends.';

GRANT EXECUTE ON FUNCTION mcp.list_tools, mcp.call_tool TO mcp_exec;
