-- What is done for one session, user, client or browser leaves every row of the others as it is.
\set QUIET on
\pset format unaligned
\pset tuples_only on
SELECT 'dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk' AS verifier, 'E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM' AS challenge,
       'https://host/mcp/v1' AS resource, 'https://app.example.com/cb' AS redirect, repeat('b', 43) AS browser,
       repeat('B', 43) AS browser_of_bob, repeat('s', 43) AS state, repeat('S', 43) AS state_of_bob \gset
DELETE FROM mcp.sessions;
DELETE FROM mcp.clients;
DELETE FROM mcp.consents;
DELETE FROM mcp.authorization_codes;
CREATE VIEW regress.stored AS
    SELECT 'sessions' AS at, t::text AS stored FROM mcp.sessions AS t
     UNION ALL SELECT 'refresh_tokens', t::text FROM mcp.refresh_tokens AS t
     UNION ALL SELECT 'sealed_tokens', t::text FROM mcp.sealed_tokens AS t
     UNION ALL SELECT 'wrapped_keys', t::text FROM mcp.wrapped_keys AS t
     UNION ALL SELECT 'sign_ins', t::text FROM mcp.sign_ins AS t
     UNION ALL SELECT 'clients', t::text FROM mcp.clients AS t
     UNION ALL SELECT 'consents', t::text FROM mcp.consents AS t
     UNION ALL SELECT 'authorization_codes', t::text FROM mcp.authorization_codes AS t
     UNION ALL SELECT 'audit_log', t::text FROM mcp.audit_log AS t
     UNION ALL SELECT 'used_request_states', t::text FROM mcp.used_request_states AS t
     UNION ALL SELECT 'tools', t::text FROM mcp.tools AS t
     UNION ALL SELECT 'resources', t::text FROM mcp.resources AS t
     UNION ALL SELECT 'prompts', t::text FROM mcp.prompts AS t;
-- Bob has one of everything.
PREPARE issue(text, text, text, text[], text) AS
    SELECT code FROM mcp.issue_code('https://idp.example', $1, '{"access_token": "upstream"}', $2, :'redirect', 'app.example.com',
        :'challenge', :'resource', $4, NULL, NULL, true, $5, $3);
CREATE FUNCTION regress.public_note() RETURNS text LANGUAGE sql AS 'SELECT ''x''';
SELECT mcp.register_client('Bob''s', '{https://app.example.com/cb}', 'bobs');
SELECT client_id IS NOT NULL AS registered_itself FROM mcp.register_dynamic_client('Unused', '{https://app.example.com/cb}');
EXECUTE issue('bob', 'bobs', :'browser_of_bob', '{mcp}', NULL) \gset
SELECT access_token AS of_bob, refresh_token AS refresh_of_bob
  FROM mcp.redeem_code(:'code', 'bobs', :'redirect', :'verifier') \gset
SELECT status, access_token AS of_bob FROM mcp.refresh_session(:'refresh_of_bob', 'bobs') \gset
SELECT :'status';
EXECUTE issue('bob', 'bobs', :'browser_of_bob', '{mcp}', :'browser_of_bob') \gset
SELECT code AS code_of_bob FROM mcp.issue_code('https://idp.example', 'bob', NULL, 'bobs', :'redirect', 'app.example.com',
    :'challenge', :'resource', '{mcp}', NULL, NULL, true, NULL, repeat('C', 43)) \gset
SELECT mcp.begin_sign_in(:'state_of_bob', :'browser_of_bob', '{}') IS NOT NULL AS begun;
SELECT mcp.expose_tool('regress.public_note()', 'of_bob'), mcp.expose_resource('regress.public_note()', 'x://of_bob'),
       mcp.expose_prompt('regress.public_note()', 'of_bob');
