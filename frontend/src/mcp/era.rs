//! Which protocol a message speaks, and whether its headers agree with it.
//!
//! Revision 2026-07-28 has no sessions and carries its version in every request; the ones before it begin
//! with `initialize`. Both are served at one URL and told apart by what a message claims, never by its path
//! or its connection. rmcp judges in another order than the specification asks for, and answers some faults
//! with plain text; so the judging is here, before it, and rmcp gets messages that hold.

use std::{borrow::Cow, collections::HashMap};

use base64::{
    Engine,
    prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD},
};
use http::{HeaderMap, StatusCode};
use serde_json::{Value, json, value::RawValue};

use crate::mcp::envelope::{INVALID_PARAMS, INVALID_REQUEST, Kind, METHOD_NOT_FOUND, Message, read};

/// The revisions without `initialize`, newest first.
pub const MODERN: &[&str] = &["2026-07-28"];
/// The revisions with `initialize`, newest first.
pub const LEGACY: &[&str] = &["2025-11-25", "2025-06-18", "2025-03-26"];
/// The only revision with batches.
pub const BATCHES: &str = "2025-03-26";

pub const VERSION_HEADER: &str = "mcp-protocol-version";
const METHOD_HEADER: &str = "mcp-method";
const NAME_HEADER: &str = "mcp-name";
const PARAMETER_HEADERS: &str = "mcp-param-";

const VERSION_KEY: &str = "io.modelcontextprotocol/protocolVersion";
pub const CAPABILITIES_KEY: &str = "io.modelcontextprotocol/clientCapabilities";

/// In `_meta`: the least level of log messages that a client wants to see of its request.
pub const LOG_LEVEL_KEY: &str = "io.modelcontextprotocol/logLevel";
const LOG_LEVELS: &[&str] =
    &["debug", "info", "notice", "warning", "error", "critical", "alert", "emergency"];

pub const HEADER_MISMATCH: i32 = -32020;
const UNSUPPORTED_VERSION: i32 = -32022;

/// `_meta` of a request.
pub type Meta = serde_json::Map<String, Value>;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Era {
    /// 2026-07-28 and later: a closed connection cancels its request.
    Modern,
    /// Before it: a closed connection says nothing.
    Legacy,
}

/// What a message asks for, once it holds.
#[derive(Debug, PartialEq, Eq)]
pub enum Action {
    /// A request that needs nothing but a session: `initialize`, `ping`, `server/discover`.
    Handshake,
    /// A request to hear of changes.
    Subscribe,
    /// A request of the older revisions that is granted and has no effect: what it asks for outlives the request, and
    /// there is nothing here to keep it in, and no stream to serve it on.
    Acknowledge,
    /// A part of a list, after what the cursor names.
    List { after: Option<String> },
    /// What runs a function: `tools/call`, `resources/read`, `prompts/get`, `completion/complete`.
    Call {
        /// The `Mcp-Param-` headers by the rest of their names, in lower case; none where the revision has none.
        headers: Option<HashMap<String, String>>,
        meta: Meta,
    },
    /// Nothing to answer.
    Notice,
    /// The request of this id, in JSON, is not waited for any more.
    Cancel { id: String },
}

/// A message that breaks the protocol.
#[derive(Debug)]
pub struct Violation {
    pub status: StatusCode,
    pub code: i32,
    pub message: Cow<'static, str>,
    pub data: Option<Value>,
}

/// Whether a version is a date from the first revision without sessions on.
fn is_modern(version: &str) -> bool {
    let date = version.len() == 10
        && version.bytes().enumerate().all(|(index, byte)| match index {
            4 | 7 => byte == b'-',
            _ => byte.is_ascii_digit(),
        });
    date && version >= MODERN[MODERN.len() - 1]
}

/// Judges one message; the first thing that is wrong wins.
pub fn judge(headers: &HeaderMap, message: &Message<'_>) -> Result<(Era, Action), Violation> {
    let meta = meta(message);
    let header = header(headers, VERSION_HEADER);
    if claims_modern(meta.as_ref()) || header.as_ref().is_ok_and(|header| header.is_some_and(is_modern)) {
        modern(headers, message, meta).map(|action| (Era::Modern, action))
    } else {
        legacy(header, message, meta).map(|action| (Era::Legacy, action))
    }
}

