-- The doctor: every fault is planted, found, and gone after the statement that the finding names. Faults outside the
-- catalogs (versions, files, the worker) have tests elsewhere.
\set ON_ERROR_ROLLBACK off
\pset format unaligned
\pset tuples_only on
\pset fieldsep ' | '
CREATE EXTENSION IF NOT EXISTS mcp_sessions;

-- What the extension made is as the doctor wants it.
SELECT * FROM mcp.doctor()
 WHERE check_name IN ('function_grants', 'table_grants', 'own_policies', 'own_tables', 'role_attributes',
                      'role_memberships', 'owner_members', 'versions');

-- A database as CREATE DATABASE leaves it is not yet as strict as can be; the remedies make it so.
SELECT severity, check_name, finding FROM mcp.doctor()
 WHERE check_name IN ('database_grants', 'large_objects', 'session_locks') ORDER BY check_name;
SELECT remedy FROM mcp.doctor() WHERE check_name IN ('database_grants', 'large_objects', 'session_locks') \gexec
SELECT severity, check_name, finding FROM mcp.doctor()
 WHERE check_name IN ('database_grants', 'large_objects', 'session_locks');

-- What is wrong from here on is what a test below plants.
CREATE SCHEMA clinic;
GRANT USAGE ON SCHEMA clinic TO mcp_user;
CREATE TABLE clinic.before AS SELECT d.check_name, d.finding FROM mcp.doctor() AS d;
CREATE VIEW clinic.found AS
SELECT * FROM mcp.doctor() AS d
 WHERE NOT EXISTS (SELECT FROM clinic.before AS b WHERE b.check_name = d.check_name AND b.finding = d.finding);
\set found 'SELECT severity, check_name, finding, remedy FROM clinic.found;'
\set mend 'SELECT remedy FROM clinic.found'
-- Not there before.
:found

-- Roles.
BEGIN;
ALTER ROLE mcp_user BYPASSRLS LOGIN;
ALTER ROLE mcp_owner SUPERUSER;
:found
:mend \gexec
:found
ROLLBACK;

BEGIN;
CREATE ROLE powerful LOGIN BYPASSRLS;
ALTER ROLE powerful SET log_parameter_max_length = 0;
GRANT mcp_auth TO powerful;
:found
:mend \gexec
:found
ROLLBACK;

BEGIN;
CREATE ROLE app_admin NOLOGIN;
CREATE ROLE frontend LOGIN;
ALTER ROLE frontend SET log_parameter_max_length = 0;
GRANT mcp_exec, mcp_auth, app_admin TO frontend;
:found
:mend \gexec
:found
ROLLBACK;

BEGIN;
GRANT mcp_auth TO mcp_exec;
GRANT pg_read_all_data TO mcp_user;
CREATE ROLE curious NOLOGIN;
GRANT mcp_owner TO curious;
:found
:mend \gexec
:found
ROLLBACK;

BEGIN;
CREATE TABLE clinic.own (x integer);
ALTER TABLE clinic.own OWNER TO mcp_user;
SELECT severity, check_name, finding FROM clinic.found;
:mend \gexec
SELECT severity, check_name, finding FROM clinic.found;
ROLLBACK;

-- Rights on the extension's own objects.
BEGIN;
GRANT EXECUTE ON FUNCTION mcp.create_session TO PUBLIC;
GRANT EXECUTE ON FUNCTION mcp.revoke_user_sessions TO mcp_user;
GRANT SELECT ON mcp.sessions TO PUBLIC;
GRANT INSERT, DELETE ON mcp.audit_log TO mcp_auth;
GRANT SELECT (verifier) ON mcp.sessions TO mcp_user;
:found
:mend \gexec
:found
ROLLBACK;

BEGIN;
ALTER TABLE mcp.sessions NO FORCE ROW LEVEL SECURITY;
ALTER TABLE mcp.audit_log DISABLE ROW LEVEL SECURITY;
:found
:mend \gexec
:found
ROLLBACK;

BEGIN;
CREATE POLICY anybody ON mcp.sessions FOR SELECT USING (true);
:found
:mend \gexec
:found
ROLLBACK;

