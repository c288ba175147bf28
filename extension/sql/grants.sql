-- Who may do what. Nothing of ours is for PUBLIC but the readers of the identity, which tell nobody anything about
-- anybody else.
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

-- Last: it fires for whatever is made after it.
CREATE EVENT TRIGGER mcp_changes ON ddl_command_end
    WHEN TAG IN ('CREATE FUNCTION', 'ALTER FUNCTION', 'ALTER ROUTINE', 'DROP FUNCTION', 'DROP ROUTINE', 'COMMENT',
                 'ALTER SCHEMA', 'DROP SCHEMA', 'ALTER TYPE', 'ALTER DOMAIN', 'DROP TYPE', 'DROP DOMAIN', 'DROP OWNED')
    EXECUTE FUNCTION mcp.notify_changes();
COMMENT ON EVENT TRIGGER mcp_changes IS 'Says on the channel mcp_changes that exposed functions may have changed';
