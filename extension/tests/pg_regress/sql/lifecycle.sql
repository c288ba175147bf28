-- A session from creation to clean-up. Tokens are random, so what is shown is what must be true of them.
\set QUIET on
SET ROLE regress_auth;
SELECT session_id, user_id, access_token, refresh_token, expires_at, absolute_expires_at
  FROM mcp.create_session('https://idp.example', 'carol', '{"access_token": "upstream-secret", "n": 1.50}',
      client_id => 'editor', resource => 'https://host/mcp/v1', scopes => '{a,b,a}', with_refresh => true) \gset
SELECT :'access_token' ~ '^mcps_[0-9A-Za-z]{22}_[0-9A-Za-z]{50}$' AS access,
       :'refresh_token' ~ '^mcpr_[0-9A-Za-z]{22}_[0-9A-Za-z]{50}$' AS refresh,
       :'expires_at'::timestamptz - now() BETWEEN '59 min' AND '1 hour' AS access_ends_in_an_hour,
       :'absolute_expires_at'::timestamptz - now() > '29 days 23 hours' AS ends_in_a_month;
SELECT status, session_id = :'session_id' AS id, issuer, subject, client_id, resource, scopes, claims, state, state_version
  FROM mcp.lookup_session(:'access_token', 'https://host/mcp/v1');
-- One verdict for what does not exist and for a wrong secret; who is behind a session is told only to whom it lets in.
SELECT * FROM mcp.lookup_session('mcps_' || substr(:'access_token', 6, 30) || reverse(substr(:'access_token', 36)));
SELECT status, session_id IS NOT NULL AS named, user_id, subject, claims FROM mcp.lookup_session(:'access_token', 'https://other');
SELECT status FROM mcp.lookup_session(:'refresh_token');
SELECT status FROM mcp.lookup_session(NULL);
SELECT status FROM mcp.lookup_session(:'access_token' || ' ');
-- Sealed data comes back as it was, and only to the token.
SELECT mcp.session_oauth_data(:'access_token');
SELECT mcp.set_session_oauth_data(:'access_token', '{"access_token": "next"}'), mcp.session_oauth_data(:'access_token');
SELECT mcp.set_session_oauth_data(:'refresh_token', '{}'), mcp.session_oauth_data(:'refresh_token') IS NULL AS closed;
SELECT mcp.set_session_oauth_data(:'access_token', NULL), mcp.session_oauth_data(:'access_token') IS NULL AS gone;
-- State: whoever saw the version wins.
SELECT mcp.set_session_state(:'access_token', '{"workspace": 1}', 0);
SELECT mcp.set_session_state(:'access_token', '{"workspace": 2}', 0) IS NULL AS somebody_else_won;
SELECT mcp.set_session_state(:'access_token', '{"workspace": 3}');
SELECT state, state_version FROM mcp.lookup_session(:'access_token');
-- A touch that gains nothing writes nothing; one that gains something slides.
SELECT mcp.touch_session(:'access_token') - now() > '23:59' AS unchanged;
RESET ROLE;
SELECT xmin AS before FROM mcp.sessions WHERE session_id = :'session_id' \gset
SET ROLE regress_auth;
SELECT mcp.touch_session(:'access_token') IS NOT NULL AS touched;
RESET ROLE;
SELECT xmin = :'before' AS not_written FROM mcp.sessions WHERE session_id = :'session_id';
UPDATE mcp.sessions SET expires_at = expires_at - interval '1 hour' WHERE session_id = :'session_id';
SET ROLE regress_auth;
SELECT mcp.touch_session(:'access_token') - now() BETWEEN '23:59' AND '24:01' AS slid;
RESET ROLE;
SELECT updated_at > created_at AS used_later FROM mcp.sessions WHERE session_id = :'session_id';
SET ROLE regress_auth;
-- Never beyond the absolute limit.
RESET ROLE;
UPDATE mcp.sessions SET absolute_expires_at = now() + interval '3 hours', expires_at = now() + interval '1 hour'
 WHERE session_id = :'session_id';