-- Where tools could leave something behind.
BEGIN;
GRANT CREATE ON SCHEMA public TO PUBLIC;
GRANT CREATE ON SCHEMA clinic TO mcp_user;
GRANT CREATE ON DATABASE :DBNAME TO mcp_user;
GRANT TEMPORARY ON DATABASE :DBNAME TO PUBLIC;
GRANT EXECUTE ON FUNCTION pg_advisory_lock(bigint) TO mcp_user;
GRANT EXECUTE ON FUNCTION lo_import(text) TO PUBLIC;
:found
:mend \gexec
:found
ROLLBACK;

BEGIN;
CREATE FOREIGN DATA WRAPPER wrapper;
CREATE SERVER elsewhere FOREIGN DATA WRAPPER wrapper;
GRANT USAGE ON FOREIGN SERVER elsewhere TO PUBLIC;
CREATE FOREIGN TABLE clinic.remote (x integer) SERVER elsewhere;
GRANT SELECT ON clinic.remote TO mcp_user;
:found
:mend \gexec
:found
ROLLBACK;

-- Row level security.
BEGIN;
CREATE TABLE clinic.notes (id bigint, user_id uuid, body text);
GRANT SELECT, INSERT ON clinic.notes TO mcp_user;
CREATE TABLE clinic.countries (code text);
GRANT SELECT (code) ON clinic.countries TO PUBLIC;
:found
:mend \gexec
-- Nobody would see a country: that is found in its turn.
:found
:mend \gexec
:found
ROLLBACK;

BEGIN;
CREATE TABLE clinic.notes (id bigint, owner uuid, body text);
ALTER TABLE clinic.notes ENABLE ROW LEVEL SECURITY;
GRANT SELECT ON clinic.notes TO mcp_user;
:found
:mend \gexec
:found
ROLLBACK;

BEGIN;
CREATE TABLE clinic.notes (id bigint, owner uuid, body text);
ALTER TABLE clinic.notes ENABLE ROW LEVEL SECURITY;
GRANT ALL ON clinic.notes TO mcp_user;
CREATE POLICY own ON clinic.notes USING (owner = (SELECT mcp.user_id()));
CREATE POLICY never ON clinic.notes FOR DELETE USING (false);
CREATE POLICY only_that ON clinic.notes AS RESTRICTIVE USING (true);
-- TRUNCATE, REFERENCES and TRIGGER came with ALL.
:found
:mend \gexec
:found
CREATE POLICY everybody ON clinic.notes USING (true) WITH CHECK (1 = 1);
CREATE POLICY readers ON clinic.notes FOR SELECT USING (true);
:found
:mend \gexec
:found
ROLLBACK;

-- NULL is the identity of nobody: these hold for it.
BEGIN;
CREATE TABLE clinic.notes (id bigint, owner uuid, body text);
ALTER TABLE clinic.notes ENABLE ROW LEVEL SECURITY;
GRANT SELECT, INSERT ON clinic.notes TO mcp_user;
CREATE POLICY a ON clinic.notes FOR SELECT USING (owner IS NOT DISTINCT FROM mcp.user_id());
CREATE POLICY b ON clinic.notes FOR SELECT USING (NOT EXISTS (SELECT FROM clinic.before WHERE check_name = mcp.subject()));
CREATE POLICY c ON clinic.notes FOR INSERT WITH CHECK (coalesce(owner = mcp.user_id(), true));
CREATE POLICY d ON clinic.notes FOR SELECT USING (owner = mcp.user_id() OR mcp.user_id() IS NULL);
CREATE POLICY sound ON clinic.notes FOR SELECT USING (mcp.user_id() IS NOT NULL AND owner IS NOT DISTINCT FROM mcp.user_id());
:found
:mend \gexec
:found
ROLLBACK;

-- Settings are no identity.
BEGIN;
CREATE SCHEMA auth;
CREATE FUNCTION auth.uid() RETURNS uuid LANGUAGE sql STABLE
    AS $$ SELECT (current_setting('request.jwt.claims', true)::jsonb ->> 'sub')::uuid $$;
