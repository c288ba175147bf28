-- The authorization server's side: clients, consents, codes. The verifier and its challenge are those of RFC 7636,
-- appendix B.
\set QUIET on
\pset format unaligned
\pset tuples_only on
SELECT 'dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk' AS verifier, 'E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM' AS challenge,
       repeat('1', 43) AS browser_1, repeat('2', 43) AS browser_2, repeat('3', 43) AS browser_3, repeat('4', 43) AS browser_4,
       'https://host/mcp/v1' AS resource \gset
-- Operators register clients, and nobody else does.
SELECT mcp.register_client('Editor', '{https://app.example.com/cb}', 'editor', 'https://app.example.com');
SELECT mcp.register_client('Editor 2', '{https://app.example.com/cb, com.example.app:/cb}', 'editor');
SELECT client_name, client_uri IS NULL, redirect_uris, expires_at IS NULL FROM mcp.clients;
SELECT length(mcp.register_client('Unnamed', '{http://127.0.0.1/cb}')) AS new_id;
\set VERBOSITY terse
SELECT mcp.register_client('x', '{http://app.example.com/cb}');
SELECT mcp.register_client('x', '{"javascript:alert(1)"}');
SELECT mcp.register_client('x', '{}');
SELECT mcp.register_client('x', NULL);
SELECT mcp.register_client('x', '{https://app.example.com/cb}', 'x', repeat('x', 2049));
SELECT mcp.register_client('x', '{https://app.example.com/cb}', repeat('x', 2049));
SELECT mcp.register_client(repeat('x', 1025), '{https://app.example.com/cb}');
SELECT mcp.register_client('x', '{https://app.example.com/cb}', 'https://app.example.com/client.json');
SET ROLE regress_auth;
SELECT mcp.register_client('x', '{https://app.example.com/cb}');
SELECT mcp.remove_client('editor');
SELECT * FROM mcp.clients;
SELECT * FROM mcp.consents;
SELECT * FROM mcp.authorization_codes;
\set VERBOSITY default
-- Clients register themselves within bounds.
SELECT client_id AS dynamic FROM mcp.register_dynamic_client('CLI', '{http://127.0.0.1/cb}', 'https://cli.example.com') \gset
SELECT * FROM mcp.find_client(:'dynamic');
SELECT * FROM mcp.find_client('nobody');
SELECT mcp.find_client(NULL);
SELECT mcp.register_dynamic_client('x', array_fill('https://a.example/'::text, ARRAY[33]));
SELECT mcp.register_dynamic_client(repeat('x', 1025), '{https://a.example/}');
SELECT mcp.register_dynamic_client('x', '{https://a.example/}', repeat('x', 2049));
-- The oldest that nobody used is forgotten for a new one; what an operator registered stays.
RESET ROLE;
SET mcp.max_unused_clients = 2;
SELECT client_id AS newer FROM mcp.register_dynamic_client('b', '{https://a.example/}') \gset
SELECT client_id AS newest FROM mcp.register_dynamic_client('c', '{https://a.example/}') \gset
SELECT client_id = :'dynamic' AS oldest, client_id IN (:'newer', :'newest') AS newer, client_id = 'editor' AS operators
  FROM mcp.clients WHERE client_id IN (:'dynamic', :'newer', :'newest', 'editor') ORDER BY created_at;
