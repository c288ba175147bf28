-- What may be exposed as a tool, by whom, and what becomes of it when it changes hands.
SET client_min_messages = warning;
\set VERBOSITY terse
CREATE SCHEMA exposed AUTHORIZATION regress_owner;
GRANT USAGE ON SCHEMA exposed TO mcp_user, regress_nobody;
CREATE SCHEMA closed AUTHORIZATION regress_owner;
SET ROLE regress_owner;
CREATE FUNCTION exposed.greet(name text DEFAULT 'you') RETURNS text LANGUAGE sql AS $$ SELECT 'hello ' || name $$;
CREATE FUNCTION exposed.unnamed(integer) RETURNS integer LANGUAGE sql STABLE AS 'SELECT $1';
CREATE FUNCTION exposed.anything(a anyelement) RETURNS text LANGUAGE sql STABLE AS 'SELECT a::text';
CREATE FUNCTION exposed.secret() RETURNS text LANGUAGE sql STABLE AS $$ SELECT 'secret'::text $$;
REVOKE EXECUTE ON FUNCTION exposed.secret() FROM PUBLIC;
CREATE PROCEDURE exposed.do() LANGUAGE sql AS 'SELECT 1';
CREATE AGGREGATE exposed.total(integer) (SFUNC = int4pl, STYPE = integer);
CREATE FUNCTION closed.off() RETURNS text LANGUAGE sql STABLE AS $$ SELECT 'off'::text $$;
CREATE FUNCTION exposed.twice(word text) RETURNS text LANGUAGE sql STABLE AS $$ SELECT word || word $$;
CREATE FUNCTION exposed.records() RETURNS TABLE (r record, n integer) LANGUAGE plpgsql STABLE AS 'BEGIN END';
CREATE FUNCTION exposed.cstrings(a cstring[]) RETURNS integer LANGUAGE sql STABLE AS 'SELECT 1';
CREATE FUNCTION exposed.statistic(a pg_catalog.pg_statistic) RETURNS integer LANGUAGE sql STABLE AS 'SELECT 1';
CREATE FUNCTION exposed.numbers(below integer) RETURNS TABLE (n integer) LANGUAGE sql STABLE AS 'SELECT generate_series(0, below - 1)';
-- Its owner's, and nobody else's.
SET ROLE regress_nobody;
SELECT mcp.expose_tool('exposed.greet(text)');
RESET ROLE;
GRANT EXECUTE ON FUNCTION mcp.expose_tool, mcp.withdraw_tool TO regress_owner, regress_nobody;
SET ROLE regress_nobody;
SELECT mcp.expose_tool('exposed.greet(text)');
SELECT mcp.expose_resource('exposed.greet(text)', 'test://greet/{name}');
SET ROLE regress_owner;
SELECT mcp.expose_tool('exposed.greet(text)', scope => 'greet');
-- Functions alone, with a name each client takes, that the user may call. What is refused comes with what to do.
\set VERBOSITY default
SELECT mcp.expose_tool(NULL);
SELECT mcp.expose_tool('exposed.do()');
SELECT mcp.expose_tool('exposed.total(integer)');
SELECT mcp.expose_tool('exposed.unnamed(integer)');
SELECT mcp.expose_tool('exposed.anything(anyelement)');
SELECT mcp.expose_tool('exposed.records()');
SELECT mcp.expose_tool('exposed.cstrings(cstring[])');
SELECT mcp.expose_tool('exposed.statistic(pg_statistic)');
SELECT mcp.expose_tool('exposed.secret()');
SELECT mcp.expose_tool('closed.off()');
SELECT mcp.expose_tool('exposed.greet(text)', name => '');
SELECT mcp.expose_tool('exposed.greet(text)', name => 'say hello');
SELECT mcp.expose_tool('exposed.greet(text)', name => 'grüße');
SELECT mcp.expose_tool('exposed.greet(text)', name => repeat('g', 65));
SELECT mcp.expose_tool('exposed.greet(text)', name => repeat('g', 64));
SELECT mcp.withdraw_tool(repeat('g', 64));
SELECT mcp.expose_tool('exposed.greet(text)', scope => 'a"b');
-- No session could hold these.
SELECT mcp.expose_tool('exposed.greet(text)', scope => repeat('g', 257));
SELECT mcp.expose_tool('exposed.greet(text)', scope => (SELECT string_agg('g' || n, ' ') FROM generate_series(1, 101) AS n));
SELECT mcp.expose_tool('exposed.greet(text)', timeout => '0');
SELECT mcp.expose_tool('exposed.greet(text)', timeout => '2 days');
SELECT mcp.expose_tool('exposed.greet(text)', annotations => '{"readOnlyHint": true}');
SELECT mcp.expose_tool('exposed.greet(text)', annotations => '{"destructiveHint": 1}');
SELECT mcp.expose_tool('exposed.greet(text)', annotations => '[]');
SELECT mcp.expose_tool('exposed.greet(text)', input_schema => '{"type": "array"}');
SELECT mcp.expose_tool('exposed.greet(text)', annotations => '{"title": 7}');
SELECT mcp.expose_tool('exposed.greet(text)', input_schema => '{"type": "object", "properties": []}');
SELECT mcp.expose_tool('exposed.greet(text)', input_schema => '{"type": "object", "properties": {"name": 7}}');
SELECT mcp.expose_tool('exposed.greet(text)', input_schema => '{"type": "object", "properties": {"title": {}}}');
SELECT mcp.expose_tool('exposed.greet(text)',
       input_schema => '{"type": "object", "properties": {"name": {"type": "number", "x-mcp-header": "Name"}}}');
