-- What a tool says to its client while it runs: how far it is, and what it needs to know.

CREATE TABLE mcp.used_request_states (
    state_hash bytea       NOT NULL,
    expires_at timestamptz NOT NULL,
    PRIMARY KEY (state_hash)
);
CREATE INDEX used_request_states_expires_at_idx ON mcp.used_request_states (expires_at);
ALTER TABLE mcp.used_request_states OWNER TO mcp_owner;
ALTER TABLE mcp.used_request_states ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY owner ON mcp.used_request_states TO mcp_owner USING (true) WITH CHECK (true);
COMMENT ON TABLE mcp.used_request_states IS
    'Request states that clients have sent back: none is taken twice. Gone when it would have ended';

CREATE FUNCTION mcp.elicit(key text, message text, requested_schema jsonb) RETURNS jsonb
LANGUAGE sql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
RETURN mcp.request_input(pg_catalog.jsonb_build_object(key, pg_catalog.jsonb_build_object(
           'method', 'elicitation/create',
           'params', pg_catalog.jsonb_build_object('message', message, 'requestedSchema', requested_schema))))
       OPERATOR(pg_catalog.->) key;

CREATE FUNCTION mcp.sample(key text, messages jsonb, max_tokens integer DEFAULT 1000, options jsonb DEFAULT '{}')
RETURNS jsonb
LANGUAGE sql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
RETURN mcp.request_input(pg_catalog.jsonb_build_object(key, pg_catalog.jsonb_build_object(
           'method', 'sampling/createMessage',
           'params', options OPERATOR(pg_catalog.||)
                     pg_catalog.jsonb_build_object('messages', messages, 'maxTokens', max_tokens))))
       OPERATOR(pg_catalog.->) key;

CREATE FUNCTION mcp.roots(key text DEFAULT 'roots') RETURNS jsonb
LANGUAGE sql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
RETURN mcp.request_input(pg_catalog.jsonb_build_object(key, pg_catalog.jsonb_build_object(
           'method', 'roots/list', 'params', pg_catalog.jsonb_build_object())))
       OPERATOR(pg_catalog.->) key OPERATOR(pg_catalog.->) 'roots';

COMMENT ON FUNCTION mcp.request_input(jsonb) IS
    'Asks the client for input, several requests at once by keys; ends the call until all of the answers are there';
COMMENT ON FUNCTION mcp.elicit(text, text, jsonb) IS
    'Asks the user to fill in a form; the answer is an object with action (accept, decline, cancel) and content';
COMMENT ON FUNCTION mcp.sample(text, jsonb, integer, jsonb) IS 'Asks the client''s model; the answer has role and content';
COMMENT ON FUNCTION mcp.roots(text) IS 'Asks the client for its roots, an array';
COMMENT ON FUNCTION mcp.progress IS 'Tells the client how far the call is; for tools, resources and prompts';
COMMENT ON FUNCTION mcp.client_capabilities() IS 'What the client of the call can be asked for; NULL where it cannot';

GRANT EXECUTE ON FUNCTION
    mcp.request_input(jsonb), mcp.elicit(text, text, jsonb), mcp.sample(text, jsonb, integer, jsonb), mcp.roots(text),
    mcp.progress, mcp.client_capabilities()
    TO mcp_user;
