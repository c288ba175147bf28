//! An OAuth client of the authorization server, as MCP clients are: public, with PKCE, known by registration or not.
//!
//! A library would send what is right; here every parameter can be left out, changed and sent twice.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use aws_lc_rs::digest;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use reqwest::header::HeaderMap;
use reqwest::{RequestBuilder, StatusCode};
use serde_json::{Value, json};
use url::Url;
use uuid::Uuid;

use crate::browser::{Browser, Page};
use crate::ledger;
use crate::wait::wait_for;

/// Where clients of the suite are sent back to. Nobody listens there: the browser stops before.
pub const LOOPBACK: &str = "http://127.0.0.1:9/callback";
/// The same for a client on the web.
pub const WEB: &str = "https://client.test/callback";

/// How long a server may be busy.
const PATIENCE: Duration = Duration::from_secs(60);

/// A client at one authorization server.
#[derive(Debug, Clone)]
pub struct Client {
    http: reqwest::Client,
    server: String,
    /// Its id.
    pub id: String,
    /// Where it is sent back to.
    pub redirect_uri: String,
}

/// An authorization request: its parameters, in order, and what only the client knows of it.
#[derive(Debug, Clone)]
pub struct Request {
    endpoint: String,
    /// What goes into the query.
    pub parameters: Vec<(String, String)>,
    /// What the challenge was made from.
    pub verifier: String,
}

/// A code, with all that its client needs to redeem it.
#[derive(Debug, Clone)]
pub struct Code {
    /// The code.
    pub code: String,
    /// The PKCE verifier.
    pub verifier: String,
    /// The redirect URI it was asked for with.
    pub redirect_uri: String,
    /// The whole answer.
    pub answer: Url,
}

/// What the token endpoint granted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tokens {
    /// The access token.
    pub access: String,
    /// The refresh token.
    pub refresh: String,
    /// The scopes of the access token.
    pub scope: String,
}

/// An answer of an endpoint that programs talk to.
#[derive(Debug, Clone)]
pub struct Reply {
    /// The HTTP status.
    pub status: StatusCode,
    /// The HTTP headers.
    pub headers: HeaderMap,
    /// The body as it came.
    pub text: String,
}

/// The address of the MCP endpoint at `server`, the resource that tokens are for.
pub fn resource(server: &str) -> String {
    format!("{server}/mcp/v1")
}

impl Client {
    /// A client of this id, wherever it is known from.
    pub fn known(server: &str, id: &str, redirect_uri: &str) -> Self {
        let http = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            // A server that is killed takes idle connections along, at a moment of its own.
            .pool_max_idle_per_host(0)
            .build()
            .expect("a client without TLS always builds");
        Self { http, server: server.to_owned(), id: id.to_owned(), redirect_uri: redirect_uri.to_owned() }
    }

    /// Registers itself (RFC 7591), to be sent back to `redirect_uri`.
    pub async fn register(server: &str, redirect_uri: &str) -> Result<Self> {
        let metadata = json!({"client_name": "Suite", "redirect_uris": [redirect_uri]});
        let reply = register(server, &metadata).await?;
        ensure!(reply.status == StatusCode::CREATED, "not registered: {} {}", reply.status, reply.text);
        let answer = reply.json()?;
        let id = answer["client_id"].as_str().with_context(|| format!("no client_id in {answer}"))?;
        Ok(Self::known(server, id, redirect_uri))
    }

    /// The same client at another address of the same server.
    pub fn at(&self, server: &str) -> Self {
        Self { server: server.to_owned(), ..self.clone() }
    }

    /// A request in order, for `scope`.
    pub fn request(&self, scope: &str) -> Request {
        let verifier = secret();
        ledger::record("code_verifier", &verifier);
        let challenge = challenge(&verifier);
        let state = secret();
        let parameters = [
            ("response_type", "code"),
            ("client_id", &self.id),
            ("redirect_uri", &self.redirect_uri),
            ("code_challenge", &challenge),
            ("code_challenge_method", "S256"),
            ("state", &state),
            ("scope", scope),
        ];
        Request {
            endpoint: format!("{}/authorize", self.server),
            parameters: parameters.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
            verifier,
        }
    }

