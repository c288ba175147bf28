//! `/authorize` (OAuth 2.1 §4.1.1): a client sends a browser for a code.
//!
//! In this order: the client and where it may be answered, found wanting on a page and never by a redirect; the rest of the
//! request, found wanting by a redirect; the consent of whoever sits there; and only then the identity provider. A GET
//! changes nothing, however often it comes: what it read is in the page, and comes back with the answer.

use http::{HeaderMap, Request as HttpRequest, Response, StatusCode, request::Parts};
use hyper::body::Incoming;
use secrecy::ExposeSecret;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use url::form_urlencoded;

use crate::{
    app::{App, Peer},
    authorization_server::{
        OTHER_RESOURCE,
        client::{self, Client},
        consent, is_named,
        redirect::RedirectUri,
    },
    cookie,
    error::{Fault, Kind},
    form,
    idp::Principal,
    query::{Query, QueryFault},
    random,
    respond::{self, Body},
    scope,
    sessions::oauth::{Issued, NewCode},
    sign_in::{self, Purpose},
};

/// The path of the endpoint.
pub const PATH: &str = "/authorize";
/// What is read of a request; the page carries it, and nothing else.
const PARAMETERS: [&str; 10] = [
    "client_id",
    "redirect_uri",
    "response_type",
    "response_mode",
    "code_challenge",
    "code_challenge_method",
    "scope",
    "state",
    "resource",
    "login_hint",
];
/// Longer than any honest request; it has to fit into the sign-in.
const LONGEST: usize = 16 << 10;

/// A request in order, as it travels through the sign-in.
#[derive(Debug, Serialize, Deserialize)]
pub struct Request {
    client_id: String,
    client_name: String,
    redirect_uri: String,
    state: Option<String>,
    code_challenge: String,
    scopes: Vec<String>,
    /// Whether the person consented on the way here, rather than in an earlier sign-in.
    consented: bool,
    /// All of it, for the case that the person has to be asked after all.
    parameters: String,
}

/// Why a request is answered with an error, at the client's own address.
#[derive(Debug, PartialEq, Eq)]
struct Refusal {
    error: &'static str,
    description: &'static str,
}

/// `GET /authorize`.
pub async fn get(app: &App, peer: &Peer, parts: &Parts) -> Result<Response<Body>, Fault> {
    app.authorization_server.sign_in_limit.check(peer.address.ip())?;
    let query = Query::of(&parts.uri);
    let asked = Asked::read(app, &parts.headers, &query).await?;
    let request = match asked.request(app) {
        Ok(request) => request,
        Err(refusal) => return asked.refuse(app, &refusal),
    };
    if asked.client.may_pass(&asked.redirect, &request.scopes) {
        return asked.go(app, request).await;
    }
    asked.ask(app, &request, None)
}

/// `POST /authorize`: the answer of the consent page.
pub async fn post(app: &App, peer: &Peer, request: HttpRequest<Incoming>) -> Result<Response<Body>, Fault> {
    app.authorization_server.sign_in_limit.check(peer.address.ip())?;
    let (parts, body) = request.into_parts();
    let answer = form::read(&parts.headers, body).await?;
    let asked = Asked::read(app, &parts.headers, &answer).await?;
    let mut request = match asked.request(app) {
        Ok(request) => request,
        Err(refusal) => return asked.refuse(app, &refusal),
    };
    let token = answer.get("token").ok().flatten();
    let genuine = asked.browser.zip(token).is_some_and(|(browser, token)| {
        consent::is_genuine(&parts.headers, browser, &request.parameters, token)
    });
    if !genuine {
        // A page of somebody else's, or one of ours whose cookie is gone: the person decides on a new one.
        return asked.ask(app, &request, Some(consent::Notice::AskedAnew));
    }
    match answer.get("decision")? {
        Some("allow") => {
            request.consented = true;
            asked.go(app, request).await
        }
        Some("deny") => {
            asked.refuse(app, &Refusal { error: "access_denied", description: "The user said no." })
        }
        _ => Err(Fault::invalid_request("Decide one way or the other.")),
    }
}

/// A request whose client and redirect URI are in order, so that errors may be answered there.
struct Asked<'a> {
    client: Client,
    redirect: RedirectUri<'a>,
    /// For the client, if it sent one that can be sent back.
    state: Option<&'a str>,
    browser: Option<&'a str>,
    login_hint: Option<&'a str>,
    query: &'a Query,
}

/// The parameters that were sent, in one order.
fn parameters(query: &Query) -> Vec<(&'static str, &str)> {
    PARAMETERS.into_iter().filter_map(|name| Some((name, query.get(name).ok()??))).collect()
}

