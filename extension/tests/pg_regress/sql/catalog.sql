-- Prompts, resources and completions: what may be one, whose it is, to whom it opens, and what becomes of it when its
-- function changes hands.
SET client_min_messages = warning;
\set VERBOSITY terse
\set QUIET on
\pset format unaligned
\pset tuples_only on
CREATE SCHEMA catalog AUTHORIZATION regress_owner;
GRANT USAGE ON SCHEMA catalog TO mcp_user, regress_nobody;
GRANT EXECUTE ON FUNCTION mcp.expose_tool, mcp.expose_prompt, mcp.withdraw_prompt, mcp.expose_resource, mcp.withdraw_resource
   TO regress_owner, regress_nobody;
SET ROLE regress_owner;
CREATE TYPE catalog.size AS ENUM ('small', 'smaller', 'large');
CREATE FUNCTION catalog.page(id text DEFAULT 'first', size catalog.size DEFAULT 'small') RETURNS text LANGUAGE sql STABLE
    AS $$ SELECT format('%s page %s', size, id) $$;
CREATE FUNCTION catalog.file(id text) RETURNS jsonb LANGUAGE sql STABLE AS $$ SELECT jsonb_build_object('file', id) $$;
CREATE FUNCTION catalog.ids(typed text, filled_in jsonb) RETURNS SETOF text LANGUAGE sql STABLE
    AS $$ SELECT n || coalesce(filled_in->>'size', '') FROM generate_series(1, 101) AS n WHERE starts_with(n::text, typed) $$;
CREATE FUNCTION catalog.whole_tool() RETURNS mcp.tool_result LANGUAGE sql STABLE AS $$ SELECT '{"content": []}'::mcp.tool_result $$;
CREATE FUNCTION catalog.whole_page() RETURNS mcp.resource_result LANGUAGE sql STABLE
    AS $$ SELECT '{"contents": [{"uri": "whole://page", "text": "whole"}], "more": 1}'::mcp.resource_result $$;
CREATE FUNCTION catalog.whole_prompt() RETURNS mcp.prompt_result LANGUAGE sql STABLE
    AS $$ SELECT '{"messages": [{"role": "assistant", "content": {"type": "text", "text": "whole"}}]}'::mcp.prompt_result $$;
CREATE FUNCTION catalog.no_page() RETURNS mcp.resource_result LANGUAGE plpgsql STABLE AS $$ BEGIN RETURN '{"contents": 1}'::jsonb; END $$;
CREATE FUNCTION catalog.no_prompt() RETURNS mcp.prompt_result LANGUAGE plpgsql STABLE AS $$ BEGIN RETURN '{}'::jsonb; END $$;
CREATE FUNCTION catalog.typed(id text, n integer DEFAULT 1, loud boolean DEFAULT false) RETURNS text LANGUAGE sql STABLE
    AS $$ SELECT concat_ws(' ', id, n, loud) $$;
