//! Any OpenID provider: discovery, authorization code with PKCE, ID token (OpenID Connect Core 1.0).

use std::time::{Duration, Instant};

use http::StatusCode;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use tokio::sync::Mutex;
use url::{Host, Url};

use crate::{
    authorization_server::address::is_public,
    config::{is_loopback, secure_or_loopback},
    idp::{
        Incoming, Outgoing, Principal, ProviderFault, Published, http as provider,
        jwt::{Audience, Expected, KeySet},
    },
};

/// How long a discovery document is used before it is fetched again.
const KEEP: Duration = Duration::from_secs(3600);
/// How long the last good one is used after that could not be done.
const RETRY: Duration = Duration::from_secs(60);
/// Claims of the protocol, which say nothing of the person.
const PROTOCOL_CLAIMS: &[&str] =
    &["iss", "sub", "aud", "azp", "exp", "iat", "nbf", "jti", "nonce", "at_hash", "c_hash", "s_hash"];

/// An OpenID provider, asked at the first sign-in and not before.
pub struct Oidc {
    issuer: String,
    client_id: String,
    client_secret: Option<SecretString>,
    scopes: String,
    redirect_uri: String,
    /// The last good document, and until when it is used without asking again.
    metadata: Mutex<Option<(Metadata, Instant)>>,
    keys: KeySet,
}

/// What is used of a discovery document (OpenID Connect Discovery §3).
#[derive(Debug, Clone, Deserialize)]
struct Metadata {
    issuer: String,
    authorization_endpoint: Url,
    token_endpoint: Url,
    jwks_uri: Url,
    userinfo_endpoint: Option<Url>,
    #[serde(default)]
    token_endpoint_auth_methods_supported: Option<Vec<String>>,
    #[serde(default)]
    authorization_response_iss_parameter_supported: bool,
    code_challenge_methods_supported: Option<Vec<String>>,
    scopes_supported: Option<Vec<String>>,
    response_types_supported: Option<Vec<String>>,
}

#[derive(Deserialize)]
struct TokenAnswer {
    id_token: String,
    access_token: String,
    refresh_token: Option<String>,
    expires_in: Option<f64>,
    scope: Option<String>,
    token_type: String,
}

#[derive(Deserialize)]
struct TokenError {
    error: String,
}

impl Oidc {
    pub fn new(
        issuer: String,
        client_id: String,
        client_secret: Option<SecretString>,
        scopes: String,
        redirect_uri: String,
    ) -> Self {
        Self {
            issuer,
            client_id,
            client_secret,
            scopes,
            redirect_uri,
            metadata: Mutex::new(None),
            keys: KeySet::new(),
        }
    }

    pub async fn authorization_url(&self, outgoing: &Outgoing<'_>) -> Result<Url, ProviderFault> {
        let mut url = self.metadata().await?.authorization_endpoint;
        let mut query = url.query_pairs_mut();
        query
            .append_pair("response_type", "code")
            .append_pair("client_id", &self.client_id)
            .append_pair("redirect_uri", &self.redirect_uri)
            .append_pair("scope", &self.scopes)
            .append_pair("state", outgoing.state)
            .append_pair("nonce", outgoing.nonce)
            .append_pair("code_challenge", outgoing.challenge)
            .append_pair("code_challenge_method", "S256");
        if let Some(hint) = outgoing.login_hint {
            query.append_pair("login_hint", hint);
        }
        drop(query);
        Ok(url)
    }

    /// The defence against mix-up (RFC 9207 §2.4): wrong is refused, and so is absent where it was promised.
    pub async fn check_issuer(&self, iss: Option<&str>) -> Result<(), ProviderFault> {
        match iss {
            Some(iss) if iss != self.issuer => Err(ProviderFault::WrongIssuer),
            None if self.metadata().await?.authorization_response_iss_parameter_supported => {
                Err(ProviderFault::WrongIssuer)
            }
            _ => Ok(()),
        }
    }

