-- What each secret is bound to: take one binding away at a time, and it opens nothing.
\set QUIET on
SET client_min_messages = warning;
SET ROLE regress_auth;
-- A token whose secret is not the one that is stored. Its form and checksum are in order, so that only the comparison
-- can tell; the row is changed instead of the token.
SELECT session_id AS id, access_token AS access, refresh_token AS refresh
  FROM mcp.create_session('bindings', 'ann', '{"a": "b"}', client_id => 'editor', resource => 'here', with_refresh => true) \gset
RESET ROLE;
CREATE TEMP TABLE kept AS SELECT verifier FROM mcp.sessions WHERE session_id = :'id';
CREATE TEMP TABLE kept_refresh AS SELECT selector, verifier FROM mcp.refresh_tokens WHERE session_id = :'id';
UPDATE mcp.sessions SET verifier = set_byte(verifier, 31, get_byte(verifier, 31) # 1), expires_at = now() + interval '1 hour'
 WHERE session_id = :'id';
UPDATE mcp.refresh_tokens SET verifier = set_byte(verifier, 31, get_byte(verifier, 31) # 1) WHERE session_id = :'id';
SET ROLE regress_auth;
SELECT status, session_id, user_id, subject, expires_at FROM mcp.lookup_session(:'access');
SELECT status, session_id FROM mcp.enter(:'access');
SELECT mcp.touch_session(:'access') IS NULL AS touch, mcp.session_oauth_data(:'access') IS NULL AS data,
       mcp.set_session_oauth_data(:'access', '{}') AS set_data, mcp.set_session_state(:'access', '{}') IS NULL AS state,
       mcp.revoke_session(:'access') AS revoked, mcp.revoke_session(:'refresh') AS revoked_by_refresh;
SELECT status, session_id FROM mcp.refresh_session(:'refresh', 'editor');
RESET ROLE;
UPDATE mcp.sessions SET verifier = (SELECT verifier FROM kept) WHERE session_id = :'id';
UPDATE mcp.refresh_tokens AS r SET verifier = k.verifier FROM kept_refresh AS k WHERE r.selector = k.selector;
SET ROLE regress_auth;
SELECT status FROM mcp.lookup_session(:'access');
SELECT status FROM mcp.enter(:'access', 'elsewhere');
-- An access token ends before its session, and the data with the token.
RESET ROLE;
UPDATE mcp.sessions SET access_expires_at = now() WHERE session_id = :'id';
SET ROLE regress_auth;
SELECT status, subject FROM mcp.lookup_session(:'access');
SELECT status FROM mcp.enter(:'access');
SELECT mcp.touch_session(:'access') IS NULL AS touch, mcp.session_oauth_data(:'access') IS NULL AS data,
       mcp.set_session_oauth_data(:'access', '{}') AS set_data, mcp.set_session_state(:'access', '{}') IS NULL AS state;
-- Whoever is not let in keeps no session alive.
RESET ROLE;
SELECT expires_at - now() < '61 min' AS as_it_was FROM mcp.sessions WHERE session_id = :'id';
SET ROLE regress_auth;
-- Its refresh token goes on, but not beyond the session's absolute end.
RESET ROLE;
UPDATE mcp.sessions SET absolute_expires_at = now() + interval '2 hours', expires_at = now() + interval '1 hour' WHERE session_id = :'id';
SET ROLE regress_auth;
SELECT status, access_token AS access_2, refresh_token AS refresh_2 FROM mcp.refresh_session(:'refresh', 'editor') \gset
SELECT :'status', expires_at = absolute_expires_at AS at_the_limit FROM mcp.lookup_session(:'access_2');
-- The token before the refresh works no longer than it would have without it, or than the grace.
SELECT status FROM mcp.lookup_session(:'access');
RESET ROLE;
UPDATE mcp.sessions SET access_expires_at = now() + interval '1 hour' WHERE session_id = :'id';
SET ROLE regress_auth;
SELECT status, access_token AS access_3, refresh_token AS refresh_3 FROM mcp.refresh_session(:'refresh_2', 'editor') \gset
SELECT status FROM mcp.lookup_session(:'access_2');
RESET ROLE;
SELECT previous_expires_at - now() BETWEEN '30 s' AND '60 s' AS for_the_grace FROM mcp.sessions WHERE session_id = :'id';
UPDATE mcp.sessions SET previous_expires_at = now() WHERE session_id = :'id';
SET ROLE regress_auth;
SELECT status FROM mcp.lookup_session(:'access_2');
-- What the successors were computed from is forgotten with the grace, by the next rotation.
RESET ROLE;
UPDATE mcp.refresh_tokens SET replaced_at = replaced_at - interval '61 s' WHERE session_id = :'id' AND replaced_at IS NOT NULL;
UPDATE mcp.sessions SET expires_at = now() + interval '40 s' WHERE session_id = :'id';
SET ROLE regress_auth;
SELECT status, access_token AS access_4, refresh_token AS refresh_4 FROM mcp.refresh_session(:'refresh_3', 'editor') \gset
RESET ROLE;
SELECT count(*) AS replaced, count(seed) AS seeds FROM mcp.refresh_tokens WHERE session_id = :'id' AND replaced_at IS NOT NULL;
-- The access token before works no longer than the session would have lived.
SELECT previous_expires_at - now() <= '40 s' AS as_the_session FROM mcp.sessions WHERE session_id = :'id';
-- Within the grace the successors come again only while they are the session's: not when its token is another meanwhile.
UPDATE mcp.sessions SET verifier = sha256('another') WHERE session_id = :'id';
SET ROLE regress_auth;
SELECT status FROM mcp.refresh_session(:'refresh_3', 'editor');
-- A session that has expired is refreshed by nobody.
SELECT session_id AS id, refresh_token AS refresh
  FROM mcp.create_session('bindings', 'ann', NULL, client_id => 'editor', with_refresh => true) \gset
RESET ROLE;
UPDATE mcp.sessions SET expires_at = now() WHERE session_id = :'id';
SET ROLE regress_auth;
SELECT status FROM mcp.refresh_session(:'refresh', 'editor');
-- A session that ended under an armed identity keeps no state.
SELECT session_id AS id, access_token AS access FROM mcp.create_session('bindings', 'ann', NULL) \gset
BEGIN;
SELECT status FROM mcp.enter(:'access');
SELECT mcp.set_state('{"a": 1}');
SELECT mcp.revoke_session(:'access');
SELECT mcp.set_state('{"a": 2}') IS NULL AS too_late;
COMMIT;
SELECT session_id AS id, access_token AS access FROM mcp.create_session('bindings', 'ann', NULL) \gset
RESET ROLE;
BEGIN;
SELECT status FROM mcp.enter(:'access');
UPDATE mcp.sessions SET expires_at = now() WHERE session_id = :'id';
SELECT mcp.set_state('{"a": 2}') IS NULL AS too_late;
COMMIT;
SET ROLE regress_auth;
-- Where nothing can be written, tokens are judged all the same: a session that would slide does not.
SELECT session_id AS id, access_token AS access FROM mcp.create_session('bindings', 'ann', NULL) \gset
RESET ROLE;
UPDATE mcp.sessions SET expires_at = now() + interval '1 hour' WHERE session_id = :'id';
SET ROLE regress_auth;
BEGIN READ ONLY;
SELECT status, expires_at - now() < '61 min' AS as_it_was, mcp.user_id() = user_id AS armed FROM mcp.enter(:'access');
COMMIT;
-- Nor is a refused call written down, which is refused all the same.
RESET ROLE;
CREATE FUNCTION regress.changing() RETURNS text LANGUAGE sql AS 'SELECT ''a''';
SELECT mcp.expose_tool('regress.changing()');
ALTER FUNCTION regress.changing() OWNER TO regress_owner;
SET ROLE regress_exec;
BEGIN READ ONLY;
SELECT mcp.call_tool(:'access', 'changing')->>'status' AS status;
COMMIT;
-- Elsewhere it is, with whose client it was.
SET ROLE regress_auth;
SELECT session_id AS of_client, access_token AS token FROM mcp.create_session('bindings', 'ann', NULL, client_id => 'editor') \gset
SET ROLE regress_exec;
SELECT mcp.call_tool(:'token', 'changing')->>'status' AS status;
RESET ROLE;
SELECT session_id = :'of_client' AS session, client_id FROM mcp.audit_log
 WHERE event = 'call_refused' AND session_id IN (:'id', :'of_client');
DELETE FROM mcp.sessions WHERE session_id = :'of_client';
-- Listing is a use of the session.
SET ROLE regress_exec;
SELECT count(*) FROM mcp.list_tools(:'access') \gset
RESET ROLE;
SELECT mcp.withdraw_tool('changing'), expires_at - now() > '23:59' AS slid FROM mcp.sessions WHERE session_id = :'id';
DROP FUNCTION regress.changing();
-- So is entering: the identity holds as long as the session then does.
UPDATE mcp.sessions SET expires_at = clock_timestamp() + interval '1 s' WHERE session_id = :'id' RETURNING expires_at AS ended \gset
BEGIN;
SELECT status FROM mcp.enter(:'access');
DO $$
BEGIN
    WHILE clock_timestamp() <= transaction_timestamp() + interval '1 s' LOOP
        PERFORM pg_sleep(0.01);
    END LOOP;
END
$$;
SELECT statement_timestamp() > :'ended'::timestamptz AS beyond, mcp.user_id() IS NOT NULL AS armed;
COMMIT;
-- Where one snapshot serves the transaction: a use slides, is committed, and leaves the statement around it as it was.
SET default_transaction_isolation = 'repeatable read';
CREATE TABLE regress.rows AS SELECT n FROM generate_series(1, 3) AS n;
UPDATE mcp.sessions SET expires_at = now() + interval '1 hour' WHERE session_id = :'id';
SELECT mcp.touch_session(:'access') - now() > '23:59' AS slid FROM regress.rows;
SELECT pg_current_xact_id_if_assigned() IS NULL AS idle;
ROLLBACK;
SELECT expires_at - now() > '23:59' AS slid FROM mcp.sessions WHERE session_id = :'id';
UPDATE mcp.sessions SET expires_at = now() + interval '1 hour' WHERE session_id = :'id';
SELECT e.status FROM regress.rows, mcp.enter(:'access') AS e WHERE n = 1;
SELECT pg_current_xact_id_if_assigned() IS NULL AS idle;
ROLLBACK;
SELECT expires_at - now() > '23:59' AS slid FROM mcp.sessions WHERE session_id = :'id';
DROP TABLE regress.rows;
RESET default_transaction_isolation;
SET ROLE regress_auth;
SELECT mcp.revoke_session(:'access');
BEGIN READ ONLY;
SELECT status FROM mcp.enter(:'access');
COMMIT;
SELECT status FROM mcp.enter(:'access');
-- Each way to end a session leaves its own row; so does each refusal to somebody who named one.
SELECT session_id AS id, access_token AS access FROM mcp.create_session('bindings', 'ann', NULL) \gset
SELECT mcp.revoke_session_by_id(:'id', 'lost');
SELECT session_id AS id FROM mcp.create_session('bindings', 'ann', NULL) \gset
SELECT access_token AS access FROM mcp.create_session('bindings', 'ann', NULL) \gset
BEGIN;
SELECT status, mcp.end_session(:'id') AS ended FROM mcp.enter(:'access');
COMMIT;
RESET ROLE;
SET mcp.max_sessions_per_user = 1;
SELECT count(*) FROM (SELECT FROM mcp.create_session('bindings', 'ann', NULL)) AS one_more;
RESET mcp.max_sessions_per_user;
SELECT DISTINCT event, reason FROM mcp.audit_log AS a JOIN mcp.sessions AS s USING (session_id)
 WHERE s.issuer = 'bindings' ORDER BY event, reason;
SELECT mcp.register_client('App', '{https://app.example/cb}', 'bindings');
SELECT mcp.remove_client('bindings');
SELECT event, session_id, actor = session_user AS by_whom FROM mcp.audit_log WHERE client_id = 'bindings';
-- Not longer than its absolute life, from the beginning.
SELECT expires_at = absolute_expires_at AS at_once FROM mcp.create_session('bindings', 'ann', NULL, ttl => '2 h', max_lifetime => '1 h');
-- Of the user that it is made for, where one is named.
SELECT user_id AS named, access_token AS token, refresh_token IS NULL AS not_refreshed
  FROM mcp.create_session('bindings', 'ann', NULL, with_refresh => NULL, user_id => '00000000-0000-4000-8000-000000000001') \gset
SELECT :'named' AS user_id, :'not_refreshed' AS not_refreshed;
BEGIN;
SELECT status, user_id, mcp.user_id() AS armed FROM mcp.enter(:'token');
COMMIT;
-- Whoever refreshes need name no client, and gets all the scopes where they name none.
SELECT refresh_token AS refresh
  FROM mcp.create_session('bindings', 'ann', NULL, client_id => 'editor', scopes => '{a,b}', with_refresh => true) \gset
SELECT status, access_token AS token, refresh_token AS refresh FROM mcp.refresh_session(:'refresh') \gset
SELECT :'status', scopes FROM mcp.lookup_session(:'token');
SELECT status, access_token AS token FROM mcp.refresh_session(:'refresh', 'editor', '{}') \gset
SELECT :'status', scopes FROM mcp.lookup_session(:'token');

-- An authorization code: its secret, and the consent it rests on. The challenge is that of RFC 7636, appendix B.
\set verifier dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk
\set challenge E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM
\set client 'https://app.example/bindings.json'
\set other 'https://app.example/other.json'
SELECT repeat('1', 43) AS browser_1, repeat('2', 43) AS browser_2, repeat('3', 43) AS browser_3 \gset
SET ROLE regress_auth;
PREPARE issue(text, text, text, text[], boolean, text, text) AS
    SELECT status, code FROM mcp.issue_code('bindings', $1, NULL, $2, 'https://' || $3 || '/cb', $3, :'challenge', 'r', $4, NULL, NULL, $5, $6, $7);
PREPARE asked(text, text, text, text[], text) AS
    SELECT status FROM mcp.issue_code('bindings', $1, NULL, $2, 'https://' || $3 || '/cb', $3, :'challenge', 'r', $4, NULL, NULL, false, $5, repeat('9', 43));
EXECUTE issue('ben', :'client', 'app.example', '{a,b}', true, NULL, :'browser_1') \gset
RESET ROLE;
UPDATE mcp.authorization_codes SET verifier = set_byte(verifier, 31, get_byte(verifier, 31) # 1) WHERE client_id = :'client';
SET ROLE regress_auth;
SELECT status FROM mcp.redeem_code(:'code', :'client', 'https://app.example/cb', :'verifier');
RESET ROLE;
UPDATE mcp.authorization_codes SET verifier = set_byte(verifier, 31, get_byte(verifier, 31) # 1) WHERE client_id = :'client';
SET ROLE regress_auth;
SELECT status, session_id AS id, access_token AS access, refresh_token AS refresh
  FROM mcp.redeem_code(:'code', :'client', 'https://app.example/cb', :'verifier') \gset
SELECT :'status';
-- The consent holds for one browser, client, host and user, and for no more than its scopes.
BEGIN; EXECUTE asked('ben', :'client', 'app.example', '{a}', :'browser_1'); ROLLBACK;
BEGIN; EXECUTE asked('ben', :'client', 'app.example', '{a}', :'browser_2'); ROLLBACK;
BEGIN; EXECUTE asked('ben', :'other', 'app.example', '{a}', :'browser_1'); ROLLBACK;
BEGIN; EXECUTE asked('ben', :'client', 'evil.example', '{a}', :'browser_1'); ROLLBACK;
BEGIN; EXECUTE asked('eve', :'client', 'app.example', '{a}', :'browser_1'); ROLLBACK;
BEGIN; EXECUTE asked('ben', :'client', 'app.example', '{a,c}', :'browser_1'); ROLLBACK;
-- It ends with its time, and with the session it led to.
RESET ROLE;
BEGIN;
UPDATE mcp.consents SET expires_at = now() WHERE client_id = :'client';
SELECT consented_scopes IS NULL AS forgotten FROM mcp.find_client(:'client', :'browser_1', 'app.example');
EXECUTE asked('ben', :'client', 'app.example', '{a}', :'browser_1');
ROLLBACK;
BEGIN;
SELECT mcp.revoke_session_by_id(:'id');
SELECT consented_scopes IS NULL AS forgotten FROM mcp.find_client(:'client', :'browser_1', 'app.example');
EXECUTE asked('ben', :'client', 'app.example', '{a}', :'browser_1');
ROLLBACK;
-- Whoever ends all sessions but one keeps what was consented to for that one, and withdraws nothing of others.
BEGIN;
EXECUTE issue('eve', :'client', 'app.example', '{a}', true, NULL, :'browser_3') \gset
SELECT status, mcp.end_other_sessions() AS others FROM mcp.enter(:'access');
SELECT consented_scopes IS NOT NULL AS kept FROM mcp.find_client(:'client', :'browser_1', 'app.example');
SELECT status FROM mcp.redeem_code(:'code', :'client', 'https://app.example/cb', :'verifier');
ROLLBACK;
-- Consent to other scopes adds them to those of before.
BEGIN;
EXECUTE issue('ben', :'client', 'app.example', '{d}', true, :'browser_1', :'browser_3') \gset
SELECT array_agg(scope ORDER BY scope) AS scopes
  FROM mcp.find_client(:'client', :'browser_3', 'app.example'), unnest(consented_scopes) AS scope;
ROLLBACK;
-- More scopes widen the session that the same browser has: if it is still that user's, that client's, of that resource,
-- and live. Otherwise there is a new one, and nothing happens to the old one.
SET ROLE regress_auth;
EXECUTE issue('ben', :'client', 'app.example', '{a,b,c}', true, :'browser_1', :'browser_2') \gset
PREPARE widened(text) AS SELECT status, session_id = $1::uuid AS same_session
  FROM mcp.redeem_code(:'code', :'client', 'https://app.example/cb', :'verifier');
RESET ROLE;
BEGIN; UPDATE mcp.sessions SET user_id = gen_random_uuid() WHERE session_id = :'id'; EXECUTE widened(:'id'); ROLLBACK;
BEGIN; UPDATE mcp.sessions SET client_id = :'other' WHERE session_id = :'id'; EXECUTE widened(:'id'); ROLLBACK;
BEGIN; UPDATE mcp.sessions SET resource = 's' WHERE session_id = :'id'; EXECUTE widened(:'id'); ROLLBACK;
BEGIN; UPDATE mcp.sessions SET revoked_at = now() WHERE session_id = :'id'; EXECUTE widened(:'id'); ROLLBACK;
BEGIN; UPDATE mcp.sessions SET expires_at = now() WHERE session_id = :'id'; EXECUTE widened(:'id'); ROLLBACK;
-- It keeps the scopes that are not asked for anew and the end of its life, and nothing else of before: no narrowed
-- access, no claims, no token of the provider's.
UPDATE mcp.sessions SET scopes = '{a,b,d}', claims = '{"email": "old"}', absolute_expires_at = now() + interval '30 min'
 WHERE session_id = :'id';
SELECT mcp.set_session_oauth_data(:'access', '{"access_token": "old"}');
SELECT status, access_token AS narrowed, refresh_token AS refresh_2 FROM mcp.refresh_session(:'refresh', :'client', '{a}') \gset
SELECT status, session_id = :'id' AS same_session, access_token AS access_2
  FROM mcp.redeem_code(:'code', :'client', 'https://app.example/cb', :'verifier') \gset
SELECT :'status', :'same_session';
SELECT status, scopes, claims, expires_at = absolute_expires_at AS at_the_limit, mcp.session_oauth_data(:'access_2') IS NULL AS nothing
  FROM mcp.lookup_session(:'access_2');
-- What the old tokens could open is gone.
SELECT count(*) AS keys FROM mcp.wrapped_keys WHERE session_id = :'id';
SELECT status FROM mcp.lookup_session(:'access') UNION ALL SELECT status FROM mcp.lookup_session(:'narrowed')
UNION ALL SELECT status FROM mcp.refresh_session(:'refresh', :'client') UNION ALL SELECT status FROM mcp.refresh_session(:'refresh_2', :'client');
-- A session of a code lives no longer than whoever redeems it says.
EXECUTE issue('ben', :'other', 'app.example', '{a}', true, NULL, :'browser_3') \gset
SELECT status, access_token AS access
  FROM mcp.redeem_code(:'code', :'other', 'https://app.example/cb', :'verifier', ttl => '30 min', max_lifetime => '1 h') \gset
SELECT :'status', absolute_expires_at - now() BETWEEN '59 min' AND '61 min' AS in_an_hour FROM mcp.lookup_session(:'access');
-- Nothing of this is left to the tests that follow.
DELETE FROM mcp.consents WHERE client_id IN (:'client', :'other');
DELETE FROM mcp.authorization_codes WHERE client_id IN (:'client', :'other');
DELETE FROM mcp.sessions WHERE issuer = 'bindings';
