//! What the authorization server asks of the extension: clients, codes, refresh, revocation.

use std::time::Duration;

use chrono::{DateTime, Utc};
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;
use tokio_postgres::{Row, types::Type};
use uuid::Uuid;

use super::{Hidden, Sessions, answer, get};
use crate::{database::DatabaseError, token::SessionToken};

const FIND_CLIENT: &str = "SELECT client_name, redirect_uris, consented_scopes, offered_scopes, dynamic \
                           FROM mcp.find_client($1, $2, $3)";
const REGISTER: &str = "SELECT client_id, created_at FROM mcp.register_dynamic_client($1, $2, $3)";
const ISSUE: &str = "SELECT status, code, consent_expires_at \
                     FROM mcp.issue_code(issuer => $1, subject => $2, oauth_data => $3, client_id => $4, \
                                         redirect_uri => $5, redirect_host => $6, code_challenge => $7, \
                                         resource => $8, scopes => $9, claims => $10, metadata => $11, \
                                         consented => $12, browser => $13, new_browser => $14)";
const REDEEM: &str = "SELECT status, session_id, access_token, refresh_token, \
                             pg_catalog.date_part('epoch', expires_at OPERATOR(pg_catalog.-) pg_catalog.clock_timestamp()), \
                             scopes \
                      FROM mcp.redeem_code(code => $1, client_id => $2, redirect_uri => $3, code_verifier => $4, \
                                           resource => $5, ttl => pg_catalog.make_interval(secs => $6))";
const REFRESH: &str = "SELECT status, session_id, access_token, refresh_token, \
                              pg_catalog.date_part('epoch', expires_at OPERATOR(pg_catalog.-) pg_catalog.clock_timestamp()), \
                              scopes \
                       FROM mcp.redeem_refresh_token($1, $2, $3, $4)";
const REVOKE: &str = "SELECT mcp.revoke_token($1, $2)";

/// What is known of a client.
pub struct KnownClient {
    pub name: Option<String>,
    /// `None` where the client is not registered here.
    pub redirect_uris: Option<Vec<String>>,
    /// What somebody has let it have, in the browser and at the host that were asked about.
    pub consented: Option<Vec<String>>,
    /// The scopes that tools, resources and prompts need.
    pub offered: Vec<String>,
    /// Whether it registered itself, under an id that was made for it alone.
    pub dynamic: bool,
}

/// A sign-in at the identity provider, to be turned into a code.
pub struct NewCode<'a> {
    pub issuer: &'a str,
    pub subject: &'a str,
    /// The provider's tokens; sealed by the extension.
    pub oauth_data: &'a Value,
    pub claims: &'a Value,
    pub metadata: &'a Value,
    pub client_id: &'a str,
    pub redirect_uri: &'a str,
    pub redirect_host: &'a str,
    pub code_challenge: &'a str,
    pub scopes: &'a [String],
    /// Whether the person consented in this very sign-in.
    pub consented: bool,
    /// The secret the browser brought, and the one it gets for it.
    pub browser: Option<&'a str>,
    pub new_browser: &'a str,
}

/// What came of it.
pub enum Issued {
    Code {
        code: SecretString,
        /// Until when the consent behind it is remembered.
        consent_expires_at: DateTime<Utc>,
    },
    /// Whoever signed in has not let this client in, or not for all of this.
    ConsentRequired,
}

/// What a client sends to redeem a code.
pub struct Redemption<'a> {
    pub code: &'a str,
    pub client_id: &'a str,
    pub redirect_uri: Option<&'a str>,
    pub code_verifier: &'a str,
    pub ttl: Duration,
}

/// The tokens of a session, as its client gets them.
pub struct Tokens {
    pub session_id: Uuid,
    pub access: SessionToken,
    pub refresh: SecretString,
    /// How long the access token holds.
    pub expires_in: Duration,
    pub scopes: Vec<String>,
}

/// Why a code or a refresh token was not exchanged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Denied {
    UnknownClient,
    /// Unknown, expired, used before, somebody else's: the client has to begin anew in any case.
    Grant(&'static str),
    InvalidScope,
    WrongResource,
}

impl Sessions {
    /// What is known of a client, and what it may have in this browser without anybody being asked again.
    pub async fn find_client(
        &self,
        id: &str,
        browser: Option<&str>,
        redirect_host: &str,
    ) -> Result<KnownClient, DatabaseError> {
        let types = [Type::TEXT, Type::TEXT, Type::TEXT];
        let row = self.auth.row(FIND_CLIENT, &types, &[&id, &Hidden(browser), &redirect_host]).await?;
        Ok(KnownClient {
            name: get(&row, 0)?,
            redirect_uris: get(&row, 1)?,
            consented: get(&row, 2)?,
            offered: get(&row, 3)?,
            dynamic: get(&row, 4)?,
        })
    }