    /// Gets a code: `user` consents, and signs in at the provider.
    pub async fn authorize(&self, browser: &Browser, user: &str, scope: &str) -> Result<Code> {
        let request = self.request(scope).set("login_hint", user);
        let answer = browser.sign_in_until(&request.url(), user, |url| self.is_answer(url)).await?;
        self.code(&request, answer)
    }

    /// Whether the browser is being sent back to this client.
    pub fn is_answer(&self, url: &Url) -> bool {
        url.as_str().starts_with(&self.redirect_uri)
    }

    /// The code in the answer to `request`, which has to be of this client's server and carry its state.
    pub fn code(&self, request: &Request, answer: Url) -> Result<Code> {
        let field = |name| parameter(&answer, name).with_context(|| format!("no {name} in {answer}"));
        ensure!(Some(field("state")?.as_str()) == request.get("state"), "another state: {answer}");
        Ok(Code {
            code: field("code")?,
            verifier: request.verifier.clone(),
            redirect_uri: self.redirect_uri.clone(),
            answer,
        })
    }

    /// The fields with which this client redeems `code`.
    pub fn redemption(&self, code: &Code) -> Vec<(&'static str, String)> {
        vec![
            ("grant_type", "authorization_code".to_owned()),
            ("code", code.code.clone()),
            ("client_id", self.id.clone()),
            ("redirect_uri", code.redirect_uri.clone()),
            ("code_verifier", code.verifier.clone()),
        ]
    }

    /// The fields with which this client refreshes.
    pub fn refreshment(&self, refresh_token: &str) -> Vec<(&'static str, String)> {
        vec![
            ("grant_type", "refresh_token".to_owned()),
            ("refresh_token", refresh_token.to_owned()),
            ("client_id", self.id.clone()),
        ]
    }

    /// Sends `fields` to the token endpoint.
    pub async fn token(&self, fields: &[(&str, String)]) -> Result<Reply> {
        self.send(self.post("/token").form(fields)).await
    }

    /// The same, again for as long as the server has no connection to its database free, as its 503 asks for.
    pub async fn token_patiently(&self, fields: &[(&str, String)]) -> Result<Reply> {
        wait_for("an answer of the token endpoint", PATIENCE, || async {
            let reply = self.token(fields).await?;
            Ok((reply.status != StatusCode::SERVICE_UNAVAILABLE).then_some(reply))
        })
        .await
    }

    /// Redeems `code`.
    pub async fn redeem(&self, code: &Code) -> Result<Tokens> {
        self.token(&self.redemption(code)).await?.tokens()
    }

    /// Refreshes.
    pub async fn refresh(&self, refresh_token: &str) -> Result<Tokens> {
        self.token(&self.refreshment(refresh_token)).await?.tokens()
    }

    /// Signs `user` in, from the consent page to the tokens.
    pub async fn sign_in(&self, browser: &Browser, user: &str, scope: &str) -> Result<Tokens> {
        self.redeem(&self.authorize(browser, user, scope).await?).await
    }

    /// Gives a token back (RFC 7009).
    pub async fn revoke(&self, token: &str) -> Result<Reply> {
        self.send(self.post("/revoke").form(&[("token", token), ("client_id", &self.id)])).await
    }

    /// A request to be made by hand.
    pub fn post(&self, path: &str) -> RequestBuilder {
        self.http.post(format!("{}{path}", self.server))
    }

    /// Sends a request that was made by hand, and notes what it was granted.
    pub async fn send(&self, request: RequestBuilder) -> Result<Reply> {
        Reply::read(request.send().await?).await
    }
}

/// Sends client metadata to the registration endpoint.
pub async fn register(server: &str, metadata: &Value) -> Result<Reply> {
    Reply::read(reqwest::Client::new().post(format!("{server}/register")).json(metadata).send().await?).await
}

