-- What `make bench` measures on, beside the suite's fixture.

-- Ours.
CREATE SCHEMA bench;
CREATE TABLE bench.tokens (n bigint PRIMARY KEY, session_id uuid NOT NULL, user_id uuid NOT NULL, token text NOT NULL);

CREATE FUNCTION bench.make_sessions(first bigint, last bigint) RETURNS void
    LANGUAGE sql AS $$
    INSERT INTO bench.tokens
    SELECT n, s.session_id, s.user_id, s.access_token
      FROM generate_series(first, last) AS n,
           LATERAL mcp.create_session(
               issuer => 'https://idp.bench', subject => 'user_' || n,
               -- A kilobyte that does not compress, as tokens do not.
               oauth_data => jsonb_build_object('access_token',
                   (SELECT string_agg(encode(sha256((n || '.' || part)::bytea), 'base64'), '') FROM generate_series(1, 22) AS part)),
               claims => jsonb_build_object('email', 'user_' || n || '@example.com', 'name', 'User ' || n)) AS s
$$;

CREATE TABLE bench.notes (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    owner uuid NOT NULL,
    body text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);
ALTER TABLE bench.notes ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON bench.notes USING (owner = mcp.user_id());

-- No index: every row is looked at.
CREATE TABLE bench.rows (owner uuid NOT NULL, value integer NOT NULL);

GRANT USAGE ON SCHEMA bench TO app_login, mcp_user;
GRANT SELECT ON bench.notes, bench.rows TO app_login, mcp_user;

CREATE FUNCTION bench.list_notes() RETURNS TABLE (id bigint, body text)
    LANGUAGE sql STABLE AS 'SELECT id, body FROM bench.notes WHERE owner = mcp.user_id() ORDER BY id LIMIT 10';
SELECT mcp.expose_tool('bench.list_notes()', name => 'bench_notes');

-- Theirs: the table, the policies and the helper that the replaced set-up made, and Supabase's auth.uid() as it ships.
CREATE ROLE replaced_login LOGIN NOINHERIT;
CREATE ROLE authenticated NOLOGIN;
GRANT authenticated TO replaced_login;
CREATE SCHEMA auth;
CREATE FUNCTION auth.uid() RETURNS uuid
    LANGUAGE sql STABLE AS $$
    SELECT coalesce(nullif(current_setting('request.jwt.claim.sub', true), ''),
                    (nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'sub'))::uuid
$$;
CREATE SCHEMA replaced;
CREATE TABLE replaced.mcp_sessions (
    session_id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    user_id uuid NOT NULL,
    oauth_data jsonb NOT NULL,
    mcp_state jsonb NOT NULL DEFAULT '{}',
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz NOT NULL DEFAULT now() + interval '24 hours'
);
CREATE INDEX ON replaced.mcp_sessions (user_id);
CREATE INDEX ON replaced.mcp_sessions (expires_at);
CREATE INDEX ON replaced.mcp_sessions (created_at);
ALTER TABLE replaced.mcp_sessions ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON replaced.mcp_sessions TO authenticated USING (auth.uid() = user_id);
CREATE TABLE replaced.notes (LIKE bench.notes INCLUDING ALL);
ALTER TABLE replaced.notes ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON replaced.notes TO authenticated USING (auth.uid() = owner);
GRANT USAGE ON SCHEMA auth, replaced TO authenticated;
GRANT SELECT, UPDATE ON replaced.mcp_sessions TO authenticated;
GRANT SELECT ON replaced.notes TO authenticated;

CREATE PROCEDURE bench.fill()
    LANGUAGE sql AS $$
    INSERT INTO bench.notes (owner, body) SELECT user_id, 'note ' || n FROM bench.tokens;
    INSERT INTO bench.rows SELECT user_id, n FROM bench.tokens;
    INSERT INTO replaced.notes (owner, body) SELECT owner, body FROM bench.notes;
    INSERT INTO replaced.mcp_sessions (session_id, user_id, oauth_data)
        SELECT session_id, user_id, jsonb_build_object('access_token',
                   (SELECT string_agg(encode(sha256((n || '.' || part)::bytea), 'base64'), '') FROM generate_series(1, 22) AS part))
          FROM bench.tokens;
    CREATE INDEX ON bench.notes (owner);
    CREATE INDEX ON replaced.notes (owner);
$$;