RESET mcp.max_unused_clients;
SET ROLE regress_auth;
SELECT client_id AS dynamic FROM mcp.register_dynamic_client('CLI', '{http://127.0.0.1/cb}') \gset
-- There are those scopes to ask for that tools, resources and prompts need.
RESET ROLE;
CREATE FUNCTION regress.scoped() RETURNS text LANGUAGE sql AS 'SELECT ''x''';
SELECT mcp.expose_tool('regress.scoped()', scope => 'notes:write notes:read');
SELECT mcp.expose_resource('regress.scoped()', 'x://scoped', scope => 'files:read notes:read');
SELECT mcp.expose_prompt('regress.scoped()', scope => 'prompts:read');
SET ROLE regress_auth;
SELECT offered_scopes FROM mcp.find_client('nobody');
RESET ROLE;
SELECT mcp.withdraw_tool('scoped'), mcp.withdraw_resource('x://scoped'), mcp.withdraw_prompt('scoped');
SET ROLE regress_auth;
-- Nobody has consented yet, so nothing is made.
PREPARE issue(text, text[], boolean, text, text) AS
    SELECT * FROM mcp.issue_code('https://idp.example', $1, '{"access_token": "upstream-secret", "n": 1.50}', :'dynamic',
        'http://127.0.0.1:5000/cb', '127.0.0.1', :'challenge', :'resource', $2, '{"email": "grace@example.com"}',
        '{"client_name": "CLI"}', $3, $4, $5);
EXECUTE issue('grace', '{mcp}', false, NULL, :'browser_1');
EXECUTE issue('grace', '{mcp}', NULL, :'browser_1', :'browser_1');
-- With consent there is a code, and the browser is remembered for this user, client and host.
SELECT status, code, consent_expires_at - now() BETWEEN '29 days' AND '31 days' AS remembered
  FROM mcp.issue_code('https://idp.example', 'grace', '{"access_token": "upstream-secret", "n": 1.50}', :'dynamic',
       'http://127.0.0.1:5000/cb', '127.0.0.1', :'challenge', :'resource', '{mcp}', '{"email": "grace@example.com"}',
       '{"client_name": "CLI"}', true, NULL, :'browser_1') \gset
SELECT :'status', :'code' ~ '^mcpc_[0-9A-Za-z]{22}_[0-9A-Za-z]{50}$' AS code, :'remembered';
SELECT consented_scopes FROM mcp.find_client(:'dynamic', :'browser_1', '127.0.0.1');
SELECT consented_scopes FROM mcp.find_client(:'dynamic', :'browser_1', 'localhost');
SELECT consented_scopes FROM mcp.find_client(:'dynamic', :'browser_2', '127.0.0.1');
SELECT consented_scopes FROM mcp.find_client('editor', :'browser_1', '127.0.0.1');
-- Another user of the same browser is asked, and so is the same user for more.
EXECUTE issue('heidi', '{mcp}', false, :'browser_1', :'browser_2');
EXECUTE issue('grace', '{mcp,notes:write}', false, :'browser_1', :'browser_2');
-- Nothing is redeemed, and nothing spoilt, by who is not meant.
PREPARE redeem(text, text, text, text, text) AS
    SELECT status, session_id IS NULL AND access_token IS NULL AND refresh_token IS NULL AS nothing
      FROM mcp.redeem_code($1, $2, $3, $4, $5);
EXECUTE redeem(:'code', 'nobody', 'http://127.0.0.1:5000/cb', :'verifier', :'resource');
EXECUTE redeem(:'code', 'editor', 'http://127.0.0.1:5000/cb', :'verifier', :'resource');
EXECUTE redeem(:'code', 'https://app.example.com/client.json', 'http://127.0.0.1:5000/cb', :'verifier', :'resource');
EXECUTE redeem(:'code', :'dynamic', 'http://127.0.0.1:5001/cb', :'verifier', :'resource');
EXECUTE redeem(:'code', :'dynamic', NULL, :'verifier', :'resource');
EXECUTE redeem(:'code', :'dynamic', 'http://127.0.0.1:5000/cb', :'verifier', 'https://other/mcp');
EXECUTE redeem(:'code', :'dynamic', 'http://127.0.0.1:5000/cb', repeat('x', 43), :'resource');
EXECUTE redeem(:'code', :'dynamic', 'http://127.0.0.1:5000/cb', :'challenge', :'resource');
EXECUTE redeem(:'code', :'dynamic', 'http://127.0.0.1:5000/cb', NULL, :'resource');
EXECUTE redeem(reverse(:'code'), :'dynamic', 'http://127.0.0.1:5000/cb', :'verifier', :'resource');
EXECUTE redeem(NULL, :'dynamic', 'http://127.0.0.1:5000/cb', :'verifier', :'resource');
-- Its client redeems it, once.
SELECT status, session_id, access_token, refresh_token, expires_at - now() BETWEEN '59 min' AND '61 min' AS in_an_hour, scopes
  FROM mcp.redeem_code(:'code', :'dynamic', 'http://127.0.0.1:5000/cb', :'verifier', :'resource') \gset