    pub async fn redeem(&self, incoming: &Incoming<'_>) -> Result<Principal, ProviderFault> {
        self.check_issuer(incoming.iss).await?;
        let metadata = self.metadata().await?;
        let tokens = self.exchange(&metadata, incoming).await?;
        let expected = Expected {
            issuers: std::slice::from_ref(&self.issuer),
            audience: Audience::Only(&self.client_id),
            nonce: Some(incoming.nonce),
        };
        let verified = self.keys.verify(&metadata.jwks_uri, &tokens.id_token, &expected).await?;
        let subject = verified["sub"].as_str().unwrap_or_default().to_owned();
        let mut claims = person(verified);
        if let Some(endpoint) = &metadata.userinfo_endpoint
            && !claims.contains_key("email")
        {
            // Providers may keep the profile out of the ID token (§5.4); the ID token wins where both speak.
            let mut profile = person(self.userinfo(endpoint, &tokens.access_token, &subject).await?);
            profile.append(&mut claims);
            claims = profile;
        }
        let expires_at = tokens
            .expires_in
            .filter(|seconds| (0.0..1e9).contains(seconds))
            .map(|seconds| (chrono::Utc::now() + Duration::from_secs_f64(seconds)).to_rfc3339());
        let oauth_data = json!({
            "access_token": tokens.access_token,
            "refresh_token": tokens.refresh_token,
            "id_token": tokens.id_token,
            "token_type": tokens.token_type,
            "scope": tokens.scope,
            "expires_at": expires_at,
        });
        Ok(Principal { issuer: self.issuer.clone(), subject, claims, oauth_data })
    }

    /// What the discovery document says, beside `authorize`, the answer to a sign-in of this client.
    pub async fn examine(&self, authorize: StatusCode) -> Result<Published, ProviderFault> {
        let metadata = self.metadata().await?;
        Ok(Published {
            usable_keys: self.keys.usable(&metadata.jwks_uri).await?,
            challenge_methods: metadata.code_challenge_methods_supported,
            scopes: metadata.scopes_supported,
            wanted_scopes: self.scopes.clone(),
            response_types: metadata.response_types_supported,
            authorize,
        })
    }

    async fn exchange(
        &self,
        metadata: &Metadata,
        incoming: &Incoming<'_>,
    ) -> Result<TokenAnswer, ProviderFault> {
        let mut form = vec![
            ("grant_type", "authorization_code"),
            ("code", incoming.code),
            ("redirect_uri", &self.redirect_uri),
            ("code_verifier", incoming.verifier),
        ];
        let mut request = provider::client()?.post(metadata.token_endpoint.clone());
        match &self.client_secret {
            None => form.push(("client_id", &self.client_id)),
            Some(secret) if metadata.takes_basic() => {
                // RFC 6749 §2.3.1 encodes both parts as a form before Basic encodes the pair.
                let encode =
                    |text: &str| url::form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
                request = request.basic_auth(encode(&self.client_id), Some(encode(secret.expose_secret())));
            }
            Some(secret) => {
                form.extend([
                    ("client_id", self.client_id.as_str()),
                    ("client_secret", secret.expose_secret()),
                ]);
            }
        }
        let (status, body) = provider::fetch(request.form(&form), provider::ANSWER_LIMIT).await?;
        match status {
            StatusCode::OK => provider::json(&body),
            StatusCode::BAD_REQUEST | StatusCode::UNAUTHORIZED => {
                let TokenError { error } = provider::json(&body)?;
                Err(match error.as_str() {
                    "invalid_grant" => ProviderFault::CodeRefused(error),
                    "invalid_client" | "unauthorized_client" => ProviderFault::ClientRefused(error),
                    _ => ProviderFault::Status(status),
                })
            }
            status => Err(ProviderFault::Status(status)),
        }
    }

    async fn userinfo(
        &self,
        endpoint: &Url,
        access_token: &str,
        subject: &str,
    ) -> Result<Map<String, Value>, ProviderFault> {
        let request = provider::client()?.get(endpoint.clone()).bearer_auth(access_token);
        let profile: Map<String, Value> = provider::fetch_json(request, provider::ANSWER_LIMIT).await?;
        // §5.3.2: without this check another person's profile could be put in.
        if profile.get("sub").and_then(Value::as_str) != Some(subject) {
            return Err(ProviderFault::Garbage("the profile is another subject's".into()));
        }
        Ok(profile)
    }