SELECT mcp.expose_tool('exposed.greet(text)', input_schema => jsonb_build_object('type', 'object', 'title', repeat('x', 65536)));
SELECT mcp.expose_tool('exposed.twice(text)', input_schema => '{"type": "object"}');
SELECT mcp.expose_tool('exposed.greet(text)', output_schema => '{"type": "object"}');
SELECT mcp.expose_tool('exposed.numbers(integer)', output_schema => '{"type": "array"}');
SELECT mcp.expose_tool('exposed.greet(text)', restricted => NULL);
RESET ROLE;
CREATE FUNCTION exposed.nothing(a void) RETURNS integer LANGUAGE internal STABLE AS 'int4in';
SELECT mcp.expose_tool('exposed.nothing(void)');
-- None of that changed the tool.
SELECT name, function, owner, scope, timeout, annotations FROM mcp.tools WHERE function LIKE 'exposed.%' ORDER BY name;
-- What a function is, its tool may say of itself, in a document that is as large as they may be. A blank scope is none.
SELECT mcp.expose_tool('exposed.numbers(integer)', annotations => '{"readOnlyHint": true, "title": "Numbers"}',
       output_schema => '{"type": "object", "properties": {"rows": {}}}', scope => ' ');
SELECT mcp.expose_tool('exposed.twice(text)', name => 'roomy', scope => '',
       input_schema => jsonb_build_object('type', 'object', 'properties', '{"word": {}}'::jsonb, 'title', repeat('x', 65461)));
SELECT name, scope FROM mcp.tools WHERE name IN ('numbers', 'roomy') ORDER BY name;
-- The annotations of a resource are what clients take.
SELECT mcp.expose_resource('exposed.greet(text)', 'test://greet/{name}', annotations => '[]');
SELECT mcp.expose_resource('exposed.greet(text)', 'test://greet/{name}', annotations => '{"audience": "user"}');
SELECT mcp.expose_resource('exposed.greet(text)', 'test://greet/{name}', annotations => '{"audience": ["nobody"]}');
SELECT mcp.expose_resource('exposed.greet(text)', 'test://greet/{name}', annotations => '{"priority": "high"}');
SELECT mcp.expose_resource('exposed.greet(text)', 'test://greet/{name}', annotations => '{"priority": 1.5}');
SELECT mcp.expose_resource('exposed.greet(text)', 'test://greet/{name}', annotations => '{"lastModified": 2026}');
SELECT mcp.expose_resource('exposed.greet(text)', 'test://greet/{name}',
       annotations => '{"audience": ["user", "assistant"], "priority": 1, "lastModified": "2026-01-01", "other": {}}');
SELECT mcp.withdraw_resource('test://greet/{name}');
-- A name that somebody took is taken, and stays theirs.
CREATE FUNCTION exposed.other() RETURNS text LANGUAGE sql STABLE AS $$ SELECT 'other'::text $$;
ALTER FUNCTION exposed.other() OWNER TO regress_nobody;
SET ROLE regress_nobody;
SELECT mcp.expose_tool('exposed.other()', name => 'greet');
SELECT mcp.withdraw_tool('greet');
SELECT mcp.withdraw_tool('no such tool');
RESET ROLE;
-- The scope is the session's, not the caller's to claim.
SELECT access_token AS with_scope FROM mcp.create_session('i', 'exposure', NULL, scopes => '{greet}') \gset
SELECT access_token AS without FROM mcp.create_session('i', 'exposure', NULL) \gset
SET ROLE regress_exec;
SELECT mcp.call_tool(:'with_scope', 'greet', '{"name": "Alice"}');
SELECT mcp.call_tool(:'without', 'greet');
SELECT mcp.call_tool(:'without', 'numbers', '{"below": 2}');
SELECT tool->>'name' AS name, tool->'annotations' AS annotations, tool->'outputSchema' AS returns
  FROM mcp.list_tools(:'without') AS tool WHERE tool->>'name' IN ('greet', 'numbers') ORDER BY 1;