INSERT INTO mcp.used_request_states VALUES (sha256('of bob'), now() + interval '1 h');
-- Of another day; its seed is still there, for whoever would wipe it.
UPDATE mcp.refresh_tokens SET replaced_at = replaced_at - interval '2 min' WHERE replaced_at IS NOT NULL;
UPDATE mcp.audit_log SET at = at - interval '1 year';
CREATE TABLE regress.before AS SELECT at, stored FROM regress.stored;
SELECT count(DISTINCT at) AS kinds FROM regress.before;
-- Empty whenever it is asked.
CREATE FUNCTION regress.changed() RETURNS SETOF text LANGUAGE sql AS
    'SELECT at || '' '' || count(*) FROM (SELECT at, stored FROM regress.before EXCEPT SELECT at, stored FROM regress.stored) AS gone GROUP BY at';
-- Alice comes, with another browser and another client.
SELECT mcp.register_client('Alice''s', '{https://app.example.com/cb}', 'alices');
SELECT session_id, user_id, access_token AS token FROM mcp.create_session('https://idp.example', 'alice', '{"a": 1}', client_id => 'alices') \gset
SELECT mcp.set_session_oauth_data(:'token', '{"a": 2}'), mcp.set_session_state(:'token', '{"b": 1}'), mcp.set_session_state(:'token', '{"b": 2}', 1);
SELECT 'create, set', regress.changed();
UPDATE mcp.sessions SET expires_at = expires_at - interval '1 h' WHERE session_id = :'session_id';
SELECT mcp.touch_session(:'token') > now() + interval '23:59' AS slid;
BEGIN;
SELECT status FROM mcp.enter(:'token');
SELECT mcp.set_state('{"c": 1}') IS NOT NULL AS state;
SELECT mcp.state();
COMMIT;
SELECT 'touch, enter', regress.changed();
SELECT mcp.begin_sign_in(:'state', :'browser', '{}') IS NOT NULL AS begun;
SELECT status FROM mcp.finish_sign_in(:'state', :'browser');
SELECT status FROM mcp.finish_sign_in(:'state', :'browser');
SELECT 'sign in', regress.changed();
EXECUTE issue('alice', 'alices', :'browser', '{mcp}', NULL) \gset
SELECT session_id AS first, access_token AS token, refresh_token AS refresh FROM mcp.redeem_code(:'code', 'alices', :'redirect', :'verifier') \gset
SELECT 'redeem', regress.changed();
SELECT status, access_token AS token, refresh_token AS refresh FROM mcp.refresh_session(:'refresh', 'alices') \gset
UPDATE mcp.refresh_tokens SET replaced_at = replaced_at - interval '2 min' WHERE session_id = :'first' AND replaced_at IS NOT NULL;
SELECT status, access_token AS token, refresh_token AS refresh FROM mcp.redeem_refresh_token(:'refresh', 'alices') \gset
SELECT 'refresh', :'status', regress.changed();
EXECUTE issue('alice', 'alices', repeat('d', 43), '{mcp,more}', :'browser') \gset
SELECT status, session_id = :'first' AS widened, access_token AS token FROM mcp.redeem_code(:'code', 'alices', :'redirect', :'verifier') \gset
SELECT 'widen', :'status', :'widened', regress.changed();
SELECT status FROM mcp.redeem_code(:'code', 'alices', :'redirect', :'verifier');
SELECT status FROM mcp.lookup_session(:'token');
SELECT 'replay', regress.changed();
SELECT access_token AS token, session_id AS second FROM mcp.create_session('https://idp.example', 'alice', NULL) \gset
SELECT mcp.revoke_session(:'token'), mcp.revoke_session_by_id(:'session_id');
SELECT access_token AS token, session_id AS third FROM mcp.create_session('https://idp.example', 'alice', NULL, 'alices') \gset
SELECT mcp.revoke_token(:'of_bob', 'alices') AS of_another_client, mcp.revoke_token(:'token', 'alices');
SELECT count(*) FROM mcp.create_session('https://idp.example', 'alice', NULL) \gset
SELECT mcp.revoke_user_sessions(:'user_id');
SELECT 'revoke', regress.changed();
SELECT access_token AS token, session_id AS fourth FROM mcp.create_session('https://idp.example', 'alice', NULL) \gset
SELECT session_id AS fifth FROM mcp.create_session('https://idp.example', 'alice', NULL) \gset
SELECT count(*) FROM mcp.create_session('https://idp.example', 'alice', NULL) \gset
BEGIN;
SELECT status FROM mcp.enter(:'token');
SELECT mcp.end_session(:'fifth'), mcp.end_other_sessions(), mcp.end_session(:'fourth');
COMMIT;
SELECT 'end', regress.changed();
SET mcp.max_sessions_per_user = 1;
SELECT count(*) FROM generate_series(1, 3) AS n, LATERAL mcp.create_session('https://idp.example', 'alice' || left(n::text, 0), NULL) \gset
SELECT count(*) AS live FROM mcp.sessions WHERE subject = 'alice' AND revoked_at IS NULL;
RESET mcp.max_sessions_per_user;
SELECT 'limit', regress.changed();
-- What is removed, and what is registered again.
SELECT mcp.register_client('Another', '{https://app.example.com/cb}', 'another'), mcp.register_client('Another 2', '{https://app.example.com/cb}', 'another');
EXECUTE issue('alice', 'another', :'browser', '{mcp}', NULL) \gset
SELECT access_token AS token FROM mcp.redeem_code(:'code', 'another', :'redirect', :'verifier') \gset
-- One that is over, and one that was ended, are not ended again.
SELECT session_id AS over FROM mcp.create_session('https://idp.example', 'alice', NULL, 'another') \gset
SELECT session_id AS ended FROM mcp.create_session('https://idp.example', 'alice', NULL, 'another') \gset
UPDATE mcp.sessions SET expires_at = now() WHERE session_id = :'over';
SELECT mcp.revoke_session_by_id(:'ended');
EXECUTE issue('alice', 'another', :'browser', '{mcp}', :'browser') \gset
SELECT mcp.remove_client('another') AS ended, (SELECT client_name IS NULL FROM mcp.find_client('another')) AS gone;
SELECT status FROM mcp.redeem_code(:'code', 'another', :'redirect', :'verifier');
SELECT count(*) AS registered_anew FROM mcp.register_dynamic_client('Another', '{https://app.example.com/cb}');
SELECT 'remove', regress.changed();
SELECT mcp.expose_tool('regress.public_note()', 'of_alice'), mcp.expose_tool('regress.public_note()', 'of_alice', 'again'), mcp.withdraw_tool('of_alice'),
       mcp.expose_resource('regress.public_note()', 'x://of_alice'), mcp.expose_resource('regress.public_note()', 'x://of_alice', 'again'),
       mcp.withdraw_resource('x://of_alice'),
       mcp.expose_prompt('regress.public_note()', 'of_alice'), mcp.expose_prompt('regress.public_note()', 'of_alice', 'again'), mcp.withdraw_prompt('of_alice');