SET ROLE regress_auth;
SELECT mcp.touch_session(:'access_token') - now() BETWEEN '2:59' AND '3:01' AS at_the_limit;
RESET ROLE;
SELECT xmin AS before FROM mcp.sessions WHERE session_id = :'session_id' \gset
SET ROLE regress_auth;
SELECT mcp.touch_session(:'access_token') IS NOT NULL AS touched;
RESET ROLE;
SELECT xmin = :'before' AS not_written FROM mcp.sessions WHERE session_id = :'session_id';
SET ROLE regress_auth;
-- Refresh: the successor is the same for whoever comes within the grace, and the first token still counts once.
SELECT status, access_token AS access_2, refresh_token AS refresh_2, expires_at FROM mcp.refresh_session(:'refresh_token', 'editor') \gset
SELECT :'expires_at'::timestamptz - now() BETWEEN '59 min' AND '1 hour' AS access_ends_in_an_hour;
SELECT status, access_token = :'access_2' AS same_access, refresh_token = :'refresh_2' AS same_refresh
  FROM mcp.refresh_session(:'refresh_token', 'editor');
SELECT status FROM mcp.refresh_session(:'refresh_2', 'stranger');
SELECT status FROM mcp.refresh_session(:'refresh_2', 'editor', '{a,root}');
SELECT status FROM mcp.refresh_session(:'access_2', 'editor');
SELECT status FROM mcp.refresh_session(NULL);
SELECT status FROM mcp.lookup_session(:'access_token') UNION ALL SELECT status FROM mcp.lookup_session(:'access_2');
SELECT status, access_token AS access_3, refresh_token AS refresh_3 FROM mcp.refresh_session(:'refresh_2', 'editor', '{b}') \gset
SELECT status, scopes FROM mcp.lookup_session(:'access_3');
SELECT status, refresh_token = :'refresh_3' AS same FROM mcp.refresh_session(:'refresh_token', 'editor');
RESET ROLE;
SELECT count(*) AS live FROM mcp.refresh_tokens WHERE session_id = :'session_id' AND replaced_at IS NULL;
SELECT count(*) AS wrapped FROM mcp.wrapped_keys WHERE session_id = :'session_id';
-- A refresh counts as use, gives the access token its time anew, and neither lives longer than the session.
BEGIN;
UPDATE mcp.sessions SET updated_at = now() - interval '1 h', access_expires_at = now() + interval '1 min', expires_at = now() + interval '2 h',
       absolute_expires_at = now() + interval '1 day' WHERE session_id = :'session_id';
SELECT status, expires_at - now() BETWEEN '59 min' AND '61 min' AS in_an_hour, refresh_token AS refresh_4 FROM mcp.refresh_session(:'refresh_3', 'editor') \gset
SELECT :'status', :'in_an_hour';
SELECT updated_at - now() > '-1 min' AS used, access_expires_at - now() BETWEEN '59 min' AND '61 min' AS in_an_hour,
       expires_at - now() BETWEEN '23:59' AND '24:01' AS slid FROM mcp.sessions WHERE session_id = :'session_id';
UPDATE mcp.sessions SET absolute_expires_at = now() + interval '10 min', expires_at = now() + interval '5 min' WHERE session_id = :'session_id';
SELECT status, expires_at - now() BETWEEN '9 min' AND '11 min' AS at_the_limit FROM mcp.refresh_session(:'refresh_4', 'editor');
SELECT status, expires_at - now() BETWEEN '9 min' AND '11 min' AS at_the_limit FROM mcp.refresh_session(:'refresh_4', 'editor');
ROLLBACK;
-- After the grace it has been copied by somebody.
UPDATE mcp.refresh_tokens SET replaced_at = replaced_at - interval '61 s' WHERE session_id = :'session_id';
SET ROLE regress_auth;
SELECT status FROM mcp.refresh_session(:'refresh_2', 'editor');
SELECT status, session_id IS NOT NULL AS named FROM mcp.lookup_session(:'access_3');
SELECT status FROM mcp.refresh_session(:'refresh_3', 'editor');
SELECT mcp.touch_session(:'access_3') IS NULL AS touch, mcp.set_session_state(:'access_3', '{}') IS NULL AS state,
       mcp.session_oauth_data(:'access_3') IS NULL AS data, mcp.revoke_session(:'access_3') AS revoked_again;