-- A function that changed hands is not what was exposed: neither listed nor called, until its new owner exposes it.
RESET ROLE;
ALTER FUNCTION exposed.greet(text) OWNER TO regress_nobody;
SET ROLE regress_exec;
-- The server's log says so, too.
SET client_min_messages = log;
SELECT mcp.call_tool(:'with_scope', 'greet');
SET client_min_messages = warning;
SELECT count(*) FROM mcp.list_tools(:'with_scope') AS tool WHERE tool->>'name' = 'greet';
RESET ROLE;
ALTER FUNCTION exposed.greet(text) OWNER TO regress_owner;
SET ROLE regress_exec;
SELECT mcp.call_tool(:'with_scope', 'greet');
SELECT count(*) FROM mcp.list_tools(:'with_scope') AS tool WHERE tool->>'name' = 'greet';
-- Nor is it under an owner or in a schema of another name.
RESET ROLE;
ALTER SCHEMA exposed RENAME TO renamed;
SET ROLE regress_exec;
SELECT mcp.call_tool(:'with_scope', 'greet');
RESET ROLE;
ALTER SCHEMA renamed RENAME TO exposed;
SET ROLE regress_exec;
SELECT mcp.call_tool(:'with_scope', 'greet', jsonb_build_object(repeat('n', 65), 'Alice'));
SELECT mcp.call_tool(:'with_scope', 'greet', '["Alice"]');
RESET ROLE;
ALTER ROLE regress_owner RENAME TO regress_renamed;
SET ROLE regress_exec;
SELECT mcp.call_tool(:'with_scope', 'greet');
RESET ROLE;
ALTER ROLE regress_renamed RENAME TO regress_owner;
-- Another body is another function, from the next call on.
RESET ROLE;
CREATE OR REPLACE FUNCTION exposed.greet(name text DEFAULT 'you') RETURNS text LANGUAGE sql AS $$ SELECT 'bye ' || name $$;
SET ROLE regress_exec;
SELECT mcp.call_tool(:'with_scope', 'greet');
-- No tool runs while its role could do more than tools may, also in a backend that ran some before.
RESET ROLE;
GRANT pg_read_server_files TO mcp_user;
SET ROLE regress_exec;
SELECT mcp.call_tool(:'with_scope', 'greet');
RESET ROLE;
REVOKE pg_read_server_files FROM mcp_user;
GRANT mcp_exec TO mcp_user;
SET ROLE regress_exec;
SELECT mcp.call_tool(:'with_scope', 'greet');
RESET ROLE;
REVOKE mcp_exec FROM mcp_user;
SET ROLE regress_exec;
SELECT mcp.call_tool(:'with_scope', 'greet');
RESET ROLE;
ALTER ROLE mcp_user REPLICATION;
SET ROLE regress_exec;
SELECT mcp.call_tool(:'with_scope', 'greet');
RESET ROLE;
ALTER ROLE mcp_user NOREPLICATION;
ALTER ROLE mcp_user BYPASSRLS;
SET ROLE regress_exec;
SELECT mcp.call_tool(:'with_scope', 'greet');
RESET ROLE;
-- The role itself is named before what it is in, and that in the order of its names.
GRANT mcp_owner, mcp_auth, mcp_monitor TO mcp_user;
SET ROLE regress_exec;
SELECT mcp.call_tool(:'with_scope', 'greet');
RESET ROLE;
ALTER ROLE mcp_user NOBYPASSRLS SUPERUSER;
SET ROLE regress_exec;
SELECT mcp.call_tool(:'with_scope', 'greet');
RESET ROLE;
ALTER ROLE mcp_user NOSUPERUSER;
SET ROLE regress_exec;
SELECT mcp.call_tool(:'with_scope', 'greet');
RESET ROLE;
REVOKE mcp_auth FROM mcp_user;
SET ROLE regress_exec;
SELECT mcp.call_tool(:'with_scope', 'greet');
RESET ROLE;
REVOKE mcp_monitor FROM mcp_user;
SET ROLE regress_exec;
SELECT mcp.call_tool(:'with_scope', 'greet');
RESET ROLE;
REVOKE mcp_owner FROM mcp_user;
SET ROLE regress_exec;
SELECT mcp.call_tool(:'with_scope', 'greet');
-- Roles may change often in one backend.
RESET ROLE;
SELECT set_config('regress.token', :'with_scope', false) = :'with_scope' AS set;
DO $$
BEGIN
    FOR round IN 1..40 LOOP
        EXECUTE format('ALTER ROLE mcp_user CONNECTION LIMIT %s', round);
        COMMIT;
        PERFORM mcp.call_tool(current_setting('regress.token'), 'greet');
        COMMIT;
    END LOOP;