SELECT :'status', :'in_an_hour', :'scopes';
SELECT status, issuer, subject, client_id = :'dynamic' AS client, resource, scopes, claims
  FROM mcp.lookup_session(:'access_token', :'resource');
SELECT mcp.session_oauth_data(:'access_token');
SELECT mcp.set_session_state(:'access_token', '{"workspace": 7}');
RESET ROLE;
SELECT used_at IS NOT NULL AS used, expires_at - now() > '59 days' AS known_for_long FROM mcp.clients WHERE client_id = :'dynamic';
SELECT sealed IS NULL AS wiped, session_id = :'session_id' AS session FROM mcp.authorization_codes;
-- It is known longer where it would have been anyway; for good, from when an operator registers it; and neither it nor the
-- operators' clients take room from those that nobody used.
BEGIN;
UPDATE mcp.clients SET expires_at = now() + interval '90 days' WHERE client_id = :'dynamic';
EXECUTE issue('grace', '{mcp}', true, NULL, :'browser_4') \gset
EXECUTE redeem(:'code', :'dynamic', 'http://127.0.0.1:5000/cb', :'verifier', :'resource');
SELECT expires_at - now() > '89 days' AS known_for_longer FROM mcp.clients WHERE client_id = :'dynamic';
SELECT mcp.register_client('CLI', '{http://127.0.0.1/cb}', :'dynamic') = :'dynamic' AS taken_over;
SELECT expires_at IS NULL AS for_good FROM mcp.clients WHERE client_id = :'dynamic';
EXECUTE issue('grace', '{mcp}', true, NULL, :'browser_4') \gset
EXECUTE redeem(:'code', :'dynamic', 'http://127.0.0.1:5000/cb', :'verifier', :'resource');
SELECT expires_at IS NULL AS for_good FROM mcp.clients WHERE client_id = :'dynamic';
ROLLBACK;
BEGIN;
SET LOCAL mcp.max_unused_clients = 1;
UPDATE mcp.clients SET created_at = now() + interval '1 day' WHERE client_id IN (:'dynamic', 'editor');
SELECT client_id AS another FROM mcp.register_dynamic_client('d', '{https://a.example/}') \gset
SELECT count(*) AS another FROM mcp.clients WHERE client_id = :'another';
ROLLBACK;
SET ROLE regress_auth;
-- More scopes from the same browser: the same session, widened, with new tokens, and for as long as a new one.
RESET ROLE;
UPDATE mcp.sessions SET updated_at = now() - interval '1 h', access_expires_at = now() + interval '1 min', access_ttl = '2 min',
       previous_expires_at = now(), expires_at = now() + interval '1 h' WHERE session_id = :'session_id';
UPDATE mcp.consents SET given_at = now() - interval '1 h', expires_at = now() + interval '1 h';
SET ROLE regress_auth;
SELECT code AS code_2 FROM mcp.issue_code('https://idp.example', 'grace', '{"access_token": "second"}', :'dynamic',
    'http://127.0.0.1:6000/cb', '127.0.0.1', :'challenge', :'resource', '{mcp,notes:write}', '{}', '{}', true,
    :'browser_1', :'browser_2') \gset
