-- Functions that their owners have exposed as resources; as mcp.tools in all they share.

CREATE TABLE mcp.resources (
    uri         text     NOT NULL COLLATE "C",
    template    boolean  NOT NULL,
    function    text     NOT NULL,
    owner       name     NOT NULL,
    name        text     NOT NULL,
    title       text,
    description text,
    mime_type   text,
    scope       text,
    timeout     interval,
    annotations jsonb,
    completions jsonb,
    restricted  boolean  NOT NULL DEFAULT true,
    PRIMARY KEY (uri)
);
ALTER TABLE mcp.resources OWNER TO mcp_owner;
ALTER TABLE mcp.resources ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY owner ON mcp.resources TO mcp_owner USING (true) WITH CHECK (true);
SELECT pg_catalog.pg_extension_config_dump('mcp.resources', '');

COMMENT ON TABLE mcp.resources IS
    'Functions exposed as resources; change it with mcp.expose_resource() and mcp.withdraw_resource()';
COMMENT ON COLUMN mcp.resources.uri IS 'URI, or URI template (RFC 6570, level 1) whose variables are arguments';
COMMENT ON COLUMN mcp.resources.function IS 'Signature of the function, with schemas';
COMMENT ON COLUMN mcp.resources.owner IS 'Owner of the function when it was exposed; under another one it does not run';
COMMENT ON COLUMN mcp.resources.mime_type IS 'NULL: text, JSON or bytes, by what the function returns';
COMMENT ON COLUMN mcp.resources.completions IS 'Signatures of the functions that complete arguments, by argument';

CREATE DOMAIN mcp.resource_result AS jsonb CONSTRAINT resource_result_check CHECK (
    pg_catalog.jsonb_typeof(VALUE) OPERATOR(pg_catalog.=) 'object'
    AND COALESCE(pg_catalog.jsonb_typeof(VALUE OPERATOR(pg_catalog.->) 'contents') OPERATOR(pg_catalog.=) 'array', false));
GRANT USAGE ON DOMAIN mcp.resource_result TO PUBLIC;
COMMENT ON DOMAIN mcp.resource_result IS 'A complete MCP ReadResourceResult: an object with "contents", an array';

COMMENT ON FUNCTION mcp.expose_resource IS
    'Exposes a function as the resource at a URI or URI template; for its owner and superusers';
COMMENT ON FUNCTION mcp.withdraw_resource(text) IS 'Withdraws a resource; for the owner of its function and superusers';
COMMENT ON FUNCTION mcp.list_resources IS
    'The resources at fixed URIs as MCP Resource objects; for a token that does not hold, one object whose status says why';
COMMENT ON FUNCTION mcp.list_resource_templates IS
    'The resource templates as MCP ResourceTemplate objects; for a token that does not hold, one object whose status says why';
COMMENT ON FUNCTION mcp.read_resource IS
    'Reads a resource as the user of the session; an MCP ReadResourceResult, or an object whose status says why there is none';

GRANT EXECUTE ON FUNCTION mcp.list_resources, mcp.list_resource_templates, mcp.read_resource TO mcp_exec;
