-- Tries the sessions: signs two users in, looks at what each of them sees, ends sessions, cleans up. Prints one line with
-- a ✓ for each thing that works, and fails with all the lines where one does not.
--
-- Needs a superuser and what setup_all_mcp_sessions.sql sets up. Leaves nothing behind: everything is rolled back. Runs as
-- often as you like: with psql -f, or pasted into an SQL editor.

DO $$
DECLARE
    report  text[] := '{}';
    alice   record;
    bob     record;
    seen    record;
    message text;
BEGIN
    BEGIN
        SELECT * INTO alice FROM mcp.create_session('https://idp.example', 'alice', '{"access_token": "a"}');
        SELECT * INTO bob FROM mcp.create_session('https://idp.example', 'bob', '{"access_token": "b"}');
        report := report || (CASE WHEN alice.access_token LIKE 'mcps\_%' AND alice.user_id <> bob.user_id
                                  THEN '✓ ' ELSE '✗ ' END || 'create: two users are signed in');

        SELECT * INTO seen FROM mcp.lookup_session(alice.access_token);
        report := report || (CASE WHEN seen.status = 'active' AND seen.session_id = alice.session_id
                                  THEN '✓ ' ELSE '✗ ' END || 'look up: the token is known, the session active');
        report := report || (CASE WHEN (SELECT l.status FROM mcp.lookup_session(left(alice.access_token, -1) || '_') AS l) = 'unknown'
                                  THEN '✓ ' ELSE '✗ ' END || 'look up: a token with a letter changed is unknown');

        report := report || (CASE WHEN mcp.session_oauth_data(alice.access_token) = '{"access_token": "a"}'
                                  THEN '✓ ' ELSE '✗ ' END || 'OAuth tokens: they open for the holder of the session');
        report := report || (CASE WHEN NOT EXISTS (SELECT FROM mcp.sealed_tokens AS t
                                                    WHERE t.session_id = alice.session_id
                                                      AND position('access_token'::bytea IN t.ciphertext) > 0)
                                  THEN '✓ ' ELSE '✗ ' END || 'OAuth tokens: the table holds ciphertext');

        report := report || (CASE WHEN mcp.set_session_state(alice.access_token, '{"step": 1}', 0) = 1
                                   AND mcp.set_session_state(alice.access_token, '{"step": 2}', 0) IS NULL
                                  THEN '✓ ' ELSE '✗ ' END || 'state: it is saved, and a stale write is refused');

        report := report || (CASE WHEN mcp.touch_session(alice.access_token) >= alice.expires_at
                                  THEN '✓ ' ELSE '✗ ' END || 'touch: use keeps the session alive');

        -- Acting as Alice, with the rights of a tool.
        PERFORM mcp.enter(alice.access_token);
        SET LOCAL ROLE mcp_user;
        report := report || (CASE WHEN mcp.user_id() = alice.user_id
                                  THEN '✓ ' ELSE '✗ ' END || 'identity: Alice is signed in');
        report := report || (CASE WHEN (SELECT array_agg(s.session_id) FROM mcp_sessions AS s) = ARRAY[alice.session_id]
                                  THEN '✓ ' ELSE '✗ ' END || 'row level security: Alice sees her session and no other');
        report := report || (CASE WHEN verify_session_ownership(alice.session_id::text)
                                   AND NOT verify_session_ownership(bob.session_id::text)
                                   AND NOT verify_session_ownership('no session')
                                  THEN '✓ ' ELSE '✗ ' END || 'ownership: hers is hers, Bob''s is not');
        BEGIN
            PERFORM cleanup_expired_mcp_sessions();
            report := report || '✗ privileges: users cannot clean up'::text;
        EXCEPTION WHEN insufficient_privilege THEN
            report := report || '✓ privileges: users cannot clean up'::text;
        END;
        RESET ROLE;

        PERFORM mcp.revoke_session(bob.access_token);
        report := report || (CASE WHEN (SELECT l.status FROM mcp.lookup_session(bob.access_token) AS l) = 'revoked'
                                   AND NOT EXISTS (SELECT FROM active_mcp_sessions AS s WHERE s.session_id = bob.session_id)
                                  THEN '✓ ' ELSE '✗ ' END || 'revoke: Bob''s session has ended');

        UPDATE mcp.sessions AS s SET expires_at = now() - interval '1 second' WHERE s.session_id = alice.session_id;
        report := report || (CASE WHEN (SELECT l.status FROM mcp.lookup_session(alice.access_token) AS l) = 'expired'
                                  THEN '✓ ' ELSE '✗ ' END || 'expiry: a session past its time lets nobody in');
        PERFORM cleanup_expired_mcp_sessions();
        report := report || (CASE WHEN NOT EXISTS (SELECT FROM mcp_sessions AS s WHERE s.session_id = alice.session_id)
                                  THEN '✓ ' ELSE '✗ ' END || 'clean-up: it is gone');
        -- Takes back everything since the inner BEGIN.
        RAISE EXCEPTION USING ERRCODE = 'MCPOK', MESSAGE = array_to_string(report, E'\n');
    EXCEPTION
        WHEN SQLSTATE 'MCPOK' THEN
            GET STACKED DIAGNOSTICS message = MESSAGE_TEXT;
    END;
    IF message LIKE '%✗%' THEN
        RAISE EXCEPTION USING MESSAGE = E'sessions do not work as they should:\n' || message,
                              HINT = 'Run setup_all_mcp_sessions.sql as a superuser; mcp.doctor() looks for causes.';
    END IF;
    PERFORM set_config('session_operations.report', message, false);
END
$$;

SELECT line AS "mcp_sessions" FROM string_to_table(current_setting('session_operations.report'), E'\n') AS line;
