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
    use crate::provider::fixture::{CLIENT_SECRET, REDIRECT_URI, provider};
    use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode};

    // The pair of RFC 7636 appendix B.
    const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
    const CHALLENGE: &str = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";

    fn code(provider: &Provider, now: Instant) -> String {
        let grant = Grant {
            user: User::with_email("alice@example.com").expect("an address"),
            redirect_uri: REDIRECT_URI.to_owned(),
            code_challenge: CHALLENGE.to_owned(),
            nonce: Some("once".to_owned()),
            scopes: Scopes::parse("openid email profile"),
        };
        provider.grants().issue_code(grant, now).expect("a code")
    }

    fn form(pairs: &[(&str, &str)]) -> Vec<u8> {
        form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish().into_bytes()
    }

    fn request(code: &str) -> Vec<(&str, &str)> {
        vec![
            ("grant_type", "authorization_code"),
            ("code", code),
            ("redirect_uri", REDIRECT_URI),
            ("code_verifier", VERIFIER),
            ("client_id", "client"),
            ("client_secret", CLIENT_SECRET),
        ]
    }

    #[test]
    fn a_code_gives_an_id_token_that_verifies() {
        let (provider, now) = (provider(), Instant::now());
        let code = code(&provider, now);
        let answer = exchange(&provider, None, &form(&request(&code)), now).expect("tokens");

        let key = DecodingKey::from_jwk(&provider.key().public_set().keys[0]).expect("a key");
        let mut validation = Validation::new(Algorithm::RS256);
        validation.set_audience(&["client"]);
        validation.set_issuer(&["http://127.0.0.1:8090"]);
        let token = answer["id_token"].as_str().expect("a token");
        let claims = decode::<Value>(token, &key, &validation).expect("valid").claims;
        assert_eq!(claims["email"], "alice@example.com");
        assert_eq!(claims["name"], "Alice");
        assert_eq!(claims["nonce"], "once");

        let access_token = answer["access_token"].as_str().expect("a token");
        let grants = provider.grants();
        let (user, scopes) = grants.user_of(access_token, now).expect("live");
        assert_eq!(user_claims(user, scopes)["sub"], claims["sub"]);
    }

    #[test]
    fn what_does_not_fit_the_authorization_request_is_refused() {
        let (provider, now) = (provider(), Instant::now());
        for (name, value) in [
            ("redirect_uri", "http://127.0.0.1:8080/elsewhere"),
            ("redirect_uri", ""),
            ("code_verifier", "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXl"),
            ("code_verifier", CHALLENGE),
            ("code_verifier", ""),
            ("code", "unheard of"),
        ] {
            let code = code(&provider, now);
            let mut request = request(&code);
            request.retain(|(key, _)| *key != name);
            request.push((name, value));
            let fault = exchange(&provider, None, &form(&request), now).expect_err(name);
            assert!(matches!(fault, Fault::InvalidGrant(_)), "{name}={value}: {fault:?}");
            if name != "code" {
                assert!(provider.grants().spend_code(&code, now).is_none(), "the code is spent: {name}");
            }
        }
    }

    #[test]
    fn the_client_must_prove_itself() {
        let (provider, now) = (provider(), Instant::now());
        let code = code(&provider, now);
        let without_secret: Vec<_> =
            request(&code).into_iter().filter(|(key, _)| *key != "client_secret").collect();
        let basic = |pair: &str| format!("Basic {}", BASE64_STANDARD.encode(pair));

        for header in [
            None,
            Some(basic("client:wrong")),
            Some(basic("other:a+secret+for+the+tests")),
            Some("Basic ?".to_owned()),
        ] {
            let answer = exchange(&provider, header.as_deref(), &form(&without_secret), now);
            assert_eq!(answer, Err(Fault::InvalidClient), "{header:?}");
        }
        let twice =
            exchange(&provider, Some(&basic("client:a+secret+for+the+tests")), &form(&request(&code)), now);
        assert!(matches!(twice, Err(Fault::InvalidRequest(_))));
        // None of these spent the code.
        let header = basic("client:a+secret+for+the+tests");
        assert!(exchange(&provider, Some(&header), &form(&without_secret), now).is_ok());
    }

    #[test]
    fn only_the_code_grant_is_known() {
        let (provider, now) = (provider(), Instant::now());
        let client = [("client_id", "client"), ("client_secret", CLIENT_SECRET)];
        let with =
            |more: &[(&str, &str)]| exchange(&provider, None, &form(&[&client[..], more].concat()), now);
        assert_eq!(with(&[("grant_type", "password")]), Err(Fault::UnsupportedGrantType));
        assert!(matches!(with(&[]), Err(Fault::InvalidRequest(_))));
        assert!(matches!(with(&[("grant_type", "authorization_code")]), Err(Fault::InvalidRequest(_))));
    }
}