END
$$;
RESET regress.token;
ALTER ROLE mcp_user CONNECTION LIMIT -1;
-- Nor while there is no such role.
ALTER ROLE mcp_user RENAME TO regress_renamed;
SET ROLE regress_exec;
SELECT mcp.call_tool(:'with_scope', 'greet');
RESET ROLE;
ALTER ROLE regress_renamed RENAME TO mcp_user;
SET ROLE regress_exec;
SELECT mcp.call_tool(:'with_scope', 'greet');
\set VERBOSITY terse
-- Telling a default that only SQL can make JSON of writes nothing.
RESET ROLE;
CREATE FUNCTION exposed.since(day date DEFAULT '2026-01-31', rate numeric DEFAULT 0.25) RETURNS text LANGUAGE sql STABLE
    AS $$ SELECT day::text || rate $$;
SELECT mcp.expose_tool('exposed.since(date,numeric)');
SET ROLE regress_exec;
BEGIN READ ONLY;
SELECT tool->'inputSchema'->'properties' FROM mcp.list_tools(:'with_scope') AS tool WHERE tool->>'name' = 'since';
SELECT pg_current_xact_id_if_assigned() IS NULL AS wrote_nothing;
COMMIT;
-- Types that mention each other may be few and their description endless.
RESET ROLE;
DO $$
BEGIN
    CREATE TYPE exposed.nested1 AS (a int, b int, c int, d int, e int, f int, g int, h int);
    FOR level IN 2..6 LOOP
        EXECUTE format('CREATE TYPE exposed.nested%s AS (a %2$s, b %2$s, c %2$s, d %2$s, e %2$s, f %2$s, g %2$s, h %2$s)',
                       level, 'exposed.nested' || level - 1);
    END LOOP;
END
$$;
CREATE TYPE exposed.growing AS (a exposed.nested1);
CREATE FUNCTION exposed.takes(v exposed.nested6) RETURNS text LANGUAGE sql STABLE AS $$ SELECT 'took it' $$;
CREATE FUNCTION exposed.returns() RETURNS exposed.nested6 LANGUAGE sql STABLE AS $$ SELECT NULL::exposed.nested6 $$;
CREATE FUNCTION exposed.grows(v exposed.growing) RETURNS exposed.growing LANGUAGE sql STABLE AS $$ SELECT v $$;
SET statement_timeout = '20s';
SELECT mcp.expose_tool('exposed.takes(exposed.nested6)');
SELECT mcp.expose_tool('exposed.returns()');
SELECT mcp.expose_tool('exposed.grows(exposed.growing)');
-- Told as far as there is room, now and after a type has grown: the other tools are listed all the same.
SET ROLE regress_exec;
SELECT mcp.call_tool(:'with_scope', 'grows', '{"v": {"b": null}}');
RESET ROLE;
ALTER TYPE exposed.growing ADD ATTRIBUTE b exposed.nested6;
SET ROLE regress_exec;
SELECT tool->>'name' AS name, tool @? '$.inputSchema.properties.v.properties.a.properties.a.properties.a.properties.a' AS inner,
       length(tool::text) < 1000000 AS bounded
  FROM mcp.list_tools(:'with_scope') AS tool WHERE tool->>'name' IN ('grows', 'takes', 'returns') ORDER BY 1;
SELECT mcp.call_tool(:'with_scope', 'takes', '{"v": {"a": {"b": {"c": null}}}}');
SELECT mcp.call_tool(:'with_scope', 'grows', '{"v": {"b": null, "a": {"a": "x"}}}');
SELECT mcp.call_tool(:'with_scope', 'grows', '{"v": {"a": {"a": 1}}}');
RESET statement_timeout;
-- Settings that decide what SQL means are the tool's, whatever its caller has set, and the caller's again afterwards.
RESET ROLE;
CREATE FUNCTION exposed.settings() RETURNS jsonb LANGUAGE sql STABLE AS $$
    SELECT jsonb_object_agg(name, setting) FROM pg_settings
     WHERE name IN ('standard_conforming_strings', 'transform_null_equals', 'bytea_output', 'IntervalStyle', 'search_path')