SELECT 'expose, withdraw', regress.changed();
-- Clean-up takes what is over, what ended first before the rest.
UPDATE mcp.sessions SET expires_at = now() - interval '2 h' WHERE subject = 'alice';
SELECT mcp.begin_sign_in(n || :'state', :'browser', '{}') IS NOT NULL AS begun FROM unnest('{1,2}'::text[]) AS n;
EXECUTE issue('alice', 'alices', :'browser', '{mcp}', NULL) \gset
EXECUTE issue('alice', 'alices', repeat('d', 43), '{mcp}', NULL) \gset
SELECT mcp.register_client(n, '{https://app.example.com/cb}', n) FROM unnest('{one,two}'::text[]) AS n;
UPDATE mcp.clients SET expires_at = now() + interval '1 h', client_uri = NULL WHERE client_id IN ('one', 'two', 'alices');
DELETE FROM mcp.clients WHERE client_name = 'Another';
DELETE FROM mcp.authorization_codes WHERE redeemed_at IS NOT NULL AND client_id <> 'bobs';
INSERT INTO mcp.used_request_states SELECT sha256(n::bytea), now() FROM unnest('{1,2}'::text[]) AS n;
PREPARE over AS
    SELECT s.at, count(*) FROM regress.stored AS s
     WHERE s.at NOT IN ('audit_log', 'refresh_tokens', 'sealed_tokens', 'wrapped_keys')
       AND NOT EXISTS (SELECT FROM regress.before AS b WHERE b.at = s.at AND b.stored = s.stored)
     GROUP BY s.at ORDER BY s.at;