impl Request {
    /// Sets a parameter.
    pub fn set(mut self, name: &str, value: &str) -> Self {
        self = self.without(name);
        self.parameters.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Takes a parameter away.
    pub fn without(mut self, name: &str) -> Self {
        self.parameters.retain(|(known, _)| known != name);
        self
    }

    /// Adds a parameter, even one that is there.
    pub fn and(mut self, name: &str, value: &str) -> Self {
        self.parameters.push((name.to_owned(), value.to_owned()));
        self
    }

    /// The value of a parameter.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.parameters.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// Where the browser is sent.
    pub fn url(&self) -> String {
        let mut url = Url::parse(&self.endpoint).expect("the server's address is a URL");
        url.query_pairs_mut().extend_pairs(&self.parameters);
        url.into()
    }

    /// Opens the consent page in `browser`.
    pub async fn open(&self, browser: &Browser) -> Result<Page> {
        browser.html_step(&self.url()).await
    }

    /// Opens the consent page and answers it; the page or redirect that follows.
    pub async fn decide(&self, browser: &Browser, decision: &str) -> Result<Page> {
        let page = self.open(browser).await?;
        ensure!(page.status == StatusCode::OK, "no consent page: {} {}", page.status, page.text);
        let mut form = page.form()?;
        form.set("decision", decision);
        browser.post(&form).await
    }
}

impl Reply {
    async fn read(response: reqwest::Response) -> Result<Self> {
        let (status, headers) = (response.status(), response.headers().clone());
        let reply = Self { status, headers, text: response.text().await? };
        if let Ok(json) = reply.json() {
            ledger::record_fields("granted", &json, &["access_token", "refresh_token"]);
        }
        Ok(reply)
    }

    /// The body as JSON.
    pub fn json(&self) -> Result<Value> {
        serde_json::from_str(&self.text).with_context(|| format!("{} no JSON: {:?}", self.status, self.text))
    }

    /// The `error` of a refusal.
    pub fn error(&self) -> Result<String> {
        ensure!(self.status.is_client_error(), "not refused: {} {}", self.status, self.text);
        let json = self.json()?;
        Ok(json["error"].as_str().with_context(|| format!("no error in {json}"))?.to_owned())
    }

    /// What was granted.
    pub fn tokens(&self) -> Result<Tokens> {
        ensure!(self.status == StatusCode::OK, "nothing granted: {} {}", self.status, self.text);
        let json = self.json()?;
        let field = |name: &str| {
            json[name].as_str().map(str::to_owned).with_context(|| format!("no {name} in the answer"))
        };
        Ok(Tokens {
            access: field("access_token")?,
            refresh: field("refresh_token")?,
            scope: field("scope")?,
        })
    }
}

/// A parameter of an answer.
pub fn parameter(url: &Url, name: &str) -> Option<String> {
    url.query_pairs().find(|(key, _)| key == name).map(|(_, value)| value.into_owned())
}

/// The S256 challenge of a verifier (RFC 7636 §4.2).
pub fn challenge(verifier: &str) -> String {
    URL_SAFE_NO_PAD.encode(digest::digest(&digest::SHA256, verifier.as_bytes()))
}

/// A token like `token`, with the same public half and another secret, of a checksum that is right.
pub fn with_another_secret(token: &str) -> String {
    let half = || format!("{:0>22}", base62::encode(Uuid::new_v4().as_u128()));
    with_checksum(&format!("{}{}{}", &token[..28], half(), half()))
}

/// A token of `kind` (`mcps`, `mcpr`, `mcpc`) that nobody issued, of a checksum that is right.
pub fn unheard_of(kind: &str) -> String {
    let half = || format!("{:0>22}", base62::encode(Uuid::new_v4().as_u128()));
    with_checksum(&format!("{kind}_{}_{}{}", half(), half(), half()))
}

/// The token of this kind, selector and secret, as somebody would make it who has read how they are made.
pub fn spelled(kind: &str, selector: Uuid, secret: &[u8]) -> Result<String> {
    let half = |bytes: &[u8]| -> Result<String> {
        Ok(format!("{:0>22}", base62::encode(u128::from_be_bytes(bytes.try_into()?))))
    };
    let [selector, first, second] = [half(selector.as_bytes())?, half(&secret[..16])?, half(&secret[16..])?];
    Ok(with_checksum(&format!("{kind}_{selector}_{first}{second}")))
}

/// The same token under the prefix of another kind, of a checksum that is right.
pub fn as_kind(kind: &str, token: &str) -> String {
    with_checksum(&format!("{kind}{}", &token[4..token.len() - 6]))
}

fn with_checksum(body: &str) -> String {
    format!("{body}{:0>6}", base62::encode(crc32fast::hash(body.as_bytes())))
}

/// A text that nobody guesses, of the length that PKCE wants.
fn secret() -> String {
    format!("{}{}", Uuid::new_v4().simple(), Uuid::new_v4().simple())
}