CREATE FUNCTION catalog.of_both(a text, b text) RETURNS text LANGUAGE sql STABLE AS $$ SELECT a || b $$;
CREATE FUNCTION catalog.first(a text) RETURNS text LANGUAGE sql STABLE AS $$ SELECT 'first ' || a $$;
CREATE FUNCTION catalog.second(b text) RETURNS text LANGUAGE sql STABLE AS $$ SELECT 'second ' || b $$;
-- A whole result is of its own kind.
SELECT mcp.expose_tool('catalog.whole_page()');
SELECT mcp.expose_tool('catalog.whole_prompt()');
SELECT mcp.expose_prompt('catalog.whole_tool()');
SELECT mcp.expose_prompt('catalog.whole_page()');
SELECT mcp.expose_resource('catalog.whole_tool()', 'whole://tool');
SELECT mcp.expose_resource('catalog.whole_prompt()', 'whole://prompt');
SELECT mcp.expose_prompt('catalog.whole_prompt()'), mcp.expose_prompt('catalog.no_prompt()');
SELECT mcp.expose_resource('catalog.whole_page()', 'whole://page'), mcp.expose_resource('catalog.no_page()', 'no://page');
-- Names, URIs and descriptions that fit the function.
SELECT mcp.expose_prompt('catalog.page'::regproc, restricted => NULL);
SELECT mcp.expose_resource('catalog.page'::regproc, 'page://{id}', restricted => NULL);
SELECT mcp.expose_prompt('catalog.page'::regproc, name => 'a page');
SELECT mcp.expose_prompt('catalog.page'::regproc, name => repeat('p', 65));
SELECT mcp.expose_prompt('catalog.page'::regproc, scope => 'a"b');
SELECT mcp.expose_prompt('catalog.page'::regproc, timeout => '0');
SELECT mcp.expose_prompt('catalog.page'::regproc, arguments => '["id"]');
SELECT mcp.expose_prompt('catalog.page'::regproc, arguments => '{"ID": "which"}');
SELECT mcp.expose_prompt('catalog.page'::regproc, arguments => '{"id": 7}');
SELECT mcp.expose_prompt('catalog.page'::regproc, arguments => jsonb_build_object('id', repeat('x', 65536)));
SELECT mcp.expose_resource('catalog.page'::regproc, 'page');
SELECT mcp.expose_resource('catalog.page'::regproc, 'page://{number}');
SELECT mcp.expose_resource('catalog.file'::regproc, 'file://');
SELECT mcp.expose_resource('catalog.of_both'::regproc, 'both://{a}');
SELECT mcp.expose_resource('catalog.page'::regproc, 'page://{id}', scope => repeat('s', 257));
SELECT mcp.expose_resource('catalog.page'::regproc, 'page://{id}', timeout => '2 days');
-- What completes takes what was typed, and is the same owner's, for mcp_user to execute.
CREATE FUNCTION catalog.of_number(typed integer) RETURNS SETOF text LANGUAGE sql STABLE AS $$ SELECT 'x' $$;
CREATE FUNCTION catalog.of_texts(typed text, filled_in text) RETURNS SETOF text LANGUAGE sql STABLE AS $$ SELECT 'x' $$;
CREATE FUNCTION catalog.one(typed text) RETURNS text LANGUAGE sql STABLE AS $$ SELECT 'x' $$;
CREATE FUNCTION catalog.columns(typed text) RETURNS TABLE (a text, b text) LANGUAGE sql STABLE AS $$ SELECT 'x', 'y' $$;
CREATE FUNCTION catalog.hidden(typed text) RETURNS SETOF text LANGUAGE sql STABLE AS $$ SELECT 'x' $$;
REVOKE EXECUTE ON FUNCTION catalog.hidden FROM PUBLIC;
RESET ROLE;
CREATE FUNCTION catalog.other(typed text) RETURNS SETOF text LANGUAGE sql STABLE AS $$ SELECT 'other' $$;
ALTER FUNCTION catalog.other OWNER TO regress_nobody;
SET ROLE regress_owner;
SELECT mcp.expose_prompt('catalog.page'::regproc, completions => '{"ID": "catalog.ids(text, jsonb)"}');
SELECT mcp.expose_prompt('catalog.page'::regproc, completions => '{"id": 7}');
SELECT mcp.expose_prompt('catalog.page'::regproc, completions => '{"id": "catalog.none(text)"}');
SELECT mcp.expose_prompt('catalog.page'::regproc, completions => '{"id": "catalog.of_number(integer)"}');
SELECT mcp.expose_prompt('catalog.page'::regproc, completions => '{"id": "catalog.of_texts(text, text)"}');
SELECT mcp.expose_prompt('catalog.page'::regproc, completions => '{"id": "catalog.one(text)"}');
SELECT mcp.expose_prompt('catalog.page'::regproc, completions => '{"id": "catalog.columns(text)"}');
SELECT mcp.expose_prompt('catalog.page'::regproc, completions => '{"id": "catalog.hidden(text)"}');
SELECT mcp.expose_resource('catalog.page'::regproc, 'page://{id}', completions => '{"id": "catalog.other(text)"}');
RESET ROLE;
SELECT name FROM mcp.prompts UNION ALL SELECT uri FROM mcp.resources ORDER BY 1;
SET ROLE regress_owner;
SELECT mcp.expose_prompt('catalog.page'::regproc, arguments => '{"id": "Which page"}', scope => 'prompts',
                         completions => '{"id": "catalog.ids(text, jsonb)"}');
