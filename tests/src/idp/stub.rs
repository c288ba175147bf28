//! An identity provider that misbehaves on demand: at the transport, in its answers, in its tokens.
//!
//! It speaks OpenID Connect and the part of WorkOS' API that sign-in uses, signs in whoever `login_hint` names
//! without a page, and is correct in every respect not asked to be otherwise.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Result;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{KeyPair, KeySize, PublicKeyComponents};
use aws_lc_rs::signature::{KeyPair as _, RSA_PKCS1_SHA256};
use aws_lc_rs::{digest, hmac};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use http_body_util::channel::{Channel, Sender};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::header::{CONTENT_TYPE, LOCATION};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use url::Url;
use uuid::Uuid;

use crate::frontend::Settings;
use crate::ledger;

/// The stub's one client at OpenID Connect.
const CLIENT_ID: &str = "client_of_the_suite";
const WORKOS_CLIENT_ID: &str = "client_01STUB";
const KID: &str = "stub-1";

/// What an endpoint does instead of answering well.
#[derive(Debug, Clone)]
pub enum Fault {
    /// This status, with an HTML page as a proxy in front would send.
    Status(u16),
    /// Status 200 with this body of this type.
    Body(&'static str, String),
    /// Takes the request and never answers.
    Stall,
    /// Sends headers and then a byte a second.
    Drip,
    /// Sends a body without end.
    Flood,
    /// Closes the connection.
    Close,
    /// Redirects here.
    Redirect(String),
    /// Answers well, under this status.
    Under(u16),
    /// Answers well, with spaces up to this many bytes.
    Padded(usize),
}

/// Which endpoint a fault is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Endpoint {
    /// `/.well-known/openid-configuration`
    Discovery,
    /// Where the browser is sent, of either protocol.
    Authorize,
    /// The key set, of either protocol.
    Jwks,
    /// The token endpoint, or WorkOS' `authenticate`.
    Token,
}

/// How the ID token (WorkOS: the access token) is signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signing {
    /// RS256 by the published key.
    Proper,
    /// `alg: none`, no signature.
    None,
    /// HS256 with the public key's modulus as the shared secret.
    Hs256WithPublicKey,
    /// RS256 by a key nobody published, under the published key's id.
    ForeignKey,
    /// RS256 by a key nobody published, under an id nobody published.
    UnknownKid,
    /// RS256 by a foreign key that the header carries along as `jwk`.
    EmbeddedKey,
}

/// Changes claims before they are signed.
pub type Forge = Arc<dyn Fn(&mut serde_json::Map<String, Value>) + Send + Sync>;

struct Script {
    faults: HashMap<Endpoint, Fault>,
    signing: Signing,
    forge: Option<Forge>,
    metadata: Option<Forge>,
    extra: Option<Forge>,
}

struct Login {
    subject: String,
    nonce: Option<String>,
    challenge: Option<String>,
    redirect_uri: String,
}

struct State {
    issuer: String,
    secret: String,
    key: KeyPair,
    foreign: KeyPair,
    script: Mutex<Script>,
    codes: Mutex<HashMap<String, Login>>,
    token_requests: Mutex<Vec<String>>,
}

/// A running stub; ends with its last clone's task when dropped.
pub struct StubProvider {
    state: Arc<State>,
    task: tokio::task::JoinHandle<()>,
}

