-- Functions that their owners have exposed as prompts; as mcp.tools in all they share.

CREATE TABLE mcp.prompts (
    name        text     NOT NULL COLLATE "C",
    function    text     NOT NULL,
    owner       name     NOT NULL,
    title       text,
    description text,
    arguments   jsonb,
    scope       text,
    timeout     interval,
    completions jsonb,
    restricted  boolean  NOT NULL DEFAULT true,
    PRIMARY KEY (name)
);
ALTER TABLE mcp.prompts OWNER TO mcp_owner;
ALTER TABLE mcp.prompts ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY owner ON mcp.prompts TO mcp_owner USING (true) WITH CHECK (true);
SELECT pg_catalog.pg_extension_config_dump('mcp.prompts', '');

COMMENT ON TABLE mcp.prompts IS
    'Functions exposed as prompts; change it with mcp.expose_prompt() and mcp.withdraw_prompt()';
COMMENT ON COLUMN mcp.prompts.function IS 'Signature of the function, with schemas';
COMMENT ON COLUMN mcp.prompts.owner IS 'Owner of the function when it was exposed; under another one it does not run';
COMMENT ON COLUMN mcp.prompts.arguments IS 'Descriptions of the arguments, by argument';
COMMENT ON COLUMN mcp.prompts.completions IS 'Signatures of the functions that complete arguments, by argument';

CREATE DOMAIN mcp.prompt_result AS jsonb CONSTRAINT prompt_result_check CHECK (
    pg_catalog.jsonb_typeof(VALUE) OPERATOR(pg_catalog.=) 'object'
    AND COALESCE(pg_catalog.jsonb_typeof(VALUE OPERATOR(pg_catalog.->) 'messages') OPERATOR(pg_catalog.=) 'array', false));
GRANT USAGE ON DOMAIN mcp.prompt_result TO PUBLIC;
COMMENT ON DOMAIN mcp.prompt_result IS 'A complete MCP GetPromptResult: an object with "messages", an array';

COMMENT ON FUNCTION mcp.expose_prompt IS
    'Exposes a function as a prompt, or changes how it is exposed; for its owner and superusers';
COMMENT ON FUNCTION mcp.withdraw_prompt(text) IS 'Withdraws a prompt; for the owner of its function and superusers';
COMMENT ON FUNCTION mcp.list_prompts IS
    'The prompts as MCP Prompt objects; for a token that does not hold, one object whose status says why';
COMMENT ON FUNCTION mcp.get_prompt IS
    'Makes a prompt''s messages as the user of the session; an MCP GetPromptResult, or an object whose status says why there is none';
COMMENT ON FUNCTION mcp.complete IS
    'Completes an argument of a prompt or resource template; an MCP CompleteResult, or an object whose status says why there is none';

GRANT EXECUTE ON FUNCTION mcp.list_prompts, mcp.get_prompt, mcp.complete TO mcp_exec;