$$;
SELECT mcp.expose_tool('exposed.settings()');
SET ROLE regress_exec;
SET standard_conforming_strings = off;
SET transform_null_equals = on;
SET bytea_output = escape;
SET intervalstyle = postgres;
SET search_path = closed;
SELECT mcp.call_tool(:'with_scope', 'settings');
SELECT current_setting('standard_conforming_strings') || ' '
    || current_setting('transform_null_equals') || ' ' || current_setting('bytea_output') || ' '
    || current_setting('intervalstyle') || ' ' || current_setting('search_path');
RESET ALL;
RESET ROLE;
-- Nor does it matter how the caller has names, literals, dates and numbers written when the catalogs are read.
CREATE DOMAIN exposed.code AS text CHECK (VALUE ~ '^[A-Z]\.\d+$');
CREATE FUNCTION exposed.measure(code exposed.code, day date DEFAULT '2026-01-31', wait interval DEFAULT '1 day 02:00',
                                ratio float8 DEFAULT 0.12345678901234568, mask bytea DEFAULT '\x5c00') RETURNS TABLE (product float8, day date)
    LANGUAGE sql STABLE AS $$ SELECT ratio + 0.2, day $$;
SELECT mcp.expose_tool('exposed.measure(exposed.code, date, interval, float8, bytea)');
SET ROLE regress_exec;
SELECT tool AS plain FROM mcp.list_tools(:'with_scope') AS tool WHERE tool->>'name' = 'measure' \gset
SELECT :'plain'::jsonb -> 'inputSchema' -> 'properties' AS properties;
SELECT mcp.call_tool(:'with_scope', 'measure', '{"code": "A.1"}') AS result \gset
SELECT :'result'::jsonb -> 'structuredContent' AS content;
RESET ROLE;
ALTER FUNCTION exposed.measure COST 7;
SET ROLE regress_exec;
SET quote_all_identifiers = on;
SET standard_conforming_strings = off;
SET datestyle = 'SQL, DMY';
SET intervalstyle = sql_standard;
SET bytea_output = escape;
SET extra_float_digits = -10;
SELECT tool = :'plain'::jsonb AS told_alike FROM mcp.list_tools(:'with_scope') AS tool WHERE tool->>'name' = 'measure';
SELECT mcp.call_tool(:'with_scope', 'measure', '{"code": "A.1"}') = :'result'::jsonb AS answered_alike;
SELECT mcp.call_tool(:'with_scope', 'measure', '{"code": "Ad1"}');
RESET ROLE;
SELECT mcp.withdraw_tool('measure'), mcp.expose_tool('exposed.measure(exposed.code, date, interval, float8, bytea)');
SELECT count(*) FROM mcp.doctor() WHERE finding ~ '"mcp"';
RESET ALL;
SELECT function FROM mcp.tools WHERE name = 'measure';
-- Names are quoted. A row type is its columns, a point is no array, and what is called as a result of ours is none.
CREATE SCHEMA "odd, schema";
GRANT USAGE ON SCHEMA "odd, schema" TO mcp_user;
CREATE FUNCTION "odd, schema".path(OUT "it's" text) RETURNS SETOF text LANGUAGE sql STABLE AS $$ SELECT current_setting('search_path') $$;
CREATE TABLE exposed.things (id integer, gone text, at point);
ALTER TABLE exposed.things DROP COLUMN gone;
CREATE FUNCTION exposed.thing(at point) RETURNS exposed.things LANGUAGE sql STABLE AS $$ SELECT 1, at $$;
CREATE DOMAIN exposed.tool_result AS jsonb;
CREATE FUNCTION exposed.alike() RETURNS exposed.tool_result LANGUAGE sql STABLE AS $$ SELECT '{"content": 7}'::exposed.tool_result $$;
-- A domain that rests on one that is never NULL, and one that only PostgreSQL can tell is never NULL.
CREATE DOMAIN exposed.present AS text NOT NULL;
CREATE DOMAIN exposed.named AS exposed.present;
CREATE DOMAIN exposed.filled AS text CHECK (coalesce(VALUE, '') <> '');
CREATE DOMAIN exposed.above AS numeric CHECK (VALUE > 0);
CREATE FUNCTION exposed.fill(a exposed.named DEFAULT 'a', b exposed.filled DEFAULT 'b', c exposed.above DEFAULT 1) RETURNS text LANGUAGE sql STABLE
    AS $$ SELECT a || coalesce(b, 'NULL') $$;