SELECT mcp.expose_resource('catalog.page'::regproc, 'page://{id}', scope => 'pages books', mime_type => 'text/x-page',
                           completions => '{"id": "catalog.ids(text, jsonb)"}');
SELECT mcp.expose_resource('catalog.file'::regproc, 'page://{id}.file');
-- What somebody took is taken, and stays theirs.
SET ROLE regress_nobody;
SELECT mcp.expose_prompt('catalog.page'::regproc);
SELECT mcp.expose_resource('catalog.page'::regproc, 'page://mine');
SELECT mcp.expose_prompt('catalog.other'::regproc, name => 'page');
RESET ROLE;
CREATE FUNCTION catalog.mine(id text) RETURNS text LANGUAGE sql STABLE AS $$ SELECT 'mine' $$;
ALTER FUNCTION catalog.mine OWNER TO regress_nobody;
SET ROLE regress_nobody;
SELECT mcp.expose_resource('catalog.mine'::regproc, 'page://{id}');
SELECT mcp.withdraw_prompt('page');
SELECT mcp.withdraw_resource('page://{id}');
SELECT mcp.withdraw_prompt('none'), mcp.withdraw_resource('none://');
-- Open to sessions with every scope, and to no other.
RESET ROLE;
SELECT access_token AS token FROM mcp.create_session('i', 'catalog', NULL, scopes => '{prompts,pages,books}') \gset
SELECT access_token AS less FROM mcp.create_session('i', 'catalog', NULL, scopes => '{pages}') \gset
SET ROLE regress_exec;
SELECT mcp.list_prompts(:'token');
SELECT mcp.list_resources(:'token');
SELECT mcp.list_resource_templates(:'token');
SELECT mcp.get_prompt(:'token', 'page', '{"id": "7", "size": "large"}');
SELECT mcp.get_prompt(:'less', 'page');
SELECT mcp.read_resource(:'token', 'page://7');
SELECT mcp.read_resource(:'less', 'page://7');
SELECT mcp.read_resource(:'token', 'page://7%00');
PREPARE complete(text, jsonb, jsonb, jsonb) AS SELECT mcp.complete($1, $2, $3, $4);
EXECUTE complete(:'token', '{"type": "ref/prompt", "name": "page"}', '{"name": "id", "value": "10"}', '{"arguments": {"size": "large"}}');
EXECUTE complete(:'less', '{"type": "ref/prompt", "name": "page"}', '{"name": "id", "value": "10"}', NULL);
EXECUTE complete(:'less', '{"type": "ref/prompt", "name": "page"}', '{"name": "size", "value": "s"}', NULL);
EXECUTE complete(:'less', '{"type": "ref/resource", "uri": "page://{id}"}', '{"name": "id", "value": "10"}', NULL);
EXECUTE complete(:'token', '{"type": "ref/resource", "uri": "page://{id}"}', '{"name": "size", "value": "SMALL"}', NULL);
SELECT jsonb_array_length(complete->'completion'->'values'), complete->'completion'->'total', complete->'completion'->'hasMore'
  FROM mcp.complete(:'token', '{"type": "ref/resource", "uri": "page://{id}"}', '{"name": "id", "value": ""}');
EXECUTE complete(:'token', '{"type": "ref/prompt", "name": "page"}', '{"name": "ID", "value": ""}', NULL);
EXECUTE complete(:'token', '{"type": "ref/resource", "uri": "page://7"}', '{"name": "id", "value": ""}', NULL);
EXECUTE complete(:'token', '{"type": "ref/resource", "name": "page"}', '{"name": "id", "value": ""}', NULL);
EXECUTE complete(:'token', '{"type": "ref/prompt", "uri": "page://{id}"}', '{"name": "id", "value": ""}', NULL);
EXECUTE complete(:'token', '{"type": "ref/prompt", "name": "page"}', '{"name": "id", "value": ""}', '{"arguments": 7}');
-- A template is no URI; of two that match, the one that says more is meant.
SELECT mcp.read_resource(:'token', 'page://{id}');
SELECT mcp.read_resource(:'token', 'page://7.file');
RESET ROLE;
SELECT mcp.expose_resource('catalog.second'::regproc, 'tie://{b}'), mcp.expose_resource('catalog.first'::regproc, 'tie://{a}'),
       mcp.expose_resource('catalog.first'::regproc, 'tie://x{a}');
