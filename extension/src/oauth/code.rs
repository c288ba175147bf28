//! Authorization codes (RFC 6749 §4.1.2): made when somebody has signed in, redeemed once for a session.
//!
//! What the session will be created from is sealed under the code's own secret, so the identity provider's tokens are as
//! safe on the way as they are in a session. Everything a code is bound to is compared before anything changes: whoever
//! cannot redeem it cannot spoil it either.

use crate::audit::{self, Event};
use crate::error::Error;
use crate::ids::{rust_uuid, sql_uuid};
use crate::interval::{lifetime, microseconds};
use crate::jsonb::Jsonb;
use crate::oauth::{client, consent};
use crate::seal;
use crate::session::{NewSession, checked_scopes, create_session, end_session, user_id_of, widen_session};
use crate::settings;
use crate::statement::{first, required, run, sql};
use crate::token::{self, Kind, Token};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use pgrx::datum::Interval;
use pgrx::prelude::*;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};
use std::ffi::CString;
use uuid::Uuid;
use zeroize::Zeroizing;

const KIND: &str = "authorization code";
/// SHA-256 in base64url without padding (RFC 7636 §4.2).
const CHALLENGE: usize = 43;
/// What a code verifier may measure (RFC 7636 §4.1).
const VERIFIER: std::ops::RangeInclusive<usize> = 43..=128;

/// What a session is created from, as it lies sealed in a code.
#[derive(Serialize, Deserialize)]
struct Grant {
    issuer: String,
    subject: String,
    scopes: Vec<String>,
    oauth_data: Option<Box<RawValue>>,
    claims: Option<Box<RawValue>>,
    metadata: Option<Box<RawValue>>,
}

fn raw(value: Option<Jsonb>) -> Option<Box<RawValue>> {
    value.and_then(|value| RawValue::from_string(value.to_text()).ok())
}

fn jsonb(value: Option<&RawValue>) -> Option<Jsonb> {
    value.and_then(|value| CString::new(value.get()).ok()).map(|text| Jsonb::from_text(&text))
}

/// A challenge of method S256, the only one there is (RFC 9700 §2.1.1).
fn checked_challenge(challenge: Option<&str>) -> Result<&str, Error> {
    let challenge = challenge.ok_or(Error::Null("code_challenge"))?;
    let fits = challenge.len() == CHALLENGE && URL_SAFE_NO_PAD.decode(challenge).is_ok();
    if fits { Ok(challenge) } else { Err(Error::CodeChallenge) }
}

/// Whether the verifier is the one the challenge was made from (RFC 7636 §4.6).
fn proves(verifier: &str, challenge: &str) -> bool {
    let unreserved = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    VERIFIER.contains(&verifier.len())
        && verifier.bytes().all(unreserved)
        && URL_SAFE_NO_PAD.encode(Sha256::digest(verifier)) == challenge
}

