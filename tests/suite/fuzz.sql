-- What the random statements of fuzz.rs find: tables of every kind of column under row level security, with a row of
-- Bob's for each of Alice's, and a tool that returns whatever a statement returns.

CREATE ROLE smith LOGIN IN ROLE mcp_user;
GRANT USAGE ON SCHEMA mcp TO smith;
GRANT EXECUTE ON FUNCTION mcp.enter(text, text) TO smith;

SET ROLE app_owner;

CREATE TABLE app.documents (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    owner uuid NOT NULL DEFAULT mcp.user_id(),
    note bigint REFERENCES app.notes,
    title text NOT NULL,
    content bytea NOT NULL,
    fields jsonb NOT NULL,
    tags text[] NOT NULL,
    amount numeric,
    weight double precision,
    day date,
    at timestamptz DEFAULT now(),
    span interval,
    valid tstzrange,
    place point,
    address inet,
    words tsvector GENERATED ALWAYS AS (to_tsvector('simple', title)) STORED
);
CREATE INDEX ON app.documents (owner);
CREATE INDEX ON app.documents (note);
CREATE INDEX ON app.documents USING gin (tags);
CREATE UNIQUE INDEX ON app.documents (title);
ALTER TABLE app.documents ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY own ON app.documents USING (owner = mcp.user_id()) WITH CHECK (owner = mcp.user_id());
GRANT SELECT, INSERT, UPDATE, DELETE ON app.documents TO mcp_user;

-- Partitions have policies of their own, or none: nobody reads them but through their parent.
CREATE TABLE app.readings (
    owner uuid NOT NULL DEFAULT mcp.user_id(),
    at timestamptz NOT NULL,
    what text NOT NULL,
    value double precision
) PARTITION BY RANGE (at);
CREATE TABLE app.readings_past PARTITION OF app.readings FOR VALUES FROM (MINVALUE) TO ('2026-01-01');
CREATE TABLE app.readings_present PARTITION OF app.readings FOR VALUES FROM ('2026-01-01') TO (MAXVALUE);
CREATE INDEX ON app.readings (owner);
ALTER TABLE app.readings ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY own ON app.readings USING (owner = mcp.user_id()) WITH CHECK (owner = mcp.user_id());
GRANT SELECT, INSERT, UPDATE, DELETE ON app.readings TO mcp_user;

CREATE VIEW app.titles WITH (security_invoker) AS
SELECT d.title, n.body, d.tags FROM app.documents AS d LEFT JOIN app.notes AS n ON n.id = d.note;
GRANT SELECT ON app.titles TO mcp_user;

CREATE FUNCTION app.query(statement text) RETURNS text
    LANGUAGE plpgsql AS $$
DECLARE
    found record;
    seen text := '';
BEGIN
    BEGIN
        FOR found IN EXECUTE statement LOOP
            seen := seen || found::text;
            EXIT WHEN length(seen) > 100000;
        END LOOP;
    EXCEPTION WHEN invalid_cursor_definition THEN
        EXECUTE statement;
    END;
    RETURN mcp.user_id() || ' ' || current_user || ' ' || seen;
END
$$;

RESET ROLE;

SELECT mcp.expose_tool('app.query(text)', name => 'query', timeout => '500 ms');
-- Nothing leaves anything behind for the next statement.
SELECT mcp.expose_tool('app.query(text)', name => 'query_free', timeout => '500 ms', restricted => false);
