-- The tables. All of them belong to mcp_owner, which cannot log in.

CREATE TABLE mcp.sessions (
    -- What every request reads, fixed in width, comes first; extension/src/session/record.rs names the columns in this
    -- order.
    session_id          uuid        NOT NULL,
    user_id             uuid        NOT NULL,
    created_at          timestamptz NOT NULL,
    updated_at          timestamptz NOT NULL,
    expires_at          timestamptz NOT NULL,
    absolute_expires_at timestamptz NOT NULL,
    access_expires_at   timestamptz,
    previous_expires_at timestamptz,
    revoked_at          timestamptz,
    state_version       bigint      NOT NULL DEFAULT 0,
    ttl                 interval    NOT NULL,
    access_ttl          interval,
    verifier            bytea       NOT NULL,
    previous_verifier   bytea,
    issuer              text        NOT NULL,
    subject             text        NOT NULL,
    client_id           text,
    resource            text,
    scopes              text[]      NOT NULL DEFAULT '{}',
    access_scopes       text[],
    claims              jsonb       NOT NULL DEFAULT '{}',
    state               jsonb       NOT NULL DEFAULT '{}',
    metadata            jsonb       NOT NULL DEFAULT '{}',
    revoked_reason      text,
    PRIMARY KEY (session_id)
);
CREATE INDEX sessions_user_id_idx ON mcp.sessions (user_id);
CREATE INDEX sessions_expires_at_idx ON mcp.sessions (expires_at);
CREATE INDEX sessions_created_at_idx ON mcp.sessions (created_at);

-- Rotated tokens stay until their session goes, so that one which comes back is known for what it is.
CREATE TABLE mcp.refresh_tokens (
    selector    uuid        NOT NULL,
    session_id  uuid        NOT NULL REFERENCES mcp.sessions ON DELETE CASCADE,
    verifier    bytea       NOT NULL,
    issued_at   timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
    replaced_at timestamptz,
    seed        bytea,
    PRIMARY KEY (selector)
);
CREATE INDEX refresh_tokens_session_id_idx ON mcp.refresh_tokens (session_id);
CREATE UNIQUE INDEX refresh_tokens_live_idx ON mcp.refresh_tokens (session_id) WHERE replaced_at IS NULL;

-- Out of the row that touches rewrite.
CREATE TABLE mcp.sealed_tokens (
    session_id uuid   NOT NULL REFERENCES mcp.sessions ON DELETE CASCADE,
    generation bigint NOT NULL,
    ciphertext bytea  NOT NULL,
    PRIMARY KEY (session_id)
);
-- Ciphertext does not compress.
ALTER TABLE mcp.sealed_tokens ALTER COLUMN ciphertext SET STORAGE EXTERNAL;

CREATE TABLE mcp.wrapped_keys (
    session_id uuid  NOT NULL REFERENCES mcp.sessions ON DELETE CASCADE,
    verifier   bytea NOT NULL,
    server_key bytea,
    wrapped    bytea NOT NULL,
    PRIMARY KEY (session_id, verifier)
);

CREATE TABLE mcp.sign_ins (
    state_hash   bytea       NOT NULL,
    browser_hash bytea       NOT NULL,
    payload      bytea       NOT NULL,
    expires_at   timestamptz NOT NULL,
    PRIMARY KEY (state_hash)
);
CREATE INDEX sign_ins_expires_at_idx ON mcp.sign_ins (expires_at);

CREATE TABLE mcp.audit_log (
    id         bigint      NOT NULL GENERATED ALWAYS AS IDENTITY,
    at         timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
    event      text        NOT NULL,
    session_id uuid,
    user_id    uuid,
    client_id  text,
    actor      name        NOT NULL,
    reason     text,
    PRIMARY KEY (id)
);
CREATE INDEX audit_log_at_idx ON mcp.audit_log (at);
CREATE INDEX audit_log_user_id_idx ON mcp.audit_log (user_id, at);

ALTER TABLE mcp.sessions OWNER TO mcp_owner;
ALTER TABLE mcp.refresh_tokens OWNER TO mcp_owner;
ALTER TABLE mcp.sealed_tokens OWNER TO mcp_owner;
ALTER TABLE mcp.wrapped_keys OWNER TO mcp_owner;
ALTER TABLE mcp.sign_ins OWNER TO mcp_owner;
ALTER TABLE mcp.audit_log OWNER TO mcp_owner;

COMMENT ON SCHEMA mcp IS 'Sessions, sign-in and identity for MCP servers';
COMMENT ON TABLE mcp.sessions IS 'One row for each signed-in grant of a user to an MCP client';
COMMENT ON COLUMN mcp.sessions.session_id IS 'Public id; part of the access token, and no secret';
COMMENT ON COLUMN mcp.sessions.user_id IS 'UUIDv5 over issuer and subject, unless the creator passed one';
COMMENT ON COLUMN mcp.sessions.updated_at IS 'When the session was last used, as far as a touch was worth writing';
COMMENT ON COLUMN mcp.sessions.expires_at IS 'When the session ends if nobody uses it; use moves it';
COMMENT ON COLUMN mcp.sessions.absolute_expires_at IS 'When the session ends however much it is used';
COMMENT ON COLUMN mcp.sessions.access_expires_at IS 'When the access token ends, where a refresh token stands behind it';
COMMENT ON COLUMN mcp.sessions.previous_expires_at IS 'Until when the access token before the last refresh still works';
COMMENT ON COLUMN mcp.sessions.verifier IS 'SHA-256 of the access token';
COMMENT ON COLUMN mcp.sessions.access_scopes IS 'Scopes of the access token, where a refresh asked for fewer';
COMMENT ON COLUMN mcp.sessions.claims IS 'Verified claims of the identity provider';
COMMENT ON COLUMN mcp.sessions.state IS 'What the application keeps with the session';
COMMENT ON COLUMN mcp.sessions.metadata IS 'About the client: its name, address, user agent';
COMMENT ON TABLE mcp.refresh_tokens IS 'Refresh tokens, live and rotated, as hashes';
COMMENT ON COLUMN mcp.refresh_tokens.seed IS 'What the successors were computed with; kept while the grace lasts';
COMMENT ON TABLE mcp.sealed_tokens IS 'OAuth tokens of the identity provider, encrypted under the session''s key';
COMMENT ON TABLE mcp.wrapped_keys IS 'Session keys, each encrypted for one live token';
COMMENT ON COLUMN mcp.wrapped_keys.server_key IS 'Id of the key from mcp.key_file that is needed too; NULL: none';
COMMENT ON TABLE mcp.sign_ins IS 'Sign-ins under way at the identity provider';
COMMENT ON TABLE mcp.audit_log IS 'What happened to sessions, append-only, without secrets';
