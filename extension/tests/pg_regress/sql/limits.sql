-- How much is kept and taken: a little more is refused, and what is refused leaves nothing.
SET client_min_messages = warning;
\set VERBOSITY terse
-- Stored compressed, it is far below the limit.
CREATE TEMP TABLE compressed AS SELECT jsonb_build_object('a', repeat('x', 17000)) AS large;
GRANT SELECT ON compressed TO regress_auth;
SET ROLE regress_auth;
SELECT count(*) FROM (SELECT FROM mcp.create_session('limits', 'ann', NULL, scopes => ARRAY(SELECT 's' || n FROM generate_series(1, 100) AS n))) AS made;
SELECT mcp.create_session('limits', 'ann', NULL, scopes => ARRAY(SELECT 's' || n FROM generate_series(1, 101) AS n));
SELECT mcp.create_session('limits', 'ann', NULL, scopes => ARRAY[repeat('s', 257)]);
SELECT mcp.create_session('limits', 'ann', NULL, claims => jsonb_build_object('a', repeat('x', 17000)));
SELECT mcp.create_session('limits', 'ann', NULL, metadata => jsonb_build_object('a', repeat('x', 17000)));
SELECT mcp.create_session('limits', 'ann', NULL, claims => large) FROM compressed;
SELECT mcp.create_session('limits', 'ann', jsonb_build_object('a', repeat('x', 300000)));
SELECT mcp.create_session('limits', 'ann', NULL, client_id => repeat('c', 2049));
SELECT mcp.begin_sign_in(repeat('m', 43), repeat('b', 43), jsonb_build_object('a', repeat('x', 70000)));
SELECT mcp.begin_sign_in(repeat('m', 1025), repeat('b', 43), '{}');
RESET ROLE;
SELECT count(*) FROM mcp.sessions WHERE issuer = 'limits';
-- What is just as much is taken.
SET mcp.max_state_bytes = 1000;
SET ROLE regress_auth;
SELECT count(*) AS made FROM mcp.create_session(rpad('limits', 2048, '.'), repeat('s', 2048), NULL, client_id => repeat('c', 2048),
    scopes => ARRAY[repeat('s', 256)], state => jsonb_build_object('a', repeat('x', 987)));
SELECT mcp.create_session('limits', 'ann', NULL, state => jsonb_build_object('a', repeat('x', 988)));
RESET ROLE;
RESET mcp.max_state_bytes;
DELETE FROM mcp.sessions WHERE issuer = rpad('limits', 2048, '.');
-- Zero: as many sessions of a user as there are.
SET mcp.max_sessions_per_user = 0;
SELECT count(*) AS made FROM generate_series(1, 20) AS n, mcp.create_session('limits', 'eve', NULL, metadata => jsonb_build_object('n', n));
SELECT count(*) AS live FROM mcp.sessions WHERE subject = 'eve' AND revoked_at IS NULL;
RESET mcp.max_sessions_per_user;
-- All that have ended go, however many the worker takes at a time.
SELECT setting::int + 1 AS more FROM pg_settings WHERE name = 'mcp.cleanup_batch_size' \gset
SELECT count(*) FROM generate_series(1, :more) AS n, mcp.create_session('limits', n::text, NULL) \gset
UPDATE mcp.sessions SET expires_at = now() WHERE issuer = 'limits' AND subject ~ '^\d+$';
SELECT mcp.cleanup_expired_sessions() - :more >= 0 AS all_counted;
SELECT count(*) AS ended FROM mcp.sessions WHERE expires_at <= now();
-- What the frontend made of a sign-in is not kept as it is: neither the state nor the browser's secret.
SET ROLE regress_auth;
SELECT mcp.begin_sign_in(repeat('m', 43), repeat('b', 43), '{"nonce": "nnnnnnnnnn"}') IS NOT NULL AS begun;
RESET ROLE;
SELECT count(*) FROM mcp.sign_ins
 WHERE position('mmmmm'::bytea IN state_hash) + position('bbbbb'::bytea IN browser_hash) + position('nnnnn'::bytea IN payload) > 0;
-- What is stored of a secret is of use for one purpose.
SELECT mcp.begin_sign_in(repeat('p', 43), repeat('p', 43), '{}') IS NOT NULL AS begun;
SELECT count(*) FROM mcp.sign_ins WHERE state_hash = browser_hash;
-- The arguments of a call, whatever the function would make of them.
CREATE FUNCTION public.regress_length(text text) RETURNS integer LANGUAGE sql STABLE AS 'SELECT length(text)';
SELECT mcp.expose_tool('public.regress_length(text)', name => 'length');
SELECT access_token AS token FROM mcp.create_session('limits', 'ann', NULL) \gset
SET mcp.max_argument_bytes = 1000;
SET ROLE regress_exec;
SELECT mcp.call_tool(:'token', 'length', jsonb_build_object('text', repeat('x', 900)))->'content';
SELECT mcp.call_tool(:'token', 'length', jsonb_build_object('text', repeat('x', 1000)))->>'isError' AS refused;
RESET ROLE;
RESET mcp.max_argument_bytes;
SELECT mcp.withdraw_tool('length');
-- Zero: a tool may run as long as it does.
CREATE FUNCTION public.regress_slow() RETURNS text LANGUAGE sql AS 'SELECT ''done'' FROM pg_sleep(0.05)';
SELECT mcp.expose_tool('public.regress_slow()', name => 'slow');
SET mcp.tool_timeout = 0;
SET ROLE regress_exec;
SELECT mcp.call_tool(:'token', 'slow')->'content';
RESET ROLE;
RESET mcp.tool_timeout;
SELECT mcp.withdraw_tool('slow');
DROP FUNCTION public.regress_slow();
DROP FUNCTION public.regress_length(text);
-- A session has one live refresh token at most, whoever writes it.
SELECT session_id AS id FROM mcp.create_session('limits', 'ann', NULL, with_refresh => true) \gset
INSERT INTO mcp.refresh_tokens (selector, session_id, verifier) VALUES (gen_random_uuid(), :'id', '\x00');
DELETE FROM mcp.sign_ins;
DELETE FROM mcp.sessions WHERE issuer = 'limits';
