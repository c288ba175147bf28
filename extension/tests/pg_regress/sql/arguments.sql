-- What callers are told of arguments that do not fit, and what reaches the function of those that do.
SET client_min_messages = warning;
\set VERBOSITY terse
CREATE SCHEMA arguments;
GRANT USAGE ON SCHEMA arguments TO mcp_user;
CREATE DOMAIN arguments.word AS jsonb CHECK (jsonb_typeof(VALUE) = 'string');
CREATE DOMAIN arguments.name AS text NOT NULL;
CREATE TYPE arguments.line AS (name arguments.name, points integer[]);
CREATE FUNCTION arguments.two(a text, b text) RETURNS text LANGUAGE sql AS 'SELECT a || b';
CREATE FUNCTION arguments.none() RETURNS text LANGUAGE sql AS 'SELECT ''x''';
CREATE FUNCTION arguments.word(v arguments.word) RETURNS text LANGUAGE sql AS 'SELECT v::text';
CREATE FUNCTION arguments.line(v arguments.line) RETURNS text LANGUAGE sql AS 'SELECT v::text';
CREATE FUNCTION arguments.kind(v jsonb) RETURNS text LANGUAGE sql AS 'SELECT coalesce(jsonb_typeof(v), ''SQL NULL'')';
SELECT count(mcp.expose_tool(oid)) AS exposed FROM pg_proc WHERE pronamespace = 'arguments'::regnamespace;
SELECT access_token AS token FROM mcp.create_session('arguments', 'ann', NULL) \gset
PREPARE call(text, jsonb) AS SELECT coalesce(said -> 'content' -> 0 ->> 'text', said::text) AS said
  FROM mcp.call_tool(:'token', $1, $2) AS said;
SET ROLE regress_exec;
EXECUTE call('two', '{"a": "x"}');
EXECUTE call('two', '{}');
EXECUTE call('two', '{"c": "x"}');
EXECUTE call('none', '{"c": "x"}');
EXECUTE call('word', '{"v": 1}');
EXECUTE call('line', '{"v": {"points": []}}');
-- JSON's null is a value of jsonb.
EXECUTE call('kind', '{"v": null}');
RESET ROLE;
DEALLOCATE call;
-- What completes takes what was typed, and the other arguments, no more and in these types.
CREATE FUNCTION arguments.page(id text) RETURNS text LANGUAGE sql STABLE AS 'SELECT id';
CREATE FUNCTION arguments.of_number(a integer, b jsonb) RETURNS SETOF text LANGUAGE sql STABLE AS 'SELECT ''x''';
CREATE FUNCTION arguments.of_nothing() RETURNS SETOF text LANGUAGE sql STABLE AS 'SELECT ''x''';
CREATE FUNCTION arguments.of_three(a text, b jsonb, c text) RETURNS SETOF text LANGUAGE sql STABLE AS 'SELECT ''x''';
SELECT mcp.expose_prompt('arguments.page(text)', completions => '{"id": "arguments.of_number(integer, jsonb)"}');
SELECT mcp.expose_prompt('arguments.page(text)', completions => '{"id": "arguments.of_nothing()"}');
SELECT mcp.expose_prompt('arguments.page(text)', completions => '{"id": "arguments.of_three(text, jsonb, text)"}');
SELECT count(*) FROM mcp.prompts WHERE name = 'page';
SELECT count(mcp.withdraw_tool(proname)) AS withdrawn FROM pg_proc
 WHERE pronamespace = 'arguments'::regnamespace AND proname IN ('two', 'none', 'word', 'line', 'kind');
DROP SCHEMA arguments CASCADE;
DELETE FROM mcp.sessions WHERE issuer = 'arguments';