    /// Registers a client that asked for it; its id, and when that was.
    pub async fn register_client(
        &self,
        name: Option<&str>,
        redirect_uris: &[String],
        uri: Option<&str>,
    ) -> Result<(String, DateTime<Utc>), DatabaseError> {
        let types = [Type::TEXT, Type::TEXT_ARRAY, Type::TEXT];
        let row = self.auth.row(REGISTER, &types, &[&name, &redirect_uris, &uri]).await?;
        Ok((get(&row, 0)?, get(&row, 1)?))
    }

    /// Makes a code for whoever has just signed in.
    pub async fn issue_code(&self, new: &NewCode<'_>) -> Result<Issued, DatabaseError> {
        let types = [
            Type::TEXT,
            Type::TEXT,
            Type::JSONB,
            Type::TEXT,
            Type::TEXT,
            Type::TEXT,
            Type::TEXT,
            Type::TEXT,
            Type::TEXT_ARRAY,
            Type::JSONB,
            Type::JSONB,
            Type::BOOL,
            Type::TEXT,
            Type::TEXT,
        ];
        let row = self
            .auth
            .row(
                ISSUE,
                &types,
                &[
                    &new.issuer,
                    &new.subject,
                    &Hidden(new.oauth_data),
                    &new.client_id,
                    &new.redirect_uri,
                    &new.redirect_host,
                    &new.code_challenge,
                    &self.resource,
                    &new.scopes,
                    &Hidden(new.claims),
                    &new.metadata,
                    &new.consented,
                    &Hidden(new.browser),
                    &Hidden(new.new_browser),
                ],
            )
            .await?;
        match get::<&str>(&row, 0)? {
            "issued" => Ok(Issued::Code {
                code: SecretString::from(get::<String>(&row, 1)?),
                consent_expires_at: get(&row, 2)?,
            }),
            "consent_required" => Ok(Issued::ConsentRequired),
            _ => Err(answer("an unknown status of a code")),
        }
    }

    /// Exchanges a code for a session, once.
    pub async fn redeem_code(
        &self,
        redemption: &Redemption<'_>,
    ) -> Result<Result<Tokens, Denied>, DatabaseError> {
        let types = [Type::TEXT, Type::TEXT, Type::TEXT, Type::TEXT, Type::TEXT, Type::FLOAT8];
        let row = self
            .auth
            .row(
                REDEEM,
                &types,
                &[
                    &Hidden(redemption.code),
                    &redemption.client_id,
                    &redemption.redirect_uri,
                    &Hidden(redemption.code_verifier),
                    &self.resource,
                    &redemption.ttl.as_secs_f64(),
                ],
            )
            .await?;
        granted(&row)
    }

    /// Exchanges a refresh token for the next one. `scopes` narrow the access token.
    pub async fn refresh(
        &self,
        refresh_token: &str,
        client_id: &str,
        scopes: Option<&[String]>,
    ) -> Result<Result<Tokens, Denied>, DatabaseError> {
        let types = [Type::TEXT, Type::TEXT, Type::TEXT_ARRAY, Type::TEXT];
        let row = self
            .auth
            .row(REFRESH, &types, &[&Hidden(refresh_token), &client_id, &scopes, &self.resource])
            .await?;
        granted(&row)
    }

    /// Ends the session of a token, if it is this client's. `None`: there is no such client.
    pub async fn revoke_token(&self, token: &str, client_id: &str) -> Result<Option<bool>, DatabaseError> {
        let row = self.auth.row(REVOKE, &[Type::TEXT, Type::TEXT], &[&Hidden(token), &client_id]).await?;
        get(&row, 0)
    }
}

fn granted(row: &Row) -> Result<Result<Tokens, Denied>, DatabaseError> {
    let denied = match get::<&str>(row, 0)? {
        "active" => {
            let access: String = get(row, 2)?;
            return Ok(Ok(Tokens {
                session_id: get(row, 1)?,
                access: SessionToken::parse(&access).ok_or_else(|| answer("a token of an unknown shape"))?,
                refresh: SecretString::from(get::<String>(row, 3)?),
                expires_in: Duration::try_from_secs_f64(get(row, 4)?).unwrap_or_default(),
                scopes: get(row, 5)?,
            }));
        }
        "unknown_client" => Denied::UnknownClient,
        "invalid_scope" => Denied::InvalidScope,
        "wrong_resource" => Denied::WrongResource,
        "unknown" => Denied::Grant("unknown"),
        "expired" => Denied::Grant("expired"),
        "revoked" => Denied::Grant("revoked"),
        "replayed" => Denied::Grant("replayed"),
        "reused" => Denied::Grant("reused"),
        "wrong_client" => Denied::Grant("wrong_client"),
        "wrong_redirect" => Denied::Grant("wrong_redirect_uri"),
        "wrong_verifier" => Denied::Grant("wrong_code_verifier"),
        _ => return Err(answer("an unknown status of a grant")),
    };
    Ok(Err(denied))
}

impl Tokens {
    /// The refresh token, for the one answer that carries it.
    pub fn refresh_token(&self) -> &str {
        self.refresh.expose_secret()
    }
}