impl StubProvider {
    /// Starts it on a port of its own, behaving well.
    pub async fn start() -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let random = Uuid::new_v4().simple().to_string();
        ledger::record("client secret", &random);
        let state = Arc::new(State {
            issuer: format!("http://127.0.0.1:{}", listener.local_addr()?.port()),
            // With letters that a form encodes: so does Basic authentication, and JSON does not.
            secret: format!("+ /:%{random}"),
            key: KeyPair::generate(KeySize::Rsa2048)?,
            foreign: KeyPair::generate(KeySize::Rsa2048)?,
            script: Mutex::new(Script::well_behaved()),
            codes: Mutex::default(),
            token_requests: Mutex::default(),
        });
        let task = tokio::spawn(serve(listener, state.clone()));
        Ok(Self { state, task })
    }

    /// Its issuer URL.
    pub fn issuer(&self) -> &str {
        &self.state.issuer
    }

    /// Names it as the OpenID provider in `settings`.
    pub fn oidc(&self, settings: Settings) -> Settings {
        settings
            .set("MCP_IDP", "oidc")
            .set("OIDC_ISSUER", &self.state.issuer)
            .set("OIDC_CLIENT_ID", CLIENT_ID)
            .set("OIDC_CLIENT_SECRET", &self.state.secret)
    }

    /// Names it as WorkOS in `settings`.
    pub fn workos(&self, settings: Settings) -> Settings {
        settings
            .set("MCP_IDP", "workos")
            .set("WORKOS_API_URL", &self.state.issuer)
            .set("WORKOS_CLIENT_ID", WORKOS_CLIENT_ID)
            .set("WORKOS_API_KEY", &self.state.secret)
    }

    /// Behaves well again.
    pub fn behave(&self) {
        *self.script() = Script::well_behaved();
    }

    /// Lets `endpoint` fail by `fault` from now on.
    pub fn fail(&self, endpoint: Endpoint, fault: Fault) {
        self.script().faults.insert(endpoint, fault);
    }

    /// Signs by `signing` from now on.
    pub fn sign(&self, signing: Signing) {
        self.script().signing = signing;
    }

    /// Changes the claims of each token to come.
    pub fn forge(&self, forge: impl Fn(&mut serde_json::Map<String, Value>) + Send + Sync + 'static) {
        self.script().forge = Some(Arc::new(forge));
    }

    /// Changes the discovery document.
    pub fn forge_metadata(
        &self,
        forge: impl Fn(&mut serde_json::Map<String, Value>) + Send + Sync + 'static,
    ) {
        self.script().metadata = Some(Arc::new(forge));
    }

    /// Changes the token response.
    pub fn forge_response(
        &self,
        forge: impl Fn(&mut serde_json::Map<String, Value>) + Send + Sync + 'static,
    ) {
        self.script().extra = Some(Arc::new(forge));
    }

    /// The bodies of the token requests so far.
    pub fn token_requests(&self) -> Vec<String> {
        self.state.token_requests.lock().expect("no panic under this lock").clone()
    }

    fn script(&self) -> std::sync::MutexGuard<'_, Script> {
        self.state.script.lock().expect("no panic under this lock")
    }
}