/// Whether a batch of these messages may be read at all.
pub fn judge_batch<'m>(
    headers: &HeaderMap,
    mut messages: impl Iterator<Item = &'m Message<'m>>,
) -> Result<(), Violation> {
    let claimed = messages.any(|message| claims_modern(meta(message).as_ref()));
    match header(headers, VERSION_HEADER) {
        Ok(None) if !claimed => Ok(()),
        Ok(Some(version)) if version == BATCHES && !claimed => Ok(()),
        _ => Err(bad(INVALID_REQUEST, "batches exist in revision 2025-03-26 alone: send one message")),
    }
}

fn meta(message: &Message<'_>) -> Option<Meta> {
    read(&message.params, "_meta")
}

fn claims_modern(meta: Option<&Meta>) -> bool {
    meta.is_some_and(|meta| meta.contains_key(VERSION_KEY))
}

fn modern(headers: &HeaderMap, message: &Message<'_>, meta: Option<Meta>) -> Result<Action, Violation> {
    let method = match &message.kind {
        Kind::Request { method, .. } => method,
        Kind::Notification { method } => {
            return check_header(headers, METHOD_HEADER, method, false).map(|()| Action::Notice);
        }
        Kind::Response => return Err(bad(INVALID_REQUEST, "a client sends no responses in this revision")),
    };
    let meta = meta.unwrap_or_default();
    let meta_value = |key: &str| meta.get(key);
    let Some(version) = meta_value(VERSION_KEY).and_then(Value::as_str) else {
        return Err(bad(INVALID_PARAMS, format!("_meta[\"{VERSION_KEY}\"] must be the protocol version")));
    };
    if !meta_value(CAPABILITIES_KEY).is_some_and(Value::is_object) {
        return Err(bad(INVALID_PARAMS, format!("_meta[\"{CAPABILITIES_KEY}\"] must be an object")));
    }
    check_header(headers, VERSION_HEADER, version, true)?;
    check_header(headers, METHOD_HEADER, method, true)?;
    let named = match method.as_ref() {
        "tools/call" | "prompts/get" => Some("name"),
        "resources/read" => Some("uri"),
        _ => None,
    };
    if let Some(name) = named.and_then(|key| read::<Cow<'_, str>>(&message.params, key)) {
        check_header(headers, NAME_HEADER, &name, true)?;
    }
    if !MODERN.contains(&version) {
        return Err(Violation {
            data: Some(json!({"supported": MODERN, "requested": version})),
            ..bad(UNSUPPORTED_VERSION, "Unsupported protocol version")
        });
    }
    if let Some(level) = meta_value(LOG_LEVEL_KEY)
        && !level.as_str().is_some_and(|level| LOG_LEVELS.contains(&level))
    {
        return Err(bad(INVALID_PARAMS, format!("_meta[\"{LOG_LEVEL_KEY}\"] must be a level of RFC 5424")));
    }
    match method.as_ref() {
        "server/discover" => Ok(Action::Handshake),
        "subscriptions/listen" => Ok(Action::Subscribe),
        "tools/call" => check_call(message, "name").and_then(|()| {
            let headers = parameter_headers(headers)?;
            Ok(Action::Call { headers: Some(headers), meta })
        }),
        method => {
            common(message, method, meta).unwrap_or_else(|| Err(not_found(StatusCode::NOT_FOUND, method)))
        }
    }
}

/// What both eras have.
fn common(message: &Message<'_>, method: &str, meta: Meta) -> Option<Result<Action, Violation>> {
    let call = || Action::Call { headers: None, meta };
    Some(match method {
        "tools/list" | "resources/list" | "resources/templates/list" | "prompts/list" => list(message),
        "tools/call" | "prompts/get" => check_call(message, "name").map(|()| call()),
        "resources/read" => check_call(message, "uri").map(|()| call()),
        "completion/complete" => check_completion(message).map(|()| call()),
        _ => return None,
    })
}

