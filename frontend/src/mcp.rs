//! The MCP endpoint: Streamable HTTP without transport sessions, every revision at one URL.
//!
//! The order is fixed: content type and body limit → JSON → era and headers → one SQL call that
//! authenticates, slides, arms and runs. `Host`, `Origin` and the presence of a credential were checked by
//! the router before.
//!
//! rmcp speaks the protocol, but for what runs a function: that goes straight from the client to PostgreSQL
//! and back ([`running`]). What rmcp never sees is the session token.

mod call;
mod envelope;
mod era;
mod handler;
mod result;
mod running;

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header, request::Parts};
use http_body_util::{BodyExt, Collected, Full};
use hyper::body::Incoming;
use rmcp::transport::streamable_http_server::{
    StreamableHttpServerConfig, StreamableHttpService, session::never::NeverSessionManager,
};
use serde::Serialize;
use serde_json::{Value, json, value::RawValue};
use tokio::time::{self, Instant};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::{
    accept, body,
    cancellations::Key,
    changes::Changes,
    credentials::{Credential, SESSION_HEADER},
    error::{Fault, Kind},
    mcp::{
        call::Call,
        envelope::{INTERNAL_ERROR, INVALID_REQUEST, Kind as MessageKind, Malformed, Message, Payload},
        era::{Action, Era, Violation},
        handler::{Caller, Handler},
    },
    media_type,
    respond::{self, Body},
    sessions::{Refusal, Sessions},
    token::SessionToken,
};

/// The path of the endpoint; with a slash behind it, it is the same.
pub const PATH: &str = "/mcp/v1";
/// More messages than any client puts into a batch.
const LONGEST_BATCH: usize = 50;
/// rmcp answers only clients that take both; which one it is, it decides by what the handler sends.
const BOTH: HeaderValue = HeaderValue::from_static("application/json, text/event-stream");
const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// The endpoint.
pub struct Mcp {
    wire: StreamableHttpService<Handler, NeverSessionManager>,
    sessions: Arc<Sessions>,
    changes: Changes,
    max_body_bytes: usize,
    deadline: Duration,
}

/// An answer that is no result: a fault of HTTP or of the protocol, with the id it answers to.
struct Failure {
    fault: Fault,
    id: Option<Box<RawValue>>,
    rpc: Option<(i32, Option<Value>)>,
}

impl Mcp {
    /// `deadline` bounds a request from its last byte to the first of its answer; `drain` ends subscriptions.
    pub fn new(
        sessions: Arc<Sessions>,
        changes: Changes,
        max_body_bytes: usize,
        deadline: Duration,
        drain: CancellationToken,
    ) -> Self {
        let handler = Handler::new(sessions.clone(), drain);
        // Host and Origin were checked for every route alike. A token of ours for cancellation would cut streams off
        // before their last message.
        let config = StreamableHttpServerConfig::default()
            .disable_allowed_hosts()
            .with_legacy_session_mode(false)
            .with_json_response(true)
            .with_max_request_body_bytes(max_body_bytes);
        let wire = StreamableHttpService::new(
            move || Ok(handler.clone()),
            Arc::new(NeverSessionManager::default()),
            config,
        );
        Self { wire, sessions, changes, max_body_bytes, deadline }
    }

    /// Answers a POST. A fault is left in the response's extensions for the log.
    pub async fn post(
        &self,
        request: Request<Incoming>,
        credential: Credential,
        request_id: &str,
        metadata_url: &str,
    ) -> Response<Body> {
        // Twice the deadline of a query: the body may take as long to come in.
        let end = Instant::now() + self.deadline * 2;
        let answered = time::timeout_at(end, self.answer(request, credential, request_id, end));
        let failure = match answered.await {
            Ok(Ok(response)) => return response,
            Ok(Err(failure)) => failure,
            Err(_) => Fault::deadline().into(),
        };
        failure.into_response(request_id, metadata_url)
    }

    async fn answer(
        &self,
        request: Request<Incoming>,
        credential: Credential,
        request_id: &str,
        end: Instant,
    ) -> Result<Response<Body>, Failure> {
        check_media_types(request.headers())?;
        let streamed = accept::accepts_events(request.headers());
        let (mut parts, body) = request.into_parts();
        let body = body::read(body, self.max_body_bytes, self.deadline).await?;
        take_credentials(&mut parts.headers);
        parts.headers.insert(header::ACCEPT, BOTH);
        parts.headers.insert(header::CONTENT_TYPE, JSON);

        match Payload::parse(&body)? {
            Payload::One(message) => self.one(&parts, &message, &credential, streamed).await,
            Payload::Batch(messages) => self.batch(&parts, &messages, &credential, request_id, end).await,
        }
    }