impl Drop for StubProvider {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Script {
    fn well_behaved() -> Self {
        Self { faults: HashMap::new(), signing: Signing::Proper, forge: None, metadata: None, extra: None }
    }
}

pub(crate) type Answer = Response<BoxBody<Bytes, Infallible>>;

async fn serve(listener: TcpListener, state: Arc<State>) {
    let mut connections = tokio::task::JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        let state = state.clone();
        connections.spawn(async move {
            let service = service_fn(|request| respond(state.clone(), request));
            // An error here is a client that went away, or a connection closed on purpose.
            let _ = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
    }
}

/// The error of a connection closed on purpose.
#[derive(Debug)]
pub(crate) struct Hangup;

impl std::fmt::Display for Hangup {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("hung up")
    }
}

impl std::error::Error for Hangup {}

async fn respond(state: Arc<State>, request: Request<Incoming>) -> Result<Answer, Hangup> {
    let path = request.uri().path().to_owned();
    let endpoint = match path.as_str() {
        "/.well-known/openid-configuration" => Some(Endpoint::Discovery),
        "/authorize" | "/user_management/authorize" => Some(Endpoint::Authorize),
        "/token" | "/user_management/authenticate" => Some(Endpoint::Token),
        _ if path == "/jwks" || path.starts_with("/sso/jwks/") => Some(Endpoint::Jwks),
        _ => None,
    };
    let query: HashMap<String, String> =
        url::form_urlencoded::parse(request.uri().query().unwrap_or_default().as_bytes())
            .into_owned()
            .collect();
    let authorization =
        request.headers().get("authorization").and_then(|value| value.to_str().ok()).map(str::to_owned);
    let body = request.into_body().collect().await.map_err(|_| Hangup)?.to_bytes();
    if endpoint == Some(Endpoint::Token) {
        state.token_requests.lock().expect("no panic").push(String::from_utf8_lossy(&body).into_owned());
    }
    let fault =
        endpoint.and_then(|endpoint| state.script.lock().expect("no panic").faults.get(&endpoint).cloned());
    let (mut status, mut length) = (None, None);
    match fault {
        Some(Fault::Under(under)) => status = Some(under),
        Some(Fault::Padded(to)) => length = Some(to),
        Some(fault) => return misbehave(fault).await,
        None => {}
    }
    let mut answer = match path.as_str() {
        "/.well-known/openid-configuration" => state.discovery(),
        "/authorize" | "/user_management/authorize" => state.authorize(&query),
        "/token" => state.token(&body, authorization.as_deref()),
        "/user_management/authenticate" => state.authenticate(&body),
        _ if endpoint == Some(Endpoint::Jwks) => json_answer(200, &state.jwks()),
        _ => json_answer(404, &json!({"error": "not_found"})),
    };
    if let Some(status) = status {
        *answer.status_mut() = StatusCode::from_u16(status).expect("a valid status");
    }
    if let Some(length) = length {
        let (parts, body) = answer.into_parts();
        let Ok(body) = body.collect().await;
        let mut body = body.to_bytes().to_vec();
        body.resize(length, b' ');
        answer = Response::from_parts(parts, Full::new(Bytes::from(body)).boxed());
    }
    Ok(answer)
}

pub(crate) async fn misbehave(fault: Fault) -> Result<Answer, Hangup> {
    let html = "<!doctype html><title>Bad Gateway</title><h1>upstream said secret-internal-detail</h1>";
    Ok(match fault {
        Fault::Status(status) | Fault::Under(status) => answer(status, "text/html", html.to_owned()),
        Fault::Body(kind, body) => answer(200, kind, body),
        Fault::Padded(length) => answer(200, "application/json", " ".repeat(length)),
        Fault::Stall => std::future::pending().await,
        Fault::Close => return Err(Hangup),
        Fault::Drip => stream(|mut sender| async move {
            while sender.send_data(Bytes::from_static(b" ")).await.is_ok() {
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        }),
        Fault::Flood => stream(|mut sender| async move {
            let chunk = Bytes::from(vec![b' '; 64 * 1024]);
            while sender.send_data(chunk.clone()).await.is_ok() {}
        }),
        Fault::Redirect(to) => {
            let mut answer = answer(302, "text/plain", String::new());
            answer.headers_mut().insert(LOCATION, to.parse().expect("a URL"));
            answer
        }
    })
}

impl State {
    fn discovery(&self) -> Answer {
        let issuer = &self.issuer;
        let mut document = json!({
            "issuer": issuer,
            "authorization_endpoint": format!("{issuer}/authorize"),
            "token_endpoint": format!("{issuer}/token"),
            "jwks_uri": format!("{issuer}/jwks"),
            "response_types_supported": ["code"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["RS256"],
            "token_endpoint_auth_methods_supported": ["client_secret_basic", "client_secret_post"],
            "code_challenge_methods_supported": ["S256"],
        });
        let forge = self.script.lock().expect("no panic").metadata.clone();
        if let (Some(forge), Some(fields)) = (forge, document.as_object_mut()) {
            forge(fields);
        }
        json_answer(200, &document)
    }

    fn authorize(&self, query: &HashMap<String, String>) -> Answer {
        let Some(redirect_uri) = query.get("redirect_uri") else {
            return json_answer(400, &json!({"error": "invalid_request"}));
        };
        let code = format!("code_{}", Uuid::new_v4().simple());
        let login = Login {
            subject: query.get("login_hint").cloned().unwrap_or_else(|| "nobody".to_owned()),
            nonce: query.get("nonce").cloned(),
            challenge: query.get("code_challenge").cloned(),
            redirect_uri: redirect_uri.clone(),
        };
        self.codes.lock().expect("no panic").insert(code.clone(), login);
        let Ok(mut target) = Url::parse(redirect_uri) else {
            return json_answer(400, &json!({"error": "invalid_request"}));
        };
        target.query_pairs_mut().append_pair("code", &code);
        if let Some(state) = query.get("state") {
            target.query_pairs_mut().append_pair("state", state);
        }
        let mut answer = answer(302, "text/plain", String::new());
        answer.headers_mut().insert(LOCATION, target.as_str().parse().expect("a URL is a header value"));
        answer
    }

    /// OpenID Connect's token endpoint: client, code, redirect URI and PKCE are checked, as any provider does.
    fn token(&self, body: &[u8], authorization: Option<&str>) -> Answer {
        let form: HashMap<String, String> = url::form_urlencoded::parse(body).into_owned().collect();
        let secret: String = url::form_urlencoded::byte_serialize(self.secret.as_bytes()).collect();
        let basic = format!("Basic {}", STANDARD.encode(format!("{CLIENT_ID}:{secret}")));
        let posted = form.get("client_secret") == Some(&self.secret);
        if !posted && authorization != Some(&basic) {
            return json_answer(401, &json!({"error": "invalid_client"}));
        }
        let Some(login) = self.redeem(&form) else {
            return json_answer(400, &json!({"error": "invalid_grant"}));
        };
        let mut claims = json!({
            "iss": self.issuer, "aud": CLIENT_ID, "sub": login.subject,
            "iat": now(), "exp": now() + 300,
            "email": login.subject, "email_verified": true, "name": "Stub User",
        });
        if let Some(nonce) = &login.nonce {
            claims["nonce"] = json!(nonce);
        }
        self.answer_tokens(json!({
            "access_token": format!("at_{}", Uuid::new_v4().simple()),
            "refresh_token": format!("rt_{}", Uuid::new_v4().simple()),
            "token_type": "Bearer",
            "expires_in": 300,
            "id_token": self.sign(claims),
        }))
    }

    /// WorkOS' `authenticate`, with the organisation, role and permissions its emulator leaves out.
    fn authenticate(&self, body: &[u8]) -> Answer {
        let request: HashMap<String, String> = serde_json::from_slice(body).unwrap_or_default();
        let right_client = request.get("client_id").map(String::as_str) == Some(WORKOS_CLIENT_ID);
        if !right_client || request.get("client_secret") != Some(&self.secret) {
            return json_answer(
                401,
                &json!({"error": "invalid_client", "error_description": "Invalid client."}),
            );
        }
        let Some(login) = self.redeem(&request) else {
            return json_answer(
                400,
                &json!({"error": "invalid_grant", "error_description": "The code is invalid."}),
            );
        };
        let user = format!("user_01{}", &login.subject);
        let access_token = self.sign(json!({
            "iss": self.issuer, "sub": user, "sid": "session_01STUB", "org_id": "org_01STUB",
            "role": "admin", "permissions": ["notes:read", "notes:write"],
            "iat": now(), "exp": now() + 300,
        }));
        self.answer_tokens(json!({
            "user": {
                "object": "user", "id": user, "email": login.subject, "email_verified": true,
                "first_name": "Stub", "last_name": "User",
            },
            "organization_id": "org_01STUB",
            "access_token": access_token,
            "refresh_token": format!("rt_{}", Uuid::new_v4().simple()),
            "authentication_method": "GoogleOAuth",
        }))
    }

    fn answer_tokens(&self, mut tokens: Value) -> Answer {
        ledger::record_fields("provider", &tokens, &["access_token", "refresh_token", "id_token"]);
        let forge = self.script.lock().expect("no panic").extra.clone();
        if let (Some(forge), Some(fields)) = (forge, tokens.as_object_mut()) {
            forge(fields);
        }
        json_answer(200, &tokens)
    }

    /// Takes a code out, once; `None` where it, its redirect URI or its verifier does not hold.
    fn redeem(&self, request: &HashMap<String, String>) -> Option<Login> {
        let verifier = request.get("code_verifier");
        if let Some(verifier) = verifier {
            ledger::record("code_verifier", verifier);
        }
        let login = self.codes.lock().expect("no panic").remove(request.get("code")?)?;
        if request.get("redirect_uri").is_some_and(|sent| *sent != login.redirect_uri) {
            return None;
        }
        if let Some(challenge) = &login.challenge {
            let hash = digest::digest(&digest::SHA256, verifier?.as_bytes());
            if URL_SAFE_NO_PAD.encode(hash) != *challenge {
                return None;
            }
        }
        Some(login)
    }

    fn sign(&self, mut claims: Value) -> String {
        let (signing, forge) = {
            let script = self.script.lock().expect("no panic");
            (script.signing, script.forge.clone())
        };
        if let (Some(forge), Some(fields)) = (forge, claims.as_object_mut()) {
            forge(fields);
        }
        let header = match signing {
            Signing::Proper | Signing::ForeignKey => json!({"alg": "RS256", "kid": KID, "typ": "JWT"}),
            Signing::None => json!({"alg": "none", "typ": "JWT"}),
            Signing::Hs256WithPublicKey => json!({"alg": "HS256", "kid": KID, "typ": "JWT"}),
            Signing::UnknownKid => json!({"alg": "RS256", "kid": "nobody-knows", "typ": "JWT"}),
            Signing::EmbeddedKey => {
                json!({"alg": "RS256", "kid": "embedded", "typ": "JWT", "jwk": public_jwk(&self.foreign, "embedded")})
            }
        };
        let input = format!(
            "{}.{}",
            URL_SAFE_NO_PAD.encode(header.to_string()),
            URL_SAFE_NO_PAD.encode(claims.to_string())
        );
        let signature = match signing {
            Signing::Proper => rsa(&self.key, &input),
            Signing::None => Vec::new(),
            Signing::Hs256WithPublicKey => {
                let public = PublicKeyComponents::<Vec<u8>>::from(self.key.public_key());
                hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &public.n), input.as_bytes()).as_ref().to_vec()
            }
            Signing::ForeignKey | Signing::UnknownKid | Signing::EmbeddedKey => rsa(&self.foreign, &input),
        };
        format!("{input}.{}", URL_SAFE_NO_PAD.encode(signature))
    }

    fn jwks(&self) -> Value {
        json!({"keys": [public_jwk(&self.key, KID)]})
    }
}

fn rsa(key: &KeyPair, input: &str) -> Vec<u8> {
    let mut signature = vec![0; key.public_modulus_len()];
    key.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), input.as_bytes(), &mut signature)
        .expect("the buffer has the size of the modulus");
    signature
}

