//! The token endpoint: a code for an ID token and an access token.
//!
//! OpenID Connect Core 1.0 section 3.1.3, RFC 6749 section 4.1.3, RFC 7636 section 4.6.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use aws_lc_rs::digest;
use base64::Engine;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use serde_json::{Value, json};

use crate::grants::{ACCESS_TOKEN_LIFETIME, Grant, Scopes};
use crate::params::{Params, Repeated};
use crate::provider::Provider;
use crate::user::User;

const ID_TOKEN_LIFETIME: Duration = Duration::from_secs(300);

/// An error of RFC 6749 section 5.2.
#[derive(Debug, PartialEq, Eq)]
pub enum Fault {
    InvalidRequest(&'static str),
    InvalidClient,
    InvalidGrant(&'static str),
    UnsupportedGrantType,
    Busy,
}

impl Fault {
    pub fn body(&self) -> Value {
        let (error, description) = match self {
            Self::InvalidRequest(why) => ("invalid_request", *why),
            Self::InvalidClient => ("invalid_client", "The client is unknown or its secret is wrong."),
            Self::InvalidGrant(why) => ("invalid_grant", *why),
            Self::UnsupportedGrantType => ("unsupported_grant_type", "Only authorization_code is supported."),
            Self::Busy => ("temporarily_unavailable", "Too many sign-ins are under way."),
        };
        json!({ "error": error, "error_description": description })
    }
}

/// # Errors
/// As RFC 6749 section 5.2 names them. A code that was presented is spent even so.
pub fn exchange(
    provider: &Provider,
    authorization: Option<&str>,
    form: &[u8],
    now: Instant,
) -> Result<Value, Fault> {
    let params = Params::parse(form)
        .map_err(|Repeated(_)| Fault::InvalidRequest("A parameter stands there twice."))?;
    authenticate(provider, authorization, &params)?;
    match params.get("grant_type") {
        Some("authorization_code") => {}
        Some(_) => return Err(Fault::UnsupportedGrantType),
        None => return Err(Fault::InvalidRequest("The parameter grant_type is missing.")),
    }
    let code = params.get("code").ok_or(Fault::InvalidRequest("The parameter code is missing."))?;

    let mut grants = provider.grants();
    let grant = grants
        .spend_code(code, now)
        .ok_or(Fault::InvalidGrant("The code is unknown, too old, or was used before."))?;
    if params.get("redirect_uri") != Some(&grant.redirect_uri) {
        return Err(Fault::InvalidGrant("The redirect_uri is not that of the authorization request."));
    }
    if !params.get("code_verifier").is_some_and(|verifier| verifies(verifier, &grant.code_challenge)) {
        return Err(Fault::InvalidGrant("The code_verifier does not fit the code_challenge."));
    }
    let access_token = grants.issue_access_token(code, &grant, now).ok_or(Fault::Busy)?;
    drop(grants);
    Ok(json!({
        "access_token": access_token,
        "token_type": "Bearer",
        "expires_in": ACCESS_TOKEN_LIFETIME.as_secs(),
        "scope": grant.scopes.granted(),
        "id_token": id_token(provider, &grant),
    }))
}

/// What the scopes let the client know of the user (OpenID Connect Core 1.0 section 5.4).
pub fn user_claims(user: &User, scopes: Scopes) -> Value {
    let mut claims = json!({ "sub": user.subject });
    if scopes.email {
        claims["email"] = json!(user.email);
        claims["email_verified"] = json!(true);
    }
    if scopes.profile {
        claims["name"] = json!(user.name);
    }
    claims
}

fn id_token(provider: &Provider, grant: &Grant) -> String {
    let issued_at = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let mut claims = user_claims(&grant.user, grant.scopes);
    claims["iss"] = json!(provider.issuer());
    claims["aud"] = json!(provider.client().id);
    claims["iat"] = json!(issued_at);
    claims["exp"] = json!(issued_at + ID_TOKEN_LIFETIME.as_secs());
    claims["auth_time"] = json!(issued_at);
    if let Some(nonce) = &grant.nonce {
        claims["nonce"] = json!(nonce);
    }
    provider.key().sign(&claims)
}

/// `client_secret_basic` or `client_secret_post`, never both (RFC 6749 section 2.3).
fn authenticate(provider: &Provider, authorization: Option<&str>, params: &Params) -> Result<(), Fault> {
    let posted = params.get("client_secret");
    let (id, secret) = match (authorization, posted) {
        (Some(_), Some(_)) => return Err(Fault::InvalidRequest("The client authenticates in two ways.")),
        (Some(header), None) => basic(header).ok_or(Fault::InvalidClient)?,
        (None, Some(secret)) => (params.get("client_id").unwrap_or_default().to_owned(), secret.to_owned()),
        (None, None) => return Err(Fault::InvalidClient),
    };
    let client = provider.client();
    let fits = client.secret.matches(&secret) && client.id == id;
    if fits { Ok(()) } else { Err(Fault::InvalidClient) }
}

/// Identifier and secret are form-encoded inside the header (RFC 6749 section 2.3.1).
fn basic(header: &str) -> Option<(String, String)> {
    let (scheme, encoded) = header.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let pair = String::from_utf8(BASE64_STANDARD.decode(encoded.trim()).ok()?).ok()?;
    let (id, secret) = pair.split_once(':')?;
    let decode = |part: &str| {
        let part = part.replace('+', " ");
        percent_encoding::percent_decode_str(&part).decode_utf8().ok().map(String::from)
    };
    Some((decode(id)?, decode(secret)?))
}

fn verifies(verifier: &str, challenge: &str) -> bool {
    // RFC 7636 section 4.1.
    (43..=128).contains(&verifier.len())
        && BASE64_URL_SAFE_NO_PAD.encode(digest::digest(&digest::SHA256, verifier.as_bytes())) == challenge
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::provider::fixture::{CHALLENGE, CLIENT_SECRET, REDIRECT_URI, form, provider, redemption};
    use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode};

    fn grant() -> Grant {
        Grant {
            user: User::with_email("alice@example.com").expect("an address"),
            redirect_uri: REDIRECT_URI.to_owned(),
            code_challenge: CHALLENGE.to_owned(),
            nonce: Some("once".to_owned()),
            scopes: Scopes::parse("openid email profile"),
        }
    }

    fn code(provider: &Provider, now: Instant) -> String {
        provider.grants().issue_code(grant(), now).expect("a code")
    }

    /// The claims of an ID token of the provider for its client.
    fn claims(provider: &Provider, token: &str) -> Value {
        let key = DecodingKey::from_jwk(&provider.key().public_set().keys[0]).expect("a key");
        let mut validation = Validation::new(Algorithm::RS256);
        validation.set_audience(&["client"]);
        decode::<Value>(token, &key, &validation).expect("valid").claims
    }

    fn seconds() -> u64 {
        SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs()
    }

    #[test]
    fn a_code_gives_an_id_token_that_verifies() {
        let (provider, now) = (provider(), Instant::now());
        let (code, before) = (code(&provider, now), seconds());
        let answer = exchange(&provider, None, form(&redemption(&code)).as_bytes(), now).expect("tokens");

        let id_token = answer["id_token"].as_str().expect("a token");
        let claims = claims(&provider, id_token);
        let issued_at = claims["iat"].as_u64().expect("a time");
        assert!((before..=seconds()).contains(&issued_at), "{claims}");
        let expected = json!({
            "iss": "http://127.0.0.1:8090",
            "aud": "client",
            "sub": "dev_e3fd4cc8ed52bc87741b14bfc183f677",
            "email": "alice@example.com",
            "email_verified": true,
            "name": "Alice",
            "nonce": "once",
            "iat": issued_at,
            "exp": issued_at + 300,
            "auth_time": issued_at,
        });
        assert_eq!(claims, expected);

        let access_token = answer["access_token"].as_str().expect("a token");
        let grants = provider.grants();
        assert_eq!(grants.user_of(access_token, now), Some((&grant().user, grant().scopes)));
        let expected = json!({
            "access_token": access_token,
            "token_type": "Bearer",
            "expires_in": 3600,
            "scope": "openid email profile",
            "id_token": id_token,
        });
        assert_eq!(answer, expected);
    }

    #[test]
    fn who_asked_for_less_is_told_less() {
        let user = User::with_email("alice@example.com").expect("an address");
        let sub = "dev_e3fd4cc8ed52bc87741b14bfc183f677";
        let email = "alice@example.com";
        for (scope, expected) in [
            ("openid", json!({ "sub": sub })),
            ("openid email", json!({ "sub": sub, "email": email, "email_verified": true })),
            ("openid profile", json!({ "sub": sub, "name": "Alice" })),
            (
                "openid email profile",
                json!({ "sub": sub, "email": email, "email_verified": true, "name": "Alice" }),
            ),
        ] {
            assert_eq!(user_claims(&user, Scopes::parse(scope)), expected, "{scope}");
        }
        let provider = provider();
        let grant = Grant { nonce: None, scopes: Scopes::parse("openid"), ..grant() };
        let claims = claims(&provider, &id_token(&provider, &grant));
        let mut names: Vec<_> = claims.as_object().expect("an object").keys().collect();
        names.sort();
        assert_eq!(names, ["aud", "auth_time", "exp", "iat", "iss", "sub"]);
    }

    #[test]
    fn what_does_not_fit_the_authorization_request_is_refused() {
        let (provider, now) = (provider(), Instant::now());
        let uri = "The redirect_uri is not that of the authorization request.";
        let verifier = "The code_verifier does not fit the code_challenge.";
        for (name, value, why) in [
            ("redirect_uri", "http://127.0.0.1:8080/elsewhere", uri),
            ("redirect_uri", "", uri),
            ("code_verifier", "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXl", verifier),
            ("code_verifier", CHALLENGE, verifier),
            ("code_verifier", "", verifier),
            ("code", "unheard of", "The code is unknown, too old, or was used before."),
        ] {
            let code = code(&provider, now);
            let mut request = redemption(&code);
            request.retain(|(key, _)| *key != name);
            request.push((name, value));
            let answer = exchange(&provider, None, form(&request).as_bytes(), now);
            assert_eq!(answer, Err(Fault::InvalidGrant(why)), "{name}={value}");
            let spent = provider.grants().spend_code(&code, now).is_none();
            assert_eq!(spent, name != "code", "{name}={value}");
        }
    }

    #[test]
    fn a_verifier_has_43_to_128_characters() {
        for (length, accepted) in [(42, false), (43, true), (128, true), (129, false)] {
            let verifier = "v".repeat(length);
            let challenge =
                BASE64_URL_SAFE_NO_PAD.encode(digest::digest(&digest::SHA256, verifier.as_bytes()));
            assert_eq!(verifies(&verifier, &challenge), accepted, "{length}");
        }
    }

    #[test]
    fn the_client_must_prove_itself() {
        let (provider, now) = (provider(), Instant::now());
        let code = code(&provider, now);
        let with = |more: &[(&'static str, &'static str)]| {
            let mut request = redemption(&code);
            request.retain(|(name, _)| !name.starts_with("client_"));
            request.extend(more);
            form(&request)
        };
        let basic = |pair: &[u8]| format!("Basic {}", BASE64_STANDARD.encode(pair));
        let right = basic(b"client:a+secret+for+the+tests");

        for posted in [
            &[][..],
            &[("client_id", "client")],
            &[("client_secret", CLIENT_SECRET)],
            &[("client_id", "client"), ("client_secret", "wrong")],
            &[("client_id", "other"), ("client_secret", CLIENT_SECRET)],
        ] {
            let answer = exchange(&provider, None, with(posted).as_bytes(), now);
            assert_eq!(answer, Err(Fault::InvalidClient), "{posted:?}");
        }
        for header in [
            &basic(b"client:wrong"),
            &basic(b"other:a+secret+for+the+tests"),
            &basic(b"client"),
            &basic(b"client:\xff"),
            &basic(b"client:%ff"),
            &right.replace("Basic", "Bearer"),
            &right.replace(' ', ""),
            "Basic ?",
            "",
        ] {
            let answer = exchange(&provider, Some(header), with(&[("client_id", "client")]).as_bytes(), now);
            assert_eq!(answer, Err(Fault::InvalidClient), "{header:?}");
        }
        let posted = with(&[("client_id", "client"), ("client_secret", CLIENT_SECRET)]);
        let twice = exchange(&provider, Some(&right), posted.as_bytes(), now);
        assert_eq!(twice, Err(Fault::InvalidRequest("The client authenticates in two ways.")));
        // None of these spent the code.
        assert!(exchange(&provider, Some(&right), with(&[]).as_bytes(), now).is_ok());
    }

    #[test]
    fn the_header_is_read_as_its_rules_say() {
        let (provider, now) = (provider(), Instant::now());
        let pair = BASE64_STANDARD.encode("%63lient:a%20secret+for%20the+tests");
        for header in [format!("Basic {pair}"), format!("bASIC {pair}"), format!("Basic   {pair} ")] {
            let code = code(&provider, now);
            let mut request = redemption(&code);
            request.retain(|(name, _)| !name.starts_with("client_"));
            assert!(exchange(&provider, Some(&header), form(&request).as_bytes(), now).is_ok(), "{header:?}");
        }
    }

    #[test]
    fn only_the_code_grant_is_known() {
        let (provider, now) = (provider(), Instant::now());
        let client = [("client_id", "client"), ("client_secret", CLIENT_SECRET)];
        for (more, fault) in [
            (&[("grant_type", "password")][..], Fault::UnsupportedGrantType),
            (&[], Fault::InvalidRequest("The parameter grant_type is missing.")),
            (
                &[("grant_type", "authorization_code")],
                Fault::InvalidRequest("The parameter code is missing."),
            ),
            (&[("code", "a"), ("code", "b")], Fault::InvalidRequest("A parameter stands there twice.")),
        ] {
            let answer = exchange(&provider, None, form(&[&client[..], more].concat()).as_bytes(), now);
            assert_eq!(answer, Err(fault), "{more:?}");
        }
    }

    #[test]
    fn more_tokens_than_can_be_kept_are_put_off() {
        let (provider, now) = (provider(), Instant::now());
        let code = code(&provider, now);
        provider.grants().crowd(0, 100_000, now);
        assert_eq!(exchange(&provider, None, form(&redemption(&code)).as_bytes(), now), Err(Fault::Busy));
    }

    #[test]
    fn each_fault_has_its_code_and_its_words() {
        for (fault, error, description) in [
            (Fault::InvalidRequest("Why."), "invalid_request", "Why."),
            (Fault::InvalidClient, "invalid_client", "The client is unknown or its secret is wrong."),
            (Fault::InvalidGrant("Why."), "invalid_grant", "Why."),
            (Fault::UnsupportedGrantType, "unsupported_grant_type", "Only authorization_code is supported."),
            (Fault::Busy, "temporarily_unavailable", "Too many sign-ins are under way."),
        ] {
            assert_eq!(fault.body(), json!({ "error": error, "error_description": description }));
        }
    }
}