    /// `streamed` allows an answer that is more than one message.
    async fn one(
        &self,
        parts: &Parts,
        message: &Message<'_>,
        credential: &Credential,
        streamed: bool,
    ) -> Result<Response<Body>, Failure> {
        let failed = |fault: Fault| Failure::answering(fault, message);
        let (era, action) =
            era::judge(&parts.headers, message).map_err(|broken| Failure::broken(broken, message))?;
        let Credential::Token(token) = credential else {
            return Err(failed(Refusal::Unknown.into()));
        };
        match action {
            Action::Notice => {
                self.enter(token).await.map_err(failed)?;
                Ok(respond::empty(StatusCode::ACCEPTED))
            }
            Action::Cancel { id } => {
                self.enter(token).await.map_err(failed)?;
                if let Some(client) = client_id(&parts.headers) {
                    self.cancel(&Key::of(token, client, &id)).await.map_err(failed)?;
                }
                Ok(respond::empty(StatusCode::ACCEPTED))
            }
            Action::Handshake => {
                self.enter(token).await.map_err(failed)?;
                let caller = Caller::new(token.clone(), era);
                let mut response = self.dispatch(parts, message, caller).await.map_err(failed)?;
                if era == Era::Legacy
                    && matches!(&message.kind, MessageKind::Request { method, .. } if method == "initialize")
                {
                    name_client(&mut response);
                }
                Ok(response)
            }
            Action::Subscribe if !streamed => {
                Err(failed(not_acceptable("it is a stream: accept text/event-stream")))
            }
            Action::Subscribe => {
                self.enter(token).await.map_err(failed)?;
                // Before the client is told that it subscribes: what changes from then on, it is to hear.
                let subscriber = self.changes.subscribe(&self.sessions).await;
                let caller = Caller::new(token.clone(), era).subscribing(subscriber);
                self.dispatch(parts, message, caller).await.map_err(failed)
            }
            Action::Acknowledge => {
                self.enter(token).await.map_err(failed)?;
                Ok(rpc_result(message.id(), &json!({})))
            }
            Action::List { after } => {
                let caller = Caller::new(token.clone(), era).listing_after(after);
                self.dispatch(parts, message, caller).await.map_err(failed)
            }
            Action::Call { headers, meta } => {
                let call = Call::of(message, era, headers, meta);
                let call = if streamed { call } else { call.unfollowed() };
                let client = client_id(&parts.headers);
                running::answer(&self.sessions, self.changes.cancellations(), token, client, call)
                    .await
                    .map_err(failed)
            }
        }
    }

    /// Every message of a batch on its own, in order; what they answer, together. What has not ended by `end` fails.
    async fn batch(
        &self,
        parts: &Parts,
        messages: &[&RawValue],
        credential: &Credential,
        request_id: &str,
        end: Instant,
    ) -> Result<Response<Body>, Failure> {
        if messages.is_empty() || messages.len() > LONGEST_BATCH {
            let fault = Fault::invalid_request(format!("a batch has 1 to {LONGEST_BATCH} messages"));
            return Err(fault.into());
        }
        let messages: Vec<_> = messages.iter().map(|text| Message::parse(text.get().as_bytes())).collect();
        era::judge_batch(&parts.headers, messages.iter().flatten())?;
        let mut answers: Vec<Box<RawValue>> = Vec::new();
        let (mut fault, mut ran) = (None, false);
        for message in messages {
            let answered = match message {
                // Not even begun: a call goes on without whoever waits for it.
                Ok(message) if Instant::now() >= end => Err(Failure::answering(Fault::deadline(), &message)),
                Ok(message) => time::timeout_at(end, self.one(parts, &message, credential, false))
                    .await
                    .unwrap_or_else(|_| Err(Failure::answering(Fault::deadline(), &message))),
                Err(malformed) => Err(malformed.into()),
            };
            let mut response = match answered {
                Ok(response) => {
                    ran = true;
                    response
                }
                // What HTTP has to say, as that a token does not hold, it says of the whole batch, unless something has run.
                Err(failure) if failure.rpc.is_none() && !ran => return Err(failure),
                // A notification has no answer.
                Err(failure) if failure.rpc.is_none() && failure.id.is_none() => {
                    fault = fault.or(Some(Arc::new(failure.fault)));
                    continue;
                }
                Err(failure) => failure.into_message(request_id),
            };
            fault = fault.or(response.extensions_mut().remove::<Arc<Fault>>());
            let body =
                response.into_body().collect().await.map_or_else(|never| match never {}, Collected::to_bytes);
            if !body.is_empty() {
                answers.push(serde_json::from_slice(&body).map_err(Fault::internal)?);
            }
        }
        let mut response = match answers.as_slice() {
            [] => respond::empty(StatusCode::ACCEPTED),
            answers => respond::json(StatusCode::OK, &answers),
        };
        if let Some(fault) = fault {
            response.extensions_mut().insert::<Arc<Fault>>(fault);
        }
        Ok(response)
    }