DO $$
DECLARE
    kind text[];
BEGIN
    FOREACH kind SLICE 1 IN ARRAY '{{sign_ins,state_hash},{clients,client_id},{consents,consent_id},{authorization_codes,selector},{used_request_states,state_hash}}'::text[] LOOP
        EXECUTE format('UPDATE mcp.%1$I AS t SET expires_at = now() - (row_number + 1) * interval ''1 h''
                          FROM (SELECT %2$I AS key, row_number() OVER (ORDER BY ctid) FROM mcp.%1$I AS n
                                 WHERE NOT EXISTS (SELECT FROM regress.before AS b WHERE b.at = %1$L AND b.stored = n::text)) AS n
                         WHERE t.%2$I = n.key', kind[1], kind[2]);
    END LOOP;
END
$$;
EXECUTE over;
SELECT mcp.cleanup_expired_sessions(1);
EXECUTE over;
SELECT at, min(ago) AS last_ended FROM (
    SELECT 'sign_ins' AS at, extract(hour FROM now() - expires_at) AS ago FROM mcp.sign_ins
    UNION ALL SELECT 'clients', extract(hour FROM now() - expires_at) FROM mcp.clients
    UNION ALL SELECT 'consents', extract(hour FROM now() - expires_at) FROM mcp.consents
    UNION ALL SELECT 'authorization_codes', extract(hour FROM now() - expires_at) FROM mcp.authorization_codes
    UNION ALL SELECT 'used_request_states', extract(hour FROM now() - expires_at) FROM mcp.used_request_states) AS over
 WHERE ago > 0 GROUP BY at ORDER BY at;
SELECT 'clean up one', regress.changed();
SELECT mcp.cleanup_expired_sessions() > 0 AS cleaned_up;
EXECUTE over;
SELECT 'clean up', regress.changed();
DEALLOCATE over;
-- Bob goes on.
SELECT status FROM mcp.lookup_session(:'of_bob', :'resource');
SELECT mcp.session_oauth_data(:'of_bob');
SELECT status FROM mcp.finish_sign_in(:'state_of_bob', :'browser_of_bob');
SELECT status FROM mcp.redeem_code(:'code_of_bob', 'bobs', :'redirect', :'verifier');
DROP VIEW regress.stored CASCADE;
DROP TABLE regress.before;
SELECT mcp.withdraw_tool('of_bob'), mcp.withdraw_resource('x://of_bob'), mcp.withdraw_prompt('of_bob');
DELETE FROM mcp.used_request_states;
DELETE FROM mcp.clients;
DELETE FROM mcp.consents;
DELETE FROM mcp.authorization_codes;
-- Counted once each, where they belong.
DELETE FROM mcp.sessions;
SELECT count(*) FROM generate_series(1, 10) AS n, LATERAL mcp.create_session('https://idp.example', n::text, NULL) \gset
UPDATE mcp.sessions SET expires_at = now() WHERE subject IN ('1', '2', '3', '4', '5', '6');
UPDATE mcp.sessions SET revoked_at = now() WHERE subject IN ('3', '4', '5', '6', '7', '8', '9');
\pset tuples_only off
SELECT * FROM mcp.session_stats();
DELETE FROM mcp.sessions;
