-- The doctor: every fault is planted, found, and gone after the statement that the finding names. Faults outside the
-- catalogs (versions, files, the worker) have tests elsewhere.
\set ON_ERROR_ROLLBACK off
\pset format unaligned
\pset tuples_only on
\pset fieldsep ' | '
CREATE EXTENSION IF NOT EXISTS mcp_sessions;

-- What the extension made, and what the server brings, is as the doctor wants it.
SELECT * FROM mcp.doctor()
 WHERE check_name IN ('function_grants', 'table_grants', 'own_policies', 'own_tables', 'role_attributes',
                      'role_memberships', 'owner_members', 'versions', 'own_routines', 'own_views', 'changes',
                      'rls_disabled', 'rls_without_policy', 'rls_not_forced', 'rls_escapes', 'policy_nobody', 'policy_setting',
                      'owned_objects', 'definer_views', 'definer_functions', 'definer_search_path',
                      'outside_connections', 'deferred_constraints', 'schema_create', 'exec_memberships');

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
-- In the doctor's order, which a join keeps or not.
CREATE VIEW clinic.found AS
SELECT d.severity, d.check_name, d.finding, d.remedy FROM mcp.doctor() WITH ORDINALITY AS d
 WHERE NOT EXISTS (SELECT FROM clinic.before AS b WHERE b.check_name = d.check_name AND b.finding = d.finding)
 ORDER BY d.ordinality;
\set found 'SELECT severity, check_name, finding, remedy FROM clinic.found;'
\set mend 'SELECT remedy FROM clinic.found'
-- Not there before.
:found

-- Roles.
BEGIN;
ALTER ROLE mcp_owner SUPERUSER;
ALTER ROLE mcp_auth CREATEDB;
ALTER ROLE mcp_exec CREATEROLE;
ALTER ROLE mcp_user BYPASSRLS;
ALTER ROLE mcp_monitor REPLICATION;
:found
:mend \gexec
:found
ALTER ROLE mcp_user LOGIN;
ALTER ROLE mcp_exec SUPERUSER BYPASSRLS;
:found
ROLLBACK;

-- Logins, one of them by way of another role.
BEGIN;
ALTER DATABASE :DBNAME SET log_parameter_max_length = 0;
CREATE ROLE team NOLOGIN IN ROLE mcp_auth;
CREATE ROLE above LOGIN SUPERUSER IN ROLE mcp_auth;
CREATE ROLE exempt LOGIN BYPASSRLS IN ROLE team;
CREATE ROLE maker LOGIN CREATEROLE IN ROLE mcp_exec;
CREATE ROLE copier LOGIN REPLICATION IN ROLE mcp_auth;
CREATE ROLE other LOGIN SUPERUSER CREATEROLE;
CREATE ROLE app LOGIN CREATEROLE;
GRANT EXECUTE ON FUNCTION mcp.enter TO app;
:found
:mend \gexec
:found
ROLLBACK;

BEGIN;
CREATE ROLE app_admin NOLOGIN;
CREATE ROLE team NOLOGIN IN ROLE mcp_exec;
CREATE ROLE frontend LOGIN;
ALTER ROLE frontend SET log_parameter_max_length = 0;
GRANT mcp_exec, mcp_auth, app_admin, team TO frontend;
:found
:mend \gexec
:found
ROLLBACK;

-- Whoever may do everything is no login of a frontend, and need not be looked at.
BEGIN;
CREATE ROLE chief LOGIN SUPERUSER;
DO $$ BEGIN EXECUTE format('GRANT mcp_auth, mcp_exec, mcp_owner TO %I', (SELECT rolname FROM pg_roles WHERE oid = 10)); END $$;
:found
ROLLBACK;

BEGIN;
CREATE ROLE staff NOLOGIN;
GRANT mcp_auth, staff TO mcp_exec;
CREATE ROLE above NOLOGIN SUPERUSER;
CREATE ROLE exempt NOLOGIN BYPASSRLS;
CREATE ROLE maker NOLOGIN CREATEROLE;
CREATE ROLE copier NOLOGIN REPLICATION;
GRANT pg_read_all_data, staff, above, exempt, maker, copier TO mcp_user;
CREATE ROLE curious NOLOGIN;
GRANT mcp_owner TO curious;
:found
:mend \gexec
:found
ROLLBACK;