/// Makes a code for somebody who has signed in. `status` is `issued`; or `consent_required`, when `consented` is false
/// and this user has let this client have these scopes at this host in no earlier sign-in of this browser: then nothing
/// is made, and the user is to be asked. `browser` is the secret the browser brought, `new_browser` the one it gets now:
/// what was consented to under the old one moves to it. `consent_expires_at` is until when that is remembered.
#[pg_extern(schema = "mcp", security_definer)]
#[search_path(pg_catalog, pg_temp)]
#[allow(clippy::too_many_arguments, reason = "the SQL signature")]
pub(crate) fn issue_code(
    issuer: Option<&str>,
    subject: Option<&str>,
    oauth_data: Option<Jsonb>,
    client_id: Option<&str>,
    redirect_uri: Option<&str>,
    redirect_host: Option<&str>,
    code_challenge: Option<&str>,
    resource: Option<&str>,
    scopes: Option<Vec<Option<String>>>,
    claims: Option<Jsonb>,
    metadata: Option<Jsonb>,
    consented: Option<bool>,
    browser: Option<&str>,
    new_browser: Option<&str>,
) -> Result<
    TableIterator<
        'static,
        (
            name!(status, &'static str),
            name!(code, Option<String>),
            name!(consent_expires_at, Option<TimestampWithTimeZone>),
        ),
    >,
    pg_sys::panic::ErrorReport,
> {
    let issuer = issuer.ok_or(Error::Null("issuer"))?;
    let subject = subject.ok_or(Error::Null("subject"))?;
    let client = client_id.ok_or(Error::Null("client_id"))?;
    let redirect_uri = redirect_uri.ok_or(Error::Null("redirect_uri"))?;
    let redirect_host = redirect_host.ok_or(Error::Null("redirect_host"))?;
    let resource = resource.ok_or(Error::Null("resource"))?;
    let new_browser = new_browser.ok_or(Error::Null("new_browser"))?;
    let challenge = checked_challenge(code_challenge)?;
    let scopes = checked_scopes(scopes)?;
    // What create_session would refuse is refused now, while the person is still there to be told.
    NewSession::checked(issuer, subject, Some(client), Some(resource), oauth_data, claims, metadata)?;

    let given =
        consent::Consent { user: user_id_of(issuer, subject), client, redirect_host, scopes: &scopes };
    browser.map_or(Ok(()), consent::hold)?;
    let recalled = browser.map_or(Ok(None), |browser| consent::recall(browser, &given))?;
    if recalled.is_none() && !consented.unwrap_or(false) {
        return Ok(TableIterator::once(("consent_required", None, None)));
    }
    consent::rebind(browser, new_browser)?;
    let (consent, expires_at) = consent::give(new_browser, &given)?;

    let code = Token::mint(Kind::Code, token::random()?)?;
    let grant = Grant {
        issuer: issuer.to_owned(),
        subject: subject.to_owned(),
        scopes,
        oauth_data: raw(oauth_data),
        claims: raw(claims),
        metadata: raw(metadata),
    };
    let plain = Zeroizing::new(serde_json::to_vec(&grant).map_err(Error::Grant)?);
    let key = seal::derive(code.secret(), None, &code.selector, KIND);
    let sealed = seal::seal(&key, &plain, &seal::associated(KIND, Uuid::from_bytes(code.selector), 0))?;
    run(
        sql!(
            "INSERT INTO mcp.authorization_codes
                (selector, verifier, client_id, redirect_uri, resource, code_challenge, consent_id, sealed, expires_at)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, clock_timestamp() + $9 * interval '1 microsecond')"
        ),
        &[
            pgrx::Uuid::from_bytes(code.selector).into(),
            code.verifier().as_slice().into(),
            client.into(),
            redirect_uri.into(),
            resource.into(),
            challenge.into(),
            sql_uuid(consent).into(),
            sealed.into(),
            microseconds(settings::code_ttl()).into(),
        ],
    )?;
    Ok(TableIterator::once(("issued", Some(code.encode().to_string()), Some(expires_at))))
}

/// What became of a redemption.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Active,
    /// No such code, or not its secret, or the consent it was issued on was withdrawn.
    Unknown,
    Expired,
    /// It had been redeemed. The session it was redeemed for has just been revoked.
    Replayed,
    /// No such client. As all that follow: nothing has changed.
    UnknownClient,
    WrongClient,
    WrongRedirect,
    WrongResource,
    WrongVerifier,
}

impl Outcome {
    fn as_str(self) -> &'static str {
        match self {
            Outcome::Active => "active",
            Outcome::Unknown => "unknown",
            Outcome::Expired => "expired",
            Outcome::Replayed => "replayed",
            Outcome::UnknownClient => "unknown_client",
            Outcome::WrongClient => "wrong_client",
            Outcome::WrongRedirect => "wrong_redirect",
            Outcome::WrongResource => "wrong_resource",
            Outcome::WrongVerifier => "wrong_verifier",
        }
    }
}

/// What a client sends to redeem a code.
struct Redemption<'a> {
    code: Option<&'a str>,
    client: &'a str,
    redirect_uri: Option<&'a str>,
    verifier: Option<&'a str>,
    resource: Option<&'a str>,
    ttl: i64,
    max_lifetime: i64,
    access_ttl: i64,
}

/// A code's row, locked.
struct Stored {
    verifier: Vec<u8>,
    client: String,
    redirect_uri: String,
    resource: String,
    challenge: String,
    consent: Uuid,
    sealed: Option<Vec<u8>>,
    session: Option<Uuid>,
    expired: bool,
}

fn lock(code: &Token) -> Result<Option<Stored>, Error> {
    let row = first(
        sql!(
            "SELECT verifier, client_id, redirect_uri, resource, code_challenge, consent_id, sealed, session_id,
                    expires_at <= clock_timestamp()
               FROM mcp.authorization_codes WHERE selector = $1 FOR UPDATE"
        ),
        &[pgrx::Uuid::from_bytes(code.selector).into()],
        |row| {
            Ok(Stored {
                verifier: required(&row, 1)?,
                client: required(&row, 2)?,
                redirect_uri: required(&row, 3)?,
                resource: required(&row, 4)?,
                challenge: required(&row, 5)?,
                consent: rust_uuid(required(&row, 6)?),
                sealed: row.get(7)?,
                session: row.get::<pgrx::Uuid>(8)?.map(rust_uuid),
                expired: required(&row, 9)?,
            })
        },
    )?;
    Ok(row.filter(|row| token::matches(&row.verifier, &code.verifier())))
}