SELECT consented_scopes IS NULL AS old_secret_is_dead FROM mcp.find_client(:'dynamic', :'browser_1', '127.0.0.1');
SELECT status, session_id = :'session_id' AS same_session, access_token AS access_2, refresh_token AS refresh_2, scopes,
       expires_at - now() BETWEEN '59 min' AND '61 min' AS for_an_hour
  FROM mcp.redeem_code(:'code_2', :'dynamic', 'http://127.0.0.1:6000/cb', :'verifier') \gset
SELECT :'status', :'same_session', :'scopes', :'for_an_hour';
SELECT status, state, scopes FROM mcp.lookup_session(:'access_2', :'resource');
RESET ROLE;
SELECT metadata, updated_at - now() > '-1 min' AS used, access_expires_at - now() BETWEEN '59 min' AND '61 min' AS in_an_hour,
       access_ttl, previous_expires_at, expires_at - now() BETWEEN '23:59' AND '24:01' AS slid FROM mcp.sessions WHERE session_id = :'session_id';
SELECT now() - given_at < '1 min' AS given_again, expires_at - now() > '29 days' AS remembered FROM mcp.consents ORDER BY given_at DESC LIMIT 1;
SET ROLE regress_auth;
SELECT mcp.session_oauth_data(:'access_2');
SELECT status FROM mcp.lookup_session(:'access_token', :'resource');
SELECT status FROM mcp.refresh_session(:'refresh_token', :'dynamic');
SELECT status, access_token AS access_3, refresh_token AS refresh_3 FROM mcp.refresh_session(:'refresh_2', :'dynamic') \gset
SELECT mcp.session_oauth_data(:'access_3');
-- The client's refresh: as refresh_session, and the client is known and the resource its own.
SELECT status FROM mcp.redeem_refresh_token(:'refresh_3', 'nobody');
SELECT status FROM mcp.redeem_refresh_token(:'refresh_3', 'editor');
SELECT status FROM mcp.redeem_refresh_token(:'refresh_3', :'dynamic', NULL, 'https://other/mcp');
SELECT status FROM mcp.redeem_refresh_token(:'refresh_3', :'dynamic', '{mcp,admin}', :'resource');
SELECT status FROM mcp.redeem_refresh_token(:'access_3', :'dynamic');
SELECT status FROM mcp.redeem_refresh_token(NULL, :'dynamic');
SELECT status, access_token AS access_3, refresh_token AS next, session_id = :'session_id' AS same_session, scopes
  FROM mcp.redeem_refresh_token(:'refresh_3', :'dynamic', '{mcp}', :'resource') \gset
SELECT :'status', :'same_session', :'scopes';
SELECT status, scopes, refresh_token = :'next' AS same FROM mcp.redeem_refresh_token(:'refresh_3', :'dynamic');
SELECT status, access_token AS access_3, refresh_token AS refresh_3, scopes FROM mcp.redeem_refresh_token(:'next', :'dynamic') \gset
SELECT :'status', :'scopes';
-- The same user with no more scopes, and with another browser, gets sessions of their own.
SELECT code AS code_3 FROM mcp.issue_code('https://idp.example', 'grace', NULL, :'dynamic', 'http://127.0.0.1:6000/cb',
    '127.0.0.1', :'challenge', :'resource', '{mcp}', NULL, NULL, false, :'browser_2', :'browser_3') \gset
SELECT status, session_id = :'session_id' AS same_session
  FROM mcp.redeem_code(:'code_3', :'dynamic', 'http://127.0.0.1:6000/cb', :'verifier');
SELECT code AS code_4 FROM mcp.issue_code('https://idp.example', 'grace', NULL, :'dynamic', 'http://127.0.0.1:6000/cb',
    '127.0.0.1', :'challenge', :'resource', '{mcp,notes:write,admin}', NULL, NULL, true, NULL, :'browser_4') \gset
SELECT status, session_id = :'session_id' AS same_session, session_id AS session_4, access_token AS access_4, refresh_token AS refresh_4
  FROM mcp.redeem_code(:'code_4', :'dynamic', 'http://127.0.0.1:6000/cb', :'verifier') \gset