fn legacy(
    header: Result<Option<&str>, Violation>,
    message: &Message<'_>,
    meta: Option<Meta>,
) -> Result<Action, Violation> {
    let method = match &message.kind {
        Kind::Request { method, .. } => method,
        Kind::Notification { method } if method == "notifications/cancelled" => {
            return Ok(cancelled(message));
        }
        Kind::Notification { .. } | Kind::Response => return Ok(Action::Notice),
    };
    // `initialize` says in its body what it wants.
    let known = match header {
        Ok(None) => true,
        Ok(Some(version)) => LEGACY.contains(&version) || method == "initialize",
        Err(_) => false,
    };
    if !known {
        let supported = LEGACY.join(", ");
        return Err(bad(
            INVALID_REQUEST,
            format!("the MCP-Protocol-Version header names no revision served here: {supported}"),
        ));
    }
    match method.as_ref() {
        "initialize" if read::<Cow<'_, str>>(&message.params, "protocolVersion").is_none() => {
            Err(in_band(INVALID_PARAMS, "protocolVersion must be a text"))
        }
        "initialize" | "ping" => Ok(Action::Handshake),
        "logging/setLevel" | "resources/subscribe" | "resources/unsubscribe" => Ok(Action::Acknowledge),
        method => match common(message, method, meta.unwrap_or_default()) {
            Some(action) => action.map_err(answered),
            None => Err(not_found(StatusCode::OK, method)),
        },
    }
}

/// From 2026-07-28 on, a client closes the connection instead. One that names no request is ignored.
fn cancelled(message: &Message<'_>) -> Action {
    let id = read::<Value>(&message.params, "requestId").filter(|id| id.is_string() || id.is_i64());
    id.map_or(Action::Notice, |id| Action::Cancel { id: id.to_string() })
}

fn list(message: &Message<'_>) -> Result<Action, Violation> {
    let after = match message.params.get("cursor") {
        None => None,
        Some(cursor) => {
            let key = serde_json::from_str::<Cow<'_, str>>(cursor.get())
                .ok()
                .and_then(|cursor| read_cursor(&cursor));
            Some(key.ok_or_else(|| bad(INVALID_PARAMS, "the cursor is not one of this server's"))?)
        }
    };
    Ok(Action::List { after })
}

/// What the next part of a list comes after, as clients carry it.
pub fn cursor(key: &str) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(key)
}

fn read_cursor(cursor: &str) -> Option<String> {
    let key = String::from_utf8(BASE64_URL_SAFE_NO_PAD.decode(cursor).ok()?).ok()?;
    // Text in PostgreSQL has no NUL.
    Some(key).filter(|key| !key.contains('\0'))
}

/// Whether a call names what it calls, with arguments that are an object.
fn check_call(message: &Message<'_>, name: &str) -> Result<(), Violation> {
    let Some(called) = read::<Cow<'_, str>>(&message.params, name) else {
        return Err(bad(INVALID_PARAMS, format!("{name} must be a text")));
    };
    if called.contains('\0') {
        return Err(bad(INVALID_PARAMS, format!("{name} holds the character U+0000")));
    }
    let arguments = message.params.get("arguments").map(|arguments| RawValue::get(arguments));
    if arguments.is_some_and(|arguments| !arguments.starts_with('{')) {
        return Err(bad(INVALID_PARAMS, "arguments must be an object"));
    }
    Ok(())
}

fn check_completion(message: &Message<'_>) -> Result<(), Violation> {
    for name in ["ref", "argument"] {
        if !message.params.get(name).is_some_and(|value| value.get().starts_with('{')) {
            return Err(bad(INVALID_PARAMS, format!("{name} must be an object")));
        }
    }
    Ok(())
}

fn parameter_headers(headers: &HeaderMap) -> Result<HashMap<String, String>, Violation> {
    let names =
        headers.keys().filter_map(|name| Some((name, name.as_str().strip_prefix(PARAMETER_HEADERS)?)));
    names
        .map(|(name, parameter)| {
            let value = unwrapped(headers, name.as_str())?.unwrap_or_default();
            Ok((parameter.to_owned(), value.into_owned()))
        })
        .collect()
}

