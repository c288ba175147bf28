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