SET ROLE regress_exec;
SELECT mcp.read_resource(:'token', 'tie://7');
SELECT mcp.read_resource(:'token', 'tie://x7');
RESET ROLE;
SELECT mcp.withdraw_resource(uri) FROM unnest(ARRAY['tie://{a}', 'tie://{b}', 'tie://x{a}']) AS uri;
SET ROLE regress_exec;
-- Prompts take texts, and read them as the types of their arguments; a boolean completes by itself. Whole results are
-- passed on, those that are none are not.
SELECT mcp.get_prompt(:'token', 'page', '{"id": 7}');
SELECT mcp.get_prompt(:'token', 'page', '{"id\": \"7\", \"size": "large"}');
SELECT mcp.get_prompt(:'token', 'page', '{"size": "huge"}');
RESET ROLE;
ALTER TYPE catalog.size ADD VALUE 'huge';
SET ROLE regress_exec;
SELECT mcp.get_prompt(:'token', 'page', '{"size": "huge"}');
SELECT mcp.get_prompt(:'token', 'page', '["7"]');
RESET ROLE;
SELECT mcp.expose_prompt('catalog.typed'::regproc);
SET ROLE regress_exec;
SELECT mcp.get_prompt(:'token', 'typed', '{"id": "7", "n": "7", "loud": "true"}');
SELECT mcp.get_prompt(:'token', 'typed', '{"id": "7", "n": "seven"}');
EXECUTE complete(:'token', '{"type": "ref/prompt", "name": "typed"}', '{"name": "loud", "value": ""}', NULL);
EXECUTE complete(:'token', '{"type": "ref/prompt", "name": "typed"}', '{"name": "loud", "value": "F"}', NULL);
RESET ROLE;
SELECT mcp.withdraw_prompt('typed');
SET ROLE regress_exec;
SELECT mcp.get_prompt(:'token', 'page', NULL);
SELECT mcp.get_prompt(:'token', 'whole_prompt');
SELECT mcp.get_prompt(:'token', 'no_prompt');
SELECT mcp.read_resource(:'token', 'whole://page');
SELECT mcp.read_resource(:'token', 'no://page');
-- Pages have a size.
SELECT mcp.list_prompts(:'token', page_size => 0);
SELECT mcp.list_prompts(:'token', page_size => 1001);
SELECT mcp.list_resource_templates(:'token', page_size => 1)->'cursor';
-- One begins after what the one before it ended with, in the order of the keys, not in that of the table.
RESET ROLE;
SELECT mcp.expose_tool('catalog.whole_tool()', n), mcp.expose_prompt('catalog.whole_prompt()', n),
       mcp.expose_resource('catalog.whole_page()', 'paged://' || n), mcp.expose_resource('catalog.page'::regproc, 'paged://' || n || '/{id}')
  FROM unnest('{paged-c,paged-a,paged-d,paged-b}'::text[]) AS n;
SET ROLE regress_exec;
SELECT e->>'name' AS name, e->'cursor' AS cursor FROM mcp.list_tools(:'token', after => 'paged-a', page_size => 2) AS e;
SELECT e->>'name' AS name, e->'cursor' AS cursor FROM mcp.list_prompts(:'token', after => 'paged-a', page_size => 2) AS e;
SELECT e->>'uri' AS uri, e->'cursor' AS cursor FROM mcp.list_resources(:'token', after => 'paged://paged-a', page_size => 2) AS e;
SELECT e->>'uriTemplate' AS uri, e->'cursor' AS cursor
  FROM mcp.list_resource_templates(:'token', after => 'paged://paged-a/{id}', page_size => 2) AS e;
