-- What the authorization server keeps. Sign-ins under way are in mcp.sign_ins, with the request they answer sealed in
-- their payload.

CREATE TABLE mcp.clients (
    client_id     text        NOT NULL,
    client_name   text,
    client_uri    text,
    redirect_uris text[]      NOT NULL,
    created_at    timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
    used_at       timestamptz,
    expires_at    timestamptz,
    PRIMARY KEY (client_id)
);
CREATE INDEX clients_expires_at_idx ON mcp.clients (expires_at);
CREATE INDEX clients_never_used_idx ON mcp.clients (created_at) WHERE used_at IS NULL AND expires_at IS NOT NULL;

CREATE TABLE mcp.consents (
    consent_id    uuid        NOT NULL,
    browser_hash  bytea       NOT NULL,
    user_id       uuid        NOT NULL,
    client_id     text        NOT NULL,
    redirect_host text        NOT NULL,
    scopes        text[]      NOT NULL,
    session_id    uuid,
    given_at      timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
    expires_at    timestamptz NOT NULL,
    PRIMARY KEY (consent_id),
    UNIQUE (browser_hash, client_id, redirect_host, user_id)
);
CREATE INDEX consents_expires_at_idx ON mcp.consents (expires_at);
CREATE INDEX consents_session_id_idx ON mcp.consents (session_id);
CREATE INDEX consents_user_id_idx ON mcp.consents (user_id);

CREATE TABLE mcp.authorization_codes (
    selector       uuid        NOT NULL,
    verifier       bytea       NOT NULL,
    client_id      text        NOT NULL,
    redirect_uri   text        NOT NULL,
    resource       text        NOT NULL,
    code_challenge text        NOT NULL,
    consent_id     uuid        NOT NULL,
    sealed         bytea,
    session_id     uuid,
    expires_at     timestamptz NOT NULL,
    redeemed_at    timestamptz,
    PRIMARY KEY (selector)
);
CREATE INDEX authorization_codes_expires_at_idx ON mcp.authorization_codes (expires_at);

ALTER TABLE mcp.clients OWNER TO mcp_owner;
ALTER TABLE mcp.consents OWNER TO mcp_owner;
ALTER TABLE mcp.authorization_codes OWNER TO mcp_owner;

ALTER TABLE mcp.clients ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
ALTER TABLE mcp.consents ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
ALTER TABLE mcp.authorization_codes ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;

CREATE POLICY owner ON mcp.clients TO mcp_owner USING (true) WITH CHECK (true);
CREATE POLICY owner ON mcp.consents TO mcp_owner USING (true) WITH CHECK (true);
CREATE POLICY owner ON mcp.authorization_codes TO mcp_owner USING (true) WITH CHECK (true);

-- What operators registered is part of a dump, as tools are; it holds no secret.
SELECT pg_catalog.pg_extension_config_dump('mcp.clients', 'WHERE expires_at IS NULL');

COMMENT ON TABLE mcp.clients IS 'OAuth clients that operators registered or that registered themselves (RFC 7591)';
COMMENT ON COLUMN mcp.clients.used_at IS 'When a code of this client was last redeemed';
COMMENT ON COLUMN mcp.clients.expires_at IS
    'When a client that registered itself is forgotten; use moves it. NULL: an operator registered it';
COMMENT ON TABLE mcp.consents IS 'Which clients a user let in, in which browser';
COMMENT ON COLUMN mcp.consents.browser_hash IS 'SHA-256 of the secret in the browser''s cookie';
COMMENT ON COLUMN mcp.consents.redirect_host IS 'Host to which the user let the client send its answers';
COMMENT ON COLUMN mcp.consents.session_id IS
    'The session it led to: ending that one withdraws the consent, and asking for more scopes widens it';
COMMENT ON TABLE mcp.authorization_codes IS 'Authorization codes, live and redeemed, as hashes';
COMMENT ON COLUMN mcp.authorization_codes.sealed IS
    'What the session will be created from, encrypted under the code''s own secret; NULL once it is redeemed';
COMMENT ON COLUMN mcp.authorization_codes.session_id IS 'The session it was redeemed for, which a replay ends';