BEGIN;
CREATE TABLE clinic.own (x integer);
ALTER TABLE clinic.own OWNER TO mcp_user;
CREATE TABLE clinic.executed (x integer);
ALTER TABLE clinic.executed OWNER TO mcp_exec;
SELECT severity, check_name, finding FROM clinic.found;
:mend \gexec
SELECT severity, check_name, finding FROM clinic.found;
ROLLBACK;

-- Rights on the extension's own objects.
BEGIN;
GRANT EXECUTE ON FUNCTION mcp.create_session TO PUBLIC;
GRANT EXECUTE ON FUNCTION mcp.revoke_user_sessions TO mcp_user;
GRANT EXECUTE ON FUNCTION mcp.revoke_session TO mcp_exec;
GRANT EXECUTE ON FUNCTION mcp.touch_session TO mcp_monitor;
GRANT EXECUTE ON FUNCTION mcp.complete TO mcp_auth;
GRANT SELECT ON mcp.sessions TO PUBLIC;
GRANT INSERT, DELETE ON mcp.audit_log TO mcp_auth;
GRANT SELECT ON mcp.session_statistics TO mcp_user;
GRANT USAGE ON SEQUENCE mcp.audit_log_id_seq TO PUBLIC;
GRANT SELECT (verifier), UPDATE (user_id) ON mcp.sessions TO mcp_user;
GRANT SELECT (user_id) ON mcp.sessions TO mcp_exec;
-- Their own sessions are for everybody to see, and nothing else that goes by the same names.
GRANT SELECT (session_id) ON mcp.refresh_tokens TO mcp_user;
-- What somebody added to the extension is everybody's, as functions are at first.
CREATE FUNCTION clinic.added() RETURNS integer LANGUAGE sql AS 'SELECT 1';
ALTER EXTENSION mcp_sessions ADD FUNCTION clinic.added();
-- What depends on it is not of it.
CREATE FUNCTION clinic.beside() RETURNS integer LANGUAGE sql AS 'SELECT 1';
ALTER FUNCTION clinic.beside() DEPENDS ON EXTENSION mcp_sessions;
-- Whose they are, an operator's own role, and Supabase's as its set-up has it.
GRANT SELECT (user_id) ON mcp.sessions TO mcp_owner;
GRANT SELECT ON mcp.sessions TO regress_owner;
CREATE ROLE anon;
CREATE ROLE authenticated;
CREATE ROLE service_role;
GRANT SELECT (session_id) ON mcp.sessions TO anon, authenticated, service_role;
:found
:mend \gexec
:found
ROLLBACK;

BEGIN;
ALTER TABLE mcp.sessions NO FORCE ROW LEVEL SECURITY;
ALTER TABLE mcp.audit_log DISABLE ROW LEVEL SECURITY;
ALTER TABLE mcp.consents OWNER TO regress_owner;
:found
:mend \gexec
:found
ROLLBACK;

BEGIN;
CREATE POLICY anybody ON mcp.sessions FOR SELECT USING (true);
:found
:mend \gexec
:found
ALTER POLICY owner ON mcp.clients TO mcp_owner, mcp_user;
ALTER POLICY owner ON mcp.consents USING (user_id IS NOT NULL);
ALTER POLICY owner ON mcp.sign_ins WITH CHECK (false);
DROP POLICY owner ON mcp.tools;
ALTER POLICY own_sessions ON mcp.sessions USING (true);
DROP POLICY own_audit_log ON mcp.audit_log;
CREATE POLICY own_audit_log ON mcp.audit_log TO mcp_user, mcp_auth USING (user_id = (SELECT mcp.user_id()));
ALTER POLICY monitor ON mcp.audit_log TO mcp_monitor, mcp_user;
:found
:mend \gexec
:found
-- The names of the extension's on another table, for too few people, to no effect.
CREATE POLICY own_sessions ON mcp.refresh_tokens FOR SELECT USING (true);
ALTER POLICY own_sessions ON mcp.sessions TO mcp_auth;
DROP POLICY monitor ON mcp.audit_log;
CREATE POLICY monitor ON mcp.audit_log AS RESTRICTIVE FOR SELECT TO mcp_monitor USING (true);
:found
:mend \gexec
:found
-- People of further roles see their own, as Supabase's do.
ALTER POLICY own_sessions ON mcp.sessions TO mcp_user, mcp_auth, mcp_monitor;
-- And may see less of it.
CREATE POLICY recent ON mcp.sessions AS RESTRICTIVE TO mcp_monitor USING (created_at > now() - interval '1 day');
:found
ROLLBACK;