-- The last is the last, also where it is full.
SELECT e->>'uriTemplate' AS uri, e->'cursor' AS cursor
  FROM mcp.list_resource_templates(:'token', after => 'paged://paged-b/{id}', page_size => 2) AS e;
RESET ROLE;
SELECT mcp.withdraw_tool(n), mcp.withdraw_prompt(n), mcp.withdraw_resource('paged://' || n), mcp.withdraw_resource('paged://' || n || '/{id}')
  FROM unnest('{paged-c,paged-a,paged-d,paged-b}'::text[]) AS n;
-- A function that changed hands is not what was exposed, nor what completes.
RESET ROLE;
ALTER FUNCTION catalog.page OWNER TO regress_nobody;
SET ROLE regress_exec;
SELECT mcp.list_prompts(:'token')->>'name';
SELECT mcp.list_resource_templates(:'token')->>'uriTemplate';
SELECT mcp.get_prompt(:'token', 'page');
SELECT mcp.read_resource(:'token', 'page://7');
EXECUTE complete(:'token', '{"type": "ref/prompt", "name": "page", "uri": "page://other"}', '{"name": "id", "value": ""}', NULL);
EXECUTE complete(:'token', '{"type": "ref/resource", "uri": "page://{id}", "name": "other"}', '{"name": "id", "value": ""}', NULL);
RESET ROLE;
ALTER FUNCTION catalog.page OWNER TO regress_owner;
ALTER FUNCTION catalog.ids OWNER TO regress_nobody;
SET ROLE regress_exec;
SELECT mcp.get_prompt(:'token', 'page');
EXECUTE complete(:'token', '{"type": "ref/prompt", "name": "page"}', '{"name": "id", "value": "10"}', NULL);
RESET ROLE;
SELECT reason FROM mcp.audit_log WHERE event = 'call_refused' AND reason ~ 'function catalog\.' ORDER BY id;
DROP FUNCTION catalog.ids;
SET ROLE regress_exec;
EXECUTE complete(:'token', '{"type": "ref/prompt", "name": "page"}', '{"name": "id", "value": "10"}', NULL);
RESET ROLE;
-- Whoever exposes what row level security does not hold for is told.
CREATE FUNCTION catalog.definer() RETURNS text LANGUAGE sql STABLE SECURITY DEFINER AS $$ SELECT 'x' $$;
ALTER FUNCTION catalog.definer OWNER TO regress_owner;
SELECT mcp.expose_tool('catalog.definer()'), mcp.expose_prompt('catalog.definer()'), mcp.expose_resource('catalog.definer()', 'x://definer');
ALTER ROLE regress_owner BYPASSRLS;
SELECT mcp.expose_tool('catalog.definer()'), mcp.expose_prompt('catalog.definer()'), mcp.expose_resource('catalog.definer()', 'x://definer');
ALTER ROLE regress_owner NOBYPASSRLS SUPERUSER;
SELECT mcp.expose_tool('catalog.definer()');
ALTER ROLE regress_owner NOSUPERUSER;
SELECT mcp.withdraw_tool('definer'), mcp.withdraw_prompt('definer'), mcp.withdraw_resource('x://definer');
-- An owner withdraws what is gone, too.
DROP SCHEMA catalog CASCADE;
SET ROLE regress_owner;
SELECT mcp.withdraw_prompt(name) FROM unnest(ARRAY['page', 'whole_prompt', 'no_prompt']) AS name;
SELECT mcp.withdraw_resource(uri) FROM unnest(ARRAY['page://{id}', 'page://{id}.file', 'whole://page', 'no://page']) AS uri;
RESET ROLE;
SELECT name FROM mcp.prompts UNION ALL SELECT uri FROM mcp.resources;
REVOKE EXECUTE ON FUNCTION mcp.expose_tool, mcp.expose_prompt, mcp.withdraw_prompt, mcp.expose_resource, mcp.withdraw_resource
  FROM regress_owner, regress_nobody;