impl<'a> Asked<'a> {
    async fn read(app: &App, headers: &'a HeaderMap, query: &'a Query) -> Result<Self, Fault> {
        if parameters(query).iter().map(|(_, value)| value.len()).sum::<usize>() > LONGEST {
            return Err(Fault::invalid_request("The request is too long."));
        }
        let missing = |what| Fault::invalid_request(format!("The request has no {what}."));
        let id = query.get("client_id")?.ok_or_else(|| missing("client_id"))?;
        let uri = query.get("redirect_uri")?.ok_or_else(|| missing("redirect_uri"))?;
        let redirect = RedirectUri::parse(uri).ok_or_else(client::unregistered_redirect)?;
        let browser = cookie::secret(app, headers, cookie::BROWSER);
        let client = Client::find(app, id, &redirect, browser).await?;
        let state = query.get("state").unwrap_or_default();
        let login_hint =
            query.get("login_hint").unwrap_or_default().filter(|hint| hint.len() <= sign_in::LONGEST_HINT);
        Ok(Self { client, redirect, state, browser, login_hint, query })
    }

    fn request(&self, app: &App) -> Result<Request, Refusal> {
        let (scopes, code_challenge) = check(self.query, app.sessions.resource())?;
        Ok(Request {
            client_id: self.client.id.clone(),
            client_name: self.client.name.clone(),
            redirect_uri: self.redirect.text().to_owned(),
            state: self.state.map(str::to_owned),
            code_challenge,
            scopes: self.client.granted(scopes),
            consented: false,
            parameters: form_urlencoded::Serializer::new(String::new())
                .extend_pairs(parameters(self.query))
                .finish(),
        })
    }

    /// Shows the consent page.
    fn ask(
        &self,
        app: &App,
        request: &Request,
        notice: Option<consent::Notice>,
    ) -> Result<Response<Body>, Fault> {
        // A browser keeps the secret it has: a page that is loaded twice must not spoil the first one.
        let (browser, new) = match self.browser {
            Some(browser) => (browser.to_owned(), false),
            None => (random::secret()?, true),
        };
        let page = consent::Question {
            client: &self.client,
            redirect: &self.redirect,
            scopes: &request.scopes,
            parameters: &parameters(self.query),
            request: &request.parameters,
            browser: &browser,
            notice,
        };
        let mut response = page.show(app);
        if new {
            cookie::set(app, &mut response, cookie::BROWSER, &browser, sign_in::COOKIE_MAX_AGE)?;
        }
        Ok(response)
    }

    /// Sends the browser to the identity provider.
    async fn go(&self, app: &App, request: Request) -> Result<Response<Body>, Fault> {
        let begun = sign_in::begin(app, Purpose::Code(Box::new(request)), self.login_hint).await?;
        let mut response = respond::redirect(StatusCode::SEE_OTHER, begun.url.as_str())?;
        begun.remember(app, &mut response)?;
        Ok(response)
    }

    fn refuse(&self, app: &App, refusal: &Refusal) -> Result<Response<Body>, Fault> {
        refuse(app, &self.redirect, self.state, refusal.error, refusal.description)
    }
}

/// The scopes and the challenge of a request in order.
fn check(query: &Query, resource: &str) -> Result<(Vec<String>, String), Refusal> {
    let refusal = |error, description| Refusal { error, description };
    let get = |name| {
        query.get(name).map_err(|fault| match fault {
            QueryFault::Repeated(_) => refusal("invalid_request", "A parameter is repeated."),
            QueryFault::TooLong(_) => refusal("invalid_request", "A parameter is too long."),
            QueryFault::Control(_) => refusal("invalid_request", "A parameter has control characters in it."),
        })
    };
    get("state")?;
    get("login_hint")?;
    for name in ["request", "request_uri"] {
        if get(name)?.is_some() {
            let error = if name == "request" { "request_not_supported" } else { "request_uri_not_supported" };
            return Err(refusal(error, "Send the parameters themselves."));
        }
    }
    match get("response_type")? {
        Some("code") => {}
        Some(_) => return Err(refusal("unsupported_response_type", "response_type must be code.")),
        None => return Err(refusal("invalid_request", "response_type is missing.")),
    }
    if get("response_mode")?.is_some_and(|mode| mode != "query") {
        return Err(refusal("invalid_request", "response_mode must be query."));
    }
    // Without a method it would be `plain` (RFC 7636 §4.3), which proves nothing to whoever saw this request.
    if get("code_challenge_method")? != Some("S256") {
        return Err(refusal("invalid_request", "code_challenge_method must be S256."));
    }
    let challenge = get("code_challenge")?
        .filter(|challenge| random::is_secret(challenge))
        .ok_or_else(|| refusal("invalid_request", "code_challenge is missing or malformed."))?;
    // One resource: a request that names none means it (RFC 8707 §2), one that names another is not for us.
    if get("resource")?.is_some_and(|named| !is_named(resource, named)) {
        return Err(refusal("invalid_target", OTHER_RESOURCE));
    }
    let scopes = scope::parse(get("scope")?.unwrap_or_default())
        .ok_or_else(|| refusal("invalid_scope", "scope is no list of scopes."))?;
    Ok((scopes, challenge.to_owned()))
}