CREATE FUNCTION exposed.sleep() RETURNS void LANGUAGE sql STABLE AS $$ SELECT pg_sleep(60) $$;
CREATE FUNCTION exposed.talk() RETURNS text LANGUAGE plpgsql AS
    $$ BEGIN PERFORM mcp.progress(1); RAISE NOTICE 'noticed'; RETURN 'talked'; END $$;
CREATE FUNCTION exposed.ask() RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    PERFORM mcp.request_input('{"roots": {"method": "roots/list"}}');
    RETURN 'answered';
EXCEPTION WHEN query_canceled THEN
    RAISE 'failed otherwise';
END
$$;
SELECT mcp.expose_tool('"odd, schema".path()'), mcp.expose_tool('exposed.thing(point)'), mcp.expose_tool('exposed.alike()'),
       mcp.expose_tool('exposed.fill(exposed.named, exposed.filled, exposed.above)'), mcp.expose_tool('exposed.sleep()'), mcp.expose_tool('exposed.ask()'),
       mcp.expose_tool('exposed.talk()');
SET ROLE regress_exec;
SELECT mcp.call_tool(:'with_scope', 'path')->'structuredContent' AS path;
-- Versions of PostgreSQL describe a point differently.
SELECT replace((tool->'inputSchema'->'properties')::text, point, 'a point') AS takes,
       replace((tool->'outputSchema'->'properties')::text, point, 'a point') AS returns
  FROM mcp.list_tools(:'with_scope') AS tool, obj_description('point'::regtype, 'pg_type') AS point
 WHERE tool->>'name' IN ('thing', 'fill') ORDER BY tool->>'name';
SELECT mcp.call_tool(:'with_scope', 'thing', '{"at": "(1,2)"}')->'structuredContent' AS thing;
SELECT mcp.call_tool(:'with_scope', 'alike')->'structuredContent' AS alike;
SELECT mcp.call_tool(:'with_scope', 'fill', '{"b": null}');
SELECT mcp.call_tool(:'with_scope', 'fill', '{"c": 0}');
SELECT mcp.call_tool(:'with_scope', 'fill', '{"b": "long"}');
RESET ROLE;
ALTER DOMAIN exposed.filled ADD CHECK (length(VALUE) < 3);
SET ROLE regress_exec;
SELECT mcp.call_tool(:'with_scope', 'fill', '{"b": "long"}');
-- A transaction has one identity, and what a tool must not do its caller may again.
SELECT mcp.call_tool(:'with_scope', 'alike') AS one, mcp.call_tool(:'with_scope', 'alike') AS two;
-- Its caller goes on where it was: in the middle of a scan, with what it deferred and what is temporary. No cursor stays.
RESET ROLE;
CREATE TABLE exposed.pages AS SELECT n, repeat('x', 1000) AS filler FROM generate_series(1, 100) AS n;
CREATE TABLE exposed.once (n integer UNIQUE DEFERRABLE INITIALLY DEFERRED);
GRANT USAGE ON SCHEMA exposed TO regress_exec;
GRANT TEMPORARY ON DATABASE :DBNAME TO regress_exec, mcp_user;
GRANT EXECUTE ON FUNCTION lo_create, lo_unlink TO mcp_user;
GRANT SELECT ON exposed.pages TO regress_exec;
GRANT SELECT, INSERT, DELETE ON exposed.once TO regress_exec;
CREATE FUNCTION exposed.large(after_temporary boolean) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    IF after_temporary THEN
        BEGIN
            CREATE FUNCTION pg_temp.left_behind() RETURNS integer LANGUAGE sql AS 'SELECT 1';
        EXCEPTION WHEN insufficient_privilege THEN NULL;
        END;
    END IF;
    RETURN lo_unlink(lo_create(0)) = 1 AND to_regproc('pg_temp.left_behind') IS NULL;
END
$$;
SELECT mcp.expose_tool('exposed.large(boolean)');
CREATE FUNCTION exposed.reads() RETURNS text LANGUAGE plpgsql AS $$
DECLARE word text;
BEGIN
    EXECUTE 'SELECT word FROM pg_temp.mine' INTO word;
    RETURN upper(word);
