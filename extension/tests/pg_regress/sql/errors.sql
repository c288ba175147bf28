-- What a caller did wrong, by SQLSTATE; the texts with their hints once at the end.
\set QUIET on
\set VERBOSITY sqlstate
SELECT mcp.create_session(NULL, 's', NULL);
SELECT mcp.create_session('i', NULL, NULL);
SELECT mcp.create_session('', 's', NULL);
SELECT mcp.create_session('i', '', NULL);
SELECT mcp.create_session('i', 's', NULL, client_id => '');
SELECT mcp.create_session('i', 's', NULL, resource => '');
SELECT mcp.create_session(repeat('i', 3000), 's', NULL);
SELECT mcp.create_session('i', repeat('s', 3000), NULL);
SELECT mcp.create_session('i', 's', NULL, scopes => '{a,NULL}');
SELECT mcp.create_session('i', 's', NULL, scopes => '{"a b"}');
SELECT mcp.create_session('i', 's', NULL, scopes => '{""}');
SELECT mcp.create_session('i', 's', NULL, scopes => array_fill('a'::text, '{1000}'));
SELECT mcp.create_session('i', 's', NULL, claims => '[]');
SELECT mcp.create_session('i', 's', NULL, metadata => '1');
SELECT mcp.create_session('i', 's', NULL, claims => jsonb_build_object('a', repeat('x', 20000)));
SELECT mcp.create_session('i', 's', NULL, metadata => jsonb_build_object('a', repeat('x', 20000)));
SELECT mcp.create_session('i', 's', NULL, state => jsonb_build_object('a', repeat('x', 70000)));
SELECT mcp.create_session('i', 's', jsonb_build_object('a', repeat('x', 300000)));
SELECT mcp.create_session('i', 's', NULL, ttl => '0');
SELECT mcp.create_session('i', 's', NULL, ttl => '-1 day');
SELECT mcp.create_session('i', 's', NULL, ttl => '11 years');
SELECT mcp.create_session('i', 's', NULL, ttl => '178000000 years');
SELECT mcp.create_session('i', 's', NULL, ttl => '1 year -12 months -1 hour');
SELECT mcp.create_session('i', 's', NULL, max_lifetime => '0');
SELECT mcp.create_session('i', 's', NULL, access_ttl => '-1 s');
SELECT mcp.cleanup_expired_sessions(-1);
SELECT mcp.cleanup_expired_sessions(NULL, '-1 s');
SELECT mcp.cleanup_expired_sessions(2147483647, '178000000 years');
SELECT mcp.cleanup_expired_sessions(NULL, NULL);
SELECT mcp.begin_sign_in(NULL, repeat('b', 43), '{}');
SELECT mcp.begin_sign_in('short', repeat('b', 43), '{}');
SELECT mcp.begin_sign_in(repeat('s', 2000), repeat('b', 43), '{}');
SELECT mcp.begin_sign_in(repeat('s', 43), repeat('b', 43), NULL);
SELECT mcp.begin_sign_in(repeat('s', 43), repeat('b', 43), '{}', '0');
SELECT mcp.begin_sign_in(repeat('s', 43), repeat('b', 43), '{}') IS NOT NULL;
SELECT mcp.begin_sign_in(repeat('s', 43), repeat('b', 43), '{}');
SELECT access_token AS token FROM mcp.create_session('i', 'errors', NULL) \gset
SELECT mcp.set_session_state(:'token', NULL);
SELECT mcp.set_session_state(:'token', jsonb_build_object('a', repeat('x', 70000)));
SELECT mcp.set_session_state(NULL, '{}') IS NULL;
SELECT mcp.set_session_oauth_data(:'token', jsonb_build_object('a', repeat('x', 300000)));
SELECT mcp.refresh_session('x', NULL, '{"a b"}');
SELECT mcp.has_scope(NULL) IS NULL;
-- What tampering with the rows looks like to the holder of the token.
UPDATE mcp.wrapped_keys SET wrapped = set_byte(wrapped, 30, get_byte(wrapped, 30) # 1)
 WHERE session_id = (SELECT session_id FROM mcp.sessions WHERE subject = 'errors');
SELECT mcp.set_session_oauth_data(:'token', '{}');
SELECT access_token AS token FROM mcp.create_session('i', 'swap one', '{"of": "one"}') \gset
SELECT access_token AS other FROM mcp.create_session('i', 'swap two', '{"of": "two"}') \gset
UPDATE mcp.sealed_tokens AS t SET ciphertext = o.ciphertext FROM mcp.sealed_tokens AS o
 WHERE t.session_id = (SELECT session_id FROM mcp.sessions WHERE subject = 'swap one')
   AND o.session_id = (SELECT session_id FROM mcp.sessions WHERE subject = 'swap two');
SELECT mcp.session_oauth_data(:'token');
SELECT mcp.session_oauth_data(:'other');
DELETE FROM mcp.wrapped_keys WHERE session_id = (SELECT session_id FROM mcp.sessions WHERE subject = 'swap two');
SELECT mcp.session_oauth_data(:'other');
-- Earlier tokens of the same session, in the place of the later ones.
SELECT session_id AS id, access_token AS token FROM mcp.create_session('i', 'put back', '{"n": 1}') \gset
CREATE TEMP TABLE earlier AS SELECT ciphertext FROM mcp.sealed_tokens WHERE session_id = :'id';
SELECT mcp.set_session_oauth_data(:'token', '{"n": 2}'), mcp.session_oauth_data(:'token');
UPDATE mcp.sealed_tokens SET ciphertext = (SELECT ciphertext FROM earlier) WHERE session_id = :'id';
SELECT mcp.session_oauth_data(:'token');
-- Settings, and between what they may be set.
SELECT name, min_val, max_val, unit FROM pg_settings WHERE name LIKE 'mcp.%' AND min_val IS NOT NULL ORDER BY name COLLATE "C";
SET mcp.session_ttl = 0;
SET mcp.refresh_grace = '2 h';
SET mcp.misspelt = 1;
SET mcp.key_file = '/nowhere';
SET ROLE regress_nobody;
SET mcp.session_ttl = 10;
SET mcp.supabase_claims = on;
SHOW mcp.key_file;
RESET ROLE;
SELECT access_token AS entered FROM mcp.create_session('i', 'errors', NULL) \gset
\set VERBOSITY default
SELECT mcp.create_session('i', 's', NULL, ttl => '11 years');
SELECT mcp.create_session('i', 's', NULL, scopes => '{"a b"}');
SELECT mcp.create_session('i', 's', NULL, state => jsonb_build_object('a', repeat('x', 70000)));
SELECT mcp.require_user();
BEGIN;
SELECT status FROM mcp.enter(:'entered');
SELECT status FROM mcp.enter(:'entered');
ROLLBACK;
BEGIN;
SAVEPOINT s;
SELECT status FROM mcp.enter(:'entered');
ROLLBACK TO s;
SELECT mcp.user_id();
ROLLBACK;
SELECT mcp.register_client('x', '{http://app.example/}');
SELECT mcp.register_client('x', '{https://app.example/}', 'a b');
SELECT mcp.issue_code('i', 'x', NULL, 'c', 'r', 'h', 'plain', 'r', '{}', NULL, NULL, true, NULL, repeat('b', 43));
-- Tables of an older version, before ALTER EXTENSION UPDATE.
BEGIN;
ALTER TABLE mcp.sessions RENAME TO complete;
CREATE TABLE mcp.sessions (session_id uuid PRIMARY KEY);
SELECT status FROM mcp.enter(:'entered');
ROLLBACK;
-- A key file that is named and not there; an empty name is none.
ALTER SYSTEM SET mcp.key_file = '/nowhere/keys';
SELECT pg_reload_conf();
\c -
SET client_min_messages = warning;
SELECT mcp.create_session('i', 's', '{}');
ALTER SYSTEM SET mcp.key_file = '';
SELECT pg_reload_conf();
\c -
SET client_min_messages = warning;
SELECT source, setting FROM pg_settings WHERE name = 'mcp.key_file';
SELECT count(*) AS made FROM mcp.create_session('i', 's', '{}');
ALTER SYSTEM RESET mcp.key_file;
SELECT pg_reload_conf();
\c -
-- A token in the wrong place is not repeated.
\set VERBOSITY terse
SELECT mcp.create_session('i', 's', NULL, scopes => '{"mcps_7n42DGM5 x"}');
SELECT mcp.register_client('x', '{http://app.example/?token=mcpr_7n42DGM5}');
SELECT mcp.register_client('x', '{https://app.example/}', 'mcpc_7n42DGM5 x');