impl Request {
    /// The end of the sign-in: a code for the client, or the question that was not asked yet.
    pub async fn grant(
        &self,
        app: &App,
        headers: &HeaderMap,
        peer: &Peer,
        principal: &Principal,
    ) -> Result<Response<Body>, Fault> {
        let redirect = self.redirect()?;
        let mut metadata = sign_in::origin_of(headers, peer);
        metadata["client_name"] = json!(self.client_name);
        let new_browser = random::secret()?;
        let issued = app
            .sessions
            .issue_code(&NewCode {
                issuer: &principal.issuer,
                subject: &principal.subject,
                oauth_data: &principal.oauth_data,
                claims: &Value::Object(principal.claims.clone()),
                metadata: &metadata,
                client_id: &self.client_id,
                redirect_uri: &self.redirect_uri,
                redirect_host: redirect.host(),
                code_challenge: &self.code_challenge,
                scopes: &self.scopes,
                consented: self.consented,
                browser: cookie::secret(app, headers, cookie::BROWSER),
                new_browser: &new_browser,
            })
            .await
            .map_err(|error| if error.is_refusal() { sign_in::unkeepable(error) } else { error.into() })?;
        match issued {
            Issued::Code { code, consent_expires_at } => {
                let mut response =
                    answer(app, &redirect, self.state.as_deref(), &[("code", code.expose_secret())])?;
                let age = (consent_expires_at - chrono::Utc::now()).num_seconds();
                let age = u32::try_from(age).unwrap_or(0);
                // Never the secret that was there before the sign-in, which somebody may have planted.
                cookie::set(app, &mut response, cookie::BROWSER, &new_browser, age)?;
                Ok(response)
            }
            Issued::ConsentRequired => {
                // Somebody else consented in this browser. As a new one, it is asked.
                let mut response =
                    respond::redirect(StatusCode::SEE_OTHER, &format!("{PATH}?{}", self.parameters))?;
                cookie::set(app, &mut response, cookie::BROWSER, &new_browser, sign_in::COOKIE_MAX_AGE)?;
                Ok(response)
            }
        }
    }

    /// Tells the client that the sign-in failed; what only the log is told stays with the answer.
    pub fn fail(&self, app: &App, fault: Fault) -> Result<Response<Body>, Fault> {
        let error = match fault.kind {
            Kind::Client | Kind::Session => "access_denied",
            Kind::Provider if fault.status == StatusCode::FORBIDDEN => "access_denied",
            Kind::Provider | Kind::Database | Kind::Overload => "temporarily_unavailable",
            Kind::Server => "server_error",
        };
        let mut response = refuse(app, &self.redirect()?, self.state.as_deref(), error, &fault.public)?;
        response.extensions_mut().insert(std::sync::Arc::new(fault));
        Ok(response)
    }

    fn redirect(&self) -> Result<RedirectUri<'_>, Fault> {
        RedirectUri::parse(&self.redirect_uri)
            .ok_or_else(|| Fault::internal("a redirect URI that was acceptable is not any more"))
    }
}

fn refuse(
    app: &App,
    redirect: &RedirectUri<'_>,
    state: Option<&str>,
    error: &str,
    description: &str,
) -> Result<Response<Body>, Fault> {
    // RFC 6749 §4.1.2.1 has a narrow idea of text.
    let plain = |letter: char| matches!(letter, ' ' | '!' | '#'..='[' | ']'..='~');
    let description: String =
        description.chars().map(|letter| if plain(letter) { letter } else { '\'' }).collect();
    answer(app, redirect, state, &[("error", error), ("error_description", &description)])
}

/// An answer to the client, at its own address; always with `iss` (RFC 9207). 303, so that nothing is posted on (RFC 9700
/// §4.12).
fn answer(
    app: &App,
    redirect: &RedirectUri<'_>,
    state: Option<&str>,
    parameters: &[(&str, &str)],
) -> Result<Response<Body>, Fault> {
    let mut parameters = parameters.to_vec();
    parameters.extend(state.map(|state| ("state", state)));
    parameters.push(("iss", app.public_url.origin()));
    respond::redirect(StatusCode::SEE_OTHER, &redirect.with(&parameters))
}