    async fn metadata(&self) -> Result<Metadata, ProviderFault> {
        let mut cached = self.metadata.lock().await;
        if let Some((metadata, until)) = &*cached
            && Instant::now() < *until
        {
            return Ok(metadata.clone());
        }
        match (self.fetch_metadata().await, &mut *cached) {
            (Ok(metadata), cached) => {
                *cached = Some((metadata.clone(), Instant::now() + KEEP));
                Ok(metadata)
            }
            (Err(fault), Some((metadata, until))) => {
                tracing::warn!(%fault, "cannot read the provider's document again: using the last one");
                *until = Instant::now() + RETRY;
                Ok(metadata.clone())
            }
            (Err(fault), None) => Err(fault),
        }
    }

    async fn fetch_metadata(&self) -> Result<Metadata, ProviderFault> {
        let url = format!("{}/.well-known/openid-configuration", self.issuer.trim_end_matches('/'));
        let metadata: Metadata =
            provider::fetch_json(provider::client()?.get(url), provider::DISCOVERY_LIMIT).await?;
        self.check(&metadata)?;
        Ok(metadata)
    }

    /// The document has to be this issuer's, and its endpoints no weaker than the issuer itself: encrypted, and no address
    /// of the operator's own network, unless the operator gave such a one as the issuer.
    fn check(&self, metadata: &Metadata) -> Result<(), ProviderFault> {
        if metadata.issuer != self.issuer {
            return Err(ProviderFault::WrongIssuer);
        }
        let issuer = Url::parse(&self.issuer).ok();
        let local = issuer.as_ref().is_some_and(is_loopback);
        let endpoints = [&metadata.authorization_endpoint, &metadata.token_endpoint, &metadata.jwks_uri];
        for endpoint in endpoints.into_iter().chain(&metadata.userinfo_endpoint) {
            let allowed =
                if local { secure_or_loopback(endpoint).is_ok() } else { endpoint.scheme() == "https" };
            if !allowed {
                return Err(ProviderFault::Garbage("an endpoint is not https".into()));
            }
            let own = issuer.as_ref().is_some_and(|issuer| issuer.host() == endpoint.host());
            if !local && !own && leads_inside(endpoint) {
                return Err(ProviderFault::Garbage("an endpoint is an address inside".into()));
            }
        }
        Ok(())
    }
}

impl Metadata {
    /// Basic is the default where the document is silent (Discovery §3), and preferred where there is a choice.
    fn takes_basic(&self) -> bool {
        match &self.token_endpoint_auth_methods_supported {
            None => true,
            Some(methods) => methods.iter().any(|method| method == "client_secret_basic"),
        }
    }
}

/// Whether a URL names an address that is none of the public internet's. What a name leads to is not looked at: providers
/// inside have names there, and behind a name of the provider's choice nothing answers with a certificate for it.
fn leads_inside(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => {
            // A dot at the end says no more than that the name is whole.
            let name = name.strip_suffix('.').unwrap_or(name);
            name == "localhost" || name.ends_with(".localhost")
        }
        Some(Host::Ipv4(address)) => !is_public(address.into()),
        Some(Host::Ipv6(address)) => !is_public(address.into()),
        None => true,
    }
}