RESET ROLE;
SELECT count(*) AS wrapped FROM mcp.wrapped_keys WHERE session_id = :'session_id';
SELECT event, client_id, actor, reason FROM mcp.audit_log WHERE session_id = :'session_id' ORDER BY id;
-- The three ways to end sessions.
SET ROLE regress_auth;
SELECT user_id, session_id AS one, access_token AS token_1 FROM mcp.create_session('https://idp.example', 'dave', NULL) \gset
SELECT session_id AS two, access_token AS token_2, refresh_token AS refresh_of_two
  FROM mcp.create_session('https://idp.example', 'dave', NULL, with_refresh => true) \gset
SELECT session_id AS three, access_token AS token_3 FROM mcp.create_session('https://idp.example', 'dave', NULL) \gset
SELECT session_id AS four FROM mcp.create_session('https://idp.example', 'dave', NULL) \gset
SELECT mcp.revoke_session(:'token_1'), mcp.revoke_session(:'token_1') AS again, mcp.revoke_session('nonsense') AS nonsense;
SELECT mcp.revoke_session(:'refresh_of_two');
SELECT mcp.revoke_session_by_id(:'four', 'left the company'), mcp.revoke_session_by_id(NULL), mcp.revoke_session_by_id(gen_random_uuid());
SELECT session_id AS five FROM mcp.create_session('https://idp.example', 'dave', NULL) \gset
SELECT mcp.revoke_user_sessions(:'user_id', :'three'), mcp.revoke_user_sessions(:'user_id', :'three') AS again,
       mcp.revoke_user_sessions(NULL) AS nobody;
SELECT status FROM mcp.lookup_session(:'token_3');
-- A user ends their own sessions and nobody else's.
SELECT session_id AS of_erin, access_token AS erin FROM mcp.create_session('https://idp.example', 'erin', NULL) \gset
SELECT session_id AS six FROM mcp.create_session('https://idp.example', 'dave', NULL) \gset
BEGIN;
SELECT status FROM mcp.enter(:'token_3');
SELECT mcp.end_session(:'of_erin') AS of_erin, mcp.end_session(:'six') AS own, mcp.end_session(NULL) AS nothing;
SELECT mcp.end_other_sessions();
COMMIT;
SELECT status FROM mcp.lookup_session(:'erin');
-- The limit of sessions per user ends the one used longest ago.
RESET ROLE;
SET mcp.max_sessions_per_user = 2;
SELECT access_token AS first FROM mcp.create_session('https://idp.example', 'frank', NULL) \gset
SELECT access_token AS second FROM mcp.create_session('https://idp.example', 'frank', NULL) \gset
SELECT access_token AS third FROM mcp.create_session('https://idp.example', 'frank', NULL) \gset
SELECT status FROM mcp.lookup_session(:'first') UNION ALL SELECT status FROM mcp.lookup_session(:'second')
UNION ALL SELECT status FROM mcp.lookup_session(:'third');
BEGIN;
UPDATE mcp.sessions SET updated_at = now() - interval '1 min' WHERE session_id = (SELECT session_id FROM mcp.lookup_session(:'third'));
SELECT count(*) AS made FROM mcp.create_session('https://idp.example', 'frank', NULL);
SELECT status FROM mcp.lookup_session(:'second') UNION ALL SELECT status FROM mcp.lookup_session(:'third');
ROLLBACK;
-- One that has ended takes no room.
SELECT access_token AS first FROM mcp.create_session('https://idp.example', 'gwen', NULL) \gset
SELECT access_token AS second FROM mcp.create_session('https://idp.example', 'gwen', NULL) \gset
SELECT mcp.revoke_session(:'second');
SELECT access_token AS third, session_id AS of_third FROM mcp.create_session('https://idp.example', 'gwen', NULL) \gset
UPDATE mcp.sessions SET expires_at = now() WHERE session_id = :'of_third';
SELECT access_token AS fourth FROM mcp.create_session('https://idp.example', 'gwen', NULL) \gset
SELECT status FROM mcp.lookup_session(:'first') UNION ALL SELECT status FROM mcp.lookup_session(:'fourth');
DELETE FROM mcp.sessions WHERE session_id = :'of_third';
RESET mcp.max_sessions_per_user;
-- Idleness and clean-up. A revoked session stays until it would have ended.
UPDATE mcp.sessions SET expires_at = now() - interval '1 h' WHERE subject = 'erin';
SELECT status, session_id = :'of_erin' AS named, user_id FROM mcp.enter(:'erin');
SELECT mcp.touch_session(:'erin') IS NULL AS not_revived;
SELECT mcp.revoke_session(:'erin') AS was_live;
SELECT expired_sessions, revoked_sessions > 0 AS revoked FROM mcp.session_stats();
SELECT mcp.cleanup_expired_sessions(older_than => '2 h') AS too_young, mcp.cleanup_expired_sessions(0) AS none,
       mcp.cleanup_expired_sessions(1) AS one, mcp.cleanup_expired_sessions() AS no_more;