CREATE TABLE clinic.notes (id bigint, owner uuid, body text);
ALTER TABLE clinic.notes ENABLE ROW LEVEL SECURITY;
GRANT SELECT, INSERT ON clinic.notes TO mcp_user;
CREATE POLICY supabase ON clinic.notes USING ((SELECT auth.uid()) = owner) WITH CHECK (auth.uid() = owner);
CREATE POLICY handmade ON clinic.notes FOR SELECT USING (owner = current_setting('app.user')::uuid);
:found
:mend \gexec
:found
ROLLBACK;

-- Ways around it.
BEGIN;
CREATE ROLE app_owner NOLOGIN;
GRANT USAGE, CREATE ON SCHEMA clinic TO app_owner;
SET ROLE app_owner;
CREATE TABLE clinic.notes (id bigint, owner uuid, body text);
ALTER TABLE clinic.notes ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON clinic.notes USING (owner = (SELECT mcp.user_id()));
GRANT SELECT ON clinic.notes TO mcp_user;
CREATE VIEW clinic.through AS SELECT * FROM clinic.notes;
CREATE VIEW clinic.through_two AS SELECT * FROM clinic.through;
CREATE VIEW clinic.sound WITH (security_invoker) AS SELECT * FROM clinic.notes;
CREATE MATERIALIZED VIEW clinic.copied AS SELECT * FROM clinic.notes;
GRANT SELECT ON clinic.through, clinic.through_two, clinic.sound, clinic.copied TO mcp_user;
CREATE FUNCTION clinic.peek() RETURNS bigint LANGUAGE sql SECURITY DEFINER AS 'SELECT count(*) FROM clinic.notes';
RESET ROLE;
CREATE FUNCTION clinic.reign() RETURNS bigint LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
    AS 'SELECT count(*) FROM clinic.notes';
SELECT severity, check_name, finding, remedy FROM clinic.found WHERE check_name <> 'definer_functions';
SELECT severity, check_name, regexp_replace(finding, 'runs as .* and', 'runs as … and'), remedy
  FROM clinic.found WHERE check_name = 'definer_functions';
:mend \gexec
:found
ROLLBACK;

BEGIN;
CREATE TABLE clinic.parents (id bigint PRIMARY KEY);
CREATE TABLE clinic.notes (owner uuid, parent bigint CONSTRAINT later REFERENCES clinic.parents DEFERRABLE INITIALLY DEFERRED);
ALTER TABLE clinic.notes ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON clinic.notes USING (owner = (SELECT mcp.user_id()));
GRANT INSERT ON clinic.notes TO mcp_user;
:found
:mend \gexec
:found
ROLLBACK;

-- Secrets in the log, lost commits, transactions that do not wait.
BEGIN;
CREATE ROLE frontend LOGIN;
GRANT mcp_auth TO frontend;
:found
ALTER ROLE frontend SET log_min_duration_statement = 0;
ALTER ROLE frontend IN DATABASE :DBNAME SET log_parameter_max_length = 4096;
ALTER ROLE frontend SET log_parameter_max_length_on_error = -1;
ALTER ROLE frontend SET synchronous_commit = off;
ALTER DATABASE :DBNAME SET default_transaction_isolation = serializable;
:found
:mend \gexec
:found
ROLLBACK;

BEGIN;
CREATE ROLE app LOGIN;
GRANT EXECUTE ON FUNCTION mcp.enter(text, text) TO app;
:found
:mend \gexec
:found
ROLLBACK;

-- The objects and the library drift apart.
BEGIN;
UPDATE pg_extension SET extversion = '0.0.1' WHERE extname = 'mcp_sessions';
SELECT severity, check_name, regexp_replace(finding, '[0-9.]+\.$', '….'), remedy FROM clinic.found;
ROLLBACK;

-- A clock that went back shows in what is dated later than now.
BEGIN;
SELECT FROM mcp.create_session('https://idp.test', 'alice', '{}');
UPDATE mcp.sessions SET created_at = clock_timestamp() + interval '1 hour';
SELECT severity, check_name, regexp_replace(finding, 'at .*, and now is .*\. S', 'at …, and now is …. S'), remedy
  FROM clinic.found;
ROLLBACK;

-- For whom it is.
SET ROLE mcp_monitor;
SELECT count(*) >= 0 FROM mcp.doctor();
SET ROLE mcp_user;
SELECT count(*) FROM mcp.doctor();
RESET ROLE;
DROP SCHEMA clinic CASCADE;