SELECT :'status', :'same_session';
SELECT status FROM mcp.lookup_session(:'access_3', :'resource');
-- A code that comes back ends what it was redeemed for. Whoever has no verifier cannot cause that.
EXECUTE redeem(:'code_4', :'dynamic', 'http://127.0.0.1:6000/cb', repeat('x', 43), NULL);
SELECT status FROM mcp.lookup_session(:'access_4');
EXECUTE redeem(:'code_4', :'dynamic', 'http://127.0.0.1:6000/cb', :'verifier', NULL);
EXECUTE redeem(:'code_4', :'dynamic', 'http://127.0.0.1:6000/cb', :'verifier', NULL);
SELECT status FROM mcp.lookup_session(:'access_4');
SELECT status FROM mcp.refresh_session(:'refresh_4', :'dynamic');
-- A consent ends with the session it led to.
SELECT consented_scopes IS NULL AS asked_again FROM mcp.find_client(:'dynamic', :'browser_4', '127.0.0.1');
SELECT consented_scopes IS NOT NULL AS not_asked_again FROM mcp.find_client(:'dynamic', :'browser_3', '127.0.0.1');
-- It stays withdrawn when clean-up has taken the session away.
RESET ROLE;
DELETE FROM mcp.sessions WHERE session_id = :'session_4';
SET ROLE regress_auth;
SELECT consented_scopes IS NULL AS asked_again FROM mcp.find_client(:'dynamic', :'browser_4', '127.0.0.1');
EXECUTE issue('grace', '{mcp}', false, :'browser_4', :'browser_4');
-- Whoever signs in once more than the limit allows has withdrawn nothing.
SELECT repeat('5', 43) AS browser_5 \gset
SELECT code AS code_j FROM mcp.issue_code('https://idp.example', 'judy', NULL, :'dynamic', 'http://127.0.0.1:6000/cb',
    '127.0.0.1', :'challenge', :'resource', '{mcp}', NULL, NULL, true, NULL, :'browser_5') \gset
SELECT access_token AS access_j FROM mcp.redeem_code(:'code_j', :'dynamic', 'http://127.0.0.1:6000/cb', :'verifier') \gset
RESET ROLE;
SET mcp.max_sessions_per_user = 1;
SELECT count(*) FROM mcp.create_session('https://idp.example', 'judy', NULL);
RESET mcp.max_sessions_per_user;
SET ROLE regress_auth;
SELECT status AS displaced FROM mcp.lookup_session(:'access_j');
SELECT consented_scopes FROM mcp.find_client(:'dynamic', :'browser_5', '127.0.0.1');
SELECT status, code AS code_j FROM mcp.issue_code('https://idp.example', 'judy', NULL, :'dynamic', 'http://127.0.0.1:6000/cb',
    '127.0.0.1', :'challenge', :'resource', '{mcp}', NULL, NULL, false, :'browser_5', :'browser_5') \gset
SELECT :'status';
SELECT status, session_id AS session_j FROM mcp.redeem_code(:'code_j', :'dynamic', 'http://127.0.0.1:6000/cb', :'verifier') \gset
SELECT :'status';
-- A code on its way is worth nothing once the session it would have widened was ended, or all of its user's.
SELECT status, code AS code_j FROM mcp.issue_code('https://idp.example', 'judy', NULL, :'dynamic', 'http://127.0.0.1:6000/cb',
    '127.0.0.1', :'challenge', :'resource', '{mcp}', NULL, NULL, false, :'browser_5', :'browser_5') \gset
SELECT :'status', mcp.revoke_session_by_id(:'session_j');
EXECUTE redeem(:'code_j', :'dynamic', 'http://127.0.0.1:6000/cb', :'verifier', NULL);
SELECT status, code AS code_k FROM mcp.issue_code('https://idp.example', 'kim', NULL, :'dynamic', 'http://127.0.0.1:6000/cb',
    '127.0.0.1', :'challenge', :'resource', '{mcp}', NULL, NULL, true, NULL, :'browser_5') \gset