/// A session as its client gets it.
struct Redeemed {
    session: Uuid,
    access: Token,
    refresh: Option<Token>,
    expires_at: TimestampWithTimeZone,
    scopes: Vec<String>,
}

fn redeem(request: &Redemption<'_>) -> Result<Result<Redeemed, Outcome>, Error> {
    if !client::held(request.client)? {
        return Ok(Err(Outcome::UnknownClient));
    }
    let Some(code) = request.code.and_then(|text| Token::parse(Kind::Code, text)) else {
        return Ok(Err(Outcome::Unknown));
    };
    let Some(stored) = lock(&code)? else { return Ok(Err(Outcome::Unknown)) };
    if stored.client != request.client {
        return Ok(Err(Outcome::WrongClient));
    }
    if request.redirect_uri != Some(stored.redirect_uri.as_str()) {
        return Ok(Err(Outcome::WrongRedirect));
    }
    if request.resource.is_some_and(|resource| resource != stored.resource) {
        return Ok(Err(Outcome::WrongResource));
    }
    if !request.verifier.is_some_and(|verifier| proves(verifier, &stored.challenge)) {
        return Ok(Err(Outcome::WrongVerifier));
    }
    let Some(sealed) = &stored.sealed else {
        replayed(&stored)?;
        return Ok(Err(Outcome::Replayed));
    };
    if stored.expired {
        return Ok(Err(Outcome::Expired));
    }
    let Some(earlier) = consent::session(stored.consent)? else { return Ok(Err(Outcome::Unknown)) };
    let grant = open(&code, sealed)?;
    let Some(redeemed) = grant_session(request, &stored, &grant, earlier)? else {
        return Ok(Err(Outcome::Unknown));
    };
    run(
        sql!(
            "UPDATE mcp.authorization_codes SET redeemed_at = clock_timestamp(), sealed = NULL, session_id = $2
              WHERE selector = $1"
        ),
        &[pgrx::Uuid::from_bytes(code.selector).into(), sql_uuid(redeemed.session).into()],
    )?;
    Ok(Ok(redeemed))
}

fn open(code: &Token, sealed: &[u8]) -> Result<Grant, Error> {
    let selector = Uuid::from_bytes(code.selector);
    let key = seal::derive(code.secret(), None, &code.selector, KIND);
    seal::open(&key, sealed, &seal::associated(KIND, selector, 0))
        .and_then(|plain| serde_json::from_slice(&plain).ok())
        .ok_or(Error::Unsealable(selector))
}

/// Ends what a code was redeemed for: two parties hold it, and one of them stole it (RFC 6749 §10.5).
fn replayed(stored: &Stored) -> Result<(), Error> {
    audit::record(Event::CodeReplay, stored.session, None, Some(&stored.client), None)?;
    if let Some(session) = stored.session {
        end_session(session, None, Event::Revoke, Some("authorization code replayed"))?;
    }
    Ok(())
}

/// The session a code stands for: the one this browser got for the client before, when the user now lets it do more; a
/// new one in every other case, so that a second device never costs the first its session. `None` where the consent is
/// withdrawn at this moment.
fn grant_session(
    request: &Redemption<'_>,
    stored: &Stored,
    grant: &Grant,
    earlier: Option<Uuid>,
) -> Result<Option<Redeemed>, Error> {
    let mut new = NewSession::checked(
        &grant.issuer,
        &grant.subject,
        Some(request.client),
        Some(&stored.resource),
        jsonb(grant.oauth_data.as_deref()),
        jsonb(grant.claims.as_deref()),
        jsonb(grant.metadata.as_deref()),
    )?;
    new.scopes = grant.scopes.clone();
    new.ttl = request.ttl;
    new.max_lifetime = request.max_lifetime;
    new.access_ttl = Some(request.access_ttl);
    new.with_refresh = true;
    let widened = match earlier {
        Some(session) => widen_session(session, &new)?,
        None => None,
    };
    let (created, scopes) = match widened {
        Some(widened) => widened,
        None => {
            let created = create_session(&new)?;
            // Whoever ends sessions locks the two in this order.
            if !consent::led_to(stored.consent, created.session_id)? {
                end_session(created.session_id, None, Event::Revoke, Some("consent withdrawn"))?;
                return Ok(None);
            }
            (created, new.scopes)
        }
    };
    client::used(request.client, created.absolute_expires_at)?;
    Ok(Some(Redeemed {
        session: created.session_id,
        access: created.access,
        refresh: created.refresh,
        expires_at: created.expires_at,
        scopes,
    }))
}