/// Compares a header with the body. Names are case-insensitive, values are not.
fn check_header(headers: &HeaderMap, name: &str, expected: &str, required: bool) -> Result<(), Violation> {
    let mismatch =
        |what: &str| bad(HEADER_MISMATCH, format!("Header mismatch: {name} {what} the body's {expected:?}"));
    // The protocol wraps what may be any text, and nothing else.
    let said = if name == NAME_HEADER {
        unwrapped(headers, name)?
    } else {
        header(headers, name)?.map(Cow::Borrowed)
    };
    match said {
        None if required => Err(mismatch("is missing beside")),
        Some(value) if value != expected => Err(mismatch("is not")),
        _ => Ok(()),
    }
}

fn unreadable(name: &str) -> Violation {
    bad(HEADER_MISMATCH, format!("Header mismatch: {name} is repeated or unreadable"))
}

/// The one value of a header.
fn header<'h>(headers: &'h HeaderMap, name: &str) -> Result<Option<&'h str>, Violation> {
    let mut values = headers.get_all(name).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(unreadable(name));
    }
    let text = value.to_str().map_err(|_| unreadable(name))?;
    Ok(Some(text.trim_matches([' ', '\t'])))
}

/// The same, decoded where it is wrapped as `=?base64?…?=`.
fn unwrapped<'h>(headers: &'h HeaderMap, name: &str) -> Result<Option<Cow<'h, str>>, Violation> {
    let Some(text) = header(headers, name)? else { return Ok(None) };
    match text.strip_prefix("=?base64?").and_then(|rest| rest.strip_suffix("?=")) {
        None => Ok(Some(Cow::Borrowed(text))),
        Some(encoded) => {
            let bytes = BASE64_STANDARD.decode(encoded).map_err(|_| unreadable(name))?;
            String::from_utf8(bytes).map(|text| Some(Cow::Owned(text))).map_err(|_| unreadable(name))
        }
    }
}

fn bad(code: i32, message: impl Into<Cow<'static, str>>) -> Violation {
    Violation { status: StatusCode::BAD_REQUEST, code, message: message.into(), data: None }
}

/// In the revisions before 2026-07-28 an error is an answer like any other: 404 means that a session ended.
fn in_band(code: i32, message: impl Into<Cow<'static, str>>) -> Violation {
    Violation { status: StatusCode::OK, ..bad(code, message) }
}

fn answered(violation: Violation) -> Violation {
    Violation { status: StatusCode::OK, ..violation }
}