-- What runs as mcp_owner.
BEGIN;
ALTER FUNCTION mcp.end_other_sessions() RESET search_path;
ALTER FUNCTION mcp.end_session(uuid) SET search_path = public;
ALTER FUNCTION mcp.revoke_session(text) OWNER TO regress_owner;
ALTER VIEW mcp.my_sessions SET (security_invoker = off);
ALTER EVENT TRIGGER mcp_changes DISABLE;
:found
:mend \gexec
:found
-- In other words.
ALTER VIEW mcp.my_sessions SET (security_invoker = on);
ALTER VIEW mcp.session_statistics SET (security_invoker = Yes);
:found
-- Not of the extension, but for where it is.
CREATE TABLE mcp.of_somebody (x integer);
GRANT SELECT, UPDATE (x) ON mcp.of_somebody TO mcp_auth;
CREATE POLICY theirs ON mcp.of_somebody USING (true);
CREATE VIEW mcp.of_others AS SELECT 1 AS x;
CREATE FUNCTION mcp.of_nobody() RETURNS integer LANGUAGE sql AS 'SELECT 1';
:found
ROLLBACK;

-- What leads elsewhere through a group.
BEGIN;
CREATE ROLE runner LOGIN;
CREATE ROLE runners ROLE runner IN ROLE mcp_exec, mcp_auth;
CREATE ROLE clerks ROLE runner IN ROLE mcp_auth;
CREATE ROLE readers IN ROLE pg_read_all_data;
ALTER ROLE mcp_user INHERIT;
GRANT readers TO mcp_user;
SELECT severity, check_name, finding, remedy FROM clinic.found WHERE check_name IN ('exec_memberships', 'role_memberships');
:mend WHERE check_name IN ('exec_memberships', 'role_memberships') \gexec
SELECT severity, check_name, finding FROM clinic.found WHERE check_name IN ('exec_memberships', 'role_memberships');
-- Of what no tool runs as, the first step says it all.
ALTER ROLE mcp_auth INHERIT;
GRANT readers TO mcp_auth;
GRANT pg_read_all_data TO readers;
SELECT severity, check_name, finding, remedy FROM clinic.found WHERE finding LIKE 'Role mcp_auth is a member%';
ROLLBACK;

-- What another than the superuser granted. The statement names whom from 16 on.
BEGIN;
CREATE ROLE granter;
GRANT pg_read_all_data TO granter WITH ADMIN OPTION;
SET LOCAL ROLE granter;
GRANT pg_read_all_data TO mcp_user;
RESET ROLE;
SELECT severity, check_name, finding FROM clinic.found;
DO $$ BEGIN EXECUTE (SELECT remedy FROM clinic.found); END $$;
:found
ROLLBACK;

-- Where tools could leave something behind.
BEGIN;
GRANT CREATE ON SCHEMA public TO PUBLIC;
GRANT CREATE ON SCHEMA clinic TO mcp_user;
-- What a role is a member of is its own where it inherits.
ALTER ROLE mcp_user INHERIT;
CREATE ROLE staff NOLOGIN;
GRANT staff TO mcp_user;
GRANT CREATE ON SCHEMA clinic TO staff;
GRANT CREATE ON DATABASE :DBNAME TO mcp_user;
GRANT TEMPORARY ON DATABASE :DBNAME TO PUBLIC;
GRANT EXECUTE ON FUNCTION pg_advisory_lock(bigint) TO mcp_user;
GRANT EXECUTE ON FUNCTION lo_import(text) TO PUBLIC;
GRANT EXECUTE ON FUNCTION lo_export(oid, text) TO PUBLIC;
-- The same names, and nothing of the server's behind them.
CREATE FUNCTION clinic.lo_import(text) RETURNS integer LANGUAGE sql AS 'SELECT 1';
CREATE FUNCTION clinic.pg_advisory_lock(bigint) RETURNS integer LANGUAGE sql AS 'SELECT 1';
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

