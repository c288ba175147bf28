-- Who may do what, and what is what; run when everything is there. Nothing of ours is for PUBLIC but the readers of the
-- identity, which tell nobody anything about anybody else.
REVOKE ALL ON ALL FUNCTIONS IN SCHEMA mcp FROM PUBLIC;
REVOKE ALL ON ALL TABLES IN SCHEMA mcp FROM PUBLIC;
GRANT USAGE ON SCHEMA mcp TO PUBLIC;

-- All of them, so that none which somebody adds runs as whoever made the extension. pg_dump and cautious people set
-- row_security off, and then the policies of our tables, which hold for their owner too, would raise.
DO $$
DECLARE
    definer pg_catalog.regprocedure;
BEGIN
    FOR definer IN SELECT p.oid FROM pg_catalog.pg_proc AS p
                    WHERE p.pronamespace OPERATOR(pg_catalog.=) 'mcp'::pg_catalog.regnamespace AND p.prosecdef LOOP
        EXECUTE pg_catalog.format('ALTER FUNCTION %s SET row_security = on', definer);
        EXECUTE pg_catalog.format('ALTER FUNCTION %s OWNER TO mcp_owner', definer);
    END LOOP;
END
$$;

GRANT EXECUTE ON FUNCTION
    mcp.user_id(), mcp.session_id(), mcp.issuer(), mcp.subject(), mcp.client_id(), mcp.scopes(), mcp.claims(),
    mcp.has_scope(text), mcp.require_user()
    TO PUBLIC;

GRANT EXECUTE ON FUNCTION mcp.create_session TO mcp_auth;
GRANT EXECUTE ON FUNCTION mcp.lookup_session TO mcp_auth;
GRANT EXECUTE ON FUNCTION mcp.enter TO mcp_auth;
GRANT EXECUTE ON FUNCTION mcp.touch_session TO mcp_auth;
GRANT EXECUTE ON FUNCTION mcp.session_oauth_data TO mcp_auth;
GRANT EXECUTE ON FUNCTION mcp.set_session_oauth_data TO mcp_auth;
GRANT EXECUTE ON FUNCTION mcp.set_session_state TO mcp_auth;
GRANT EXECUTE ON FUNCTION mcp.refresh_session TO mcp_auth;
GRANT EXECUTE ON FUNCTION mcp.revoke_session TO mcp_auth;
GRANT EXECUTE ON FUNCTION mcp.revoke_session_by_id TO mcp_auth;
GRANT EXECUTE ON FUNCTION mcp.revoke_user_sessions TO mcp_auth;
GRANT EXECUTE ON FUNCTION mcp.cleanup_expired_sessions TO mcp_auth;
GRANT EXECUTE ON FUNCTION mcp.session_stats TO mcp_auth, mcp_monitor;
GRANT EXECUTE ON FUNCTION mcp.begin_sign_in TO mcp_auth;
GRANT EXECUTE ON FUNCTION mcp.finish_sign_in TO mcp_auth;
-- register_client and remove_client are for operators: superusers, and whom they grant them to.
GRANT EXECUTE ON FUNCTION mcp.register_dynamic_client TO mcp_auth;
GRANT EXECUTE ON FUNCTION mcp.find_client TO mcp_auth;
GRANT EXECUTE ON FUNCTION mcp.issue_code TO mcp_auth;
GRANT EXECUTE ON FUNCTION mcp.redeem_code TO mcp_auth;
GRANT EXECUTE ON FUNCTION mcp.redeem_refresh_token TO mcp_auth;
GRANT EXECUTE ON FUNCTION mcp.revoke_token TO mcp_auth;
GRANT EXECUTE ON FUNCTION mcp.state TO mcp_user, mcp_auth;
GRANT EXECUTE ON FUNCTION mcp.set_state TO mcp_user, mcp_auth;
GRANT EXECUTE ON FUNCTION mcp.end_session TO mcp_user, mcp_auth;
GRANT EXECUTE ON FUNCTION mcp.end_other_sessions TO mcp_user, mcp_auth;
GRANT EXECUTE ON FUNCTION mcp.worker_status TO mcp_auth, mcp_monitor;
GRANT EXECUTE ON FUNCTION mcp.doctor TO mcp_auth, mcp_monitor;
GRANT EXECUTE ON FUNCTION mcp.version TO mcp_auth, mcp_exec, mcp_monitor;

-- A view checks the rights of whoever asks, so those who may see their sessions need the columns; never the verifiers.
GRANT SELECT (session_id, user_id, client_id, resource, scopes, metadata, created_at, updated_at, expires_at,
              absolute_expires_at, revoked_at)
    ON mcp.sessions TO mcp_user, mcp_auth;
GRANT SELECT ON mcp.my_sessions TO mcp_user, mcp_auth;
GRANT SELECT ON mcp.audit_log TO mcp_user, mcp_auth, mcp_monitor;
GRANT SELECT ON mcp.session_statistics TO mcp_monitor;