fn not_found(status: StatusCode, method: &str) -> Violation {
    Violation { status, ..bad(METHOD_NOT_FOUND, format!("Method not found: {method}")) }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;
    use crate::mcp::envelope::Payload;

    const META: &str = r#""_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{}}"#;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        headers
    }

    /// Era and kind of call, or status and code.
    type Outcome = Result<(Era, &'static str), (u16, i32)>;
    type Headers<'a> = &'a [(&'static str, &'a str)];
    type Case<'a> = (Vec<(&'static str, &'a str)>, String, Outcome);

    fn verdict(pairs: &[(&'static str, &str)], body: &str) -> Outcome {
        let Ok(Payload::One(message)) = Payload::parse(body.as_bytes()) else { panic!("{body}") };
        match judge(&headers(pairs), &message) {
            Ok((era, call)) => Ok((
                era,
                match call {
                    Action::Handshake => "handshake",
                    Action::Subscribe => "subscribe",
                    Action::Acknowledge => "acknowledge",
                    Action::List { .. } => "list",
                    Action::Call { .. } => "call",
                    Action::Notice => "notice",
                    Action::Cancel { .. } => "cancel",
                },
            )),
            Err(violation) => Err((violation.status.as_u16(), violation.code)),
        }
    }

    fn request(method: &str, params: &str) -> String {
        format!(r#"{{"jsonrpc":"2.0","id":1,"method":"{method}","params":{{{params}}}}}"#)
    }

    #[test]
    fn the_modern_ladder() {
        let version = ("mcp-protocol-version", "2026-07-28");
        let call = request("tools/call", &format!(r#""name":"whoami",{META}"#));
        let list = request("tools/list", META);
        let other = |v: &str| request("tools/list", &META.replace("2026-07-28", v));
        let cases: Vec<Case<'_>> = vec![
            (
                vec![version, ("mcp-method", "server/discover")],
                request("server/discover", META),
                Ok((Era::Modern, "handshake")),
            ),
            (vec![version, ("mcp-method", "tools/list")], list.clone(), Ok((Era::Modern, "list"))),
            (
                vec![version, ("mcp-method", "tools/call"), ("mcp-name", "whoami")],
                call.clone(),
                Ok((Era::Modern, "call")),
            ),
            (
                vec![version, ("mcp-method", " tools/call "), ("mcp-name", "=?base64?d2hvYW1p?=")],
                call.clone(),
                Ok((Era::Modern, "call")),
            ),
            (
                vec![version, ("mcp-method", "subscriptions/listen")],
                request("subscriptions/listen", META),
                Ok((Era::Modern, "subscribe")),
            ),
            // The shape of _meta comes before the headers.
            (vec![version], request("tools/list", ""), Err((400, INVALID_PARAMS))),
            (vec![version], request("initialize", ""), Err((400, INVALID_PARAMS))),
            (
                vec![version, ("mcp-method", "tools/list")],
                request("tools/list", r#""_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28"}"#),
                Err((400, INVALID_PARAMS)),
            ),
            (
                vec![version, ("mcp-method", "tools/list")],
                request(
                    "tools/list",
                    r#""_meta":{"io.modelcontextprotocol/protocolVersion":7,"io.modelcontextprotocol/clientCapabilities":{}}"#,
                ),
                Err((400, INVALID_PARAMS)),
            ),
            // Headers come before the version.
            (vec![("mcp-method", "tools/list")], list.clone(), Err((400, HEADER_MISMATCH))),
            (vec![version], list.clone(), Err((400, HEADER_MISMATCH))),
            (
                vec![version, ("mcp-method", "=?base64?dG9vbHMvbGlzdA==?=")],
                list.clone(),
                Err((400, HEADER_MISMATCH)),
            ),
            (
                vec![("mcp-protocol-version", "=?base64?MjAyNi0wNy0yOA==?="), ("mcp-method", "tools/list")],
                list.clone(),
                Err((400, HEADER_MISMATCH)),
            ),
            (vec![version, ("mcp-method", "TOOLS/LIST")], list.clone(), Err((400, HEADER_MISMATCH))),
            (
                vec![version, ("mcp-method", "tools/list"), ("mcp-method", "tools/call")],
                list.clone(),
                Err((400, HEADER_MISMATCH)),
            ),
            (vec![version, ("mcp-method", "tools/call")], call.clone(), Err((400, HEADER_MISMATCH))),
            (
                vec![version, ("mcp-method", "tools/call"), ("mcp-name", "=?base64?d2hvYW1p?")],
                call.clone(),
                Err((400, HEADER_MISMATCH)),
            ),
            (
                vec![version, ("mcp-method", "tools/call"), ("mcp-name", "=?base64?!!!?=")],
                call.clone(),
                Err((400, HEADER_MISMATCH)),
            ),
            // Beyond ASCII, what one reader takes for UTF-8 another takes for Latin-1.
            (
                vec![version, ("mcp-method", "tools/call"), ("mcp-name", "é")],
                call.replace("whoami", "é"),
                Err((400, HEADER_MISMATCH)),
            ),
            (vec![version, ("mcp-method", "tools/list")], other("v999"), Err((400, HEADER_MISMATCH))),
            (
                vec![("mcp-protocol-version", "v999"), ("mcp-method", "tools/list")],
                other("v999"),
                Err((400, UNSUPPORTED_VERSION)),
            ),
            (
                vec![("mcp-protocol-version", "1900-01-01"), ("mcp-method", "tools/list")],
                other("1900-01-01"),
                Err((400, UNSUPPORTED_VERSION)),
            ),
            // The version comes before the method.
            (
                vec![version, ("mcp-method", "initialize")],
                request("initialize", META),
                Err((404, METHOD_NOT_FOUND)),
            ),
            (vec![version, ("mcp-method", "ping")], request("ping", META), Err((404, METHOD_NOT_FOUND))),
            (
                vec![version, ("mcp-method", "no/such")],
                request("no/such", META),
                Err((404, METHOD_NOT_FOUND)),
            ),
            (
                vec![version, ("mcp-method", "tools/call")],
                request("tools/call", META),
                Err((400, INVALID_PARAMS)),
            ),
            (
                vec![version, ("mcp-method", "tools/list")],
                request("tools/list", &format!(r#""cursor":"x",{META}"#)),
                Err((400, INVALID_PARAMS)),
            ),
            (vec![version], r#"{"jsonrpc":"2.0","id":1,"result":{}}"#.into(), Err((400, INVALID_REQUEST))),
            (
                vec![version],
                r#"{"jsonrpc":"2.0","method":"notifications/cancelled"}"#.into(),
                Ok((Era::Modern, "notice")),
            ),
            (
                vec![version, ("mcp-method", "x")],
                r#"{"jsonrpc":"2.0","method":"notifications/cancelled"}"#.into(),
                Err((400, HEADER_MISMATCH)),
            ),
        ];
        for (pairs, body, expected) in cases {
            assert_eq!(verdict(&pairs, &body), expected, "{pairs:?} {body}");
        }
    }

    #[test]
    fn the_legacy_ladder() {
        let init = request("initialize", r#""protocolVersion":"2025-11-25","capabilities":{}"#);
        let cases: &[(Headers<'_>, &str, Outcome)] = &[
            (&[], &init, Ok((Era::Legacy, "handshake"))),
            (&[("mcp-protocol-version", "1999-01-01")], &init, Ok((Era::Legacy, "handshake"))),
            (&[], &request("initialize", ""), Err((200, INVALID_PARAMS))),
            (&[], &request("ping", ""), Ok((Era::Legacy, "handshake"))),
            (&[], &request("tools/list", ""), Ok((Era::Legacy, "list"))),
            (
                &[("mcp-protocol-version", "2025-06-18")],
                &request("tools/list", ""),
                Ok((Era::Legacy, "list")),
            ),
            (&[], &request("tools/call", r#""name":"x","arguments":{"a":1}"#), Ok((Era::Legacy, "call"))),
            (&[], &request("tools/call", r#""name":"x","arguments":null"#), Err((200, INVALID_PARAMS))),
            (&[], &request("tools/call", r#""name":"x","arguments":[]"#), Err((200, INVALID_PARAMS))),
            (&[], &request("tools/call", r#""name":7"#), Err((200, INVALID_PARAMS))),
            (&[], &request("tools/call", r#""name":"a\u0000""#), Err((200, INVALID_PARAMS))),
            (&[], &request("server/discover", ""), Err((200, METHOD_NOT_FOUND))),
            (&[], &request("resources/list", ""), Ok((Era::Legacy, "list"))),
            (&[], &request("resources/read", r#""uri":"a:b""#), Ok((Era::Legacy, "call"))),
            (&[], &request("resources/read", ""), Err((200, INVALID_PARAMS))),
            (&[], &request("resources/subscribe", r#""uri":"a:b""#), Ok((Era::Legacy, "acknowledge"))),
            (&[], &request("prompts/get", r#""name":"x""#), Ok((Era::Legacy, "call"))),
            (&[], &request("completion/complete", r#""ref":{},"argument":{}"#), Ok((Era::Legacy, "call"))),
            (&[], &request("completion/complete", r#""ref":{},"argument":7"#), Err((200, INVALID_PARAMS))),
            (&[], &request("logging/setLevel", r#""level":"info""#), Ok((Era::Legacy, "acknowledge"))),
            (&[], &request("subscriptions/listen", ""), Err((200, METHOD_NOT_FOUND))),
            (
                &[("mcp-protocol-version", "2024-11-05")],
                &request("tools/list", ""),
                Err((400, INVALID_REQUEST)),
            ),
            (&[("mcp-protocol-version", "garbage")], &request("tools/list", ""), Err((400, INVALID_REQUEST))),
            // No dates, though they sort after the first revision without sessions.
            (
                &[("mcp-protocol-version", "20260728")],
                &request("tools/list", ""),
                Err((400, INVALID_REQUEST)),
            ),
            (
                &[("mcp-protocol-version", "2026-07-281")],
                &request("tools/list", ""),
                Err((400, INVALID_REQUEST)),
            ),
            (
                &[("mcp-protocol-version", "2026/07/28")],
                &request("tools/list", ""),
                Err((400, INVALID_REQUEST)),
            ),
            (
                &[("mcp-protocol-version", "abcd-ef-gh")],
                &request("tools/list", ""),
                Err((400, INVALID_REQUEST)),
            ),
            (
                &[("mcp-protocol-version", "abcdefghij")],
                &request("tools/list", ""),
                Err((400, INVALID_REQUEST)),
            ),
            (
                &[("mcp-protocol-version", "2025-06-18"), ("mcp-protocol-version", "2025-11-25")],
                &request("tools/list", ""),
                Err((400, INVALID_REQUEST)),
            ),
            (&[], r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#, Ok((Era::Legacy, "notice"))),
            (
                &[],
                r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":"a"}}"#,
                Ok((Era::Legacy, "cancel")),
            ),
            (
                &[],
                r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":[1]}}"#,
                Ok((Era::Legacy, "notice")),
            ),
            (
                &[],
                r#"{"jsonrpc":"2.0","method":"notifications/progress","params":{"requestId":"a"}}"#,
                Ok((Era::Legacy, "notice")),
            ),
            (&[], r#"{"jsonrpc":"2.0","id":1,"result":{}}"#, Ok((Era::Legacy, "notice"))),
        ];
        for (pairs, body, expected) in cases {
            assert_eq!(&verdict(pairs, body), expected, "{pairs:?} {body}");
        }
    }

    #[test]
    fn batches_belong_to_one_revision() {
        let (plain, claiming) = (request("ping", ""), request("ping", META));
        for (pairs, body, allowed) in [
            (&[][..], &plain, true),
            (&[][..], &claiming, false),
            (&[("mcp-protocol-version", "2025-03-26")][..], &plain, true),
            (&[("mcp-protocol-version", "2025-03-26")][..], &claiming, false),
            (&[("mcp-protocol-version", "2025-06-18")][..], &plain, false),
            (&[("mcp-protocol-version", "2026-07-28")][..], &plain, false),
            (
                &[("mcp-protocol-version", "2025-03-26"), ("mcp-protocol-version", "2025-06-18")][..],
                &plain,
                false,
            ),
        ] {
            let message = Message::parse(body.as_bytes()).unwrap();
            assert_eq!(judge_batch(&headers(pairs), [&message].into_iter()).is_ok(), allowed, "{pairs:?}");
        }
    }

    #[test]
    fn cursors_come_back() {
        for key in ["a", "test://x/{id}", "é", ""] {
            assert_eq!(read_cursor(&cursor(key)).as_deref(), Some(key));
        }
        assert_eq!(read_cursor("x"), None);
        assert_eq!(read_cursor(&cursor("\0")), None);
    }

    #[test]
    fn parameter_headers_are_decoded() {
        let read = |pairs: &[(&'static str, &str)]| parameter_headers(&headers(pairs)).ok();
        let found =
            read(&[("mcp-param-region", " eu "), ("mcp-param-who", "=?base64?w6k=?="), ("mcp-name", "x")]);
        let expected =
            [("region", "eu"), ("who", "é")].map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(found, Some(expected.into_iter().collect()));
        assert_eq!(read(&[("mcp-param-who", "=?base64?!?=")]), None);
        assert_eq!(read(&[("mcp-param-who", "a"), ("mcp-param-who", "b")]), None);
    }
}

#[cfg(test)]
mod property {
    use http::HeaderValue;
    use proptest::prelude::*;

    use super::*;
    use crate::mcp::envelope::Payload;

    fn one(name: &'static str, value: &HeaderValue) -> HeaderMap {
        HeaderMap::from_iter([(http::HeaderName::from_static(name), value.clone())])
    }

    fn read_one(value: &HeaderValue) -> Result<String, i32> {
        let headers = one("mcp-name", value);
        unwrapped(&headers, "mcp-name")
            .map(|text| text.unwrap().into_owned())
            .map_err(|violation| violation.code)
    }

    proptest! {
        #[test]
        fn whatever_is_wrapped_comes_back(text in any::<String>()) {
            let wrapped = format!("=?base64?{}?=", BASE64_STANDARD.encode(&text));
            prop_assert_eq!(read_one(&HeaderValue::from_str(&wrapped).unwrap()), Ok(text));
        }

        /// What is not wrapped is what it says; what is wrapped badly is nothing.
        #[test]
        fn a_value_has_one_reading(value in prop_oneof![
            "[ -~]{0,30}",
            "=\\?base64\\?[A-Za-z0-9+/=]{0,12}\\?=",
            "=\\?base64\\?[ -~]{0,12}\\?=",
            "=\\?[Bb]ase64\\?[A-Za-z0-9+/=]{0,12}(\\?=)?",
        ]) {
            let read = read_one(&HeaderValue::from_str(&value).unwrap());
            let value = value.trim_matches([' ', '\t']);
            match value.strip_prefix("=?base64?").and_then(|rest| rest.strip_suffix("?=")) {
                None => prop_assert_eq!(read, Ok(value.to_owned())),
                Some(encoded) => match read {
                    // The same text has no other encoding.
                    Ok(text) => prop_assert_eq!(BASE64_STANDARD.encode(text), encoded),
                    Err(code) => prop_assert_eq!(code, HEADER_MISMATCH),
                },
            }
        }

        #[test]
        fn no_bytes_are_too_odd(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
            if let Ok(value) = HeaderValue::from_bytes(&bytes) {
                let _ = read_one(&value);
                let _ = parameter_headers(&one("mcp-param-x", &value));
            }
        }

        /// Whatever headers come with a call: if it runs, they said what the body says.
        #[test]
        fn a_call_that_runs_is_the_one_that_proxies_saw(
            name in any::<String>(),
            method in prop::sample::select(&["tools/call", "prompts/get", "resources/read", "tools/list"][..]),
            version in prop_oneof![3 => Just("2026-07-28"), 1 => Just("2025-11-25"), 1 => Just("2027-01-01")],
            said in [prop::option::weighted(0.9, 0..6_u8), prop::option::weighted(0.9, 0..6_u8), prop::option::weighted(0.9, 0..6_u8)],
        ) {
            let mut params = json!({"_meta": {VERSION_KEY: version, CAPABILITIES_KEY: {}}});
            let key = if method == "resources/read" { "uri" } else { "name" };
            params[key] = name.clone().into();
            let body = json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).to_string();
            let Ok(Payload::One(message)) = Payload::parse(body.as_bytes()) else { panic!() };
            let wrap = |text: &str| format!("=?base64?{}?=", BASE64_STANDARD.encode(text));
            let mut headers = HeaderMap::new();
            let mut agrees = true;
            for (header, right, said) in
                [(VERSION_HEADER, version, said[0]), (METHOD_HEADER, method, said[1]), (NAME_HEADER, name.as_str(), said[2])]
            {
                let value = match said {
                    None => { agrees &= header == NAME_HEADER && method == "tools/list"; continue }
                    // Only a name may be wrapped.
                    Some(1) if header == NAME_HEADER => wrap(right),
                    Some(1) => { agrees = false; wrap(right) }
                    Some(0) => { agrees &= right == "other" || (header == NAME_HEADER && method == "tools/list"); "other".to_owned() }
                    Some(_) if header == NAME_HEADER => wrap(right),
                    Some(_) => right.to_owned(),
                };
                headers.insert(header, value.parse().unwrap());
            }
            let judged = judge(&headers, &message);
            if let Ok((era, _)) = judged {
                prop_assert_eq!(era, Era::Modern);
                prop_assert!(agrees && version == MODERN[0] && !name.contains('\0') | (method == "tools/list"), "{:?} {}", headers, body);
            } else if agrees && version == MODERN[0] {
                prop_assert!(name.contains('\0'), "{:?} {}", headers, body);
            }
        }
    }
}