SELECT status FROM mcp.lookup_session(:'erin');
SELECT count(*) FROM mcp.sessions WHERE subject = 'dave' AND revoked_at IS NOT NULL;
-- What ended first goes first, of a batch too.
UPDATE mcp.sessions SET expires_at = now() - interval '1 h' WHERE session_id = :'one';
UPDATE mcp.sessions SET expires_at = now() - interval '2 h' WHERE session_id = :'two';
SELECT mcp.cleanup_expired_sessions(1);
SELECT session_id = :'one' AS later, mcp.cleanup_expired_sessions(1) FROM mcp.sessions WHERE session_id IN (:'one', :'two');
-- What was sealed is not in clear anywhere.
SELECT count(*) FROM mcp.sealed_tokens WHERE encode(ciphertext, 'escape') LIKE '%secret%';
-- Sign-ins under way.
SET ROLE regress_auth;
SELECT repeat('l', 43) AS state, repeat('b', 43) AS browser \gset
SELECT ends - now() BETWEEN '9 min' AND '11 min' AS ends FROM mcp.begin_sign_in(:'state', :'browser', '{"nonce": "n"}') AS ends;
SELECT * FROM mcp.finish_sign_in(:'state', 'another browser');
SELECT * FROM mcp.finish_sign_in(:'state', NULL);
SELECT * FROM mcp.finish_sign_in('another state', :'browser');
SELECT * FROM mcp.finish_sign_in(:'state', :'browser');
SELECT * FROM mcp.finish_sign_in(:'state', :'browser');
SELECT mcp.begin_sign_in(:'state', :'browser', '{}', '1 min') IS NOT NULL AS begun;
RESET ROLE;
UPDATE mcp.sign_ins SET expires_at = now();
SELECT * FROM mcp.finish_sign_in(:'state', :'browser');
SELECT mcp.cleanup_expired_sessions();
SELECT count(*) FROM mcp.sign_ins;
-- A look-up beside parallel workers takes a snapshot of its own.
SELECT access_token AS token FROM mcp.create_session('https://idp.example', 'mallory', NULL) \gset
CREATE TABLE regress.many AS SELECT n FROM generate_series(1, 1000) AS n;
ALTER TABLE regress.many SET (parallel_workers = 2);
SET parallel_setup_cost = 0;
SET parallel_tuple_cost = 0;
SELECT (SELECT status FROM mcp.lookup_session(:'token' || left(m.body, 0))) AS status, m.count
  FROM (SELECT count(*), min(n)::text AS body FROM regress.many) AS m;
RESET parallel_setup_cost;
RESET parallel_tuple_cost;
DROP TABLE regress.many;
-- Scopes are of every character that RFC 6749 allows.
SELECT access_token AS scoped FROM mcp.create_session('https://idp', 'scoped', NULL, scopes => '{!,#,"[","]",~}') \gset
SELECT scopes FROM mcp.lookup_session(:'scoped');
DELETE FROM mcp.sessions WHERE subject = 'scoped';
-- A month counts as 30 days, and ten years as 3650.
SELECT count(*) FROM mcp.create_session('https://idp', 'long', NULL, ttl => '121 months 20 days', max_lifetime => '121 months 20 days');
SELECT mcp.create_session('https://idp', 'long', NULL, ttl => '1 h', max_lifetime => '121 months 20 days 1 microsecond');
DELETE FROM mcp.sessions WHERE subject = 'long';