-- What psql's \df+ shows. The details stand with each function's source.
COMMENT ON FUNCTION mcp.create_session IS
    'Creates a session for (issuer, subject), seals oauth_data for its holder, and returns the only copy of its tokens';
COMMENT ON FUNCTION mcp.session_oauth_data IS 'Opens the sealed OAuth tokens; NULL unless the token is active';
COMMENT ON FUNCTION mcp.set_session_oauth_data IS 'Replaces the sealed OAuth tokens; false unless the token is active';
COMMENT ON FUNCTION mcp.touch_session IS 'Slides the expiry and returns it; NULL unless the token is active';
COMMENT ON FUNCTION mcp.set_session_state IS
    'Replaces the state and returns its new version; NULL when expected_version is not the current one';
COMMENT ON FUNCTION mcp.refresh_session IS
    'Exchanges a single-use refresh token: status active, unknown, expired, revoked, reused, wrong_client or invalid_scope';
COMMENT ON FUNCTION mcp.revoke_session IS 'Ends the session of an access or refresh token; true when it was live';
COMMENT ON FUNCTION mcp.revoke_session_by_id IS 'Ends any session by its public id; true when it was live';
COMMENT ON FUNCTION mcp.revoke_user_sessions IS 'Ends all sessions of a user but keep; returns how many were live';
COMMENT ON FUNCTION mcp.cleanup_expired_sessions IS
    'Deletes sessions that ended older_than ago, at most batch_size or all of them, and returns how many; of all else that is over, at most batch_size of each table';
COMMENT ON FUNCTION mcp.session_stats IS 'Counts sessions by what has become of them';
COMMENT ON FUNCTION mcp.begin_sign_in IS 'Keeps a sign-in under way, sealed under its state; returns until when';
COMMENT ON FUNCTION mcp.finish_sign_in IS
    'Gives a sign-in''s payload back, once: status ok, unknown, expired or wrong_browser';
COMMENT ON FUNCTION mcp.has_scope IS 'Whether the armed identity has a scope; NULL where nobody is armed';
COMMENT ON FUNCTION mcp.require_user IS 'User of the armed identity; raises 42501 where nobody is armed';
COMMENT ON FUNCTION mcp.state IS 'State of the armed session; raises 42501 where nobody is armed';
COMMENT ON FUNCTION mcp.set_state IS
    'Replaces the state of the armed session; NULL when expected_version is not the current one';
COMMENT ON FUNCTION mcp.end_session IS 'Ends one of the armed user''s own sessions; true when it was live';
COMMENT ON FUNCTION mcp.end_other_sessions IS
    'Ends all sessions of the armed user but the armed one; returns how many were live';
COMMENT ON FUNCTION mcp.worker_status IS 'Whether the background worker cleans up here, and what is missing if not';
COMMENT ON FUNCTION mcp.version IS 'Version of the library';
COMMENT ON FUNCTION mcp.register_client IS
    'For operators: registers an OAuth client, or changes the one of that id; returns its id';
COMMENT ON FUNCTION mcp.remove_client IS
    'For operators: forgets an OAuth client and ends its sessions; returns how many, NULL where there was nothing to forget';
COMMENT ON FUNCTION mcp.register_dynamic_client IS
    'Registers an OAuth client that asked for it itself (RFC 7591); forgotten when nobody signs in with it';
COMMENT ON FUNCTION mcp.find_client IS
    'What is registered of an OAuth client, what was consented to in this browser, which scopes there are; always one row';
COMMENT ON FUNCTION mcp.issue_code IS
    'Makes an authorization code for a user who has signed in: status issued or consent_required';
COMMENT ON FUNCTION mcp.redeem_code IS
    'Exchanges an authorization code for a session, once: status active, unknown, expired, replayed, unknown_client, wrong_client, wrong_redirect, wrong_resource or wrong_verifier';
COMMENT ON FUNCTION mcp.redeem_refresh_token IS
    'As refresh_session, for a client that has to be known and may name the resource: two more statuses, unknown_client and wrong_resource';
COMMENT ON FUNCTION mcp.revoke_token IS
    'Ends the session of a token, if it is this client''s (RFC 7009); NULL where there is no such client';

-- Last: it fires for whatever is made after it.
CREATE EVENT TRIGGER mcp_changes ON ddl_command_end
    WHEN TAG IN ('CREATE FUNCTION', 'ALTER FUNCTION', 'ALTER ROUTINE', 'DROP FUNCTION', 'DROP ROUTINE', 'COMMENT',
                 'ALTER SCHEMA', 'DROP SCHEMA', 'ALTER TYPE', 'ALTER DOMAIN', 'DROP TYPE', 'DROP DOMAIN', 'DROP OWNED')
    EXECUTE FUNCTION mcp.notify_changes();
COMMENT ON EVENT TRIGGER mcp_changes IS 'Says on the channel mcp_changes that exposed functions may have changed';