END
$$;
SELECT mcp.expose_tool('exposed.reads()');
-- Outside of tools what is restricted may use the temporary schema, as REFRESH does.
CREATE MATERIALIZED VIEW exposed.counted AS SELECT n FROM exposed.pages;
CREATE UNIQUE INDEX ON exposed.counted (n);
REFRESH MATERIALIZED VIEW CONCURRENTLY exposed.counted;
SET ROLE regress_exec;
SELECT mcp.call_tool(:'with_scope', 'numbers', '{"below": 1}')->'structuredContent' AS rows FROM exposed.pages WHERE n = 50;
SELECT mcp.call_tool(:'with_scope', 'large', '{"after_temporary": true}');
BEGIN;
INSERT INTO exposed.once VALUES (1), (1);
CREATE TEMPORARY TABLE mine AS SELECT 'read, and went on' AS word;
GRANT SELECT ON mine TO mcp_user;
SELECT mcp.call_tool(:'with_scope', 'large', '{"after_temporary": false}');
DELETE FROM exposed.once;
COMMIT;
-- What it may read there, it goes on after.
SELECT mcp.call_tool(:'with_scope', 'reads');
DROP TABLE mine;
BEGIN;
SELECT mcp.call_tool(:'with_scope', 'numbers', '{"below": 1}');
SELECT name FROM pg_cursors;
COMMIT;
RESET ROLE;
REVOKE TEMPORARY ON DATABASE :DBNAME FROM regress_exec, mcp_user;
REVOKE EXECUTE ON FUNCTION lo_create, lo_unlink FROM mcp_user;
SET ROLE regress_exec;
-- JSON is structured content where it is an object; anything else is text.
RESET ROLE;
CREATE FUNCTION exposed.any_json(v jsonb) RETURNS jsonb LANGUAGE sql STABLE AS $$ SELECT v $$;
SELECT mcp.expose_tool('exposed.any_json(jsonb)');
SET ROLE regress_exec;
SELECT mcp.call_tool(:'with_scope', 'any_json', '{"v": {"a": [1]}}');
SELECT mcp.call_tool(:'with_scope', 'any_json', '{"v": [{"a": 1}]}');
SELECT mcp.call_tool(:'with_scope', 'any_json', '{"v": "{}"}');
SELECT mcp.call_tool(:'with_scope', 'any_json', '{"v": 7}');
SELECT mcp.call_tool(:'with_scope', 'any_json', '{"v": null}');
-- What is said during a call is said to who asked for it.
SELECT mcp.call_tool(:'with_scope', 'talk', request => '{"notices": "1", "progress": true, "logLevel": "notice"}');
SELECT mcp.call_tool(:'with_scope', 'talk', request => '{"notices": "2"}');
SELECT mcp.call_tool(:'with_scope', 'talk', request => '{"progress": true, "logLevel": "notice"}');
-- A question is one only if the call ends with it; whoever cannot ask is told so.
SELECT mcp.call_tool(:'with_scope', 'ask', request => '{"capabilities": {"roots": {}}}');
-- What it can be asked for, the tool may know.
RESET ROLE;
CREATE FUNCTION exposed.able() RETURNS text LANGUAGE sql STABLE AS $$ SELECT coalesce(mcp.client_capabilities()::text, 'cannot be asked') $$;
SELECT mcp.expose_tool('exposed.able()'), mcp.client_capabilities() IS NULL AS nobody;
SET ROLE regress_exec;
SELECT mcp.call_tool(:'with_scope', 'able', request => '{"capabilities": {"roots": {}, "sampling": {"tools": {}}}}');
SELECT mcp.call_tool(:'with_scope', 'able', request => '{"capabilities": {}}');
SELECT mcp.call_tool(:'with_scope', 'able', request => '{}');
SELECT mcp.call_tool(:'with_scope', 'able');
-- What was asked once is answered in another round, whatever that says its client can do.
RESET ROLE;
CREATE FUNCTION exposed.ask_twice() RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    PERFORM mcp.request_input('{"one": {"method": "roots/list"}}');
    PERFORM mcp.request_input('{"two": {"method": "roots/list"}}');
    RETURN 'answered twice';
END
$$;
SELECT mcp.expose_tool('exposed.ask_twice()');
SET ROLE regress_exec;
SELECT mcp.call_tool(:'with_scope', 'ask_twice', request => '{"capabilities": {"roots": {}}, "inputResponses": {"one": {"roots": []}}}')
       ->> 'requestState' AS state \gset
SELECT mcp.call_tool(:'with_scope', 'ask_twice',
       request => jsonb_build_object('requestState', :'state', 'inputResponses', '{"two": {"roots": []}}'::jsonb));
