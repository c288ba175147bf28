-- What every test database holds beside the extension: logins, an application's table under row level
-- security, and tools upon it, all owned by a role that is nothing but their owner.

GRANT mcp_auth TO mcp_frontend_auth;
GRANT mcp_exec TO mcp_frontend_exec;

-- An application that arms an identity itself and queries as its own login.
GRANT USAGE ON SCHEMA mcp TO app_login;
GRANT EXECUTE ON FUNCTION mcp.enter(text, text) TO app_login;

CREATE SCHEMA app AUTHORIZATION app_owner;
GRANT USAGE ON SCHEMA app TO mcp_user, app_login;
SET ROLE app_owner;

CREATE TABLE app.notes (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    owner uuid NOT NULL DEFAULT mcp.user_id(),
    body text NOT NULL
);
CREATE INDEX ON app.notes (owner);
ALTER TABLE app.notes ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON app.notes USING (owner = mcp.user_id()) WITH CHECK (owner = mcp.user_id());
GRANT SELECT, INSERT, UPDATE, DELETE ON app.notes TO mcp_user, app_login;

CREATE FUNCTION app.add_note(body text) RETURNS bigint
    LANGUAGE sql AS 'INSERT INTO app.notes (body) VALUES (body) RETURNING id';
COMMENT ON FUNCTION app.add_note IS 'Adds a note.';

CREATE FUNCTION app.list_notes() RETURNS TABLE (id bigint, body text)
    LANGUAGE sql STABLE AS 'SELECT id, body FROM app.notes ORDER BY id';
COMMENT ON FUNCTION app.list_notes IS 'Lists the notes of the caller.';

CREATE FUNCTION app.whoami() RETURNS jsonb
    LANGUAGE sql STABLE AS $$
    SELECT jsonb_build_object(
        'user_id', mcp.user_id(), 'session_id', mcp.session_id(), 'issuer', mcp.issuer(), 'subject', mcp.subject(),
        'client_id', mcp.client_id(), 'scopes', mcp.scopes(), 'claims', mcp.claims(), 'role', current_user)
$$;

-- Arguments of every kind come back as they arrived.
CREATE FUNCTION app.echo(
    number integer DEFAULT NULL, big bigint DEFAULT NULL, amount numeric DEFAULT NULL, word text DEFAULT NULL,
    flag boolean DEFAULT NULL, id uuid DEFAULT NULL, at timestamptz DEFAULT NULL, list text[] DEFAULT NULL,
    document jsonb DEFAULT NULL
) RETURNS jsonb
    LANGUAGE sql STABLE AS $$
    SELECT jsonb_strip_nulls(jsonb_build_object('number', number, 'big', big, 'amount', amount, 'word', word,
        'flag', flag, 'id', id, 'at', at, 'list', list, 'document', document))
$$;

CREATE FUNCTION app.required(number integer, word text) RETURNS text
    LANGUAGE sql STABLE AS $$ SELECT word || number $$;

CREATE FUNCTION app.fail(message text) RETURNS text
    LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '%', message USING DETAIL = 'internal-detail', HINT = 'internal-hint', ERRCODE = 'P0077';
END
$$;

-- A tool as careless as can be: it runs whatever the caller says, as prompt injection would have it. What it
-- returns is taken after the statement, so that an attack that changed who runs shows itself.
CREATE FUNCTION app.run(statement text) RETURNS jsonb
    LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE statement;
    RETURN jsonb_build_object('user_id', mcp.user_id(), 'role', current_user,
                              'notes', (SELECT coalesce(jsonb_agg(body ORDER BY id), '[]') FROM app.notes));
END
$$;

-- The same within a subtransaction, going on after the error.
CREATE FUNCTION app.try(statement text) RETURNS jsonb
    LANGUAGE plpgsql AS $$
DECLARE
    failure text;
BEGIN
    BEGIN
        EXECUTE statement;
    EXCEPTION WHEN OTHERS THEN
        failure := SQLSTATE;
    END;
    RETURN jsonb_build_object('user_id', mcp.user_id(), 'role', current_user, 'sqlstate', failure,
                              'notes', (SELECT coalesce(jsonb_agg(body ORDER BY id), '[]') FROM app.notes));
END
$$;

CREATE FUNCTION app.sleep(seconds double precision) RETURNS text
    LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(seconds); RETURN 'awake'; END $$;

CREATE FUNCTION app.privileged() RETURNS text
    LANGUAGE sql STABLE AS $$ SELECT 'privileged'::text $$;

RESET ROLE;

SELECT mcp.expose_tool('app.add_note(text)', name => 'add_note');
SELECT mcp.expose_tool('app.list_notes()', name => 'list_notes');
SELECT mcp.expose_tool('app.whoami()', name => 'whoami');
SELECT mcp.expose_tool('app.echo(integer, bigint, numeric, text, boolean, uuid, timestamptz, text[], jsonb)', name => 'echo');
SELECT mcp.expose_tool('app.required(integer, text)', name => 'required');
SELECT mcp.expose_tool('app.fail(text)', name => 'fail');
SELECT mcp.expose_tool('app.run(text)', name => 'run');
SELECT mcp.expose_tool('app.try(text)', name => 'try');
SELECT mcp.expose_tool('app.sleep(double precision)', name => 'sleep', timeout => '10 s');
SELECT mcp.expose_tool('app.sleep(double precision)', name => 'short_sleep', timeout => '200 ms');
SELECT mcp.expose_tool('app.privileged()', name => 'privileged', scope => 'notes:admin');