fn person(mut claims: Map<String, Value>) -> Map<String, Value> {
    claims.retain(|name, _| !PROTOCOL_CLAIMS.contains(&name.as_str()));
    claims
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
    };

    use super::*;

    fn provider(issuer: &str) -> Oidc {
        Oidc::new(issuer.into(), "mcp".into(), None, "openid".into(), "https://h/auth/callback".into())
    }

    fn metadata(changes: Value) -> Metadata {
        let mut document = json!({
            "issuer": "https://id.example.com",
            "authorization_endpoint": "https://id.example.com/authorize",
            "token_endpoint": "https://id.example.com/token",
            "jwks_uri": "https://id.example.com/jwks",
        });
        document.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
        serde_json::from_value(document).unwrap()
    }

    #[test]
    fn checklist_33_a_document_of_another_issuer_is_refused() {
        assert!(provider("https://id.example.com").check(&metadata(json!({}))).is_ok());
        for issuer in ["https://id.example.com/", "https://id.example.com/tenant", "https://ID.example.com"] {
            let checked = provider(issuer).check(&metadata(json!({})));
            assert!(matches!(checked, Err(ProviderFault::WrongIssuer)), "{issuer}");
        }
    }

    #[tokio::test]
    async fn a_document_that_was_good_is_used_while_there_is_no_other() {
        // Nobody listens on port 1.
        let provider = provider("http://127.0.0.1:1");
        assert!(provider.metadata().await.is_err());
        *provider.metadata.lock().await = Some((metadata(json!({})), Instant::now()));
        assert_eq!(provider.metadata().await.unwrap().issuer, "https://id.example.com");
        let until = provider.metadata.lock().await.as_ref().unwrap().1;
        assert!(until > Instant::now() && until <= Instant::now() + RETRY, "asked again in a minute");
        // One that is not old is not asked for.
        *provider.metadata.lock().await = Some((metadata(json!({})), Instant::now() + KEEP));
        assert!(provider.metadata().await.is_ok());
        let until = provider.metadata.lock().await.as_ref().unwrap().1;
        assert!(until > Instant::now() + RETRY, "asked too soon");
    }

    #[tokio::test]
    async fn a_document_is_kept_for_an_hour() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let issuer = format!("http://{}", listener.local_addr().unwrap());
        let provider = provider(&issuer);
        let document = json!({
            "issuer": issuer,
            "authorization_endpoint": format!("{issuer}/authorize"),
            "token_endpoint": format!("{issuer}/token"),
            "jwks_uri": format!("{issuer}/jwks"),
        })
        .to_string();
        let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{document}", document.len());
        let served = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            let _ = stream.read(&mut [0; 4096]).await.unwrap();
            stream.write_all(answer.as_bytes()).await.unwrap();
            stream
        };
        let (metadata, _stream) = tokio::join!(provider.metadata(), served);
        assert_eq!(metadata.unwrap().issuer, issuer);
        let until = provider.metadata.lock().await.as_ref().unwrap().1;
        let left = until - Instant::now();
        assert!(KEEP - Duration::from_secs(60) < left && left <= KEEP, "{left:?}");
        assert_eq!(KEEP, Duration::from_secs(3600));
    }

    #[tokio::test]
    async fn an_answer_of_another_issuer_is_refused() {
        for (promised, iss, holds) in [
            (true, Some("https://id.example.com"), true),
            (false, Some("https://id.example.com"), true),
            (false, None, true),
            (true, None, false),
            (true, Some("https://id.example.com/"), false),
            (false, Some("https://evil.example.com"), false),
            (false, Some(""), false),
        ] {
            let provider = provider("https://id.example.com");
            let document = metadata(json!({"authorization_response_iss_parameter_supported": promised}));
            *provider.metadata.lock().await = Some((document, Instant::now() + KEEP));
            assert_eq!(provider.check_issuer(iss).await.is_ok(), holds, "{promised} {iss:?}");
        }
    }

    #[tokio::test]
    async fn a_sign_in_is_bound_by_state_nonce_and_challenge() {
        let provider = provider("https://id.example.com");
        *provider.metadata.lock().await = Some((metadata(json!({})), Instant::now() + KEEP));
        let outgoing = Outgoing { state: "s", nonce: "n", challenge: "c", login_hint: None };
        let url = provider.authorization_url(&outgoing).await.unwrap();
        let sent: std::collections::HashMap<_, _> = url.query_pairs().into_owned().collect();
        for (name, value) in
            [("state", "s"), ("nonce", "n"), ("code_challenge", "c"), ("code_challenge_method", "S256")]
        {
            assert_eq!(sent.get(name).map(String::as_str), Some(value), "{name}");
        }
    }

    #[test]
    fn endpoints_are_no_weaker_than_the_issuer() {
        for endpoint in ["http://id.example.com/x", "http://127.0.0.1/x", "ftp://id.example.com/x"] {
            for name in ["authorization_endpoint", "token_endpoint", "jwks_uri", "userinfo_endpoint"] {
                let document = metadata(json!({ name: endpoint }));
                assert!(provider("https://id.example.com").check(&document).is_err(), "{name} {endpoint}");
            }
        }
        let local =
            metadata(json!({"issuer": "http://127.0.0.1:8090", "token_endpoint": "http://127.0.0.1:8090/t"}));
        assert!(provider("http://127.0.0.1:8090").check(&local).is_ok());
        let named =
            metadata(json!({"issuer": "http://127.0.0.1:8090", "token_endpoint": "http://localhost:8090/t"}));
        assert!(provider("http://127.0.0.1:8090").check(&named).is_ok());
        let weaker =
            metadata(json!({"issuer": "http://127.0.0.1:8090", "token_endpoint": "http://id.example.com/t"}));
        assert!(provider("http://127.0.0.1:8090").check(&weaker).is_err());
    }

    #[test]
    fn checklist_15_endpoints_do_not_lead_inside() {
        let inside = [
            "localhost",
            "id.localhost",
            "localhost.",
            "id.localhost.",
            "127.0.0.1",
            "0x7f.1",
            "2130706433",
            "[::1]",
            "[::ffff:7f00:1]",
            "10.0.0.1",
            "100.64.0.1",
            "169.254.169.254",
            "[fd00:ec2::254]",
        ];
        for host in inside {
            for name in ["authorization_endpoint", "token_endpoint", "jwks_uri", "userinfo_endpoint"] {
                let document = metadata(json!({ name: format!("https://{host}/x") }));
                assert!(provider("https://id.example.com").check(&document).is_err(), "{name} {host}");
            }
        }
        // An operator's provider may well be inside; then it says so itself.
        let mut document = json!({ "issuer": "https://10.0.0.1" });
        for name in ["authorization_endpoint", "token_endpoint", "jwks_uri"] {
            document[name] = json!("https://10.0.0.1/x");
        }
        assert!(provider("https://10.0.0.1").check(&metadata(document)).is_ok());
        let elsewhere = metadata(json!({
            "jwks_uri": "https://keys.example.com/jwks", "token_endpoint": "https://1.1.1.1/",
            "userinfo_endpoint": "https://[2606:4700::1111]/",
        }));
        assert!(provider("https://id.example.com").check(&elsewhere).is_ok());
    }

    #[test]
    fn basic_is_preferred_and_the_default() {
        assert!(metadata(json!({})).takes_basic());
        let methods =
            |list: Value| metadata(json!({"token_endpoint_auth_methods_supported": list})).takes_basic();
        assert!(methods(json!(["client_secret_post", "client_secret_basic"])));
        assert!(!methods(json!(["client_secret_post"])));
    }

    #[test]
    fn the_protocols_own_claims_are_not_the_persons() {
        let claims = json!({"iss": "x", "sub": "y", "nonce": "z", "email": "a@example.com", "org_id": "o"});
        let kept = person(claims.as_object().unwrap().clone());
        assert_eq!(kept.keys().collect::<Vec<_>>(), ["email", "org_id"]);
    }
}