BEGIN;
CREATE EXTENSION dblink SCHEMA clinic;
-- A statement that names functions takes no procedure.
CREATE PROCEDURE clinic.procedure() LANGUAGE sql AS 'SELECT 1';
ALTER EXTENSION dblink ADD PROCEDURE clinic.procedure();
CREATE FUNCTION clinic.beside() RETURNS integer LANGUAGE sql AS 'SELECT 1';
ALTER FUNCTION clinic.beside() DEPENDS ON EXTENSION dblink;
SELECT severity, check_name, finding, remedy ~ '^REVOKE EXECUTE ON FUNCTION .*clinic\.dblink_connect\(text\),.* FROM PUBLIC;$',
       remedy ~ 'procedure|beside'
  FROM clinic.found;
UPDATE pg_extension SET extname = 'http' WHERE extname = 'dblink';
SELECT severity, check_name, finding FROM clinic.found;
UPDATE pg_extension SET extname = 'pg_net' WHERE extname = 'http';
SELECT severity, check_name, finding FROM clinic.found;
DO $$ BEGIN EXECUTE (SELECT remedy FROM clinic.found); END $$;
:found
ROLLBACK;

-- Row level security.
BEGIN;
CREATE TABLE clinic.notes (id bigint, user_id uuid, body text);
GRANT SELECT, INSERT ON clinic.notes TO mcp_user;
CREATE TABLE clinic.countries (code text);
GRANT SELECT (code) ON clinic.countries TO PUBLIC;
CREATE TABLE clinic.drafts (body text);
GRANT UPDATE (body) ON clinic.drafts TO mcp_user;
CREATE TABLE clinic.parts (id bigint) PARTITION BY RANGE (id);
GRANT DELETE ON clinic.parts TO mcp_user;
:found
:mend \gexec
-- Nobody would see a row: that is found in its turn.
:found
:mend \gexec
:found
ROLLBACK;

BEGIN;
CREATE TABLE clinic.notes (id bigint, owner uuid, body text);
ALTER TABLE clinic.notes ENABLE ROW LEVEL SECURITY;
GRANT SELECT ON clinic.notes TO mcp_user;
-- Its owner is no user of ours, whatever the column is called, and what is like a user's id is none.
CREATE TABLE clinic.letters (id uuid, owner text, body text);
CREATE TABLE clinic.drafts (id bigint, created_by uuid);
CREATE TABLE clinic.replies (id bigint, created_by uuid, owner_id uuid);
ALTER TABLE clinic.letters ENABLE ROW LEVEL SECURITY;
ALTER TABLE clinic.drafts ENABLE ROW LEVEL SECURITY;
ALTER TABLE clinic.replies ENABLE ROW LEVEL SECURITY;
GRANT SELECT ON clinic.letters, clinic.drafts, clinic.replies TO mcp_user;
CREATE TABLE clinic.mails (owner uuid, user_id uuid);
CREATE TABLE clinic.faxes (created_by uuid, owner_id uuid, owner uuid);
ALTER TABLE clinic.mails ENABLE ROW LEVEL SECURITY;
ALTER TABLE clinic.faxes ENABLE ROW LEVEL SECURITY;
GRANT SELECT ON clinic.mails, clinic.faxes TO mcp_user;
-- Out of reach, or without rows.
CREATE SCHEMA closed
    CREATE TABLE notes (id bigint);