RESET ROLE;
DELETE FROM mcp.used_request_states;
SELECT mcp.request_input('{}');
SELECT mcp.request_input(jsonb_object_agg(n, '{"method": "roots/list"}'::jsonb)) FROM generate_series(1, 33) AS n;
SELECT mcp.request_input(jsonb_object_agg(n, '{"method": "roots/list"}'::jsonb)) FROM generate_series(1, 32) AS n;
SELECT mcp.request_input('{"a": {"method": "tools/list"}}');
SELECT mcp.request_input('{"a": {"method": "roots/list"}}');
-- Arguments and results have their limits, and so has what a tool says when it fails: its end is left out, visibly.
CREATE FUNCTION exposed.fail(bytes integer) RETURNS text LANGUAGE plpgsql STABLE AS $$ BEGIN RAISE '%', repeat('x', bytes); END $$;
SELECT mcp.expose_tool('exposed.twice(text)'), mcp.expose_tool('exposed.fail(integer)');
SET mcp.max_argument_bytes = 100;
SET mcp.max_result_bytes = 160;
SET ROLE regress_exec;
SELECT length(mcp.call_tool(:'with_scope', 'twice', jsonb_build_object('word', repeat('x', 80)))#>>'{content,0,text}') AS characters;
SELECT mcp.call_tool(:'with_scope', 'twice', jsonb_build_object('word', repeat('x', 81)));
SELECT mcp.call_tool(:'with_scope', 'twice', jsonb_build_object('word', repeat('x', 84)));
SELECT mcp.call_tool(:'with_scope', 'twice', jsonb_build_object('word', repeat('x', 85)));
RESET ROLE;
RESET mcp.max_argument_bytes;
RESET mcp.max_result_bytes;
SET ROLE regress_exec;
SELECT octet_length(said) AS bytes, right(said, 2) AS ends
  FROM (SELECT mcp.call_tool(:'with_scope', 'fail', '{"bytes": 4096}')#>>'{content,0,text}') AS call (said);
SELECT octet_length(said) AS bytes, right(said, 2) AS ends
  FROM (SELECT mcp.call_tool(:'with_scope', 'fail', '{"bytes": 4097}')#>>'{content,0,text}') AS call (said);
RESET ROLE;
-- What has no timeout of its own has that of the setting. A tool may catch its end a few times, in each of its calls, and
-- say so itself.
CREATE FUNCTION exposed.insist(times integer, fails boolean) RETURNS text LANGUAGE plpgsql STABLE AS $$
BEGIN
    FOR time IN 1..times LOOP
        BEGIN
            PERFORM pg_sleep(60);
        EXCEPTION WHEN query_canceled THEN NULL;
        END;
    END LOOP;
    IF fails THEN RAISE 'gave up'; END IF;
    RETURN 'caught ' || times;
END
$$;
SELECT mcp.expose_tool('exposed.insist(integer, boolean)');
SET mcp.tool_timeout = '20ms';
SET ROLE regress_exec;
SELECT mcp.call_tool(:'with_scope', 'sleep');
SELECT mcp.call_tool(:'with_scope', 'insist', '{"times": 1, "fails": true}');
SELECT mcp.call_tool(:'with_scope', 'insist', '{"times": 3, "fails": false}');
SELECT mcp.call_tool(:'with_scope', 'insist', '{"times": 2, "fails": false}');
RESET ROLE;
RESET mcp.tool_timeout;
SELECT mcp.withdraw_tool('greet'), mcp.withdraw_tool('settings'), mcp.withdraw_tool('greet');
-- What a role exposed that is gone, nobody but a superuser withdraws.
CREATE ROLE regress_gone;
CREATE FUNCTION exposed.gone() RETURNS text LANGUAGE sql STABLE AS $$ SELECT 'gone'::text $$;
ALTER FUNCTION exposed.gone OWNER TO regress_gone;
SELECT mcp.expose_tool('exposed.gone()');
ALTER FUNCTION exposed.gone OWNER TO regress_owner;
DROP ROLE regress_gone;
SET ROLE regress_owner;
SELECT mcp.withdraw_tool('gone');
RESET ROLE;
SELECT mcp.withdraw_tool('gone');
SELECT bool_and(mcp.withdraw_tool(name)) AS withdrawn FROM unnest('{numbers,roomy,large,reads,any_json,able,ask_twice,twice,fail,insist}'::text[]) AS name;
DROP SCHEMA exposed, closed, "odd, schema" CASCADE;
REVOKE EXECUTE ON FUNCTION mcp.expose_tool, mcp.withdraw_tool FROM regress_owner, regress_nobody;