SELECT :'status', mcp.revoke_user_sessions(user_id) AS ended FROM mcp.create_session('https://idp.example', 'kim', NULL);
EXECUTE redeem(:'code_k', :'dynamic', 'http://127.0.0.1:6000/cb', :'verifier', NULL);
SELECT consented_scopes IS NULL AS asked_again FROM mcp.find_client(:'dynamic', :'browser_5', '127.0.0.1');
-- What is remembered no longer is swept away only when no code needs it.
SELECT code AS code_l FROM mcp.issue_code('https://idp.example', 'lea', NULL, :'dynamic', 'http://127.0.0.1:6000/cb',
    '127.0.0.1', :'challenge', :'resource', '{mcp}', NULL, NULL, true, NULL, :'browser_5') \gset
RESET ROLE;
UPDATE mcp.consents SET expires_at = now() - interval '1 min'
 WHERE consent_id = (SELECT consent_id FROM mcp.authorization_codes ORDER BY expires_at DESC LIMIT 1);
SET ROLE regress_auth;
SELECT mcp.cleanup_expired_sessions(), consented_scopes IS NULL AS forgotten FROM mcp.find_client(:'dynamic', :'browser_5', '127.0.0.1');
EXECUTE redeem(:'code_l', :'dynamic', 'http://127.0.0.1:6000/cb', :'verifier', NULL);
-- RFC 7009: a client ends its own sessions and nobody else's.
SELECT mcp.revoke_token(:'access_3', 'nobody') IS NULL AS nobody, mcp.revoke_token(:'access_3', 'editor') AS editor,
       mcp.revoke_token('nonsense', :'dynamic') AS nonsense, mcp.revoke_token(NULL, :'dynamic') AS nothing;
SELECT status FROM mcp.lookup_session(:'access_3');
SELECT mcp.revoke_token(:'refresh_3', :'dynamic') AS own, mcp.revoke_token(:'refresh_3', :'dynamic') AS again;
SELECT status FROM mcp.lookup_session(:'access_3');
-- A code ends within a minute.
SELECT code AS code_5 FROM mcp.issue_code('https://idp.example', 'grace', '{"access_token": "upstream-secret"}', :'dynamic', 'http://127.0.0.1:6000/cb',
    '127.0.0.1', :'challenge', :'resource', '{mcp}', NULL, NULL, true, NULL, :'browser_1') \gset
RESET ROLE;
SELECT max(expires_at) - now() BETWEEN '58 s' AND '60 s' AS within_a_minute FROM mcp.authorization_codes WHERE redeemed_at IS NULL;
UPDATE mcp.authorization_codes SET expires_at = now() WHERE redeemed_at IS NULL;
SET ROLE regress_auth;
EXECUTE redeem(:'code_5', :'dynamic', 'http://127.0.0.1:6000/cb', :'verifier', NULL);
-- What cannot become a session is refused while the person is still there.
\set VERBOSITY terse
SELECT mcp.issue_code('', 'x', NULL, 'c', 'r', 'h', :'challenge', 'r', '{}', NULL, NULL, true, NULL, :'browser_1');
SELECT mcp.issue_code('i', 'x', NULL, 'c', 'r', 'h', 'plain', 'r', '{}', NULL, NULL, true, NULL, :'browser_1');
SELECT mcp.issue_code('i', 'x', NULL, 'c', 'r', 'h', :'challenge', 'r', '{"a b"}', NULL, NULL, true, NULL, :'browser_1');
SELECT mcp.issue_code('i', 'x', NULL, 'c', 'r', 'h', :'challenge', 'r', '{}', '[]', NULL, true, NULL, :'browser_1');
SELECT mcp.issue_code('i', 'x', NULL, 'c', 'r', 'h', :'challenge', 'r', '{}', NULL, NULL, true, NULL, 'short');
SELECT mcp.redeem_refresh_token(:'refresh_3', :'dynamic', '{"a b"}');
\set VERBOSITY default
RESET ROLE;
-- No secret is in clear, neither as text nor as bytes.
SELECT count(*) > 0 AS sealed FROM mcp.authorization_codes WHERE sealed IS NOT NULL;
SELECT secret FROM unnest(ARRAY['secret', 'mcpc_', repeat('1', 20)]) AS secret,
       (SELECT c::text FROM mcp.authorization_codes AS c UNION ALL SELECT c::text FROM mcp.consents AS c) AS stored(text)
 WHERE position(secret IN text) + position(encode(secret::bytea, 'hex') IN text) > 0;
