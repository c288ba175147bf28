-- What a tool's schema says of the checks of a domain and of a default, and what it leaves to words or to the call.
SET client_min_messages = warning;
\set VERBOSITY terse
\set QUIET on
\pset format unaligned
\pset tuples_only on
CREATE SCHEMA schemas;
GRANT USAGE ON SCHEMA schemas TO mcp_user;
CREATE COLLATION schemas.insensitive (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
CREATE DOMAIN schemas.folded AS text COLLATE schemas.insensitive;
CREATE DOMAIN schemas.icu AS text COLLATE "en-x-icu";
CREATE DOMAIN schemas.bytewise AS text COLLATE "C";
CREATE DOMAIN schemas.short AS varchar(3);
CREATE DOMAIN schemas.whole AS integer;
CREATE DOMAIN schemas.wholes AS integer[];
CREATE DOMAIN schemas.worded AS text;
CREATE TYPE schemas.size AS ENUM ('small', 'large', 'huge');
CREATE TYPE schemas.pair AS (a integer, b text);
CREATE TYPE schemas.label;
CREATE FUNCTION schemas.label_in(cstring) RETURNS schemas.label LANGUAGE internal STRICT IMMUTABLE AS 'textin';
CREATE FUNCTION schemas.label_out(schemas.label) RETURNS cstring LANGUAGE internal STRICT IMMUTABLE AS 'textout';
CREATE TYPE schemas.label (INPUT = schemas.label_in, OUTPUT = schemas.label_out, LIKE = text);
CREATE CAST (schemas.label AS text) WITHOUT FUNCTION AS IMPLICIT;
CREATE FUNCTION schemas.is(integer) RETURNS boolean LANGUAGE sql IMMUTABLE AS 'SELECT true';
CREATE FUNCTION schemas.never(integer, integer) RETURNS boolean LANGUAGE sql IMMUTABLE AS 'SELECT false';
CREATE OPERATOR schemas.> (LEFTARG = integer, RIGHTARG = integer, FUNCTION = schemas.never);
CREATE OPERATOR schemas.= (LEFTARG = integer, RIGHTARG = integer, FUNCTION = schemas.never);
CREATE FUNCTION schemas.one() RETURNS integer LANGUAGE sql IMMUTABLE AS 'SELECT 1';
CREATE FUNCTION schemas.cardinality(integer[]) RETURNS integer LANGUAGE sql IMMUTABLE AS 'SELECT 1';
CREATE TABLE schemas.checks (at integer GENERATED ALWAYS AS IDENTITY, base text, checked text);
INSERT INTO schemas.checks (base, checked) VALUES
    -- Of which side the value stands, and what it is made equal to.
    ('integer', '3 <= VALUE'), ('integer', '3 >= VALUE'), ('integer', '3 < VALUE'), ('integer', '3 > VALUE'),
    ('integer', '3 = VALUE'), ('integer', '3 <> VALUE'), ('text', ''''' <> VALUE'), ('text', '''a'' ~ VALUE'),
    ('integer', 'VALUE > VALUE'), ('integer', 'VALUE > schemas.one()'), ('integer', 'VALUE < NULL::integer'),
    ('integer', '-VALUE < 5'), ('integer', 'VALUE % 2 = 1'), ('integer', 'schemas.is(VALUE)'), ('integer', 'VALUE OPERATOR(schemas.>) 5'),
    ('schemas.whole', 'VALUE > 5'),
    -- NULL.
    ('integer', 'VALUE IS NOT NULL'), ('integer', 'VALUE IS NULL'), ('integer', 'VALUE IS NOT NULL AND VALUE > 0'),
    ('integer', 'VALUE IS NULL OR VALUE > 0'), ('integer', 'VALUE IS NOT NULL OR VALUE > 0'),
    ('integer', 'VALUE IS NULL OR VALUE > 0 OR VALUE < -5'), ('integer', 'VALUE IS NULL OR VALUE IS NULL'),
    ('integer', '(VALUE % 2) IS NULL OR VALUE > 0'), ('integer', '(VALUE % 2) IS NOT NULL'), ('schemas.pair', 'VALUE IS NOT NULL'),
    -- What is not understood beside what is.
    ('integer', 'VALUE > 0 AND VALUE <> 5'), ('integer', 'VALUE <> 5 AND VALUE > 0'), ('integer', 'NOT VALUE > 5'),
    ('boolean', 'VALUE'), ('boolean', 'VALUE = true'), ('date', 'VALUE = ''2026-01-01'''),
    -- Numbers: equality with either bound, and what doubles cannot tell.
    ('integer', 'VALUE >= 5 AND VALUE >= 3'), ('integer', 'VALUE <= 5 AND VALUE <= 7'), ('float8', 'VALUE >= 5 AND VALUE > 5'),
    ('float8', 'VALUE > 5 AND VALUE >= 5'), ('float8', 'VALUE <= 5 AND VALUE < 5'), ('float8', 'VALUE < 5 AND VALUE <= 5'),
    ('float8', 'VALUE = 0.1'), ('real', 'VALUE < 0.5'), ('real', 'VALUE < 0.1'), ('real', 'VALUE::float8 < 0.1'),
    ('float8', 'VALUE < 0.1'), ('numeric', 'VALUE < 0.123456789012345'), ('numeric', 'VALUE < 0.1234567890123456'),
    ('numeric', 'VALUE < 1234567890123456789'), ('numeric', 'VALUE < 12345678901234567890'), ('bigint', 'VALUE < 0.5'),
    ('smallint', 'VALUE > -100000'), ('smallint', 'VALUE < 100000'), ('smallint', 'VALUE < 5::bigint'), ('smallint', 'VALUE < 5.5'), ('smallint', 'VALUE < 5.5::float8'), ('smallint', 'VALUE < 0.1::real'),
    ('integer', 'VALUE < 5::bigint'), ('integer', 'VALUE < 5.5::float8'), ('integer', 'VALUE::real < 5'),
    ('bigint', 'VALUE < 5.5'), ('bigint', 'VALUE < 5.5::float8'), ('bigint', 'VALUE::float8 < 5'),
    ('smallint', 'VALUE::integer < 5'), ('smallint', 'VALUE::bigint < 5'), ('smallint', 'VALUE::real < 5'), ('integer', 'VALUE::bigint < 5'),
    ('integer', 'VALUE::numeric < 5'), ('integer', 'VALUE::smallint < 5'), ('bigint', 'VALUE::integer < 5'), ('integer', 'int8(VALUE) < 5'),
    ('integer', 'VALUE < ''5''::smallint'), ('integer', 'VALUE < ''5''::bigint'), ('real', 'VALUE < ''0.5''::real'), ('float8', 'VALUE < ''0.5''::float8'), ('numeric', 'VALUE < ''0.5''::numeric'),
    ('float8', 'VALUE < 5::bigint'), ('float8', 'VALUE < 0.5::real'), ('float8', 'VALUE::real < 0.5'), ('float8', 'VALUE::numeric < 0.5'),
    ('integer', 'VALUE > 5::schemas.whole'), ('integer', 'VALUE::schemas.whole > 5'),
    ('integer', 'VALUE::oid > 5::oid'), ('integer', 'VALUE > (-1)::oid::integer'), ('schemas.whole', 'VALUE::oid > ''5''::oid'),
    ('numeric', 'VALUE::float8 < 5'), ('numeric', 'VALUE::integer < 5'), ('integer', 'VALUE::oid < 5::oid'),
    ('numeric(2)', 'true'), ('numeric(3, 3)', 'true'), ('numeric(15, 2)', 'true'), ('numeric(16, 2)', 'true'),
    -- Lists.
    ('integer', 'VALUE IN (1, 2)'), ('bigint', 'VALUE IN (1, 2)'), ('smallint', 'VALUE IN (1, 2)'), ('integer', 'VALUE IN (1, NULL)'),
    ('integer', 'VALUE IN (1, schemas.one())'), ('integer', 'VALUE IN (1, 2) AND VALUE IN (2, 3)'), ('integer', 'VALUE IN (1.5, 2)'),
    ('integer', 'VALUE::schemas.whole IN (1, 2)'), ('integer', 'VALUE = ANY (ARRAY[1, 2]::schemas.wholes)'), ('bigint', 'VALUE = ANY (ARRAY[1, 2]::bigint[])'),
    ('integer', 'VALUE <> ALL (ARRAY[1, 2])'), ('integer', 'VALUE = ALL (ARRAY[1, 2])'), ('integer', 'VALUE > ANY (ARRAY[1, 2])'),
    ('integer', 'VALUE = ANY (''{1,2}''::integer[])'), ('integer', 'VALUE::oid IN (1::oid, 2::oid)'), ('integer', 'VALUE % 2 IN (0, 1)'),
    ('integer', '1 = ANY (ARRAY[VALUE, 2])'), ('numeric', 'VALUE IN (1, 2)'), ('date', 'VALUE IN (''2026-01-01'', ''2026-01-02'')'),
    ('text', 'VALUE IN (''a'', ''b'')'), ('text', 'VALUE IN (''a'', ''b'') AND VALUE IN (''b'', ''c'')'), ('varchar(3)', 'VALUE IN (''a'', ''b'')'),
    ('char(3)', 'VALUE IN (''a'', ''b'')'), ('name', 'VALUE IN (''a'', ''b'')'), ('text', 'VALUE IN (''a'', ''b'') AND VALUE ~ ''^a'''),
    ('text', 'VALUE IN (''a'', ''b'') AND VALUE <> '''''), ('text', 'VALUE IN (''a'', ''b'') AND length(VALUE) > 0'),
    ('text', 'lower(VALUE) IN (''a'', ''b'')'), ('schemas.folded', 'VALUE IN (''a'', ''b'')'), ('schemas.bytewise', 'VALUE IN (''a'', ''b'')'),
    ('integer', 'VALUE OPERATOR(schemas.=) ANY (ARRAY[1, 2])'),
    ('schemas.size', 'VALUE IN (''small'', ''huge'')'), ('schemas.size', 'VALUE = ''large'''), ('schemas.size', 'VALUE <> ''large'''),
    ('schemas.size', 'VALUE::text IN (''small'', ''huge'')'), ('schemas.size', 'VALUE::text = ''small'''), ('schemas.size', 'VALUE > ''small'''),
    -- Texts: only where equality is of each character.
    ('text', 'VALUE = ''a'''), ('text', 'VALUE <> ''a'''), ('char(3)', 'VALUE = ''a'''), ('char(3)', 'VALUE <> '''''), ('name', 'VALUE = ''a'''), ('text', 'VALUE::bpchar = ''a'''), ('text', 'VALUE::varchar = ''a'''), ('varchar', 'VALUE::text = ''a'''),
    ('schemas.folded', 'VALUE = ''a'''), ('schemas.folded', 'length(VALUE) < 5'), ('text', 'VALUE = ''a'' COLLATE schemas.insensitive'),
    ('text', 'VALUE COLLATE schemas.insensitive = ''a'''), ('text', 'VALUE = ''a''::schemas.label'), ('text', 'VALUE IN (''a''::schemas.label)'),
    ('text', 'VALUE LIKE ''a%'''), ('char(3)', 'VALUE LIKE ''a%'''), ('name', 'VALUE LIKE ''a%'''), ('text', 'VALUE NOT LIKE ''a%'''),
    ('text', 'VALUE ~ ''^\d$'''), ('text', 'VALUE ~ ''^\d$'' COLLATE "C"'), ('schemas.bytewise', 'VALUE ~ ''^\d$'''),
    ('schemas.icu', 'VALUE ~ ''^\d$'''), ('schemas.icu', 'VALUE ~ ''^a$'''), ('char(3)', 'VALUE ~ ''^a$'''), ('text', 'VALUE ~ ''^(a'''),
    ('text', 'VALUE ~ ''a'' AND VALUE ~ ''b'' AND VALUE ~ ''c'''), ('text', 'VALUE OPERATOR(pg_catalog.~) ''a'''),
    -- Lengths: of texts and arrays, and of nothing else.
    ('text', 'length(VALUE) <= 5'), ('text', 'length(VALUE) < 5'), ('text', 'length(VALUE) >= 5'), ('text', 'length(VALUE) > 5'), ('text', 'length(VALUE) = 5'),
    ('text', 'length(VALUE) <> 5'), ('text', 'length(VALUE) < 0'), ('text', 'length(VALUE) > -1'), ('text', '5 >= char_length(VALUE)'),
    ('text', 'character_length(VALUE) < 5 AND length(VALUE) < 7'), ('text', 'length(VALUE) >= 2 AND length(VALUE) >= 1'), ('text', 'length(lower(VALUE)) < 5'), ('text', 'length(VALUE::schemas.worded) < 5'),
    ('text', 'octet_length(VALUE) < 5'), ('varchar(3)', 'length(VALUE) >= 2'), ('char(3)', 'length(VALUE) <= 2'), ('name', 'length(VALUE) <= 2'),
    ('bit(3)', 'length(VALUE) <= 2'), ('bytea', 'length(VALUE) <= 2'), ('schemas.label', 'length(VALUE) <= 2'), ('bytea', 'length(VALUE, ''UTF8'') <= 2'),
    ('integer[]', 'cardinality(VALUE) <= 3 AND cardinality(VALUE) >= 1'), ('integer[]', 'cardinality(VALUE) = 3'), ('integer[]', 'schemas.cardinality(VALUE) <= 3'),
    ('integer[]', 'array_length(VALUE, 1) <= 3'), ('integer[]', 'array_length(VALUE, 1) < 3'), ('integer[]', 'array_length(VALUE, 1) = 3'),
    ('integer[]', 'array_length(VALUE, 1) > 3'), ('integer[]', 'array_length(VALUE, 2) <= 3'), ('integer[]', 'array_length(VALUE, schemas.one()) <= 3'),
    ('integer[]', 'array_ndims(VALUE) <= 1'), ('integer[][]', 'cardinality(VALUE) <= 3'), ('integer[][][][][][][]', 'true'), ('integer[][]', 'array_length(VALUE, 1) <= 3'), ('integer[]', 'VALUE = ''{1}'''),
    -- The type of JSON, which is said once.
    ('jsonb', 'jsonb_typeof(VALUE) = ''array'''), ('json', 'json_typeof(VALUE) = ''string'''), ('jsonb', 'jsonb_typeof(VALUE) = ''number'''),
    ('jsonb', 'jsonb_typeof(VALUE) = ''boolean'''), ('jsonb', 'jsonb_typeof(VALUE) = ''object'''), ('jsonb', 'jsonb_typeof(VALUE) = ''null'''),
    ('jsonb', 'jsonb_typeof(VALUE) <> ''array'''), ('jsonb', 'jsonb_typeof(VALUE) = ''array'' AND jsonb_typeof(VALUE) = ''object'''),
    ('jsonb', 'jsonb_typeof(VALUE) IN (''array'', ''object'')'), ('jsonb', 'VALUE = ''{}''');
DO $$
DECLARE c record;
BEGIN
    FOR c IN SELECT * FROM schemas.checks LOOP
        EXECUTE format('CREATE DOMAIN schemas.d%s AS %s CONSTRAINT c CHECK (%s)', c.at, c.base, c.checked);
        EXECUTE format('CREATE FUNCTION schemas.check_%1$s(v schemas.d%1$s, w schemas.d%1$s DEFAULT NULL) RETURNS text LANGUAGE sql STABLE AS ''SELECT 1''', c.at);
        EXECUTE format('SELECT mcp.expose_tool(%L::regproc)', 'schemas.check_' || c.at);
    END LOOP;
END
$$;
CREATE TABLE schemas.defaults (at integer GENERATED ALWAYS AS IDENTITY, type text, preset text);
INSERT INTO schemas.defaults (type, preset) VALUES
    ('boolean', 'true'), ('boolean', 'false'), ('boolean', 'NULL'), ('smallint', '5'), ('smallint', '5::smallint'), ('smallint', '40000'), ('integer', '5::bigint'),
    ('integer', '5000000000'), ('bigint', '5'), ('bigint', '5000000000'), ('integer', '5::smallint'), ('numeric', '5'), ('numeric', '1.50'), ('numeric', '''NaN'''),
    ('float8', '0.5'), ('float8', '''Infinity'''), ('real', '0.5'), ('integer', 'int4(5.5)'), ('integer', 'int4(5::bigint)'), ('schemas.short', '''abc'''), ('schemas.short', '''abcd'''), ('schemas.short', '''abc''::text'), ('schemas.short', '''abcd''::text'),
    ('schemas.whole', '5'), ('schemas.whole', '5::bigint'), ('integer', '5.5'), ('text', '''a'''), ('varchar', '''a'''), ('varchar(3)', '''abc'''),
    ('varchar(3)', '''abcd'''), ('schemas.d1', '5'), ('text', 'lower(''A'')'), ('text', 'now()::text'), ('integer', 'schemas.one()'), ('integer', '1 + 1'), ('date', '''2026-01-31'''),
    ('date', '''infinity'''), ('interval', '''1 day'''), ('bytea', '''\x00ff'''), ('uuid', '''0f8fad5b-d9cb-469f-a165-70867728950e'''), ('schemas.size', '''large'''),
    ('schemas.size[]', '''{large,small}'''), ('schemas.size[]', 'ARRAY[''large'', ''small'']::schemas.size[]'), ('schemas.label', '''x'''), ('schemas.label[]', '''{x}'''),
    ('schemas.pair', '(1, ''x'')'), ('schemas.pair', 'ROW(1, ''x'')::schemas.pair'), ('integer[]', '''{1,2}'''), ('integer[]', 'ARRAY[1, 2]'), ('integer[]', 'ARRAY[]::integer[]'),
    ('integer[]', 'ARRAY[ARRAY[1], ARRAY[2]]'), ('integer[]', 'ARRAY[1, schemas.one()]'), ('integer[]', 'ARRAY[1, NULL]'), ('numeric[]', '''{1,NaN}'''), ('numeric[]', '''{1,2}'''),
    ('date[]', '''{2026-01-31,infinity}'''), ('text[]', 'ARRAY[''a''::text, ''b'']'), ('bigint[]', 'ARRAY[1, 2]'), ('jsonb', '''{"a": 1}'''), ('jsonb', '''null'''), ('json', '''[1]'''), ('tsvector', '''a b'''), ('oid', '''5'''), ('oid', '5'),
    ('oid', '5::oid'), ('integer', '5::oid::integer'), ('text', '''a''::varchar'), ('varchar', '''a''::text'), ('bpchar', '''a''::text'), ('varchar[]', '''{a}''::text[]');
DO $$
DECLARE c record;
BEGIN
    FOR c IN SELECT * FROM schemas.defaults LOOP
        EXECUTE format('CREATE FUNCTION schemas.default_%1$s(v %2$s DEFAULT %3$s) RETURNS text LANGUAGE sql STABLE AS ''SELECT 1''', c.at, c.type, c.preset);
        EXECUTE format('SELECT mcp.expose_tool(%L::regproc)', 'schemas.default_' || c.at);
    END LOOP;
END
$$;
SELECT access_token AS token FROM mcp.create_session('schemas', 'ann', NULL) \gset
CREATE TEMP TABLE tools AS SELECT tool->>'name' AS name, tool->'inputSchema' AS input FROM mcp.list_tools(:'token') AS tool;
SELECT base || ': ' || checked, (input->'properties'->'v')::text || CASE WHEN input->'properties'->'w'->'type' ? 'null' OR NOT input->'properties'->'w' ? 'type' THEN '' ELSE ' NOT NULL' END
  FROM schemas.checks JOIN tools ON name = 'check_' || at ORDER BY at;
SELECT type || ' DEFAULT ' || preset, input->'properties'->'v' FROM schemas.defaults JOIN tools ON name = 'default_' || at ORDER BY at;
SELECT bool_and(mcp.withdraw_tool(t.name)) AS withdrawn FROM tools AS t WHERE t.name ~ '^(check|default)_';
-- What is returned: whole rows, one column, and strings of whatever form; deep and wide types up to a bound.
CREATE FUNCTION schemas.pairs() RETURNS SETOF schemas.pair LANGUAGE sql STABLE AS $$ VALUES (1, 'x'), (2, NULL) $$;
CREATE FUNCTION schemas.listed() RETURNS TABLE (a integer, b schemas.label) LANGUAGE sql STABLE AS $$ SELECT 1, 'x'::schemas.label $$;
CREATE FUNCTION schemas.unnamed(OUT integer) RETURNS SETOF integer LANGUAGE sql STABLE AS 'SELECT 1';
CREATE FUNCTION schemas.named(OUT n integer) RETURNS SETOF integer LANGUAGE sql STABLE AS 'SELECT 1';
CREATE FUNCTION schemas.many() RETURNS SETOF mcp.tool_result LANGUAGE sql STABLE AS $$ SELECT '{"content": []}'::mcp.tool_result $$;
CREATE FUNCTION schemas.day() RETURNS date LANGUAGE sql STABLE AS $$ SELECT date '2026-01-31' $$;
CREATE FUNCTION schemas.bytes() RETURNS bytea LANGUAGE sql STABLE AS $$ SELECT '\x00ff'::bytea $$;
CREATE FUNCTION schemas.ranges(a int8range, b numrange, c daterange, d tsrange, e tstzrange, f int4multirange, g datemultirange, h tsmultirange) RETURNS text LANGUAGE sql STABLE AS 'SELECT 1';
DO $$
BEGIN
    CREATE TYPE schemas.nested_0 AS (x integer);
    FOR level IN 1..20 LOOP EXECUTE format('CREATE TYPE schemas.nested_%s AS (x schemas.nested_%s)', level, level - 1); END LOOP;
    CREATE TYPE schemas.wide_0 AS (a integer, b integer, c integer, d integer, e integer, f integer, g integer, h integer, i integer, j integer);
    FOR level IN 1..3 LOOP
        EXECUTE format('CREATE TYPE schemas.wide_%s AS (%s)', level,
                       (SELECT string_agg(format('%s schemas.wide_%s', c, level - 1), ', ') FROM unnest('{a,b,c,d,e,f,g,h,i,j}'::text[]) AS c));
    END LOOP;
END
$$;
CREATE FUNCTION schemas.deep(v schemas.nested_20) RETURNS text LANGUAGE sql STABLE AS 'SELECT 1';
CREATE FUNCTION schemas.wide(v schemas.wide_3) RETURNS text LANGUAGE sql STABLE AS 'SELECT 1';
SELECT count(mcp.expose_tool(f)) FROM unnest('{schemas.pairs,schemas.listed,schemas.unnamed,schemas.named,schemas.day,schemas.ranges,schemas.deep,schemas.wide}'::regproc[]) AS f;
SELECT mcp.expose_tool('schemas.many'::regproc);
-- Where nothing is structured, no schema says how.
CREATE FUNCTION schemas.nothing() RETURNS void LANGUAGE sql STABLE AS 'SELECT';
SELECT mcp.expose_tool('schemas.nothing'::regproc, output_schema => '{"type": "object"}');
SELECT mcp.expose_tool('schemas.bytes'::regproc, output_schema => '{"type": "object"}');
SELECT mcp.expose_tool('schemas.day'::regproc, output_schema => '{"type": "object"}');
SELECT mcp.expose_tool('schemas.nothing'::regproc, name => 'A.b-c_9');
SELECT mcp.withdraw_tool('A.b-c_9');
SELECT mcp.expose_resource('schemas.day'::regproc, 'schemas://day'), mcp.expose_resource('schemas.bytes'::regproc, 'schemas://bytes');
-- What its owner says of a tool is told where it belongs.
CREATE FUNCTION schemas.told(v integer) RETURNS schemas.pair LANGUAGE sql STABLE AS $$ SELECT 1, 'x' $$;
SELECT mcp.expose_tool('schemas.told'::regproc, title => 'The title', description => 'The description', annotations => '{"idempotentHint": true}',
       input_schema => '{"type": "object", "properties": {"v": {"type": "integer", "title": "taken"}}}', output_schema => '{"type": "object", "title": "returned"}');
SELECT mcp.expose_prompt('schemas.named'::regproc, name => 'told', title => 'The title', description => 'The description');
SELECT mcp.expose_resource('schemas.day'::regproc, 'told://day', name => 'told', title => 'The title', description => 'The description', mime_type => 'text/x-day');
SELECT tool FROM mcp.list_tools(:'token') AS tool WHERE tool->>'name' = 'told';
SELECT prompt FROM mcp.list_prompts(:'token') AS prompt WHERE prompt->>'name' = 'told';
SELECT resource FROM mcp.list_resources(:'token') AS resource WHERE resource->>'name' = 'told';
SELECT mcp.withdraw_tool('told'), mcp.withdraw_prompt('told'), mcp.withdraw_resource('told://day');
CREATE TEMP TABLE more AS SELECT tool FROM mcp.list_tools(:'token') AS tool;
SELECT tool->>'name', coalesce(tool->'outputSchema', tool->'inputSchema'->'properties') FROM more
 WHERE tool->>'name' IN ('pairs', 'listed', 'unnamed', 'named', 'ranges', 'day') ORDER BY 1;
SELECT tool->>'name', (SELECT count(*) FROM regexp_matches(tool::text, '"properties"', 'g')) AS objects,
       (SELECT count(*) FROM regexp_matches(tool::text, '"integer"', 'g')) AS integers, (SELECT count(*) FROM regexp_matches(tool::text, '\{\}', 'g')) AS anything
  FROM more WHERE tool->>'name' IN ('deep', 'wide') ORDER BY 1;
GRANT SELECT ON more TO regress_exec;
SET ROLE regress_exec;
SELECT mcp.call_tool(:'token', 'pairs', '{}') -> 'structuredContent';
SELECT mcp.call_tool(:'token', 'named', '{}') -> 'structuredContent';
SELECT mcp.call_tool(:'token', 'unnamed', '{}') -> 'structuredContent';
SELECT mcp.call_tool(:'token', 'day', '{}') -> 'content';
SELECT mcp.read_resource(:'token', 'schemas://day') -> 'contents';
SELECT mcp.read_resource(:'token', 'schemas://bytes') -> 'contents';
RESET ROLE;
SELECT bool_and(mcp.withdraw_tool(n)) AS withdrawn FROM unnest('{pairs,listed,unnamed,named,day,ranges,deep,wide}'::text[]) AS n;
SELECT bool_and(mcp.withdraw_resource(n)) AS withdrawn FROM unnest('{schemas://day,schemas://bytes}'::text[]) AS n;
-- What a call may pass where the type of JSON is said.
DO $$
DECLARE c text;
BEGIN
    FOREACH c IN ARRAY '{object,array,string,number,boolean}'::text[] LOOP
        EXECUTE format('CREATE DOMAIN schemas.json_%1$s AS jsonb CHECK (jsonb_typeof(VALUE) = %1$L)', c);
        EXECUTE format('CREATE FUNCTION schemas.json_%1$s(v schemas.json_%1$s) RETURNS text LANGUAGE sql STABLE AS ''SELECT v::text''', c);
        EXECUTE format('SELECT mcp.expose_tool(%L::regproc)', 'schemas.json_' || c);
    END LOOP;
END
$$;
-- And how deep an array is.
CREATE DOMAIN schemas.cube AS integer[][][];
CREATE FUNCTION schemas.cube(v schemas.cube) RETURNS text LANGUAGE sql STABLE AS 'SELECT v::text';
SELECT mcp.expose_tool('schemas.cube'::regproc);
PREPARE call(text, jsonb) AS SELECT mcp.call_tool(:'token', $1, $2) -> 'content' -> 0 ->> 'text';
SET ROLE regress_exec;
SELECT format('EXECUTE call(%L, %L)', 'json_' || t, jsonb_build_object('v', v))
  FROM unnest('{object,array,string,number,boolean}'::text[]) AS t, jsonb_array_elements('[{}, [], "s", 1, true, null]') AS v \gexec
EXECUTE call('cube', '{"v": [[[1, 2], [3, 4]]]}');
EXECUTE call('cube', '{"v": [[1, 2]]}');
EXECUTE call('cube', '{"v": [[[[1]]]]}');
EXECUTE call('cube', '{"v": [[[1], [2, 3]]]}');
RESET ROLE;
DEALLOCATE call;
SELECT mcp.withdraw_tool('cube');
-- The schema as a whole, and what is said of a value of another kind, or that a check does not take wherever it is.
CREATE DOMAIN schemas.even AS integer CHECK (VALUE % 2 = 0);
CREATE TYPE schemas.both AS (a schemas.even, b schemas.even);
CREATE DOMAIN schemas.some AS integer NOT NULL;
CREATE TYPE schemas.one_of_some AS (a schemas.some, b integer);
CREATE FUNCTION schemas.kinds(a boolean, b integer, c float8, d integer[], e schemas.pair, f json, g date, h text, i integer DEFAULT 7) RETURNS text LANGUAGE sql STABLE AS 'SELECT h';
CREATE FUNCTION schemas.nulls(a schemas.some[], b schemas.one_of_some) RETURNS schemas.one_of_some LANGUAGE sql STABLE AS 'SELECT b';
CREATE FUNCTION schemas.evens(one schemas.even DEFAULT 0, many schemas.even[] DEFAULT '{}', two schemas.both DEFAULT NULL) RETURNS text LANGUAGE sql STABLE AS 'SELECT 1';
CREATE FUNCTION schemas.less(v integer, w integer DEFAULT 2) RETURNS text LANGUAGE sql STABLE AS 'SELECT w::text';
SELECT count(mcp.expose_tool(f)) FROM unnest('{schemas.kinds,schemas.evens,schemas.nulls}'::regproc[]) AS f;
SELECT mcp.expose_tool('schemas.less'::regproc, input_schema => '{"type": "object", "properties": {"v": {"type": "integer"}}}');
SELECT mcp.expose_tool('schemas.less'::regproc, name => 'least', input_schema => '{"type": "object", "properties": {"w": {"type": "integer"}}}');
SELECT tool->'inputSchema' FROM mcp.list_tools(:'token') AS tool WHERE tool->>'name' IN ('kinds', 'less') ORDER BY tool->>'name';
SELECT tool->'inputSchema'->'properties', tool->'outputSchema' FROM mcp.list_tools(:'token') AS tool WHERE tool->>'name' = 'nulls';
PREPARE call(text, jsonb) AS SELECT mcp.call_tool(:'token', $1, $2) -> 'content' -> 0 ->> 'text';
SET ROLE regress_exec;
EXECUTE call('kinds', '{"a": true, "b": 1, "c": 0.5, "d": [1], "e": {"a": 1}, "f": null, "g": "2026-01-01", "h": "x"}');
SELECT format('EXECUTE call(%L, %L)', 'kinds', '{"a": true, "b": 1, "c": 0.5, "d": [1], "e": {"a": 1}, "f": null, "g": "2026-01-01", "h": "x"}'::jsonb || wrong)
  FROM unnest('{"{\"a\": 1}","{\"b\": \"x\"}","{\"c\": \"x\"}","{\"d\": 1}","{\"e\": 1}","{\"g\": 1}","{\"h\": 1}","{\"i\": \"x\"}"}'::jsonb[]) AS wrong \gexec
EXECUTE call('evens', '{"one": 3}');
EXECUTE call('evens', '{"many": [2, 3]}');
EXECUTE call('evens', '{"two": {"a": 2, "b": 3}}');
EXECUTE call('less', '{"v": 1}');
EXECUTE call('nulls', '{"a": [null], "b": {"a": 1}}');
EXECUTE call('nulls', '{"a": [], "b": {"a": null}}');
EXECUTE call('nulls', '{"a": [], "b": {}}');
EXECUTE call('nulls', '{"a": [], "b": {"a": 1}}');
RESET ROLE;
DEALLOCATE call;
SELECT bool_and(mcp.withdraw_tool(n)) AS withdrawn FROM unnest('{kinds,evens,less,nulls}'::text[]) AS n;
SELECT bool_and(mcp.withdraw_tool('json_' || t)) AS withdrawn FROM unnest('{object,array,string,number,boolean}'::text[]) AS t;
DROP SCHEMA schemas CASCADE;
DELETE FROM mcp.sessions WHERE issuer = 'schemas';
-- Where \d is more than 0 to 9 to PostgreSQL, no schema says it.
CREATE DATABASE regress_icu TEMPLATE template0 LOCALE_PROVIDER icu ICU_LOCALE 'en' ENCODING 'UTF8' LOCALE 'C.UTF-8';
\set here :DBNAME
\connect regress_icu
SET client_min_messages = warning;
CREATE EXTENSION mcp_sessions;
CREATE DOMAIN digit AS text CHECK (VALUE ~ '^\d$');
CREATE FUNCTION digit(v digit) RETURNS text LANGUAGE sql STABLE AS 'SELECT v::text';
SELECT mcp.expose_tool('digit(digit)');
SELECT access_token AS token FROM mcp.create_session('schemas', 'ann', NULL) \gset
SELECT tool->'inputSchema'->'properties' FROM mcp.list_tools(:'token') AS tool;
SET ROLE mcp_exec;
SELECT mcp.call_tool(:'token', 'digit', '{"v": "\u0661"}') -> 'content' -> 0 ->> 'text' = U&'\0661';
\connect :here
DROP DATABASE regress_icu;