    /// Authenticates a message that runs nothing.
    async fn enter(&self, token: &SessionToken) -> Result<(), Fault> {
        Ok(self.sessions.enter(token).await??)
    }

    /// Cancels a call that may run anywhere.
    async fn cancel(&self, call: &Key) -> Result<(), Fault> {
        if !self.changes.cancellations().cancel(call) {
            self.sessions.tell_of_cancellation(call.as_str()).await?;
        }
        Ok(())
    }

    /// Hands a message to rmcp.
    async fn dispatch(
        &self,
        parts: &Parts,
        message: &Message<'_>,
        caller: Caller,
    ) -> Result<Response<Body>, Fault> {
        let fault = caller.fault.clone();
        let body = Bytes::copy_from_slice(message.text);
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = parts.uri.clone();
        *request.headers_mut() = parts.headers.clone();
        request.extensions_mut().insert(caller);
        let mut response = Box::pin(self.wire.handle(request)).await;
        // Ours is stricter.
        response.headers_mut().remove(header::CACHE_CONTROL);
        match fault.get() {
            Some(fault) => Err(fault.clone()),
            // What rmcp refuses in plain text, clients of the newest revision could not tell from a proxy's page.
            None if !response.status().is_success() && !media_type::is_json(response.headers()) => {
                Err(Fault::client(StatusCode::BAD_REQUEST, "invalid_request", "the message cannot be read"))
            }
            None => Ok(response),
        }
    }
}

/// The header in which clients of the older revisions repeat what `initialize` was answered with.
const CLIENT_HEADER: &str = "mcp-session-id";

/// What tells this client from others that share its token. Nobody knows it here, and any value will do.
fn client_id(headers: &HeaderMap) -> Option<&str> {
    headers.get(CLIENT_HEADER)?.to_str().ok()
}

fn name_client(response: &mut Response<Body>) {
    if let Ok(name) = HeaderValue::from_str(&Uuid::new_v4().to_string()) {
        response.headers_mut().insert(CLIENT_HEADER, name);
    }
}

/// The answer to a request that the endpoint does not even read.
pub fn refuse(fault: Fault, request_id: &str, metadata_url: &str) -> Response<Body> {
    Failure::from(fault).into_response(request_id, metadata_url)
}

/// A token may be nowhere but in the caller: rmcp logs what it is given.
fn take_credentials(headers: &mut HeaderMap) {
    for name in [header::AUTHORIZATION, header::COOKIE, SESSION_HEADER] {
        headers.remove(name);
    }
}

fn check_media_types(headers: &HeaderMap) -> Result<(), Fault> {
    if !accept::accepts_json(headers) {
        return Err(not_acceptable("the answer is application/json or text/event-stream: accept both"));
    }
    // This also keeps pages from posting here without a preflight.
    if !media_type::is_json(headers) {
        return Err(Fault::client(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "unsupported_media_type",
            "the body must be application/json",
        ));
    }
    Ok(())
}

fn not_acceptable(why: &'static str) -> Fault {
    Fault::client(StatusCode::NOT_ACCEPTABLE, "not_acceptable", why)
}

impl Failure {
    fn answering(fault: Fault, message: &Message<'_>) -> Self {
        Self { fault, id: message.id().map(ToOwned::to_owned), rpc: None }
    }

    fn broken(violation: Violation, message: &Message<'_>) -> Self {
        Self { id: message.id().map(ToOwned::to_owned), ..Self::from(violation) }
    }

    /// JSON-RPC, but for what is said of the credential: that is read by OAuth clients.
    fn into_response(self, request_id: &str, metadata_url: &str) -> Response<Body> {
        if self.fault.challenge.is_some() {
            let mut response = self.fault.to_response(None, request_id, metadata_url);
            response.extensions_mut().insert(Arc::new(self.fault));
            return response;
        }
        let fault = self.fault.clone();
        let mut response = self.into_message(request_id);
        fault.decorate(&mut response, metadata_url);
        response
    }