GRANT SELECT ON closed.notes TO mcp_user;
CREATE SEQUENCE clinic.numbers;
GRANT SELECT ON clinic.numbers TO mcp_user;
-- A restrictive policy lets nobody see anything.
CREATE TABLE clinic.narrow (id bigint, owner uuid);
ALTER TABLE clinic.narrow ENABLE ROW LEVEL SECURITY;
CREATE POLICY few ON clinic.narrow AS RESTRICTIVE USING (id < 10);
GRANT SELECT ON clinic.narrow TO mcp_user;
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
CREATE POLICY tools ON clinic.notes TO mcp_user USING (true);
CREATE POLICY others ON clinic.notes TO regress_owner USING (true);
CREATE POLICY writers ON clinic.notes FOR INSERT WITH CHECK (true);
-- Who calls decides, if not the row.
CREATE POLICY admins ON clinic.notes USING (mcp.has_scope('admin'));
CREATE TABLE clinic.news (body text);
ALTER TABLE clinic.news ENABLE ROW LEVEL SECURITY;
GRANT SELECT ON clinic.news TO mcp_user;
CREATE POLICY everybody ON clinic.news USING (true);
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
CREATE POLICY sound_too ON clinic.notes FOR SELECT USING (owner = mcp.user_id() AND body IS NOT NULL);
CREATE POLICY published ON clinic.notes FOR SELECT USING (body IS NULL);
CREATE POLICY narrows ON clinic.notes AS RESTRICTIVE FOR SELECT USING (mcp.user_id() IS NULL OR id > 0);
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
CREATE FUNCTION clinic.who() RETURNS text LANGUAGE sql STABLE AS $$ SELECT current_setting('app.user') $$;
CREATE POLICY wrapped ON clinic.notes FOR SELECT USING (body = clinic.who());
CREATE POLICY mixed ON clinic.notes FOR SELECT USING (auth.uid() = owner AND current_setting('app.on') = 'on');
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
CREATE VIEW clinic.through WITH (security_barrier) AS SELECT * FROM clinic.notes;
CREATE VIEW clinic.through_two WITH (security_invoker = off) AS SELECT * FROM clinic.through;
CREATE VIEW clinic.sound WITH (security_invoker) AS SELECT * FROM clinic.notes;
CREATE MATERIALIZED VIEW clinic.copied AS SELECT * FROM clinic.notes;
GRANT SELECT ON clinic.through, clinic.through_two, clinic.sound, clinic.copied TO mcp_user;
CREATE TABLE clinic.plain (x integer);
CREATE VIEW clinic.harmless AS SELECT * FROM clinic.plain;
GRANT SELECT ON clinic.harmless TO mcp_user;
CREATE FUNCTION clinic.measure() RETURNS bigint LANGUAGE sql SECURITY DEFINER SET work_mem = '1MB' AS 'SELECT 1::bigint';
CREATE FUNCTION clinic.peek() RETURNS bigint LANGUAGE sql SECURITY DEFINER AS 'SELECT count(*) FROM clinic.notes';
RESET ROLE;
CREATE FUNCTION clinic.reign() RETURNS bigint LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
    AS 'SELECT count(*) FROM clinic.notes';
CREATE FUNCTION clinic.pass() RETURNS bigint LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
    AS 'SELECT count(*) FROM clinic.notes';
CREATE ROLE above NOLOGIN SUPERUSER NOBYPASSRLS;
CREATE ROLE exempt NOLOGIN BYPASSRLS;
ALTER FUNCTION clinic.reign() OWNER TO above;
ALTER FUNCTION clinic.pass() OWNER TO exempt;
-- Out of reach: in a closed schema, not to be called, and what nobody calls.
CREATE SCHEMA closed;
CREATE FUNCTION closed.reign() RETURNS bigint LANGUAGE sql SECURITY DEFINER AS 'SELECT count(*) FROM clinic.notes';
CREATE FUNCTION clinic.reserved() RETURNS bigint LANGUAGE sql SECURITY DEFINER AS 'SELECT count(*) FROM clinic.notes';
REVOKE EXECUTE ON FUNCTION clinic.reserved() FROM PUBLIC;
CREATE FUNCTION clinic.stamp() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS 'BEGIN RETURN new; END';
CREATE FUNCTION clinic.watch() RETURNS event_trigger LANGUAGE plpgsql SECURITY DEFINER AS 'BEGIN END';
:found
:mend \gexec
:found
ROLLBACK;