/// Exchanges a code for a session, once. `status` is `active` for success; `replayed` for a code that was redeemed
/// before, and then the session it was redeemed for has been revoked; else `unknown`, `expired`, `unknown_client`,
/// `wrong_client`, `wrong_redirect`, `wrong_resource` or `wrong_verifier`, and then nothing has changed. `expires_at` is
/// when the access token ends.
#[pg_extern(schema = "mcp", security_definer)]
#[search_path(pg_catalog, pg_temp)]
#[allow(clippy::too_many_arguments, reason = "the SQL signature")]
pub(crate) fn redeem_code(
    code: Option<&str>,
    client_id: Option<&str>,
    redirect_uri: Option<&str>,
    code_verifier: Option<&str>,
    resource: default!(Option<&str>, "NULL"),
    ttl: default!(Option<Interval>, "NULL"),
    max_lifetime: default!(Option<Interval>, "NULL"),
    access_ttl: default!(Option<Interval>, "NULL"),
) -> Result<
    TableIterator<
        'static,
        (
            name!(status, &'static str),
            name!(session_id, Option<pgrx::Uuid>),
            name!(access_token, Option<String>),
            name!(refresh_token, Option<String>),
            name!(expires_at, Option<TimestampWithTimeZone>),
            name!(scopes, Option<Vec<String>>),
        ),
    >,
    pg_sys::panic::ErrorReport,
> {
    let redeemed = redeem(&Redemption {
        code,
        client: client_id.ok_or(Error::Null("client_id"))?,
        redirect_uri,
        verifier: code_verifier,
        resource,
        ttl: lifetime("ttl", ttl, settings::session_ttl())?,
        max_lifetime: lifetime("max_lifetime", max_lifetime, settings::max_lifetime())?,
        access_ttl: lifetime("access_ttl", access_ttl, settings::access_ttl())?,
    })?;
    Ok(TableIterator::once(match redeemed {
        Ok(redeemed) => (
            Outcome::Active.as_str(),
            Some(sql_uuid(redeemed.session)),
            Some(redeemed.access.encode().to_string()),
            redeemed.refresh.map(|token| token.encode().to_string()),
            Some(redeemed.expires_at),
            Some(redeemed.scopes),
        ),
        Err(outcome) => (outcome.as_str(), None, None, None, None, None),
    }))
}

#[cfg(test)]
mod unit {
    use super::*;
    use proptest::prelude::*;

    /// The example of RFC 7636, appendix B.
    const EXAMPLE: (&str, &str) =
        ("dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk", "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM");

    #[test]
    fn the_example_of_the_rfc_holds() {
        assert!(proves(EXAMPLE.0, EXAMPLE.1));
        assert!(checked_challenge(Some(EXAMPLE.1)).is_ok());
    }

    #[test]
    fn only_a_verifier_of_the_right_form_proves_anything() {
        let challenge = |verifier: &str| URL_SAFE_NO_PAD.encode(Sha256::digest(verifier));
        for (verifier, expected) in [
            ("a".repeat(42), false),
            ("a".repeat(43), true),
            ("a".repeat(128), true),
            ("a".repeat(129), false),
            (String::new(), false),
            (format!("{} ", "a".repeat(43)), false),
            (format!("{}=", "a".repeat(43)), false),
            (format!("{}é", "a".repeat(43)), false),
            (format!("{}-._~", "a".repeat(43)), true),
        ] {
            assert_eq!(proves(&verifier, &challenge(&verifier)), expected, "{verifier}");
        }
        // Method `plain`, and a challenge that is the verifier.
        assert!(!proves(&"a".repeat(43), &"a".repeat(43)));
        for bad in ["", "short", &"=".repeat(43), &"+".repeat(43), &"a".repeat(44)] {
            assert!(checked_challenge(Some(bad)).is_err(), "{bad}");
        }
        assert!(checked_challenge(None).is_err());
    }

    proptest! {
        #[test]
        fn no_other_verifier_proves(verifier in "[A-Za-z0-9._~-]{43,128}") {
            prop_assert_eq!(proves(&verifier, EXAMPLE.1), verifier == EXAMPLE.0);
        }
    }
}
