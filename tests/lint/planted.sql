-- One fault for each lint of catalog.sql, so that none of them has gone blind.
CREATE SCHEMA planted;
GRANT USAGE ON SCHEMA planted TO mcp_user;
SET search_path = planted;

CREATE TABLE parent (id integer PRIMARY KEY);
CREATE TABLE child (parent integer REFERENCES parent, token text, routine regprocedure);
CREATE INDEX ON child (token);
CREATE INDEX ON child (token);
ALTER TABLE child ENABLE ROW LEVEL SECURITY;
GRANT SELECT ON child TO mcp_user;

CREATE TABLE open (id integer PRIMARY KEY, owner text);
CREATE POLICY by_setting ON open USING (owner = current_setting('app.user_metadata'));
CREATE POLICY everybody ON open USING (true);

CREATE VIEW seen AS SELECT * FROM child;
CREATE MATERIALIZED VIEW copied AS SELECT * FROM child;
GRANT SELECT ON copied TO mcp_user;

CREATE FUNCTION definer() RETURNS integer LANGUAGE sql SECURITY DEFINER AS 'SELECT 1';
CREATE FUNCTION careless() RETURNS integer LANGUAGE plpgsql LEAKPROOF SET search_path = pg_catalog, pg_temp AS
'DECLARE unused integer; BEGIN RETURN 1; END';
GRANT EXECUTE ON FUNCTION mcp.create_session TO PUBLIC;