-- Tools inherit from the owner, who is held to nothing.
BEGIN;
CREATE ROLE app_owner NOLOGIN;
ALTER ROLE mcp_user INHERIT;
GRANT app_owner TO mcp_user;
CREATE TABLE clinic.notes (id bigint, owner uuid, body text);
ALTER TABLE clinic.notes OWNER TO app_owner;
ALTER TABLE clinic.notes ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON clinic.notes USING (owner = (SELECT mcp.user_id()));
CREATE TABLE clinic.parts (id bigint) PARTITION BY RANGE (id);
ALTER TABLE clinic.parts OWNER TO app_owner;
ALTER TABLE clinic.parts ENABLE ROW LEVEL SECURITY;
CREATE INDEX ON clinic.notes (owner);
CREATE SCHEMA ward AUTHORIZATION app_owner;
-- Of an owner whom tools cannot act as: what runs as the caller is none, nor is what runs as another.
CREATE ROLE stranger NOLOGIN;
CREATE ROLE third NOLOGIN;
CREATE TABLE clinic.theirs (id bigint);
ALTER TABLE clinic.theirs OWNER TO stranger;
ALTER TABLE clinic.theirs ENABLE ROW LEVEL SECURITY;
CREATE FUNCTION clinic.by_caller() RETURNS integer LANGUAGE sql AS 'SELECT 1';
ALTER FUNCTION clinic.by_caller() OWNER TO stranger;
CREATE FUNCTION clinic.by_third() RETURNS integer LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS 'SELECT 1';
ALTER FUNCTION clinic.by_third() OWNER TO third;
-- Whom no force holds.
CREATE ROLE exempt NOLOGIN BYPASSRLS;
CREATE TABLE clinic.passed (id bigint);
ALTER TABLE clinic.passed OWNER TO exempt;
ALTER TABLE clinic.passed ENABLE ROW LEVEL SECURITY;
CREATE FUNCTION clinic.by_exempt() RETURNS integer LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS 'SELECT 1';
ALTER FUNCTION clinic.by_exempt() OWNER TO exempt;
CREATE ROLE above NOLOGIN SUPERUSER NOBYPASSRLS;
CREATE TABLE clinic.ruled (id bigint);
ALTER TABLE clinic.ruled OWNER TO above;
ALTER TABLE clinic.ruled ENABLE ROW LEVEL SECURITY;
CREATE FUNCTION clinic.by_ruler() RETURNS integer LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS 'SELECT 1';
ALTER FUNCTION clinic.by_ruler() OWNER TO above;
:found
:mend \gexec
:found
ROLLBACK;

-- An oid is unique in its catalog alone: what another has under the same number is another thing.
BEGIN;
CREATE EXTENSION dblink SCHEMA clinic;
CREATE TABLE clinic.notes (id bigint, owner uuid);
ALTER TABLE clinic.notes ENABLE ROW LEVEL SECURITY;
GRANT SELECT ON clinic.notes TO mcp_user;
CREATE POLICY everybody ON clinic.notes USING (true);
CREATE TABLE clinic.open (x integer);
GRANT SELECT ON clinic.open TO mcp_user;
CREATE VIEW clinic.harmless AS SELECT * FROM clinic.open;
CREATE VIEW clinic.harmless_too AS SELECT * FROM clinic.harmless;
GRANT SELECT ON clinic.harmless_too TO mcp_user;
CREATE ROLE exempt NOLOGIN BYPASSRLS;
CREATE FUNCTION clinic.peek() RETURNS text LANGUAGE sql SECURITY DEFINER AS $$ SELECT current_setting('a.b') $$;
ALTER FUNCTION clinic.peek() OWNER TO exempt;
CREATE FUNCTION clinic.pry() RETURNS integer LANGUAGE sql AS 'SELECT 1';
CREATE TABLE clinic.planted AS
SELECT c.relname::text AS name, c.oid FROM pg_class AS c WHERE c.relnamespace = 'clinic'::regnamespace
UNION ALL SELECT w.rulename || ' of ' || w.ev_class::regclass, w.oid FROM pg_rewrite AS w WHERE w.ev_class IN ('clinic.harmless'::regclass, 'clinic.harmless_too'::regclass)
UNION ALL SELECT 'everybody', p.oid FROM pg_policy AS p WHERE p.polrelid = 'clinic.notes'::regclass
UNION ALL SELECT p.proname, p.oid FROM pg_proc AS p WHERE p.proname IN ('peek', 'pry')
UNION ALL SELECT e.extname, e.oid FROM pg_extension AS e;
SELECT severity, check_name, finding, remedy ~ 'peek|pry' AS ours FROM clinic.found;
SET LOCAL allow_system_table_mods = on;
INSERT INTO pg_depend (classid, objid, objsubid, refclassid, refobjid, refobjsubid, deptype)
SELECT v.class, o.oid, 0, v.ref_class, r.oid, 0, v.kind
  FROM (VALUES ('pg_proc'::regclass, 'notes', 'pg_extension'::regclass, 'mcp_sessions', 'e'::"char"),
               ('pg_proc', 'open', 'pg_extension', 'mcp_sessions', 'e'),
               ('pg_class', 'peek', 'pg_extension', 'mcp_sessions', 'e'),
               ('pg_proc', 'pry', 'pg_namespace', 'mcp_sessions', 'e'),
               ('pg_class', 'peek', 'pg_extension', 'dblink', 'e'),
               ('pg_proc', 'pry', 'pg_namespace', 'dblink', 'e'),
               ('pg_class', 'everybody', 'pg_proc', 'peek', 'n'),
               ('pg_policy', 'everybody', 'pg_namespace', 'peek', 'n'),
               ('pg_proc', '_RETURN of clinic.harmless', 'pg_class', 'notes', 'n'),
               ('pg_rewrite', '_RETURN of clinic.harmless', 'pg_proc', 'notes', 'n'),
               ('pg_proc', '_RETURN of clinic.harmless_too', 'pg_class', 'notes', 'n'),
               ('pg_rewrite', '_RETURN of clinic.harmless_too', 'pg_proc', 'notes', 'n'))
           AS v (class, object, ref_class, ref_object, kind)
  JOIN clinic.planted AS o ON o.name = v.object JOIN clinic.planted AS r ON r.name = v.ref_object;