#[cfg(test)]
mod property {
    use proptest::prelude::*;

    use super::*;

    fn url() -> impl Strategy<Value = String> {
        let start = "(https|http|HTTPS|file|javascript|data|ftp|ws)";
        let host =
            "(id\\.example\\.com|127\\.0\\.0\\.1|\\[::1\\]|localhost|169\\.254\\.169\\.254|evil\\.example|)";
        (start, "(:|:/|://|:///|:\\\\\\\\)", host, "[ -~]{0,6}")
            .prop_map(|(start, slashes, host, rest)| format!("{start}{slashes}{host}{rest}"))
    }

    proptest! {
        /// Whatever a document says: it is this issuer's, and nothing in it is weaker than the issuer or leads inside.
        #[test]
        fn a_document_that_passes_is_the_issuers_own(
            issuer in prop_oneof![Just("https://id.example.com".to_owned()), url()],
            endpoints in [url(), url(), url(), url()],
        ) {
            let [authorization, token, jwks, userinfo] = &endpoints;
            let document = json!({
                "issuer": issuer, "authorization_endpoint": authorization, "token_endpoint": token, "jwks_uri": jwks,
                "userinfo_endpoint": userinfo,
            });
            let Ok(metadata) = serde_json::from_value::<Metadata>(document) else { return Ok(()) };
            let ours = "https://id.example.com";
            let oidc = Oidc::new(ours.into(), "mcp".into(), None, "openid".into(), "https://h/auth/callback".into());
            let all = [&metadata.authorization_endpoint, &metadata.token_endpoint, &metadata.jwks_uri];
            let fits = |url: &Url| url.scheme() == "https" && !leads_inside(url);
            let fit = all.into_iter().chain(&metadata.userinfo_endpoint).all(fits);
            prop_assert_eq!(oidc.check(&metadata).is_ok(), issuer == ours && fit);
        }
    }
}
