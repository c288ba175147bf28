-- The armed identity as an application meets it: one transaction, one identity, no way to forge or exchange it.
\set VERBOSITY sqlstate
\set QUIET on
SET ROLE regress_auth;
SELECT access_token AS alice FROM mcp.create_session('https://idp.example', 'alice', NULL, client_id => 'editor',
    scopes => '{notes:read,notes:write}', claims => '{"email": "alice@example.com"}') \gset
SELECT access_token AS bob FROM mcp.create_session('https://idp.example', 'bob', NULL) \gset
RESET ROLE;
SET SESSION AUTHORIZATION regress_app;
-- Nobody is armed outside a transaction that entered.
SELECT mcp.user_id(), mcp.session_id(), mcp.issuer(), mcp.subject(), mcp.client_id(), mcp.scopes(), mcp.claims(),
       mcp.has_scope('notes:read');
SELECT mcp.require_user();
SELECT mcp.state();
SELECT mcp.set_state('{}');
SELECT mcp.end_session(gen_random_uuid());
SELECT mcp.end_other_sessions();
SELECT * FROM mcp.my_sessions;
SELECT status FROM mcp.enter(:'alice');
SELECT mcp.user_id();
-- A user_id depends on issuer and subject alone.
BEGIN;
SELECT status, user_id FROM mcp.enter(:'alice');
SELECT mcp.user_id(), mcp.user_id() = mcp.require_user() AS same, mcp.issuer(), mcp.subject(), mcp.client_id(),
       mcp.scopes(), mcp.claims(), mcp.has_scope('notes:read'), mcp.has_scope('admin');
SET LOCAL ROLE mcp_user;
INSERT INTO regress.notes (body) VALUES ('of alice');
INSERT INTO regress.notes (owner, body) VALUES (gen_random_uuid(), 'forged');
ROLLBACK;
BEGIN;
SELECT status FROM mcp.enter(:'alice');
SET LOCAL ROLE mcp_user;
INSERT INTO regress.notes (body) VALUES ('of alice');
SELECT client_id, scopes, current FROM mcp.my_sessions;
COMMIT;
SELECT mcp.user_id();
BEGIN;
SELECT status FROM mcp.enter(:'bob');
SET LOCAL ROLE mcp_user;
SELECT * FROM regress.notes;
SELECT count(*) FROM mcp.audit_log WHERE user_id <> mcp.user_id();
COMMIT;
-- Once per transaction: neither the same nor another token.
BEGIN;
SELECT status FROM mcp.enter(:'alice');
SELECT status FROM mcp.enter(:'alice');
ROLLBACK;
BEGIN;
SELECT status FROM mcp.enter(:'alice');
SELECT status FROM mcp.enter(:'bob');
ROLLBACK;
BEGIN;
SELECT status FROM mcp.enter(:'alice');
SELECT status FROM mcp.enter('mcps_nonsense');
ROLLBACK;
-- A token that does not hold arms nobody, and leaves the transaction as it was.
BEGIN;
SELECT status FROM mcp.enter('mcps_nonsense');
SELECT mcp.user_id();
SELECT status FROM mcp.enter(:'alice');
SELECT mcp.subject();
COMMIT;
-- ROLLBACK TO across the arming poisons the transaction; inside it, it does nothing.
BEGIN;
SAVEPOINT s;
SELECT status FROM mcp.enter(:'alice');
ROLLBACK TO s;
SELECT mcp.user_id();
ROLLBACK TO s;
SELECT mcp.has_scope('x');
ROLLBACK TO s;
SELECT status FROM mcp.enter(:'bob');
ROLLBACK;
SELECT mcp.user_id();
BEGIN;
SAVEPOINT s;
ROLLBACK TO s;
SELECT mcp.user_id();
COMMIT;
BEGIN;
SAVEPOINT outer_one;
SAVEPOINT inner_one;
SELECT status FROM mcp.enter(:'alice');
RELEASE inner_one;
SELECT mcp.subject();
SAVEPOINT later;
SELECT 1 / 0;
ROLLBACK TO later;
SELECT mcp.subject();
ROLLBACK TO outer_one;
SELECT mcp.subject();
ROLLBACK;
-- Settings change nothing, and ours cannot be invented.
BEGIN;
SELECT status FROM mcp.enter(:'alice');
SET LOCAL "request.jwt.claims" = '{"sub": "bob"}';
SELECT mcp.subject(), mcp.claims();
SET LOCAL mcp.user_id = 'bob';
ROLLBACK;
-- The mirror for policies written with auth.uid(), off by default.
BEGIN;
SELECT status FROM mcp.enter(:'alice');
SELECT coalesce(current_setting('request.jwt.claims', true), '') = '' AS unset;
COMMIT;
RESET SESSION AUTHORIZATION;
SET mcp.supabase_claims = on;
BEGIN;
SELECT status FROM mcp.enter(:'alice');
SELECT current_setting('request.jwt.claims')::jsonb - 'session_id' AS mirrored,
       (current_setting('request.jwt.claims')::jsonb ->> 'sub')::uuid = mcp.user_id() AS same_user;
COMMIT;
SELECT coalesce(current_setting('request.jwt.claims', true), '') = '' AS unset;
-- What a provider claims is not what these policies take for ours, whatever it calls it.
SELECT access_token AS mallory FROM mcp.create_session('https://idp.example', 'mallory', NULL,
    claims => '{"role": "service_role", "sub": "0", "iss": "https://other.example", "session_id": "0", "email": "m@example.com"}') \gset
BEGIN;
SELECT status FROM mcp.enter(:'mallory');
SELECT claims ->> 'role' AS role, claims ->> 'iss' AS iss, claims ->> 'email' AS email,
       claims ->> 'sub' = mcp.user_id()::text AS sub, claims ->> 'session_id' = mcp.session_id()::text AS session_id
  FROM (SELECT current_setting('request.jwt.claims')::jsonb) AS mirrored(claims);
COMMIT;
RESET mcp.supabase_claims;
-- Two-phase commit would carry work across sessions.
BEGIN;
SELECT status FROM mcp.enter(:'alice');
PREPARE TRANSACTION 'regress';
-- A deferred trigger at COMMIT still acts for the user.
CREATE FUNCTION regress.stamp() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN RAISE NOTICE '% at commit', mcp.subject(); RETURN NULL; END $$;
CREATE TABLE regress.deferred (x int);
CREATE CONSTRAINT TRIGGER stamp AFTER INSERT ON regress.deferred DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION regress.stamp();
SET client_min_messages = notice;
\set VERBOSITY terse
BEGIN;
SELECT status FROM mcp.enter(:'alice');
INSERT INTO regress.deferred VALUES (1);
COMMIT;
SET client_min_messages = warning;
-- Serial and parallel plans see the same rows: the readers stay in the leader.
BEGIN;
SET LOCAL parallel_setup_cost = 0;
SET LOCAL parallel_tuple_cost = 0;
SET LOCAL min_parallel_table_scan_size = 0;
SELECT status FROM mcp.enter(:'alice');
SELECT count(*) FROM regress.notes WHERE owner = mcp.user_id();
SELECT count(*) FROM regress.notes WHERE owner = (SELECT mcp.user_id());
COMMIT;