INSERT INTO pg_shdepend (dbid, classid, objid, objsubid, refclassid, refobjid, deptype)
SELECT v.db, 'pg_class'::regclass, 'clinic.notes'::regclass, 0, v.class, 'mcp_user'::regrole, 'o'
  FROM (VALUES (1::oid, 'pg_authid'::regclass), ((SELECT d.oid FROM pg_database AS d WHERE d.datname = current_database()), 'pg_tablespace'))
           AS v (db, class);
SELECT severity, check_name, finding, remedy ~ 'peek|pry' AS ours FROM clinic.found;
ROLLBACK;

BEGIN;
CREATE TABLE clinic.parents (id bigint PRIMARY KEY);
CREATE TABLE clinic.notes (owner uuid, parent bigint CONSTRAINT later REFERENCES clinic.parents DEFERRABLE INITIALLY DEFERRED);
ALTER TABLE clinic.notes ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON clinic.notes USING (owner = (SELECT mcp.user_id()));
GRANT INSERT ON clinic.notes TO mcp_user;
-- Nothing of it waits where nothing is written.
CREATE TABLE clinic.read (owner uuid, parent bigint CONSTRAINT later_too REFERENCES clinic.parents DEFERRABLE INITIALLY DEFERRED);
ALTER TABLE clinic.read ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON clinic.read USING (owner = (SELECT mcp.user_id()));
GRANT SELECT ON clinic.read TO mcp_user;
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
ALTER ROLE frontend SET log_parameter_max_length = 0;
ALTER ROLE frontend SET log_parameter_max_length_on_error = -1;
ALTER ROLE frontend SET synchronous_commit = 'OFF';
ALTER ROLE frontend IN DATABASE :DBNAME SET log_parameter_max_length = 4096;
ALTER DATABASE :DBNAME SET default_transaction_isolation = serializable;
:found
:mend \gexec
:found
ROLLBACK;