fn public_jwk(key: &KeyPair, kid: &str) -> Value {
    let public = PublicKeyComponents::<Vec<u8>>::from(key.public_key());
    json!({
        "kty": "RSA", "use": "sig", "alg": "RS256", "kid": kid,
        "n": URL_SAFE_NO_PAD.encode(public.n), "e": URL_SAFE_NO_PAD.encode(public.e),
    })
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("the clock is past 1970").as_secs()
}

pub(crate) fn answer(status: u16, kind: &str, body: String) -> Answer {
    let mut answer = Response::new(Full::new(Bytes::from(body)).boxed());
    *answer.status_mut() = StatusCode::from_u16(status).expect("a valid status");
    answer.headers_mut().insert(CONTENT_TYPE, kind.parse().expect("a valid type"));
    answer
}

fn json_answer(status: u16, body: &Value) -> Answer {
    answer(status, "application/json", body.to_string())
}

fn stream<F, Fut>(write: F) -> Answer
where
    F: FnOnce(Sender<Bytes, Infallible>) -> Fut,
    Fut: Future<Output = ()> + Send + 'static,
{
    let (sender, body) = Channel::new(1);
    tokio::spawn(write(sender));
    let mut answer = Response::new(body.boxed());
    answer.headers_mut().insert(CONTENT_TYPE, "application/json".parse().expect("a valid type"));
    answer
}