-- Sign-ins that nobody ends do not fill the table. One in 256 is when it is looked at.
SET mcp.max_sign_ins = 10;
SELECT count(mcp.begin_sign_in(repeat('s', 43) || n, repeat('b', 43), '{}')) FROM generate_series(1, 5000) AS n;
SELECT count(*) < 4000 AS bounded FROM mcp.sign_ins;
SET mcp.max_sign_ins = 1000;
SELECT count(mcp.begin_sign_in(repeat('t', 43) || n, repeat('b', 43), '{}')) FROM generate_series(1, 5000) AS n;
SELECT count(*) BETWEEN 1000 AND 4000 AS no_fewer_than_may_be FROM mcp.sign_ins;
SELECT status AS oldest FROM mcp.finish_sign_in(repeat('s', 43) || 1, repeat('b', 43));
RESET mcp.max_sign_ins;
DELETE FROM mcp.sign_ins;
-- The audit log tells the story.
SELECT event, reason FROM mcp.audit_log WHERE client_id = :'dynamic' ORDER BY id;
-- Clean-up: what is over goes, redeemed codes an hour later, clients when they were not used.
UPDATE mcp.authorization_codes SET expires_at = now() - interval '2 min';
UPDATE mcp.consents SET expires_at = now() - interval '1 hour' WHERE browser_hash = (SELECT browser_hash FROM mcp.consents LIMIT 1);
UPDATE mcp.clients SET expires_at = now() WHERE client_id = :'newest';
INSERT INTO mcp.used_request_states SELECT sha256(ends::bytea), now() + ends::interval FROM unnest('{-1 s,1 h}'::text[]) AS ends;
SELECT count(*) AS consents FROM mcp.consents;
SELECT mcp.cleanup_expired_sessions(0);
SELECT count(*) AS consents FROM mcp.consents;
SELECT mcp.cleanup_expired_sessions(older_than => '1 day');
SELECT count(*) FILTER (WHERE redeemed_at IS NULL) AS not_redeemed, count(*) > 0 AS redeemed FROM mcp.authorization_codes;
SELECT count(*) AS consents FROM mcp.consents;
SELECT count(*) AS newest FROM mcp.clients WHERE client_id = :'newest';
SELECT expires_at > now() AS holds FROM mcp.used_request_states;
UPDATE mcp.authorization_codes SET redeemed_at = now() - interval '61 min';
SELECT mcp.cleanup_expired_sessions(older_than => '1 day');
SELECT count(*) AS redeemed FROM mcp.authorization_codes;
-- Removing a client ends its sessions, and the codes that are under way.
EXECUTE issue('grace', '{mcp}', true, NULL, :'browser_4') \gset
SELECT count(*) AS live FROM mcp.sessions WHERE client_id = :'dynamic' AND revoked_at IS NULL;
SELECT mcp.remove_client(:'dynamic') AS ended, mcp.remove_client(:'dynamic') IS NULL AS gone, mcp.remove_client(NULL) IS NULL AS nobody;
SELECT count(*) AS live FROM mcp.sessions WHERE client_id = :'dynamic' AND revoked_at IS NULL;
SELECT count(*) AS codes FROM mcp.authorization_codes WHERE client_id = :'dynamic';
SELECT count(*) AS consents FROM mcp.consents WHERE client_id = :'dynamic';
DELETE FROM mcp.used_request_states;