    /// A message of JSON-RPC, whatever it says. The fault is left in its extensions.
    fn into_message(self, request_id: &str) -> Response<Body> {
        let Self { fault, id, rpc } = self;
        let (code, data) = rpc.unwrap_or_else(|| {
            let theirs = matches!(fault.kind, Kind::Client | Kind::Session);
            let code = if theirs { INVALID_REQUEST } else { INTERNAL_ERROR };
            (code, Some(json!({"error": fault.code, "request_id": request_id})))
        });
        let mut response = rpc_error(fault.status, id.as_deref(), code, &fault.public, data);
        response.extensions_mut().insert(Arc::new(fault));
        response
    }
}

impl From<Fault> for Failure {
    fn from(fault: Fault) -> Self {
        Self { fault, id: None, rpc: None }
    }
}

impl From<Violation> for Failure {
    fn from(violation: Violation) -> Self {
        let fault = Fault::client(violation.status, "protocol_error", violation.message);
        Self { fault, id: None, rpc: Some((violation.code, violation.data)) }
    }
}

impl From<Malformed<'_>> for Failure {
    fn from(malformed: Malformed<'_>) -> Self {
        let fault = Fault::client(StatusCode::BAD_REQUEST, "protocol_error", malformed.message);
        Self { fault, id: malformed.id.map(ToOwned::to_owned), rpc: Some((malformed.code, None)) }
    }
}

/// A JSON-RPC result.
fn rpc_result(id: Option<&RawValue>, result: &impl Serialize) -> Response<Body> {
    #[derive(Serialize)]
    struct Answer<'a, R> {
        jsonrpc: &'static str,
        #[serde(skip_serializing_if = "Option::is_none")]
        id: Option<&'a RawValue>,
        result: &'a R,
    }
    respond::json(StatusCode::OK, &Answer { jsonrpc: "2.0", id, result })
}

/// A JSON-RPC error; without an id where there is none to answer to, never with `null`.
fn rpc_error(
    status: StatusCode,
    id: Option<&RawValue>,
    code: i32,
    message: &str,
    data: Option<Value>,
) -> Response<Body> {
    #[derive(Serialize)]
    struct Answer<'a> {
        jsonrpc: &'static str,
        #[serde(skip_serializing_if = "Option::is_none")]
        id: Option<&'a RawValue>,
        error: ErrorObject<'a>,
    }
    #[derive(Serialize)]
    struct ErrorObject<'a> {
        code: i32,
        message: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        data: Option<Value>,
    }
    respond::json(status, &Answer { jsonrpc: "2.0", id, error: ErrorObject { code, message, data } })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn media_types_are_checked_as_programs_send_them() {
        let headers = |pairs: &[(&'static str, &'static str)]| -> HeaderMap {
            pairs
                .iter()
                .map(|(name, value)| (http::HeaderName::from_static(name), HeaderValue::from_static(value)))
                .collect()
        };
        let both = "application/json, text/event-stream";
        for (pairs, status) in [
            (&[("content-type", "application/json"), ("accept", both)][..], None),
            (&[("content-type", "application/json; charset=utf-8"), ("accept", "*/*")][..], None),
            (&[("content-type", "application/json")][..], None),
            (&[("content-type", "application/json"), ("accept", "text/event-stream")][..], Some(406)),
            (&[("content-type", "application/json"), ("accept", "text/html")][..], Some(406)),
            (&[("content-type", "text/plain"), ("accept", both)][..], Some(415)),
            (&[("content-type", "application/x-www-form-urlencoded")][..], Some(415)),
            (&[("accept", both)][..], Some(415)),
        ] {
            let found = check_media_types(&headers(pairs)).err().map(|fault| fault.status.as_u16());
            assert_eq!(found, status, "{pairs:?}");
        }
    }

    #[test]
    fn no_credential_goes_on() {
        let mut headers = HeaderMap::new();
        for name in ["authorization", "cookie", "x-mcp-session-id", "mcp-method"] {
            headers.append(name, HeaderValue::from_static("one"));
            headers.append(name, HeaderValue::from_static("two"));
        }
        take_credentials(&mut headers);
        assert_eq!(headers.keys().map(http::HeaderName::as_str).collect::<Vec<_>>(), ["mcp-method"]);
    }

    #[tokio::test]
    async fn an_error_without_an_id_has_none() {
        let body = |response: Response<Body>| async {
            String::from_utf8(response.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap()
        };
        let response =
            Failure::from(Malformed { code: -32700, message: "no", id: None }).into_response("r", "m");
        assert_eq!(response.status(), 400);
        assert_eq!(body(response).await, r#"{"jsonrpc":"2.0","error":{"code":-32700,"message":"no"}}"#);
        let response = Failure::from(Fault::from(Refusal::Expired)).into_response("r", "m");
        assert_eq!(response.status(), 401);
        assert!(body(response).await.contains(r#""error":"invalid_token""#));
    }
}