-- What makes the server log statements, each by itself; a setting for another database is none here.
BEGIN;
CREATE ROLE a LOGIN IN ROLE mcp_auth;
CREATE ROLE b LOGIN IN ROLE mcp_auth;
CREATE ROLE c LOGIN IN ROLE mcp_auth;
CREATE ROLE d LOGIN IN ROLE mcp_auth;
ALTER ROLE a SET log_statement = 'all';
ALTER ROLE b SET log_min_duration_sample = '1s';
ALTER ROLE c SET log_transaction_sample_rate = 0.5;
ALTER ROLE d SET log_statement = 'ddl';
ALTER ROLE d IN DATABASE postgres SET log_parameter_max_length = 0;
ALTER ROLE d SET default_transaction_isolation = 'Repeatable Read';
ALTER ROLE d SET log_parameter_max_length = '0.5kB';
ALTER ROLE d SET log_parameter_max_length_on_error = '0B';
SELECT severity, check_name, finding FROM clinic.found;
-- However it is spelled, and wherever it is set; who keeps no session need not wait.
ALTER DATABASE :DBNAME SET log_parameter_max_length = 0;
ALTER ROLE a SET synchronous_commit = 'False';
ALTER ROLE b SET synchronous_commit = 'no';
ALTER ROLE c SET synchronous_commit = '0';
ALTER ROLE d IN DATABASE :DBNAME SET synchronous_commit = 'off';
ALTER ROLE d IN DATABASE :DBNAME SET default_transaction_isolation = 'serializable';
CREATE ROLE e LOGIN IN ROLE mcp_exec;
ALTER ROLE e SET synchronous_commit = 'off';
CREATE ROLE f LOGIN IN ROLE mcp_auth;
ALTER ROLE f SET synchronous_commit = 'local';
SELECT finding, remedy FROM clinic.found WHERE check_name IN ('durability', 'isolation');
ROLLBACK;

-- What the server is started with, which libraries it has and what whoever asks has set cannot be planted: here the
-- catalog says so instead.
BEGIN;
CREATE ROLE frontend LOGIN IN ROLE mcp_auth;
ALTER ROLE frontend IN DATABASE :DBNAME SET auto_explain.log_verbose = on;
CREATE ROLE loud_frontend LOGIN IN ROLE mcp_auth;
-- Each of these keeps plans and parameters out by one setting.
CREATE ROLE quiet_frontend LOGIN IN ROLE mcp_auth;
ALTER ROLE quiet_frontend SET auto_explain.log_verbose = off;
ALTER ROLE quiet_frontend SET pgaudit.log_parameter = off;
CREATE ROLE fast_frontend LOGIN IN ROLE mcp_auth;
ALTER ROLE fast_frontend SET auto_explain.log_min_duration = -1;
CREATE TABLE clinic.settings AS
SELECT * FROM pg_settings WHERE name !~ '^(auto_explain|pgaudit)\.' AND name NOT IN ('fsync', 'full_page_writes');
INSERT INTO clinic.settings (name, setting, source, boot_val, reset_val) VALUES
    ('fsync', 'off', 'configuration file', 'on', 'off'), ('full_page_writes', 'off', 'configuration file', 'on', 'off'),
    ('auto_explain.log_parameter_max_length', '-1', 'default', '-1', '-1'),
    ('auto_explain.log_verbose', 'on', 'configuration file', 'off', 'on'),
    ('auto_explain.log_min_duration', '0', 'configuration file', '-1', '0'),
    ('pgaudit.log_parameter', 'on', 'configuration file', 'off', 'on');
UPDATE clinic.settings SET setting = '0', reset_val = '0', source = 'user' WHERE name = 'log_parameter_max_length';
SET LOCAL allow_system_table_mods = on;
CREATE OR REPLACE VIEW pg_catalog.pg_settings AS SELECT * FROM clinic.settings;
SELECT severity, check_name, finding, remedy FROM mcp.doctor()
 WHERE check_name = 'durability' OR check_name = 'logged_parameters' AND finding ~ 'frontend';
UPDATE clinic.settings SET setting = 'on', reset_val = 'on' WHERE name IN ('fsync', 'full_page_writes');
SELECT * FROM mcp.doctor() WHERE check_name = 'durability';
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
UPDATE mcp.audit_log SET at = clock_timestamp() + interval '2 hours';
CREATE OR REPLACE FUNCTION pg_catalog.pg_postmaster_start_time() RETURNS timestamptz LANGUAGE sql STABLE
    AS $$ SELECT now() + interval '3 hours' $$;
DISCARD PLANS;
SELECT severity, check_name, regexp_replace(finding, '( at| from) .*, and now is .*\. S', '\1 …, and now is …. S'), remedy
  FROM clinic.found;
ROLLBACK;

-- For whom it is.
SET ROLE mcp_monitor;
SELECT count(*) >= 0 FROM mcp.doctor();
SET ROLE mcp_user;
SELECT count(*) FROM mcp.doctor();
RESET ROLE;
DROP SCHEMA clinic CASCADE;
